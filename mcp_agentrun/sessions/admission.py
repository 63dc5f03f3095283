"""Decide which caller gets a sandbox, and when."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial

import anyio

from ..errors import CapacityError, CapacityReason
from ..sandbox.capacity import Capacity, OpenContainer, Slot
from ..sandbox.pool import WarmPool
from ..settings import Settings
from .session_store import Audit, Caller, SessionStore

__all__ = ["Admission"]


class Admission:
    """Gives sandboxes to callers, within the quota of their principals and the capacity of the server.

    :param open_: opens a sandbox in a slot, with the given settings or those of all.
    :param refused: counts refusals.
    :param audit: receives what is done in the sandboxes.
    """

    def __init__(
        self,
        settings: Settings,
        store: SessionStore,
        capacity: Capacity,
        pool: WarmPool | None,
        open_: Callable[[Slot, Settings | None], Awaitable[OpenContainer]],
        refused: Counter[CapacityReason],
        audit: Audit | None = None,
    ) -> None:
        self._settings = settings
        self._store = store
        self._capacity = capacity
        self._pool = pool
        self._open = open_
        self._refused = refused
        self._audit = audit
        self._expected: Counter[str] = Counter()
        """Number of sandboxes that callers of each principal are waiting for."""

    async def admit(self, caller: Caller, deadline: float, settings: Settings | None = None) -> OpenContainer:
        """Return a sandbox for *caller*. A caller that waits does not delay the refusal of others.

        :param settings: its settings. If they are not the ones of all, it is a new one.
        :raises CapacityError: the quota is reached, there is too little memory, or there is no capacity until
            *deadline*.
        """
        if not self.has_quota(caller.principal) and not self._store.reclaim(caller.principal):
            raise self.out_of_quota(caller.principal)
        special = settings if settings != self._settings else None
        self._expected[caller.principal] += 1
        try:
            opened = await self._provide(deadline, special)
            observer = self._audit and partial(self._audit, caller.principal)
            opened.container.belongs_to(caller.principal, observer)
            return opened
        except BaseException:
            self._store.notify()  # others may use what this one has left of the quota
            raise
        finally:
            self._expected[caller.principal] -= 1
            if not self._expected[caller.principal]:
                del self._expected[caller.principal]

    def has_quota(self, principal: str) -> bool:
        """Return whether *principal* may have another sandbox."""
        return self._taken(principal) < self._settings.limits.max_sandboxes

    def has_place(self) -> bool:
        """Return whether a sandbox can be had without waiting for capacity."""
        is_free = self._capacity.taken < self._capacity.slots
        return is_free or (self._pool is not None and self._pool.size > 0)

    @property
    def is_waited_for(self) -> bool:
        """Whether callers wait for capacity."""
        return self._capacity.waiting > 0

    def _taken(self, principal: str) -> int:
        return self._expected[principal] + self._store.count_for(principal)

    def out_of_quota(self, principal: str) -> CapacityError:
        """Count a refusal, and return the error that says why."""
        taken = self._taken(principal)
        sandboxes = "1 sandbox" if taken == 1 else f"{taken} sandboxes"
        return self._refusal(
            f"You already have {sandboxes}, the most that this server allows. Use one of those that you have.",
            "quota",
            self._settings.limits.max_sandboxes,
        )

    async def _provide(self, deadline: float, special: Settings | None) -> OpenContainer:
        """Return a sandbox that is ready, or else a new one."""
        found = None if special is None else self._capacity.acquire()
        if found is None and self._pool is not None:
            found = self._pool.take()
        found = found or self._capacity.acquire() or await self._wait(deadline)
        while special is not None and isinstance(found, OpenContainer):
            found.closing.set()  # a new one takes its place
            found = await self._wait(deadline, is_next=True)
        return await self._open(found, special) if isinstance(found, Slot) else found

    async def _wait(self, deadline: float, *, is_next: bool = False) -> Slot | OpenContainer:
        if not is_next:
            self._store.reclaim()
            self.require_queue(self._capacity.waiting, self._settings.limits.queue)
        with anyio.CancelScope(deadline=deadline):
            return await self._capacity.wait(is_next=is_next)
        raise self.out_of_capacity()

    def require_queue(self, waiting: int, limit: int) -> None:
        """Require that another call may wait for a sandbox, beside *waiting* ones.

        :raises CapacityError: *limit* calls are waiting.
        """
        if waiting >= limit:
            message = "The server is busy: other calls are waiting for a sandbox. Call again later."
            raise self._refusal(message, "queue", limit)

    def out_of_capacity(self) -> CapacityError:
        """Count a refusal, and return the error that says why."""
        slots = int(self._capacity.slots)
        return self._refusal(
            f"The server is busy: it has {slots} sandboxes, its maximum, and none became free. Call again later.",
            "capacity",
            slots,
        )

    def _refusal(self, message: str, reason: CapacityReason, limit: int) -> CapacityError:
        self._refused[reason] += 1
        return CapacityError(message, reason=reason, limit=limit)
