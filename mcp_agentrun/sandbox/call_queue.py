"""The queue of calls to one sandbox."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

import anyio

from ..errors import BusyError
from ..own_process import require_own

__all__ = ["CallQueue"]


class CallQueue:
    """Lets one call at a time use a sandbox, in order of arrival.

    :param limit: number of calls that may wait.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._pid = os.getpid()
        self._lock = anyio.Lock(fast_acquire=True)

    def require_place(self) -> None:
        """Require that a call may wait for its turn.

        :raises BusyError: the queue is full.
        :raises RuntimeError: the sandbox was opened in a process from which this one was forked.
        """
        require_own(self._pid, "sandbox")
        if self._lock.locked() and (waiting := self._lock.statistics().tasks_waiting) >= self._limit:
            raise BusyError(
                f"The sandbox is busy: {waiting} calls are waiting for it already. Call again later.", limit=self._limit
            )

    @asynccontextmanager
    async def turn(self, on_turn: Callable[[], object]) -> AsyncGenerator[None]:
        """Wait for the turn, and hold it while the context lasts.

        :param on_turn: called when it has come.
        :raises BusyError: the queue is full.
        """
        self.require_place()
        async with self._lock:
            on_turn()
            yield
