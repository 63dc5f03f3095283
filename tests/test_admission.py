"""Room for sandboxes: who waits, who is refused at once, and who is held up by nobody."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import anyio
import pytest

from mcp_agentrun.engine.docker import DockerEngine
from mcp_agentrun.engine.image import ImageRecipe
from mcp_agentrun.engine.network import NetworkSettings
from mcp_agentrun.errors import UnavailableError
from mcp_agentrun.sessions import NEW, Caller, Sessions
from mcp_agentrun.settings import Settings

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("runner_image")]


@asynccontextmanager
async def open_sessions(settings: Settings) -> AsyncGenerator[Sessions]:
    engine = DockerEngine(recipe=ImageRecipe())
    network = NetworkSettings.from_environment(os.environ)
    async with Sessions(engine, settings, network, is_shared=True) as sessions:
        yield sessions


async def test_the_queue_for_room_is_bounded_and_served_in_turn() -> None:
    served: list[str] = []
    callers = {name: Caller(name, name) for name in ("first", "second", "third", "late")}

    async with open_sessions(Settings(pool=0, max_total=1, queue=2, reserve=1)) as sessions:

        async def call(name: str) -> None:
            async with sessions.lease(callers[name], None):
                served.append(name)
            sessions.disconnect(callers[name].connection)

        async with sessions.lease(callers["first"], None), anyio.create_task_group() as tasks:
            for name in ("second", "third"):
                tasks.start_soon(call, name)
                await anyio.wait_all_tasks_blocked()
            with anyio.fail_after(5), pytest.raises(UnavailableError, match="others are waiting"):
                await call("late")
            async with sessions.lease(callers["first"], None):
                pass  # who has a sandbox is not held up by those who wait
            sessions.disconnect(callers["first"].connection)
    assert served == ["second", "third"]


async def test_who_waits_counts_against_the_share_of_the_principal() -> None:
    holder, greedy = Caller("holder", "holder"), Caller(None, "greedy")

    async with open_sessions(Settings(pool=0, max_total=1, max_sandboxes=1, reserve=1)) as sessions:

        async def call() -> None:
            async with sessions.lease(greedy, NEW):
                pass

        async with sessions.lease(holder, None), anyio.create_task_group() as tasks:
            tasks.start_soon(call)
            await anyio.wait_all_tasks_blocked()
            with anyio.fail_after(5), pytest.raises(UnavailableError, match="You have 1 sandboxes"):
                await call()
            tasks.cancel_scope.cancel()


async def test_calls_of_one_connection_at_once_share_its_sandbox() -> None:
    caller = Caller("one")
    found: set[int] = set()

    async with open_sessions(Settings(pool=0, max_total=1, reserve=1)) as sessions:

        async def call() -> None:
            async with sessions.lease(caller, None) as lease:
                found.add(id(lease.sandbox))

        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(call)
        assert sessions.count == 1
    assert len(found) == 1
