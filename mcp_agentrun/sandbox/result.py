"""Results of runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ..packages.installer import Installed
from ..safety import Finding

__all__ = ["Cause", "FileChange", "Image", "Outcome", "Output", "Result", "RunError", "State"]

Outcome = Literal["ok", "error", "blocked", "timeout", "memory_limit", "crashed", "cancelled"]
"""How a run ended. Only ``ok`` is success."""

State = Literal["kept", "restored", "lost"]
"""What happened to the session's variables."""

KEEPING_RESET = "reset_sandbox(keep_packages=True, keep_files=True)"
"""By which packages take effect that can't while the variables live."""

_RETURNS = 16


@dataclass(frozen=True)
class Cause:
    """An exception that ended a run, or that is behind one."""

    type: str
    text: str
    errno: int | None = None
    """Of the system's error that it is or stands for, by the container's numbers, which are Linux's."""
    path: str | None = None
    """The file that the system's error names."""
    function: str | None = None
    """The innermost function in which it was raised."""


@dataclass(frozen=True)
class RunError:
    """The exception that ended a run."""

    type: str
    message: str
    line: int | None
    """Line of the code where it was raised, or None where that is not known."""
    causes: tuple[Cause, ...] = ()
    """The exception itself, and those behind it."""
    full: tuple[str, ...] = ()
    """What is full: folders, or ``pids`` for processes and threads."""

    @property
    def errno(self) -> int | None:
        """Of the system's error behind it."""
        return next((cause.errno for cause in self.causes if cause.errno is not None), None)


@dataclass(frozen=True)
class Output:
    """What a run wrote to stdout and stderr, in the order in which it was written.

    Of an output larger than is kept, `tail` has the last bytes, and what lay between is gone.
    """

    head: bytes = b""
    tail: bytes = b""
    written: int = 0
    """Bytes in all."""

    def collapsed(self) -> Output:
        """The output without what a progress bar has written over: of a line with many carriage returns, the last."""
        if self.head.count(b"\r") <= _RETURNS:
            return self
        head, tail = _without_overwritten(self.head), _without_overwritten(self.tail)
        gone = len(self.head) + len(self.tail) - len(head) - len(tail)
        return Output(head, tail, self.written - gone)

    def text(self, limit: int | None = None) -> str:
        """The output as text. Beyond *limit* bytes, or where bytes are gone, head and tail with a marked gap."""
        head, gap, tail = self.parts(limit)
        if not gap:
            return head
        return f"{head}\n[... {gap} of {self.written} bytes of output not shown ...]\n{tail}"

    def parts(self, limit: int | None = None) -> tuple[str, int, str]:
        """The output in two parts, and how many bytes are not shown between them; all in the first where none are."""
        if limit is None or limit > len(self.head) + len(self.tail):
            limit = len(self.head) + len(self.tail)
        if self.written <= limit:
            return _decode(self.head + self.tail), 0, ""
        whole = self.head + self.tail
        end = whole if self.written == len(whole) else self.tail
        tail = end[max(0, len(end) - limit // 2) :]
        head = self.head[: limit - len(tail)]
        # A character that the cut goes through belongs to the gap.
        while tail and tail[0] & 0xC0 == 0x80:
            tail = tail[1:]
        while _is_cut(head):
            head = head[:-1]
        return _decode(head), self.written - len(head) - len(tail), _decode(tail)


def _without_overwritten(data: bytes) -> bytes:
    lines = data.split(b"\n")
    for number, line in enumerate(lines):
        body = line.rstrip(b"\r")
        if body.count(b"\r") >= _RETURNS:
            lines[number] = body[body.rfind(b"\r") + 1 :] + line[len(body) :]
    return b"\n".join(lines)


def _is_cut(data: bytes) -> bool:
    """Whether *data* ends inside a character."""
    for back in range(1, min(4, len(data)) + 1):
        byte = data[-back]
        if byte & 0xC0 != 0x80:
            return byte >= 0xC0 and back < (2 if byte < 0xE0 else 3 if byte < 0xF0 else 4)
    return False


def _decode(data: bytes) -> str:
    return data.decode("utf-8", "replace")


@dataclass(frozen=True)
class FileChange:
    """A file in the workspace that a run has created or changed, or that is there."""

    path: str
    """Relative to the workspace; what is not UTF-8 in it is escaped as `os.fsdecode` does it."""
    size: int
    change: Literal["created", "changed"]


@dataclass(frozen=True)
class Image:
    """A PNG that a run has shown."""

    data: bytes
    width: int
    height: int


@dataclass(frozen=True)
class Result:
    """How one run ended and what it printed."""

    outcome: Outcome
    output: Output
    duration: float
    """Seconds from the start of the code to its end."""
    value: str | None = None
    """Text of the last expression's value, as the interactive interpreter shows it; it is in the output too."""
    error: RunError | None = None
    exit_code: int | None = None
    """What ``python`` would have exited with: 130 after an interrupt, negative for the signal that ended it. None where
    nothing was run.
    """
    state: State = "kept"
    """What the end of the run has done to the variables."""
    since: State = "kept"
    """What had become of them before it, since the last result: user code can end its interpreter between runs."""
    unprotected: str | None = None
    """Why there is no checkpoint of them any more: ``memory``, ``threads``, ``hooks``, ``died`` or an errno's name.

    Told once, and when the variables are lost.
    """
    late: Output = Output()
    """What threads of earlier runs have written since the last one."""
    replaced: bool = False
    """The container was lost since the last answer: variables and files are gone, installed packages are not."""
    timeout: float = 0.0
    """Seconds that the run was allowed."""
    number: int = 0
    """Of the run, counted from 1 while the sandbox lives; its code is ``<run-N>`` in tracebacks."""
    files: tuple[FileChange, ...] = ()
    """What has been created or changed in the workspace since the last result."""
    more_files: int = 0
    """How many more, that are not named."""
    ended: int = 0
    """Processes that the run had left running, and that were ended with it."""
    images: tuple[Image, ...] = ()
    """Plots and other images, in the order in which they were shown."""
    findings: tuple[Finding, ...] = ()
    """The static check's objections: why nothing was run where the outcome is ``blocked``, otherwise warnings."""
    installed: Installed | None = None
    """What was installed because the code imports it."""
    advice: str | None = None
    """Why the sandbox refused something, such as a module that is missing, and what to do: one line."""
    missing_packages: str | None = None
    """Packages the sandbox should have but could not install, and why. Reported once."""

    @property
    def text(self) -> str:
        """What a terminal would have shown: stdout and stderr as they were written, and the last expression's value."""
        return self.output.text()

    def __str__(self) -> str:
        return self.text
