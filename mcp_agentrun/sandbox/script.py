"""Running code as a program."""

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
    """Name in tracebacks. An absolute path is that of a file in the sandbox, and becomes ``__file__``."""
    argv: Sequence[str] = ("-c",)
    """``sys.argv`` of the program."""
    stdin: bytes | AsyncIterable[bytes] | None = None
    """Standard input, which is read as fast as the program reads it; empty if None."""
    ends_session: bool = False
    """End the session as the end of a program does: its threads are waited for, `atexit` functions are called, and all
    variables are finalized, which closes files. Then only `reset` gives a session that is as new.
    """

    def __post_init__(self) -> None:
        if isinstance(self.stdin, str):
            raise TypeError("stdin must be bytes or an asynchronous iterable of bytes: encode the string")

    def message(self) -> messages.Script:
        """Return the message for the container."""
        return messages.Script(
            filename=self.filename,
            argv=tuple(self.argv),
            is_file=self.filename.startswith("/"),
            has_stdin=self.stdin is not None,
            ends_session=self.ends_session,
        )
