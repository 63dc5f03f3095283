"""What commands show on a terminal. Colour only there, and not if NO_COLOR is set."""

from __future__ import annotations

import difflib
import json
import os
import re
import sys
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ..errors import EngineError
from ..spoofing import sanitize

if TYPE_CHECKING:
    from ..sandbox import Housekeeping
    from ..settings import Settings

__all__ = [
    "age_of",
    "agreed",
    "colored",
    "counted",
    "note",
    "on_engine",
    "print_diff",
    "print_table",
    "remove_all",
    "size_of",
]

_T = TypeVar("_T")

_LONG_SECRET = 6
"""Length in characters from which a line is masked that is a part of a secret. A short one may be anything."""

_QUOTED = r'"{3}.*|\'{3}.*|"(?:[^"\\]|\\.)*"|\'[^\']*\''


def note(text: str) -> None:
    """Write *text* to stderr, marked as this program's own."""
    click.echo(f"mcp-agentrun: {sanitize(text, lines=True)}", err=True)


def colored(text: str, color: str, **styles: Any) -> str:
    """Return *text* in *color* if standard output is a terminal that should have colours."""
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb" or not sys.stdout.isatty():
        return text
    return click.style(text, fg=color, **styles)


def agreed(question: str, *, yes: bool, default: bool = True) -> bool:
    """Ask *question* unless *yes*, and return whether the user agrees. Exit if there is no terminal to ask on."""
    if yes:
        return True
    if not sys.stdin.isatty():
        click.echo(
            "Nothing was changed: confirmation is needed, and standard input is not a terminal. Give --yes to confirm.",
            err=True,
        )
        sys.exit(1)
    return click.confirm(question, default=default)


def print_diff(before: str, after: str, path: str, *, secrets: Iterable[tuple[str, str]] = ()) -> None:
    """Print the difference between two texts. The values of *secrets*, which are names and values, are masked."""
    patterns = [pattern for name, value in sorted(set(secrets)) for pattern in _places(name, value)]
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), path, path, n=2, lineterm="")
    for line in lines:
        for pattern in patterns:
            line = line[:1] + pattern.sub(r'\1"***"', line[1:])
        is_name = line.startswith(("+++ ", "--- "))
        color = {"+": "green", "-": "red", "@": "cyan"}.get(line[:1])
        text = sanitize(line.expandtabs(4), limit=400)
        click.echo(colored(text, color) if color and not is_name else text)


def _places(name: str, value: str) -> Iterator[re.Pattern[str]]:
    """Yield patterns of *value* after *name*, and of its parts that are lines of their own."""
    in_quotes = json.dumps(value, ensure_ascii=False), "'" + value.replace("'", "''") + "'"
    forms = "|".join([*map(re.escape, in_quotes), re.escape(value) + r"(?=[\s,}\]]|\Z)", _QUOTED, r"[^\s,}\]\"']+"])
    key = rf"(?<![\w-])(?:{re.escape(name)}|{re.escape(json.dumps(name, ensure_ascii=False))}|'{re.escape(name)}')"
    yield re.compile(rf"({key}\s*[:=]\s*)(?:{forms})")
    for part in value.splitlines():
        if len(part.strip()) >= _LONG_SECRET:
            yield re.compile(rf"(^\s*){re.escape(part.strip())}(?=\s*\Z)")


def print_table(rows: Iterable[Sequence[str]], *, right: Sequence[int] = ()) -> None:
    """Print *rows* in columns. The first row has the headings.

    :param right: columns that are aligned on the right.
    """
    rows = [list(map(sanitize, row)) for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for number, row in enumerate(rows):
        cells = [
            cell.rjust(width) if index in right else cell.ljust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        line = "  ".join(cells).rstrip()
        click.echo(colored(line, "bright_black") if number == 0 else line)


def counted(number: int, noun: str) -> str:
    """Return *number* and *noun*, in the plural if necessary."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def size_of(size: float | None) -> str:
    """Format *size*, in bytes; ``-`` if it is None."""
    if size is None:
        return "-"
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024 or unit == "GiB":
            break
        size /= 1024
    return f"{size:.0f} {unit}" if size >= 100 or unit == "B" else f"{size:.1f} {unit}"


def age_of(moment: float | None) -> str:
    """Format the time since *moment*, in seconds since the epoch; ``-`` if it is None."""
    if moment is None:
        return "-"
    seconds = max(0, int(time.time() - moment))
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length or (unit == "d" and seconds >= length):
            return f"{seconds // length} {unit}"
    return f"{seconds} s"


def on_engine(settings: Settings, work: Callable[[Housekeeping], Awaitable[_T]]) -> _T:
    """Call *work* with the engine that the settings name, and return what it returns."""
    from ..process_exit import run_interruptibly
    from ..sandbox import Housekeeping

    async def run() -> _T:
        async with Housekeeping(settings) as housekeeping:
            return await work(housekeeping)

    return run_interruptibly(run)


async def remove_all(items: Iterable[_T], remove: Callable[[_T], Awaitable[None]], name: Callable[[_T], str]) -> bool:
    """Call *remove* with each of *items*, reporting it by *name*, and return whether all could be removed."""
    is_complete = True
    for item in items:
        try:
            await remove(item)
        except EngineError as error:
            is_complete = False
            note(f"{name(item)} could not be removed: {error}")
        else:
            click.echo(f"removed {name(item)}")
    return is_complete
