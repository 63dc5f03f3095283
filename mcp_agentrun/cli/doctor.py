"""``mcp-agentrun doctor``: whether sandboxes can work here, and remedies if not."""

from __future__ import annotations

import json
import shutil
import sys
import textwrap
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from ..errors import EngineError, SettingsError
from .options import SettingsCommand, effective_settings
from .terminal import colored, on_engine

if TYPE_CHECKING:
    from ..sandbox import Housekeeping
    from .checks import Finding

__all__ = ["doctor"]

_MARKS = {
    "ok": ("ok", "green"),
    "warning": ("warn", "yellow"),
    "error": ("FAIL", "red"),
    "skipped": ("-", "bright_black"),
}

_SUMMARIES = (
    "Sandboxes can run here.",
    "Sandboxes can run here, with the warnings above.",
    "Sandboxes can't run here until what failed is fixed.",
)
"""By exit code."""

_MARGIN = " " * 20


@click.command(
    cls=SettingsCommand,
    groups=("engine", "kubernetes", "image", "limits", "packages"),
    short_help="Test everything that sandboxes need.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per check.")
def doctor(as_json: bool) -> None:
    """Example: mcp-agentrun doctor

    Test everything that sandboxes need, with a remedy for what is wrong.

    Exit code: 0 if all is well, 1 if there are warnings, 2 if sandboxes can't work.
    """
    from ..host_resources import HostResources
    from .checks import Finding, check_all, no_engine
    from .progress import showing_progress

    worst = 0

    def show(finding: Finding) -> None:
        nonlocal worst
        worst = max(worst, {"warning": 1, "error": 2}.get(finding.level, 0))
        _print(finding, as_json=as_json)

    try:
        settings = effective_settings()
        HostResources.from_settings(settings)  # the folders and rules that it names
    except SettingsError as error:
        show(Finding("settings", "error", str(error), "Correct it. `mcp-agentrun config --help` lists all settings."))
    else:
        show(Finding("settings", "ok", "valid"))

        async def run(housekeeping: Housekeeping) -> None:
            findings = check_all(settings, housekeeping)
            while True:
                async with showing_progress(lambda: "checking"):
                    finding = await anext(findings, None)
                if finding is None:
                    return
                show(finding)

        try:
            on_engine(settings, run)
        except SettingsError as error:  # there is no engine of that name, or its packages are missing
            show(no_engine(error))
        except EngineError as error:  # it fails in the middle
            show(Finding("engine", "error", str(error), "Restart the engine, and run this command again."))
    if not as_json:
        click.echo(_SUMMARIES[worst])
    sys.exit(worst)


def _print(finding: Finding, *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(asdict(finding)))
        return
    from ..spoofing import sanitize

    mark, color = _MARKS[finding.level]
    first, *more = _wrapped(sanitize(finding.text))
    click.echo(f"{colored(f'{mark:<5}', color, bold=True)} {finding.name:<13} {first}")
    for line in more:
        click.echo(_MARGIN + line)
    for number, line in enumerate(_wrapped(sanitize(finding.remedy))):
        click.echo(_MARGIN + colored(f"   {line}" if number else f"-> {line}", "cyan"))


def _wrapped(text: str) -> list[str]:
    """Wrap *text* to the width of the terminal; elsewhere, leave it in one line."""
    if not sys.stdout.isatty():
        return [text] if text else []
    columns = shutil.get_terminal_size().columns - len(_MARGIN) - len("-> ")
    return textwrap.wrap(text, max(columns, 30), break_long_words=False, break_on_hyphens=False)
