"""A server that runs in a container of the engine: which owners have ended, and where its folders are on the host."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mcp_agentrun.engine import LABEL_OWNER, ContainerSpec
from mcp_agentrun.engine.docker.engine import DockerEngine
from mcp_agentrun.engine.docker.image import ImageRecipe
from mcp_agentrun.engine.docker.server_container import LABEL_SERVER, ServerContainer, orphans
from mcp_agentrun.engine.owner import Owner
from mcp_agentrun.errors import EngineError
from mcp_agentrun.host_folder import HostFolder

HERE, OTHER, GONE = "a" * 64, "b" * 64, "c" * 64
LIVING = Owner.current()
DEAD = replace(LIVING, began=1.0)
ELSEWHERE = replace(LIVING, host="another", namespace="pid:[1]", pid=1)
MOUNTINFO = f"282 264 254:0 /var/lib/docker/containers/{HERE}/hostname /etc/hostname rw,relatime - ext4 /dev/vda rw\n"


class Docker:
    """An engine on which the containers *running* run."""

    base_url = "http://proxy:2375"

    def __init__(self, *running: str, mounts: Mapping[str, str] | None = None) -> None:
        self.running = running
        self.mounts = mounts or {}
        self.made: list[dict[str, Any]] = []

    def containers(self, *, filters: dict[str, list[str]]) -> list[dict[str, Any]]:
        mounts = [{"Destination": target, "Source": source} for target, source in self.mounts.items()]
        return [{"Id": each, "Mounts": mounts} for each in self.running if each in filters["id"]]

    def info(self) -> dict[str, Any]:
        return {}

    def create_host_config(self, **options: Any) -> dict[str, Any]:
        return options

    def create_container_config(self, **options: Any) -> dict[str, Any]:
        return options

    def create_container_from_config(self, config: dict[str, Any], name: str) -> dict[str, Any]:
        self.made.append(config)
        return {"Id": name}

    def close(self) -> None:
        pass


def is_orphan(owner: Owner | str, container: str = "", *, running: tuple[str, ...] = (HERE, OTHER)) -> bool:
    """Whether a server in the container `HERE` takes the owner in *container* for dead."""
    label = owner if isinstance(owner, str) else owner.to_label()
    labels = {LABEL_OWNER: label, **({LABEL_SERVER: container} if container else {})}
    api: Any = Docker(*running)
    return bool(orphans(api, [{"Id": "x", "Labels": labels}], ServerContainer(HERE, {})))


def test_an_owner_has_ended_with_its_container() -> None:
    assert is_orphan(ELSEWHERE, GONE)
    assert is_orphan(ELSEWHERE, OTHER, running=(HERE,))
    assert not is_orphan(ELSEWHERE, OTHER)
    assert not is_orphan("{}", GONE)


def test_an_owner_has_ended_when_its_container_was_restarted() -> None:
    assert is_orphan(ELSEWHERE, HERE)
    assert is_orphan(replace(LIVING, boot="another"), HERE)
    assert not is_orphan(LIVING, HERE)
    assert is_orphan(DEAD, HERE)
    assert not is_orphan(replace(LIVING, host="another"), HERE)  # the address of the network may be part of the host


def test_an_owner_outside_containers_is_known_by_its_process() -> None:
    assert is_orphan(DEAD)
    assert not is_orphan(LIVING)
    assert not is_orphan(ELSEWHERE)


@pytest.fixture
def in_container(monkeypatch: pytest.MonkeyPatch) -> None:
    """This process seems to run in the container `HERE`."""
    read = Path.read_text

    def read_text(path: Path, *arguments: Any, **options: Any) -> str:
        return MOUNTINFO if path == Path("/proc/self/mountinfo") else read(path, *arguments, **options)

    monkeypatch.setattr(Path, "read_text", read_text)


@pytest.mark.usefixtures("in_container")
def test_the_container_of_this_process_is_one_of_the_engine() -> None:
    here: Any = Docker(HERE, mounts={"/srv": "/data/srv"})
    assert ServerContainer.find(here) == ServerContainer(HERE, {"/srv": "/data/srv"})
    other_engine: Any = Docker(OTHER)
    assert ServerContainer.find(other_engine) is None


@pytest.mark.skipif(os.name == "nt", reason="containers of Linux")
def test_a_folder_is_named_as_on_the_host() -> None:
    server = ServerContainer(HERE, {"/srv": "/data/srv", "/srv/deep": "/other", "/tmp": ""})
    assert server.host_path(Path("/srv")) == "/data/srv"
    assert server.host_path(Path("/srv/a/b")) == "/data/srv/a/b"
    assert server.host_path(Path("/srv/deep/er")) == "/other/er"
    assert server.host_path(Path("/tmp/a")) is None
    assert server.host_path(Path("/home")) is None
    assert ServerContainer(HERE, {"/": "/whole"}).host_path(Path("/srv")) == "/whole/srv"


@pytest.mark.anyio
@pytest.mark.usefixtures("in_container")
@pytest.mark.skipif(os.name == "nt", reason="containers of Linux")
async def test_folders_and_memory_are_those_of_the_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    docker = Docker(HERE, mounts={str(tmp_path): "/of/the/host"})

    def connect() -> tuple[Any, list[str]]:
        return docker, []

    monkeypatch.setattr("mcp_agentrun.engine.docker.engine.connect", connect)
    engine = DockerEngine(recipe=ImageRecipe())
    assert await engine.free_memory() is not None
    inside, outside = tmp_path / "inside", tmp_path.parent
    inside.mkdir()
    await engine.allocate(spec_with(inside))
    (made,) = docker.made
    assert [mount["Source"] for mount in made["host_config"]["mounts"][1:]] == ["/of/the/host/inside"]
    assert made["labels"][LABEL_SERVER] == HERE
    with pytest.raises(EngineError, match="exists only in the server's container"):
        await engine.allocate(spec_with(outside))
    await engine.aclose()


def spec_with(folder: Path) -> ContainerSpec:
    """The specification of a runner that reads *folder*."""
    return ContainerSpec(
        image="image",
        role="runner",
        sandbox="s",
        user="20000:20000",
        memory=1 << 30,
        cpus=1,
        pids=64,
        open_files=256,
        file_size=1 << 20,
        tmpfs={},
        data={"/workspace/data": HostFolder.pin(folder)},
    )
