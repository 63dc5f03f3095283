"""Fair scheduling of installations among principals."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import anyio

__all__ = ["Turns"]


@dataclass(eq=False)
class _Waiter:
    principal: str
    granted: anyio.Event = field(default_factory=anyio.Event)


class Turns:
    """Up to *places* at a time. The next place goes to the principal with the fewest, and to who came first among
    equals. No principal takes the last place, unless there is only one.
    """

    def __init__(self, places: int) -> None:
        self._free = places
        self._most = max(1, places - 1)
        self._taken: Counter[str] = Counter()
        self._waiting: list[_Waiter] = []

    @asynccontextmanager
    async def turn(self, principal: str, patience: float) -> AsyncGenerator[None]:
        """Hold a place.

        :param patience: how long to wait for it, in seconds.
        :raises TimeoutError: no place was free in that time.
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
                self._taken -= Counter({principal: 1})
            else:
                self._waiting.remove(waiter)
            self._grant()

    def _grant(self) -> None:
        while self._free:
            able = [waiter for waiter in self._waiting if self._taken[waiter.principal] < self._most]
            if not able:
                return
            chosen = min(able, key=lambda waiter: self._taken[waiter.principal])
            self._waiting.remove(chosen)
            self._free -= 1
            self._taken[chosen.principal] += 1
            chosen.granted.set()
