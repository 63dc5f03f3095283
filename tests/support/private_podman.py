"""A Podman service of the tests' own, of which nothing is left."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from docker import APIClient
from docker.errors import DockerException

from mcp_agentrun.engine.docker.discovery import connect
from mcp_agentrun.engine.docker.image import ImageRecipe

__all__ = ["private_podman"]

_API_VERSION = "1.41"


@contextmanager
def private_podman() -> Generator[str]:
    """A Podman service with its own images, containers and networks; gives its URL.

    It gets the runner image and its bases from the usual engine, if that has them.
    """
    assert sys.platform == "linux" and os.geteuid() == 0 and shutil.which("podman"), "needs root and podman"
    folder = Path(tempfile.mkdtemp(prefix="agentrun-podman-"))
    podman = [
        *("podman", "--root", str(folder / "data"), "--runroot", str(folder / "run")),
        *("--tmpdir", str(folder / "state"), "--network-config-dir", str(folder / "networks")),
        *(() if Path("/run/systemd/system").is_dir() else ("--cgroup-manager", "cgroupfs")),
    ]
    url = f"unix://{folder}/podman.sock"
    with (folder / "log").open("wb") as log:
        service = subprocess.Popen([*podman, "system", "service", "--time", "0", url], stdout=log, stderr=log)
    try:
        _copy_images(_client(url, service, folder / "log"))
        yield url
    finally:
        subprocess.run([*podman, "rm", "--all", "--force", "--time", "0"], capture_output=True, check=False)
        service.terminate()
        service.wait(100)
        subprocess.run(["umount", "--lazy", str(folder / "data/overlay")], capture_output=True, check=False)
        shutil.rmtree(folder, ignore_errors=True)


def _client(url: str, service: subprocess.Popen[bytes], log: Path) -> APIClient:
    deadline = time.monotonic() + 100
    while True:
        with contextlib.ExitStack() as closing, contextlib.suppress(DockerException, OSError):
            client = closing.enter_context(APIClient(base_url=url, timeout=300, version=_API_VERSION))
            client.ping()
            closing.pop_all()
            return client
        assert service.poll() is None and time.monotonic() < deadline, log.read_text()[-2000:]
        time.sleep(0.05)  # it tells nobody when it is ready


def _copy_images(target: APIClient) -> None:
    recipe = ImageRecipe()
    source, _ = connect()
    with contextlib.closing(target):
        if source is not None:
            with contextlib.closing(source):
                for name in ("mcp-agentrun-base:trixie", recipe.base, recipe.environment_tag, recipe.tag):
                    if source.images(name):
                        target.load_image(source.get_image(name))
