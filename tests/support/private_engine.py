"""An engine of the test's own, which it may stop, start and look into."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest
import requests
from docker import APIClient
from docker.errors import DockerException

from mcp_agentrun.engine.docker.discovery import connect
from mcp_agentrun.engine.docker.image import ImageRecipe, ensure_image
from mcp_agentrun.engine.docker.podman import PodmanClient
from tests.support.engines import ENGINE, require_daemon

_API_VERSION = "1.41"
RUNTIMES = {"runsc": ["--network=none", "--oci-seccomp"]}
"""OCI runtimes, beside the engine's own, that it offers where they are installed, and their arguments."""

__all__ = ["PrivateEngine", "PrivatePodman", "private_engine", "provide_engine"]


class PrivateEngine:
    """``dockerd`` with its own data, socket and no network. `start` returns when it answers."""

    program = "dockerd"
    client_class = APIClient

    def __init__(self, folder: Path, *, network: bool = False) -> None:
        self.folder = folder
        self.data_root = folder / "data"
        self.socket = folder / "engine.sock"
        self.url = f"unix://{self.socket}"
        self.before = ""
        """Shell commands to be run in the engine's own network and mount namespace before it starts."""
        self._network = network
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> APIClient:
        # In a network namespace of its own, another engine's bridge is out of its reach.
        own_namespaces = ("unshare", "--mount", *(() if self._network else ("--net",)))
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*own_namespaces, "sh", "-c", self.before + 'exec "$@"', "sh", *self._command()],
                stdout=log,
                stderr=log,
                env=self._environment(),
            )
        return self.client()

    def _command(self) -> list[str]:
        return [
            "dockerd",
            *("--host", self.url),
            *("--data-root", str(self.data_root)),
            *("--exec-root", str(self.folder / "exec")),
            *("--pidfile", str(self.folder / "pid")),
            *("--config-file", str(self._configuration())),
            "--iptables=false",
        ]

    def _environment(self) -> dict[str, str]:
        return dict(os.environ)

    def _configuration(self) -> Path:
        installed = {name: shutil.which(name) for name in RUNTIMES}
        runtimes = {name: {"path": path, "runtimeArgs": RUNTIMES[name]} for name, path in installed.items() if path}
        file = self.folder / "daemon.json"
        file.write_text(json.dumps({"runtimes": runtimes}))
        return file

    def client(self) -> APIClient:
        """A client of the running engine."""
        deadline = time.monotonic() + 100
        while True:
            if self._accepts():
                client = self.client_class(base_url=self.url, timeout=100, version=_API_VERSION)
                client.trust_env = False
                try:
                    client.ping()
                    return client
                except (requests.exceptions.ConnectionError, DockerException):  # it accepts before it serves
                    client.close()
            is_alive = self._process is not None and self._process.poll() is None
            assert is_alive and time.monotonic() < deadline, (self.folder / "log").read_text()[-2000:]
            time.sleep(0.05)  # it tells nobody but an init system when it is ready

    def _accepts(self) -> bool:
        with socket.socket(socket.AF_UNIX) as probe:
            return probe.connect_ex(str(self.socket)) == 0

    def kill(self) -> None:
        """As the kernel ends it for want of memory: nothing is tidied up."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()

    def stop(self) -> None:
        """As an administrator stops it: its containers end with it."""
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(signal.SIGTERM)
            process.wait(100)


class PrivatePodman(PrivateEngine):
    """Podman's service, likewise. It needs root, and with *network* its containers reach this machine."""

    program = "podman"
    client_class = PodmanClient

    def _command(self) -> list[str]:
        return [*self._podman(), "system", "service", "--time", "0", self.url]

    def _podman(self) -> list[str]:
        return [
            *("podman", "--root", str(self.data_root), "--runroot", str(self.folder / "run")),
            *("--tmpdir", str(self.folder / "state"), "--network-config-dir", str(self.folder / "networks")),
        ]

    def _environment(self) -> dict[str, str]:
        registries = self.folder / "registries.conf"
        registries.write_text(_REGISTRIES)
        return {
            **os.environ,
            "CONTAINERS_CONF": str(self._configuration()),
            "CONTAINERS_REGISTRIES_CONF": str(registries),
        }

    def _configuration(self) -> Path:
        is_booted = Path("/run/systemd/system").is_dir()
        runtime = "runc" if Path("/sys/fs/cgroup/unified").is_dir() else "crun"  # which refuses two versions of cgroups
        wrapper = self.folder / "runtime"
        wrapper.write_text(_RUNTIME.format(runtime=runtime))
        wrapper.chmod(0o755)
        file = self.folder / "containers.conf"
        file.write_text(f"""
[engine]
cgroup_manager = "{"systemd" if is_booted else "cgroupfs"}"
runtime = "{runtime}"
[engine.runtimes]
{runtime} = ["{wrapper}"]
""")
        return file

    def stop(self) -> None:
        """End it and its containers, which outlive the service by themselves."""
        if self._process is None:
            return
        with ExitStack() as stack:
            options: list[str] = []
            for kind, name in (("mount", "mnt"), ("net", "net")):
                namespace = stack.enter_context(Path(f"/proc/{self._process.pid}/ns/{name}").open())
                options.append(f"--{kind}=/proc/{os.getpid()}/fd/{namespace.fileno()}")
            super().stop()
            remove = [*self._podman(), "rm", "--all", "--force", "--time", "0"]
            subprocess.run(["nsenter", *options, *remove], env=self._environment(), capture_output=True, check=False)


_REGISTRIES = """
[[registry]]
location = "127.0.0.1"
insecure = true
"""  # as Docker has it

_RUNTIME = """#!/bin/sh
# Podman asks for more open files and processes than the root of a virtual machine or container may have to give.
for argument; do
    case $before in
    --bundle) edited=$argument/config.json ;;
    --process) edited=$argument ;;
    esac
    before=$argument
done
if [ "$edited" ]; then
    sed -Ei 's/("RLIMIT_(NOFILE|NPROC)","hard":)[0-9]{{7,}}(,"soft":)[0-9]{{7,}}/\\116384\\316384/g' "$edited"
fi
exec {runtime} "$@"
"""


@contextmanager
def private_engine(
    image: str | None = None,
    source: APIClient | None = None,
    *,
    size: int | None = None,
    before: str = "",
    network: bool = False,
) -> Generator[PrivateEngine]:
    """A started engine, with a copy of *image* from the engine *source*.

    :param network: in this machine's network, and not in one of its own that reaches nothing.
    :param before: shell commands to be run in its own network and mount namespace before it starts.
    :param size: bytes of a file system of its own for its data; it has the machine's if None.
    """
    require_daemon()
    kind = PrivatePodman if ENGINE == "podman" else PrivateEngine
    if sys.platform != "linux" or os.geteuid() != 0 or shutil.which(kind.program) is None:
        pytest.skip(f"needs root and {kind.program}, to run an engine of its own")
    folder = Path(tempfile.mkdtemp(prefix="agentrun-engine-"))
    engine = kind(folder, network=network)
    engine.before = before
    try:
        if size is not None:
            _mount(folder / "disk", engine.data_root, size)
        client = engine.start()
        if image is not None and source is not None:
            client.load_image(source.get_image(image))
        client.close()
        yield engine
    finally:
        engine.stop()
        if size is not None:
            subprocess.run(["umount", "--lazy", str(engine.data_root)], check=False)
        shutil.rmtree(folder, ignore_errors=True)


def _mount(file: Path, folder: Path, size: int) -> None:
    with file.open("wb") as disk:
        disk.truncate(size)
    folder.mkdir()
    subprocess.run(["mkfs.ext4", "-q", "-m", "0", str(file)], check=True)
    subprocess.run(["mount", "-o", "loop", str(file), str(folder)], check=True)


def provide_engine(resources: ExitStack) -> None:
    """Start the engine that the tests run against, unless it is one that runs already, and point this process and its
    children to it. *resources* end it.
    """
    if ENGINE != "podman" or "DOCKER_HOST" in os.environ:
        return
    source, _ = connect()
    engine = resources.enter_context(private_engine(network=True))
    with closing(engine.client()) as target:
        if source is not None:
            with closing(source):
                _copy_images(source, target)
    os.environ["DOCKER_HOST"] = engine.url


def _copy_images(source: APIClient, target: APIClient) -> None:
    recipe = ImageRecipe()
    for name in ("mcp-agentrun-base:trixie", recipe.base, recipe.environment_tag, recipe.tag):
        if source.images(name):
            target.load_image(source.get_image(name))
    ensure_image(target, recipe, print)
    if target.images(recipe.environment_tag):
        target.create_container(recipe.environment_tag, ["true"])  # in use, neither can be tidied up
    # While a container runs, the network has its gateway, where the tests' indexes are.
    target.start(target.create_container(recipe.tag, entrypoint=["sleep", "infinity"]))
