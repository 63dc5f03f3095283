"""Whether the engine answers, for any number who ask."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio
from anyio.abc import TaskGroup

from ..errors import UnavailableError

__all__ = ["Readiness"]

FRESH_SECONDS = 1.0
"""How long an answer holds."""


class Readiness:
    """One question to the engine at a time: who asks meanwhile, and shortly after, shares its answer. An engine that
    hangs holds up one thread, and not one for each who asks.

    :param ask: returns when the engine has answered.
    """

    def __init__(self, ask: Callable[[], Awaitable[object]]) -> None:
        self._ask = ask
        self._question = _Question()
        self._question.answered_at = float("-inf")

    async def check(self, tasks: TaskGroup) -> None:
        """Return when the engine has answered. To cancel this is not to cancel the question, which *tasks* ask.

        :raises UnavailableError: it has failed to.
        """
        if anyio.current_time() - self._question.answered_at > FRESH_SECONDS:
            self._question = _Question()
            tasks.start_soon(self._put, self._question)
        question = self._question
        await question.answered.wait()
        if question.problem is not None:
            raise UnavailableError(str(question.problem)) from question.problem

    async def _put(self, question: _Question) -> None:
        try:
            await self._ask()
        except Exception as error:
            question.problem = error
        question.answered_at = anyio.current_time()
        question.answered.set()


class _Question:
    def __init__(self) -> None:
        self.answered = anyio.Event()
        self.answered_at = float("inf")
        self.problem: Exception | None = None
