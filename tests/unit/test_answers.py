"""Answers over streamable HTTP: one JSON message where that is all there is, and a stream of events otherwise."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import httpx2
import pytest
import uvicorn
from mcp.server.mcpserver import Context, MCPServer

from mcp_agentrun.server.mcp import sdk
from tests.support.http_server import http_client, serve_here
from tests.support.stdio_server import INITIALIZE

pytestmark = pytest.mark.anyio

HEADERS = {"Accept": "application/json, text/event-stream"}
ANSWER = [{"type": "text", "text": "done"}]


class Tools:
    """A server of the SDK's own with two tools: one is done at once, and one when it may go on."""

    def __init__(self) -> None:
        self.begun, self.go_on = anyio.Event(), anyio.Event()
        self.mcp = mcp = MCPServer("tools", log_level="WARNING")

        @mcp.tool(structured_output=False)
        async def quick(ctx: Context[Any, Any], steps: int = 0) -> str:
            for step in range(steps):
                await ctx.report_progress(step + 1)
            return "done"

        @mcp.tool(structured_output=False)
        async def slow() -> str:
            self.begun.set()
            await self.go_on.wait()
            return "done"

        _ = quick, slow


class Caller:
    def __init__(self, http: httpx2.AsyncClient) -> None:
        self.http = http

    def call(self, tool: str, **arguments: Any) -> dict[str, Any]:
        params = {"name": tool, "arguments": arguments, "_meta": {"progressToken": "p"}}
        return {"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": params}

    async def post(self, message: dict[str, Any]) -> httpx2.Response:
        answer = await self.http.post("/mcp", json=message)
        assert answer.status_code == 200, answer.text
        return answer


@asynccontextmanager
async def calling(tools: Tools) -> AsyncGenerator[Caller]:
    sdk.answer_as_json()
    app = tools.mcp.streamable_http_app()
    async with serve_here(uvicorn.Config(app, log_config=None, timeout_graceful_shutdown=1)) as server:
        http = http_client(headers=HEADERS)
        http.base_url = server.url
        async with http:
            caller = Caller(http)
            begun = await caller.post(INITIALIZE)
            http.headers["mcp-session-id"] = begun.headers["mcp-session-id"]
            assert (await http.post("/mcp", json={"jsonrpc": "2.0", "method": "notifications/initialized"})).is_success
            yield caller


def messages_in(answer: str) -> list[dict[str, Any]]:
    lines = [line for line in answer.splitlines() if line.startswith("data: ")]
    return [json.loads(line.removeprefix("data: ")) for line in lines]


async def test_an_answer_alone_is_json_and_keeps_its_connection() -> None:
    async with calling(Tools()) as caller:
        answers = [await caller.post(caller.call("quick")) for _ in range(3)]
    for answer in answers:
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["mcp-session-id"]
        assert (answer.json()["id"], answer.json()["result"]["content"]) == (7, ANSWER)
    streams = {id(answer.extensions["network_stream"]) for answer in answers}
    assert len(streams) == 1


async def test_progress_comes_before_the_answer_in_a_stream() -> None:
    async with calling(Tools()) as caller:
        answer = await caller.post(caller.call("quick", steps=3))
    assert answer.headers["content-type"].startswith("text/event-stream")
    *progress, last = messages_in(answer.text)
    assert [message["params"]["progress"] for message in progress] == [1, 2, 3]
    assert last["result"]["content"] == ANSWER


async def test_a_late_answer_comes_in_a_stream_that_has_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sdk, "STREAM_AFTER_SECONDS", 0.01)
    tools = Tools()
    async with calling(tools) as caller, caller.http.stream("POST", "/mcp", json=caller.call("slow")) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        tools.go_on.set()
        await answer.aread()
    (message,) = messages_in(answer.text)
    assert message["result"]["content"] == ANSWER


async def test_a_session_that_ends_ends_its_requests() -> None:
    tools = Tools()
    async with calling(tools) as caller, anyio.create_task_group() as tasks:

        async def call() -> None:
            answer = await caller.post(caller.call("slow"))
            assert messages_in(answer.text) == []

        tasks.start_soon(call)
        with anyio.fail_after(30):
            await tools.begun.wait()
            assert (await caller.http.delete("/mcp")).is_success
