"""Clients over HTTP that send or read too slowly: they are ended in time, and others go on."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import anyio
import httpx2
import pytest
from anyio.abc import SocketStream

from mcp_agentrun.server.http import slow_clients
from mcp_agentrun.server.http.app import (
    _config,  # pyright: ignore[reportPrivateUsage]
    build_app,
)
from mcp_agentrun.settings import Settings
from mcp_agentrun.wire import messages
from mcp_agentrun.wire.messages import Message
from tests.support.fake_engine import Answer, FakeEngine, honest_runner, open_sessions, result
from tests.support.http_server import connected, http_client, received, serve_here

pytestmark = pytest.mark.anyio

OUTPUT = 16 << 20


def talkative(message: Message) -> Sequence[Answer]:
    """Prints more than the sockets between server and client hold, if the code is ``long``."""
    if not isinstance(message, messages.Run) or message.code != "long":
        return honest_runner(message)
    parts = [messages.OutputChunk(data=bytes([65]) * (1 << 16))] * (OUTPUT >> 16)
    return [*parts, result(message.run, written=OUTPUT)]


@pytest.fixture(autouse=True)
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slow_clients, "IDLE_SECONDS", 0.2)
    monkeypatch.setattr(slow_clients, "SILENT_SECONDS", 0.2)
    monkeypatch.setattr(slow_clients, "SLOWEST", 1 << 20)


@asynccontextmanager
async def serving(**settings: Any) -> AsyncGenerator[tuple[httpx2.AsyncClient, int]]:
    """A client of the whole server in this process, and the server's port."""
    chosen = Settings(pool=0, reserve=1, auth=False, **settings)
    async with open_sessions(chosen, FakeEngine(runners=[talkative])) as sessions:
        app, _ = build_app(sessions, None)
        async with serve_here(_config(app, chosen)) as server, http_client() as http:
            http.base_url = server.url
            with anyio.fail_after(60):
                yield http, server.port


async def answer_to_trickle(stream: SocketStream) -> bytes:
    """What is answered until the end of the connection, while bytes are sent one by one."""

    async def trickle() -> None:
        try:
            while True:
                await stream.send(b"a")
                await anyio.sleep(0.02)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            pass

    data = b""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(trickle)
        data = await received(stream)
        tasks.cancel_scope.cancel()
    return data


async def output_of(http: httpx2.AsyncClient) -> str:
    return (await http.post("/v1/run/", json={"code": "1"})).json()["output"]


async def new_sandbox(http: httpx2.AsyncClient) -> str:
    return f"/v1/sandboxes/{(await http.post('/v1/sandboxes')).json()['id']}"


@pytest.mark.parametrize(
    "beginning",
    ["", "POST /v1/run/ HT", "POST /v1/run/ HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: "],
    ids=["nothing", "a request line", "a header"],
)
async def test_a_header_that_trickles_is_given_up(beginning: str) -> None:
    async with serving() as (http, port), connected(port, beginning) as slow, anyio.create_task_group() as tasks:
        tasks.start_soon(answer_to_trickle, slow)
        assert await output_of(http) == "x"


async def test_a_second_request_on_a_connection_is_timed_as_well() -> None:
    request = "GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    async with serving() as (_, port), connected(port, f"{request}GET /heal") as slow:
        assert (await answer_to_trickle(slow)).count(b"200 OK") == 1


@pytest.mark.parametrize("path", ["/v1/run/", "/v1/sandboxes", "/v1/runs", "/mcp"])
async def test_a_body_that_trickles_is_refused(path: str) -> None:
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n\r\n"
    )
    answer = b""
    async with serving() as (http, port), connected(port, head) as slow, anyio.create_task_group() as tasks:
        tasks.start_soon(output_of, http)
        answer = await answer_to_trickle(slow)
    assert answer.startswith(b"HTTP/1.1 408 ") and b"connection: close" in answer.lower()
    assert (b"application/problem+json" in answer) is (path != "/mcp")


async def test_an_upload_that_trickles_is_refused_and_its_sandbox_goes_on() -> None:
    async with serving() as (http, port):
        sandbox = await new_sandbox(http)
        head = f"PUT {sandbox}/files/f HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100000\r\n\r\n"
        async with connected(port, head) as slow:
            assert await output_of(http) == "x"
            answer = await answer_to_trickle(slow)
        assert answer.startswith(b"HTTP/1.1 408 ") and b"application/problem+json" in answer
        assert (await http.post(f"{sandbox}/runs", json={"code": "1"})).json()["outcome"] == "ok"


async def test_a_body_that_nobody_wants_does_not_keep_the_connection() -> None:
    """The answer comes before the body, which is not read."""
    head = "POST /nothing HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100000\r\n\r\n"
    async with serving() as (_, port), connected(port, head) as slow:
        assert (await answer_to_trickle(slow)).startswith(b"HTTP/1.1 404 ")


async def test_an_upload_that_is_slow_but_steady_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slow_clients, "SLOWEST", 10)

    async def steady() -> AsyncIterator[bytes]:
        for _ in range(20):  # which takes longer than the client may be silent
            yield b"1234567890"
            await anyio.sleep(0.03)

    async with serving() as (http, _):
        written = await http.put(f"{await new_sandbox(http)}/files/f", content=steady())
        assert (written.status_code, written.json()["size"]) == (200, 200)


async def test_a_reader_of_events_that_stops_is_ended_and_its_sandbox_goes_on() -> None:
    async with serving() as (http, port):
        sandbox = await new_sandbox(http)
        body = '{"code": "long"}'
        head = (
            f"POST {sandbox}/runs HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        async with connected(port, head + body, buffer=4096) as slow:
            begun = await slow.receive(100)
            assert begun.startswith(b"HTTP/1.1 200 ")
            assert await output_of(http) == "x"  # of another sandbox
            after = await http.post(f"{sandbox}/runs", json={"code": "1"})  # which waits for its turn
            assert after.json()["outcome"] == "ok"
            assert len(await received(slow)) < OUTPUT
        assert not (await http.get(sandbox)).json()["in_use"]


async def test_a_client_that_reads_slowly_gets_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slow_clients, "SLOWEST", 1)
    monkeypatch.setattr(slow_clients, "IDLE_SECONDS", 0.5)  # a busy machine may read nothing for a while
    async with serving(output_keep=OUTPUT, output_show=1000) as (http, port):
        sandbox = await new_sandbox(http)
        body = '{"code": "long"}'
        head = (
            f"POST {sandbox}/runs HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        async with connected(port, head + body, buffer=1 << 16) as slow:
            size = 0
            async for part in slow:
                size += len(part)
                await anyio.sleep(0.006)
        assert size > OUTPUT
