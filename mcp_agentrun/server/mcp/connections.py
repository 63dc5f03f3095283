"""Whose call it is, and what its client has asked for, by what the SDK knows of it. All that touches the SDK's private
connection object is here.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Hashable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from mcp.server.connection import NotifyOnlyOutbound
from mcp.server.context import ServerRequestContext
from mcp.server.mcpserver import MCPServer
from mcp.types import EmptyResult, SetLevelRequestParams
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from ...sessions import STDIO, Caller
from ..http.tokens import principal_of

__all__ = ["CallerOf", "Lifespan", "accept_log_levels", "by_connection", "on_stdio", "streams", "wants_log_messages"]

CallerOf = Callable[[ServerRequestContext[Any, Any]], Caller]
Lifespan = Callable[[MCPServer[Any]], AbstractAsyncContextManager[Any]]

_SEEN = "agentrun.seen"
_LEVEL = "agentrun.log_level"


def on_stdio(_: ServerRequestContext[Any, Any]) -> Caller:
    """The one client of a server over stdio."""
    return STDIO


def by_connection(disconnect: Callable[[Hashable], None]) -> CallerOf:
    """How to tell the callers of a server over HTTP apart.

    Before 2026-07-28 there is a connection, which lives from the handshake to the end of the session. Later requests
    each stand alone, unless they come over one stream of SSE: then that is the connection, if the server was given
    `streams`. The SDK makes a connection object for each of them nevertheless.

    :param disconnect: told when a connection has ended.
    """

    def caller_of(ctx: ServerRequestContext[Any, Any]) -> Caller:
        connection: Any = ctx.session._connection  # pyright: ignore[reportPrivateUsage]
        principal = "" if ctx.request is None else principal_of(ctx.request.scope)
        if connection.protocol_version in MODERN_PROTOCOL_VERSIONS:
            stream: object = ctx.lifespan_context
            if not isinstance(stream, _Stream) or not isinstance(connection.outbound, NotifyOnlyOutbound):
                return Caller(None, principal)
            stream.is_used = True
            return Caller(stream, principal)
        if _SEEN not in connection.state:
            connection.state[_SEEN] = True
            connection.exit_stack.callback(disconnect, connection)
        return Caller(connection, principal)

    return caller_of


class _Stream:
    """Over which a client sends all its requests, or, where they come one by one, what stands for none."""

    is_used = False


def streams(disconnect: Callable[[Hashable], None]) -> Lifespan:
    """A lifespan for a server over HTTP, whose clients over SSE are known by their streams.

    :param disconnect: see `by_connection`.
    """

    @asynccontextmanager
    async def lifespan(_: MCPServer[Any]) -> AsyncGenerator[Any]:
        stream = _Stream()
        try:
            yield stream
        finally:
            if stream.is_used:
                disconnect(stream)

    return lifespan


def accept_log_levels(server: MCPServer[Any]) -> None:
    """Let clients of a version with a handshake say from which level on they want log messages; else they get none."""

    async def on_set_level(ctx: ServerRequestContext[Any, Any], params: SetLevelRequestParams) -> EmptyResult:
        ctx.session._connection.state[_LEVEL] = params.level  # pyright: ignore[reportPrivateUsage]
        return EmptyResult()

    lowlevel = server._lowlevel_server  # pyright: ignore[reportPrivateUsage]
    lowlevel.add_request_handler("logging/setLevel", SetLevelRequestParams, on_set_level)


def wants_log_messages(ctx: ServerRequestContext[Any, Any]) -> bool:
    """Whether the client has asked for log messages of the level ``info``, for its connection or with this request."""
    if "io.modelcontextprotocol/logLevel" in (ctx.meta or {}):
        return True  # of which level, the SDK sees to
    return ctx.session._connection.state.get(_LEVEL) in ("debug", "info")  # pyright: ignore[reportPrivateUsage]
