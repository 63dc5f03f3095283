"""PID 1 of the installer container: has packages fetched by uv, and never runs user code.

uv runs as a user of its own (see `runner.lanes`), wheels only, so that nothing of a package is executed, unless the
operator allows builds. What a sandbox has asked for is resolved as a whole, approved by the server, fetched, and taken
over into a new folder (see `runner.publish`). Nothing that comes from a package is parsed here: names and versions are
those that the resolver has written.
"""

from __future__ import annotations

import base64
import contextlib
import errno
import importlib.metadata
import os
import secrets
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from mcp_agentrun.packages.pins import FILE_NAME, PinError, Pins, validated
from mcp_agentrun.wire import messages
from mcp_agentrun.wire.codec import ProtocolError
from runner import lanes
from runner.installation import FULL, IMAGE_METADATA, PYTHON, UV, Installation, Meter
from runner.lanes import LOCKS, OWNER, READERS, USED, VOLUME, Lane, measure
from runner.linux.privileges import become, set_dumpable
from runner.publish import Publisher, PublishError
from runner.resolution import InstallError, Resolution

SANDBOXES = VOLUME / "sandboxes"
STAGING = VOLUME / "staging"
WHEELHOUSES = VOLUME / "wheelhouses"

HOST_SILENCE = 120.0
YOUNG_SECONDS = 600.0
"""A folder that nobody seems to own is left alone for so long: its owner may just be being replaced."""

_CERTIFICATES = "/tmp/ca-bundle.pem"


RESOLUTION_SECONDS = 600.0
"""How long what has been resolved holds without asking the index: as long as uv takes its word, too."""

RESOLUTIONS_KEPT = 256
HEARTBEAT_SECONDS = 5.0
_BUSY_SECONDS = 20.0


class Installer:
    """State shared by all installations of a server. Construct, then `serve`."""

    def __init__(self) -> None:
        self._writing = threading.Lock()
        self._heard = time.monotonic()
        self._requests: dict[int, Installation] = {}
        self._kept: set[Path] = set()
        """Folders that are in use here, and are to look so to other servers' installers."""
        self._upload: Path | None = None
        self._resolutions: dict[str, tuple[float, Resolution]] = {}
        self._remembering = threading.Lock()
        self._trimming = threading.Lock()
        self._find_links = ""
        self.meter = Meter()
        self.certificates = ""
        self.limits: messages.InstallLimits
        self.image: Pins = {}
        self.image_metadata: frozenset[str] = frozenset()
        self.image_needs: Mapping[str, Sequence[Requirement]] = {}

    def serve(self) -> NoReturn:
        threading.Thread(target=self._watch, daemon=True).start()
        decoder = messages.MessageDecoder()
        while data := os.read(0, 1 << 16):
            self._heard = time.monotonic()
            decoder.feed(data)
            for message in decoder:
                self._on_message(message)
        os._exit(0)

    def _watch(self) -> None:
        while time.monotonic() - self._heard < HOST_SILENCE:
            for folder in list(self._kept):
                _date_forward(folder)
            time.sleep(HEARTBEAT_SECONDS)
        os._exit(0)

    def _keep(self, folder: Path) -> None:
        """Mark *folder* as in use: it may have no container, at times, by which they would see that."""
        self._kept.add(folder)
        _date_forward(folder)

    def send(self, message: messages.Message) -> None:
        frame = messages.encode(message)
        with self._writing:
            view = memoryview(frame)
            while view:
                view = view[os.write(1, view) :]

    def _on_message(self, message: messages.Message) -> None:
        match message:
            case messages.Ping():
                self.send(messages.Pong())
            case messages.InstallerHello():
                self._start(message)
                self.send(messages.InstallerReady(held=tuple(folder.name for folder in self._kept)))
            case messages.Install():
                installation = Installation(self, message)
                self._requests[installation.request] = installation
                threading.Thread(target=self._install, args=(installation,)).start()
            case messages.Approved() | messages.InstallCancel():
                installation = self._requests.get(message.request)  # None: it has just been answered
                if installation is not None:
                    installation.approve(message) if type(message) is messages.Approved else installation.cancel()
            case messages.RemovePackages():
                threading.Thread(target=self._forget, args=(message.request, _folder_of(message.sandbox))).start()
            case messages.DescribeCache():
                threading.Thread(target=self._describe_cache, args=(message.request, message.clear)).start()
            case messages.OpenWheelhouse():
                self._open_wheelhouse(message.request, message.digest)
            case messages.Wheel():
                self._add_wheel(message)
            case _:
                raise ProtocolError(f"unexpected {type(message).__name__} message")

    def _start(self, hello: messages.InstallerHello) -> None:
        os.umask(0o022)
        _furnish()
        if hello.ca_bundle:
            self.certificates = _CERTIFICATES
            Path(_CERTIFICATES).write_text(hello.ca_bundle)
        self.limits = hello.limits
        site_packages = subprocess.check_output([PYTHON, "-Ic", "import sys; print(sys.path[-1])"], text=True).strip()
        found = {item.metadata["Name"]: item for item in importlib.metadata.distributions(path=[site_packages])}
        self.image = validated({name: item.version for name, item in found.items()})
        self.image_needs = {str(canonicalize_name(name)): _needs_of(item) for name, item in found.items()}
        for path in Path(site_packages).glob("*.dist-info/METADATA"):
            copy = Path(IMAGE_METADATA, path.parent.name)
            copy.mkdir(parents=True)
            shutil.copyfile(path, copy / path.name)
        self.image_metadata = frozenset(os.listdir(IMAGE_METADATA))
        for folder in map(_folder_of, hello.served):
            if folder.is_dir():
                self._keep(folder)
        _clear_out(SANDBOXES, {*hello.living, *hello.served})
        _clear_out(STAGING, set())

    def environment(self, sources: messages.Sources) -> dict[str, str]:
        """What uv finds in its environment: where packages come from, with credentials, for one call only."""
        given = {
            "UV_DEFAULT_INDEX": sources.index_url,
            "UV_INDEX": " ".join(sources.extra_index_urls),
            "UV_FIND_LINKS": self._find_links,
            "UV_OFFLINE": "1" if self.limits.offline else "",
            "UV_EXCLUDE_NEWER": self.limits.exclude_newer,
            "SSL_CERT_FILE": self.certificates,
            **sources.proxies,
        }
        return {name: value for name, value in given.items() if value}

    # -- installations

    def _install(self, installation: Installation) -> None:
        try:
            done = installation.carry_out()
        except Exception as error:  # whoever waits for the answer gets one
            done = messages.InstallDone(
                request=installation.request, sandbox=installation.sandbox, error=_explained(error)
            )
        del self._requests[installation.request]
        self.send(done)
        self._trim()

    def resolution(self, asked: str) -> Resolution | None:
        """What *asked*, a digest of everything that matters, came to a short time ago."""
        begun, resolution = self._resolutions.get(asked, (0.0, None))
        return resolution if time.monotonic() - begun < RESOLUTION_SECONDS else None

    def remember(self, asked: str, resolution: Resolution) -> None:
        """Keep what *asked* came to, for `resolution`."""
        with self._remembering:
            self._resolutions.pop(asked, None)
            self._resolutions[asked] = (time.monotonic(), resolution)
            while len(self._resolutions) > RESOLUTIONS_KEPT:
                del self._resolutions[next(iter(self._resolutions))]

    def publish(self, publisher: Publisher, sandbox: str) -> str:
        """Put an installation into a new folder of *sandbox*; returns its path below the volume, which no other
        installation ever has: whoever remembers something of a path remembers it of this one.
        """
        folder = _folder_of(sandbox)
        folder.mkdir(exist_ok=True)
        folder.chmod(0o711)
        self._keep(folder)
        staging = STAGING / secrets.token_hex(8)
        publisher.publish(staging)
        return str(staging.rename(folder / staging.name).relative_to(VOLUME))

    def _forget(self, request: int, folder: Path) -> None:
        self._kept.discard(folder)
        shutil.rmtree(folder, ignore_errors=True)
        self.send(messages.PackagesRemoved(request=request, sandbox=folder.name))

    # -- the cache

    def _describe_cache(self, request: int, clear: bool) -> None:
        busy: list[str] = []
        if clear:
            with self._remembering:
                self._resolutions.clear()
            for lane in lanes.ALL:
                try:
                    self._clear(lane)
                except OSError:  # such as a lane that is in use, and the server waits for an answer
                    busy.append(lane.name)
            _clear_out(WHEELHOUSES, set())
        else:
            with contextlib.suppress(Exception):  # whoever waits for the answer gets one
                self._trim()
        used: dict[str, float] = {}
        for last, path, _ in _used():
            used[path.name] = last
        size, _ = measure(*(lane.cache for lane in lanes.ALL), WHEELHOUSES)
        packages = tuple(sorted(used.items()))
        self.send(messages.CacheContents(request=request, size=size, packages=packages, busy=len(busy)))

    def _clear(self, lane: Lane) -> None:
        """:raises OSError: the volume failed, or the lane is in use."""
        deadline = time.monotonic() + _BUSY_SECONDS
        with lanes.acquired((lane,), lambda: time.monotonic() > deadline) as free:
            if free is None:
                raise TimeoutError
            lanes.remove(lane, lane.cache)
            shutil.rmtree(lane.used, ignore_errors=True)

    def _trim(self) -> None:
        """Remove what has been out of use for longest, until the cache is no larger than it may be. What another
        installation is using is left for the next time, and so is everything where the volume fails.
        """
        with self._trimming, contextlib.suppress(OSError):
            size, _ = measure(*(lane.cache for lane in lanes.ALL))
            for _, path, lane in _used():
                if size <= self.limits.cache_size:
                    return
                before, _ = measure(lane.cache)
                if self._clean(lane, path):
                    size += measure(lane.cache)[0] - before
            if size > self.limits.cache_size:
                for lane in lanes.ALL:
                    self._clean(lane)

    def _clean(self, lane: Lane, used: Path | None = None) -> bool:
        """Remove a distribution, or everything, from the cache of *lane*; false if the lane is in use."""
        tries = iter((False,))
        with lanes.acquired((lane,), lambda: next(tries, True)) as free:
            if free is None:
                return False
            if used is None:
                lanes.remove(lane, lane.cache)
            else:
                environment = {"UV_CACHE_DIR": str(lane.cache), "HOME": "/nonexistent"}
                lanes.run(lane, (UV, "cache", "clean", "--quiet", used.name), environment)
                used.unlink(missing_ok=True)
            return True

    # -- the wheelhouse

    def _open_wheelhouse(self, request: int, digest: str) -> None:
        folder = WHEELHOUSES / digest
        self._find_links = str(folder)
        if not folder.exists():
            self._upload = STAGING / secrets.token_hex(8)
            self._upload.mkdir()
            self._keep(self._upload)
        self._keep(folder)
        self.send(messages.Wheelhouse(request=request, wanted=self._upload is not None))

    def _add_wheel(self, part: messages.Wheel) -> None:
        upload = self._upload
        if upload is None:
            raise ProtocolError("a wheel without a wheelhouse")
        if part.name:
            if not FILE_NAME.fullmatch(part.name):
                raise ProtocolError("malformed wheel name")
            with (upload / part.name).open("ab") as file:
                file.write(base64.b64decode(part.data))
            return
        self._upload = None
        self._kept.discard(upload)
        try:
            upload.rename(self._find_links)
        except OSError:  # another installer has been quicker
            shutil.rmtree(upload, ignore_errors=True)
        self.send(messages.Wheelhouse(request=part.request, wanted=False))


def _explained(error: Exception) -> str:
    """What the server is told of *error*, which has ended an installation."""
    match error:
        case InstallError():
            return str(error)
        case PublishError():
            return f"A package can't be installed, because {error}."
        case PinError():
            return f"What the resolver found is {error}."
        case OSError(errno=errno.ENOSPC):
            return FULL
        case OSError():
            return f"The package volume failed: {error.strerror}."
        case _:
            return f"The installer failed ({type(error).__name__}). Call again."


def _furnish() -> None:
    """Make the folders of the volume, where they are missing, and close those that everybody could write."""
    for place in ("/tmp", "/dev/shm"):
        os.chmod(place, 0o711)  # noqa: S103 - some engines don't heed the mode that a mount is to have
    for folder, mode in (
        (SANDBOXES, 0o711),
        (lanes.LANES, 0o710),  # or a session could talk to a build through a socket or FIFO there
        (WHEELHOUSES, 0o710),
        *((path, 0o700) for path in (STAGING, USED, LOCKS)),
    ):
        folder.mkdir(exist_ok=True)
        os.chown(folder, OWNER, READERS if mode == 0o710 else OWNER)
        folder.chmod(mode)


def _used() -> list[tuple[float, Path, Lane]]:
    """When each distribution was last used, those first that have not been for longest; its file, and in which lane."""
    found: list[tuple[float, Path, Lane]] = []
    for lane in lanes.ALL:
        for path in lane.used.glob("*"):
            with contextlib.suppress(OSError):  # another server may be trimming the cache
                found.append((path.stat().st_mtime, path, lane))
    return sorted(found, key=lambda each: each[0])


def _needs_of(distribution: importlib.metadata.Distribution) -> list[Requirement]:
    """Requirements of *distribution* of the image, as far as their markers apply."""
    needs = map(Requirement, distribution.requires or ())
    return [need for need in needs if need.marker is None or need.marker.evaluate({"extra": ""})]


def _folder_of(sandbox: str) -> Path:
    return SANDBOXES / sandbox


def _date_forward(folder: Path) -> None:
    with contextlib.suppress(OSError):
        os.utime(folder)


def _clear_out(folder: Path, living: set[str]) -> None:
    """Remove the packages of servers that have ended."""
    for path in folder.iterdir():
        with contextlib.suppress(OSError):
            if path.name not in living and time.time() - path.stat().st_mtime > YOUNG_SECONDS:
                shutil.rmtree(path)


def main() -> NoReturn:
    try:
        become(OWNER, OWNER, lanes.CAPABILITIES)
        set_dumpable(False)
        Installer().serve()
    except (ProtocolError, OSError) as error:
        sys.stderr.write(f"installer: {error}\n")
    os._exit(1)
