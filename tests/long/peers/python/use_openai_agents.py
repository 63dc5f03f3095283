"""The servers that agents of the OpenAI Agents SDK are given."""

from __future__ import annotations

from agents.mcp import MCPServer, MCPServerSse, MCPServerStdio, MCPServerStreamableHttp
from check import ARGUMENTS, COMMAND, HEADERS, TOOLS, URL, demand, main, text_of

SECONDS = 60  # instead of 5: the first call may wait for a sandbox


async def try_all() -> None:
    servers = {
        "stdio": MCPServerStdio({"command": COMMAND, "args": ARGUMENTS}, client_session_timeout_seconds=SECONDS),
        "http": MCPServerStreamableHttp({"url": URL, "headers": HEADERS}, client_session_timeout_seconds=SECONDS),
        "sse": MCPServerSse(
            {"url": URL.replace("/mcp", "/sse"), "headers": HEADERS}, client_session_timeout_seconds=SECONDS
        ),
    }
    for transport, server in servers.items():
        async with server:
            assert {tool.name for tool in await server.list_tools()} == TOOLS

            async def run(server: MCPServer = server, **arguments: str) -> tuple[str, bool]:
                result = await server.call_tool("run_python", arguments)
                return text_of(result.content), result.is_error

            await demand(transport, server.session.protocol_version, run)


main(try_all, "openai-agents", "mcp")
