"""``mcp-agentrun doctor``: each broken set-up is named, with its remedy."""

from __future__ import annotations

import json
import socket
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import platformdirs
import pytest

from mcp_agentrun.cli import checks
from mcp_agentrun.cli.checks import Finding, check_all, check_network
from mcp_agentrun.engine import ContainerInfo, Engine, EngineStatus
from mcp_agentrun.engine.docker import engine as docker_engine
from mcp_agentrun.engine.docker.image import is_build_locked
from mcp_agentrun.engine.docker.inventory import status, weaknesses
from mcp_agentrun.engine.network import NetworkSettings
from mcp_agentrun.engine.owner import Owner
from mcp_agentrun.errors import EngineError
from mcp_agentrun.sandbox import Housekeeping, facade
from mcp_agentrun.settings import Settings
from mcp_agentrun.wire.messages import Install, Message
from tests.support.command_line import command
from tests.support.fake_engine import STATUS, Answer, FakeEngine, Script, done, honest_installer

pytestmark = pytest.mark.anyio

MIB, GIB = 1 << 20, 1 << 30
CERTIFICATE = "error sending request: invalid peer certificate: UnknownIssuer"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without the settings, proxies and certificates of this machine."""
    for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "PIP_CERT", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    for name in ("XDG_CONFIG_HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(tmp_path))


def container(name: str, **fields: Any) -> ContainerInfo:
    values: dict[str, Any] = {"role": "runner", "sandbox": "s", "owner": None, "created": 0.0, "is_running": True}
    values |= {"is_orphaned": False, **fields}
    return ContainerInfo(id=name, name=name, **values)


def failing_installer(error: str) -> Script:
    """A script of an installer whose installations fail with *error*."""

    def script(message: Message) -> Sequence[Answer]:
        if isinstance(message, Install):
            return [done(message.request, message.sandbox, folder="", packages=(), error=error)]
        return honest_installer(message)

    return script


async def findings_of(
    engine: FakeEngine | None = None,
    *,
    network: NetworkSettings | None = None,
    listed: Sequence[ContainerInfo] = (),
    settings: Settings | None = None,
    **reported: Any,
) -> dict[str, Finding]:
    """What is found, by name."""
    engine = engine or FakeEngine()
    engine.reported = replace(STATUS, **{"time": time.time(), **reported})
    engine.listed = list(listed)
    settings, network = settings or Settings(), network or NetworkSettings()
    async with engine.running(), Housekeeping(settings, engine=engine, package_network=network) as housekeeping:
        return {finding.name: finding async for finding in check_all(settings, housekeeping)}


async def test_nothing_is_found_where_all_is_well() -> None:
    found = await findings_of(FakeEngine(free=8 * GIB))
    assert {finding.level for finding in found.values()} == {"ok"}, found
    assert {finding.remedy for finding in found.values()} == {""}


DEAD = replace(Owner.current(), began=1.0)


@pytest.mark.parametrize(
    ("broken", "name", "level", "text", "remedy"),
    [
        (
            {"is_outdated": True, "version": "Engine 18.9, API 1.39"},
            "version",
            "error",
            "1.39 is too old",
            "Update",
        ),
        ({"weaknesses": ("it does not limit memory",)}, "limits", "error", "not limit memory", "cgroup v2"),
        (
            {"image_architecture": None, "image_obstacle": "the registry does not respond"},
            "image",
            "error",
            "the registry does not respond",
            "AGENTRUN_IMAGE_BASE",
        ),
        ({"image_architecture": None}, "image", "warning", "not on the engine yet", "mcp-agentrun build"),
        ({"image_architecture": "aarch64"}, "image", "error", "is for aarch64", "AGENTRUN_IMAGE_BASE"),
        ({"architecture": "riscv64", "image_architecture": "riscv64"}, "architecture", "warning", "riscv64", "wheels"),
        ({"free_disk": 100 * MIB}, "disk", "error", "only 100 MiB free", "image prune"),
        ({"free_disk": 2 * GIB}, "disk", "warning", "only 2.0 GiB free", "image prune"),
        ({"memory": 512 * MIB}, "memory", "error", "512 MiB", "AGENTRUN_MEMORY"),
        ({"time": 0.0}, "clock", "warning", "s behind", "synchronise"),
        ({"is_building": True}, "lock", "warning", "lock for building", "end that process"),
        ({"listed": [container("mcp-agentrun-x", role=None)]}, "leftovers", "warning", "mcp-agentrun-x", "docker rm"),
        (
            {"listed": [container("a", owner=DEAD, is_orphaned=True)]},
            "leftovers",
            "warning",
            "1 container whose server has ended",
            "prune",
        ),
    ],
)
async def test_a_broken_set_up_is_named_with_its_remedy(
    broken: dict[str, Any], name: str, level: str, text: str, remedy: str
) -> None:
    found = (await findings_of(**broken)).pop(name)
    assert found.level == level
    assert text in found.text
    assert remedy in found.remedy


@pytest.mark.parametrize(
    ("error", "network", "remedy"),
    [
        ("dns error: failed to lookup address information", {}, "UV_DEFAULT_INDEX"),
        ("connection refused", {"index_url": "https://me:secret@index.example/simple"}, "https://***@index.example"),
        (CERTIFICATE, {}, "REQUESTS_CA_BUNDLE"),
        ("tunnel error: unsuccessful", {"proxies": {"HTTPS_PROXY": "http://proxy.example:3128"}}, "HTTPS_PROXY"),
    ],
)
async def test_an_index_that_the_installer_does_not_reach(
    error: str, network: dict[str, Any], remedy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def connect(*_: object) -> socket.socket:
        return socket.socket()

    monkeypatch.setattr(socket, "create_connection", connect)
    found = (await findings_of(FakeEngine([failing_installer(error)]), network=NetworkSettings(**network)))["index"]
    assert (found.level, error in found.text) == ("error", True)
    assert remedy in found.remedy
    assert "secret" not in found.text + found.remedy


async def test_the_index_is_not_asked_where_it_makes_no_sense() -> None:
    offline = await findings_of(settings=Settings(offline=True))
    assert offline["index"].level == "skipped" and offline["index"].text.startswith("offline:")
    assert (await findings_of(image_architecture=None))["index"].level == "skipped"


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("http://127.0.0.1:3128", "containers can't reach"),
        ("http://localhost:3128", "containers can't reach"),
        ("http://me:secret@proxy.example:1", "can't be reached: "),
        ("http://", "is not a URL"),
        ("http://proxy..example:1", "can't be reached: "),
    ],
)
async def test_a_broken_proxy(url: str, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(address: tuple[str, int], *_: object) -> socket.socket:
        address[0].encode("idna")  # as Python does
        raise ConnectionRefusedError(111, "Connection refused")

    monkeypatch.setattr(checks.socket, "create_connection", refuse)
    proxy, certificates = check_network(NetworkSettings(proxies={"HTTPS_PROXY": url}), {})
    assert (proxy.level, certificates.level) == ("error", "ok")
    assert text in proxy.text
    assert "HTTPS_PROXY" in proxy.remedy
    assert "secret" not in proxy.text


async def test_a_file_of_certificates_that_has_none(tmp_path: Path) -> None:
    for path in (tmp_path / "none.pem", Path(__file__)):
        _, found = check_network(NetworkSettings(), {"SSL_CERT_FILE": str(path)})
        assert (found.level, str(path) in found.text) == ("error", True)
        assert "SSL_CERT_FILE" in found.remedy


def test_no_engine() -> None:
    ended = command("doctor", DOCKER_HOST="tcp://127.0.0.1:1")
    assert ended.returncode == 2
    assert "FAIL  engine        No container engine can be reached: tcp://127.0.0.1:1" in ended.stdout
    assert "Start it" in ended.stdout and "Traceback" not in ended.stdout + ended.stderr
    assert "\x1b" not in ended.stdout


def test_an_engine_whose_packages_are_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mcp_agentrun.engine.kubernetes.engine", None)
    ended = command("doctor", AGENTRUN_ENGINE="kubernetes")
    assert (ended.returncode, ended.stderr) == (2, "")
    assert "FAIL  engine        engine (environment): " in ended.stdout
    assert "-> Install mcp-agentrun again, with the extra `kubernetes`" in ended.stdout


def test_no_permission(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = ["unix:///var/run/docker.sock (usual socket): permission denied (is this user in the docker group?)"]
    monkeypatch.setattr(docker_engine, "connect", lambda: (None, tried))
    ended = command("doctor", "--json")
    found = [json.loads(line) for line in ended.stdout.splitlines()]
    engine = next(finding for finding in found if finding["name"] == "engine")
    assert (ended.returncode, engine["level"]) == (2, "error")
    assert "may not use the container engine: unix:///var/run/docker.sock" in engine["text"]
    assert "usermod -aG docker" in engine["remedy"]


def test_settings_that_are_wrong() -> None:
    ended = command("doctor", AGENTRUN_MEMORY="lots")
    assert ended.returncode == 2
    assert "FAIL  settings      memory (environment)" in ended.stdout


def test_an_engine_that_fails_in_the_middle(monkeypatch: pytest.MonkeyPatch) -> None:
    class Failing(FakeEngine):
        async def list_containers(self, *, usage: bool = False) -> Sequence[ContainerInfo]:
            raise EngineError("The container engine does not respond")

    engine = Failing()
    engine.reported = replace(STATUS, time=time.time())

    def create(_: Settings) -> Engine:
        return engine

    monkeypatch.setattr(facade, "create_engine", create)
    ended = command("doctor", "--json", "--offline")
    found = [json.loads(line) for line in ended.stdout.splitlines()]
    assert (ended.returncode, ended.stderr) == (2, "")
    assert [each["text"] for each in found if each["level"] == "error"] == ["The container engine does not respond"]


@pytest.mark.parametrize(("disk", "code"), [(100 * GIB, 0), (2 * GIB, 1), (0, 2)])
def test_the_exit_code_says_how_bad_it_is(disk: int, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = FakeEngine()
    engine.reported = replace(STATUS, time=time.time(), free_disk=disk)

    def create(_: Settings) -> Engine:
        return engine

    monkeypatch.setattr(facade, "create_engine", create)
    ended = command("doctor", "--json", "--offline")
    assert ended.returncode == code
    assert all(set(json.loads(line)) == {"name", "level", "text", "remedy"} for line in ended.stdout.splitlines())


def test_a_lock_that_somebody_holds_is_seen() -> None:
    fcntl = pytest.importorskip("fcntl")
    assert not is_build_locked()
    folder = platformdirs.user_cache_path("mcp-agentrun", appauthor=False, ensure_exists=True)
    with (folder / "build.lock").open("ab") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert is_build_locked()
    assert not is_build_locked()


class OldEngine:
    """What an engine of long ago, without the image and without a registry, answers."""

    base_url = "http+docker://localhost"

    def info(self) -> dict[str, Any]:
        return {
            "OSType": "linux",
            "SecurityOptions": [],
            "Architecture": "aarch64",
            "MemTotal": GIB,
            "SystemTime": "2026-01-31T12:00:00.123456789+09:00",
            "DockerRootDir": "/",
        }

    def version(self) -> dict[str, Any]:
        return {"Version": "18.9", "ApiVersion": "1.39", "Components": [{"Name": "Engine"}]}

    def inspect_image(self, image: str) -> dict[str, Any]:
        import docker.errors

        raise docker.errors.ImageNotFound(image)

    def inspect_distribution(self, image: str) -> Any:
        import requests

        raise requests.exceptions.ConnectTimeout(image)


def test_what_docker_reports_is_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    old: Any = OldEngine()
    from mcp_agentrun.engine.docker.image import ImageRecipe

    found: EngineStatus = status(old, ImageRecipe(base="registry.example/python"), None)
    assert (found.is_outdated, found.version) == (True, "Engine 18.9, API 1.39")
    assert (found.architecture, found.image_architecture) == ("aarch64", None)
    assert found.image_obstacle == "the registry does not respond"
    assert found.weaknesses == tuple(weaknesses(old.info()))
    assert found.time == 1769828400.123456
