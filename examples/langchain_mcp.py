# /// script
# requires-python = ">=3.11"
# dependencies = ["langchain==1.5.2", "langchain-mcp-adapters==0.3.2", "langchain-openai==1.7.4"]
# ///
"""An agent of LangChain, which runs on LangGraph, with the MCP server.

OPENAI_API_KEY=... uv run langchain_mcp.py "Simulate the Monty Hall problem 10,000 times."
"""

import asyncio
import os
import sys

from langchain.agents import create_agent
from langchain_mcp_adapters.client import MultiServerMCPClient
from langchain_mcp_adapters.sessions import StdioConnection
from langchain_mcp_adapters.tools import load_mcp_tools

MODEL = os.environ.get("MODEL", "openai:gpt-5.5")
QUESTION = "What is the chance that two of 23 people share a birthday? Compute it exactly, then simulate it."


async def main(question: str) -> None:
    # The whole environment, because the server needs DOCKER_HOST or a proxy where you have set one.
    server = StdioConnection(transport="stdio", command="uvx", args=["mcp-agentrun"], env=dict(os.environ))
    # One session for the whole conversation: tools of `client.get_tools()` would start a new Python for each call.
    async with MultiServerMCPClient({"agentrun": server}).session("agentrun") as session:
        agent = create_agent(
            MODEL,
            await load_mcp_tools(session),
            system_prompt="Whenever something can be computed, compute it with run_python.",
        )
        state = await agent.ainvoke({"messages": [{"role": "user", "content": question}]})
    print(state["messages"][-1].text)


if __name__ == "__main__":
    asyncio.run(main(" ".join(sys.argv[1:]) or QUESTION))
