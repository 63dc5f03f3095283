"""Sandboxes for calls that leave nothing behind."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import anyio
from anyio.abc import TaskGroup

from ..errors import AgentRunError
from ..sandbox import OpenSandbox
from ..settings import Settings
from .admission import Admission
from .session_store import Caller, Session, SessionStore

__all__ = ["StatelessCalls"]

logger = logging.getLogger(__name__)


class StatelessCalls:
    """Gives each call a sandbox that is as new.

    A sandbox is reset after a call, and kept for the next one of the same principal: that is much faster than a new
    one. While no call uses it, it is closed if its principal or others need the quota or the capacity.
    """

    def __init__(self, settings: Settings, store: SessionStore, admission: Admission) -> None:
        self._most_waiting = settings.limits.queue * settings.limits.max_sandboxes
        """Of a principal: as many calls as could wait for its sandboxes if they had handles."""
        self._store = store
        self._admission = admission
        self._turns: dict[str, anyio.Lock] = {}
        """By principal: calls are served in the order in which they come."""

    @asynccontextmanager
    async def sandbox(self, principal: str, deadline: float, tasks: TaskGroup) -> AsyncGenerator[OpenSandbox]:
        """Yield a sandbox for one call of *principal*.

        :param deadline: how long the call waits for one, by the clock of the event loop.
        :param tasks: where the sandbox is reset, so that the call's answer does not wait for that.
        :raises UnavailableError: there is none until the deadline, or too many calls wait for one.
        """
        session = await self._take(principal, deadline)
        try:
            yield OpenSandbox(session.opened.container)  # which counts its runs from 1
        finally:
            session.is_resetting = True
            tasks.start_soon(self._put_back, session)

    async def _take(self, principal: str, deadline: float) -> Session:
        """Return a session that is in use from now on."""
        turn = self._turns.setdefault(principal, anyio.Lock())
        self._admission.require_queue(turn.statistics().tasks_waiting, self._most_waiting)
        is_my_turn = False
        try:
            with anyio.CancelScope(deadline=deadline):
                async with turn:
                    while (found := self._idle(principal)) is None and not self._may_open(principal):
                        await self._store.changed.wait()
                    is_my_turn = True
                    if found is not None:
                        found.calls += 1
                        return found
        finally:
            if not turn.statistics().locked and turn.statistics().tasks_waiting == 0:
                self._turns.pop(principal, None)
        if not is_my_turn:
            has_quota = self._admission.has_quota(principal)
            raise self._admission.out_of_capacity() if has_quota else self._admission.out_of_quota(principal)
        return await self._open(Caller(object(), principal), deadline)

    def _idle(self, principal: str) -> Session | None:
        return next((each for each in self._store.stateless(principal) if not each.calls), None)

    def _may_open(self, principal: str) -> bool:
        """Return whether to open another sandbox, rather than wait for one of those that calls use."""
        used = self._store.stateless(principal)
        if not self._admission.has_quota(principal) or any(session.is_resetting for session in used):
            return False
        return not used or self._admission.has_place()

    async def _open(self, caller: Caller, deadline: float) -> Session:
        opened = await self._admission.admit(caller, deadline)
        session = Session(opened, caller, None, is_stateless=True)
        session.calls = 1
        self._store.add(session)
        return session

    async def _put_back(self, session: Session) -> None:
        """Make the sandbox as new, or close it if that fails or others wait for its place."""
        is_new = False
        try:
            if not self._admission.is_waited_for:
                await session.opened.container.reset(keep_packages=False, keep_files=False)
                is_new = True
        except AgentRunError as error:
            logger.warning("a sandbox could not be reset: %s", error)
        except Exception:
            logger.exception("a sandbox could not be reset")
        finally:
            session.is_resetting = False
            session.calls -= 1
            session.used_at = anyio.current_time()
            if is_new and session.opened.container.is_ready:
                self._store.notify()
            else:
                self._store.close(session)
