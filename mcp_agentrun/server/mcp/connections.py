"""Identify the caller of a request, and what its client has subscribed to."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Hashable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from mcp.types import EmptyResult, SetLevelRequestParams
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from ...sessions import STDIO, Caller
from ..principals import principal_of
from .sdk import RequestContext, connection_of, is_duplex

__all__ = [
    "CallerOf",
    "Lifespan",
    "by_connection",
    "no_lifespan",
    "on_stdio",
    "set_log_level",
    "stream_lifespan",
    "wants_log_messages",
]

CallerOf = Callable[[RequestContext], Caller]
Lifespan = Callable[[Any], AbstractAsyncContextManager[Any]]

_SEEN = "agentrun.seen"
_LEVEL = "agentrun.log_level"


def on_stdio(_: RequestContext) -> Caller:
    """Return the only client of a server over stdio."""
    return STDIO


def by_connection(disconnect: Callable[[Hashable], None]) -> CallerOf:
    """Return a function that identifies the callers of a server over HTTP.

    Before 2026-07-28 a connection lasts from the handshake to the end of the MCP session. Later requests are
    independent, unless they share a stream, as over SSE: then the stream is the connection, if the server has the
    lifespan `stream_lifespan`.

    :param disconnect: called when a connection has ended.
    """

    def caller_of(ctx: RequestContext) -> Caller:
        connection = connection_of(ctx)
        principal = "" if ctx.request is None else principal_of(ctx.request.scope)
        if connection.protocol_version in MODERN_PROTOCOL_VERSIONS:
            stream: object = ctx.lifespan_context
            if not isinstance(stream, _Stream) or not is_duplex(connection):
                return Caller(None, principal)
            stream.is_used = True
            return Caller(stream, principal)
        if _SEEN not in connection.state:
            connection.state[_SEEN] = True
            connection.exit_stack.callback(disconnect, connection)
        return Caller(connection, principal)

    return caller_of


class _Stream:
    """The identity of a stream that carries all requests of one client."""

    is_used = False


@asynccontextmanager
async def no_lifespan(_: object) -> AsyncGenerator[None]:
    """Do nothing at the beginning and end of a stream."""
    yield


def stream_lifespan(disconnect: Callable[[Hashable], None]) -> Lifespan:
    """Return a lifespan for a server over HTTP that identifies clients over SSE by their streams.

    :param disconnect: see `by_connection`.
    """

    @asynccontextmanager
    async def lifespan(_: object) -> AsyncGenerator[Any]:
        stream = _Stream()
        try:
            yield stream
        finally:
            if stream.is_used:
                disconnect(stream)

    return lifespan


async def set_log_level(ctx: RequestContext, params: SetLevelRequestParams) -> EmptyResult:
    """Handle ``logging/setLevel``. Without it, clients of a version with a handshake get no log messages."""
    connection_of(ctx).state[_LEVEL] = params.level
    return EmptyResult()


def wants_log_messages(ctx: RequestContext) -> bool:
    """Return whether the client asked for log messages of level ``info``, with this request or for its connection."""
    if "io.modelcontextprotocol/logLevel" in (ctx.meta or {}):
        return True  # the SDK compares the level
    return connection_of(ctx).state.get(_LEVEL) in ("debug", "info")
