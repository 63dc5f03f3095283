"""The server over HTTP: streamable HTTP at ``/mcp``, and the older SSE endpoints at ``/sse``, for many clients."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import logging
import signal
import socket
import sys
from collections.abc import AsyncGenerator, Generator
from typing import Any, NoReturn

import anyio
import uvicorn
from mcp.server.auth.middleware.bearer_auth import BearerAuthBackend, RequireAuthMiddleware
from mcp.server.transport_security import TransportSecuritySettings
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from ...errors import AgentRunError, SettingsError
from ...process_exit import INTERRUPTED, exit_at_once
from ...sandbox import AsyncRuntime
from ...sessions import Sessions
from ...settings import Settings
from ..logs import configure_logging
from ..mcp.app import build_server
from ..mcp.connections import by_connection, streams
from .limits import Drain, RateLimit, SessionShare, StrangerLimit, counted
from .metrics import Metrics
from .oauth import ResourceServer
from .tokens import Tokens, default_token_file

__all__ = ["build_app", "serve_http"]

logger = logging.getLogger(__name__)

CLOSE_SECONDS = 2
"""What connections that are still open get at the end, before they are cut."""

READY_SECONDS = 5.0


def serve_http(settings: Settings) -> NoReturn:
    """Serve until a signal ends it; then remove the containers and exit.

    :raises SettingsError: it would be open to others without a token, the token file is of no use, or the address is
        taken or not this machine's.
    """
    configure_logging(settings, settings.serve.log_format)
    tokens = ResourceServer.from_settings(settings) if settings.serve.auth else None
    if settings.serve.auth and tokens is None:
        where = default_token_file()
        named = settings.serve.token_file
        tokens, new = (Tokens.from_file(named), None) if named else Tokens.generated(where)
        if new is not None:
            # Where stderr is for a machine to read, it has no part in secrets.
            told = sys.stderr if settings.serve.log_format == "text" else sys.stdout
            told.write(f"A token was made and is kept in {where}. Clients send it as\n")
            told.write(f"  Authorization: Bearer {new}\n")
            told.flush()
    elif not (settings.serve.auth or is_loopback(settings.serve.host) or settings.serve.allow_public_without_auth):
        raise SettingsError(
            f"without a token, everybody who reaches {settings.serve.host} could run code here; leave `auth` on, "
            "listen on 127.0.0.1, or add --allow-public-without-auth if something else keeps them out"
        )
    listening = _listen(settings.serve.host, settings.serve.port)
    try:
        code = anyio.run(_serve, settings, tokens, listening)
    except KeyboardInterrupt:  # on Windows, once the sandboxes are gone
        code = INTERRUPTED
    exit_at_once(code)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach *host*."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _listen(host: str, port: int) -> list[socket.socket]:
    """Sockets that listen on the addresses of *host* which this machine has.

    :raises SettingsError: there is none, one is taken, or no host can have that name.
    """
    opened: list[socket.socket] = []
    problem: OSError | None = None
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, kind, protocol, _, address in dict.fromkeys(found):
            try:
                descriptor = socket.create_server(address, family=family).detach()
            except OSError as error:
                if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):  # such as ::1, where IPv6 is off
                    raise
                problem = error
            else:
                # Without its protocol asyncio does not know it for TCP, and small answers wait for the client.
                opened.append(socket.socket(family, kind, protocol, descriptor))
        if problem is not None and not opened:
            raise problem
    except (OSError, UnicodeError) as error:  # the latter of a name that no host can have
        for one in opened:
            one.close()
        reason = error.strerror if isinstance(error, OSError) else "no host can have that name"
        raise SettingsError(f"{_in_url(host)}:{port} can't be listened on: {reason}") from None
    return opened


def _in_url(host: str) -> str:
    """*host* as it stands in addresses and in the header Host."""
    return f"[{host}]" if ":" in host else host


class _Server(uvicorn.Server):
    """uvicorn without its own handling of signals: calls are to be answered before anything is closed."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        yield


def _tell(settings: Settings, text: str) -> None:
    """Say *text* to whoever has started the server, whatever is logged."""
    if settings.serve.log_format == "text" and not logger.isEnabledFor(logging.INFO):
        sys.stderr.write(f"mcp-agentrun: {text}\n")
        sys.stderr.flush()
    else:
        logger.info("%s", text)


async def _serve(settings: Settings, tokens: Tokens | ResourceServer | None, listening: list[socket.socket]) -> int:
    ended_by = 0
    sessions = Sessions(AsyncRuntime(settings), is_shared=True)
    app, drain = build_app(sessions, tokens)
    server = _Server(
        uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            server_header=False,
            # Who may say where he comes from would be an address of his own at each request.
            proxy_headers=bool(settings.serve.trusted_proxies),
            forwarded_allow_ips=list(settings.serve.trusted_proxies),
            timeout_graceful_shutdown=CLOSE_SECONDS,
        )
    )

    async def end_on_signal() -> None:
        nonlocal ended_by
        with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            async for number in signals:
                if drain.draining:  # asked again: at once
                    exit_at_once(128 + number)
                ended_by = int(number)
                logger.info("ending: calls under way are answered first")
                drain.begin()
                tasks.start_soon(end_when_drained)

    async def end_when_drained() -> None:
        with anyio.move_on_after(settings.serve.drain):
            await sessions.idle()  # on SSE the request of a call ends before the call does
            await drain.drained()
        server.should_exit = True

    # Signals are heeded until the sandboxes are gone as well, which an engine that does not answer may hold up.
    async with anyio.create_task_group() as tasks:
        async with sessions:
            if sys.platform != "win32":
                tasks.start_soon(end_on_signal)
            for one in listening:
                host, port, *_ = one.getsockname()
                _tell(settings, f"listening on http://{_in_url(host)}:{port}")
            await server.serve(listening)
        tasks.cancel_scope.cancel()
    if not server.started:
        return 1
    return 128 + ended_by if ended_by else 0


def build_app(sessions: Sessions, tokens: Tokens | ResourceServer | None) -> tuple[ASGIApp, Drain]:
    """The ASGI application over *sessions*, and what drains it.

    :param tokens: who may call; None lets everybody in.
    """
    settings = sessions.settings
    metrics = Metrics(sessions)
    ended = sessions.disconnect
    mcp = build_server(sessions, by_connection(ended), metrics.called, lifespan=streams(ended))
    security = _transport_security(settings)
    streamable = mcp.streamable_http_app(
        transport_security=security,
        session_idle_timeout=settings.serve.idle_ttl,
        max_sessions=settings.serve.max_total * 16,
        max_request_body_size=settings.serve.body_limit,
    )
    sse = mcp.sse_app(transport_security=security, max_request_body_size=settings.serve.body_limit)

    async def show_metrics(_: Request) -> Response:
        return PlainTextResponse(metrics.text())

    guarded: ASGIApp = RateLimit(
        SessionShare(
            Starlette(routes=[*streamable.routes, *sse.routes, Route("/metrics", show_metrics)]),
            most=settings.limits.max_sandboxes * 4,
            idle=settings.serve.idle_ttl,
        ),
        rate=settings.serve.rate_limit,
        on_refusal=lambda: metrics.limited("principal"),
    )
    drain = Drain(guarded)
    strangers = StrangerLimit(settings.serve.stranger_limit, on_refusal=lambda: metrics.limited("address"))
    endpoints: ASGIApp = strangers.behind(drain)
    backend: BearerAuthBackend | None = None
    public: list[Route] = []
    if isinstance(tokens, ResourceServer):
        endpoints = RequireAuthMiddleware(endpoints, tokens.scopes, tokens.metadata)
        backend = BearerAuthBackend(tokens.verifier, resource_server_url=tokens.resource)
        public = tokens.routes
    elif tokens is not None:
        endpoints = RequireAuthMiddleware(endpoints, [])
        backend = BearerAuthBackend(tokens)

    async def healthz(_: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def readyz(_: Request) -> Response:
        if drain.draining:
            return JSONResponse({"status": "shutting down"}, 503)
        try:
            with anyio.fail_after(READY_SECONDS):
                await sessions.ready()
        except (AgentRunError, TimeoutError):
            return JSONResponse({"status": "the container engine does not answer"}, 503)
        return JSONResponse({"status": "ok"})

    @contextlib.asynccontextmanager
    async def lifespan(_: Any) -> AsyncGenerator[None]:
        async with mcp.session_manager.run():
            yield

    app = Starlette(
        routes=[Route("/healthz", healthz), Route("/readyz", readyz), *public],
        middleware=[] if backend is None else [Middleware(AuthenticationMiddleware, backend=backend)],
        lifespan=lifespan,
    )
    app.mount("/", endpoints)
    return counted(strangers.before(app), metrics.responded), drain


def _transport_security(settings: Settings) -> TransportSecuritySettings:
    """Which Host and Origin headers are accepted: a web page must not reach the server by a name of its own."""
    local = ("127.0.0.1", "localhost", "[::1]")
    named = () if settings.serve.host in ("0.0.0.0", "::") else (_in_url(settings.serve.host),)  # noqa: S104
    return TransportSecuritySettings(
        allowed_hosts=[*(f"{host}:*" for host in (*local, *named)), *local, *named, *settings.serve.allowed_hosts],
        allowed_origins=[*(f"http://{host}:*" for host in local), *settings.serve.allowed_origins],
    )
