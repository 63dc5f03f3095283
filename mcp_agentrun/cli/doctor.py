"""``mcp-agentrun doctor``: whether sandboxes can work here, and what to do if not."""

from __future__ import annotations

import json
import shutil
import sys
import textwrap
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from ..errors import SettingsError
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

_MARGIN = " " * 20


@click.command(
    cls=SettingsCommand,
    groups=("engine", "image", "limits", "packages"),
    short_help="Test everything that sandboxes need.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per check.")
def doctor(as_json: bool) -> None:
    """Example: mcp-agentrun doctor

    Test everything that sandboxes need, with a remedy for what is wrong.

    Exit code: 0 if all is well, 1 if there are warnings, 2 if sandboxes can't work.
    """
    from ..host_resources import HostResources
    from .checks import Finding, check_all

    worst = 0

    def show(finding: Finding) -> None:
        nonlocal worst
        worst = max(worst, {"warning": 1, "error": 2}.get(finding.level, 0))
        _print(finding, as_json=as_json)

    try:
        settings = effective_settings()
        HostResources.from_settings(settings)  # the folders and rules that it names
    except SettingsError as error:
        show(Finding("settings", "error", str(error), "Correct it, or see `mcp-agentrun config --help`."))
        sys.exit(worst)
    show(Finding("settings", "ok", "valid"))

    async def run(housekeeping: Housekeeping) -> None:
        async for finding in check_all(settings, housekeeping):
            show(finding)

    on_engine(settings, run)
    sys.exit(worst)


def _print(finding: Finding, *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(asdict(finding)))
        return
    from ..spoofing import foreign

    mark, color = _MARKS[finding.level]
    first, *more = _wrapped(foreign(finding.text))
    click.echo(f"{colored(f'{mark:<5}', color, bold=True)} {finding.name:<13} {first}")
    for line in more:
        click.echo(_MARGIN + line)
    for line in _wrapped(foreign(finding.remedy)):
        click.echo(_MARGIN + colored(line, "cyan"))


def _wrapped(text: str) -> list[str]:
    """*text* in lines that fit the terminal; elsewhere it stays one line."""
    if not sys.stdout.isatty():
        return [text] if text else []
    columns = shutil.get_terminal_size().columns - len(_MARGIN)
    return textwrap.wrap(text, max(columns, 30), break_long_words=False, break_on_hyphens=False)
