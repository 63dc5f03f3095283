"""The server over HTTP, for many clients: MCP at ``/mcp`` and, with the older SSE, at ``/sse``; REST at ``/v1``."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import logging
import signal
import socket
import sys
from collections.abc import AsyncGenerator, Generator
from typing import NoReturn

import anyio
import uvicorn
from anyio.abc import TaskGroup
from mcp.server.auth.middleware.bearer_auth import BearerAuthBackend, RequireAuthMiddleware
from mcp.server.sse import SseServerTransport
from mcp.server.transport_security import RequestBodyLimitMiddleware, TransportSecuritySettings
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Mount, Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from ...audit import Trail, through
from ...errors import AgentRunError, SettingsError
from ...process_exit import INTERRUPTED, exit_at_once
from ...sandbox import AsyncRuntime
from ...sessions import SessionManager
from ...settings import Settings
from ..logs import configure_logging
from ..mcp.app import AgentRunServer, build_server
from ..mcp.connections import by_connection, stream_lifespan
from ..mcp.sdk import answer_as_json
from ..rest.app import build_rest, interface_of, is_documentation, is_rest
from ..tracing import audit_of, traced
from .connection_limits import BACKLOG, WAIT_SECONDS, connection_limit, limited
from .limits import SHUTTING_DOWN, AddressLimit, Drain, RateLimit, SessionQuota, count_responses, unambiguous
from .metrics import Metrics
from .oauth import ResourceServer
from .origins import Origins, in_url
from .peers import Peers
from .refusals import audited, refusals_reported
from .slow_clients import with_timely_bodies
from .tokens import Tokens, default_token_file

__all__ = ["build_app", "serve_http"]

logger = logging.getLogger(__name__)

CLOSE_SECONDS = 2
"""Grace period at the end for connections that are still open, in seconds."""

READY_SECONDS = 5.0
"""Longest time that ``/readyz`` waits for the engine."""


def serve_http(settings: Settings) -> NoReturn:
    """Serve until a signal arrives, then remove the containers and exit.

    :raises SettingsError: the server would be public without authentication, the token file is invalid, or the address
        is in use or does not belong to this machine, or the audit trail can't be written.
    """
    configure_logging(settings, settings.serve.log_format)
    tokens = _verifier(settings)
    trail = Trail.of(settings)
    sockets = _listen(settings.serve.host, settings.serve.port)
    try:
        with trail or contextlib.nullcontext():
            code = anyio.run(_serve, settings, tokens, sockets, trail)
    except KeyboardInterrupt:  # on Windows, after the sandboxes are removed
        code = INTERRUPTED
    exit_at_once(code)


def _verifier(settings: Settings) -> Tokens | ResourceServer | None:
    """Return what verifies the tokens of clients, or None if *settings* require no authentication.

    :raises SettingsError: see `serve_http`.
    """
    if not settings.serve.auth:
        if is_loopback(settings.serve.host) or settings.serve.allow_public_without_auth:
            return None
        raise settings.error(
            "auth",
            f"without authentication, everyone who can reach {settings.serve.host} could run code here. Keep "
            "`auth` on, listen on 127.0.0.1, or add --allow-public-without-auth if something else keeps them out",
        )
    if (resource_server := ResourceServer.from_settings(settings)) is not None:
        return resource_server
    if settings.serve.token_file:
        return Tokens.from_file(settings.serve.token_file)
    path = default_token_file()
    tokens, new = Tokens.generated(path)
    if new is not None:
        # With log_format=json, a program reads stderr.
        stream = sys.stderr if settings.serve.log_format == "text" else sys.stdout
        stream.write(f"A new token was saved in {path}. Clients send it as\n")
        # What is not a terminal may be a log, which would keep it.
        stream.write(f"  Authorization: Bearer {new if stream.isatty() else 'TOKEN'}\n")
        stream.flush()
    return tokens


def is_loopback(host: str) -> bool:
    """Return whether *host* can be reached from this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _listen(host: str, port: int) -> list[socket.socket]:
    """Listen on all addresses of *host* that this machine has.

    :raises SettingsError: there is none, one is in use, or *host* is not a valid name.
    """
    opened: list[socket.socket] = []
    problem: OSError | None = None
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, kind, protocol, _, address in dict.fromkeys(found):
            try:
                descriptor = socket.create_server(address, family=family).detach()
            except OSError as error:
                if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):  # such as ::1 if IPv6 is off
                    raise
                problem = error
            else:
                # Without the protocol, asyncio does not set TCP_NODELAY, which delays small answers.
                opened.append(socket.socket(family, kind, protocol, descriptor))
        if problem is not None and not opened:
            raise problem
    except (OSError, UnicodeError) as error:  # the latter if *host* is not a valid name
        for one in opened:
            one.close()
        reason = error.strerror if isinstance(error, OSError) else "not a valid host name"
        raise SettingsError(f"{in_url(host)}:{port} can't be listened on: {reason}", setting="port") from None
    return opened


class _Server(uvicorn.Server):
    """uvicorn without its own signal handlers, which would close connections before their calls are answered."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        yield


def _announce(settings: Settings, text: str) -> None:
    """Show *text* to the person who started the server, at every log level."""
    if settings.serve.log_format == "text" and not logger.isEnabledFor(logging.INFO):
        sys.stderr.write(f"mcp-agentrun: {text}\n")
        sys.stderr.flush()
    else:
        logger.info("%s", text)


async def _serve(
    settings: Settings, tokens: Tokens | ResourceServer | None, sockets: list[socket.socket], trail: Trail | None
) -> int:
    metrics = Metrics()
    sessions = SessionManager(AsyncRuntime(settings), is_shared=True, audit=audit_of(trail, metrics.count_event))
    app, drain = build_app(sessions, tokens, trail, metrics)
    process = _Process(sessions, drain, _Server(_config(app, settings)))
    # Signals are handled until the sandboxes are removed, which an unresponsive engine may delay.
    async with anyio.create_task_group() as tasks:
        async with sessions:
            if sys.platform != "win32":
                tasks.start_soon(process.end_on_signal, tasks)
            for opened in sockets:
                host, port, *_ = opened.getsockname()
                _announce(settings, f"listening on http://{in_url(host)}:{port}")
            await process.server.serve(sockets)
        tasks.cancel_scope.cancel()
    return process.exit_code


def _config(app: ASGIApp, settings: Settings) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=limited(connection_limit()),
        backlog=BACKLOG,
        log_config=None,
        access_log=False,
        server_header=False,
        # Otherwise every client could choose the address that it is limited by.
        proxy_headers=bool(settings.serve.trusted_proxies),
        forwarded_allow_ips=list(settings.serve.trusted_proxies),
        timeout_keep_alive=int(WAIT_SECONDS),
        timeout_graceful_shutdown=CLOSE_SECONDS,
    )


class _Process:
    """Ends the server on a signal, after calls in progress have been answered."""

    def __init__(self, sessions: SessionManager, drain: Drain, server: uvicorn.Server) -> None:
        self.server = server
        self._sessions = sessions
        self._drain = drain
        self._signal = 0

    @property
    def exit_code(self) -> int:
        if not self.server.started:
            return 1
        return 128 + self._signal if self._signal else 0

    async def end_on_signal(self, tasks: TaskGroup) -> None:
        """End on the first signal, and at once on the second."""
        with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            async for number in signals:
                if self._drain.draining:
                    exit_at_once(128 + number)
                self._signal = int(number)
                logger.info("ending: calls in progress are answered first")
                self._drain.begin()
                tasks.start_soon(self._end_when_drained)

    async def _end_when_drained(self) -> None:
        with anyio.move_on_after(self._sessions.settings.serve.drain):
            await self._sessions.idle()  # over SSE, the request of a call ends before the call does
            await self._drain.drained()
        self.server.should_exit = True


def build_app(
    sessions: SessionManager,
    tokens: Tokens | ResourceServer | None,
    trail: Trail | None = None,
    metrics: Metrics | None = None,
) -> tuple[ASGIApp, Drain]:
    """Return the ASGI application for *sessions*, and what drains it.

    :param tokens: verifies clients; None accepts every client.
    :param trail: receives who is refused in front of the endpoints.
    :param metrics: receives the calls of *sessions*.
    """
    metrics = metrics or Metrics()
    metrics.watch(sessions, trail)
    ended = sessions.disconnect
    mcp = build_server(sessions, by_connection(ended), metrics.count_call, lifespan=stream_lifespan(ended))
    origins = Origins(sessions.settings)
    rest = traced(_checked(_limited(build_rest(sessions), sessions.settings), origins))
    endpoints = _endpoints(mcp, rest, sessions, metrics, origins)
    peers = Peers(endpoints, sessions.settings) if sessions.settings.serve.peers else None
    drain = Drain(endpoints if peers is None else with_timely_bodies(peers))
    addresses = AddressLimit(
        sessions.settings.serve.stranger_limit, on_refusal=lambda: metrics.count_limited("address")
    )
    guarded, middleware, public = _authenticated(addresses.after(drain), tokens)

    async def without_token(scope: Scope, receive: Receive, send: Send) -> None:
        is_public = scope["type"] == "http" and is_documentation(scope["path"])
        await (rest if is_public else guarded)(scope, receive, send)

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncGenerator[None]:
        async with mcp.session_manager.run(), peers.running() if peers else contextlib.nullcontext():
            yield

    health = _Health(sessions, drain)
    app = Starlette(
        routes=[
            Route("/healthz", health.alive),
            Route("/readyz", health.ready),
            *public,
        ],
        middleware=middleware,
        lifespan=lifespan,
    )
    app.router.default = without_token  # unlike `Mount`, for paths with line breaks, too
    counted = count_responses(addresses.before(app), metrics.count_response)
    return unambiguous(refusals_reported(counted, audited(trail))), drain


def _endpoints(
    mcp: AgentRunServer, rest: ASGIApp, sessions: SessionManager, metrics: Metrics, origins: Origins
) -> ASGIApp:
    """Return the endpoints for authenticated clients, with the limits of each client."""
    settings = sessions.settings
    unchecked = TransportSecuritySettings(enable_dns_rebinding_protection=False)  # Origins is stricter
    answer_as_json()
    streamable = mcp.streamable_http_app(
        transport_security=unchecked,
        session_idle_timeout=settings.serve.idle_ttl,
        max_sessions=settings.serve.max_total * 16,
        max_request_body_size=settings.serve.body_limit,
    )
    sse = SseServerTransport(_MESSAGES, security_settings=unchecked, max_request_body_size=settings.serve.body_limit)

    async def show_metrics(_: Request) -> Response:
        return PlainTextResponse(metrics.text())

    routes: list[BaseRoute] = [
        *streamable.routes,
        Route("/sse", _Sse(mcp, sse), methods=["GET"]),
        Mount(_MESSAGES, sse.handle_post_message),
        Route("/metrics", show_metrics),
    ]
    checked = _checked(Router(routes), origins)
    quota = SessionQuota(checked, most=settings.limits.max_sandboxes * 4, idle=settings.serve.idle_ttl)

    async def by_path(scope: Scope, receive: Receive, send: Send) -> None:
        to_rest = scope["type"] == "http" and is_rest(scope["path"])
        await (rest if to_rest else quota)(scope, receive, send)

    timely = with_timely_bodies(by_path)
    return RateLimit(timely, rate=settings.serve.rate_limit, on_refusal=lambda: metrics.count_limited("principal"))


def _limited(rest: ASGIApp, settings: Settings) -> ASGIApp:
    """Return *rest* with the limit of bodies that the endpoints of MCP have."""
    limited = RequestBodyLimitMiddleware(rest, settings.serve.body_limit)

    async def by_method(scope: Scope, receive: Receive, send: Send) -> None:
        # What is uploaded is limited by the size of the workspace, and is not held in memory.
        app = rest if scope["method"] == "PUT" else limited
        with through(interface_of(scope["path"])):
            await app(scope, receive, send)

    return by_method


def _checked(app: ASGIApp, origins: Origins) -> ASGIApp:
    """Return *app* with the check of Host and Origin, for what pages should not reach: all but the metrics."""

    async def checked(scope: Scope, receive: Receive, send: Send) -> None:
        is_checked = scope["type"] == "http" and interface_of(scope["path"]) is not None
        await ((is_checked and origins.refusal(scope)) or app)(scope, receive, send)

    return checked


_MESSAGES = "/messages/"


class _Sse:
    """The endpoint for streams of clients over SSE."""

    def __init__(self, mcp: AgentRunServer, transport: SseServerTransport) -> None:
        self._mcp = mcp
        self._transport = transport

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._transport.connect_sse(scope, receive, send) as (read, write):
            await self._mcp.run(read, write, self._mcp.create_initialization_options())


def _authenticated(
    app: ASGIApp, tokens: Tokens | ResourceServer | None
) -> tuple[ASGIApp, list[Middleware], list[Route]]:
    """Return *app* with token authentication, and the middleware and public routes that it needs."""
    if tokens is None:
        return app, [], []
    if isinstance(tokens, ResourceServer):
        backend = BearerAuthBackend(tokens.verifier, resource_server_url=tokens.resource)
        guarded, public = RequireAuthMiddleware(app, tokens.scopes, tokens.metadata), tokens.routes
    else:
        backend = BearerAuthBackend(tokens)
        guarded, public = RequireAuthMiddleware(app, []), list[Route]()
    return guarded, [Middleware(AuthenticationMiddleware, backend=backend)], public


class _Health:
    """Endpoints for a supervisor of the server's process."""

    def __init__(self, sessions: SessionManager, drain: Drain) -> None:
        self._sessions = sessions
        self._drain = drain

    async def alive(self, _: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def ready(self, _: Request) -> Response:
        if self._drain.draining:
            return JSONResponse({"status": SHUTTING_DOWN}, 503)
        try:
            with anyio.fail_after(READY_SECONDS):
                await self._sessions.ready()
        except (AgentRunError, TimeoutError):
            return JSONResponse({"status": "the container engine does not respond"}, 503)
        return JSONResponse({"status": "ok"})
