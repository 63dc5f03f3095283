"""Sandboxes that are ready before anybody asks for them."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable

import anyio

from ..errors import AgentRunError
from ..sandbox import Sandbox

__all__ = ["Open", "WarmPool"]

DEMAND_SECONDS = 30.0
"""How far back demand is looked at: as many as were taken in this time are kept ready, within the bounds."""

_RETRY_SECONDS = 5.0


class Open:
    """A sandbox that is kept open until `closing` is set."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        self.closing = anyio.Event()
        self.on_end: Callable[[], object] = lambda: None
        """Called when the sandbox is gone."""


class WarmPool:
    """Between *least* and *most* sandboxes in waiting, by demand; none where *least* is 0. Each is given out once,
    and replaced behind that.
    """

    def __init__(self, open_: Callable[[], Awaitable[Open]], least: int, most: int) -> None:
        self._open = open_
        self._least = least
        self._most = max(least, most) if least else 0
        self._ready: deque[Open] = deque()
        self._taken: deque[float] = deque()
        self._wanted = anyio.Event()

    @property
    def size(self) -> int:
        return len(self._ready)

    def take(self) -> Open | None:
        """A sandbox that is ready, or None where there is none."""
        self._taken.append(anyio.current_time())
        self._wanted.set()
        while self._ready:
            opened = self._ready.popleft()
            if opened.sandbox.is_ready:
                return opened
            opened.closing.set()  # its container has been lost meanwhile
        return None

    async def keep(self) -> None:
        """Keep the pool filled, until cancelled."""
        while True:
            self._wanted = anyio.Event()
            while len(self._ready) > self._target():
                self._ready.popleft().closing.set()
            if len(self._ready) < self._target():
                if not await self._add():
                    await anyio.sleep(_RETRY_SECONDS)  # the engine is away: nothing tells when it is back
                continue
            with anyio.move_on_after(DEMAND_SECONDS):
                await self._wanted.wait()

    def _target(self) -> int:
        since = anyio.current_time() - DEMAND_SECONDS
        while self._taken and self._taken[0] < since:
            self._taken.popleft()
        return min(self._most, max(self._least, len(self._taken)))

    async def _add(self) -> bool:
        opened = await self._open()
        try:
            await opened.sandbox.ready()
        except AgentRunError:
            opened.closing.set()
            return False
        except BaseException:
            opened.closing.set()
            raise
        self._ready.append(opened)
        return True
