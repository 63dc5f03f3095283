# /// script
# requires-python = ">=3.10"
# dependencies = ["mcp-agentrun>=0.1", "openai==3.57.0"]
# ///
"""An agent loop with OpenAI's client, for any endpoint that implements chat completions.

    OPENAI_API_KEY=... uv run openai_chat.py "How many digits does 2**1000 have?"
    OPENAI_BASE_URL=http://localhost:11434/v1 OPENAI_API_KEY=ollama MODEL=qwen3 uv run openai_chat.py

`agent_loop.py` is the same without a dependency, and more patient with weak models.
"""

import json
import os
import sys
from typing import cast

from openai import OpenAI
from openai.types.chat import ChatCompletionFunctionToolParam, ChatCompletionMessageParam

from mcp_agentrun import InvalidRequestError, Sandbox, SandboxLostError, describe

MODEL = os.environ.get("MODEL", "gpt-5.5")
QUESTION = "Which day of the week was the 1st of January most often between 1900 and 2000?"

SYSTEM = "Whenever something can be computed, compute it with run_python. If code fails, fix it and run it again."
TOOL: ChatCompletionFunctionToolParam = {
    "type": "function",
    "function": {
        "name": "run_python",
        "description": "Run Python and return what it prints. Variables, imports and files are kept between calls.",
        "parameters": {"type": "object", "properties": {"code": {"type": "string"}}, "required": ["code"]},
    },
}


def answer(client: OpenAI, sandbox: Sandbox, question: str) -> str:
    """Ask the model, and run its code until it has an answer."""
    messages: list[ChatCompletionMessageParam] = [
        {"role": "system", "content": SYSTEM},
        {"role": "user", "content": question},
    ]
    while True:
        completion = client.chat.completions.create(model=MODEL, messages=messages, tools=[TOOL])
        message = completion.choices[0].message
        messages.append(cast("ChatCompletionMessageParam", message.to_dict()))
        if not message.tool_calls:
            return message.content or ""
        for call in message.tool_calls:
            arguments = call.function.arguments if call.type == "function" else call.custom.input
            messages.append({"role": "tool", "tool_call_id": call.id, "content": run(sandbox, arguments)})


def run(sandbox: Sandbox, arguments: str) -> str:
    """Run the code in a call's *arguments*. What is wrong with it is told to the model, which can do better."""
    try:
        return describe(sandbox.run(json.loads(arguments)["code"]))
    except (ValueError, LookupError, TypeError, InvalidRequestError, SandboxLostError) as error:
        return f"{type(error).__name__}: {error}. The arguments are an object with the string `code`."


if __name__ == "__main__":
    with Sandbox() as sandbox:
        print(answer(OpenAI(), sandbox, " ".join(sys.argv[1:]) or QUESTION))
