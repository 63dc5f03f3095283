"""What the real engine reports for ``doctor``, ``ps`` and ``image``."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from typing import Any, Literal

import pytest
from docker import APIClient

from mcp_agentrun.cli.checks import Finding, check_all
from mcp_agentrun.engine import LABEL_ROLE, Engine
from mcp_agentrun.engine.docker.image import LABEL_IMAGE
from mcp_agentrun.engine.owner import Owner
from mcp_agentrun.sandbox import AsyncSandbox, Housekeeping, NetworkSettings
from mcp_agentrun.settings import Settings
from tests.support.image import import_image
from tests.support.sandboxes import open_engine

pytestmark = pytest.mark.anyio

PROBE = "iniconfig"


@pytest.fixture
async def engine(anyio_backend: str) -> AsyncIterator[Engine]:
    async with open_engine() as opened:
        yield opened


async def findings(network: NetworkSettings, **options: Any) -> dict[str, Finding]:
    settings = Settings(**options)
    async with Housekeeping(settings, package_network=network) as housekeeping:
        return {finding.name: finding async for finding in check_all(settings, housekeeping)}


@pytest.mark.not_on("kubernetes", reason="what Pods use is known to its metrics server alone")
async def test_a_sandbox_is_listed_with_what_it_uses(shared: AsyncSandbox, engine: Engine) -> None:
    await shared.ready()
    listed = {each.sandbox: each for each in await engine.list_containers(usage=True)}
    found = listed[shared.id]
    assert (found.role, found.owner, found.is_running) == ("runner", Owner.current(), True)
    assert found.memory is not None and 1 << 20 < found.memory < 1 << 30
    assert found.processes is not None and found.processes > 1
    assert found.cpu is not None and found.cpu >= 0


@pytest.mark.not_on("kubernetes", reason="nodes keep the images")
async def test_the_image_is_listed_and_needed(runner_image: str, engine: Engine) -> None:
    found = {name: each for each in await engine.list_storage("image") for name in each.name.split(", ")}
    assert found[runner_image].is_used
    assert (found[runner_image].size or 0) > 100 << 20
    status = await engine.status()
    assert (status.image, status.image_architecture) == (runner_image, status.architecture)
    assert not status.is_outdated


async def test_what_nothing_uses_can_be_removed(engine: Engine, api: APIClient) -> None:
    name = f"mcp-agentrun-test:{secrets.token_hex(6)}"
    # Builds of other processes tidy up images of their own sorts, such as "runner".
    import_image(api, name, **{LABEL_IMAGE: "test"})
    volume = api.create_volume(name.replace(":", "-"), labels={LABEL_ROLE: "cache"})["Name"]
    created: tuple[tuple[Literal["image", "volume"], str], ...] = (("image", name), ("volume", volume))
    for kind, wanted in created:
        found = {each.name: each for each in await engine.list_storage(kind)}[wanted]
        assert not found.is_used
        await engine.remove_storage(found)
        await engine.remove_storage(found)  # it is gone already
        assert wanted not in {each.name for each in await engine.list_storage(kind)}


async def test_an_image_that_no_registry_has_is_reported() -> None:
    found = (await findings(NetworkSettings(), image="127.0.0.1:1/nothing:1"))["image"]
    assert found.level == "error"
    assert "can't be built or pulled" in found.text and "unset AGENTRUN_IMAGE" in found.remedy
