"""Fixtures: a real engine, the real image, sandboxes and clients. Nothing here is a mock."""

from __future__ import annotations

import shutil
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, closing
from pathlib import Path
from typing import cast

import anyio
import pytest
from docker import APIClient
from mcp import Client
from mcp.client.stdio import stdio_client

from mcp_agentrun.engine.docker import image as image_module
from mcp_agentrun.engine.docker.discovery import connect
from mcp_agentrun.engine.registry import create_engine
from mcp_agentrun.sandbox import AsyncSandbox
from mcp_agentrun.settings import Settings
from tests.support import CHECKOUT
from tests.support.clients import OpenClient, server_parameters
from tests.support.engines import ENGINE, skip_what_is_not_for, use_cluster
from tests.support.guarded_client import guarded_client
from tests.support.image import named_anew
from tests.support.private_engine import provide_engine
from tests.support.sandboxes import open_sandbox
from tests.support.small import SMALL

BACKEND = "asyncio"


# Its client leaves to the garbage collector: a connection whose handshake was cancelled, and generators, of which Trio
# warns.
_LEFT_BY_CLUSTER = "<(socket.socket|function _SelectorTransport|async_generator object (Response|PoolByteStream))"


def pytest_configure(config: pytest.Config) -> None:
    use_cluster()
    if ENGINE == "kubernetes":
        config.addinivalue_line("filterwarnings", f"ignore:Exception ignored in. {_LEFT_BY_CLUSTER}")
    if not hasattr(config, "workerinput"):  # the workers of pytest-xdist inherit its address
        resources = ExitStack()
        config.add_cleanup(resources.close)
        provide_engine(resources)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    skip_what_is_not_for(ENGINE, items)


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return BACKEND


@pytest.fixture(scope="session")
def docker_api() -> Iterator[APIClient]:
    """The container engine's own API; what is another server's it can't change."""
    client, tried = connect()
    assert client is not None, f"the tests need a container engine: {tried}"
    yield guarded_client(client)
    client.close()


@pytest.fixture(scope="session")
def api(request: pytest.FixtureRequest) -> Iterator[APIClient]:
    """The API of what the sandboxes are in, to see from outside what our code has done."""
    if ENGINE == "kubernetes":
        from tests.support.cluster_api import ClusterApi

        with closing(ClusterApi()) as cluster:
            yield cast("APIClient", cluster)
    else:
        yield request.getfixturevalue("docker_api")


@pytest.fixture(scope="session")
def runner_image(api: APIClient) -> Iterator[str]:
    """Name of the runner image, built if need be, and in use: the tests of builds, which tidy up, can't remove it."""

    async def ensure() -> str:
        engine = create_engine(Settings())
        try:
            return await engine.ensure_image(lambda stage: print(stage, file=sys.stderr))  # noqa: T201
        finally:
            await engine.aclose()

    image = anyio.run(ensure)
    if ENGINE == "kubernetes":  # where images belong to the nodes
        yield image
        return
    holder = api.create_container(image)["Id"]
    yield image
    api.remove_container(holder)


@pytest.fixture(scope="session")
def settings() -> Settings:
    return Settings()


@pytest.fixture(scope="module")
async def shared(runner_image: str, anyio_backend: str) -> AsyncIterator[AsyncSandbox]:
    """A sandbox that the tests of a module share; each leaves it usable."""
    async with open_sandbox() as sandbox:
        yield sandbox


@pytest.fixture(scope="module")
async def small(runner_image: str, anyio_backend: str) -> AsyncIterator[AsyncSandbox]:
    """A sandbox whose every limit is soon reached, shared by the tests of a module."""
    async with open_sandbox(SMALL) as sandbox:
        yield sandbox


@pytest.fixture
def open_client(runner_image: str) -> OpenClient:
    """Starts our server as a client does, and speaks MCP with it over stdio."""

    @asynccontextmanager
    async def open_(*arguments: str, mode: str = "auto", env: dict[str, str] | None = None) -> AsyncGenerator[Client]:
        async with Client(stdio_client(server_parameters(*arguments, env=env)), mode=mode) as client:
            yield client

    return open_


@pytest.fixture
def context(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of runner_image, made the one that recipes read."""
    copy = shutil.copytree(CHECKOUT / "runner_image", tmp_path / "runner_image")
    monkeypatch.setattr(image_module, "_context_folder", lambda: copy)
    return copy


@pytest.fixture
def own_image(api: APIClient, runner_image: str) -> Iterator[str]:
    """The runner image by a name of the test's own, to which a package volume of its own belongs."""
    with named_anew(api, runner_image) as name:
        yield name
