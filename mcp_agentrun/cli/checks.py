"""The checks of ``doctor``: what sandboxes require, and a remedy for each problem."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from ..errors import AgentRunError, EngineError, UnavailableError
from ..sandbox import CA_VARIABLES, ContainerInfo, EngineStatus, Housekeeping, NetworkSettings
from ..settings import Settings
from .terminal import counted, size_of

__all__ = ["Finding", "check_all", "check_network", "no_engine"]

Level = Literal["ok", "warning", "error", "skipped"]

_LEAST_DISK, _LITTLE_DISK = 1 << 30, 4 << 30
_SKEW_SECONDS = 60
_CONNECT_SECONDS = 5
_ARCHITECTURES = ("x86_64", "aarch64")
"""Those for which the packages of the image, and nearly all others, have wheels."""

_PROBE = "iniconfig"
"""A small package without dependencies, which is installed as a test."""

_CERTIFICATE_SIGNS = ("certificate", "UnknownIssuer", "SSL")


@dataclass(frozen=True)
class Finding:
    """The result of one check."""

    name: str
    level: Level
    text: str
    remedy: str = ""


async def check_all(settings: Settings, housekeeping: Housekeeping) -> AsyncIterator[Finding]:
    """Run all checks. Those that depend on a failed one are skipped."""
    network = housekeeping.package_network
    try:
        status = await housekeeping.status()
    except EngineError as error:
        yield no_engine(error)
        for finding in check_network(network, os.environ):
            yield finding
        return
    yield Finding("engine", "ok", status.version)
    for finding in (*_engine(status, settings), _image(status, settings), _disk(status)):
        yield finding
    for finding in (_memory(status, settings, await housekeeping.free_memory()), _clock(status), _build(status)):
        yield finding
    yield _leftovers(await housekeeping.containers())
    for finding in check_network(network, os.environ):
        yield finding
    yield await _index(settings, housekeeping, can_start=status.image_architecture is not None)


def no_engine(error: AgentRunError) -> Finding:
    """Return the finding that the engine can't be used, with the reason and the remedy that *error* tells."""
    text, _, tried = str(error).partition(" Tried ")
    if "permission denied" in tried:
        remedy = "On Linux, run `sudo usermod -aG docker $USER` and log in again; or use a rootless engine."
        return Finding("engine", "error", f"This user may not use the container engine: {tried}", remedy)
    problem, _, remedy = text.partition(". ")
    return Finding("engine", "error", f"{problem}: {tried}" if tried else problem, remedy)


def _engine(status: EngineStatus, settings: Settings) -> Iterator[Finding]:
    if status.is_outdated:
        yield Finding(
            "version", "error", f"{status.version} is too old", "Update it: Docker 20.10, Podman 4, or later."
        )
    else:
        yield Finding("version", "ok", "recent enough")
    if not status.weaknesses:
        text = "; ".join(("memory, processes, CPU and system calls can be limited", *status.gaps))
        yield Finding("limits", "ok", text)
    else:
        remedy = "Use an engine that does not run rootless, or enable delegation of cgroup v2 controllers."
        if settings.engine.name == "kubernetes":
            remedy = (
                "Apply deploy/kubernetes/sandboxes.yaml in a cluster whose network plugin enforces network policies."
            )
        text = "; ".join(status.weaknesses)
        if settings.engine.accept_weak:
            yield Finding("limits", "warning", f"{text} (accepted by accept_weak_engine)", remedy)
        else:
            yield Finding("limits", "error", text, f"{remedy} AGENTRUN_ACCEPT_WEAK_ENGINE=true goes on without.")
    if status.architecture in _ARCHITECTURES:
        yield Finding("architecture", "ok", status.architecture)
    else:
        remedy = "Set AGENTRUN_IMAGE to an image with the packages that you need; many have no wheels for this machine."
        yield Finding("architecture", "warning", f"{status.architecture} is not tested", remedy)


def _image(status: EngineStatus, settings: Settings) -> Finding:
    if status.image_architecture not in (None, status.architecture):
        text = f"{status.image} is for {status.image_architecture}, and the engine's machine is {status.architecture}"
        if settings.image.name:
            remedy = f"Load one for {status.architecture}, or unset AGENTRUN_IMAGE to have one built."
        else:
            remedy = f"Set AGENTRUN_IMAGE_BASE to an image for {status.architecture}: `mcp-agentrun build --refresh`."
        return Finding("image", "error", text, remedy)
    if status.image_architecture:
        return Finding("image", "ok", status.image)
    if status.image_obstacle is None:
        return Finding(
            "image", "warning", "not on the engine yet", "Run `mcp-agentrun build`, or let the first call do it."
        )
    if settings.image.name:
        remedy = "Load it with `docker load`, or unset AGENTRUN_IMAGE to have one built."
    else:
        remedy = (
            "Give the engine access to the registry (its own proxy settings apply), or set AGENTRUN_IMAGE_BASE to an "
            "image that it has."
        )
    return Finding(
        "image", "error", f"it does not exist, and can't be built or pulled: {status.image_obstacle}", remedy
    )


def _disk(status: EngineStatus) -> Finding:
    if status.free_disk is None:
        return Finding("disk", "skipped", "the engine's disk can't be seen from here")
    text = f"{size_of(status.free_disk)} free"
    if status.free_disk >= _LITTLE_DISK:
        return Finding("disk", "ok", text)
    remedy = "Run `mcp-agentrun image prune` and `mcp-agentrun cache clear`, or `docker system prune`."
    return Finding("disk", "error" if status.free_disk < _LEAST_DISK else "warning", f"only {text}", remedy)


def _memory(status: EngineStatus, settings: Settings, free: int | None) -> Finding:
    wanted, memory = settings.limits.memory, size_of(settings.limits.memory)
    if status.memory is None:
        return Finding("memory", "skipped", "the engine's machines can't be seen from here")
    if wanted > status.memory:
        text = f"a sandbox may use {memory}, and the engine's machine has {size_of(status.memory)}"
        return Finding("memory", "error", text, "Lower AGENTRUN_MEMORY, or give the engine's virtual machine more.")
    if free is not None and free < wanted:
        text = f"a sandbox may use {memory}, and {size_of(free)} are free"
        return Finding("memory", "warning", text, "End other programs, or lower AGENTRUN_MEMORY.")
    return Finding("memory", "ok", f"{size_of(status.memory if free is None else free)} for sandboxes of {memory}")


def _clock(status: EngineStatus) -> Finding:
    skew = status.time - time.time()
    if abs(skew) <= _SKEW_SECONDS:
        return Finding("clock", "ok", "the engine's and this machine's agree")
    text = f"the engine's is {abs(skew):.0f} s {'ahead' if skew > 0 else 'behind'}"
    return Finding("clock", "warning", text, "Restart the engine's virtual machine, or synchronise both clocks.")


def _build(status: EngineStatus) -> Finding:
    if not status.is_building:
        return Finding("lock", "ok", "no other process is building the image")
    remedy = (
        "Wait for it. If it hangs, end that process, which releases the lock (`lsof` shows who has build.lock open)."
    )
    return Finding("lock", "warning", "another process holds the lock for building the image", remedy)


def _leftovers(found: Sequence[ContainerInfo]) -> Finding:
    """Check for containers whose servers have ended, and for foreign ones with our names."""
    dead = [each for each in found if each.is_orphaned]
    foreign = [each.name for each in found if each.role is None]
    if foreign:
        text = f"not made by this program, in spite of their names: {', '.join(foreign)}"
        return Finding("leftovers", "warning", text, f"Rename or remove it: `docker rm {foreign[0]}`.")
    if dead:
        text = f"{counted(len(dead), 'container')} whose server has ended"
        return Finding("leftovers", "warning", text, "Run `mcp-agentrun prune`.")
    return Finding("leftovers", "ok", f"none; {counted(len(found), 'container')} in use")


def check_network(network: NetworkSettings, environ: Mapping[str, str]) -> Iterator[Finding]:
    """Check the proxies and certificates of the installer."""
    urls = sorted({url for name, url in network.proxies.items() if name != "NO_PROXY"})
    problems = [problem for url in urls if (problem := _proxy_problem(url, network.redact(url)))]
    if problems:
        yield Finding("proxy", "error", *problems[0])
    else:
        yield Finding("proxy", "ok", ", ".join(map(network.redact, urls)) or "none")
    for name in CA_VARIABLES:
        path = environ.get(name)
        if path and not _holds_certificates(Path(path).expanduser()):
            text = f"{name} names {path}, which holds no certificates"
            yield Finding("certificates", "error", text, f"Set {name} to a file with certificates in PEM, or unset it.")
            return
    yield Finding("certificates", "ok", "this machine's are used" if network.ca_bundle else "the image's are used")


def _proxy_problem(url: str, shown: str) -> tuple[str, str] | None:
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        host, port = parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        host, port = None, 0
    if not host:
        return f"{shown} is not a URL", "Set HTTPS_PROXY to http://HOST:PORT."
    if host == "localhost" or host.startswith("127.") or host == "::1":
        text = f"{shown} is on this machine's loopback interface, which containers can't reach"
        return text, "Have the proxy listen on an address that containers can reach, and set HTTPS_PROXY to it."
    try:
        socket.create_connection((host, port), _CONNECT_SECONDS).close()
    except (OSError, UnicodeError) as error:  # UnicodeError if the name can't be one of a host
        text = f"{shown} can't be reached: {getattr(error, 'strerror', None) or error}"
        return text, "Correct HTTPS_PROXY, HTTP_PROXY or pip's configuration, or unset it."
    return None


def _holds_certificates(path: Path) -> bool:
    try:
        return b"-----BEGIN CERTIFICATE-----" in path.read_bytes()
    except OSError:
        return False


async def _index(settings: Settings, housekeeping: Housekeeping, *, can_start: bool) -> Finding:
    """Check that the installer can install a small package."""
    if settings.packages.offline:
        return Finding("index", "skipped", "offline: the installer has no network")
    if not can_start:
        return Finding("index", "skipped", "needs the image")
    try:
        await housekeeping.try_installation(_PROBE)
    except UnavailableError as error:
        return Finding("index", "error", f"the installer can't be started: {error}", "See the checks above.")
    except AgentRunError as error:
        text = " ".join(str(error).split())
        first, *causes = text.split(" cause: ")
        shown = f"{first}: {causes[-1]}" if causes else text
        return Finding("index", "error", shown[:400], _index_remedy(text, housekeeping.package_network))
    return Finding("index", "ok", f"{_PROBE} was installed from it")


def _index_remedy(text: str, network: NetworkSettings) -> str:
    if any(sign in text for sign in _CERTIFICATE_SIGNS):
        return "Set REQUESTS_CA_BUNDLE to a file that has your company's certificate beside the usual ones."
    if network.proxies:
        return "Check the proxy in HTTPS_PROXY: it must allow connections to the index."
    if network.index_url:
        return f"Check the index {network.redact(network.index_url)}, or set UV_DEFAULT_INDEX to another."
    return "Set HTTPS_PROXY or UV_DEFAULT_INDEX to what your network offers, or a wheelhouse."
