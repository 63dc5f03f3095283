"""Fair scheduling of installations among principals."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import anyio

__all__ = ["FairLimiter"]


@dataclass(eq=False)
class _Waiter:
    principal: str
    granted: anyio.Event = field(default_factory=anyio.Event)


class FairLimiter:
    """A number of slots, such as `anyio.CapacityLimiter` has, shared fairly among principals.

    The next slot goes to the principal that holds the fewest; among equals, to the one that has waited the longest. One
    slot is always left for another principal, unless there is only one.
    """

    def __init__(self, slots: int) -> None:
        self._free = slots
        self._most = max(1, slots - 1)
        self._held: Counter[str] = Counter()
        self._waiting: list[_Waiter] = []

    @asynccontextmanager
    async def slot(self, principal: str, patience: float) -> AsyncGenerator[None]:
        """Hold a slot while the context lasts.

        :param patience: longest wait for it, in seconds.
        :raises TimeoutError: no slot was free in that time.
        """
        waiter = _Waiter(principal)
        self._waiting.append(waiter)
        self._grant()
        try:
            with anyio.fail_after(patience):
                await waiter.granted.wait()
            yield
        finally:
            if waiter.granted.is_set():
                self._free += 1
                self._held -= Counter({principal: 1})
            else:
                self._waiting.remove(waiter)
            self._grant()

    def _grant(self) -> None:
        while self._free:
            able = [waiter for waiter in self._waiting if self._held[waiter.principal] < self._most]
            if not able:
                return
            chosen = min(able, key=lambda waiter: self._held[waiter.principal])
            self._waiting.remove(chosen)
            self._free -= 1
            self._held[chosen.principal] += 1
            chosen.granted.set()
