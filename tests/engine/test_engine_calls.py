"""Calls of an engine that hangs: nothing else waits for them, and nothing of them is left."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import anyio
import anyio.to_thread
import docker
import pytest

from mcp_agentrun.engine.docker import engine as engine_module
from mcp_agentrun.engine.docker.engine import DockerEngine
from mcp_agentrun.errors import EngineError
from mcp_agentrun.settings import Settings
from tests.support.hanging_engine import HangingEngine, hanging_engine
from tests.support.sandboxes import sandbox_on

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("runner_image")]

SETTINGS = Settings(preload=(), checkpoints=False, safety="off")


class Clients:
    """Those that the engine makes: `count` of them have been closed, from whatever thread."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._made: list[docker.APIClient] = []
        self._one = threading.Semaphore(0)
        self.count = 0
        real_connect, real_close = engine_module.connect, docker.APIClient.close

        def connect() -> tuple[docker.APIClient | None, list[str]]:
            client, tried = real_connect()
            if client is not None:
                self._made.append(client)
            return client, tried

        def close(client: docker.APIClient) -> None:
            real_close(client)
            if client in self._made:  # and no probe
                self.count += 1
                self._one.release()

        monkeypatch.setattr(engine_module, "connect", connect)
        monkeypatch.setattr(docker.APIClient, "close", close)

    def lose_patience(self) -> None:
        """From now on, the latest client waits a second for an answer."""
        self._made[-1].timeout = 1

    async def closed(self) -> None:
        """Wait until one more has been closed."""
        assert await anyio.to_thread.run_sync(lambda: self._one.acquire(timeout=100))


@pytest.fixture
def line(monkeypatch: pytest.MonkeyPatch) -> Iterator[HangingEngine]:
    """The way by which the engine is found."""
    with hanging_engine() as line:
        monkeypatch.setenv("DOCKER_HOST", line.url)
        yield line


async def test_calls_that_hang_take_no_thread_from_anything_else(line: HangingEngine) -> None:
    engine = DockerEngine.from_settings(SETTINGS)
    await engine.list_sandboxes()
    line.hangs = True
    async with anyio.create_task_group() as tasks:
        for _ in range(60):
            tasks.start_soon(engine.list_sandboxes)
        for _ in range(40):
            await anyio.to_thread.run_sync(line.wait_for, "/containers/json")
        assert anyio.to_thread.current_default_thread_limiter().borrowed_tokens == 0
        tasks.cancel_scope.cancel()
    await engine.aclose()


async def test_a_client_that_is_given_up_is_closed(line: HangingEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    clients = Clients(monkeypatch)
    engine = DockerEngine.from_settings(SETTINGS)
    for _ in range(3):
        line.hangs = False
        await engine.list_sandboxes()
        line.hangs = True
        clients.lose_patience()
        with pytest.raises(EngineError, match="does not respond"):
            await engine.list_sandboxes()
        await clients.closed()
    line.hangs = False
    await engine.list_sandboxes()
    await engine.aclose()
    await clients.closed()
    assert clients.count == 4


async def test_a_client_that_is_given_up_is_not_closed_before_its_streams(
    line: HangingEngine, monkeypatch: pytest.MonkeyPatch, swept: anyio.Event
) -> None:
    clients = Clients(monkeypatch)
    engine = DockerEngine.from_settings(SETTINGS)
    async with sandbox_on(engine, SETTINGS) as sandbox:
        await sandbox.run("x = 1")
        await swept.wait()
        clients.lose_patience()
        line.deaf_to = "/containers/json"
        with pytest.raises(EngineError, match="does not respond"):
            await engine.list_sandboxes()
        line.deaf_to = None
        await engine.list_sandboxes()
        assert (await sandbox.run("x")).value == "1"
        assert clients.count == 0
    await clients.closed()
    await engine.aclose()
    await clients.closed()
    assert clients.count == 2
