"""The tools that langchain-mcp-adapters makes for agents of LangChain."""

from __future__ import annotations

from check import ARGUMENTS, COMMAND, HEADERS, TOOLS, URL, demand, main, text_of
from langchain_core.tools import BaseTool
from langchain_mcp_adapters.client import MultiServerMCPClient
from langchain_mcp_adapters.tools import load_mcp_tools


async def try_all() -> None:
    client = MultiServerMCPClient(
        {
            "stdio": {"transport": "stdio", "command": COMMAND, "args": ARGUMENTS},
            "http": {"transport": "http", "url": URL, "headers": HEADERS},
            "sse": {"transport": "sse", "url": URL.replace("/mcp", "/sse"), "headers": HEADERS},
        }
    )
    for transport in ("stdio", "http", "sse"):
        async with client.session(transport, auto_initialize=False) as session:
            protocol = (await session.initialize()).protocolVersion
            tools = {tool.name: tool for tool in await load_mcp_tools(session)}
            assert set(tools) == TOOLS

            async def run(tool: BaseTool = tools["run_python"], **arguments: str) -> tuple[str, bool]:
                call = {"type": "tool_call", "id": "1", "name": tool.name, "args": arguments}
                message = await tool.ainvoke(call)
                return text_of(message.content), message.status == "error"

            await demand(transport, protocol, run)


main(try_all, "langchain-mcp-adapters", "mcp")
