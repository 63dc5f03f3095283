"""Sandboxes, engines and sessions, opened without a server."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio import CancelScope
from anyio.abc import TaskGroup

from mcp_agentrun.engine import Engine
from mcp_agentrun.engine.network import NetworkSettings
from mcp_agentrun.engine.registry import create_engine
from mcp_agentrun.host_resources import HostResources
from mcp_agentrun.sandbox import AsyncRuntime, AsyncSandbox
from mcp_agentrun.sessions import SessionManager
from mcp_agentrun.settings import Settings


@asynccontextmanager
async def open_engine() -> AsyncGenerator[Engine]:
    engine = create_engine(Settings())
    try:
        yield engine
    finally:
        await engine.aclose()


@asynccontextmanager
async def open_sandbox(
    settings: Settings | None = None, network: NetworkSettings | None = None, *, host: HostResources | None = None
) -> AsyncGenerator[AsyncSandbox]:
    """A sandbox with an installer, on an engine client of its own; unchecked, unless *settings* say so."""
    settings = settings or Settings(safety="off")
    async with (
        AsyncRuntime(settings, package_network=network, host_resources=host) as runtime,
        runtime.sandbox() as sandbox,
    ):
        yield sandbox


@asynccontextmanager
async def sandbox_on(engine: Engine, settings: Settings) -> AsyncGenerator[AsyncSandbox]:
    """A sandbox on *engine*, which is closed with it."""
    async with AsyncRuntime(settings, engine=engine) as runtime, runtime.sandbox() as sandbox:
        yield sandbox


@asynccontextmanager
async def sandbox_with_numbers(place: Path, **settings: Any) -> AsyncGenerator[AsyncSandbox]:
    """A sandbox to which the folder ``numbers`` of this machine is shown, with one file, which anybody here may change.
    At the end it must be as it was.
    """
    folder = place / "numbers"
    folder.mkdir()
    (folder / "a.csv").write_text("x\n1\n")
    for path in (place, folder):
        path.chmod(0o777)
    (folder / "a.csv").chmod(0o666)
    async with open_sandbox(Settings(data=(str(folder),), **settings)) as sandbox:
        if (await sandbox.run("import os; os.listdir('numbers')")).output.text() == "[]\n":
            pytest.skip("the engine does not see this machine's files")
        yield sandbox
    assert {path.name: path.read_text() for path in folder.iterdir()} == {"a.csv": "x\n1\n"}


@asynccontextmanager
async def installing(index: str, **settings: Any) -> AsyncGenerator[AsyncSandbox]:
    async with open_sandbox(
        Settings(safety="off", preload=(), **settings), NetworkSettings(index_url=index)
    ) as sandbox:
        yield sandbox


@asynccontextmanager
async def open_sessions(settings: Settings, engine: Engine | None = None) -> AsyncGenerator[SessionManager]:
    async with AsyncExitStack() as stack:
        engine = engine or await stack.enter_async_context(open_engine())
        runtime = AsyncRuntime(settings, engine=engine)
        yield await stack.enter_async_context(SessionManager(runtime, is_shared=True))


async def text_of(sandbox: AsyncSandbox, code: str) -> str:
    result = await sandbox.run(code)
    assert result.outcome == "ok", result.output.text()
    return result.output.text()


async def begin(
    tasks: TaskGroup, sandbox: AsyncSandbox, code: str, timeout: float | None = None, *, first: str = "pass"
) -> CancelScope:
    """Run *first* and then *code* in the background, and return when *first* has run.

    Cancelling the scope cancels the run."""
    begun, scope = anyio.Event(), CancelScope()

    async def on_output(_: bytes) -> None:
        begun.set()

    async def run() -> None:
        with scope:
            await sandbox.run(f"{first}\nprint('begun', flush=True)\n{code}", on_bytes=on_output, timeout=timeout)

    tasks.start_soon(run)
    with anyio.fail_after(100):
        await begun.wait()
    return scope
