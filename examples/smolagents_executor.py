# /// script
# requires-python = ">=3.10"
# dependencies = ["mcp-agentrun>=0.1", "smolagents[openai]==1.26.0"]
# ///
"""A CodeAgent of smolagents that runs its code in a sandbox, with its tools.

OPENAI_API_KEY=... uv run smolagents_executor.py "Which Fibonacci number is the first with 100 digits?"
"""

import os
import sys

from smolagents import AgentError, CodeAgent, LogLevel, OpenAIModel, tool
from smolagents.local_python_executor import CodeOutput
from smolagents.monitoring import AgentLogger
from smolagents.remote_executors import RemotePythonExecutor

from mcp_agentrun import Sandbox, describe

MODEL = os.environ.get("MODEL", "gpt-5.5")
QUESTION = "What will 1000 euros be worth after 30 years at 4.5 % a year, after taxes?"


class SandboxExecutor(RemotePythonExecutor):
    """Runs an agent's code in *sandbox*, in which its tools are defined as well."""

    def __init__(self, sandbox: Sandbox, logger: AgentLogger) -> None:
        super().__init__([], logger)
        self._sandbox = sandbox

    def run_code_raise_errors(self, code: str) -> CodeOutput:
        result = self._sandbox.run(code)
        if result.error is not None and result.error.type == self.FINAL_ANSWER_EXCEPTION:
            last_line = result.text.rstrip("\n").rpartition("\n")[2]  # whole, unlike `result.error.message`
            answer = self._deserialize_final_answer(last_line.partition(": ")[2])
            return CodeOutput(answer, "", is_final_answer=True)
        if result.outcome != "ok":
            raise AgentError(describe(result), self.logger)
        return CodeOutput(result.value, describe(result).rstrip("\n") + "\n", is_final_answer=False)

    def install_packages(self, additional_imports: list[str]) -> list[str]:
        self._sandbox.install(*additional_imports)
        return additional_imports


@tool
def tax(gain: float) -> float:
    """Compute the tax on a capital gain.

    Args:
        gain: The gain in euros.
    """
    return round(max(0.0, gain - 1000) * 0.26375, 2)


def main(question: str) -> None:
    logger = AgentLogger(level=LogLevel.INFO)
    # `executor` must be there when the agent is made, which sends it the tools.
    with Sandbox() as sandbox:
        agent = CodeAgent(
            tools=[tax],
            model=OpenAIModel(MODEL, api_base=os.environ.get("OPENAI_BASE_URL")),
            executor=SandboxExecutor(sandbox, logger),
            additional_authorized_imports=["*"],  # which the agent's prompt says: the sandbox has no list of its own
            logger=logger,
        )
        print(agent.run(question))


if __name__ == "__main__":
    main(" ".join(sys.argv[1:]) or QUESTION)
