"""Code as a program."""

from __future__ import annotations

from collections.abc import AsyncIterable, Sequence
from dataclasses import dataclass

from ..wire import messages

__all__ = ["Script"]


@dataclass(frozen=True)
class Script:
    """Code as a program, which runs as ``python`` would run it: no value is shown, only plain Python is accepted, and
    tracebacks and ``sys.argv`` are the program's::

        sandbox.run(code, script=Script("report.py", ["report.py", "--year", "2024"], stdin=b"..."))
    """

    filename: str = "<string>"
    """Its name in tracebacks. An absolute path is that of a file in the sandbox, and the program's ``__file__``."""
    argv: Sequence[str] = ("-c",)
    """What becomes ``sys.argv``."""
    stdin: bytes | AsyncIterable[bytes] | None = None
    """Its standard input, which is read no faster than the program reads it; empty if None."""

    def message(self) -> messages.Script:
        """What the container is told of it."""
        return messages.Script(
            filename=self.filename,
            argv=tuple(self.argv),
            is_file=self.filename.startswith("/"),
            has_stdin=self.stdin is not None,
        )
