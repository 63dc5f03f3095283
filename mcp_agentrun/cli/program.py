"""What ``mcp-agentrun run`` runs: code, how Python would name it, and the files beside it."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import decode_source
from pathlib import Path

import click

__all__ = ["COPIED_BYTES", "COPIED_FILES", "Program", "files_in"]

COPIED_FILES, COPIED_BYTES = 1000, 32 << 20
"""Files beside a script that are copied into its sandbox, and their bytes in all."""

_MOST_ENTRIES = 20_000
_TOOLS_FOLDERS = frozenset(("__pycache__", "node_modules"))

# The import tells the static check what must be installed; it is not executed.
_MODULE = """import runpy
runpy._run_module_as_main({module!r})
if False:
    import {top}
"""


@dataclass(frozen=True)
class Program:
    """A program, as it was named in the command line."""

    code: str
    argv: Sequence[str]
    filename: str
    """In tracebacks; for a file, its path in the sandbox."""
    stem: str
    """What its pictures are named after."""
    folder: Path | None = None
    """Folder whose files it may need."""
    reads_stdin: bool = True
    """Standard input is the program's, and not its code."""

    @classmethod
    def from_words(cls, words: Sequence[str]) -> Program:
        """The program that the *words* after the options name, as those of ``python``.

        :raises click.UsageError: they name none.
        """
        first, rest = words[0] if words else "", list(words[1:])
        if first in ("-c", "-m") and not rest:
            raise click.UsageError(f"Argument expected for the {first} option")
        if first == "-c":
            return cls(rest[0], ["-c", *rest[1:]], "<string>", "code")
        if first == "-m":
            return cls._from_module(rest[0], rest[1:])
        if first == "-":
            return cls(_decoded(sys.stdin.buffer.read(), "<stdin>"), words, "<stdin>", "stdin", reads_stdin=False)
        if not first or first.startswith("-"):
            raise click.UsageError(f"No such option: {first}" if first else "Name a file, -, -c CODE or -m MODULE.")
        return cls._from_file(Path(first), words)

    @classmethod
    def _from_module(cls, module: str, arguments: Sequence[str]) -> Program:
        top = module.partition(".")[0]
        if not all(map(str.isidentifier, module.split("."))):
            raise click.UsageError(f"{module!r} is not the name of a module")
        here = Path.cwd()
        is_here = (here / f"{top}.py").is_file() or (here / top).is_dir()
        code = _MODULE.format(module=module, top=top)
        return cls(code, ["-m", *arguments], "<string>", module, folder=here if is_here else None)

    @classmethod
    def _from_file(cls, path: Path, argv: Sequence[str]) -> Program:
        try:
            code = _decoded(path.read_bytes(), str(path))
        except OSError as error:
            raise click.UsageError(f"{path} can't be read: {error.strerror}") from None
        return cls(code, argv, f"/workspace/{path.name}", path.stem, folder=path.absolute().parent)


def _decoded(data: bytes, name: str) -> str:
    try:
        return decode_source(data)
    except (SyntaxError, UnicodeDecodeError) as error:
        raise click.UsageError(f"{name} is not valid Python: {error}") from None


def files_in(folder: Path, left_out: Collection[str]) -> tuple[list[Path], int]:
    """The files in *folder* and below that are copied into a sandbox, those nearest to it first, and how many are not
    because of the limits. Never copied are hidden files, what tools keep for themselves, virtual environments, and
    links that lead out of the folder.

    :param left_out: entries of *folder* to skip.
    """
    found: list[Path] = []
    size = skipped = 0
    for path in _walk(folder, left_out):
        try:
            bytes_ = path.stat().st_size
        except OSError:
            continue
        if len(found) < COPIED_FILES and size + bytes_ <= COPIED_BYTES:
            size += bytes_
            found.append(path)
        else:
            skipped += 1
    return found, skipped


def _walk(folder: Path, left_out: Collection[str]) -> Iterator[Path]:
    root, waiting, seen = folder.resolve(), deque([folder]), 0
    while waiting and seen < _MOST_ENTRIES:
        current = waiting.popleft()
        try:
            entries = sorted(current.iterdir())
        except OSError:
            continue
        if any(entry.name == "pyvenv.cfg" for entry in entries):
            continue
        seen += len(entries)
        for entry in entries:
            if entry.name.startswith(".") or (current == folder and entry.name in left_out):
                continue
            if entry.is_symlink() and not entry.resolve().is_relative_to(root):
                continue
            if entry.is_file():
                yield entry
            elif entry.is_dir() and not entry.is_symlink() and entry.name not in _TOOLS_FOLDERS:
                waiting.append(entry)
