"""How many sandboxes may exist, and who is next when they all do."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import get_args

import anyio

from ..errors import CapacityReason
from .container import SandboxContainer

__all__ = ["REFUSALS", "Capacity", "OpenContainer", "Slot"]

REFUSALS: tuple[CapacityReason, ...] = get_args(CapacityReason)


class Slot:
    """Permission to have one sandbox, held from before it is opened until it is completely removed."""

    def __init__(self, capacity: Capacity) -> None:
        self._capacity = capacity
        self.is_starting = False
        """Whether the sandbox is starting, so that its memory can't be measured yet."""

    def release(self) -> None:
        """Pass the slot to the caller that has waited the longest. Releasing it again has no effect."""
        self._capacity.on_release(self)


class OpenContainer:
    """A sandbox's container that is kept running, in a task of its own, until `closing` is set."""

    def __init__(self, container: SandboxContainer) -> None:
        self.container = container
        self.closing = anyio.Event()
        self.closed = anyio.Event()
        """Set when it is completely removed."""

    @asynccontextmanager
    async def until_closed(self) -> AsyncGenerator[None]:
        """Close it at the end of the context, and wait until it is completely removed."""
        try:
            yield
        finally:
            self.closing.set()
            with anyio.CancelScope(shield=True):
                await self.closed.wait()


class Capacity:
    """A number of slots for sandboxes: owned ones, those of the warm pool, and those that are starting or ending.

    Callers wait in turn, for a slot or for a sandbox that is ready.

    :param on_free: called when a slot or a sandbox can be had, and nobody waits for it.
    """

    def __init__(self, slots: float, on_free: Callable[[], object] = lambda: None) -> None:
        self.slots = slots
        self._on_free = on_free
        self._held: set[Slot] = set()
        self._waiting: deque[_Waiter] = deque()

    @property
    def waiting(self) -> int:
        """Number of callers that wait."""
        return len(self._waiting)

    @property
    def taken(self) -> int:
        """Number of slots that are held."""
        return len(self._held)

    @property
    def starting(self) -> int:
        """Number of slots whose sandboxes are starting."""
        return sum(slot.is_starting for slot in self._held)

    def acquire(self) -> Slot | None:
        """Return a slot, or None if there is none. While a slot is free, nobody waits."""
        if len(self._held) >= self.slots:
            return None
        slot = Slot(self)
        self._held.add(slot)
        return slot

    async def wait(self, *, is_next: bool = False) -> Slot | OpenContainer:
        """Wait in turn for a slot, or for a sandbox that is ready.

        :param is_next: before all others, whose turn comes later.
        """
        waiter = _Waiter()
        self._waiting.insert(0 if is_next else len(self._waiting), waiter)
        try:
            await waiter.served.wait()
        except BaseException:
            if waiter.given is None:
                self._waiting.remove(waiter)
            elif isinstance(waiter.given, Slot):
                waiter.given.release()
            else:
                waiter.given.closing.set()
            raise
        assert waiter.given is not None
        return waiter.given

    def offer(self, opened: OpenContainer) -> bool:
        """Give a sandbox to the caller that has waited the longest. Return False if nobody waits."""
        if not self._waiting:
            self._on_free()
            return False
        self._waiting.popleft().serve(opened)
        return True

    def on_release(self, slot: Slot) -> None:
        """Take *slot* back, and pass it on."""
        self._held.discard(slot)
        if self._waiting and (free := self.acquire()) is not None:
            self._waiting.popleft().serve(free)
        else:
            self._on_free()


class _Waiter:
    def __init__(self) -> None:
        self.served = anyio.Event()
        self.given: Slot | OpenContainer | None = None

    def serve(self, given: Slot | OpenContainer) -> None:
        self.given = given
        self.served.set()
