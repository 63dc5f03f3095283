# /// script
# requires-python = ">=3.10"
# dependencies = ["mcp-agentrun>=0.1", "openai==3.57.0"]
# ///
"""A table in, a report with plots out: a data analyst with OpenAI's responses API, who sees the plots it draws.

    OPENAI_API_KEY=... uv run data_report.py sales.csv report "Which region grows fastest, and why?"

The table goes into a sandbox. The report, and every other file that the model has made, comes out into a folder.
"""

import argparse
import base64
import json
import os
from pathlib import Path
from typing import cast

from openai import OpenAI
from openai.types.responses import (
    FunctionToolParam,
    ResponseFunctionCallOutputItemListParam,
    ResponseFunctionToolCall,
    ResponseInputParam,
)

from mcp_agentrun import InvalidRequestError, Sandbox, SandboxLostError, describe

MODEL = os.environ.get("MODEL", "gpt-5.5")
INSTRUCTIONS = """\
You are a data analyst. The table is in {name}, in the current folder. Look at it, check it for gaps and errors, and
answer the question with numbers that you have computed. Show your plots and look at them before you use them. Write
the report as report.md, with the plots as PNG files beside it. End with a summary in three sentences."""
TOOL: FunctionToolParam = {
    "type": "function",
    "name": "run_python",
    "description": "Run Python and return what it prints, with the plots it shows. Variables and files are kept "
    "between calls. numpy, pandas and matplotlib are there; other packages are installed when they are imported.",
    "parameters": {
        "type": "object",
        "properties": {"code": {"type": "string"}},
        "required": ["code"],
        "additionalProperties": False,
    },
    "strict": True,
}


def analyse(client: OpenAI, sandbox: Sandbox, table: str, question: str) -> str:
    """Ask the model, and run its code until it is done."""
    conversation: ResponseInputParam = [{"role": "user", "content": question}]
    while True:
        response = client.responses.create(
            model=MODEL, instructions=INSTRUCTIONS.format(name=table), input=conversation, tools=[TOOL]
        )
        conversation += cast("ResponseInputParam", response.output)
        calls = [item for item in response.output if isinstance(item, ResponseFunctionToolCall)]
        if not calls:
            return response.output_text
        for call in calls:
            output = run(sandbox, call.arguments)
            conversation.append({"type": "function_call_output", "call_id": call.call_id, "output": output})


def run(sandbox: Sandbox, arguments: str) -> ResponseFunctionCallOutputItemListParam:
    """Run the code of one call, and return its output with its pictures."""
    try:
        result = sandbox.run(json.loads(arguments)["code"], timeout=120)
    except (ValueError, LookupError, TypeError, InvalidRequestError, SandboxLostError) as error:
        return [{"type": "input_text", "text": f"{type(error).__name__}: {error}"}]
    output: ResponseFunctionCallOutputItemListParam = [{"type": "input_text", "text": describe(result, images=True)}]
    for image in result.images:
        data = base64.b64encode(image.data).decode()
        output.append({"type": "input_image", "image_url": f"data:image/png;base64,{data}"})
    return output


def save(sandbox: Sandbox, folder: Path, *, but: str) -> list[Path]:
    """Save the files of the sandbox in *folder*, *but* one, and return their paths."""
    saved: list[Path] = []
    for file in sandbox.files.list():
        if file.path != but:
            target = folder / file.path
            target.parent.mkdir(parents=True, exist_ok=True)
            sandbox.files.save(file, target)
            saved.append(target)
    return saved


def main() -> None:
    parser = argparse.ArgumentParser(description="Have a model analyse a table, and write a report about it.")
    parser.add_argument("table", type=Path)
    parser.add_argument("folder", type=Path, nargs="?", default=Path("report"))
    parser.add_argument("question", nargs="?", default="What are the most important findings in this table?")
    options = parser.parse_args()
    with Sandbox(memory="2g") as sandbox:
        sandbox.files.write(options.table.name, options.table)
        print(analyse(OpenAI(), sandbox, options.table.name, options.question))
        print("", *save(sandbox, options.folder, but=options.table.name), sep="\n")


if __name__ == "__main__":
    main()
