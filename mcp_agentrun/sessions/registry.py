"""The sandboxes of all clients of a server: found, opened, expired and closed."""

from __future__ import annotations

import contextlib
import logging
import secrets
from collections import Counter, OrderedDict
from collections.abc import AsyncGenerator, Generator, Hashable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any, Literal, get_args

import anyio
from anyio.abc import TaskGroup, TaskStatus

from ..background import contained
from ..errors import InvalidRequestError, NotReadyError, UnavailableError
from ..sandbox import AsyncRuntime, AsyncSandbox
from .capacity import Open, Place, Room
from .pool import WarmPool
from .readiness import Readiness

__all__ = ["NEW", "REFUSALS", "STDIO", "Caller", "Lease", "Sessions"]

logger = logging.getLogger(__name__)

NEW = "new"
"""In place of a handle: open another sandbox."""

RECONCILE_SECONDS = 60.0
"""Between two looks at what the engine really runs."""

WAIT_SECONDS = 30.0
"""What a call waits for room, where the server has as many sandboxes as it may."""

_REMEMBERED = 4096  # sandboxes that have expired, to tell whoever comes back for them
NEED = 128 << 20
"""Bytes that a fresh sandbox takes, with the data packages imported."""


Refusal = Literal["share", "memory", "queue", "room"]
"""The principal's share, the machine's memory, a place in the queue, or room within the time that one waits."""

REFUSALS: tuple[Refusal, ...] = get_args(Refusal)


@dataclass(frozen=True)
class Caller:
    """Who calls.

    :param connection: what the client's own sandbox goes with; None where the protocol knows no connections.
    :param principal: the verified name of who it is; empty where nobody has to say.
    """

    connection: Hashable | None
    principal: str = ""


STDIO = Caller("stdio")
"""On stdio the process is the session."""


class _Session:
    """A sandbox that has an owner."""

    def __init__(self, opened: Open, caller: Caller, handle: str | None, now: float) -> None:
        self.opened = opened
        self.caller = caller
        self.handle = handle
        self.began = self.used = now
        self.calls = 0


@dataclass(frozen=True)
class Lease:
    """A sandbox for the time of one call, in which it does not expire."""

    sandbox: AsyncSandbox
    handle: str | None
    """By which it is reached; None for the client's own."""
    is_new: bool = False
    """It was opened for this call, so that the client doesn't know its handle yet."""
    expired: bool = False
    """The client's own one has expired since its last call, and this is another."""


class Sessions:
    """Use as an async context manager; nothing of the sandboxes is left when it has ended.

    :param is_shared: it serves many clients, who may vanish: sandboxes expire, and some are kept ready.
    """

    def __init__(self, runtime: AsyncRuntime, *, is_shared: bool = False) -> None:
        self.settings = settings = runtime.settings
        self.is_shared = is_shared
        self._runtime = runtime
        self._engine = engine = runtime.engine
        self._stack = AsyncExitStack()
        self._tasks: TaskGroup | None = None
        self._keeping: TaskGroup | None = None
        self._readiness = Readiness(engine.sandboxes)
        self._all: set[Open] = set()
        self._room = Room(settings.serve.max_total if is_shared else settings.limits.max_sandboxes)
        ready = settings.serve.pool, settings.serve.pool_max
        self._pool = WarmPool(self._spare, self._room, *ready) if is_shared else None
        self._own: dict[Hashable, _Session] = {}
        self._by_handle: dict[str, _Session] = {}
        self._expired: OrderedDict[Hashable, None] = OrderedDict()
        self._opening: dict[Hashable, anyio.Lock] = {}
        self._awaited: Counter[str] = Counter()
        self.refused: Counter[Refusal] = Counter()
        """How often a sandbox was refused, by what was lacking."""
        self._calls = 0
        self._idle = anyio.Event()
        self._closing = anyio.Event()

    async def __aenter__(self) -> Sessions:
        await self._stack.enter_async_context(self._runtime)
        self._tasks = await self._stack.enter_async_context(anyio.create_task_group())
        self._stack.callback(self._closing.set)
        self._keeping = await self._stack.enter_async_context(anyio.create_task_group())
        self._stack.callback(self._keeping.cancel_scope.cancel)
        if self._pool is not None:
            for task in (self._pool.keep, self._expire, self._reconcile):
                self._keeping.start_soon(contained, task)
        return self

    async def __aexit__(self, *exc_info: Any) -> bool | None:
        return await self._stack.__aexit__(*exc_info)

    @property
    def count(self) -> int:
        """Sandboxes that have an owner."""
        return len(self._own) + len(self._by_handle)

    @property
    def spares(self) -> int:
        """Sandboxes in the warm pool."""
        return 0 if self._pool is None else self._pool.size

    @property
    def taken(self) -> int:
        """Sandboxes in all, those included that are being opened or are not gone yet."""
        return self._room.taken

    @property
    def waiting(self) -> int:
        """Calls that wait for room for a sandbox."""
        return self._room.waiting

    @property
    def pool_use(self) -> tuple[int, int]:
        """How often a sandbox was asked for and one was ready, or none."""
        return (0, 0) if self._pool is None else (self._pool.hits, self._pool.misses)

    async def idle(self) -> None:
        """Wait until no call is being answered, or waits for room."""
        if self._calls:
            await self._idle.wait()

    async def ready(self) -> None:
        """Return when the engine has answered, now or a moment ago.

        :raises UnavailableError: it can't be reached, or has not answered in time.
        """
        if self._keeping is None:
            raise RuntimeError("Sessions is used inside `async with`")
        await self._readiness.check(self._keeping)

    async def begin(self) -> None:
        """Begin to prepare the sandbox of a client on stdio, so that its first call finds it ready."""
        if not self.is_shared and STDIO.connection not in self._own:
            await self._found(STDIO, None)

    @asynccontextmanager
    async def lease(self, caller: Caller, handle: str | None) -> AsyncGenerator[Lease]:
        """The sandbox that a call of *caller* means. One that was opened for a call that fails is closed again, unless
        it was only not ready: whoever raises `NotReadyError` tells its handle.

        :param handle: of a sandbox other than the client's own, or `NEW`. Where there are no connections, leaving it
            out opens a new one too.
        :raises InvalidRequestError: *caller* has no sandbox of that handle.
        :raises UnavailableError: there are as many sandboxes as may be.
        """
        with self._under_way():
            session, is_new, expired = await self._find(caller, handle or None)
            with self._held([session]):
                try:
                    yield Lease(session.opened.sandbox, session.handle, is_new, expired)
                except BaseException as error:
                    if is_new and not isinstance(error, NotReadyError):  # nobody has been told its handle
                        self._close(session)
                    raise

    @contextmanager
    def reading(self, caller: Caller, handle: str | None) -> Generator[AsyncSandbox | None]:
        """The sandbox of *caller* with that handle, or its own one, which does not expire meanwhile; None where there
        is none. To read is to use it.
        """
        session = self._own.get(caller.connection) if handle is None else self._by_handle.get(handle)
        if session is None or (handle is not None and session.caller.principal != caller.principal):
            yield None
            return
        with self._under_way(), self._held([session]):
            yield session.opened.sandbox

    @contextmanager
    def listing(self, caller: Caller) -> Generator[dict[str | None, AsyncSandbox]]:
        """The sandboxes that *caller* has, by handle; the client's own has none. They don't expire meanwhile, but many
        clients list again and again by themselves, so that this is no use of them.

        Where nobody has to say who it is, others' handles are not told.
        """
        own = self._own.get(caller.connection)
        found: dict[str | None, _Session] = {} if own is None else {None: own}
        if caller.principal or not self.is_shared:
            for handle, session in self._by_handle.items():
                if session.caller.principal == caller.principal:
                    found[handle] = session
        with self._under_way(), self._held([*found.values()], is_use=False):
            yield {handle: session.opened.sandbox for handle, session in found.items()}

    @contextmanager
    def _under_way(self) -> Generator[None]:
        """Count one call as being answered."""
        self._calls += 1
        try:
            yield
        finally:
            self._calls -= 1
            if self._calls == 0:
                self._idle.set()
                self._idle = anyio.Event()

    @contextmanager
    def _held(self, sessions: Sequence[_Session], *, is_use: bool = True) -> Generator[None]:
        """Keep *sessions* from expiring."""
        for session in sessions:
            session.calls += 1
        try:
            yield
        finally:
            for session in sessions:
                session.calls -= 1
                if is_use:
                    session.used = anyio.current_time()

    def disconnect(self, connection: Hashable) -> None:
        """The client of *connection* has gone: its own sandbox goes too. Others live on until they expire."""
        session = self._own.get(connection)
        if session is not None:
            self._close(session)
        self._expired.pop(connection, None)

    async def _find(self, caller: Caller, handle: str | None) -> tuple[_Session, bool, bool]:
        if handle is None and caller.connection is not None:
            session = self._own.get(caller.connection)
            if session is not None:
                return session, False, False
            expired = caller.connection in self._expired
            self._expired.pop(caller.connection, None)
            return await self._found(caller, None), False, expired
        if handle is None or handle == NEW:
            return await self._found(caller, secrets.token_urlsafe(16)), True, False
        session = self._by_handle.get(handle)
        if session is None or session.caller.principal != caller.principal:
            raise InvalidRequestError(self._unknown(handle, caller))
        return session, False, False

    def _unknown(self, handle: str, caller: Caller) -> str:
        what = f"No sandbox has the handle {handle[:40]!a}"
        if (handle, caller.principal) in self._expired:
            what = f"The sandbox {handle[:40]!a} has been closed, because it was not used or its time was over"
        own = "Leave `sandbox` out to use your own" if caller.connection is not None else "Leave `sandbox` out"
        return (
            f'{what}. {own}, or pass "{NEW}", to open another one, and pass its handle from then on; what was in the '
            "old one is gone, so define again what you need."
        )

    async def _found(self, caller: Caller, handle: str | None) -> _Session:
        """A new session; or, where another call of the same client has just opened its own one, that."""
        key = caller.connection if handle is None else handle
        deadline = anyio.current_time() + WAIT_SECONDS
        lock = self._opening.setdefault(key, anyio.Lock())
        try:
            async with lock:
                if handle is None and (session := self._own.get(caller.connection)) is not None:
                    return session
                if anyio.current_time() >= deadline:  # the call before has waited for the same in vain
                    raise self._no_room()
                return await self._admitted(caller, handle, deadline)
        finally:
            if not lock.statistics().locked and lock.statistics().tasks_waiting == 0:
                self._opening.pop(key, None)

    async def _admitted(self, caller: Caller, handle: str | None, deadline: float) -> _Session:
        """A new session, once there is room. Clients that wait don't hold up those of whom nothing stands in the way,
        such as the one that is refused at once.
        """
        self._require_share(caller)
        self._awaited[caller.principal] += 1
        try:
            session = _Session(await self._provided(deadline), caller, handle, anyio.current_time())
            session.opened.sandbox.principal = caller.principal
            if handle is None:
                self._own[caller.connection] = session
            else:
                self._by_handle[handle] = session
            return session
        finally:
            self._awaited[caller.principal] -= 1
            if not self._awaited[caller.principal]:
                del self._awaited[caller.principal]

    async def _provided(self, deadline: float) -> Open:
        """A sandbox that is ready, or else a new one, if there is room for it by *deadline*."""
        if self._pool is not None and (spare := self._pool.take()) is not None:
            return spare
        found = self._room.take() or await self._wait_for_room(deadline)
        return await self._open(found) if isinstance(found, Place) else found

    async def _spare(self) -> Open | None:
        """A new sandbox for the pool; None where its place or memory would be missed."""
        place = self._room.take()
        try:
            return None if place is None else await self._open(place)
        except UnavailableError:
            return None

    def _require_share(self, caller: Caller) -> None:
        taken = self._awaited[caller.principal] + sum(
            session.caller.principal == caller.principal for session in (*self._own.values(), *self._by_handle.values())
        )
        if taken >= self.settings.limits.max_sandboxes:
            self.refused["share"] += 1
            raise UnavailableError(
                f"You have {taken} sandboxes already, the most that this server allows. Use one of those that you have."
            )

    async def _begin_start(self, place: Place) -> None:
        """Set memory aside for the sandbox in *place*, beside that for others that are being started, whose use can't
        be measured yet.
        """
        free = await self._engine.free_memory() if self.is_shared else None
        if free is not None and free < self.settings.serve.reserve + NEED * (self._room.starting + 1):
            self.refused["memory"] += 1
            raise UnavailableError(
                "The server is busy: its machine has too little memory left for another sandbox. Call again later."
            )
        place.is_starting = True

    async def _wait_for_room(self, deadline: float) -> Place | Open:
        if self._room.waiting >= self.settings.limits.queue:
            self.refused["queue"] += 1
            raise UnavailableError("The server is busy: others are waiting for a sandbox already. Call again later.")
        with anyio.CancelScope(deadline=deadline):
            return await self._room.wait()
        raise self._no_room()

    def _no_room(self) -> UnavailableError:
        self.refused["room"] += 1
        return UnavailableError(
            f"The server is busy: it has {self._room.places} sandboxes, the most that it may, and none became free. "
            "Call again later."
        )

    async def _open(self, place: Place) -> Open:
        """Open a sandbox in *place*, which is left when that fails, or when the sandbox is gone."""
        if self._tasks is None:
            raise RuntimeError("Sessions is used inside `async with`")
        try:
            await self._begin_start(place)
            return await self._tasks.start(self._keep_open, place)
        except BaseException:
            place.leave()
            raise

    async def _keep_open(self, place: Place, *, task_status: TaskStatus[Open]) -> None:
        opened: Open | None = None
        try:
            async with self._runtime.sandbox() as sandbox:
                opened = Open(sandbox)
                self._all.add(opened)
                task_status.started(opened)
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(self._close_with_all, opened)
                    tasks.start_soon(self._note_start, sandbox, place)
                    await opened.closing.wait()
                    tasks.cancel_scope.cancel()
        except Exception:
            if opened is None:
                raise
            logger.exception("a sandbox ended unexpectedly")  # which is no end of the others
        finally:
            if opened is not None:
                self._all.discard(opened)
            place.leave()

    async def _note_start(self, sandbox: AsyncSandbox, place: Place) -> None:
        with contextlib.suppress(Exception):  # whoever uses it is told
            await sandbox.ready()
        place.is_starting = False

    async def _close_with_all(self, opened: Open) -> None:
        await self._closing.wait()
        opened.closing.set()

    def _close(self, session: _Session) -> None:
        if session.handle is None:
            self._own.pop(session.caller.connection, None)
        else:
            self._by_handle.pop(session.handle, None)
        session.opened.closing.set()

    async def _expire(self) -> None:
        """Close what has not been used for so long, or lived for so long; never in the middle of a call."""
        while True:
            now, due = anyio.current_time(), float("inf")
            for session in (*self._own.values(), *self._by_handle.values()):
                end = min(session.used + self.settings.serve.idle_ttl, session.began + self.settings.serve.max_ttl)
                if session.calls:
                    continue
                if end > now:
                    due = min(due, end)
                    continue
                principal = session.caller.principal
                self._expired[session.caller.connection if session.handle is None else (session.handle, principal)] = (
                    None
                )
                while len(self._expired) > _REMEMBERED:
                    self._expired.popitem(last=False)
                logger.info("a sandbox has expired")
                self._close(session)
            await anyio.sleep(max(0.05, min(due - now, self.settings.serve.idle_ttl / 4, RECONCILE_SECONDS)))

    async def reconcile(self) -> None:
        """Compare what the engine runs with what there should be: containers that nobody knows are removed, and
        sandboxes whose containers have gone without a word are taken for lost, so that their clients are told.

        :raises UnavailableError: the engine does not answer.
        """
        believed = [(opened.sandbox, opened.sandbox.starts) for opened in self._all if opened.sandbox.is_ready]
        found = set(await self._engine.sandboxes())
        for sandbox, start in believed:
            if sandbox.id not in found and sandbox.is_ready:
                logger.warning("a sandbox's container is gone")
                sandbox.lost(start)
        if self._pool is not None:
            self._pool.discard_lost()
        if removed := await self._engine.sweep():
            logger.warning("%d containers that nobody owned have been removed", removed)

    async def _reconcile(self) -> None:
        while True:
            await anyio.sleep(RECONCILE_SECONDS)
            await contained(self.reconcile)
