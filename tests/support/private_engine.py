"""A Docker engine of the test's own, which it may stop, start and look into."""

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
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests
from docker import APIClient

_API_VERSION = "1.41"
RUNTIMES = {"runsc": ["--network=none", "--oci-seccomp"]}
"""OCI runtimes, beside the engine's own, that it offers where they are installed, and their arguments."""

__all__ = ["PrivateEngine", "private_engine"]


class PrivateEngine:
    """``dockerd`` with its own data, socket and no network. `start` returns when it answers."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data_root = folder / "data"
        self.socket = folder / "docker.sock"
        self.url = f"unix://{self.socket}"
        self.before = ""
        """Shell commands to be run in the engine's own network and mount namespace before it starts."""
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> APIClient:
        log = (self.folder / "log").open("ab")
        self._process = subprocess.Popen(
            [
                *("unshare", "--net", "--mount"),  # another engine's bridge is out of its reach
                *("sh", "-c", self.before + 'exec "$@"', "sh"),
                "dockerd",
                *("--host", self.url),
                *("--data-root", str(self.data_root)),
                *("--exec-root", str(self.folder / "exec")),
                *("--pidfile", str(self.folder / "pid")),
                *("--config-file", str(self._configuration())),
                "--iptables=false",
            ],
            stdout=log,
            stderr=log,
        )
        log.close()
        return self.client()

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
                client = APIClient(base_url=self.url, timeout=100, version=_API_VERSION)
                client.trust_env = False
                try:
                    client.ping()
                    return client
                except requests.exceptions.ConnectionError:  # it accepts before it has made its mind up to serve
                    client.close()
            is_alive = self._process is not None and self._process.poll() is None
            assert is_alive and time.monotonic() < deadline, (self.folder / "log").read_text()[-2000:]
            time.sleep(0.05)  # dockerd tells nobody but an init system when it is ready

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


@contextmanager
def private_engine(
    image: str | None = None, source: APIClient | None = None, *, size: int | None = None, before: str = ""
) -> Generator[PrivateEngine]:
    """A started engine, with a copy of *image* from the engine *source*.

    :param before: shell commands to be run in its own network and mount namespace before it starts.
    :param size: bytes of a file system of its own for its data; it has the machine's if None.
    """
    if sys.platform != "linux" or os.geteuid() != 0 or shutil.which("dockerd") is None:
        pytest.skip("needs root and dockerd, to run an engine of its own")
    folder = Path(tempfile.mkdtemp(prefix="agentrun-engine-"))
    engine = PrivateEngine(folder)
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
