"""Sandboxes that are ready before a client asks for them."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Awaitable, Callable

import anyio

from ..errors import AgentRunError, UnavailableError
from .capacity import Capacity, OpenContainer, Slot

__all__ = ["WarmPool"]

logger = logging.getLogger(__name__)

DEMAND_SECONDS = 30.0
"""The pool keeps as many sandboxes ready as were taken in this time, within its bounds."""

REFILL_SECONDS = 1.0
"""Delay before a sandbox that was taken is replaced, so that its first call is not slowed down."""

_RETRY_SECONDS = 5.0


class WarmPool:
    """Between *minimum* and *maximum* sandboxes that are ready, by demand; none if *minimum* is 0.

    A sandbox that is taken is replaced, unless callers wait for the capacity.

    :param open_: opens a sandbox in a slot.
    """

    def __init__(
        self, open_: Callable[[Slot], Awaitable[OpenContainer]], capacity: Capacity, minimum: int, maximum: int
    ) -> None:
        self._open = open_
        self._capacity = capacity
        self._minimum = minimum
        self.maximum = max(minimum, maximum) if minimum else 0
        self._ready: deque[OpenContainer] = deque()
        self._taken_at: deque[float] = deque()
        self._changed = anyio.Event()
        self.hits = self.misses = 0
        """How often a sandbox was requested and one was ready, or none was."""

    @property
    def size(self) -> int:
        return len(self._ready)

    def take(self, *, is_demand: bool = True) -> OpenContainer | None:
        """Return a sandbox that is ready, or None if there is none.

        :param is_demand: more of them may be wanted soon.
        """
        if is_demand:
            self._taken_at.append(anyio.current_time())
        self.discard_lost()
        self._changed.set()
        if self._ready:
            self.hits += 1
            return self._ready.popleft()
        self.misses += 1
        return None

    def discard_lost(self) -> None:
        """Close sandboxes that have lost their containers. They are replaced."""
        for opened in [opened for opened in self._ready if not opened.container.is_ready]:
            self._ready.remove(opened)
            opened.closing.set()
            self._changed.set()

    async def run(self) -> None:
        """Keep the pool filled, until cancelled. Those that are ready then are closed."""
        try:
            await self._fill()
        finally:
            while self._ready:
                self._ready.popleft().closing.set()

    async def _fill(self) -> None:
        while True:
            self._changed = anyio.Event()
            while len(self._ready) > self._target():
                self._ready.popleft().closing.set()
            if len(self._ready) < self._target():
                if self._taken_at and (pause := self._taken_at[-1] + REFILL_SECONDS - anyio.current_time()) > 0:
                    await anyio.sleep(pause)
                if not await self._add():
                    await anyio.sleep(_RETRY_SECONDS)  # nothing signals that capacity or the engine is available
                continue
            with anyio.move_on_after(DEMAND_SECONDS):
                await self._changed.wait()

    def _target(self) -> int:
        since = anyio.current_time() - DEMAND_SECONDS
        while self._taken_at and self._taken_at[0] < since:
            self._taken_at.popleft()
        return min(self.maximum, max(self._minimum, len(self._taken_at)))

    async def _add(self) -> bool:
        """Add a sandbox. Return False if that failed."""
        slot = self._capacity.acquire()
        if slot is None:
            return False
        try:
            opened = await self._open(slot)
        except UnavailableError:
            return False
        except Exception:
            logger.exception("a sandbox could not be opened")
            return False
        try:
            await opened.container.ready()
            if self._capacity.offer(opened):
                return True
            await opened.container.warm()
        except Exception as error:
            if not isinstance(error, AgentRunError):
                logger.exception("a sandbox could not be made ready")
            opened.closing.set()
            return False
        except BaseException:
            opened.closing.set()
            raise
        if not self._capacity.offer(opened):
            self._ready.append(opened)
        return True
