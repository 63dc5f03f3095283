"""Output of runs: one pipe for descriptors 1 and 2, which preserves the order."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time

from mcp_agentrun.wire import messages

from .events import Events
from .sockets import HostStream

GATHER_SECONDS = 0.003  # time to collect output in the pipe, so that a short run is answered in one write

_CAPACITY = 1 << 18  # of the pipe in bytes: what is written meanwhile
_READ = 1 << 16
_LATE_LIMIT = 1 << 16
_TAIL = 1 << 16
_DRAIN_LIMIT = 1 << 20


class Output:
    """Forwards output of the current run, and keeps output between runs for the next one.

    While the host stream is congested, nothing is read, which makes the writers wait. Beyond *keep* bytes of one run,
    output is only counted, except for its tail, unless the run is *unlimited*.
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
        """Open a new pipe for the output of a run, and send what was written since the last one.

        :param quiet: the run is a probe, whose output is kept for the next run.
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
        with contextlib.suppress(OSError):  # the user has too many pipes
            fcntl.fcntl(self._pipe[0], fcntl.F_SETPIPE_SZ, _CAPACITY)
        self._due = time.monotonic() + GATHER_SECONDS
        self._of_run, self._is_unlimited = not quiet, unlimited
        self._written = self._forwarded = 0
        self._tail = b""
        return self._pipe[1]

    def end(self) -> int:
        """Send the rest of the run's output; returns how many bytes it wrote in all."""
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
