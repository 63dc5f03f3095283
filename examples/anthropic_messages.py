# /// script
# requires-python = ">=3.10"
# dependencies = ["anthropic==2.14.0", "mcp-agentrun>=0.1"]
# ///
"""Claude with a Python of its own: tool use in Anthropic's messages API. Claude sees the plots that its code draws.

ANTHROPIC_API_KEY=... uv run anthropic_messages.py "Plot a Lissajous figure, and tell me what it resembles."
"""

import base64
import os
import sys
from collections.abc import Iterator

from anthropic import Anthropic
from anthropic.types import ImageBlockParam, MessageParam, TextBlockParam, ToolParam, ToolResultBlockParam

from mcp_agentrun import InvalidRequestError, Result, Sandbox, SandboxLostError, describe

MODEL = os.environ.get("MODEL", "claude-opus-5")
QUESTION = "Draw 200 steps of a random walk in two dimensions. How far did it get, and what does its path look like?"

TOOL: ToolParam = {
    "name": "run_python",
    "description": "Run Python and return what it prints, with the plots it draws. Variables, imports and files are "
    "kept between calls. numpy, pandas and matplotlib are imported in no time; other packages are installed on import.",
    "input_schema": {"type": "object", "properties": {"code": {"type": "string"}}, "required": ["code"]},
}


def answer(client: Anthropic, sandbox: Sandbox, question: str) -> str:
    """Ask Claude, and run its code until it has an answer."""
    messages: list[MessageParam] = [{"role": "user", "content": question}]
    while True:
        reply = client.messages.create(model=MODEL, max_tokens=8192, messages=messages, tools=[TOOL])
        messages.append({"role": "assistant", "content": reply.content})
        results = [run(sandbox, block.id, block.input) for block in reply.content if block.type == "tool_use"]
        if not results:
            return "".join(block.text for block in reply.content if block.type == "text")
        messages.append({"role": "user", "content": results})


def run(sandbox: Sandbox, call: str, arguments: dict[str, object]) -> ToolResultBlockParam:
    """Run the code of one call, and return what Claude should know about it."""
    try:
        result = sandbox.run(str(arguments.get("code", "")))
    except (InvalidRequestError, SandboxLostError) as error:
        return {"type": "tool_result", "tool_use_id": call, "content": str(error), "is_error": True}
    failed = result.outcome != "ok"
    return {"type": "tool_result", "tool_use_id": call, "content": list(blocks(result)), "is_error": failed}


def blocks(result: Result) -> Iterator[TextBlockParam | ImageBlockParam]:
    """The text of a result, and its pictures."""
    yield {"type": "text", "text": describe(result, images=True)}
    for image in result.images:
        data = base64.b64encode(image.data).decode()
        yield {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": data}}


if __name__ == "__main__":
    with Sandbox() as sandbox:
        print(answer(Anthropic(), sandbox, " ".join(sys.argv[1:]) or QUESTION))
