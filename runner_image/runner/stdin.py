"""The standard input of a program, as the server sends it."""

from __future__ import annotations

import contextlib
import os

from mcp_agentrun.wire.messages import InputTaken

from .events import Events
from .sockets import HostStream


class Stdin:
    """Writes what arrives for the current run to a pipe. The server sends the next part when one was written, so at
    most one is buffered here, whether the run reads or not.
    """

    def __init__(self, events: Events, host: HostStream) -> None:
        self._events = events
        self._host = host
        self._nowhere = os.open(os.devnull, os.O_RDONLY)
        self._readable: int | None = None
        self._writable: int | None = None
        self._unwritten = memoryview(b"")

    @property
    def descriptor(self) -> int:
        """The descriptor that the run reads from."""
        return self._nowhere if self._readable is None else self._readable

    def begin(self, *, has_content: bool) -> None:
        """Open the input of a run."""
        if has_content:
            self._readable, self._writable = os.pipe2(os.O_CLOEXEC)
            os.set_blocking(self._writable, False)

    def close_readable(self) -> None:
        """Close the end of the pipe that the run has received."""
        if self._readable is not None:
            os.close(self._readable)
            self._readable = None

    def receive(self, data: bytes) -> None:
        """Write *data*; what arrives after the end of its run is discarded."""
        if self._writable is None:
            return
        if data:
            self._unwritten = memoryview(data)
            self._events.watch(self._writable, self._write, write=True)
        else:
            self._close()

    def end(self) -> None:
        """Close the input of the run, which has ended."""
        self.close_readable()
        if self._writable is not None:
            self._close()

    def _write(self) -> None:
        assert self._writable is not None
        try:
            self._unwritten = self._unwritten[os.write(self._writable, self._unwritten) :]
        except BlockingIOError:
            return
        except BrokenPipeError:  # nobody will read it
            self._unwritten = memoryview(b"")
        if not self._unwritten:
            self._events.forget(self._writable)
            self._host.send(InputTaken())

    def _close(self) -> None:
        assert self._writable is not None
        self._events.forget(self._writable)
        with contextlib.suppress(OSError):
            os.close(self._writable)
        self._writable = None
        self._unwritten = memoryview(b"")
