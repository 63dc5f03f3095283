"""Which client owns which sandbox."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Generator, Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

import anyio

from ..errors import CapacityError, InvalidRequestError
from ..sandbox import OpenSandbox
from ..sandbox.capacity import OpenContainer
from ..sandbox.observer import Event, Observation, Refused
from ..settings import SandboxLimits

__all__ = [
    "NEW",
    "STDIO",
    "Audit",
    "Caller",
    "Lease",
    "SandboxInfo",
    "Session",
    "SessionStore",
    "in_use",
    "refusals_audited",
]

Audit = Callable[[str, Event], None]
"""Receives the principal and each event of its sandboxes. It must neither block nor raise errors."""

NEW = "new"
"""Instead of a handle: open another sandbox."""

_EXPIRED_KEPT = 4096


@dataclass(frozen=True)
class Caller:
    """The caller of a tool.

    :param connection: identifies the client's own sandbox; None if the protocol has no connections.
    :param principal: the client's verified name; empty if the server requires no authentication.
    """

    connection: Hashable | None
    principal: str = ""


STDIO = Caller("stdio")
"""The only client over stdio."""


class Session:
    """A client's use of a sandbox.

    :param handle: None for the client's own sandbox.
    :param lifetime: seconds after which it is closed; the setting ``max_ttl`` if None.
    :param is_stateless: the sandbox is used by stateless calls of its principal, and is as new while none uses it.
    """

    def __init__(
        self,
        opened: OpenContainer,
        caller: Caller,
        handle: str | None,
        *,
        lifetime: float | None = None,
        is_stateless: bool = False,
    ) -> None:
        self.opened = opened
        self.lifetime = lifetime
        self.is_stateless = is_stateless
        self.is_resetting = False
        self.sandbox = OpenSandbox(opened.container)
        self.caller = caller
        self.handle = handle
        self.started_at = self.used_at = anyio.current_time()
        self.calls = 0
        """Number of calls in progress, during which it does not expire."""


@dataclass(frozen=True)
class Lease:
    """A sandbox for the duration of one call, in which it does not expire."""

    sandbox: OpenSandbox
    handle: str | None
    """The sandbox's handle; None for the client's own sandbox."""
    closing: anyio.Event
    """Set when the sandbox is being closed, although it is leased."""
    is_new: bool = False
    """Whether the sandbox was opened for this call, so that the client does not know its handle yet."""
    expired: bool = False
    """Whether the client's own sandbox has expired since its last call, so that this is another one."""


@dataclass(frozen=True)
class SandboxInfo:
    """A sandbox with a handle, for its owner."""

    handle: str
    created: datetime
    last_used: datetime
    """The same as *created* if it has not been used."""
    expires: datetime
    """When it is closed, unless it is used until then."""
    is_in_use: bool
    """Whether a call is in progress."""
    limits: SandboxLimits
    stage: str
    """What is being done to start it, in a few words; ``ready`` once it is."""


@contextmanager
def in_use(sessions: Sequence[Session], *, counts: bool = True) -> Generator[None]:
    """Keep *sessions* from expiring.

    :param counts: count this as a use, from whose end their idle time runs.
    """
    for session in sessions:
        session.calls += 1
    try:
        yield
    finally:
        for session in sessions:
            session.calls -= 1
            if counts:
                session.used_at = anyio.current_time()


@contextmanager
def refusals_audited(audit: Audit | None, caller: Caller) -> Generator[None]:
    """Report to *audit* if *caller* does not get a sandbox, or a run in the background."""
    observation = Observation()
    try:
        yield
    except (CapacityError, InvalidRequestError) as error:
        if audit is not None:
            audit(caller.principal, Refused(observation.timing(error)))
        raise


class SessionStore:
    """All sessions, by connection and by handle."""

    def __init__(self) -> None:
        self._own: dict[Hashable, Session] = {}
        self._by_handle: dict[str, Session] = {}
        self._expired: OrderedDict[Hashable, None] = OrderedDict()
        self.changed = anyio.Event()
        """Set, and replaced by another one, when a session is closed or has become idle, or capacity is free."""

    def __len__(self) -> int:
        return len(self._own) + len(self._by_handle)

    def __iter__(self) -> Iterator[Session]:
        return iter((*self._own.values(), *self._by_handle.values()))

    def find(self, caller: Caller, handle: str | None) -> Session | None:
        """Return the session of *caller* with that handle, or with its own sandbox if *handle* is None."""
        if handle is None:
            return self._own.get(caller.connection)
        session = self._by_handle.get(handle)
        return session if session is not None and session.caller.principal == caller.principal else None

    def require(self, caller: Caller, handle: str) -> Session:
        """Return the session of *caller* with that handle.

        :raises InvalidRequestError: there is none; the message says what to do.
        """
        session = self.find(caller, handle)
        if session is not None:
            return session
        problem = f"No sandbox has the handle {handle[:40]!a}"
        if _key(caller, handle) in self._expired:
            problem = f"The sandbox {handle[:40]!a} has been closed, because it was unused or reached its maximum age"
        own = "Leave `sandbox` out to use your own" if caller.connection is not None else "Leave `sandbox` out"
        raise InvalidRequestError(
            f'{problem}. {own}, or pass "{NEW}", to open another one, and pass its handle from then on; what was in '
            "the old one is gone, so define again what you need.",
            argument="sandbox",
        )

    def count_for(self, principal: str) -> int:
        """Return how many sandboxes a principal has."""
        return sum(session.caller.principal == principal for session in self)

    def listed(self, caller: Caller, *, with_handles: bool) -> dict[str | None, Session]:
        """Return the sessions of *caller* by handle.

        :param with_handles: also return those of other connections of the same principal.
        """
        own = self._own.get(caller.connection)
        found: dict[str | None, Session] = {} if own is None else {None: own}
        if with_handles:
            for handle, session in self._by_handle.items():
                if session.caller.principal == caller.principal:
                    found[handle] = session
        return found

    def add(self, session: Session) -> None:
        if session.handle is None:
            self._own[session.caller.connection] = session
        else:
            self._by_handle[session.handle] = session

    def close(self, session: Session) -> None:
        """Remove *session*, and close its sandbox."""
        if session.handle is None:
            self._own.pop(session.caller.connection, None)
        else:
            self._by_handle.pop(session.handle, None)
        session.opened.closing.set()
        self.notify()

    def notify(self) -> None:
        """Wake up those who wait for a change."""
        self.changed.set()
        self.changed = anyio.Event()

    def stateless(self, principal: str) -> list[Session]:
        """Return the sessions for stateless calls of *principal*."""
        return [each for each in self if each.is_stateless and each.caller.principal == principal]

    def reclaim(self, principal: str | None = None) -> bool:
        """Close the sandbox that has waited the longest for a stateless call. Return False if all are in use.

        :param principal: whose sandbox to close; of any principal if None.
        """
        idle = [each for each in self if each.is_stateless and (each.is_resetting or not each.calls)]
        idle = [each for each in idle if principal in (None, each.caller.principal)]
        if not idle:
            return False
        self.close(min(idle, key=lambda session: (session.is_resetting, session.used_at)))
        return True

    def expire(self, session: Session) -> None:
        """Close *session*, and remember that it has expired, if a client might ask for it."""
        if not session.is_stateless:
            self._expired[_key(session.caller, session.handle)] = None
        if len(self._expired) > _EXPIRED_KEPT:
            self._expired.popitem(last=False)
        self.close(session)

    def pop_expired(self, caller: Caller) -> bool:
        """Return whether the own sandbox of *caller* has expired, and forget it."""
        key = _key(caller, None)
        has_expired = key in self._expired
        self._expired.pop(key, None)
        return has_expired


def _key(caller: Caller, handle: str | None) -> Hashable:
    return caller.connection if handle is None else (handle, caller.principal)
