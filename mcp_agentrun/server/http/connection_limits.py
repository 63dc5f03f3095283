"""Connections of an HTTP server: limited in number, and in the time for which they may wait for a request.

uvicorn accepts any number of connections, and waits for the first request of each for ever. Strangers could use up the
process's file descriptors, also those that it needs for sandboxes.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys

from .slow_clients import TimelyProtocol

MOST = 4096
"""Most connections at once, where the process may have twice as many file descriptors."""

BACKLOG = 128
"""Connections that are accepted at once, before any of them can be closed."""

WAIT_SECONDS = 30.0
"""Longest time without a complete request head on a connection without a call in progress.

It is longer than clients keep idle connections, or one could send a call into a connection that is being closed.
"""


def connection_limit() -> int:
    """Let this process have as many file descriptors as it may, and return how many connections it can bear."""
    if sys.platform == "win32":
        return MOST
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(OSError, ValueError):  # macOS has a limit below an unlimited one
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            soft = hard
    return MOST if soft == resource.RLIM_INFINITY else min(MOST, soft // 2)


def limited(most: int, wait: float = WAIT_SECONDS) -> type[asyncio.Protocol]:
    """uvicorn's protocol for a server with *most* connections, each of which waits *wait* seconds for a request.

    For one more, that which has waited longest is closed, or the new one if none waits.
    """
    waiting: dict[LimitedProtocol, asyncio.TimerHandle | None] = {}  # the longest first

    class LimitedProtocol(TimelyProtocol):
        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._note()
            if len(self.connections) > most:
                closed = next(iter(waiting))
                closed.transport.abort()
                closed._forget()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self._note()

        def on_response_complete(self) -> None:
            super().on_response_complete()
            self._note(is_resting=True)

        def connection_lost(self, exc: Exception | None) -> None:
            self._forget()
            super().connection_lost(exc)

        def _note(self, *, is_resting: bool = False) -> None:
            """Note whether it waits for a request. If it rests after one, uvicorn closes it, until it receives more."""
            if self.cycle and not self.cycle.response_complete:
                self._forget()
            elif waiting.get(self) is None and not self.transport.is_closing():
                waiting[self] = None if is_resting else self.loop.call_later(wait, self.transport.close)

        def _forget(self) -> None:
            if (timer := waiting.pop(self, None)) is not None:
                timer.cancel()

    return LimitedProtocol
