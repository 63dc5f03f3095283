"""Results of runs."""

from __future__ import annotations

import codecs
from dataclasses import dataclass, field
from typing import Literal

from ..packages.installer import Installed
from ..safety import Finding
from ..settings.limits import LimitSettings

__all__ = ["Cause", "FileChange", "Image", "Outcome", "Output", "Result", "RunError", "State"]

Outcome = Literal["ok", "error", "blocked", "timeout", "memory_limit", "crashed", "cancelled"]
"""How a run ended. Only ``ok`` is success."""

State = Literal["kept", "restored", "lost"]
"""What happened to the session's variables."""

KEEPING_RESET = "reset_sandbox(keep_packages=True, keep_files=True)"
"""The call after which packages take effect that can't take effect while the variables live."""

_RETURNS = 16
_CONTINUATION = bytes(range(0x80, 0xC0))
"""Bytes of UTF-8 that continue a character."""


@dataclass(frozen=True)
class Cause:
    """An exception that ended a run, or one that led to it (``__cause__`` or ``__context__``)::

    [cause.type for cause in result.error.causes]  # ["RuntimeError", "FileNotFoundError"]
    """

    type: str
    text: str
    errno: int | None = None
    """Its error number, if it is a system error or stands for one. The numbers are Linux's."""
    path: str | None = None
    """The file that a system error names."""
    function: str | None = None
    """The innermost function in which it was raised."""


@dataclass(frozen=True)
class RunError:
    """The exception that ended a run::

    error = sandbox.run("1/0").error
    error.type, error.message, error.line  # ("ZeroDivisionError", "division by zero", 1)
    """

    type: str
    message: str
    line: int | None
    """Line of the code where it was raised, or None if unknown."""
    causes: tuple[Cause, ...] = ()
    """The exception itself, followed by its causes."""
    full: tuple[str, ...] = ()
    """Resources that were exhausted: folders, or ``pids`` for processes and threads."""

    @property
    def errno(self) -> int | None:
        """Error number of the system error behind it, or None."""
        return next((cause.errno for cause in self.causes if cause.errno is not None), None)


@dataclass(frozen=True)
class Output:
    """What a run wrote to stdout and stderr, in the order in which it was written::

        result.output.text(limit=4096)  # head and tail, with a marked gap where it is longer
        result.output.written  # bytes in all

    Of output beyond the setting ``output_keep``, `tail` has the last bytes, and those between are gone.
    """

    head: bytes = b""
    tail: bytes = b""
    written: int = 0
    """Total size in bytes."""

    def collapsed(self) -> Output:
        """Return the output without overwritten progress bars: only the end of lines with many carriage returns."""
        if self.head.count(b"\r") <= _RETURNS:
            return self
        head, tail = _without_overwritten(self.head), _without_overwritten(self.tail)
        gone = len(self.head) + len(self.tail) - len(head) - len(tail)
        return Output(head, tail, self.written - gone)

    def since(self, offset: int, limit: int, *, is_complete: bool) -> tuple[int, str, int]:
        """Return at most *limit* bytes of what was written from *offset* on, as text, between the offsets at which it
        begins and ends. It begins later than at *offset* if what was there is gone.

        :param is_complete: nothing more will be written. Otherwise a character at the end may still be incomplete.
        """
        begin, data = self._bytes_since(offset, limit)
        end = begin + len(data)
        is_cut = len(data) < limit and end < self.written
        if begin > offset:
            data = data.lstrip(_CONTINUATION)
            begin = end - len(data)
        # Characters that were split are omitted.
        text, size = codecs.utf_8_decode(data, "replace", is_complete and end == self.written)
        return begin, text, end if is_cut else begin + size

    def _bytes_since(self, offset: int, limit: int) -> tuple[int, bytes]:
        gone = self.written - len(self.tail)
        if offset < len(self.head):
            data = self.head[offset : offset + limit]
            has_gap = gone > len(self.head)
            return offset, data if has_gap else data + self.tail[: limit - len(data)]
        begin = min(max(offset, gone), self.written)
        return begin, self.tail[begin - gone :][:limit]

    def text(self, limit: int | None = None) -> str:
        """Return the output as text. If it exceeds *limit* bytes, or bytes were lost, the gap is marked."""
        head, gap, tail = self.parts(limit)
        if not gap:
            return head
        return f"{head}\n[... {gap} of {self.written} bytes of output not shown ...]\n{tail}"

    def parts(self, limit: int | None = None) -> tuple[str, int, str]:
        """Return the beginning of the output, the number of omitted bytes (0 if it is whole), and the end."""
        if limit is None or limit > len(self.head) + len(self.tail):
            limit = len(self.head) + len(self.tail)
        if self.written <= limit:
            return _decode(self.head + self.tail), 0, ""
        whole = self.head + self.tail
        end = whole if self.written == len(whole) else self.tail
        tail = end[max(0, len(end) - limit // 2) :]
        # Characters that were split are omitted.
        head, length = codecs.utf_8_decode(self.head[: limit - len(tail)], "replace", False)
        tail = tail.lstrip(_CONTINUATION)
        return head, self.written - length - len(tail), _decode(tail)


def _without_overwritten(data: bytes) -> bytes:
    lines = data.split(b"\n")
    for number, line in enumerate(lines):
        body = line.rstrip(b"\r")
        if body.count(b"\r") >= _RETURNS:
            lines[number] = body[body.rfind(b"\r") + 1 :] + line[len(body) :]
    return b"\n".join(lines)


def _decode(data: bytes) -> str:
    return data.decode("utf-8", "replace")


@dataclass(frozen=True)
class FileChange:
    """A file of the workspace that a run has created or changed. Its content is read on demand::

    for file in result.files:
        data = sandbox.files.read(file)
    """

    path: str
    """Relative to the workspace; bytes that are not UTF-8 are escaped as by `os.fsdecode`."""
    size: int
    """In bytes, at the end of the run."""
    change: Literal["created", "changed"]


@dataclass(frozen=True)
class Image:
    """A picture that a run has shown::

    Path("plot.png").write_bytes(result.images[0].data)
    """

    data: bytes
    """A PNG file."""
    width: int
    """In pixels, as `height`."""
    height: int


@dataclass(frozen=True)
class Result:
    """How one run ended and what it printed::

    result = sandbox.run("x + 1")
    result.text  # "42\\n": what a terminal would have shown
    result.outcome  # "ok"; "blocked" if the static check refused the code, for reasons that are in `findings`
    """

    outcome: Outcome
    output: Output
    duration: float
    """Seconds from the start of the code to its end."""
    cpu_time: float | None = None
    """Seconds of processor time that the sandbox has used during the run, child processes included. None if nothing
    was run, or the engine does not account it.
    """
    peak_memory: int | None = None
    """Most memory that the sandbox has used during the run, in bytes, files included. Exact if no earlier run has used
    more; otherwise the largest of samples. None as for `cpu_time`.
    """
    value: str | None = None
    """The last expression's value as the interactive interpreter shows it. The output contains it too."""
    error: RunError | None = None
    exit_code: int | None = None
    """What ``python`` would have exited with: 130 after an interrupt, negative for the signal that ended it. None if
    nothing was run.
    """
    state: State = "kept"
    """What the end of the run did to the variables."""
    since: State = "kept"
    """What had happened to them between the last result and this run: user code can end its interpreter then."""
    unprotected: str | None = None
    """Why there is no checkpoint of the variables any more: ``memory``, ``threads``, ``hooks``, ``died`` or the name of
    an error number. Reported when it begins, and when variables are lost.
    """
    late: Output = Output()
    """Output of background threads since the last run."""
    replaced: bool = False
    """The container was lost since the last answer: variables and files are gone, installed packages are not."""
    timeout: float = 0.0
    """Time limit of the run in seconds."""
    limits: LimitSettings = field(default_factory=LimitSettings, repr=False)
    """The settings about limits that it was run under."""
    number: int = 0
    """Number of the run, from 1. In tracebacks, its code is ``<run-N>``."""
    files: tuple[FileChange, ...] = ()
    """Files that were created or changed since the last result."""
    more_files: int = 0
    """How many more files were created or changed."""
    ended: int = 0
    """Number of processes that the run left running. They were ended."""
    images: tuple[Image, ...] = ()
    """Plots and other images, in the order in which they were shown."""
    findings: tuple[Finding, ...] = ()
    """Findings of the static check: why nothing was run if the outcome is ``blocked``, otherwise warnings."""
    installed: Installed | None = None
    """Packages that were installed because the code imports them."""
    advice: str | None = None
    """One line that says why something is not possible in the sandbox, e.g. because a module is missing, and what to
    do.
    """
    missing_packages: str | None = None
    """Packages the sandbox should have but could not install, and why. Reported once."""

    @property
    def text(self) -> str:
        """What a terminal would have shown: stdout and stderr as they were written, and the last expression's value."""
        return self.output.text()

    def __str__(self) -> str:
        return self.text
