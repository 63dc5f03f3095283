"""Fixtures and order of the tests in real containers."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import anyio
import pytest
from docker import APIClient

from mcp_agentrun.engine import Engine
from mcp_agentrun.engine.network import NetworkSettings
from mcp_agentrun.engine.registry import create_engine
from mcp_agentrun.sandbox import AsyncSandbox
from mcp_agentrun.settings import Settings
from tests.support.engines import ENGINE
from tests.support.image import named_anew
from tests.support.local_index import serve_index
from tests.support.sandboxes import open_sandbox


@pytest.fixture(scope="module")
def index(root: Path, api: APIClient) -> Iterator[str]:
    """The URL of an index of the packages in *root*, which is a fixture of the module."""
    if ENGINE == "kubernetes" and "MCP_AGENTRUN_TEST_HOST" not in os.environ:
        pytest.skip("MCP_AGENTRUN_TEST_HOST does not say where Pods reach this machine")
    with serve_index(root, api) as url:
        yield url


@pytest.fixture(scope="module")
def module_image(api: APIClient, runner_image: str) -> Iterator[str]:
    """The runner image by a name of the module's own, to which a package volume of its own belongs."""
    with named_anew(api, runner_image) as name:
        yield name


@pytest.fixture(scope="module")
async def sandbox(module_image: str, index: str, anyio_backend: str) -> AsyncIterator[AsyncSandbox]:
    """A sandbox that installs from *index*, shared by the tests of a module."""
    settings = Settings(safety="off", preload=(), image=module_image)
    async with open_sandbox(settings, NetworkSettings(index_url=index)) as sandbox:
        yield sandbox


@pytest.fixture
def swept(monkeypatch: pytest.MonkeyPatch) -> anyio.Event:
    """Set when an engine of this process has swept, as it does in the background after each start of a container."""
    kind = type(create_engine(Settings()))
    done, real = anyio.Event(), kind.sweep

    async def sweep(engine: Engine) -> int:
        removed = await real(engine)
        done.set()
        return removed

    monkeypatch.setattr(kind, "sweep", sweep)
    return done


_SLOWEST = (
    *("pages", "package_settings", "installer_attacks", "fidelity", "image", "http", "probes", "survival", "output"),
    *("versions", "files", "shows", "compat", "installer_users", "packages", "sandbox", "engine_failures"),
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start with the slowest modules, so that no worker is left with one of them at the end."""
    order = {f"test_{name}": number for number, name in enumerate(_SLOWEST)}
    items.sort(key=lambda item: order.get(item.path.stem, len(order)))
