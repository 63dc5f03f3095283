"""Turns at a sandbox: one call at a time, in order of arrival, and a bounded queue."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import anyio

from ..errors import BusyError

__all__ = ["Turns"]


class Turns:
    """A lock whose queue is bounded.

    :param queue: calls that may wait.
    """

    def __init__(self, queue: int) -> None:
        self._queue = queue
        self._lock = anyio.Lock(fast_acquire=True)
        self._waiting = 0

    @asynccontextmanager
    async def turn(self) -> AsyncGenerator[None]:
        """Wait for the turn, and hold it while the context lasts.

        :raises BusyError: the queue is full.
        """
        if self._lock.locked() and self._waiting >= self._queue:
            raise BusyError(
                f"The sandbox is busy: {self._waiting} calls are waiting for it already. Call again later.",
                limit=self._queue,
            )
        try:
            self._lock.acquire_nowait()
        except anyio.WouldBlock:
            self._waiting += 1
            try:
                await self._lock.acquire()
            finally:
                self._waiting -= 1
        try:
            yield
        finally:
            self._lock.release()
