"""Sandboxes that are ready before anybody asks for them."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Awaitable, Callable

import anyio

from ..errors import AgentRunError
from .capacity import Open, Room

__all__ = ["WarmPool"]

logger = logging.getLogger(__name__)

DEMAND_SECONDS = 30.0
"""How far back demand is looked at: as many as were taken in this time are kept ready, within the bounds."""

REFILL_SECONDS = 1.0
"""How long after one was taken another is begun: who has taken it is to have the machine for a first answer."""

_RETRY_SECONDS = 5.0


class WarmPool:
    """Between *least* and *most* sandboxes in waiting, by demand; none where *least* is 0. Each is given out once,
    and replaced behind that, as far as *room* has places that nobody waits for.

    :param open_: opens one; returns None where there is no room for it.
    """

    def __init__(self, open_: Callable[[], Awaitable[Open | None]], room: Room, least: int, most: int) -> None:
        self._open = open_
        self._room = room
        self._least = least
        self._most = max(least, most) if least else 0
        self._ready: deque[Open] = deque()
        self._taken: deque[float] = deque()
        self._wanted = anyio.Event()
        self.hits = self.misses = 0
        """How often a sandbox was asked for and there was one, or none."""

    @property
    def size(self) -> int:
        return len(self._ready)

    def take(self) -> Open | None:
        """A sandbox that is ready, or None where there is none."""
        self._taken.append(anyio.current_time())
        self.discard_lost()
        self._wanted.set()
        if self._ready:
            self.hits += 1
            return self._ready.popleft()
        self.misses += 1
        return None

    def discard_lost(self) -> None:
        """Let go of sandboxes whose containers have been lost meanwhile, and have them replaced."""
        for opened in [opened for opened in self._ready if not opened.sandbox.is_ready]:
            self._ready.remove(opened)
            opened.closing.set()
            self._wanted.set()

    async def keep(self) -> None:
        """Keep the pool filled, until cancelled."""
        while True:
            self._wanted = anyio.Event()
            while len(self._ready) > self._target():
                self._ready.popleft().closing.set()
            if len(self._ready) < self._target():
                if self._taken and (pause := self._taken[-1] + REFILL_SECONDS - anyio.current_time()) > 0:
                    await anyio.sleep(pause)
                if not await self._add():
                    await anyio.sleep(_RETRY_SECONDS)  # no room, or no engine: nothing tells when that changes
                continue
            with anyio.move_on_after(DEMAND_SECONDS):
                await self._wanted.wait()

    def _target(self) -> int:
        since = anyio.current_time() - DEMAND_SECONDS
        while self._taken and self._taken[0] < since:
            self._taken.popleft()
        return min(self._most, max(self._least, len(self._taken)))

    async def _add(self) -> bool:
        try:
            opened = await self._open()
        except Exception:
            logger.exception("a sandbox could not be opened")
            return False
        if opened is None:
            return False
        try:
            await opened.sandbox.ready()
            if self._room.offer(opened):
                return True
            await opened.sandbox.warm()
        except Exception as error:
            if not isinstance(error, AgentRunError):
                logger.exception("a sandbox could not be made ready")
            opened.closing.set()
            return False
        except BaseException:
            opened.closing.set()
            raise
        if not self._room.offer(opened):
            self._ready.append(opened)
        return True
