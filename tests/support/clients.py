"""MCP clients of the server, and the parts of an answer."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Collection
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

import psutil
from mcp import Client, StdioServerParameters
from mcp.types import CallToolResult, TextContent

from tests.support import BARE


class OpenClient(Protocol):
    def __call__(
        self, *arguments: str, mode: str = "auto", env: dict[str, str] | None = None
    ) -> AbstractAsyncContextManager[Client]: ...


def server_parameters(*arguments: str, env: dict[str, str] | None = None) -> StdioServerParameters:
    """How a client starts our server, with this process's environment."""
    return StdioServerParameters(
        command=sys.executable, args=["-m", "mcp_agentrun", *arguments], env={**os.environ, **BARE, **(env or {})}
    )


async def run(client: Client, code: str, **arguments: Any) -> CallToolResult:
    return await client.call_tool("run_python", {"code": code, **arguments})


def text_of(result: CallToolResult) -> str:
    assert all(isinstance(block, TextContent) for block in result.content)
    return "".join(block.text for block in result.content if isinstance(block, TextContent))


def client_text(result: Any) -> str:
    return "".join(block.text for block in result.content if isinstance(block, TextContent))


def facts_of(result: CallToolResult) -> dict[str, Any]:
    assert result.meta is not None
    return result.meta["agentrun/run"]


def server_processes() -> set[psutil.Process]:
    """The servers that clients of this process have started."""
    found: set[psutil.Process] = set()
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.NoSuchProcess):  # it has ended
            if "mcp_agentrun" in child.cmdline():
                found.add(child)
    return found


def server_process(besides: Collection[psutil.Process] = ()) -> psutil.Process:
    """The only server of `server_processes` but for *besides*."""
    (server,) = server_processes() - set(besides)
    return server
