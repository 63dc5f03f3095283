"""The program of ``mcp-agentrun run``: its code, its names in Python, and the files beside it."""

from __future__ import annotations

import os
import re
import sys
from collections import deque
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import decode_source
from pathlib import Path

import click

__all__ = ["COPIED_BYTES", "COPIED_FILES", "Program", "decode_program", "files_in"]

COPIED_FILES, COPIED_BYTES = 1000, 32 << 20
"""Most files beside a script that are copied into its sandbox, and most bytes in total."""

_MOST_ENTRIES = 20_000
_COOKIE = re.compile(r"\A((?:[ \t\f]*(?:#.*)?\n)??[ \t\f]*#.*?coding[:=][ \t]*)[-\w.]+")
"""The declaration of a file's encoding, in one of its first two lines."""

_TOOLS_FOLDERS = frozenset(("__pycache__", "node_modules"))

# The import, which is not executed, shows the static check what must be installed.
_MODULE = """import runpy
runpy._run_module_as_main({module!r})
if False:
    import {top}
"""


@dataclass(frozen=True)
class Program:
    """A program, as named on the command line."""

    code: str
    argv: Sequence[str]
    filename: str
    """Name in tracebacks; for a file, its path in the sandbox."""
    stem: str
    """Beginning of the names of its pictures."""
    file: Path | None = None
    """The file that it was read from, if it can be copied."""
    folder: Path | None = None
    """Folder whose files it may need, or None."""
    reads_stdin: bool = True
    """Whether standard input is for the program; otherwise it is its code."""

    @classmethod
    def from_words(cls, words: Sequence[str]) -> Program:
        """Return the program that *words*, the arguments after the options, stand for, as with ``python``.

        :raises click.UsageError: there is no such program.
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
        if not first or (first.startswith("-") and not os.path.isfile(first)):  # `run -- -name.py`, say
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
        if path.is_dir():
            path /= "__main__.py"
            if not path.is_file():
                raise click.UsageError(f"can't find '__main__.py' in {path.parent}")
        try:
            code = _decoded(path.read_bytes(), str(path))
        except OSError as error:
            raise click.UsageError(f"{path} can't be read: {error.strerror}") from None
        if not path.is_file():  # a pipe, as in `run <(generate)` and `run /dev/stdin`: it can't be read again
            return cls(code, argv, _sendable(str(path)), _sendable(path.stem))
        path = path.absolute()
        filename = f"/workspace/{_sendable(path.name)}"
        return cls(code, argv, filename, _sendable(path.stem), file=path, folder=path.parent)


def _sendable(name: str) -> str:
    """Return *name* with replacement characters for what is not valid UTF-8 and can't be sent to the sandbox."""
    return os.fsencode(name).decode("utf-8", "replace")


def _decoded(data: bytes, name: str) -> str:
    try:
        return decode_program(data)
    except (SyntaxError, UnicodeDecodeError, LookupError) as error:
        raise click.UsageError(f"{name} is not valid Python: {error}") from None


def decode_program(data: bytes) -> str:
    """Decode *data* as Python does, by its coding comment, which then says UTF-8.

    :raises SyntaxError: the encoding is unknown.
    :raises LookupError: it is not one of text.
    :raises UnicodeDecodeError: *data* is not in that encoding.
    """
    code = decode_source(data)
    return _COOKIE.sub(r"\1utf-8", code)  # it is Unicode text now; the static check refuses a cookie that is wrong


def files_in(folder: Path, left_out: Collection[str]) -> tuple[list[Path], int]:
    """Find the files in *folder* and below that are to be copied into a sandbox, the nearest first.

    Hidden files, virtual environments, folders of tools, and links out of the folder are left out. Return the files,
    and the number of those beyond the limits.

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
    root, waiting, seen = os.path.realpath(folder), deque([folder]), 0
    while waiting and seen < _MOST_ENTRIES:
        current = waiting.popleft()
        try:
            entries = sorted(current.iterdir())
        except OSError:
            continue
        if any(entry.name == "pyvenv.cfg" for entry in entries):
            continue
        seen += len(entries)
        # os.path and not Path, which raises for links in a circle and for what may not be looked at.
        for entry in entries:
            if entry.name.startswith(".") or (current == folder and entry.name in left_out):
                continue
            is_link = os.path.islink(entry)
            if is_link and not Path(os.path.realpath(entry)).is_relative_to(root):
                continue
            if os.path.isfile(entry):
                yield entry
            elif not is_link and os.path.isdir(entry) and entry.name not in _TOOLS_FOLDERS:
                waiting.append(entry)
