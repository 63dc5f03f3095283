"""An engine that is missing, has no image, stops in the middle, or is looked into afterwards."""

from __future__ import annotations

import mmap
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import docker
import pytest
from docker import APIClient
from docker.errors import NotFound
from mcp.types import CallToolResult

from mcp_agentrun.engine import LABEL_ROLE
from mcp_agentrun.engine.docker import engine as engine_module
from mcp_agentrun.engine.docker import image
from mcp_agentrun.engine.docker.discovery import connect
from mcp_agentrun.engine.docker.engine import DockerEngine
from mcp_agentrun.engine.network import NetworkSettings
from mcp_agentrun.errors import EngineError
from mcp_agentrun.settings import Settings
from tests.support import CHECKOUT
from tests.support.clients import OpenClient, facts_of, run, text_of
from tests.support.engines import needs_daemon
from tests.support.local_index import make_wheel
from tests.support.private_engine import PrivateEngine, private_engine
from tests.support.processes import wait_for_process
from tests.support.relay import relay
from tests.support.sandboxes import open_sandbox

pytestmark = [pytest.mark.anyio, needs_daemon]


@pytest.fixture(scope="module")
def engine(api: APIClient, runner_image: str) -> Iterator[PrivateEngine]:
    with private_engine(runner_image, api) as running:
        yield running


async def test_no_engine_then_an_engine(open_client: OpenClient, engine: PrivateEngine) -> None:
    engine.stop()
    async with open_client(env={"DOCKER_HOST": engine.url}) as client:
        refused = await run(client, "1")
        assert refused.is_error
        assert facts_of(refused)["outcome"] == "unavailable"
        assert "No container engine can be reached." in text_of(refused)
        assert "Start it" in text_of(refused)
        assert engine.url in text_of(refused)
        assert (await client.call_tool("install_package", {"packages": "six"})).is_error
        assert (await client.call_tool("reset_sandbox", {})).is_error
        (await anyio.to_thread.run_sync(engine.start)).close()
        assert text_of(await run(client, "1 + 1")) == "2\n"


async def test_an_engine_that_stops_in_the_middle_of_a_call(open_client: OpenClient, engine: PrivateEngine) -> None:
    async with open_client("--safety", "off", env={"DOCKER_HOST": engine.url}) as client:
        await run(client, "x = 1")
        seconds = f"100.{time.time_ns()}"  # unlike that of any other process of this machine

        async def stop() -> None:
            await anyio.to_thread.run_sync(wait_for_process, ["sleep", seconds])
            await anyio.to_thread.run_sync(engine.stop)

        lost: CallToolResult | None = None
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(stop)
            lost = await run(client, f"import subprocess; subprocess.run(['sleep', '{seconds}'])", timeout=200)
        assert lost is not None
        assert lost.is_error
        assert facts_of(lost)["outcome"] == "unavailable"
        assert "lost during this call" in text_of(lost)
        down = await run(client, "x")
        assert "No container engine can be reached." in text_of(down)
        (await anyio.to_thread.run_sync(engine.start)).close()
        back = await run(client, "x")
        assert "NameError" in text_of(back)
        assert "The sandbox had to be replaced" in text_of(back)
        assert text_of(await run(client, "1 + 1")) == "2\n"


async def test_an_image_that_is_missing_and_can_not_be_had(open_client: OpenClient, engine: PrivateEngine) -> None:
    # Neither a registry nor mmdebstrap can be reached: this engine has no network, and the PATH no such tool.
    only = _folder_with_a_shell(engine.folder / "bin")
    for env, told in (
        ({"AGENTRUN_IMAGE": "no-such-image:1"}, "'no-such-image:1'"),
        ({"AGENTRUN_IMAGE_BASE": "registry.invalid/no-such-base:1"}, "registry.invalid/no-such-base:1"),
    ):
        async with open_client(env={"DOCKER_HOST": engine.url, "PATH": str(only), **env}) as client:
            refused = await run(client, "1")
            assert refused.is_error
            assert facts_of(refused)["outcome"] == "unavailable"
            assert told in text_of(refused)
            again = await run(client, "1")
            assert again.is_error
            assert facts_of(again)["outcome"] == "unavailable"


@pytest.mark.skipif(not Path("/sys/fs/cgroup/pids").is_dir(), reason="needs cgroup v1, to take one controller away")
async def test_an_engine_that_can_not_limit_is_refused_unless_one_insists(
    open_client: OpenClient, engine: PrivateEngine
) -> None:
    engine.stop()
    engine.before = "umount /sys/fs/cgroup/pids && "
    try:
        (await anyio.to_thread.run_sync(engine.start)).close()
        async with open_client(env={"DOCKER_HOST": engine.url}) as client:
            refused = await run(client, "1")
            assert facts_of(refused)["outcome"] == "unavailable"
            assert "it does not limit processes" in text_of(refused)
            assert "AGENTRUN_ACCEPT_WEAK_ENGINE=true" in text_of(refused)
        async with open_client(env={"DOCKER_HOST": engine.url, "AGENTRUN_ACCEPT_WEAK_ENGINE": "true"}) as client:
            assert text_of(await run(client, "1 + 1")) == "2\n"
    finally:
        engine.before = ""
        engine.stop()
        (await anyio.to_thread.run_sync(engine.start)).close()


def ignore_limits(monkeypatch: pytest.MonkeyPatch, role: str) -> None:
    made = docker.APIClient.create_container_from_config

    def without_limit(client: docker.APIClient, config: dict[str, Any], name: str) -> Any:
        if config["Labels"][LABEL_ROLE] == role:
            config["HostConfig"] |= {"Memory": 0, "MemorySwap": 0}
        return made(client, config, name)

    monkeypatch.setattr(docker.APIClient, "create_container_from_config", without_limit)


async def test_an_engine_that_ignores_limits_is_refused_unless_one_insists(
    runner_image: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ignore_limits(monkeypatch, "runner")
    async with open_sandbox(Settings(preload=())) as sandbox:
        with pytest.raises(EngineError, match="it does not limit the container's memory"):
            await sandbox.run("1")
    async with open_sandbox(Settings(preload=(), accept_weak_engine=True)) as sandbox:
        assert (await sandbox.run("1 + 1")).value == "2"


async def test_an_engine_that_ignores_the_limits_of_installers_is_refused(
    runner_image: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ignore_limits(monkeypatch, "installer")
    async with open_sandbox(Settings(preload=())) as sandbox:
        assert (await sandbox.run("1 + 1")).value == "2"
        with pytest.raises(EngineError, match="it does not limit the container's memory"):
            await sandbox.install("nothing")


async def test_an_engine_that_goes_while_an_installer_is_started_is_named(
    api: APIClient, runner_image: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    make_wheel(tmp_path / "wheels", "housed")
    settings = Settings(safety="off", preload=(), wheelhouse=tmp_path / "wheels", offline=True)
    with relay(tmp_path, api) as between:
        monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/engine.sock")
        async with open_sandbox(settings, NetworkSettings()) as sandbox:
            await sandbox.run("1")
            between.refuses = lambda data: b"/containers/json" in data.partition(b"\r\n")[0]
            with pytest.raises(EngineError, match="connection to the container engine was lost"):
                await sandbox.install("housed")
            assert between.has_refused.is_set()
            assert "unexpectedly" not in caplog.text
            between.refuses = lambda _: False
            assert (await sandbox.install("housed")).packages == (("housed", "1.0"),)


async def test_an_engine_that_goes_in_the_middle_of_a_build_is_named(
    api: APIClient, runner_image: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = shutil.copytree(CHECKOUT / "runner_image", tmp_path / "runner_image")
    (context / "runner" / "more.py").write_text(f"# {tmp_path}")
    monkeypatch.setattr(image, "_context_folder", lambda: context)
    with relay(tmp_path, api) as between:
        monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/engine.sock")
        between.cuts = lambda data: b"step 1/" in data.lower()
        engine = DockerEngine(recipe=image.ImageRecipe())
        try:
            with pytest.raises(EngineError, match="connection to the container engine was lost"):
                await engine.ensure_image(lambda _: None)
        finally:
            await engine.aclose()
            with suppress(NotFound):
                api.remove_image(image.ImageRecipe().tag)


async def test_folders_are_not_looked_for_on_another_machine(
    runner_image: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def by_ssh() -> tuple[APIClient | None, list[str]]:
        client, tried = connect()
        assert client is not None and client.base_url == "http+docker://localhost"
        client.base_url = "http+docker://ssh"  # as the SDK has it; what carries it is the same socket
        return client, tried

    monkeypatch.setattr(engine_module, "connect", by_ssh)
    async with open_sandbox(Settings(safety="off", preload=(), data=(str(tmp_path),))) as sandbox:
        with pytest.raises(EngineError, match="on another machine"):
            await sandbox.run("1")


async def test_neither_code_nor_output_is_kept_by_the_engine(open_client: OpenClient, engine: PrivateEngine) -> None:
    code_mark, output_mark = os.urandom(12).hex(), os.urandom(12).hex()
    rotated = output_mark[1:] + output_mark[0]
    async with open_client(env={"DOCKER_HOST": engine.url}) as client:
        # The output's mark is in no source: it is put together by the code.
        code = f"# {code_mark}\nm = '{rotated}'\nline = m[-1] + m[:-1] + '\\n'\nprint(line * (20_000_000 // len(line)))"
        result = await run(client, code)
        assert facts_of(result)["truncated"]["output"]["total"] > 19_000_000
        assert output_mark in text_of(result)
        found = await anyio.to_thread.run_sync(_files_with, engine.data_root, code_mark.encode(), output_mark.encode())
        assert found == []
    # The search can find: what is there is found.
    (engine.data_root / "probe").write_text("x" * 5000 + output_mark)
    assert _files_with(engine.data_root, output_mark.encode()) == [engine.data_root / "probe"]


def _folder_with_a_shell(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "sh").symlink_to(shutil.which("sh") or "/bin/sh")
    return folder


def _files_with(folder: Path, *marks: bytes) -> list[Path]:
    found: list[Path] = []
    for root, _, names in os.walk(folder):
        for name in names:
            path = Path(root, name)
            with suppress(FileNotFoundError):  # the engine removes temporary files
                if path.is_symlink() or not path.is_file() or not path.stat().st_size:
                    continue
                with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                    if any(content.find(mark) >= 0 for mark in marks):
                        found.append(path)
    return found
