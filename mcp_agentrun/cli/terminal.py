"""What commands show on a terminal. Colour only there, and not if NO_COLOR is set."""

from __future__ import annotations

import difflib
import os
import sys
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ..errors import EngineError
from ..spoofing import foreign

if TYPE_CHECKING:
    from ..sandbox import Housekeeping, StorageItem
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
    "removed_all",
    "size_of",
]

_T = TypeVar("_T")


def note(text: str) -> None:
    """Write a line of ours to stderr, where it can be told from what a program prints."""
    click.echo(f"mcp-agentrun: {foreign(text, lines=True)}", err=True)


def colored(text: str, color: str, **styles: Any) -> str:
    """*text* in *color* where standard output is a terminal that should have colours."""
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb" or not sys.stdout.isatty():
        return text
    return click.style(text, fg=color, **styles)


def agreed(question: str, *, yes: bool, default: bool = True) -> bool:
    """Whether the user agrees. Nobody is asked if *yes*, or where nobody could answer."""
    if yes:
        return True
    if not sys.stdin.isatty():
        click.echo(
            "Nothing was changed: there is no terminal on which to ask. Give --yes to go on without a question.",
            err=True,
        )
        sys.exit(1)
    return click.confirm(question, default=default)


def print_diff(before: str, after: str, path: str, *, secrets: Sequence[str] = ()) -> None:
    """Show what changes; of *secrets* nothing is shown."""
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), path, path, n=2, lineterm="")
    for line in lines:
        for secret in filter(None, secrets):
            line = line.replace(secret, "***")
        is_name = line.startswith(("+++ ", "--- "))
        color = {"+": "green", "-": "red", "@": "cyan"}.get(line[:1])
        text = foreign(line.expandtabs(4), limit=400)
        click.echo(colored(text, color) if color and not is_name else text)


def print_table(rows: Iterable[Sequence[str]], *, right: Sequence[int] = ()) -> None:
    """Print *rows*, of which the first has the headings, in columns.

    :param right: columns that are aligned on the right.
    """
    rows = [list(map(foreign, row)) for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for number, row in enumerate(rows):
        cells = [
            cell.rjust(width) if index in right else cell.ljust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        line = "  ".join(cells).rstrip()
        click.echo(colored(line, "bright_black") if number == 0 else line)


def counted(number: int, noun: str) -> str:
    """*number* and *noun*, in the plural unless there is one."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def size_of(size: float | None) -> str:
    """*size* in bytes, for people."""
    if size is None:
        return "-"
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024 or unit == "GiB":
            break
        size /= 1024
    return f"{size:.0f} {unit}" if size >= 100 or unit == "B" else f"{size:.1f} {unit}"


def age_of(moment: float) -> str:
    """How long ago *moment*, in seconds since the epoch, was, for people."""
    seconds = max(0, int(time.time() - moment))
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length or (unit == "d" and seconds >= length):
            return f"{seconds // length} {unit}"
    return f"{seconds} s"


def on_engine(settings: Settings, work: Callable[[Housekeeping], Awaitable[_T]]) -> _T:
    """Return what *work* returns, which looks at the engine that the settings name."""
    from ..process_exit import run_interruptibly
    from ..sandbox import Housekeeping

    async def run() -> _T:
        async with Housekeeping(settings) as housekeeping:
            return await work(housekeeping)

    return run_interruptibly(run)


async def removed_all(housekeeping: Housekeeping, items: Iterable[StorageItem]) -> bool:
    """Remove *items*, and say what was; returns whether all could be."""
    is_complete = True
    for item in items:
        try:
            await housekeeping.remove_storage(item)
        except EngineError as error:
            is_complete = False
            note(f"{item.name} stays: {foreign(str(error))}")
        else:
            click.echo(f"removed {item.name}")
    return is_complete
