"""An OpenAI-compatible endpoint whose replies are written down beforehand."""

from __future__ import annotations

import json
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

from tests.support.serving import serving

__all__ = ["ScriptedModel", "call", "scripted_model"]


def call(code: str | None = None, *, arguments: Any = None, name: str = "run_python") -> dict[str, Any]:
    """A reply that calls a tool, with *code* or with the *arguments* as they are."""
    function = {"name": name, "arguments": json.dumps({"code": code}) if arguments is None else arguments}
    return {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": "c1", "type": "function", "function": function}],
    }


class ScriptedModel(HTTPServer):
    """Answers with one reply after the other: text, or the message as it is."""

    def __init__(self, replies: Sequence[Any], status: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.replies = list(replies)
        self.status = status
        self.requests: list[dict[str, Any]] = []
        self.url = f"http://127.0.0.1:{self.server_address[1]}/v1"

    def last_received(self, number: int) -> str:
        """Content of the last message in request *number*."""
        return self.requests[number]["messages"][-1]["content"]


class _Handler(BaseHTTPRequestHandler):
    server: ScriptedModel  # pyright: ignore[reportIncompatibleVariableOverride]

    def do_POST(self) -> None:
        self.server.requests.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        reply = self.server.replies.pop(0)
        message = {"role": "assistant", "content": reply} if isinstance(reply, str) else reply
        body = json.dumps({"choices": [{"message": message}]}).encode()
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None: ...


@contextmanager
def scripted_model(*replies: Any, status: int = 200) -> Generator[ScriptedModel]:
    server = ScriptedModel(replies, status)
    with serving(server):
        yield server
