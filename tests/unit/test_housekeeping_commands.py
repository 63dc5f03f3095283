"""``ps``, ``prune``, ``image``, ``uninstall`` and ``completion``, on an engine that is not real."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import platformdirs
import pytest

from mcp_agentrun.engine import ContainerInfo, Engine, StorageItem
from mcp_agentrun.engine.docker.inventory import list_containers, list_storage, remove_storage
from mcp_agentrun.engine.owner import Owner
from mcp_agentrun.errors import EngineError
from mcp_agentrun.sandbox import facade
from mcp_agentrun.settings import Settings
from tests.support.command_line import command
from tests.support.fake_engine import FakeEngine

MIB = 1 << 20
HERE = Owner.current()
DEAD = replace(HERE, began=1.0)
ELSEWHERE = replace(HERE, host="another")
SCRIPT = Path(sys.executable).with_name("mcp-agentrun")


def container(id_: str, **fields: Any) -> ContainerInfo:
    values: dict[str, Any] = {"role": "runner", "sandbox": "s", "owner": HERE, "created": time.time() - 200}
    values |= {"is_running": True, **fields}
    values.setdefault("is_orphaned", values["owner"] is not None and values["owner"].has_ended())
    return ContainerInfo(id=id_, name=f"mcp-agentrun-{id_}", **values)


def item(kind: Any, name: str, *, used: bool) -> StorageItem:
    return StorageItem(kind=kind, id=name, name=name, size=355 * MIB, created=time.time() - 7200, is_used=used)


class Stubborn(FakeEngine):
    """An engine that refuses to remove what is called stubborn."""

    async def remove_storage(self, item: StorageItem) -> None:
        if item.name == "stubborn":
            raise EngineError("The container engine refused: image is in use")
        await super().remove_storage(item)

    async def destroy(self, container: str) -> None:
        if container == "refused":
            raise EngineError("The container engine refused: removal is refused")
        await super().destroy(container)


@pytest.fixture(autouse=True)
def engine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeEngine:
    made = Stubborn()
    made.listed = [
        container("busy", memory=100 * MIB, cpu=0.97, processes=5),
        container("idle", role="installer", sandbox="", memory=20 * MIB, cpu=0.0, processes=2),
        container("dead", owner=DEAD, is_running=False),
        container("other", owner=ELSEWHERE, memory=MIB, cpu=0.0, processes=1),
        container("foreign", role=None, owner=None),
    ]
    made.items = [
        item("image", "runner:new", used=True),
        item("image", "runner:old", used=False),
        item("volume", "packages", used=False),
    ]

    def create(_: Settings) -> Engine:
        return made

    monkeypatch.setattr(facade, "create_engine", create)
    for name in ("HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name))
    return made


def test_ps() -> None:
    lines = command("ps").stdout.splitlines()
    assert max(map(len, lines)) <= 80
    rows = {line.split()[0]: line for line in lines}
    assert lines[0].split() == ["container", "kind", "owner", "age", "memory", "procs", "activity"]
    for name, texts in {
        "busy": ("sandbox", f" {os.getpid()} ", "3 min", "100 MiB", "busy 97%"),
        "idle": ("installer", "20.0 MiB", "idle"),
        "dead": ("ended", "starting"),
        "other": ("elsewhere",),
        "foreign": ("not ours", "unknown"),
    }.items():
        assert all(text in rows[name] for text in texts), name
    found = [json.loads(line) for line in command("ps", "--json").stdout.splitlines()]
    assert {each["name"]: each["activity"] for each in found}["mcp-agentrun-busy"] == "busy 97%"
    assert {each["id"] for each in found if (each["owner"] or {}).get("ended")} == {"dead"}


def test_ps_of_an_empty_engine(engine: FakeEngine) -> None:
    engine.listed = []
    assert command("ps").stdout == "No sandboxes.\n"
    assert command("ps", "--json").stdout == ""


def test_prune_removes_only_what_has_no_living_owner(engine: FakeEngine) -> None:
    assert "would remove dead" in command("prune", "--dry-run").stdout
    assert len(engine.listed) == 5
    assert command("prune").stdout == "removed dead (sandbox, 3 min old)\n"
    assert [each.id for each in engine.listed] == ["busy", "idle", "other", "foreign"]
    assert "Nothing to remove" in command("prune").stdout


def test_images(engine: FakeEngine) -> None:
    listed = command("image", "list").stdout.splitlines()
    assert listed[1].split() == ["355", "MiB", "2", "h", "yes", "runner:new"]
    assert [json.loads(line)["used"] for line in command("image", "list", "--json").stdout.splitlines()] == [
        True,
        False,
    ]
    assert "runner:old" in command("image", "prune", "--dry-run").stdout
    asked = command("image", "prune")
    assert (asked.returncode, "Give --yes" in asked.stderr) == (1, True)
    assert len(engine.items) == 3
    assert "removed runner:old" in command("image", "prune", "--yes").stdout
    assert [each.name for each in engine.items] == ["runner:new", "packages"]
    engine.items.append(item("image", "stubborn", used=False))
    refused = command("image", "prune", "--yes")
    assert (refused.returncode, "stubborn could not be removed: The container engine refused" in refused.stderr) == (
        1,
        True,
    )


def test_the_image_is_pushed_from_docker_whatever_the_engine(
    engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    made_for: list[str] = []

    def create(settings: Settings) -> Engine:
        made_for.append(settings.engine.name)
        return engine

    monkeypatch.setattr(facade, "create_engine", create)
    pushed = command("image", "push", "registry.example/runner", AGENTRUN_ENGINE="kubernetes").stdout
    assert pushed == f"registry.example/runner@sha256:{'0' * 64}\n"
    assert (engine.pushed, made_for) == (["registry.example/runner"], ["docker"])


def test_pods_are_listed_by_the_end_of_their_names(engine: FakeEngine) -> None:
    engine.listed = [container("mcp-agentrun-runner-0123456789ab")]
    assert command("ps").stdout.splitlines()[1].split()[0] == "0123456789ab"


def test_uninstall_where_one_folder_is_in_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on Windows."""

    def locate(*parts: str) -> Callable[..., Path]:
        return lambda *_, **__: tmp_path.joinpath("mcp-agentrun", *parts)

    for kind in ("config", "data", "state"):
        monkeypatch.setattr(platformdirs, f"user_{kind}_path", locate())
    monkeypatch.setattr(platformdirs, "user_cache_path", locate("Cache"))
    (tmp_path / "mcp-agentrun" / "Cache").mkdir(parents=True)
    (tmp_path / "mcp-agentrun" / "Cache" / "build.lock").write_text("# 10 bytes")
    ended = command("uninstall", "--yes")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "settings, tokens, state" in ended.stdout
    assert ended.stdout.count("10 B") == 1
    assert not (tmp_path / "mcp-agentrun").exists()


def test_uninstall_leaves_a_folder_that_is_a_link(tmp_path: Path) -> None:
    (tmp_path / "dotfiles").mkdir()
    (tmp_path / "XDG_CONFIG_HOME").mkdir()
    (tmp_path / "XDG_CONFIG_HOME" / "mcp-agentrun").symlink_to(tmp_path / "dotfiles")
    ended = command("uninstall", "--yes")
    assert (ended.returncode, (tmp_path / "dotfiles").exists()) == (1, True)
    assert "can't be removed: it is a symbolic link\n" in ended.stderr


def test_uninstall(engine: FakeEngine, tmp_path: Path) -> None:
    for folder, name in (("CACHE", "build.lock"), ("DATA", "tokens"), ("CONFIG", "config.toml")):
        file = tmp_path / f"XDG_{folder}_HOME" / "mcp-agentrun" / name
        file.parent.mkdir(parents=True)
        file.write_text("# 10 bytes")
    assert command("client", "add", "cursor", "--yes").returncode == 0
    before = sorted(tmp_path.rglob("*"))
    shown = command("uninstall", "--dry-run").stdout
    for text in ("mcp-agentrun-busy", "runner:new", "355 MiB", "packages", "settings", "tokens", "10 B", "mcp.json"):
        assert text in shown, text
    assert "mcp-agentrun-foreign" not in shown
    assert "3 of the containers may belong to running servers" in shown
    assert command("uninstall").returncode == 1
    assert sorted(tmp_path.rglob("*")) == before
    assert len(engine.items) == 3
    removed = command("uninstall", "--yes")
    assert removed.returncode == 0, removed.stderr
    assert engine.items == []
    assert [each.id for each in engine.listed] == ["foreign"]
    assert not list(tmp_path.glob("XDG_*/mcp-agentrun"))
    assert "agentrun" not in (tmp_path / "HOME" / ".cursor" / "mcp.json").read_text()
    engine.listed = []
    assert command("uninstall").stdout == "There is nothing to remove.\n"


def test_what_an_engine_refuses_to_remove_does_not_stop_the_rest(engine: FakeEngine, tmp_path: Path) -> None:
    engine.listed = [container("refused", owner=DEAD), container("dead", owner=DEAD)]
    pruned = command("prune")
    assert (pruned.returncode, pruned.stdout) == (1, "removed dead (sandbox, 3 min old)\n")
    assert "refused (sandbox, 3 min old) could not be removed: " in pruned.stderr
    folder = tmp_path / "XDG_DATA_HOME" / "mcp-agentrun"
    folder.mkdir(parents=True)
    ended = command("uninstall", "--yes")
    assert (ended.returncode, "removal is refused" in ended.stderr, "Done" in ended.stdout) == (1, True, False)
    assert (engine.items, folder.exists()) == ([], False)


def test_uninstall_without_an_engine(engine: FakeEngine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async def fail(**_: bool) -> Sequence[ContainerInfo]:
        raise EngineError("No container engine can be reached.")

    monkeypatch.setattr(engine, "list_containers", fail)
    folder = tmp_path / "XDG_DATA_HOME" / "mcp-agentrun"
    folder.mkdir(parents=True)
    ended = command("uninstall", "--yes")
    assert (ended.returncode, "were not removed" in ended.stderr) == (1, True)
    assert not folder.exists()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_are_valid(shell: str) -> None:
    script = command("completion", shell).stdout
    assert "mcp-agentrun" in script
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=script, text=True, check=True, timeout=30)


@pytest.mark.skipif(not shutil.which("bash") or not SCRIPT.exists(), reason="needs bash and the installed command")
def test_bash_completes_commands_names_and_options() -> None:
    script = command("completion", "bash").stdout

    def completed(*words: str) -> list[str]:
        quoted = " ".join(f"'{word}'" for word in (SCRIPT, *words))
        code = f"{script}\nCOMP_WORDS=({quoted}) COMP_CWORD={len(words)}\n_mcp_agentrun_completion '{SCRIPT}'\n"
        code += "printf '%s\\n' \"${COMPREPLY[@]}\""
        run = subprocess.run(["bash", "-c", code], capture_output=True, text=True, timeout=60, check=True)
        return run.stdout.split()

    assert completed("cl") == ["client"]
    assert completed("client", "add", "cl") == ["claude-desktop", "claude-code", "cline"]
    assert completed("config", "--safety-o") == ["--safety-off"]


class Docker:
    """What Docker's API answers about containers and images."""

    def __init__(self) -> None:
        self.removed: list[str] = []

    def containers(self, **_: Any) -> list[dict[str, Any]]:
        common = {"Created": 5, "State": "running", "ImageID": "sha256:used"}
        labels = {"mcp-agentrun.role": "runner", "mcp-agentrun.owner": HERE.to_label(), "mcp-agentrun.sandbox": "s"}
        return [
            {"Id": "a", "Names": ["/mcp-agentrun-runner-a"], "Labels": labels, **common},
            {"Id": "b", "Names": ["/mcp-agentrun-x"], "Labels": None, **common},
        ]

    def stats(self, container: str, stream: bool) -> dict[str, Any]:
        if container == "b":
            raise json.JSONDecodeError("Expecting value", "", 0)  # it has ended meanwhile
        return {
            "memory_stats": {"usage": 100, "stats": {"inactive_file": 30}},
            "cpu_stats": {"cpu_usage": {"total_usage": 30}, "system_cpu_usage": 200, "online_cpus": 2},
            "precpu_stats": {"cpu_usage": {"total_usage": 10}, "system_cpu_usage": 100},
            "pids_stats": {"current": 4},
        }

    def images(self, **_: Any) -> list[dict[str, Any]]:
        def image(id_: str, created: int, kind: str, *tags: str) -> dict[str, Any]:
            labels = {"mcp-agentrun.image": kind}
            return {"Id": f"sha256:{id_}", "Created": created, "RepoTags": tags, "Size": 1, "Labels": labels}

        return [
            image("parent", 1, "environment", "environment:1"),
            image("child", 2, "runner", "runner:1", "also:1"),
            image("used", 3, "runner", "runner:2"),
            image("base", 0, "base", "base:1"),
            image("step", 4, "build", "<none>:<none>"),
        ]

    def inspect_image(self, image: str) -> dict[str, Any]:
        return {"RepoTags": ["runner:1", "also:1"]}

    def remove_image(self, image: str) -> None:
        import docker.errors

        self.removed.append(image)
        if image.startswith("sha256:"):
            raise docker.errors.ImageNotFound(image)


def test_an_owner_that_ended_in_another_container_is_shown_as_such(engine: FakeEngine) -> None:
    engine.listed = [container("dead", owner=ELSEWHERE, is_orphaned=True)]
    assert f"ended {ELSEWHERE.pid}" in command("ps").stdout


def test_what_docker_reports_is_understood() -> None:
    api: Any = Docker()
    ours, foreign = list_containers(api, None, usage=True)
    assert (ours.role, ours.owner, ours.memory, ours.cpu, ours.processes) == ("runner", HERE, 70, 0.4, 4)
    assert (foreign.role, foreign.owner, foreign.memory) == (None, None, None)
    found = list_storage(api, "image", {"environment:1"})
    assert [each.name for each in found] == ["step", "runner:2", "runner:1, also:1", "environment:1", "base:1"]
    assert [each.is_used for each in found] == [False, True, False, True, True]
    remove_storage(api, found[2])
    assert api.removed == ["runner:1", "also:1", "sha256:child"]
