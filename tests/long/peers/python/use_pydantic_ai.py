"""The toolset by which agents of Pydantic AI use a server."""

from __future__ import annotations

from check import ARGUMENTS, COMMAND, HEADERS, TOOLS, URL, demand, main
from fastmcp.client.transports import StdioTransport
from fastmcp.exceptions import ToolError
from pydantic_ai.mcp import MCPToolset


async def try_all() -> None:
    toolsets = {
        "stdio": MCPToolset(StdioTransport(COMMAND, ARGUMENTS), tool_error_behavior="error"),
        "http": MCPToolset(URL, headers=HEADERS, tool_error_behavior="error"),
    }
    for transport, toolset in toolsets.items():
        async with toolset:
            assert {tool.name for tool in await toolset.list_tools()} == TOOLS

            async def run(toolset: MCPToolset = toolset, **arguments: str) -> tuple[str, bool]:
                try:
                    return await toolset.direct_call_tool("run_python", arguments), False
                except ToolError as error:
                    return str(error), True

            await demand(transport, toolset.client.protocol_version, run)


main(try_all, "pydantic-ai-slim", "fastmcp-slim", "mcp")
