"""Clients of one server are told what goes on, whatever other clients do."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from anyio.abc import TaskGroup
from mcp import Client
from mcp.shared.memory import MessageStream, create_client_server_memory_streams
from mcp.shared.message import SessionMessage
from mcp.types import jsonrpc_message_adapter

from mcp_agentrun.engine.network import NetworkSettings
from mcp_agentrun.engine.registry import create_engine
from mcp_agentrun.sandbox import AsyncRuntime
from mcp_agentrun.server.mcp import progress
from mcp_agentrun.server.mcp.app import AgentRunServer, build_server
from mcp_agentrun.server.mcp.connections import by_connection
from mcp_agentrun.sessions import SessionManager
from mcp_agentrun.settings import Settings

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("runner_image")]

COUNT = "import time\nfor i in range(10_000):\n    print(i, flush=True); time.sleep(0.01)"


@asynccontextmanager
async def open_server() -> AsyncGenerator[AgentRunServer]:
    network = NetworkSettings.from_environment(os.environ)
    settings = Settings(pool=0, reserve=1, preload=())
    async with SessionManager(
        AsyncRuntime(settings, engine=create_engine(Settings()), package_network=network), is_shared=True
    ) as sessions:
        yield build_server(sessions, by_connection(sessions.disconnect))


@asynccontextmanager
async def connected(server: AgentRunServer) -> AsyncGenerator[MessageStream]:
    """The client's end of a connection that holds one message in each direction."""
    async with create_client_server_memory_streams() as (ours, theirs), anyio.create_task_group() as tasks:
        tasks.start_soon(server.run, *theirs, server.create_initialization_options())
        yield ours
        tasks.cancel_scope.cancel()


class Watched:
    """A run in the background, and what its client is told of it."""

    def __init__(self, tasks: TaskGroup, client: Client, code: str) -> None:
        self.told: list[str] = []
        self._more = anyio.Event()
        tasks.start_soon(self._run, client, code)

    async def _run(self, client: Client, code: str) -> None:
        arguments = {"code": code, "timeout": 100}
        await client.call_tool("run_python", arguments, progress_callback=self._on_progress)

    async def _on_progress(self, progress: float, total: float | None, message: str | None) -> None:
        self.told.append(message or "")
        self._more.set()
        self._more = anyio.Event()

    async def more(self, count: int) -> None:
        """Wait until so many more messages have come."""
        wanted = len(self.told) + count
        with anyio.fail_after(90):
            while len(self.told) < wanted:
                await self._more.wait()

    async def numbers(self, count: int) -> None:
        """Wait until so many different lines of `COUNT` have come; there are messages of other things, too."""
        with anyio.fail_after(90):
            while len({message.split()[0] for message in self.told if message[:1].isdigit()}) < count:
                await self._more.wait()


async def test_who_leaves_takes_nobodys_output_along() -> None:
    async with open_server() as server, anyio.create_task_group() as tasks:
        visiting, leaving = anyio.Event(), anyio.Event()

        async def visit() -> None:
            async with connected(server) as streams, Client(_transport(streams), mode="legacy") as client:
                await client.list_tools()
                visiting.set()
                await leaving.wait()

        tasks.start_soon(visit)
        await visiting.wait()
        async with connected(server) as streams, Client(_transport(streams), mode="legacy") as client:
            watched = Watched(tasks, client, COUNT)
            await watched.numbers(2)
            await anyio.sleep(0.1)  # into the quarter of a second after which the next line is told
            leaving.set()
            await watched.numbers(9)
            tasks.cancel_scope.cancel()


async def test_who_does_not_read_takes_nobodys_progress_along(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "PROGRESS_SECONDS", 0.2)
    sleep = "import time; time.sleep(100)"
    async with open_server() as server, connected(server) as deaf, connected(server) as one:
        await _begin_and_read_no_more(deaf, sleep)
        async with Client(_transport(one), mode="legacy") as client, anyio.create_task_group() as tasks:
            await Watched(tasks, client, sleep).more(10)
            tasks.cancel_scope.cancel()


@asynccontextmanager
async def _transport(streams: MessageStream) -> AsyncGenerator[MessageStream]:
    yield streams


async def _begin_and_read_no_more(streams: MessageStream, code: str) -> None:
    read, write = streams

    async def send(**fields: Any) -> None:
        message = json.dumps({"jsonrpc": "2.0", **fields})
        await write.send(SessionMessage(jsonrpc_message_adapter.validate_json(message)))

    info = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "deaf", "version": "1"}}
    await send(id=1, method="initialize", params=info)
    await read.receive()
    await send(method="notifications/initialized")
    params = {"name": "run_python", "arguments": {"code": code, "timeout": 100}, "_meta": {"progressToken": 1}}
    await send(id=2, method="tools/call", params=params)
