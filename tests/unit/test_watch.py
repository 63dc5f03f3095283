"""A container that stops responding or disappears: calls end, and the state is reported as lost."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, nullcontext

import anyio
import pytest

from mcp_agentrun.errors import SandboxLostError
from mcp_agentrun.sandbox import AsyncSandbox
from mcp_agentrun.settings import Settings
from tests.support.fake_engine import FakeEngine
from tests.support.sandboxes import sandbox_on

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def frozen_sandbox() -> AsyncGenerator[AsyncSandbox]:
    """A sandbox that has run code, and whose container does not answer any more."""
    engine = FakeEngine()
    async with engine.running(), sandbox_on(engine, Settings()) as sandbox:
        await sandbox.run("x = 1")
        engine.frozen.update(engine.containers)
        yield sandbox


async def test_the_deadline_of_a_run_holds_without_pings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mcp_agentrun.sandbox.execution._OVERHEAD_SECONDS", 0.1)
    async with frozen_sandbox() as sandbox:
        with anyio.fail_after(30), pytest.raises(SandboxLostError, match="stopped answering"):
            await sandbox.run("x", timeout=0.1)
        assert (await sandbox.run("1 + 1")).replaced


async def test_cancelling_a_run_of_a_container_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mcp_agentrun.sandbox.execution._CANCEL_SECONDS", 0.1)
    async with frozen_sandbox() as sandbox:
        with anyio.fail_after(30):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(sandbox.run, "import time; time.sleep(60)")
                await anyio.wait_all_tasks_blocked()
                tasks.cancel_scope.cancel()
            assert (await sandbox.run("1 + 1")).replaced


async def test_a_receiver_of_output_may_take_its_time() -> None:
    deadlines: list[float] = []

    async def receive(_: bytes) -> None:
        deadlines.append(anyio.current_effective_deadline())

    engine = FakeEngine()
    async with engine.running(), sandbox_on(engine, Settings()) as sandbox:
        await sandbox.run("1", on_bytes=receive)
    assert deadlines == [float("inf")]


async def test_a_sandbox_that_is_closed_can_be_looked_at() -> None:
    engine = FakeEngine()
    async with engine.running():
        async with sandbox_on(engine, Settings()) as sandbox:
            await sandbox.run("1")
        assert (sandbox.is_ready, sandbox.state, sandbox.stage) == (False, "lost", "closed")


@pytest.mark.parametrize("keep_files", [False, True])
async def test_a_reset_of_a_container_that_has_gone(keep_files: bool) -> None:
    engine = FakeEngine()
    async with engine.running(), sandbox_on(engine, Settings()) as sandbox:
        await sandbox.run("x = 1")
        (container,) = engine.containers
        engine.lose(container)
        with pytest.raises(SandboxLostError, match="files are gone") if keep_files else nullcontext():
            await sandbox.reset(keep_files=keep_files)
        assert (await sandbox.run("1")).outcome == "ok"
        assert container not in engine.containers
