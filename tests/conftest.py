"""Fixtures: a real engine, the real image, sandboxes and clients. Nothing here is a mock."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol

import anyio
import pytest
from anyio import CancelScope
from anyio.abc import TaskGroup
from docker import APIClient
from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client

from mcp_agentrun.engine import LABEL_ROLE
from mcp_agentrun.engine.docker.discovery import connect
from mcp_agentrun.engine.docker.engine import DockerEngine
from mcp_agentrun.engine.docker.image import ImageRecipe
from mcp_agentrun.engine.network import NetworkSettings
from mcp_agentrun.packages.installer import Installer
from mcp_agentrun.sandbox import Sandbox
from mcp_agentrun.settings import Settings

from .own_only import own_only

BACKEND = "asyncio"


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return BACKEND


@pytest.fixture(scope="session")
def api() -> Iterator[APIClient]:
    """The engine's own API, to see from outside what our code has done; what is another server's it can't change."""
    client, tried = connect()
    assert client is not None, f"the tests need a container engine: {tried}"
    yield own_only(client)
    client.close()


@pytest.fixture(scope="session")
def runner_image(api: APIClient) -> Iterator[str]:
    """Name of the runner image, built if need be, and in use: the tests of builds, which tidy up, can't remove it."""

    async def ensure() -> str:
        engine = DockerEngine(recipe=ImageRecipe())
        try:
            return await engine.ensure_image(lambda stage: print(stage, file=sys.stderr))  # noqa: T201
        finally:
            await engine.aclose()

    image = anyio.run(ensure)
    holder = api.create_container(image)["Id"]
    yield image
    api.remove_container(holder)


@pytest.fixture(scope="session")
def settings() -> Settings:
    return Settings()


@asynccontextmanager
async def open_sandbox(
    settings: Settings | None = None, network: NetworkSettings | None = None
) -> AsyncGenerator[Sandbox]:
    """A sandbox with an installer, on an engine client of its own; unchecked, unless *settings* say so."""
    settings = settings or Settings(safety="off")
    engine = DockerEngine.from_settings(settings)
    network = network or NetworkSettings.from_environment(os.environ)
    try:
        async with (
            Installer(engine, settings, network) as installer,
            Sandbox(engine, settings, installer=installer) as sandbox,
        ):
            yield sandbox
    finally:
        await engine.aclose()


async def begin(tasks: TaskGroup, sandbox: Sandbox, code: str, timeout: float | None = None) -> CancelScope:
    """Run *code* in the background, and return when it has begun to run. Cancelling the scope cancels the run."""
    begun, scope = anyio.Event(), CancelScope()

    async def on_output(_: bytes) -> None:
        begun.set()

    async def run() -> None:
        with scope:
            await sandbox.run("print('begun', flush=True)\n" + code, on_output=on_output, timeout=timeout)

    tasks.start_soon(run)
    with anyio.fail_after(30):
        await begun.wait()
    return scope


@pytest.fixture(scope="module")
async def shared(runner_image: str, anyio_backend: str) -> AsyncIterator[Sandbox]:
    """A sandbox that the tests of a module share; each leaves it usable."""
    async with open_sandbox() as sandbox:
        yield sandbox


class OpenClient(Protocol):
    def __call__(
        self, *arguments: str, mode: str = "auto", env: dict[str, str] | None = None
    ) -> AbstractAsyncContextManager[Client]: ...


def server_parameters(*arguments: str, env: dict[str, str] | None = None) -> StdioServerParameters:
    """How a client starts our server, with this process's environment."""
    return StdioServerParameters(
        command=sys.executable, args=["-m", "mcp_agentrun", *arguments], env={**os.environ, **(env or {})}
    )


@pytest.fixture
def open_client(runner_image: str) -> OpenClient:
    """Starts our server as a client does, and speaks MCP with it over stdio."""

    @asynccontextmanager
    async def open_(*arguments: str, mode: str = "auto", env: dict[str, str] | None = None) -> AsyncGenerator[Client]:
        async with Client(stdio_client(server_parameters(*arguments, env=env)), mode=mode) as client:
            yield client

    return open_


def containers_of(api: APIClient, pid: int) -> list[str]:
    """Ids of the containers whose owner is process *pid*."""
    found = api.containers(all=True, filters={"label": LABEL_ROLE})
    return [item["Id"] for item in found if f'"pid":{pid},' in item["Labels"]["mcp-agentrun.owner"]]
