"""Everything private or provisional in the MCP SDK that this server uses.

`tests/unit/test_connections.py` fails when a release of the SDK changes any of it.
"""

from __future__ import annotations

import re
import warnings
from typing import Any

from mcp import MCPDeprecationWarning
from mcp.server.connection import Connection, NotifyOnlyOutbound
from mcp.server.context import ServerRequestContext
from mcp.shared._stream_protocols import ReadStream, WriteStream
from mcp.shared.message import SessionMessage

__all__ = ["MessageReader", "MessageWriter", "RequestContext", "connection_of", "is_duplex", "send_log_message"]

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
