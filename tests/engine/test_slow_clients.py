"""Clients over HTTP that read too slowly or are gone, with real sandboxes: others go on, and nothing is left."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import httpx2
import pytest

from mcp_agentrun.server.http import slow_clients
from mcp_agentrun.server.http.app import (
    _config,  # pyright: ignore[reportPrivateUsage]
    build_app,
)
from mcp_agentrun.settings import Settings
from tests.support.http_server import connected, http_client, received, serve_here
from tests.support.sandboxes import open_sessions

pytestmark = pytest.mark.anyio

LARGE = 32 << 20
"""More than the sockets between server and client hold, in bytes."""


@asynccontextmanager
async def serving() -> AsyncGenerator[tuple[httpx2.AsyncClient, int, str]]:
    """A client of a server in this process, the server's port, and the path of a sandbox."""
    settings = Settings(pool=0, reserve=1, auth=False, preload=())
    async with open_sessions(settings) as sessions:
        app, _ = build_app(sessions, None)
        async with serve_here(_config(app, settings)) as server, http_client() as http:
            http.base_url = server.url
            with anyio.fail_after(100):
                yield http, server.port, f"/v1/sandboxes/{(await http.post('/v1/sandboxes')).json()['id']}"


async def value_of(http: httpx2.AsyncClient, sandbox: str, code: str) -> Any:
    answer = await http.post(f"{sandbox}/runs", json={"code": code})
    assert answer.json()["outcome"] == "ok", answer.text
    return answer.json()["value"]


async def until_unused(http: httpx2.AsyncClient, sandbox: str) -> None:
    while (await http.get(sandbox)).json()["in_use"]:
        await anyio.sleep(0.02)  # it tells nobody


def request(method: str, path: str, *headers: str) -> str:
    return "\r\n".join((f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", *headers, "", ""))


async def test_a_download_that_is_not_read_is_ended_and_others_go_on(
    runner_image: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving() as (http, port, sandbox):
        assert (await http.put(f"{sandbox}/files/large", content=bytes(LARGE))).status_code == 200
        monkeypatch.setattr(slow_clients, "IDLE_SECONDS", 0.5)
        async with connected(port, request("GET", f"{sandbox}/files/large"), buffer=4096) as slow:
            assert (await slow.receive(100)).startswith(b"HTTP/1.1 200 ")
            assert await value_of(http, sandbox, "6 * 7") == "42"
            assert (await http.get(f"{sandbox}/files/large")).content == bytes(LARGE)
            assert (await http.post("/v1/run/", json={"code": "print(1)"})).json() == {"output": "1\n"}
            await until_unused(http, sandbox)
            assert len(await received(slow)) < LARGE


async def test_a_run_whose_reader_of_events_is_gone_is_interrupted(runner_image: str) -> None:
    waiting = "import time\nprint('begun', flush=True)\ntry:\n    time.sleep(1000)\nfinally:\n    x = 'interrupted'"
    body = json.dumps({"code": waiting})
    headers = "Accept: text/event-stream", "Content-Type: application/json", f"Content-Length: {len(body)}"
    async with serving() as (http, port, sandbox):
        async with connected(port, request("POST", f"{sandbox}/runs", *headers) + body) as gone:
            seen = b""
            while b"begun" not in seen:
                seen += await gone.receive()
        assert await value_of(http, sandbox, "x") == "'interrupted'"
        await until_unused(http, sandbox)


async def test_an_upload_whose_client_is_gone_leaves_nothing(runner_image: str) -> None:
    everything = "import pathlib; [str(path) for path in pathlib.Path().rglob('*')]"
    head = request("PUT", "SANDBOX/files/folder/f", f"Content-Length: {LARGE}")
    async with serving() as (http, port, sandbox):
        assert await value_of(http, sandbox, everything) == "[]"
        async with connected(port, head.replace("SANDBOX", sandbox)) as gone:
            await gone.send(bytes(LARGE // 2))  # which is more than the sockets hold: the upload has begun
        assert await value_of(http, sandbox, everything) == "[]"
        await until_unused(http, sandbox)
        written = await http.put(f"{sandbox}/files/folder/f", content=b"whole")
        assert (written.status_code, written.json()["size"]) == (200, 5)
