"""What a run came to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from ..packages.installer import Installed
from ..safety import Finding

__all__ = ["Outcome", "Output", "Result", "RunError", "State"]

Outcome = Literal["ok", "error", "blocked", "timeout", "memory_limit", "crashed", "cancelled", "unavailable"]
"""How a run ended; only ``ok`` is success. ``unavailable`` is ours, every other one is the code's."""

State = Literal["kept", "restored", "lost"]
"""What has become of the session's variables."""

OUTCOMES: frozenset[str] = frozenset(get_args(Outcome))
STATES: frozenset[str] = frozenset(get_args(State))


@dataclass(frozen=True)
class RunError:
    """The exception that ended a run."""

    type: str
    message: str
    line: int | None
    """Line of the code where it was raised, or None where that is not known."""
    errno: int | None = None
    """Of the system's error behind it, by the container's numbers, which are Linux's."""
    full: tuple[str, ...] = ()
    """The folders that have no room left, where that is what the system says."""


@dataclass(frozen=True)
class Output:
    """What a run wrote to stdout and stderr, in the order in which it was written.

    Of an output larger than is kept, `tail` has the last bytes, and what lay between is gone.
    """

    head: bytes = b""
    tail: bytes = b""
    written: int = 0
    """Bytes in all."""

    def text(self, limit: int | None = None) -> str:
        """The output as text. Beyond *limit* bytes, or where bytes are gone, head and tail with a marked gap."""
        if limit is None or limit > len(self.head) + len(self.tail):
            limit = len(self.head) + len(self.tail)
        if self.written <= limit:
            return _decode(self.head + self.tail)
        half = limit // 2
        tail = (self.head + self.tail)[-half:] if self.written == len(self.head) + len(self.tail) else self.tail[-half:]
        head = self.head[: limit - len(tail)]
        # A character that the cut goes through belongs to the gap.
        while tail and tail[0] & 0xC0 == 0x80:
            tail = tail[1:]
        while _is_cut(head):
            head = head[:-1]
        gap = self.written - len(head) - len(tail)
        return f"{_decode(head)}\n[... {gap} of {self.written} bytes of output not shown ...]\n{_decode(tail)}"


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
    """What ``python`` would have exited with; negative for the signal that ended it; None where we ended it."""
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
    """The container was lost since the last answer: variables, files and installed packages are gone."""
    timeout: float = 0.0
    """Seconds that the run was allowed."""
    findings: tuple[Finding, ...] = ()
    """The static check's objections: why nothing was run where the outcome is ``blocked``, otherwise warnings."""
    installed: Installed | None = None
    """What was installed because the code imports it."""
    advice: str | None = None
    """About a module that the code lacks: how to install it, or why it was not."""
