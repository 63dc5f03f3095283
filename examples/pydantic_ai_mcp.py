# /// script
# requires-python = ">=3.11"
# dependencies = ["pydantic-ai-slim[mcp,openai]==2.68.0"]
# ///
"""Pydantic AI with the MCP server, and an answer of a type.

OPENAI_API_KEY=... uv run pydantic_ai_mcp.py "Fit a line to (1, 2.1), (2, 3.9), (3, 6.2) and (4, 7.8)."
"""

import asyncio
import os
import sys

from fastmcp.client.transports import StdioTransport
from pydantic import BaseModel
from pydantic_ai import Agent
from pydantic_ai.mcp import MCPToolset

MODEL = os.environ.get("MODEL", "openai:gpt-5.5")
QUESTION = "How many of the first 100,000 integers are prime?"


class Answer(BaseModel):
    text: str
    numbers: list[float]


async def main(question: str) -> None:
    # The whole environment, because the server needs DOCKER_HOST or a proxy where you have set one.
    transport = StdioTransport("uvx", ["mcp-agentrun"], env=dict(os.environ), keep_alive=False)
    python = MCPToolset(
        transport,
        init_timeout=None,  # instead of 10 s: uvx may have to download the server first
        tool_error_behavior="failed",  # instead of giving up after so many tracebacks
    )
    agent = Agent(
        MODEL,
        output_type=Answer,
        instructions="Whenever something can be computed, compute it with run_python.",
        toolsets=[python],
    )
    async with agent:
        result = await agent.run(question)
    print(result.output.text, *result.output.numbers, sep="\n")


if __name__ == "__main__":
    asyncio.run(main(" ".join(sys.argv[1:]) or QUESTION))
