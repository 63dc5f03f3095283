"""Limits in front of the MCP endpoints over HTTP: rates, sessions per client, and draining."""

from __future__ import annotations

import hashlib
import ipaddress
import math
from collections import OrderedDict
from collections.abc import Callable

import anyio
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..principals import principal_of

__all__ = [
    "SHUTTING_DOWN",
    "AddressLimit",
    "Drain",
    "RateLimit",
    "SessionQuota",
    "TokenBuckets",
    "address_of",
    "count_responses",
    "unambiguous",
]

SHUTTING_DOWN = "shutting down"

_REMEMBERED = 10_000


class TokenBuckets:
    """Token buckets by name, refilled at *rate* per second up to *burst*.

    Beyond 10,000 names, the least recently used are forgotten, which means that they are full again.
    """

    def __init__(self, rate: float, burst: float) -> None:
        self._rate = rate
        self._burst = max(1.0, burst)
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    @property
    def count(self) -> int:
        """Number of names that are remembered."""
        return len(self._left)

    def take(self, name: str) -> float:
        """Take one token. Return 0, or the seconds until there is one if there is none."""
        now = anyio.current_time()
        left, then = self._left.pop(name, (self._burst, now))
        left = min(self._burst, left + (now - then) * self._rate)
        is_available = left >= 1
        self._left[name] = left - is_available, now
        if len(self._left) > _REMEMBERED:
            self._left.popitem(last=False)
        return 0.0 if is_available else (1 - left) / self._rate

    def refund(self, name: str) -> None:
        """Return the token that was taken last."""
        if name in self._left:
            left, then = self._left[name]
            self._left[name] = min(self._burst, left + 1), then


class RateLimit:
    """Allows each client *rate* requests per second, in bursts of twice as many.

    A client is a principal, or an address if the server requires no authentication.
    """

    def __init__(self, app: ASGIApp, *, rate: float, on_refusal: Callable[[], object]) -> None:
        self._app = app
        self._buckets = TokenBuckets(rate, 2 * rate)
        self._on_refusal = on_refusal

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (delay := self._buckets.take(_client_of(scope))):
            self._on_refusal()
            await _too_many_requests(delay)(scope, receive, send)
            return
        await self._app(scope, receive, send)


class _Usage:
    """When an MCP session was last used, and how many of its requests are in progress."""

    def __init__(self, last: float) -> None:
        self.last = last
        self.in_progress = 0


class SessionQuota:
    """Allows each client *most* open MCP sessions. A new one ends the least recently used.

    So a client that opens sessions and disappears can't lock out others. A client is the same as in `RateLimit`.

    :param idle: seconds after which an unused session ends anyway.
    """

    def __init__(self, app: ASGIApp, *, most: int, idle: float) -> None:
        self._app = app
        self._most = most
        self._idle = idle
        self._open: OrderedDict[str, dict[bytes, _Usage]] = OrderedDict()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        session = _header(scope, _SESSION) if scope["type"] == "http" else None
        if session is not None:
            await self._in_session(session, scope, receive, send)
            return

        async def watched(message: Message) -> None:
            # A refusal has the header, too, but its session has ended.
            is_good = message["type"] == "http.response.start" and message["status"] < 400
            if is_good and (begun := _header(message, _SESSION)) is not None:
                for oldest in self._begin(_client_of(scope), begun):
                    await self._app(*_deletion(scope, oldest))
            await send(message)

        await self._app(scope, receive, watched if scope["type"] == "http" else send)

    async def _in_session(self, session: bytes, scope: Scope, receive: Receive, send: Send) -> None:
        sessions = self._open.get(_client_of(scope), {})
        usage = sessions.get(session)
        if usage is None:
            await self._app(scope, receive, send)
            return
        usage.in_progress += 1
        try:
            await self._app(scope, receive, send)
        finally:
            usage.in_progress -= 1
            usage.last = anyio.current_time()
            if scope["method"] == "DELETE":
                sessions.pop(session, None)

    def _begin(self, client: str, session: bytes) -> list[bytes]:
        """Record that *session* has begun. Return the sessions that have to end for it."""
        now = anyio.current_time()
        sessions = self._open.setdefault(client, {})
        self._open.move_to_end(client)
        if len(self._open) > _REMEMBERED:
            self._open.popitem(last=False)
        for known, usage in [*sessions.items()]:
            if not usage.in_progress and now - usage.last > self._idle:
                del sessions[known]
        oldest = sorted(sessions, key=lambda known: (sessions[known].in_progress > 0, sessions[known].last))
        ended = oldest[: max(0, len(sessions) + 1 - self._most)]
        for known in ended:
            del sessions[known]
        sessions[session] = _Usage(now)
        return ended


_SESSION = b"mcp-session-id"


def _header(message: Scope | Message, name: bytes) -> bytes | None:
    return next((value for key, value in message.get("headers", ()) if key.lower() == name), None)


def _deletion(scope: Scope, session: bytes) -> tuple[Scope, Receive, Send]:
    """Return a request by the client of *scope* to end *session*, whose response is discarded."""

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(_: Message) -> None:
        pass

    kept = [(name, value) for name, value in scope["headers"] if name not in (b"content-length", b"content-type")]
    return {**scope, "method": "DELETE", "headers": [*kept, (_SESSION, session)]}, receive, send


class AddressLimit:
    """Allows each address *rate* requests per second without a valid token, in bursts of twice as many.

    It wraps the application both `before` and `after` authentication. Requests with a token that was accepted from the
    same address are not counted, so that others who try tokens there can't lock out its valid clients.
    """

    def __init__(self, rate: float, *, on_refusal: Callable[[], object]) -> None:
        self._buckets = TokenBuckets(rate, 2 * rate)
        self._on_refusal = on_refusal
        self._accepted: OrderedDict[tuple[str, bytes], None] = OrderedDict()

    def before(self, app: ASGIApp) -> ASGIApp:
        async def limited(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http":
                await app(scope, receive, send)
                return
            address = address_of(scope)
            credentials = address, _token_digest(scope)
            if credentials not in self._accepted and (delay := self._buckets.take(address)):
                self._on_refusal()
                await _too_many_requests(delay)(scope, receive, send)
                return
            scope[_CREDENTIALS] = shown = _Credentials(credentials)
            await app(scope, receive, send)
            if not shown.is_accepted:
                self._accepted.pop(credentials, None)

        return limited

    def after(self, app: ASGIApp) -> ASGIApp:
        async def accepted(scope: Scope, receive: Receive, send: Send) -> None:
            shown: _Credentials | None = scope.get(_CREDENTIALS)
            if shown is not None:
                shown.is_accepted = True
                self._accept(shown.key)
            await app(scope, receive, send)

        return accepted

    def _accept(self, key: tuple[str, bytes]) -> None:
        if key in self._accepted:
            self._accepted.move_to_end(key)
            return
        self._buckets.refund(key[0])
        self._accepted[key] = None
        if len(self._accepted) > _REMEMBERED:
            self._accepted.popitem(last=False)


_CREDENTIALS = "agentrun.credentials"


class _Credentials:
    """The address and token of a request, and whether they were accepted."""

    def __init__(self, key: tuple[str, bytes]) -> None:
        self.key = key
        self.is_accepted = False


def _token_digest(scope: Scope) -> bytes:
    found = [value for name, value in scope["headers"] if name == b"authorization"]
    return hashlib.blake2b(b"\n".join(found), digest_size=16).digest()


def _too_many_requests(delay: float) -> JSONResponse:
    return JSONResponse({"error": "too many requests"}, 429, headers={"Retry-After": str(math.ceil(delay))})


def _client_of(scope: Scope) -> str:
    return principal_of(scope) or address_of(scope)


def address_of(scope: Scope) -> str:
    """Return the address of the client, or its /64 network for IPv6, because one customer has all addresses there."""
    host: str = (scope.get("client") or ("",))[0]
    if ":" not in host:
        return host
    try:
        address = ipaddress.IPv6Address(host)
    except ValueError:
        return host
    return str(address.ipv4_mapped or ipaddress.IPv6Network((int(address) >> 64 << 64, 64)))


class Drain:
    """Counts requests in progress, and refuses new ones after `begin`.

    Only POST and PUT requests are calls: on the streams of GET a client only listens.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._in_progress = 0
        self._idle = anyio.Event()
        self.draining = False

    @property
    def in_progress(self) -> int:
        return self._in_progress

    def begin(self) -> None:
        self.draining = True
        if self._in_progress == 0:
            self._idle.set()

    async def drained(self) -> None:
        """Wait until all requests that began before `begin` are answered."""
        await self._idle.wait()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] not in ("POST", "PUT"):
            await self._app(scope, receive, send)
            return
        if self.draining:
            refusal = JSONResponse({"error": f"the server is {SHUTTING_DOWN}"}, 503, headers={"Retry-After": "5"})
            await refusal(scope, receive, send)
            return
        self._in_progress += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._in_progress -= 1
            if self.draining and self._in_progress == 0:
                self._idle.set()


def unambiguous(app: ASGIApp) -> ASGIApp:
    """Wrap *app* so that a connection ends with a request whose length is stated in two ways (RFC 9112, section 6.1):
    a proxy may have taken what follows for a part of it.
    """

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        async def closing(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), (b"connection", b"close")]
            await send(message)

        is_ambiguous = {name for name, _ in scope.get("headers", ())} >= _LENGTHS
        await app(scope, receive, closing if is_ambiguous else send)

    return wrapped


_LENGTHS = {b"content-length", b"transfer-encoding"}


def count_responses(app: ASGIApp, count: Callable[[int], object]) -> ASGIApp:
    """Wrap *app* so that *count* receives the status of each response."""

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        async def watched(message: Message) -> None:
            if message["type"] == "http.response.start":
                count(message["status"])
            await send(message)

        await app(scope, receive, watched if scope["type"] == "http" else send)

    return wrapped
