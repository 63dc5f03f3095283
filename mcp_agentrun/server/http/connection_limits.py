"""The number of an HTTP server's connections.

uvicorn accepts any number. Strangers could use up the process's file descriptors, also those that it needs for
sandboxes.
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


def limited(most: int) -> type[asyncio.Protocol]:
    """uvicorn's protocol for a server with *most* connections.

    For one more, that which has waited longest for a request is closed, or the new one if none waits.
    """
    waiting: dict[TimelyProtocol, None] = {}  # the longest first

    class LimitedProtocol(TimelyProtocol):
        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._note()
            if len(self.connections) > most:
                closed = next(iter(waiting))
                closed.transport.abort()
                del waiting[closed]

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self._note()

        def on_response_complete(self) -> None:
            super().on_response_complete()
            self._note()

        def connection_lost(self, exc: Exception | None) -> None:
            waiting.pop(self, None)
            super().connection_lost(exc)

        def _note(self) -> None:
            """Note whether it waits for a request."""
            if self.cycle and not self.cycle.response_complete:
                waiting.pop(self, None)
            elif not self.transport.is_closing():
                waiting.setdefault(self)

    return LimitedProtocol
