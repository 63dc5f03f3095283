"""The HTTP server's connections: their number."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import anyio
import pytest
import uvicorn
from anyio.abc import SocketStream
from starlette.types import Receive, Scope, Send

from mcp_agentrun.server.http.connection_limits import limited
from tests.support.http_server import http_client, serve_here

pytestmark = pytest.mark.anyio

CLOSED = (anyio.EndOfStream, anyio.BrokenResourceError)
HEAD = b"GET / HTTP/1.1\r\nHost: here\r\n\r\n"
LATER = HEAD.replace(b"/ ", b"/later ", 1)


class Served:
    """A server with an application that answers when it is told to."""

    def __init__(self) -> None:
        self.url = ""
        self.port = 0
        self.asked = anyio.Event()
        self.may_answer = anyio.Event()

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        self.asked.set()
        if scope["path"] == "/later":
            await self.may_answer.wait()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})

    async def connect(self, sent: bytes = b"") -> SocketStream:
        stream = await anyio.connect_tcp("127.0.0.1", self.port)
        if sent:
            await stream.send(sent)
        return stream


@asynccontextmanager
async def serving(most: int) -> AsyncGenerator[Served]:
    served = Served()
    config = uvicorn.Config(served.app, http=limited(most), interface="asgi3", lifespan="off", log_config=None)
    async with serve_here(config) as server:
        served.url, served.port = server.url, server.port
        try:
            yield served
        finally:
            served.may_answer.set()


async def is_answered(served: Served) -> bool:
    async with http_client() as http:
        return (await http.get(served.url)).status_code == 200


async def test_idle_connections_keep_nobody_out() -> None:
    async with serving(3) as served:
        idle = [await served.connect(b"GET / HTTP/1.1\r\n") for _ in range(12)]
        assert await is_answered(served)
        for stream in idle[:9]:  # which have waited longest
            with pytest.raises(CLOSED):
                await stream.receive()
        for stream in idle:
            await stream.aclose()


async def test_a_connection_with_a_call_in_progress_does_not_give_way() -> None:
    async with serving(1) as served:
        called = await served.connect(LATER)
        await served.asked.wait()
        refused = await served.connect(HEAD)
        with pytest.raises(CLOSED):
            await refused.receive()
        served.may_answer.set()
        assert (await called.receive()).startswith(b"HTTP/1.1 200 ")
        assert await is_answered(served), "what has been answered gives way"
        await called.aclose()
        await refused.aclose()


@pytest.mark.skipif(sys.platform == "win32", reason="has no such limit")
@pytest.mark.parametrize(("soft", "hard", "most"), [(200, 200, 100), (200, 1000, 500), (64, 3000, 1500)])
def test_there_are_file_descriptors_left_for_sandboxes(soft: int, hard: int, most: int) -> None:
    code = (
        "import resource; from mcp_agentrun.server.http import connection_limits as limits\n"
        f"resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard}))\n"
        "print(limits.connection_limit(), *resource.getrlimit(resource.RLIMIT_NOFILE))"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.split() == [str(most), str(hard), str(hard)]
