"""One installation: resolved, approved by the server, fetched by uv in a lane, and taken over for the session."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import queue
import re
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Protocol

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from mcp_agentrun.packages.pins import Pins, requirement_line, validated
from mcp_agentrun.wire import messages
from runner import lanes
from runner.lanes import Lane, Workplace, measure
from runner.publish import Publisher
from runner.resolution import NO_WHEEL, UNSOLVED, InstallError, NoWheelError, RefusedError, Resolution, Resolver

__all__ = ["FULL", "IMAGE_METADATA", "PYTHON", "UV", "Host", "InstallError", "Installation", "Meter"]

PYTHON = "/opt/venv/bin/python"
UV = "/usr/local/bin/uv"
IMAGE_METADATA = "/tmp/image"
"""A copy of the metadata of the distributions that the image has."""

_ERROR_KEPT = 2000
_MODULES_KEPT = 100
_MEASURE_SHARE = 0.02
"""Of a processor, for measuring what uv has written: uv must share it."""
_MEASURE_SECONDS = 1.0
"""The longest time without measuring."""
_NO_SPACE = "(os error 28)"
FULL = (
    "The package volume is full. The operator of this server can free space on the engine's disk, or run "
    "`mcp-agentrun cache clear`."
)
_ONLY_WHEELS = (
    " Only wheels are installed here. The operator of this server can allow builds from source (packages_build) "
    "or add a wheel to the wheelhouse. Otherwise, use another package."
)


class Host(Protocol):
    """State shared by the installations of one server."""

    meter: Meter
    certificates: str
    """File with the certificates to trust; empty for the system's."""
    limits: messages.InstallLimits
    image: Pins
    """What the image has."""
    image_metadata: frozenset[str]
    """Names of the folders in `IMAGE_METADATA`."""
    image_needs: Mapping[str, Sequence[Requirement]]
    """What each of that needs."""

    def send(self, message: messages.Message) -> None: ...

    def environment(self, sources: messages.Sources) -> dict[str, str]: ...

    def resolution(self, asked: str) -> Resolution | None: ...

    def remember(self, asked: str, resolution: Resolution) -> None: ...

    def publish(self, publisher: Publisher, sandbox: str) -> str: ...


class Installation:
    """One request of the server's to install something for a sandbox, carried out in a thread of its own."""

    def __init__(self, installer: Host, asked: messages.Install) -> None:
        self.request = asked.request
        self.sandbox = asked.sandbox
        self._installer = installer
        self._requirements = asked.requirements
        self._constraints = asked.constraints
        self._before = validated(asked.before)
        self._sources = asked.sources
        self._is_open = asked.is_open and " @ " not in "".join(self._requirements)
        self._approvals: queue.SimpleQueue[messages.Approved] = queue.SimpleQueue()
        self._cancelled = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._stopped_by: InstallError | None = None
        self._told = 0
        self._measure_at = 0.0

    def approve(self, answer: messages.Approved) -> None:
        self._approvals.put(answer)

    def cancel(self) -> None:
        self._cancelled.set()
        refusal = "The installation was cancelled."
        self._approvals.put(messages.Approved(request=self.request, refusal=refusal, hashes={}))
        process = self._process
        if process is not None:
            process.kill()

    def carry_out(self) -> messages.InstallDone:
        """Install; returns the answer.

        :raises InstallError: it can't be done.
        """
        try:
            return self._in_lane(lanes.ORDINARY, self._sources)
        except NoWheelError:
            if not self._installer.limits.build:
                raise
        # Code of packages may run now, and must not find credentials.
        urls = [self._sources.index_url or "", *self._sources.extra_index_urls]
        with lanes.relayed(urls, self._sources.proxies, self._installer.certificates) as relayed:
            proxies = {name: _without_credentials(url) for name, url in self._sources.proxies.items()}
            proxies["NO_PROXY"] = ",".join(filter(None, (proxies.get("NO_PROXY"), "127.0.0.1")))
            sources = messages.Sources(index_url=relayed[0], extra_index_urls=tuple(relayed[1:]), proxies=proxies)
            return self._in_lane((lanes.BUILDER,), sources)

    def _in_lane(self, candidates: Sequence[Lane], sources: messages.Sources) -> messages.InstallDone:
        with lanes.acquired(candidates, self._cancelled.is_set) as lane:
            if lane is None:
                raise InstallError("The installation was cancelled.")
            if lane.is_builder:  # nothing of what builds leave is used again
                lanes.remove(lane, lane.cache)
            with Workplace(lane) as workplace, self._installer.meter.charged(self):
                call = Call(self, lane, workplace, self._installer.environment(sources))
                try:
                    return self._carry_out(call)
                except BaseException:
                    call.discard()
                    raise
                finally:
                    if lane.is_builder:
                        lanes.remove(lane, lane.cache)

    def _carry_out(self, call: Call) -> messages.InstallDone:
        installer = self._installer
        asked = self._digest(call)
        known = None if call.lane.is_builder else installer.resolution(asked)
        # Whatever is resolved may be fetched, as a rule: then one call of uv does both in less time than two.
        fetched: Resolution | None = None
        if known is None and self._is_open and not self._before and not call.lane.is_builder:
            fetched = self._resolve_and_fetch(call)
        resolution = known or fetched or self._resolver(call).resolve()
        pins, image = resolution.pins, installer.image
        missing = {name: version for name, version in pins.items() if image.get(name) != version}
        folder, replaced, modules = "", (), {}
        if missing:
            hashes = self._approval(missing)
            if fetched is None:
                self._fetch(call, missing, hashes, is_known=known is not None)
            site = call.workplace.made / "site"
            publisher = Publisher(call.lane, site, without=installer.image_metadata, check=self._check_size)
            for name in sorted(missing, key=self._before.__contains__, reverse=True):  # what is new goes last
                used = call.lane.used / name
                used.touch()
                os.utime(used, (now := time.time(), now))  # finer than the kernel's own time
            folder = installer.publish(publisher, self.sandbox)
            replaced = tuple(sorted(image.keys() & missing.keys()))
            changed = [name for name, version in self._before.items() if missing.get(name, version) != version]
            modules = {name: tuple(publisher.modules_of(name))[:_MODULES_KEPT] for name in (*changed, *replaced)}
        if not call.lane.is_builder:
            installer.remember(asked, resolution)
        return messages.InstallDone(
            request=self.request,
            sandbox=self.sandbox,
            folder=folder,
            packages=tuple(sorted(missing.items())),
            satisfied=tuple(sorted(item for item in pins.items() if item[0] not in missing)),
            replaced=replaced,
            modules=modules,
            notes=tuple(resolution.notes),
        )

    def _digest(self, call: Call) -> str:
        """Digest of everything that the resolver's result depends on."""
        given = [self._requirements, self._constraints, self._before, self._installer.image, call.environment]
        return hashlib.sha256(json.dumps(given, sort_keys=True).encode()).hexdigest()

    def _resolver(self, call: Call) -> Resolver:
        self.progress("resolving " + ", ".join(self._requirements)[:200])
        installer = self._installer
        return Resolver(
            call,
            PYTHON,
            self._requirements,
            self._constraints,
            before=self._before,
            image=installer.image,
            needs=installer.image_needs,
        )

    def _resolve_and_fetch(self, call: Call) -> Resolution | None:
        """Resolve and install, on top of what the image has, in one call of uv; None where that is not enough."""
        resolver = self._resolver(call)
        site = call.workplace.made / "site"
        call.program("/bin/cp", "-r", IMAGE_METADATA, str(site))  # by which uv sees what is installed
        requirements = call.workplace.give("requirements.in", self._requirements)
        options = ("--output-format", "json", "--target", str(site), *resolver.options, "--requirement", requirements)
        try:
            changes = json.loads(call.uv("pip", "install", "--quiet", *options))["changes"]
            image = self._installer.image
            names = {canonicalize_name(Requirement(text).name) for text in self._requirements}
            installed = {change["name"]: change["version"] for change in changes if change["action"] == "installed"}
            pins = validated({**{name: image[name] for name in names & image.keys()}, **installed})
            if not resolver.broken(pins):
                return resolver.explained(pins)
        except RefusedError as error:
            if UNSOLVED not in str(error):  # which the resolver explains
                raise
        call.program("/bin/rm", "-rf", str(site))
        return None

    def _approval(self, pins: Pins) -> Mapping[str, Sequence[str]]:
        """Ask the server whether *pins* may be fetched; returns the hashes that their files must have.

        :raises InstallError: they may not.
        """
        self._installer.send(messages.Resolved(request=self.request, pins=pins))
        answer = self._approvals.get()
        if answer.refusal is not None:
            raise InstallError(answer.refusal)
        return answer.hashes

    def _fetch(self, call: Call, pins: Pins, hashes: Mapping[str, Sequence[str]], *, is_known: bool) -> None:
        self.progress("downloading and installing " + ", ".join(f"{name} {pins[name]}" for name in sorted(pins))[:300])
        lines = [requirement_line(*pin) for pin in pins.items()]
        hashed = [" ".join((line, *(f"--hash={each}" for each in hashes.get(line, ())))) for line in lines]
        site = call.workplace.made / "site"
        requirements = call.workplace.give("missing.txt", hashed)
        command = ("pip", "install", "--quiet", "--no-deps", "--python", PYTHON, "--target", str(site))
        command = (*command, "--requirement", requirements)
        try:
            # What was resolved a moment ago is in the cache, as a rule, and then the index need not be asked.
            call.uv(*command, *(("--offline",) if is_known else ()))
        except InstallError:
            if not is_known or self._cancelled.is_set() or self._stopped_by is not None:
                raise
            call.program("/bin/rm", "-rf", str(site))
            call.uv(*command)

    def _check_size(self, size: int, entries: int) -> None:
        """:raises InstallError: they take more than they may."""
        limits = self._installer.limits
        if size > limits.size:
            raise InstallError(f"The packages take more than {_mib(limits.size)}, this server's limit.")
        if entries > limits.files:
            raise InstallError(f"The packages have more than {limits.files} files, this server's limit.")

    def watch(self, written: Callable[[], Iterable[str]]) -> bool:
        """Report how much has been downloaded; false where that, or what uv has *written*, exceeds a limit, or this is
        cancelled.
        """
        try:
            received = self._check_download()
            if time.monotonic() >= self._measure_at:
                begun = time.thread_time()
                self._check_size(*measure(*written()))
                pause = min(_MEASURE_SECONDS, (time.thread_time() - begun) / _MEASURE_SHARE)
                self._measure_at = time.monotonic() + pause
        except InstallError as error:
            self._stopped_by = error
            return False
        if received - self._told > 1 << 20:
            self._told = received
            self.progress(f"downloading and installing: {_mib(received)} received")
        return not self._cancelled.is_set()

    def _check_download(self) -> int:
        """The bytes that have been downloaded.

        :raises InstallError: they are too many.
        """
        limit = self._installer.limits.download
        received = self._installer.meter.received(self)
        if received > limit:
            raise InstallError(f"The download is larger than {_mib(limit)}, this server's limit.")
        return received

    def started(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        if self._cancelled.is_set():
            process.kill()

    def judge(self, exit_: lanes.Exit) -> None:
        """:raises InstallError: uv has not done what it should."""
        if self._cancelled.is_set():
            raise InstallError("The installation was cancelled.")
        if self._stopped_by is not None:
            raise self._stopped_by
        self._check_download()
        if exit_.status == -signal.SIGXFSZ:
            raise InstallError(f"It has a file of more than {_mib(self._installer.limits.size)}, this server's limit.")
        if exit_.status == -signal.SIGKILL:
            raise InstallError("The installer ran out of memory.")
        if exit_.status != 0:
            text = self._explained(_explanation(exit_.errors))
            raise NoWheelError(text) if NO_WHEEL.search(text) else RefusedError(text)

    def _explained(self, text: str) -> str:
        """uv's explanation, and what it can't know: what is behind it here, and who can do something about it."""
        if _NO_SPACE in text:
            return FULL
        limit = self._installer.limits.exclude_newer
        if limit and "no version" in text:
            age = f"newer than {limit}" if limit[:4].isdigit() else f"younger than {limit}"
            text += f" This server ignores releases {age}."
        if not self._installer.limits.build and NO_WHEEL.search(text):
            text += _ONLY_WHEELS
        return text

    def progress(self, text: str) -> None:
        self._installer.send(messages.InstallProgress(request=self.request, text=text))


class Call:
    """How an installation calls programs: in its lane, with its environment."""

    def __init__(self, owner: Installation, lane: Lane, workplace: Workplace, environment: dict[str, str]) -> None:
        self._owner = owner
        self.lane = lane
        self.workplace = workplace
        self.environment = environment
        self._before = lanes.unpacked(lane)
        self._began = time.time()

    def uv(self, *arguments: str) -> str:
        """The output of uv.

        :raises InstallError: it refused or was stopped.
        """
        environment = {
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "HOME": str(self.workplace.made),
            "TMPDIR": str(self.workplace.made),
            "UV_CACHE_DIR": str(self.lane.cache),
            "UV_LINK_MODE": "symlink",
            "UV_NO_CONFIG": "1",
            "UV_NO_PROGRESS": "1",
            "UV_PYTHON_DOWNLOADS": "never",
            "UV_CONCURRENT_INSTALLS": "4",
            **self.environment,
        }
        options = () if self.lane.is_builder else ("--only-binary", ":all:")

        command = (UV, *arguments, *options)
        watch = partial(self._owner.watch, self._written)
        exit_ = lanes.run(self.lane, command, environment, self._owner.started, watch)
        self._owner.judge(exit_)
        return exit_.output

    def _written(self) -> Iterable[str]:
        """The folders that uv has written to its cache."""
        if self.lane.is_builder:  # a build may write anywhere in it, and it was empty
            return [str(self.lane.cache)]
        return lanes.unpacked(self.lane) - self._before

    def discard(self) -> None:
        """Remove what has been unpacked since this was made, complete or not."""
        lanes.remove(self.lane, *(lanes.unpacked(self.lane) - self._before))
        # For wheels of a wheelhouse, uv believes its pointers without looking at what they point to.
        pointers = ("-name", "*.rev", "-newermt", f"@{self._began}")
        lanes.run(self.lane, ["/usr/bin/find", str(self.lane.cache), *pointers, "-delete"], {})

    def program(self, *command: str) -> None:
        """:raises OSError: it failed."""
        if lanes.run(self.lane, command, {}).status != 0:
            raise OSError(errno.EIO, f"{command[0]} failed")


class Meter:
    """What the installations that run at the same time have received: the kernel counts for the container alone, so
    what comes in meanwhile is divided among them.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seen = 0
        self._charged: dict[Installation, float] = {}

    @contextmanager
    def charged(self, installation: Installation) -> Generator[None]:
        """Count for *installation*, from 0."""
        self._note()
        with self._lock:
            self._charged[installation] = 0.0
        try:
            yield
        finally:
            self._note()
            with self._lock:
                del self._charged[installation]

    def received(self, installation: Installation) -> int:
        """Bytes that *installation* has received."""
        self._note()
        with self._lock:
            return round(self._charged[installation])

    def _note(self) -> None:
        with self._lock:
            now = _received()
            for installation in self._charged:
                self._charged[installation] += (now - self._seen) / len(self._charged)
            self._seen = now


def _explanation(said: str) -> str:
    """Return uv's message without frames, option hints and internal paths."""
    text = re.sub(rf"{tempfile.gettempdir()}/tmp\w+/(made/)?|/packages/(lanes|wheelhouses)/\S*", "", said)
    text = re.sub("(?m)^\\s*[\u00d7\u2500-\u257f\u25b6]+ ?", "", text)
    text = re.split(r"(?m)^\s*hint:", text)[0]
    lines = [line.strip() for line in text.splitlines()]
    kept = [
        line
        for line in lines
        if line and not line.startswith(("Using Python", "Using CPython", "Resolved", "Prepared", "warning:"))
    ]
    said = re.sub(r"^(.{,80}?):? cause: ", r"\1: ", " ".join(kept).removeprefix("error: "))
    return said[:_ERROR_KEPT] or "uv failed without an error message."


def _without_credentials(proxy: str) -> str:
    """The address of *proxy*, with or without a scheme, and no user name or password."""
    return re.sub(r"^(\w+://)?.*@", r"\1", proxy)


def _received() -> int:
    """Bytes that have come in over the network, of this container's own."""
    with open("/proc/net/dev") as file:
        rows = [line.partition(":") for line in file]
    return sum(int(row.split()[0]) for name, colon, row in rows if colon and name.strip() != "lo")


def _mib(size: int) -> str:
    return f"{size / (1 << 20):.4g} MiB"
