"""Everything private or provisional in the MCP SDK that this server uses.

`tests/unit/test_connections.py` fails when a release of the SDK changes any of it.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import AsyncIterator
from typing import Any

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream
from mcp import MCPDeprecationWarning
from mcp.server import streamable_http
from mcp.server.connection import Connection, NotifyOnlyOutbound
from mcp.server.context import ServerRequestContext
from mcp.server.streamable_http import EventSourceResponse  # pyright: ignore[reportPrivateImportUsage]
from mcp.shared._stream_protocols import ReadStream, WriteStream
from mcp.shared.message import SessionMessage
from starlette.types import Receive, Scope, Send

__all__ = [
    "MessageReader",
    "MessageWriter",
    "RequestContext",
    "answer_as_json",
    "connection_of",
    "is_duplex",
    "send_log_message",
]

# Clients still ask for log messages, and there is no other way to send them.
warnings.filterwarnings("ignore", category=MCPDeprecationWarning, module=re.escape(__name__))

RequestContext = ServerRequestContext[Any, Any]
MessageReader = ReadStream[SessionMessage | Exception]
MessageWriter = WriteStream[SessionMessage]


def connection_of(ctx: RequestContext) -> Connection:
    """Return the connection of a request. Since 2026-07-28 the SDK makes one for each request."""
    return ctx.session._connection  # pyright: ignore[reportPrivateUsage]


def is_duplex(connection: Connection) -> bool:
    """Return whether requests of 2026-07-28 or later share one stream, as they do over stdio and SSE."""
    return isinstance(connection.outbound, NotifyOnlyOutbound)


async def send_log_message(ctx: RequestContext, text: str, logger: str) -> None:
    """Send *text* to the client as a log message of level ``info`` that belongs to the request."""
    await ctx.session.send_log_message(  # pyright: ignore[reportDeprecated]
        "info", text, logger, ctx.request_id
    )


STREAM_AFTER_SECONDS = 1.0
"""Time after which a request gets a stream of events, whose pings keep proxies from closing the connection."""


def answer_as_json() -> None:
    """Have streamable HTTP answer a request with one JSON message if there is nothing else to send, as the SDK does by
    itself since 2026-07-28. A stream of events takes five tasks, and clients close its connection after the answer.
    """
    streamable_http.EventSourceResponse = _Answer  # pyright: ignore[reportPrivateImportUsage]


class _Answer(EventSourceResponse):
    """What the SDK takes for a stream of events."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        sender = self.data_sender_callable
        if scope["method"] != "POST" or sender is None:
            await super().__call__(scope, receive, send)
            return
        events: MemoryObjectReceiveStream[dict[str, str]] = self.body_iterator  # pyright: ignore
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(sender)
            first = await _next_soon(events)
            # After the response, the sender closes the stream before the event loop gets here.
            if first is not None and not events.statistics().open_send_streams:
                await self._send_json(first["data"], send)
                return
            self.body_iterator, self.data_sender_callable = _all(first, events), None
            await super().__call__(scope, receive, send)
            tasks.cancel_scope.cancel()  # the client may have gone before the response

    async def _send_json(self, message: str, send: Send) -> None:
        body = message.encode()
        self.headers["content-type"] = "application/json"
        self.headers["content-length"] = str(len(body))
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": body})


async def _next_soon(events: MemoryObjectReceiveStream[dict[str, str]]) -> dict[str, str] | None:
    with anyio.move_on_after(STREAM_AFTER_SECONDS):
        try:
            return await events.receive()
        except anyio.EndOfStream:
            pass
    return None


async def _all(
    first: dict[str, str] | None, events: MemoryObjectReceiveStream[dict[str, str]]
) -> AsyncIterator[dict[str, str]]:
    if first is not None:
        yield first
    async for event in events:
        yield event
