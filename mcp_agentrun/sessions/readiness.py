"""Check whether the engine responds."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio
from anyio.abc import TaskGroup

from ..errors import UnavailableError

__all__ = ["Readiness"]

FRESH_SECONDS = 1.0
"""How long a result is valid."""


class Readiness:
    """Checks the engine once for all concurrent callers, so that an engine that hangs blocks only one thread.

    :param ask: returns when the engine has responded.
    """

    def __init__(self, ask: Callable[[], Awaitable[object]]) -> None:
        self._ask = ask
        self._last = _Check()
        self._last.ended_at = float("-inf")

    async def check(self, tasks: TaskGroup) -> None:
        """Return when the engine has responded. The check runs in *tasks*, so that a caller's cancellation does not end
        it.

        :raises UnavailableError: the engine failed to respond.
        """
        if anyio.current_time() - self._last.ended_at > FRESH_SECONDS:
            self._last = _Check()
            tasks.start_soon(self._run, self._last)
        check = self._last
        await check.ended.wait()
        if check.problem is not None:
            raise UnavailableError(str(check.problem)) from check.problem

    async def _run(self, check: _Check) -> None:
        try:
            await self._ask()
        except Exception as error:
            check.problem = error
        check.ended_at = anyio.current_time()
        check.ended.set()


class _Check:
    def __init__(self) -> None:
        self.ended = anyio.Event()
        self.ended_at = float("inf")
        self.problem: Exception | None = None
