"""The programs in ``examples/`` that give a model a Python: what a scripted model says to each, and what it must be
told.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mcp_agentrun.sandbox.pictures import parse_png
from tests.support import CHECKOUT
from tests.support.scripted_model import call, scripted_model

__all__ = ["EXAMPLES", "FRAMEWORKS", "LIBRARY", "AgentExample", "run_example"]

SECONDS = 300
QUESTION = "What is the answer?"


@dataclass(frozen=True)
class AgentExample:
    """One program, and a conversation with it."""

    replies: Sequence[Any]
    """The model's replies, for `scripted_model`."""
    told: Sequence[str | tuple[str, int]]
    """What the model is told after each but the last reply: a text, or a text and the number of pictures with it."""
    prints: str
    """The end of what the program prints."""
    arguments: tuple[str, ...] = (QUESTION,)
    leaves: Mapping[str, Callable[[bytes], object]] | None = None
    """The files that it must leave, each with what must be true of its content."""


ERROR = """\
Traceback (most recent call last):
  File "<run-1>", line 1, in <module>
    print(question)
          ^^^^^^^^
NameError: name 'question' is not defined
"""
DRAW = "import matplotlib.pyplot as plt\nplt.plot([x, 1])\nopen('answer.txt', 'w').write(str(x))\nplt.show()"
WRITTEN = "[agentrun] Created: 'answer.txt' (2 B, text/plain)."
DRAWN = (f"[agentrun] 1 picture below: W x H pixels.\n{WRITTEN}", 1)
UNSEEN = "[agentrun] 1 picture was drawn, and can't be shown here."

ANSWER = "The answer is 42."
CALLS = (call("print(question)"), call("x = 41\nprint('so far', x)\nx + 1"), call(DRAW))
SO_FAR = "so far 41\n42\n"

PLAIN = AgentExample((*CALLS, ANSWER), (ERROR, SO_FAR, DRAWN), ANSWER)


def _command(line: str) -> dict[str, Any]:
    return call(name="execute", arguments=json.dumps({"command": line}))


def _file_tool(name: str, **arguments: str) -> dict[str, Any]:
    return call(name=name, arguments=json.dumps(arguments))


def _code(code: str) -> str:
    return f"Thought: I compute it.\n<code>\n{code}\n</code>"


REPORT = "# Penguins\n\n![Mass](plot.png)\n"
WRITTEN_REPORT = "[agentrun] Created: 'plot.png' (N KiB, image/png), 'report.md' (30 B, text/markdown)."
LOOK = "import pandas as pd\ntable = pd.read_csv('penguins.csv')\ntable.shape"
WRITE = f"""
import matplotlib.pyplot as plt
table.body_mass_g.plot.hist()
plt.savefig("plot.png")
with open("report.md", "w") as report:
    report.write({REPORT!r})
plt.show()
"""

LIBRARY: dict[str, AgentExample] = {
    "openai_chat": AgentExample((*CALLS, ANSWER), (ERROR, SO_FAR, f"{UNSEEN}\n{WRITTEN}"), ANSWER),
    "anthropic_messages": PLAIN,
    "data_report": AgentExample(
        (call(LOOK), call(WRITE), ANSWER),
        (
            "(344, 8)\n",
            (
                "[agentrun] 1 picture below: W x H pixels.\n" + WRITTEN_REPORT,
                1,
            ),
        ),
        f"{ANSWER}\n\nout/plot.png\nout/report.md",
        arguments=(str(CHECKOUT / "examples" / "penguins.csv"), "out", QUESTION),
        leaves={"out/plot.png": parse_png, "out/report.md": lambda data: data.decode() == REPORT},
    ),
}
"""Those that need no more than a client of an API."""

FRAMEWORKS: dict[str, AgentExample] = {
    "openai_agents_mcp": PLAIN,
    "langchain_mcp": PLAIN,
    "pydantic_ai_mcp": AgentExample(
        (*CALLS, call(name="final_result", arguments=json.dumps({"text": ANSWER, "numbers": [42]}))),
        # It wraps what a failed tool says.
        (json.dumps({"error": ERROR}, separators=(",", ":")), SO_FAR, DRAWN),
        f"{ANSWER}\n42.0",
    ),
    "deepagents_sandbox": AgentExample(
        (
            _command("echo out; echo err >&2; exit 3"),
            _file_tool("write_file", file_path="/workspace/answer.py", content="print('wrong')\nprint(6 * 7)\n"),
            _file_tool("edit_file", file_path="/workspace/answer.py", old_string="'wrong'", new_string="'right'"),
            _command("pwd; python3 answer.py"),
            _file_tool("read_file", file_path="/workspace/answer.py"),
            _file_tool("grep", pattern="6 * 7", path="/workspace"),
            _file_tool("glob", pattern="*.py", path="/workspace"),
            _file_tool("write_file", file_path="/etc/answer", content="42"),
            _file_tool("write_file", file_path="/tmp/answer", content="42"),
            _command("cat /tmp/answer"),
            ANSWER,
        ),
        (
            "out\nerr\n\n[Command failed with exit code 3]",
            "Updated file /workspace/answer.py",
            "Successfully replaced 1 instance(s) of the string in '/workspace/answer.py'",
            "/workspace\nright\n42\n\n[Command succeeded with exit code 0]",
            "@@ lines 1-2 of 2 @@\nprint('right')\nprint(6 * 7)",
            "/workspace/answer.py",
            "['/workspace/answer.py']",
            "Failed to write file '/etc/answer': permission_denied",
            "Updated file /tmp/answer",
            "42\n[Command succeeded with exit code 0]",
        ),
        ANSWER,
    ),
    "smolagents_executor": AgentExample(
        (
            _code("print(question)"),
            _code("x = tax(2000)\nprint('tax:', x)"),
            _code("import matplotlib.pyplot as plt\nplt.plot([x, 1]);"),
            _code("final_answer({'tax': x, 'long': 'x' * 5000})"),
        ),
        (
            # The first run has defined the tools.
            (
                f"Call id: call_1\nError:\n{ERROR.replace('run-1', 'run-2')}\nNow let's retry: take care not to repeat "
                "previous errors! If you have retried several times, try a completely different approach.\n"
            ),
            "Observation:\nExecution logs:\ntax: 263.75\nLast output from code snippet:\nNone",
            "Observation:\nExecution logs:\n" + UNSEEN + "\nLast output from code snippet:\nNone",
        ),
        str({"tax": 263.75, "long": "x" * 5000}),
    ),
}
"""Those of frameworks, each in an environment of its own."""

EXAMPLES = {**LIBRARY, **FRAMEWORKS}


def run_example(example: AgentExample, command: Sequence[str], folder: Path, **environment: str) -> None:
    """Have *command* run *example* in *folder* with a scripted model, and check all that both are told."""
    with scripted_model(*example.replies) as model:
        endpoint = {"OPENAI_BASE_URL": model.url, "OPENAI_API_KEY": "none"}
        endpoint |= {"ANTHROPIC_BASE_URL": model.root, "ANTHROPIC_API_KEY": "none"}
        ended = subprocess.run(
            [*command, *example.arguments],
            check=False,
            cwd=folder,
            env={**_without_secrets(os.environ), **endpoint, **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            timeout=SECONDS,
        )
        assert ended.returncode == 0, ended.stdout + ended.stderr
        results = [model.results(number) for number in range(1, len(model.requests))]
    told = [[(_without_sizes(each.text), len(each.images)) for each in those] for those in results]
    assert told == [[(expected, 0) if isinstance(expected, str) else expected] for expected in example.told], told
    assert all(parse_png(image) is not None for those in results for each in those for image in each.images)
    assert ended.stdout.rstrip().endswith(example.prints), ended.stdout
    for name, is_right in (example.leaves or {}).items():
        assert is_right((folder / name).read_bytes()), name


def _without_sizes(text: str) -> str:
    """*text* without what depends on the versions of matplotlib and of its fonts."""
    return re.sub(r"\d+ x \d+ pixels", "W x H pixels", re.sub(r"[\d.]+ KiB", "N KiB", text))


def _without_secrets(environment: Mapping[str, str]) -> dict[str, str]:
    """*environment* without what chooses a model, or is a key to one."""
    return {name: value for name, value in environment.items() if name != "MODEL" and not name.endswith("_API_KEY")}
