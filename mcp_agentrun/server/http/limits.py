"""What stands before the MCP endpoints over HTTP: who may send how much, and whether anything is taken at all."""

from __future__ import annotations

import hashlib
import ipaddress
import math
from collections import OrderedDict
from collections.abc import Callable

import anyio
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .tokens import principal_of

__all__ = ["Buckets", "Drain", "RateLimit", "SessionShare", "StrangerLimit", "counted"]

_REMEMBERED = 10_000


class Buckets:
    """A token bucket for each name: *rate* a second, and *burst* at once. Those that were used the longest ago are
    forgotten, which is to say full, beyond 10,000 names.
    """

    def __init__(self, rate: float, burst: float) -> None:
        self._rate = rate
        self._burst = max(1.0, burst)
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    @property
    def count(self) -> int:
        """Names that are remembered."""
        return len(self._left)

    def take(self, name: str) -> float:
        """Take one; returns how many seconds too early that is, 0 if it was there."""
        now = anyio.current_time()
        left, then = self._left.pop(name, (self._burst, now))
        left = min(self._burst, left + (now - then) * self._rate)
        is_there = left >= 1
        self._left[name] = left - is_there, now
        if len(self._left) > _REMEMBERED:
            self._left.popitem(last=False)
        return 0.0 if is_there else (1 - left) / self._rate

    def give_back(self, name: str) -> None:
        """The one that was taken last was not needed."""
        if name in self._left:
            left, then = self._left[name]
            self._left[name] = min(self._burst, left + 1), then


class RateLimit:
    """*rate* requests a second, and twice as many at once, of each principal, or, where nobody has to say who it is,
    of each address.
    """

    def __init__(self, app: ASGIApp, *, rate: float, on_refusal: Callable[[], object]) -> None:
        self._app = app
        self._buckets = Buckets(rate, 2 * rate)
        self._on_refusal = on_refusal

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (early := self._buckets.take(_whose(scope))):
            self._on_refusal()
            await _too_many(early)(scope, receive, send)
            return
        await self._app(scope, receive, send)


class _Use:
    """Of an MCP session: when it was last used, and the requests in it that are under way."""

    def __init__(self, last: float) -> None:
        self.last = last
        self.under_way = 0


class SessionShare:
    """At most *most* open MCP sessions of each principal (or address, as in `RateLimit`), so that nobody who opens them
    and goes away keeps others out. Where there would be more, that one ends which was not used for the longest.

    :param idle: seconds after which an unused session ends by itself.
    """

    def __init__(self, app: ASGIApp, *, most: int, idle: float) -> None:
        self._app = app
        self._most = most
        self._idle = idle
        self._open: OrderedDict[str, dict[bytes, _Use]] = OrderedDict()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        session = _header(scope, _SESSION) if scope["type"] == "http" else None
        if session is not None:
            await self._in_session(session, scope, receive, send)
            return

        async def noting(message: Message) -> None:
            # A refusal names a session, too, which has ended with it.
            is_good = message["type"] == "http.response.start" and message["status"] < 400
            if is_good and (begun := _header(message, _SESSION)) is not None:
                for oldest in self._begin(_whose(scope), begun):
                    await self._app(*_deletion(scope, oldest))
            await send(message)

        await self._app(scope, receive, noting if scope["type"] == "http" else send)

    async def _in_session(self, session: bytes, scope: Scope, receive: Receive, send: Send) -> None:
        used = self._open.get(_whose(scope), {})
        use = used.get(session)
        if use is None:
            await self._app(scope, receive, send)
            return
        use.under_way += 1
        try:
            await self._app(scope, receive, send)
        finally:
            use.under_way -= 1
            use.last = anyio.current_time()
            if scope["method"] == "DELETE":
                used.pop(session, None)

    def _begin(self, whose: str, session: bytes) -> list[bytes]:
        """Note that *session* has begun; returns which ones have to end for it."""
        now = anyio.current_time()
        used = self._open.setdefault(whose, {})
        self._open.move_to_end(whose)
        if len(self._open) > _REMEMBERED:
            self._open.popitem(last=False)
        for known, use in [*used.items()]:
            if not use.under_way and now - use.last > self._idle:
                del used[known]
        oldest = sorted(used, key=lambda known: (used[known].under_way > 0, used[known].last))
        ended = oldest[: max(0, len(used) + 1 - self._most)]
        for known in ended:
            del used[known]
        used[session] = _Use(now)
        return ended


_SESSION = b"mcp-session-id"


def _header(message: Scope | Message, name: bytes) -> bytes | None:
    return next((value for key, value in message.get("headers", ()) if key.lower() == name), None)


def _deletion(scope: Scope, session: bytes) -> tuple[Scope, Receive, Send]:
    """A request by which the sender of *scope* would end *session*, to be answered to nobody."""

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(_: Message) -> None:
        pass

    kept = [(name, value) for name, value in scope["headers"] if name not in (b"content-length", b"content-type")]
    return {**scope, "method": "DELETE", "headers": [*kept, (_SESSION, session)]}, receive, send


class StrangerLimit:
    """*rate* requests a second, and twice as many at once, of each address, as long as nobody has shown there who he
    is. Stands `before` what asks for that, and again `behind` it.

    What was shown and found good at an address is not counted there, so that those who belong are not kept out by one
    who tries tokens at the same address.
    """

    def __init__(self, rate: float, *, on_refusal: Callable[[], object]) -> None:
        self._buckets = Buckets(rate, 2 * rate)
        self._on_refusal = on_refusal
        self._good: OrderedDict[tuple[str, bytes], None] = OrderedDict()

    def before(self, app: ASGIApp) -> ASGIApp:
        async def limited(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http":
                await app(scope, receive, send)
                return
            address = _address(scope)
            shown = address, _shown(scope)
            if shown not in self._good and (early := self._buckets.take(address)):
                self._on_refusal()
                await _too_many(early)(scope, receive, send)
                return
            scope[_SHOWN] = passed = _Shown(shown)
            await app(scope, receive, send)
            if not passed.is_good:
                self._good.pop(shown, None)

        return limited

    def behind(self, app: ASGIApp) -> ASGIApp:
        async def known(scope: Scope, receive: Receive, send: Send) -> None:
            passed: _Shown | None = scope.get(_SHOWN)
            if passed is not None:
                passed.is_good = True
                if passed.shown in self._good:
                    self._good.move_to_end(passed.shown)
                else:
                    self._buckets.give_back(passed.shown[0])
                    self._good[passed.shown] = None
                    if len(self._good) > _REMEMBERED:
                        self._good.popitem(last=False)
            await app(scope, receive, send)

        return known


_SHOWN = "agentrun.shown"


class _Shown:
    """What a request has shown, and whether it was found good."""

    def __init__(self, shown: tuple[str, bytes]) -> None:
        self.shown = shown
        self.is_good = False


def _shown(scope: Scope) -> bytes:
    """A digest of the token in a request."""
    found = [value for name, value in scope["headers"] if name == b"authorization"]
    return hashlib.blake2b(b"\n".join(found), digest_size=16).digest()


def _too_many(early: float) -> JSONResponse:
    return JSONResponse({"error": "too many requests"}, 429, headers={"Retry-After": str(math.ceil(early))})


def _whose(scope: Scope) -> str:
    return principal_of(scope) or _address(scope)


def _address(scope: Scope) -> str:
    """Where a request comes from; of IPv6 the network, all of whose addresses are one customer's."""
    host: str = (scope.get("client") or ("",))[0]
    if ":" not in host:
        return host
    try:
        address = ipaddress.IPv6Address(host)
    except ValueError:
        return host
    return str(address.ipv4_mapped or ipaddress.IPv6Network((int(address) >> 64 << 64, 64)))


class Drain:
    """Counts what is being answered, and refuses what is new once `begin` has been called.

    A stream on which a client only listens (GET) is not waited for.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._under_way = 0
        self._idle = anyio.Event()
        self.draining = False

    @property
    def under_way(self) -> int:
        return self._under_way

    def begin(self) -> None:
        self.draining = True
        if self._under_way == 0:
            self._idle.set()

    async def drained(self) -> None:
        """Wait until everything is answered that was begun before."""
        await self._idle.wait()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        if self.draining:
            refusal = JSONResponse({"error": "the server is shutting down"}, 503, headers={"Retry-After": "5"})
            await refusal(scope, receive, send)
            return
        self._under_way += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._under_way -= 1
            if self.draining and self._under_way == 0:
                self._idle.set()


def counted(app: ASGIApp, count: Callable[[int], object]) -> ASGIApp:
    """*app*, with *count* told the status of each answer."""

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        async def watched(message: Message) -> None:
            if message["type"] == "http.response.start":
                count(message["status"])
            await send(message)

        await app(scope, receive, watched if scope["type"] == "http" else send)

    return wrapped
