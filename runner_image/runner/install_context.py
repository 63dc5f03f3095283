"""What the installations of one server share: limits, the image's packages, resolutions, and the download meter."""

from __future__ import annotations

import importlib.metadata
import os
import secrets
import shutil
import subprocess
import threading
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from mcp_agentrun.packages.pins import validated
from mcp_agentrun.wire import messages
from runner.accounts import VOLUME
from runner.publish import Publisher
from runner.resolution import Resolution

SANDBOXES = VOLUME / "sandboxes"
STAGING = VOLUME / "staging"
PYTHON = "/opt/venv/bin/python"
IMAGE_METADATA = "/tmp/image"  # a copy of the metadata of the distributions that the image has
RESOLUTION_SECONDS = 600.0  # how long a resolution is valid without asking the index again: as long as uv's cache
RESOLUTIONS_KEPT = 256

_CERTIFICATES = "/tmp/ca-bundle.pem"


class InstallContext:
    """See the module. Safe to use from several threads.

    :param folders: folders in use, which the installer keeps recent so that those of other servers don't remove them.
    """

    def __init__(self, hello: messages.InstallerHello, folders: set[Path]) -> None:
        self.limits = hello.limits
        self.certificates = ""  # file with the certificates to trust; empty for the system's
        if hello.ca_bundle:
            self.certificates = _CERTIFICATES
            Path(_CERTIFICATES).write_text(hello.ca_bundle)
        self.find_links = ""  # folder of the wheelhouse
        self.meter = Meter()
        self._folders = folders
        self._resolutions: dict[str, tuple[float, Resolution]] = {}
        self._lock = threading.Lock()
        site_packages = subprocess.check_output([PYTHON, "-Ic", "import sys; print(sys.path[-1])"], text=True).strip()
        found = {item.metadata["Name"]: item for item in importlib.metadata.distributions(path=[site_packages])}
        self.image = validated({name: item.version for name, item in found.items()})
        self.image_needs = {str(canonicalize_name(name)): _needs_of(item) for name, item in found.items()}
        for path in Path(site_packages).glob("*.dist-info/METADATA"):
            copy = Path(IMAGE_METADATA, path.parent.name)
            copy.mkdir(parents=True)
            shutil.copyfile(path, copy / path.name)
        self.image_metadata = frozenset(os.listdir(IMAGE_METADATA))
        for sandbox in hello.served:
            if (folder := SANDBOXES / sandbox).is_dir():
                self.keep(folder)

    def keep(self, folder: Path) -> None:
        """Mark *folder* as in use, even while no container uses it."""
        self._folders.add(folder)
        touch(folder)

    def environment(self, sources: messages.Sources) -> dict[str, str]:
        """Environment variables for one call of uv: where packages come from, with credentials."""
        given = {
            "UV_DEFAULT_INDEX": sources.index_url,
            "UV_INDEX": " ".join(sources.extra_index_urls),
            "UV_FIND_LINKS": self.find_links,
            "UV_OFFLINE": "1" if self.limits.offline else "",
            "UV_EXCLUDE_NEWER": self.limits.exclude_newer,
            "SSL_CERT_FILE": self.certificates,
            **sources.proxies,
        }
        return {name: value for name, value in given.items() if value}

    def resolution(self, digest: str) -> Resolution | None:
        """The recent resolution of a request with this *digest*, if any."""
        begun, resolution = self._resolutions.get(digest, (0.0, None))
        return resolution if time.monotonic() - begun < RESOLUTION_SECONDS else None

    def remember(self, digest: str, resolution: Resolution) -> None:
        """Keep *resolution* for later requests with the same *digest*."""
        with self._lock:
            self._resolutions.pop(digest, None)
            self._resolutions[digest] = (time.monotonic(), resolution)
            while len(self._resolutions) > RESOLUTIONS_KEPT:
                del self._resolutions[next(iter(self._resolutions))]

    def forget_resolutions(self) -> None:
        with self._lock:
            self._resolutions.clear()

    def publish(self, publisher: Publisher, sandbox: str) -> str:
        """Put an installation into a new folder of *sandbox*; returns its path below the volume, which is never used
        again.
        """
        folder = SANDBOXES / sandbox
        folder.mkdir(exist_ok=True)
        folder.chmod(0o711)
        self.keep(folder)
        staging = STAGING / secrets.token_hex(8)
        publisher.publish(staging)
        return str(staging.rename(folder / staging.name).relative_to(VOLUME))


class Meter:
    """Counts the bytes that each installation receives. The kernel counts them for the container, so those that come in
    while several installations run are divided among these.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seen = 0
        self._counts: dict[object, float] = {}

    @contextmanager
    def counting(self, installation: object) -> Generator[None]:
        """Count for *installation*, from 0."""
        self._update()
        with self._lock:
            self._counts[installation] = 0.0
        try:
            yield
        finally:
            self._update()
            with self._lock:
                del self._counts[installation]

    def received(self, installation: object) -> int:
        """Bytes that *installation* has received."""
        self._update()
        with self._lock:
            return round(self._counts[installation])

    def _update(self) -> None:
        with self._lock:
            now = _received()
            for installation in self._counts:
                self._counts[installation] += (now - self._seen) / len(self._counts)
            self._seen = now


def touch(folder: Path) -> None:
    with suppress(OSError):
        os.utime(folder)


def _needs_of(distribution: importlib.metadata.Distribution) -> Sequence[Requirement]:
    """Requirements of *distribution* of the image whose markers apply."""
    needs = map(Requirement, distribution.requires or ())
    return [need for need in needs if need.marker is None or need.marker.evaluate({"extra": ""})]


def _received() -> int:
    """Bytes that this container has received over the network."""
    with open("/proc/net/dev") as file:
        rows = [line.partition(":") for line in file]
    return sum(int(row.split()[0]) for name, colon, row in rows if colon and name.strip() != "lo")
