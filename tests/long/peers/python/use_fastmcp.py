"""FastMCP's client."""

from __future__ import annotations

from check import ARGUMENTS, COMMAND, HEADERS, TOOLS, URL, demand, main, text_of
from fastmcp import Client
from fastmcp.client.transports import SSETransport, StdioTransport, StreamableHttpTransport


async def try_all() -> None:
    for mode in ("legacy", "auto"):
        transports = {
            "stdio": StdioTransport(COMMAND, ARGUMENTS),
            "http": StreamableHttpTransport(URL, headers=HEADERS),
        }
        if mode == "legacy":  # it speaks no other era over SSE
            transports["sse"] = SSETransport(URL.replace("/mcp", "/sse"), headers=HEADERS)
        for name, transport in transports.items():
            async with Client(transport, mode=mode) as client:
                assert {tool.name for tool in await client.list_tools()} == TOOLS

                async def run(client: Client = client, **arguments: str) -> tuple[str, bool]:
                    result = await client.call_tool("run_python", arguments, raise_on_error=False)
                    return text_of(result.content), result.is_error

                await demand(name, client.protocol_version, run)


main(try_all, "fastmcp", "mcp")
