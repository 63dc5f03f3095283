"""The watch from outside: a container that breaks its stream or stops answering is replaced, and that is said."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import anyio
import anyio.to_thread
import pytest
from docker import APIClient

from mcp_agentrun.engine import link
from mcp_agentrun.errors import SandboxLostError
from mcp_agentrun.sandbox import AsyncSandbox
from mcp_agentrun.server.mcp.render import run_answer
from mcp_agentrun.settings import Settings
from tests.support.clients import OpenClient, facts_of, run, server_process, text_of
from tests.support.containers import container_of, containers_of
from tests.support.processes import wait_for_process
from tests.support.sandboxes import open_sandbox

pytestmark = pytest.mark.anyio

SETTINGS = Settings(preload=())


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that pings five times a second and takes five seconds of silence for the end."""
    monkeypatch.setattr(link, "PING_SECONDS", 0.2)
    monkeypatch.setattr(link, "SILENCE_SECONDS", 5.0)


HITS: dict[str, Callable[[APIClient, str], Any]] = {
    "killed": lambda api, container: api.kill(container),
    "paused": lambda api, container: api.pause(container),
    "removed": lambda api, container: api.remove_container(container, force=True),
}


@pytest.mark.parametrize("when", ["in a run", "between two runs"])
@pytest.mark.parametrize("hit", HITS)
async def test_a_sandbox_that_is_lost_is_replaced(
    runner_image: str, api: APIClient, impatient: None, hit: str, when: str
) -> None:
    async with open_sandbox(SETTINGS) as sandbox, open_sandbox(SETTINGS) as sibling:
        assert (await sandbox.run("x = 1; open('file', 'w').close()")).outcome == "ok"
        assert (await sibling.run("x = 2")).outcome == "ok"
        assert sandbox.state == "kept"
        container = await anyio.to_thread.run_sync(container_of, api, sandbox)
        with anyio.fail_after(100):
            if when == "in a run":
                with pytest.raises(SandboxLostError, match="Variables and files are gone"):
                    await _hit_in_a_run(sandbox, lambda: HITS[hit](api, container))
            else:
                await anyio.to_thread.run_sync(HITS[hit], api, container)
                while sandbox.is_ready:
                    await anyio.sleep(0.05)  # that the container is gone is found out by pings
            assert sandbox.state == "lost"
            again = await sandbox.run("import os; os.listdir(), 'x' in globals()")
        assert (again.outcome, again.value, again.replaced) == ("ok", "([], False)", True)
        assert "The sandbox had to be replaced" in text_of(run_answer(again, handle=None, new=False))
        assert not (await sandbox.run("1")).replaced
        assert sandbox.state == "kept"
        assert (await sibling.run("x")).value == "2"


async def _hit_in_a_run(sandbox: AsyncSandbox, hit: Callable[[], Any]) -> None:
    begun = anyio.Event()

    async def on_output(_: bytes) -> None:
        begun.set()

    async def strike() -> None:
        await begun.wait()
        await anyio.to_thread.run_sync(hit)

    error: SandboxLostError | None = None
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(strike)
        try:
            await sandbox.run("print(1, flush=True); import time; time.sleep(60)", on_bytes=on_output)
        except SandboxLostError as lost:
            error = lost
    assert error is not None
    raise error


async def test_the_answer_says_that_the_state_is_lost(open_client: OpenClient, api: APIClient) -> None:
    async with open_client("--preload", "", "--safety", "off") as client:
        pid = int(text_of(await run(client, "import os; os.getpid()")))
        assert pid > 1
        lost: Any = None
        seconds = f"161.{time.time_ns()}"  # unlike that of any other process of this machine
        async with anyio.create_task_group() as tasks:

            async def call() -> None:
                nonlocal lost
                lost = await run(client, f"import subprocess; subprocess.run(['sleep', '{seconds}'])", timeout=150)

            tasks.start_soon(call)
            await anyio.to_thread.run_sync(wait_for_process, ["sleep", seconds])
            for container in containers_of(api, server_process().pid, "runner"):
                await anyio.to_thread.run_sync(api.kill, container)
        assert lost.is_error
        assert (facts_of(lost)["outcome"], facts_of(lost)["state"]) == ("unavailable", "lost")
        assert "The sandbox was lost during this call" in text_of(lost)
        again = await run(client, "1 + 1")
        assert text_of(again).startswith("[agentrun] The sandbox had to be replaced")
        assert text_of(again).endswith("2\n")
