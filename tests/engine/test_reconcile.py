"""What the server believes it owns, against what the engine really runs."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import anyio.to_thread
import pytest
from docker import APIClient

from mcp_agentrun.engine import LABEL_OWNER, LABEL_ROLE, LABEL_SANDBOX
from mcp_agentrun.engine.owner import Owner
from mcp_agentrun.errors import AgentRunError
from mcp_agentrun.sessions import Caller, SessionManager
from mcp_agentrun.settings import Settings
from tests.support.containers import containers_of
from tests.support.relay import Relay, relay
from tests.support.sandboxes import open_sessions

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("runner_image")]


async def test_a_container_of_ours_that_nobody_knows_goes(
    runner_image: str, api: APIClient, swept: anyio.Event
) -> None:
    async with open_sessions(Settings(pool=0, reserve=1, preload=())) as sessions:
        async with sessions.lease(Caller("one"), None) as lease:
            await lease.sandbox.run("x = 1")
        await swept.wait()
        labels = {LABEL_ROLE: "runner", LABEL_OWNER: Owner.current().to_label(), LABEL_SANDBOX: "nobody's"}
        stray = api.create_container(runner_image, entrypoint=["sleep", "1000"], labels=labels)["Id"]
        api.start(stray)
        assert stray in containers_of(api, os.getpid())
        await sessions.reconcile()
        assert stray not in containers_of(api, os.getpid())
        async with sessions.lease(Caller("one"), None) as lease:
            assert (await lease.sandbox.run("x")).output.text() == "1\n"


@asynccontextmanager
async def sessions_behind_relay(
    folder: Path, api: APIClient, monkeypatch: pytest.MonkeyPatch
) -> AsyncGenerator[tuple[SessionManager, Relay]]:
    """SessionManager whose engine is reached through a relay, which can refuse or be silent."""
    with relay(folder, api) as between:
        monkeypatch.setenv("DOCKER_HOST", f"unix://{folder}/engine.sock")
        async with open_sessions(Settings(pool=0, reserve=1, preload=())) as sessions:
            yield sessions, between


async def test_a_container_that_could_not_be_removed_is_removed_later(
    api: APIClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = set(containers_of(api, os.getpid()))
    async with sessions_behind_relay(tmp_path, api, monkeypatch) as (sessions, between):
        async with sessions.lease(Caller("one"), None) as lease:
            await lease.sandbox.run("1")
        (container,) = set(containers_of(api, os.getpid())) - before
        await anyio.to_thread.run_sync(api.pause, container)  # nor does it end by itself
        between.refuses = lambda data: data.startswith(b"DELETE ")
        sessions.disconnect("one")
        await anyio.to_thread.run_sync(between.has_refused.wait, 60)
        assert container in containers_of(api, os.getpid())
        between.refuses = lambda _: False
        await sessions.reconcile()
        assert container not in containers_of(api, os.getpid())


async def test_a_sandbox_whose_container_went_without_a_word_is_noticed_and_told(
    api: APIClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    before = set(containers_of(api, os.getpid()))
    async with sessions_behind_relay(tmp_path, api, monkeypatch) as (sessions, between):
        async with sessions.lease(Caller("one"), None) as lease:
            await lease.sandbox.run("x = 1")
            sandbox = lease.sandbox
        (container,) = set(containers_of(api, os.getpid())) - before
        between.is_mute = True
        await anyio.to_thread.run_sync(lambda: api.remove_container(container, force=True))
        assert sandbox.is_ready  # it believes so still
        await sessions.reconcile()
        assert not sandbox.is_ready
        assert "a sandbox's container is gone" in caplog.text
        between.is_mute = False
        async with sessions.lease(Caller("one"), None) as lease:
            result = await lease.sandbox.run("'x' in globals()")
        assert result.replaced
        assert result.output.text() == "False\n"


async def test_a_spare_that_is_lost_is_replaced(api: APIClient) -> None:
    async with open_sessions(Settings(pool=1, pool_max=1, reserve=1, preload=())) as sessions:
        with anyio.fail_after(60):
            while sessions.spares < 1:
                await anyio.sleep(0.02)
        (container,) = containers_of(api, os.getpid())
        await anyio.to_thread.run_sync(lambda: api.remove_container(container, force=True))
        with anyio.fail_after(60):
            while containers_of(api, os.getpid()) in ([], [container]) or sessions.spares < 1:
                try:
                    await sessions.reconcile()
                except AgentRunError as error:
                    pytest.fail(str(error))
        async with sessions.lease(Caller("one"), None) as lease:
            assert (await lease.sandbox.run("1")).output.text() == "1\n"


async def test_a_spare_is_warm_and_as_it_was_made() -> None:
    async with open_sessions(Settings(pool=1, pool_max=1, reserve=1)) as sessions:
        with anyio.fail_after(60):
            while sessions.spares < 1:
                await anyio.sleep(0.02)
        async with sessions.lease(Caller("one"), None) as lease:
            result = await lease.sandbox.run("import sys; 'pandas' in sys.modules, 'pandas' in globals()")
            assert result.output.text() == "(True, False)\n"
            assert result.number == 1
            assert not result.replaced
            assert await lease.sandbox.files.list() == []
