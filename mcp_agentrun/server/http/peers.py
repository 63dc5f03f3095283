"""Replicas of one server: all requests of a principal go to one of them, which has the principal's sandboxes."""

from __future__ import annotations

import hashlib
import logging
import socket
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager

import anyio
import httpx2
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ...background import background_tasks
from ...settings import Settings
from ..principals import principal_of
from ..rest.app import interface_of
from .limits import SHUTTING_DOWN

__all__ = ["Peers", "better_peers"]

logger = logging.getLogger(__name__)

_FRESH_SECONDS = {True: 1.0, False: 5.0}
"""How long it is believed that a peer is ready, or that it is not."""

_PATIENCE_SECONDS = 30.0
"""How long a peer may fail to respond before it is not ready. Otherwise its clients would lose their sandboxes."""

_CONNECT_SECONDS = 2.5
"""Longer than it takes until a connection that was not noticed is tried once more, one second."""

_READY_SECONDS = 6.0
"""Longer than a peer waits for its engine."""

_ADDRESSEE = b"agentrun-peer"
"""Header of a forwarded request: the URL of the peer that it is for."""

_NOT_FORWARDED = {
    *(b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade"),
    *(b"expect", _ADDRESSEE, b"forwarded", b"x-forwarded-for", b"x-forwarded-proto"),
}
_NOT_RETURNED = {b"connection", b"keep-alive", b"transfer-encoding", b"date"}

_PROBES = {"TCP_KEEPIDLE": 15, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3}

_KEEP_ALIVE = [
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    *((socket.IPPROTO_TCP, getattr(socket, name), value) for name, value in _PROBES.items() if hasattr(socket, name)),
]
"""Without it, a connection to a machine that has lost its power would never end."""


def better_peers(principal: str, peers: Sequence[str], own: str) -> list[str]:
    """Return those of *peers* that rank above *own* for *principal*, the best first (rendezvous hashing)."""

    def rank(peer: str) -> bytes:
        return hashlib.blake2b(f"{peer} {principal}".encode()).digest()

    return sorted((peer for peer in peers if rank(peer) > rank(own)), key=rank, reverse=True)


class Peers:
    """Forwards each request to the replica that is the best one for its principal, if that is ready.

    All replicas rank themselves for a principal in the same way, and each forwards only to better ones than itself. So
    no request goes round in circles, and nothing that a client sends decides where it goes.

    :param app: answers the requests that stay here.
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._own = settings.serve.own_url or ""
        self._peers = settings.serve.peers
        self._checks = {peer: _Check(peer) for peer in self._peers}
        self._http = httpx2.AsyncClient(
            transport=httpx2.AsyncHTTPTransport(
                limits=httpx2.Limits(max_connections=None), socket_options=_KEEP_ALIVE, trust_env=False
            ),
            timeout=httpx2.Timeout(None, connect=_CONNECT_SECONDS),
        )

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Close the connections to peers at the end."""
        async with self._http:
            yield

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or interface_of(scope["path"]) is None:  # such as the metrics
            await self._app(scope, receive, send)
            return
        addressee = dict(scope["headers"]).get(_ADDRESSEE, self._own.encode())
        if addressee != self._own.encode():
            logger.error("a request for another replica arrived: `own_url` or `peers` is wrong here, or there")
            await JSONResponse({"error": "this is another replica"}, 508)(scope, receive, send)
            return
        for peer in better_peers(principal_of(scope), self._peers, self._own):
            if await self._is_ready(peer) and await self._forward(peer, scope, receive, send):
                return
        await self._app(scope, receive, send)

    async def _is_ready(self, peer: str) -> bool:
        """Return whether *peer* accepts calls, or did so a moment ago."""
        check = self._checks[peer]
        async with check.lock:
            if anyio.current_time() >= check.expires:
                check.note(is_ready=await self._ask(peer))
        return check.is_ready

    async def _ask(self, peer: str) -> bool | None:
        """Return whether *peer* accepts calls, or None if it or its engine does not respond, which may pass."""
        try:
            timeout = httpx2.Timeout(_READY_SECONDS, connect=_CONNECT_SECONDS)
            answer = await self._http.get(f"{peer}/readyz", timeout=timeout)
        except (httpx2.ConnectError, httpx2.ConnectTimeout):
            return False
        except httpx2.HTTPError:
            return None
        if answer.status_code == 200:
            return True
        return False if SHUTTING_DOWN in answer.text else None

    async def _forward(self, peer: str, scope: Scope, receive: Receive, send: Send) -> bool:
        """Have *peer* answer the request. Return False if it can't be reached, in which case nothing has been received.

        If the client disconnects, so does the connection to the peer.
        """
        exchange = _Exchange(receive, send)
        try:
            async with background_tasks() as tasks:
                tasks.start_soon(exchange.cancel_on_disconnect, tasks.cancel_scope)
                answer = await self._http.send(exchange.request(peer, scope), stream=True)
                try:
                    await exchange.answer(answer)
                finally:
                    await answer.aclose()
        except ClientDisconnect:
            pass
        except (httpx2.ConnectError, httpx2.ConnectTimeout):
            self._checks[peer].note(is_ready=False)
            return False
        except httpx2.HTTPError as error:  # perhaps by the fault of the client
            self._checks[peer].expires = 0.0
            logger.warning("%s was lost during a request: %s", peer, type(error).__name__)
            if not exchange.is_answered:  # otherwise the client learns it from the connection
                await JSONResponse({"error": "the replica with this sandbox was lost"}, 502)(scope, receive, send)
        return True


class _Check:
    """Whether a peer is ready, and until when that is believed."""

    def __init__(self, peer: str) -> None:
        self.peer = peer
        self.lock = anyio.Lock()
        self.is_ready: bool = False
        self.expires = 0.0
        self._answered_at = 0.0

    def note(self, *, is_ready: bool | None) -> None:
        """Record whether the peer is ready. If None, that is not known, and for a while taken to be as it was."""
        now = anyio.current_time()
        if is_ready is None:
            is_ready = self.is_ready and now - self._answered_at < _PATIENCE_SECONDS
        else:
            self._answered_at = now
        if is_ready != self.is_ready:
            logger.info("%s is %s", self.peer, "ready" if is_ready else "not ready: its clients are served here")
        self.is_ready = is_ready
        self.expires = now + _FRESH_SECONDS[is_ready]


class _Exchange:
    """A request that is forwarded, and its answer, both as they arrive."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self._is_sent = anyio.Event()
        self.is_answered = False

    def request(self, peer: str, scope: Scope) -> httpx2.Request:
        """Return the request of *scope* to *peer*."""
        headers: list[tuple[bytes, bytes]] = [item for item in scope["headers"] if item[0] not in _NOT_FORWARDED]
        client = (scope.get("client") or ("",))[0]
        headers += [(b"x-forwarded-for", client.encode()), (b"x-forwarded-proto", scope["scheme"].encode())]
        has_body = {name for name, _ in scope["headers"]} & {b"content-length", b"transfer-encoding"}
        target: bytes = scope["raw_path"] + (b"?" + scope["query_string"] if scope["query_string"] else b"")
        return httpx2.Request(
            scope["method"],
            peer,
            headers=[*headers, (_ADDRESSEE, peer.encode())],
            content=self._body() if has_body else None,
            # As it came: in a URL, dots and unusual characters would be replaced.
            extensions={"target": target, "trace": self._traced},
        )

    async def _body(self) -> AsyncGenerator[bytes]:
        message: Message = {"more_body": True}
        while message.get("more_body", False):
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            yield message.get("body", b"")

    async def _traced(self, event: str, _: object) -> None:
        if event == "http11.send_request_body.complete":
            self._is_sent.set()

    async def cancel_on_disconnect(self, scope: anyio.CancelScope) -> None:
        """Cancel *scope* if the client disconnects. Until the request is sent, its body shows that."""
        await self._is_sent.wait()
        while (await self._receive())["type"] != "http.disconnect":
            pass
        scope.cancel()

    async def answer(self, answer: httpx2.Response) -> None:
        """Send *answer* to the client."""
        self.is_answered = True
        headers = [(name.lower(), value) for name, value in answer.headers.raw]
        headers = [item for item in headers if item[0] not in _NOT_RETURNED]
        await self._send({"type": "http.response.start", "status": answer.status_code, "headers": headers})
        async for part in answer.aiter_raw():
            await self._send({"type": "http.response.body", "body": part, "more_body": True})
        await self._send({"type": "http.response.body", "body": b""})
