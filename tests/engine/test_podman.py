"""What is Podman's own, and must be as with Docker nevertheless."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from docker import APIClient

from mcp_agentrun.engine.docker import podman
from mcp_agentrun.errors import EngineError
from mcp_agentrun.settings import Settings
from tests.support.sandboxes import open_engine, open_sandbox, text_of
from tests.support.syscalls import SYSCALLS

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.usefixtures("runner_image"),
    pytest.mark.not_on("docker", "kubernetes", reason="of Podman only"),
]

SETTINGS = Settings(safety="off", preload=())
UNSHARE = SYSCALLS + "print(call(number(272, 97), 0x10000000))"


async def test_the_seccomp_profile_is_in_force_although_its_file_was_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for _ in range(2):
        async with open_sandbox(SETTINGS) as sandbox:
            assert await text_of(sandbox, UNSHARE) == "EPERM\n"
            assert "Seccomp:\t2" in await text_of(sandbox, "print(open('/proc/self/status').read())")
        (profile,) = (tmp_path / "mcp-agentrun" / "seccomp").iterdir()
        profile.write_text('{"defaultAction": "SCMP_ACT_ALLOW"}')


async def test_a_profile_that_the_service_does_not_see_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    def elsewhere(_: str) -> str:
        return "seccomp=/on/another/machine.json"

    monkeypatch.setattr(podman, "_seccomp_file", elsewhere)
    async with open_sandbox(SETTINGS) as sandbox:
        with pytest.raises(EngineError, match="copy the folder to the same path there"):
            await sandbox.run("1")


async def test_rootless_podman_that_ignores_limits_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    info = APIClient.info

    def rootless(client: APIClient) -> dict[str, Any]:
        return {**info(client), "Rootless": True, "CgroupVersion": "1", "CgroupDriver": "cgroupfs"}

    monkeypatch.setattr(APIClient, "info", rootless)
    async with open_engine() as engine:
        assert (await engine.status()).weaknesses == ("it has no cgroups, so it can't enforce any limit",)
    async with open_sandbox(SETTINGS) as sandbox:
        with pytest.raises(EngineError, match="it has no cgroups"):
            await sandbox.run("1")


async def test_the_status_says_what_is_missing() -> None:
    async with open_engine() as engine:
        status = await engine.status()
    assert status.version.startswith("Podman Engine 4.")
    assert (status.weaknesses, len(status.gaps)) == ((), 2)


async def test_no_folder_is_writable_that_is_not_with_docker() -> None:
    find = """
import os
for folder, _, _ in os.walk('/'):
    if not folder.startswith(('/proc', '/sys', '/workspace', '/tmp', '/dev/shm')) and os.access(folder, os.W_OK):
        print(folder)
"""
    async with open_sandbox(SETTINGS) as sandbox:
        assert set((await text_of(sandbox, find)).split()) == {"/dev/mqueue", "/run/agentrun"}
