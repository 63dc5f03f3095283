"""The sandboxes of all clients of a server."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import AsyncGenerator, Generator, Hashable
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress

import anyio
from anyio.abc import TaskGroup

from ..background import log_errors
from ..errors import CapacityReason, InvalidRequestError, NotReadyError
from ..sandbox import AsyncRuntime, OpenSandbox
from ..sandbox.capacity import Capacity
from ..sandbox.opening import MemoryReserve, Opener, OpenOnce
from ..sandbox.pool import WarmPool
from ..settings import SandboxLimits, Settings
from .admission import Admission
from .background_runs import BackgroundRuns
from .expiry import Expiry, described, require_lifetime
from .readiness import Readiness
from .reconcile import Reconciler
from .session_store import (
    NEW,
    STDIO,
    Audit,
    Caller,
    Lease,
    SandboxInfo,
    Session,
    SessionStore,
    in_use,
    refusals_audited,
)
from .stateless import StatelessCalls

__all__ = ["SessionManager"]

WAIT_SECONDS = 30.0
"""Longest time a call waits for a free slot when the server is at capacity."""


class SessionManager(OpenOnce):
    """Opens sandboxes for callers, and finds them again. Use it as an async context manager.

    When it ends, nothing of the sandboxes is left.

    :param is_shared: it serves many clients, which may disappear: sandboxes expire, and some are kept ready.
    :param audit: receives what is done in the sandboxes, and who was refused one.
    """

    def __init__(self, runtime: AsyncRuntime, *, is_shared: bool = False, audit: Audit | None = None) -> None:
        self.settings = settings = runtime.settings
        self.is_shared = is_shared
        self.refused: Counter[CapacityReason] = Counter()
        """Number of refused sandboxes by reason."""
        self._runtime = runtime
        self._audit = audit
        self._readiness = Readiness(runtime.engine.list_sandboxes)
        self._store = SessionStore()
        slots = settings.serve.max_total if is_shared else settings.limits.max_sandboxes
        self._capacity = Capacity(slots, self._store.notify)
        self._opener, self._pool = Opener(runtime.container), None
        if is_shared:
            serve = settings.serve
            memory = MemoryReserve(runtime.engine.free_memory, serve.reserve, self._capacity, self.refused)
            self._opener = Opener(runtime.container, memory)
            self._pool = WarmPool(self._opener.open, self._capacity, serve.pool, serve.pool_max)
        self._admission = Admission(
            settings, self._store, self._capacity, self._pool, self._opener.open, self.refused, audit
        )
        self._stateless = StatelessCalls(settings, self._store, self._admission)
        self._reconciler = Reconciler(runtime.engine, self._opener.sandboxes, self._pool)
        self.runs = BackgroundRuns(settings, self.lease, audit)
        """Runs that go on without their client."""
        self._opening: dict[Hashable, anyio.Lock] = {}
        self._tasks: TaskGroup | None = None
        self._calls = 0
        self._idle = anyio.Event()

    async def _open(self, stack: AsyncExitStack) -> None:
        await stack.enter_async_context(self._runtime)
        await stack.enter_async_context(self._opener.running())
        self._tasks = await stack.enter_async_context(anyio.create_task_group())
        stack.callback(self._tasks.cancel_scope.cancel)
        if self._pool is not None:
            for task in (self._pool.run, Expiry(self._store, self.settings).run, self._reconciler.run):
                self._tasks.start_soon(log_errors, task)
        await stack.enter_async_context(self.runs.running())

    @property
    def count(self) -> int:
        """Number of sandboxes that have an owner."""
        return len(self._store)

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
            raise RuntimeError("SessionManager is used inside `async with`")
        await self._readiness.check(self._tasks)

    async def begin(self) -> None:
        """Begin to prepare the sandbox of the client on stdio, so that its first call finds it ready."""
        if not self.is_shared and self._store.find(STDIO, None) is None:
            await self._open_for(STDIO, None)

    @asynccontextmanager
    async def lease(
        self,
        caller: Caller,
        handle: str | None,
        *,
        lifetime: float | None = None,
        limits: SandboxLimits | None = None,
    ) -> AsyncGenerator[Lease]:
        """Lease the sandbox that a call of *caller* means, and open it if necessary.

        A new sandbox with a handle is closed again if the call fails, because the client does not know the handle;
        except by `NotReadyError`, whose message has it.

        :param handle: of another sandbox than the client's own, or `NEW`. Without a connection, None is the same.
        :param lifetime: seconds after which a new sandbox is closed, from `SHORTEST_LIFETIME` to the setting
            ``max_ttl``, which is the default.
        :param limits: lower limits of a new sandbox, which then is not one that is ready.
        :raises InvalidRequestError: *caller* has no sandbox with that handle, or what it wants is not allowed.
        :raises UnavailableError: the quota or the capacity is reached.
        """
        with self._in_progress():
            with refusals_audited(self._audit, caller):
                require_lifetime(lifetime, self.settings)
                session, is_new, expired = await self._find(caller, handle or None, lifetime, limits)
            with in_use([session]):
                try:
                    yield Lease(session.sandbox, session.handle, session.opened.closing, is_new, expired)
                except BaseException as error:
                    if is_new and not isinstance(error, NotReadyError):
                        self._store.close(session)
                    raise

    @asynccontextmanager
    async def fresh(self, principal: str) -> AsyncGenerator[OpenSandbox]:
        """Yield a sandbox that is as new, for one stateless call of *principal*. Nothing of the call is left in it.

        :raises UnavailableError: none became free in time, or there is no capacity.
        """
        if self._tasks is None:
            raise RuntimeError("SessionManager is used inside `async with`")
        deadline = anyio.current_time() + WAIT_SECONDS
        with self._in_progress():
            async with AsyncExitStack() as stack:
                with refusals_audited(self._audit, Caller(None, principal)):
                    calls = self._stateless.sandbox(principal, deadline, self._tasks)
                    sandbox = await stack.enter_async_context(calls)
                yield sandbox

    @contextmanager
    def reading(self, caller: Caller, handle: str | None) -> Generator[OpenSandbox | None]:
        """Yield the sandbox of *caller* with that handle, or its own if None; or None if there is no such sandbox.

        Reading counts as a use of the sandbox.
        """
        session = self._store.find(caller, handle)
        if session is None:
            if handle is not None:
                with suppress(InvalidRequestError), refusals_audited(self._audit, caller):
                    self._store.require(caller, handle)
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
        found = self._store.listed(caller, with_handles=bool(caller.principal) or not self.is_shared)
        with self._in_progress(), in_use([*found.values()], counts=False):
            yield {handle: session.sandbox for handle, session in found.items()}

    def describe(self, caller: Caller) -> list[SandboxInfo]:
        """Return the sandboxes with a handle of *caller*. This does not count as a use."""
        return described(self._store.listed(caller, with_handles=True).values(), self.settings)

    def look(self, caller: Caller, handle: str) -> SandboxInfo:
        """Return what the sandbox of *caller* with that handle is. This does not count as a use.

        :raises InvalidRequestError: *caller* has no sandbox with that handle.
        """
        with refusals_audited(self._audit, caller):
            return described([self._store.require(caller, handle)], self.settings)[0]

    def close(self, caller: Caller, handle: str) -> None:
        """Close the sandbox of *caller* with that handle. Calls in progress fail.

        :raises InvalidRequestError: *caller* has no sandbox with that handle.
        """
        with refusals_audited(self._audit, caller):
            self._store.close(self._store.require(caller, handle))

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
        session = self._store.find(caller, None)
        if session is not None:
            self._store.close(session)
        self._store.pop_expired(caller)

    async def _find(
        self, caller: Caller, handle: str | None, lifetime: float | None, limits: SandboxLimits | None
    ) -> tuple[Session, bool, bool]:
        """Return the session that a call means, whether it is new and has a handle, and whether it replaces an expired
        one.
        """
        if handle is None and caller.connection is not None:
            session = self._store.find(caller, None)
            if session is not None:
                return session, False, False
            expired = self._store.pop_expired(caller)
            return await self._open_for(caller, None), False, expired
        if handle is None or handle == NEW:
            settings = None if limits is None else self.settings.lowered(limits)
            return await self._open_for(caller, secrets.token_urlsafe(16), lifetime, settings), True, False
        return self._store.require(caller, handle), False, False

    async def _open_for(
        self, caller: Caller, handle: str | None, lifetime: float | None = None, settings: Settings | None = None
    ) -> Session:
        """Open a session, or return the one that a concurrent call of the same client has opened."""
        key = caller.connection if handle is None else handle
        deadline = anyio.current_time() + WAIT_SECONDS
        lock = self._opening.setdefault(key, anyio.Lock())
        try:
            async with lock:
                session = self._store.find(caller, handle)
                if session is None:
                    if anyio.current_time() >= deadline:  # the previous call waited until its own deadline
                        raise self._admission.out_of_capacity()
                    opened = await self._admission.admit(caller, deadline, settings)
                    session = Session(opened, caller, handle, lifetime=lifetime)
                    self._store.add(session)
                return session
        finally:
            if not lock.statistics().locked and lock.statistics().tasks_waiting == 0:
                self._opening.pop(key, None)

    async def reconcile(self) -> None:
        """Compare the sandboxes with the engine's containers, as `Reconciler.compare` does."""
        await self._reconciler.compare()
