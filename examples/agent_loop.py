"""Function calling without MCP: an agent that computes its answers with Python.

    python examples/agent_loop.py "Which weekday was 20 July 1969?"
    python examples/agent_loop.py --url https://models.example/v1 --model some-model "2の100乗は何桁ですか?"

It works with any endpoint that implements OpenAI's chat completions. The default is a local Ollama. Options default to
the environment variables OPENAI_BASE_URL, OPENAI_MODEL and OPENAI_API_KEY.

Weak models often fail at first, so every error is sent back to the model until the code works: tracebacks, arguments
that are not valid JSON, and tools that don't exist. Code in a Markdown fence, or a call written as text, is run as
if the model had called the tool.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import httpx2

from mcp_agentrun import AgentRunError, InvalidRequestError, Result, Sandbox

Message = dict[str, Any]
Ask = Callable[[list[Message]], Message]
"""Sends the conversation to the model; returns its reply."""

SYSTEM = (
    "You answer questions with the help of Python. Whenever something can be computed, call run_python and print the "
    "result; never guess it. If the code fails, read the traceback, fix the code and run it again. Variables persist "
    "between calls. When you have the result, answer in the language of the question, without code."
)

TOOL: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "run_python",
        "description": "Run Python code in a persistent session and return what it prints.",
        "parameters": {
            "type": "object",
            "properties": {"code": {"type": "string", "description": "Python source code."}},
            "required": ["code"],
        },
    },
}

_EXAMPLE = 'Call run_python again with a JSON object such as {"code": "print(1 + 1)"}.'
_FIX = "Your code has not worked yet. Fix it and call run_python again."
_FENCE = re.compile(r"```[ \t]*([\w+-]*)[^\n`]*\n(.*?)(?:```|\Z)", re.DOTALL)
"""A fence, whatever its language, so that its end is not taken for the beginning of another one."""
_PYTHON = ("python", "python3", "py")
_OUTPUT_LIMIT = 8000


class GaveUpError(Exception):
    """The model did not answer within the allowed number of steps."""


@dataclass(frozen=True)
class Reply:
    """What the model is told about its code."""

    text: str
    is_ok: bool


def main() -> int:
    parser = argparse.ArgumentParser(description="Answer a question with a model that can run Python in a sandbox.")
    parser.add_argument("question")
    environ = os.environ
    parser.add_argument("--url", default=environ.get("OPENAI_BASE_URL", "http://localhost:11434/v1"))
    parser.add_argument("--model", default=environ.get("OPENAI_MODEL", "qwen2.5-coder:7b"))
    parser.add_argument("--steps", type=int, default=12, help="replies of the model before giving up")
    options = parser.parse_args()
    key = environ.get("OPENAI_API_KEY")
    try:
        with Sandbox() as sandbox, Endpoint(options.url, options.model, key) as ask:
            agent = Agent(ask, lambda code: describe(sandbox.run(code)), steps=options.steps)
            print(agent.answer(options.question))
    except (AgentRunError, GaveUpError, EndpointError, httpx2.HTTPError, httpx2.InvalidURL) as error:
        print(f"agent_loop: {error}", file=sys.stderr)
        return 1
    return 0


class Agent:
    """Asks a model, and runs its code until the model has an answer.

    :param run: runs code.
    :param steps: replies of the model before giving up.
    """

    def __init__(self, ask: Ask, run: Callable[[str], Reply], *, steps: int = 12) -> None:
        self._ask = ask
        self._run_code = run
        self._steps = steps
        self._seen: set[str] = set()
        """Code that has been run."""
        self._is_broken = False
        """Whether the model's last attempt failed."""

    def answer(self, question: str) -> str:
        """Return the model's answer.

        :raises GaveUpError: it did not give one.
        """
        messages: list[Message] = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": question}]
        for _ in range(self._steps):
            message = self._ask(messages)
            messages.append(message)
            text = str(message.get("content") or "").strip()
            calls: Any = message.get("tool_calls")
            if calls and isinstance(calls, list):
                for call in map(_fields, cast("list[object]", calls)):
                    messages.append({"role": "tool", "tool_call_id": call.get("id", ""), "content": self._call(call)})
            elif (code := code_in(text)) is not None and code not in self._seen:
                messages.append({"role": "user", "content": self._run(code)})
            elif self._is_broken or not text:
                messages.append({"role": "user", "content": _FIX})
            else:
                return text
        raise GaveUpError(f"the model found no answer in {self._steps} steps; raise --steps or use a larger model")

    def _call(self, call: Message) -> str:
        """Return the content of the message that answers a tool call."""
        function = _fields(call.get("function"))
        self._is_broken = True
        if function.get("name") != "run_python":
            return f"There is no tool {function.get('name')!r}. {_EXAMPLE}"
        arguments = function.get("arguments")
        try:
            # By the specification they are a string, but some servers send the object itself.
            fields: Any = json.loads(arguments, strict=False) if isinstance(arguments, str) else arguments
        except (ValueError, RecursionError) as error:
            return f"The arguments are not valid JSON: {error}. {_EXAMPLE}"
        code = _fields(fields).get("code")
        if not isinstance(code, str):
            return f"`code` is required and must be a string. {_EXAMPLE}"
        return self._run(code)

    def _run(self, code: str) -> str:
        self._seen.add(code)
        print(f"--- running\n{code.rstrip()}", file=sys.stderr)
        try:
            reply = self._run_code(code)
        except InvalidRequestError as error:  # such as code that is too long
            reply = Reply(str(error), is_ok=False)
        print(f"--- {'ok' if reply.is_ok else 'failed'}\n{reply.text.rstrip()}", file=sys.stderr)
        self._is_broken = not reply.is_ok
        return reply.text if reply.is_ok else f"{reply.text}\n\n{_FIX}"


def code_in(text: str) -> str | None:
    """Return the code in a reply without a tool call: in a call written as JSON, or in a fence."""
    fenced = re.fullmatch(r"```(?:json)?\s*(\{.*\})\s*```", text, re.DOTALL)
    try:
        call: Any = json.loads(fenced[1] if fenced else text, strict=False)
    except (ValueError, RecursionError):
        call = None
    if (call := _fields(call)).get("name") == "run_python":
        code = _fields(call.get("arguments") or call.get("parameters")).get("code")
        return code if isinstance(code, str) else None
    blocks: list[tuple[str, str]] = _FENCE.findall(text)
    labelled = [code for language, code in blocks if language.lower() in _PYTHON]
    return "\n".join(labelled or [code for language, code in blocks if not language]) or None


def _fields(value: object) -> Message:
    """Return *value* if it is a JSON object. Weak models, and servers that parse their replies, send anything."""
    return cast("Message", value) if isinstance(value, dict) else {}


def _encoded(value: object) -> bytes:
    """Return *value* as JSON. A lone surrogate, which a model can write as an escape, is replaced: UTF-8 has none."""
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "replace")


def describe(result: Result) -> Reply:
    """Describe the result of a run to the model."""
    parts = [result.output.text(_OUTPUT_LIMIT).strip()]
    if result.outcome == "timeout":
        parts.append(f"The code was stopped after {result.timeout:g} seconds.")
    elif result.outcome not in ("ok", "error", "blocked"):
        parts.append(f"The run ended early: {result.outcome}.")
    parts += [f"Line {finding.line}: {finding.reason} {finding.remedy}" for finding in result.findings]
    parts.append(result.advice or "")
    text = "\n".join(filter(None, parts))
    return Reply(text or "(The code printed nothing. Print what you need.)", is_ok=result.outcome == "ok")


class EndpointError(Exception):
    """The endpoint failed, or its reply is not a chat completion."""


class Endpoint:
    """A model behind OpenAI's chat completions. Use as a context; call it with a conversation."""

    def __init__(self, url: str, model: str, key: str | None = None) -> None:
        self._url = f"{url.rstrip('/')}/chat/completions"
        self._model = model
        headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {key}"} if key else {})}
        self._client = httpx2.Client(headers=headers, timeout=300)

    def __enter__(self) -> Endpoint:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._client.close()

    def __call__(self, messages: list[Message]) -> Message:
        """Send the conversation and return the model's reply.

        :raises EndpointError: the endpoint refused, or its reply has no message.
        """
        body = {"model": self._model, "messages": messages, "tools": [TOOL]}
        try:
            response = self._client.post(self._url, content=_encoded(body))
        except httpx2.ConnectError:
            raise EndpointError(f"nothing answers at {self._url}. Start Ollama, or name another --url.") from None
        if response.status_code != 200:
            raise EndpointError(f"{self._url} answered {response.status_code}: {response.text[:500]}")
        try:
            message: Any = json.loads(_encoded(response.json()["choices"][0]["message"]))
        except (ValueError, LookupError, TypeError, RecursionError):
            message = None
        if not isinstance(message, dict):
            raise EndpointError(f"{self._url} sent no message: {response.text[:500]}")
        return {**cast("Message", message), "role": "assistant"}


if __name__ == "__main__":
    sys.exit(main())
