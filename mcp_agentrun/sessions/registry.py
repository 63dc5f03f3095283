"""The sandboxes of all clients of a server."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import AsyncGenerator, Generator, Hashable
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import Any

import anyio
from anyio.abc import TaskGroup

from ..background import contained
from ..errors import CapacityReason, InvalidRequestError, NotReadyError, UnavailableError
from ..sandbox import AsyncRuntime, OpenSandbox
from ..sandbox.capacity import Capacity, OpenContainer
from ..sandbox.opening import MemoryReserve, Opener
from ..sandbox.pool import WarmPool
from .admission import Admission
from .expiry import Expiry
from .ownership import NEW, STDIO, Caller, Lease, Owners, Session, in_use
from .readiness import Readiness
from .reconcile import Reconciler

__all__ = ["Sessions"]

WAIT_SECONDS = 30.0
"""Longest time a call waits for a free slot when the server is at capacity."""


class Sessions:
    """Opens sandboxes for callers, and finds them again. Use it as an async context manager.

    When it ends, nothing of the sandboxes is left.

    :param is_shared: it serves many clients, which may disappear: sandboxes expire, and some are kept ready.
    """

    def __init__(self, runtime: AsyncRuntime, *, is_shared: bool = False) -> None:
        self.settings = settings = runtime.settings
        self.is_shared = is_shared
        self.refused: Counter[CapacityReason] = Counter()
        """Number of refused sandboxes by reason."""
        self._runtime = runtime
        self._readiness = Readiness(runtime.engine.list_sandboxes)
        self._owners = Owners()
        self._capacity = Capacity(settings.serve.max_total if is_shared else settings.limits.max_sandboxes)
        memory = (
            MemoryReserve(runtime.engine.free_memory, settings.serve.reserve, self._capacity) if is_shared else None
        )
        self._opener = Opener(runtime.container, memory, self.refused)
        self._pool = (
            WarmPool(self._open_spare, self._capacity, settings.serve.pool, settings.serve.pool_max)
            if is_shared
            else None
        )
        self._admission = Admission(settings, self._owners, self._capacity, self._pool, self._opener.open, self.refused)
        self._reconciler = Reconciler(runtime.engine, self._opener.sandboxes, self._pool)
        self._opening: dict[Hashable, anyio.Lock] = {}
        self._stack = AsyncExitStack()
        self._tasks: TaskGroup | None = None
        self._calls = 0
        self._idle = anyio.Event()

    async def __aenter__(self) -> Sessions:
        await self._stack.enter_async_context(self._runtime)
        await self._stack.enter_async_context(self._opener.running())
        self._tasks = await self._stack.enter_async_context(anyio.create_task_group())
        self._stack.callback(self._tasks.cancel_scope.cancel)
        if self._pool is not None:
            for task in (self._pool.keep, Expiry(self._owners, self.settings).keep, self._reconciler.keep):
                self._tasks.start_soon(contained, task)
        return self

    async def __aexit__(self, *exc_info: Any) -> bool | None:
        return await self._stack.__aexit__(*exc_info)

    @property
    def count(self) -> int:
        """Number of sandboxes that have an owner."""
        return len(self._owners)

    @property
    def spares(self) -> int:
        """Number of sandboxes in the warm pool."""
        return 0 if self._pool is None else self._pool.size

    @property
    def taken(self) -> int:
        """Number of all sandboxes, including those that are starting or ending."""
        return self._capacity.taken

    @property
    def waiting(self) -> int:
        """Number of calls that wait for capacity."""
        return self._capacity.waiting

    @property
    def pool_use(self) -> tuple[int, int]:
        """How often a sandbox was requested and one was ready, and how often none was."""
        return (0, 0) if self._pool is None else (self._pool.hits, self._pool.misses)

    async def idle(self) -> None:
        """Wait until no call is in progress or waits for capacity."""
        if self._calls:
            await self._idle.wait()

    async def ready(self) -> None:
        """Return if the engine responds, or did so a moment ago.

        :raises UnavailableError: it can't be reached, or does not respond in time.
        """
        if self._tasks is None:
            raise RuntimeError("Sessions is used inside `async with`")
        await self._readiness.check(self._tasks)

    async def begin(self) -> None:
        """Begin to prepare the sandbox of the client on stdio, so that its first call finds it ready."""
        if not self.is_shared and self._owners.find(STDIO, None) is None:
            await self._open_for(STDIO, None)

    @asynccontextmanager
    async def lease(self, caller: Caller, handle: str | None) -> AsyncGenerator[Lease]:
        """Lease the sandbox that a call of *caller* means, and open it if necessary.

        A new sandbox with a handle is closed again if the call fails, because the client does not know the handle;
        except by `NotReadyError`, whose message has it.

        :param handle: of another sandbox than the client's own, or `NEW`. Without a connection, None is the same.
        :raises InvalidRequestError: *caller* has no sandbox with that handle.
        :raises UnavailableError: the quota or the capacity is reached.
        """
        with self._in_progress():
            session, is_new, expired = await self._find(caller, handle or None)
            with in_use([session]):
                try:
                    yield Lease(session.sandbox, session.handle, is_new, expired)
                except BaseException as error:
                    if is_new and not isinstance(error, NotReadyError):
                        self._owners.close(session)
                    raise

    @contextmanager
    def reading(self, caller: Caller, handle: str | None) -> Generator[OpenSandbox | None]:
        """Yield the sandbox of *caller* with that handle, or its own if None; or None if there is no such sandbox.

        Reading counts as a use of the sandbox.
        """
        session = self._owners.find(caller, handle)
        if session is None:
            yield None
            return
        with self._in_progress(), in_use([session]):
            yield session.sandbox

    @contextmanager
    def listing(self, caller: Caller) -> Generator[dict[str | None, OpenSandbox]]:
        """Yield the sandboxes of *caller* by handle; the key of its own one is None.

        Listing does not count as a use, because many clients do it on their own. Without authentication, only the
        caller's own sandbox is listed.
        """
        found = self._owners.listed(caller, with_handles=bool(caller.principal) or not self.is_shared)
        with self._in_progress(), in_use([*found.values()], counts=False):
            yield {handle: session.sandbox for handle, session in found.items()}

    @contextmanager
    def _in_progress(self) -> Generator[None]:
        self._calls += 1
        try:
            yield
        finally:
            self._calls -= 1
            if self._calls == 0:
                self._idle.set()
                self._idle = anyio.Event()

    def disconnect(self, connection: Hashable) -> None:
        """Close the client's own sandbox, because its connection has ended. Sandboxes with a handle expire later."""
        caller = Caller(connection)
        session = self._owners.find(caller, None)
        if session is not None:
            self._owners.close(session)
        self._owners.take_expired(caller)

    async def _find(self, caller: Caller, handle: str | None) -> tuple[Session, bool, bool]:
        """Return the session that a call means, whether it is new and has a handle, and whether it replaces an expired
        one.
        """
        if handle is None and caller.connection is not None:
            session = self._owners.find(caller, None)
            if session is not None:
                return session, False, False
            expired = self._owners.take_expired(caller)
            return await self._open_for(caller, None), False, expired
        if handle is None or handle == NEW:
            return await self._open_for(caller, secrets.token_urlsafe(16)), True, False
        session = self._owners.find(caller, handle)
        if session is None:
            raise InvalidRequestError(self._unknown(caller, handle), argument="sandbox")
        return session, False, False

    def _unknown(self, caller: Caller, handle: str) -> str:
        problem = f"No sandbox has the handle {handle[:40]!a}"
        if self._owners.has_expired(caller, handle):
            problem = f"The sandbox {handle[:40]!a} has been closed, because it was unused or reached its maximum age"
        own = "Leave `sandbox` out to use your own" if caller.connection is not None else "Leave `sandbox` out"
        return (
            f'{problem}. {own}, or pass "{NEW}", to open another one, and pass its handle from then on; what was in '
            "the old one is gone, so define again what you need."
        )

    async def _open_for(self, caller: Caller, handle: str | None) -> Session:
        """Open a session; or return the one that another call of the same client has just opened."""
        key = caller.connection if handle is None else handle
        deadline = anyio.current_time() + WAIT_SECONDS
        lock = self._opening.setdefault(key, anyio.Lock())
        try:
            async with lock:
                session = self._owners.find(caller, handle)
                if session is None:
                    if anyio.current_time() >= deadline:  # the call before has waited in vain
                        raise self._admission.out_of_capacity()
                    opened = await self._admission.admit(caller, deadline)
                    opened.container.packages.principal = caller.principal
                    session = Session(opened, caller, handle)
                    self._owners.add(session)
                return session
        finally:
            if not lock.statistics().locked and lock.statistics().tasks_waiting == 0:
                self._opening.pop(key, None)

    async def _open_spare(self) -> OpenContainer | None:
        """Open a sandbox for the pool. Return None if there is no slot or memory to spare."""
        slot = self._capacity.acquire()
        try:
            return None if slot is None else await self._opener.open(slot)
        except UnavailableError:
            return None

    async def reconcile(self) -> None:
        """Compare the sandboxes with the engine's containers, as `Reconciler.compare` does."""
        await self._reconciler.compare()
