"""``mcp-agentrun doctor`` on set-ups that are really broken: each is named, with its remedy."""

from __future__ import annotations

import gc
import hashlib
import io
import json
import os
import shutil
import socketserver
import subprocess
import sys
import tarfile
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from docker import APIClient

from tests.support.command_line import command
from tests.support.engines import needs_daemon
from tests.support.local_index import gateway_of, make_certificate, make_wheel, serve_index
from tests.support.private_engine import PrivateEngine, private_engine
from tests.support.serving import serving

MIB = 1 << 20
PROBE = "iniconfig"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without the settings, proxies, indexes and certificates of this machine."""
    for name in ("DOCKER_CONTEXT", "UV_DEFAULT_INDEX", "UV_INDEX_URL", "PIP_INDEX_URL", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "PIP_CERT", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    for name in ("XDG_CONFIG_HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(tmp_path))


def findings(**environ: str) -> dict[str, dict[str, str]]:
    """What ``doctor`` finds, by name."""
    ended = command("doctor", "--json", **environ)
    found = {each["name"]: each for each in map(json.loads, ended.stdout.splitlines())}
    levels = {each["level"] for each in found.values()}
    assert ended.returncode == (2 if "error" in levels else 1 if "warning" in levels else 0)
    assert "Traceback" not in ended.stdout + ended.stderr
    return found


def assert_found(found: dict[str, str], level: str, text: str, remedy: str) -> None:
    assert found["level"] == level, found
    assert text in found["text"], found
    assert remedy in found["remedy"], found


@pytest.fixture(scope="module")
def engine() -> Iterator[PrivateEngine]:
    """An engine without images and without network."""
    with private_engine() as engine:
        yield engine


@contextmanager
def loaded(engine: PrivateEngine, name: str, architecture: str) -> Generator[APIClient]:
    """A client of an engine that has an image of *architecture*, which holds an empty file system."""
    layer = archive_of({})
    config = {
        "architecture": architecture,
        "os": "linux",
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
    }
    manifest = [{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]
    image = {
        "config.json": json.dumps(config).encode(),
        "layer.tar": layer,
        "manifest.json": json.dumps(manifest).encode(),
    }
    with closing(engine.client()) as client:
        client.load_image(archive_of(image))
        try:
            yield client
        finally:
            client.remove_image(name, force=True)


def archive_of(files: Mapping[str, bytes]) -> bytes:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return archive.getvalue()


# -- the engine


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@needs_daemon
def test_no_engine(tmp_path: Path) -> None:
    found = findings(DOCKER_HOST=f"unix://{tmp_path}/none.sock")["engine"]
    assert_found(found, "error", "no such socket: the engine is not running", "Start it")
    gc.collect()  # the SDK does not close a socket on which it could not connect


@pytest.mark.skipif(shutil.which("setpriv") is None, reason="needs setpriv to give up root's privileges")
def test_no_permission(engine: PrivateEngine) -> None:
    """Without the capability that makes root exempt, a socket of another user's can't be used."""
    os.chown(engine.socket, 65534, 65534)
    engine.socket.chmod(0o600)
    try:
        privileges = ("--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-dac_override,-dac_read_search")
        ended = subprocess.run(
            ["setpriv", *privileges, sys.executable, "-m", "mcp_agentrun", "doctor"],
            env={**os.environ, "DOCKER_HOST": engine.url},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    finally:
        os.chown(engine.socket, 0, 0)
    assert ended.returncode == 2, ended.stderr
    assert "This user may not use the container engine" in ended.stdout
    assert "sudo usermod -aG docker $USER" in ended.stdout


class _OldEngine(BaseHTTPRequestHandler):
    """Passes on what is asked of an engine, which seems to be one of 2018: a real one can't be built or pulled."""

    protocol_version = "HTTP/1.1"
    client: APIClient

    def do_GET(self) -> None:
        path = self.path.replace("/v1.39/", "/v1.41/")
        answer: Any = self.client.get(f"{self.client.base_url}{path}")
        content = answer.content
        if path.endswith("/version"):
            content = json.dumps({**answer.json(), "Version": "18.09.9", "ApiVersion": "1.39"}).encode()
        self.send_response(answer.status_code)
        for name, value in (("Api-Version", "1.39"), ("Content-Type", "application/json")):
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def address_string(self) -> str:
        return "a Unix socket"

    def log_message(self, format: str, *args: object) -> None:
        pass


class _UnixServer(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """Its end waits for the requests that are under way."""


def test_an_old_engine(engine: PrivateEngine, tmp_path: Path) -> None:
    with closing(engine.client()) as client:
        handler = type("Handler", (_OldEngine,), {"client": client})
        with serving(_UnixServer(str(tmp_path / "old.sock"), handler)):
            found = findings(DOCKER_HOST=f"unix://{tmp_path}/old.sock")["version"]
    assert_found(found, "error", "18.09.9, API 1.39 is too old", "Docker 20.10")


@pytest.mark.skipif(
    not Path("/sys/fs/cgroup/memory").is_dir(), reason="without version 1 of cgroups, dockerd needs all controllers"
)
def test_no_limits() -> None:
    with private_engine(before="umount /sys/fs/cgroup/memory /sys/fs/cgroup/pids /sys/fs/cgroup/cpu; ") as weak:
        found = findings(DOCKER_HOST=weak.url)["limits"]
        assert_found(found, "error", "does not limit memory; it does not limit processes", "cgroup v2")
        accepted = findings(DOCKER_HOST=weak.url, AGENTRUN_ACCEPT_WEAK_ENGINE="true")["limits"]
    assert_found(accepted, "warning", "accepted by accept_weak_engine", "cgroup v2")


# -- the image, and what it needs


def test_no_image_and_no_registry(engine: PrivateEngine) -> None:
    base = "registry.invalid/python:3.13"
    found = findings(DOCKER_HOST=engine.url, AGENTRUN_IMAGE_BASE=base)
    assert_found(found["image"], "error", "registry.invalid", "AGENTRUN_IMAGE_BASE")
    assert found["index"]["level"] == "skipped"
    own = findings(DOCKER_HOST=engine.url, AGENTRUN_IMAGE=base)["image"]
    assert_found(own, "error", "can't be built or pulled", "docker load")


def test_a_full_disk() -> None:
    with private_engine(size=256 * MIB) as small:
        with (small.data_root / "full").open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, shutil.disk_usage(small.data_root).free - MIB)
        found = findings(DOCKER_HOST=small.url)["disk"]
    assert_found(found, "error", "only ", "image prune")
    assert "KiB free" in found["text"] or "1.0 MiB free" in found["text"]


def test_the_wrong_architecture(engine: PrivateEngine) -> None:
    with loaded(engine, "elsewhere:1", "s390x"):
        found = findings(DOCKER_HOST=engine.url, AGENTRUN_IMAGE="elsewhere:1")["image"]
    assert_found(found, "error", "elsewhere:1 is for s390x", "unset AGENTRUN_IMAGE")


def test_a_container_of_somebody_else_with_our_name(engine: PrivateEngine) -> None:
    with loaded(engine, "empty:1", "amd64") as client:
        made = client.create_container("empty:1", ["/x"], name="mcp-agentrun-runner-mine")["Id"]
        try:
            found = findings(DOCKER_HOST=engine.url)["leftovers"]
        finally:
            client.remove_container(made)
    assert_found(
        found, "warning", "not made by this program, in spite of their names: mcp-agentrun-runner-mine", "docker rm"
    )


def test_a_stale_lock(engine: PrivateEngine, tmp_path: Path) -> None:
    """A lock is stale while its process hangs, and gone with it; the file that is left locks nothing."""
    lock = tmp_path / "mcp-agentrun" / "build.lock"
    lock.parent.mkdir()
    code = "import fcntl, sys, time; file = open(sys.argv[1], 'ab'); fcntl.flock(file, fcntl.LOCK_EX); print('held')"
    holding = [sys.executable, "-u", "-c", f"{code}; time.sleep(600)", str(lock)]
    hanging = subprocess.Popen(holding, stdout=subprocess.PIPE)
    try:
        assert hanging.stdout is not None and hanging.stdout.readline() == b"held\n"
        found = findings(DOCKER_HOST=engine.url)["lock"]
    finally:
        hanging.kill()
        hanging.communicate()
    assert_found(found, "warning", "another process holds the lock", "lsof")
    assert lock.exists()
    assert findings(DOCKER_HOST=engine.url)["lock"]["level"] == "ok"


# -- the network of the installer


class _Refusing(BaseHTTPRequestHandler):
    """A proxy that lets nobody through."""

    def do_CONNECT(self) -> None:
        self.send_error(403, "Not for you")

    def do_GET(self) -> None:
        self.do_CONNECT()

    def log_message(self, format: str, *args: object) -> None:
        pass


def test_a_proxy_that_can_not_be_reached(engine: PrivateEngine, api: APIClient) -> None:
    found = findings(DOCKER_HOST=engine.url, HTTPS_PROXY=f"http://me:secret@{gateway_of(api)}:1")["proxy"]
    assert_found(found, "error", "can't be reached: Connection refused", "HTTPS_PROXY")
    assert "secret" not in found["text"]


def test_a_proxy_that_refuses(runner_image: str, api: APIClient) -> None:
    server = ThreadingHTTPServer((gateway_of(api), 0), _Refusing)
    with serving(server):
        proxy = f"http://{gateway_of(api)}:{server.server_port}"
        found = findings(HTTPS_PROXY=proxy, HTTP_PROXY=proxy, UV_DEFAULT_INDEX="https://index.invalid/simple")
    assert found["proxy"]["level"] == "ok"
    assert_found(found["index"], "error", "", "Check the proxy in HTTPS_PROXY")


def test_an_index_that_can_not_be_reached(runner_image: str, api: APIClient, tmp_path: Path) -> None:
    index = f"http://{gateway_of(api)}:1/simple"
    assert_found(findings(UV_DEFAULT_INDEX=index)["index"], "error", "refused", f"Check the index {index}")
    make_wheel(tmp_path / "simple" / PROBE, PROBE)
    with serve_index(tmp_path, api) as url:
        assert findings(UV_DEFAULT_INDEX=url)["index"]["level"] == "ok"


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl to make a certificate")
def test_a_certificate_that_is_not_known(runner_image: str, api: APIClient, tmp_path: Path) -> None:
    certificate = make_certificate(tmp_path, gateway_of(api))
    make_wheel(tmp_path / "simple" / PROBE, PROBE)
    with serve_index(tmp_path, api, certificate=certificate) as url:
        found = findings(UV_DEFAULT_INDEX=url)["index"]
        assert_found(found, "error", "certificate", "REQUESTS_CA_BUNDLE")
        assert findings(UV_DEFAULT_INDEX=url, REQUESTS_CA_BUNDLE=str(tmp_path / "cert.pem"))["index"]["level"] == "ok"
