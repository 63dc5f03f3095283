# /// script
# requires-python = ">=3.10"
# dependencies = ["openai-agents==0.24.0"]
# ///
"""OpenAI's Agents SDK with the MCP server.

OPENAI_API_KEY=... uv run openai_agents_mcp.py "Is 2**31 - 1 prime? Prove it by trial division."
"""

import asyncio
import os
import sys

from agents import Agent, RunConfig, Runner
from agents.mcp import MCPServerStdio

MODEL = os.environ.get("MODEL", "gpt-5.5")
QUESTION = "Estimate pi with a million random points, and show how the estimate converges."


async def main(question: str) -> None:
    server = MCPServerStdio(
        # The whole environment, because the server needs DOCKER_HOST or a proxy where you have set one.
        params={"command": "uvx", "args": ["mcp-agentrun"], "env": dict(os.environ)},
        client_session_timeout_seconds=None,  # instead of 5 s: the server has time limits of its own
    )
    async with server:
        agent = Agent(
            name="Analyst",
            instructions="Whenever something can be computed, compute it with run_python.",
            model=MODEL,
            mcp_servers=[server],
        )
        result = await Runner.run(agent, question, run_config=RunConfig(tracing_disabled=True))
        print(result.final_output)


if __name__ == "__main__":
    asyncio.run(main(" ".join(sys.argv[1:]) or QUESTION))
