"""``mcp-agentrun check``: the static check alone."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from .options import SettingsCommand, effective_settings
from .terminal import note

__all__ = ["check"]


@click.command(cls=SettingsCommand, groups=("safety",), short_help="Check Python files without running them.")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path, dir_okay=False, allow_dash=True))
@click.option("--profile", type=click.Choice(["strict", "standard", "off"]), help="The same as --safety.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per file.")
def check(files: tuple[Path, ...], profile: str | None, as_json: bool) -> None:
    """Example: mcp-agentrun check script.py

    Check Python FILES as code is checked before it runs, without running them. Standard input is -.

    Exit code: 0 if all are allowed, 1 if one is refused, 2 if one can't be read.
    """
    from ..host_resources import safety_options
    from .program import decode_program

    options = safety_options(effective_settings(safety=profile))
    status = 0
    for path in files:
        try:
            data = sys.stdin.buffer.read() if str(path) == "-" else path.read_bytes()
            code = decode_program(data)
        except (OSError, SyntaxError, LookupError, UnicodeDecodeError) as error:
            note(f"{path} can't be read: {error.strerror if isinstance(error, OSError) else error}")
            status = 2
            continue
        if not _is_allowed(path, code, options, as_json=as_json):
            status = max(status, 1)
    sys.exit(status)


def _is_allowed(path: Path, code: str, options: dict[str, Any], *, as_json: bool) -> bool:
    """Check *code*, and print what was found."""
    import json

    from ..notebook import as_python
    from ..safety import check as judge
    from ..spoofing import sanitize

    verdict = judge(as_python(code)[0], **options)
    if as_json:
        findings = [finding._asdict() for finding in verdict.findings]
        click.echo(json.dumps({"file": str(path), "allowed": verdict.allowed, "findings": findings}))
    else:
        for finding in verdict.findings:
            click.echo(f"{path}:{finding.line}:{finding.column}: {sanitize(finding.reason)} [{finding.rule}]")
            click.echo(f"    {sanitize(finding.remedy)}")
    return verdict.allowed
