"""``mcp-agentrun audit``: what the audit trail says."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import click

from ..errors import AgentRunError, SettingsError
from .options import SettingsCommand, effective_settings
from .terminal import counted, note, print_table, size_of

__all__ = ["audit"]

_AGE = re.compile(r"(\d{1,6})\s*(minute|hour|day|week)s?")
_KINDS = ("run", "install", "reset", "file", "refusal", "dropped")
_HEAD = ("time", "who", "via", "sandbox", "kind", "outcome", "seconds", "cpu", "memory", "what")


def _parse_since(_context: click.Context, _option: click.Parameter, value: str | None) -> datetime | None:
    """Return the time that is meant, which is in UTC unless it says otherwise."""
    if value is None:
        return None
    age = _AGE.fullmatch(value)
    try:
        if age is not None:
            return datetime.now(timezone.utc) - timedelta(**{f"{age[2]}s": int(age[1])})
        given = datetime.fromisoformat(re.sub("Z$", "+00:00", value))
    except (ValueError, OverflowError):
        raise click.BadParameter(
            "give a date, such as 2026-01-31 or 2026-01-31T12:00, or an age, such as '2 hours'"
        ) from None
    return given if given.tzinfo else given.replace(tzinfo=timezone.utc)


@click.command(
    cls=SettingsCommand,
    groups=("audit",),
    without=("audit_code", "audit_size", "audit_age"),
    short_help="Show who did what in the sandboxes.",
)
@click.option("--who", metavar="NAME", help="Only calls of this principal or IP address; - for those without a name.")
@click.option("--sandbox", metavar="ID", help="Only calls of the sandbox whose id begins with this.")
@click.option("--kind", type=click.Choice(_KINDS), help="Only calls of this kind.")
@click.option("--outcome", metavar="OUTCOME", help="Only calls that ended like this, such as timeout.")
@click.option("--since", callback=_parse_since, metavar="DATE|AGE", help="Only later calls: 2026-01-31, or '2 hours'.")
@click.option("--json", "as_json", is_flag=True, help="Print the lines of the trail as they are.")
def audit(
    who: str | None,
    sandbox: str | None,
    kind: str | None,
    outcome: str | None,
    since: datetime | None,
    as_json: bool,
) -> None:
    """Example: mcp-agentrun audit --kind refusal --since "2 days"

    Show the calls that the audit trail has, also in its earlier files.
    """
    path = effective_settings().audit.file
    if path is None:
        raise SettingsError("There is no audit trail: audit_file is not set.", setting="audit_file")
    rows: list[tuple[str, ...]] = []
    for text, line in _lines(path):
        if (
            (who is not None and who not in (line.get("who", "-"), line.get("address")))
            or (sandbox is not None and not line.get("sandbox", "").startswith(sandbox))
            or (kind is not None and line["kind"] != kind)
            or (outcome is not None and line["outcome"] != outcome)
            or (since is not None and _time(line) < since)
        ):
            continue
        if as_json:
            click.echo(text)
        else:
            rows.append(_row(line))
    if rows:
        print_table([_HEAD, *rows], right=(6, 7, 8))
    elif not as_json:
        click.echo("No calls.")


def _lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each line of the trail at *path*, the oldest first, as it is and as what it says."""
    from ..audit import trail_files

    damaged = 0
    try:
        for each in trail_files(path):
            with each.open(encoding="utf-8", errors="replace") as file:
                for text in file:
                    line = _parse(text)
                    if line is None:
                        damaged += 1
                    else:
                        yield text.rstrip("\n"), line
    except OSError as error:
        raise AgentRunError(f"{error.filename} can't be read: {error.strerror}") from None
    if damaged:
        note(f"{counted(damaged, 'line')} that can't be read left out")


def _parse(text: str) -> dict[str, Any] | None:
    """Return what a line says, or None if it is not whole."""
    try:
        line: dict[str, Any] = json.loads(text)
        is_whole = {"kind", "outcome"} <= line.keys() and _time(line).tzinfo is not None
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
    return line if is_whole else None


def _time(line: dict[str, Any]) -> datetime:
    return datetime.fromisoformat(line["time"].replace("Z", "+00:00"))


def _row(line: dict[str, Any]) -> tuple[str, ...]:
    return (
        line["time"],
        line.get("who") or line.get("address", "-"),
        line.get("interface", "-"),
        line.get("sandbox", "-"),
        line["kind"],
        line["outcome"],
        _seconds(line.get("seconds")),
        _seconds(line.get("cpu_seconds")),
        size_of(line.get("peak_memory")),
        _what(line),
    )


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _what(line: dict[str, Any]) -> str:
    """Return what is most worth knowing of a call."""
    if line["kind"] == "refusal":
        return f"{line['action']}: {', '.join(line.get('rules', ())) or line.get('detail') or line['reason']}"
    if line["kind"] == "install":
        return " ".join(line.get("packages", ())) or line.get("detail") or " ".join(line.get("requirements", ()))
    if line["kind"] == "file":
        size = f" ({size_of(line['size'])})" if "size" in line else ""
        return f"{line['action']} {line['path']}{size}"
    if line["kind"] == "reset":
        return "kept " + " and ".join(line["keep"]) if "keep" in line else ""
    if line["kind"] == "dropped":
        return f"{counted(line['lines'], 'line')} not written"
    limits = " ".join(f"limit:{limit}" for limit in line.get("limits", ()))
    return " ".join(filter(None, (line.get("error"), limits, line.get("detail"))))
