"""A model whose replies are written down beforehand, behind the APIs of OpenAI (chat completions, responses) and of
Anthropic (messages).
"""

from __future__ import annotations

import base64
import itertools
import json
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

from tests.support.serving import serving

__all__ = ["ScriptedModel", "ToolResult", "call", "scripted_model"]

_ids = itertools.count(1)
"""For ids: some frameworks take messages or calls with the id of an earlier one for the same."""


def call(code: str | None = None, *, arguments: Any = None, name: str = "run_python") -> dict[str, Any]:
    """A reply that calls a tool, with *code* or with the *arguments* as they are."""
    function = {"name": name, "arguments": json.dumps({"code": code}) if arguments is None else arguments}
    return {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": f"c{next(_ids)}", "type": "function", "function": function}],
    }


@dataclass(frozen=True)
class ToolResult:
    """What the model was told about one of its calls."""

    text: str
    images: tuple[bytes, ...] = ()


class ScriptedModel(HTTPServer):
    """Answers with one reply after the other: text, or a message of OpenAI's chat completions as it is, which the
    other APIs send in their own form.
    """

    def __init__(self, replies: Sequence[Any], status: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.replies = list(replies)
        self.status = status
        self.requests: list[dict[str, Any]] = []
        self.root = f"http://127.0.0.1:{self.server_address[1]}"
        """The base URL of Anthropic's API."""
        self.url = f"{self.root}/v1"
        """The base URL of OpenAI's API."""

    def last_received(self, number: int) -> str:
        """Content of the last message in request *number* of chat completions."""
        return self.requests[number]["messages"][-1]["content"]

    def results(self, number: int) -> list[ToolResult]:
        """What request *number* tells of the calls in the reply before it."""
        request = self.requests[number]
        if "input" in request:
            contents = [item["output"] for item in _after_last(request["input"], _is_output_of_model)]
        else:
            messages = _after_last(request["messages"], lambda message: message["role"] == "assistant")
            contents = [content for message in messages for content in _contents(message)]
        return [_result(content) for content in contents]


def _is_output_of_model(item: dict[str, Any]) -> bool:
    return item.get("type") == "function_call" or item.get("role") == "assistant"


def _after_last(items: list[dict[str, Any]], matches: Callable[[dict[str, Any]], bool]) -> list[dict[str, Any]]:
    last = max(number for number, item in enumerate(items) if matches(item))
    return items[last + 1 :]


def _contents(message: dict[str, Any]) -> list[Any]:
    """The contents of the tool results in *message*; any other message is taken for one."""
    content = message["content"]
    blocks = [block for block in content if block.get("type") == "tool_result"] if isinstance(content, list) else []
    return [block["content"] for block in blocks] or [content]


def _result(content: Any) -> ToolResult:
    if isinstance(content, str):
        return ToolResult(content)
    texts = [block["text"] for block in content if "text" in block["type"]]
    return ToolResult("".join(texts), tuple(_image(block) for block in content if "image" in block["type"]))


def _image(block: dict[str, Any]) -> bytes:
    """The data of a picture: Anthropic's, or OpenAI's in one of its two APIs."""
    if block["type"] == "image":
        data = block["source"]["data"]
    else:
        url = block["image_url"]
        data = (url if isinstance(url, str) else url["url"]).partition("base64,")[2]
    return base64.b64decode(data, validate=True)


def _completion(message: Any, body: dict[str, Any]) -> dict[str, Any]:
    reason = "tool_calls" if isinstance(message, dict) and message.get("tool_calls") else "stop"
    return {
        "id": f"completion-{next(_ids)}",
        "object": "chat.completion",
        "created": 0,
        "model": body.get("model"),
        "choices": [{"index": 0, "message": message, "finish_reason": reason}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
    }


def _response(message: Any, body: dict[str, Any]) -> dict[str, Any]:
    output: list[dict[str, Any]] = []
    if message["content"]:
        text = {"type": "output_text", "text": message["content"], "annotations": []}
        output.append(
            {
                "type": "message",
                "id": f"text-{next(_ids)}",
                "role": "assistant",
                "status": "completed",
                "content": [text],
            }
        )
    for each in message.get("tool_calls", ()):
        output.append({"type": "function_call", "id": f"f{each['id']}", "call_id": each["id"], **each["function"]})
    return {
        "id": f"response-{next(_ids)}",
        "object": "response",
        "created_at": 0,
        "model": body["model"],
        "status": "completed",
        "output": output,
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "usage": {
            "input_tokens": 1,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": 1,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": 2,
        },
    }


def _message(message: Any, body: dict[str, Any]) -> dict[str, Any]:
    content: list[dict[str, Any]] = [{"type": "text", "text": message["content"]}] if message["content"] else []
    calls = message.get("tool_calls", ())
    for each in calls:
        function = each["function"]
        arguments = json.loads(function["arguments"])
        content.append({"type": "tool_use", "id": each["id"], "name": function["name"], "input": arguments})
    return {
        "id": f"message-{next(_ids)}",
        "type": "message",
        "role": "assistant",
        "model": body["model"],
        "content": content,
        "stop_reason": "tool_use" if calls else "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 1, "output_tokens": 1},
    }


_APIS = {"/v1/chat/completions": _completion, "/v1/responses": _response, "/v1/messages": _message}


class _Handler(BaseHTTPRequestHandler):
    server: ScriptedModel  # pyright: ignore[reportIncompatibleVariableOverride]

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.requests.append(request)
        reply = self.server.replies.pop(0)
        message = {"role": "assistant", "content": reply} if isinstance(reply, str) else reply
        body = json.dumps(_APIS[self.path.partition("?")[0]](message, request)).encode()
        self.send_response(self.server.status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None: ...


@contextmanager
def scripted_model(*replies: Any, status: int = 200) -> Generator[ScriptedModel]:
    server = ScriptedModel(replies, status)
    with serving(server):
        yield server
