"""Output of runs: one pipe for descriptors 1 and 2, which preserves the order."""

from __future__ import annotations

import os
import time

from mcp_agentrun.wire import messages

from .events import Events
from .sockets import HostStream

GATHER_SECONDS = 0.003
"""How long output gathers in the pipe before it is forwarded, so that a short run is answered in one write."""

_READ = 1 << 16
_LATE_LIMIT = 1 << 16
_TAIL = 1 << 16
_DRAIN_LIMIT = 1 << 20


class Output:
    """Forwards what comes out of the current run's pipe, and keeps what comes between runs for the next one.

    A congested host stream pauses it, and thereby the writers. Beyond *keep* bytes of one run, output is only
    counted, but for the last ones, unless the run is *unlimited*.
    """

    def __init__(self, events: Events, host: HostStream) -> None:
        self.keep = 0
        self._events = events
        self._host = host
        self._pipe: tuple[int, int] | None = None
        self._watched = False
        self._due = 0.0
        self._of_run = self._is_unlimited = False
        self._written = 0
        self._forwarded = 0
        self._tail = b""
        self._late = bytearray()

    def begin(self, *, quiet: bool = False, unlimited: bool = False) -> int:
        """Begin the output of a run, in a fresh pipe. What was written since the last one is sent before it.

        :param quiet: it is no run of the server's: what it writes is kept for the next one that is.
        :returns: the pipe's write end.
        """
        self._drain()
        if self._late and not quiet:
            self._host.send(messages.LateOutput(data=bytes(self._late)))
            self._late.clear()
        if self._pipe is not None:
            self._unwatch()
            for end in self._pipe:
                os.close(end)
        self._pipe = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self._pipe[0], False)
        self._due = time.monotonic() + GATHER_SECONDS
        self._of_run, self._is_unlimited = not quiet, unlimited
        self._written = self._forwarded = 0
        self._tail = b""
        return self._pipe[1]

    def end(self) -> int:
        """Send what the run has left to be sent; returns how many bytes it wrote in all."""
        self._drain()
        self._of_run = False
        if self._tail:
            self._host.send(messages.OutputTail(data=self._tail))
        return self._written

    def forget_late(self) -> None:
        self._drain()
        self._late.clear()

    def adjust(self, now: float) -> float:
        """Start or stop watching the pipe. Return when to be called again."""
        if self._pipe is None:
            return float("inf")
        if self._host.congested or now < self._due:
            self._unwatch()
            return self._due if now < self._due else float("inf")
        if not self._watched:
            self._watched = True
            self._events.watch(self._pipe[0], self._read)
        return float("inf")

    def _unwatch(self) -> None:
        if self._watched and self._pipe is not None:
            self._watched = False
            self._events.forget(self._pipe[0])

    def _read(self) -> int:
        """Read available output, at most one buffer."""
        if self._pipe is None:
            return 0
        try:
            data = os.read(self._pipe[0], _READ)
        except BlockingIOError:
            return 0
        if len(data) < _READ:
            self._due = time.monotonic() + GATHER_SECONDS
        if not self._of_run:
            self._late += data[: _LATE_LIMIT - len(self._late)]
            return len(data)
        self._written += len(data)
        forward = data if self._is_unlimited else data[: self.keep - self._forwarded]
        if forward:
            self._forwarded += len(forward)
            self._host.send(messages.OutputChunk(data=forward))
        if len(forward) < len(data):
            self._tail = (self._tail + data[len(forward) :])[-_TAIL:]
        return len(data)

    def _drain(self) -> None:
        """Read the output written so far, without waiting for a continuous writer."""
        for _ in range(_DRAIN_LIMIT // _READ):
            if self._read() < _READ:
                return
