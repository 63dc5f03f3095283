"""What stands before the MCP endpoints over HTTP: who may send how much, and whether anything is taken at all."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

import anyio
from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["Drain", "RateLimit"]

_REMEMBERED = 10_000


class RateLimit:
    """A token bucket for each principal, or, where nobody has to say who it is, for each address: *rate* requests a
    second, and twice as many at once.
    """

    def __init__(self, app: ASGIApp, *, rate: float, on_refusal: Callable[[], object]) -> None:
        self._app = app
        self._rate = rate
        self._burst = max(1.0, 2 * rate)
        self._on_refusal = on_refusal
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or self._admits(_whose(scope)):
            await self._app(scope, receive, send)
            return
        self._on_refusal()
        refusal = JSONResponse({"error": "too many requests"}, 429, headers={"Retry-After": "1"})
        await refusal(scope, receive, send)

    def _admits(self, whose: str) -> bool:
        now = anyio.current_time()
        left, then = self._buckets.pop(whose, (self._burst, now))
        left = min(self._burst, left + (now - then) * self._rate)
        admitted = left >= 1
        self._buckets[whose] = left - admitted, now
        if len(self._buckets) > _REMEMBERED:
            self._buckets.popitem(last=False)
        return admitted


def _whose(scope: Scope) -> str:
    user: object = scope.get("user")
    if isinstance(user, AuthenticatedUser):
        return f"principal {user.access_token.client_id} {user.access_token.subject or ''}"
    return f"address {(scope.get('client') or ('',))[0]}"


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
