"""Find the container engine as other clients do: ``DOCKER_HOST``, ``DOCKER_CONTEXT``, the current context, and then
the usual sockets.
"""

from __future__ import annotations

import contextlib
import os
import stat
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from docker import APIClient
    from docker.tls import TLSConfig

__all__ = ["REQUEST_SECONDS", "Candidate", "candidates", "connect"]

REQUEST_SECONDS = 60
"""Longest wait for one answer of the engine, except where a request says otherwise."""

_CONNECT_SECONDS = 5
_ANY_VERSION = "1.41"  # of the API; a ping has none


@dataclass(frozen=True)
class Candidate:
    """An engine to try."""

    url: str
    origin: str
    """Where the address comes from, for messages."""
    tls: TLSConfig | None = None
    """With which certificates it is reached; None where it isn't by TLS."""
    problem: str | None = None
    """Why it can't be tried at all."""


def candidates() -> Iterator[Candidate]:
    """The engines to try. One that the user has chosen is the only one, even if nothing can be made of the choice."""
    from docker.context import ContextAPI  # pyright: ignore[reportUnknownVariableType]
    from docker.context.config import get_current_context_name  # pyright: ignore[reportUnknownVariableType]
    from docker.errors import DockerException
    from docker.utils import kwargs_from_env  # pyright: ignore[reportUnknownVariableType]

    if host := os.environ.get("DOCKER_HOST"):
        try:
            yield Candidate(host, "DOCKER_HOST", kwargs_from_env().get("tls"))  # pyright: ignore
        except DockerException as error:
            yield Candidate(host, "DOCKER_HOST", problem=f"DOCKER_CERT_PATH: {error}")
        return
    chosen = os.environ.get("DOCKER_CONTEXT")
    name: str = chosen or get_current_context_name() or "default"  # an unreadable configuration has no current context
    if name != "default":
        origin = f"docker context {name!r}" + (" of DOCKER_CONTEXT" if chosen else "")
        try:
            context: Any = ContextAPI.get_context(name)  # pyright: ignore[reportUnknownMemberType]
            if context is None:
                raise LookupError("there is no such context; `docker context ls` lists those that there are")
            if not context.Host:
                raise LookupError("it names no engine")
            yield Candidate(context.Host, origin, _tls_of(context))
        except Exception as error:  # whatever a malformed file leads to in the SDK
            yield Candidate("", origin, problem=_shortened(error))
        return
    if sys.platform == "win32":
        for name in ("docker_engine", "dockerDesktopLinuxEngine", "podman-machine-default"):
            yield Candidate(f"npipe:////./pipe/{name}", "usual pipe")
        return
    home = Path.home()
    folders = [Path(folder) for folder in (os.environ.get("XDG_RUNTIME_DIR"),) if folder]
    for path in (
        Path("/var/run/docker.sock"),
        home / ".docker/run/docker.sock",
        home / ".docker/desktop/docker.sock",
        home / ".colima/default/docker.sock",
        home / ".orbstack/run/docker.sock",
        *(folder / "docker.sock" for folder in folders),
        *(folder / "podman/podman.sock" for folder in folders),
        Path("/run/podman/podman.sock"),
    ):
        with contextlib.suppress(OSError):
            if stat.S_ISSOCK(path.stat().st_mode):
                yield Candidate(f"unix://{path}", "usual socket")


def _tls_of(context: Any) -> TLSConfig | None:
    """The certificates of a docker context; the SDK leaves out an authority's that comes without a client's."""
    from docker.tls import TLSConfig

    authority = Path(context.tls_path, "docker", "ca.pem")
    if context.TLSConfig is None and authority.is_file():
        return TLSConfig(ca_cert=str(authority), verify=not context.endpoints["docker"]["SkipTLSVerify"])
    return context.TLSConfig


def connect() -> tuple[APIClient | None, list[str]]:
    """A client of the first engine that answers, or None; and what was tried, for the error message.

    Blocking: call it in a thread.
    """
    from docker import APIClient

    def client_of(engine: Candidate, version: str) -> APIClient:
        tls: Any = engine.tls or False
        return APIClient(base_url=engine.url, tls=tls, timeout=_CONNECT_SECONDS, version=version)

    tried: list[str] = []
    for engine in candidates():
        if engine.problem is not None:
            tried.append(f"{engine.origin}: {engine.problem}")
            continue
        try:
            # What the SDK's "auto" asks takes an engine five times as long to answer as a ping, which names it too.
            with client_of(engine, _ANY_VERSION) as probe:
                probe.trust_env = False
                answer = probe.get(f"{probe.base_url}/_ping", timeout=_CONNECT_SECONDS)
            client = client_of(engine, answer.headers.get("Api-Version", "auto"))
        except Exception as error:  # the SDK lets errors of requests, urllib3, ssl and paramiko through
            tried.append(f"{engine.url} ({engine.origin}): {_shortened(error)}")
            continue
        client.timeout = REQUEST_SECONDS
        # Else REQUESTS_CA_BUNDLE replaces the client's own TLS settings, and the internet's proxy gets its requests.
        client.trust_env = False
        return client, tried
    return None, tried or ["no socket of a container engine exists"]


def _shortened(error: Exception) -> str:
    text = str(error)
    for sign, meaning in (
        ("PermissionError", "permission denied (is this user in the docker group?)"),
        ("ConnectionRefusedError", "connection refused: the engine is not running"),
        ("Connection refused", "connection refused: the engine is not running"),
        ("FileNotFoundError", "no such socket: the engine is not running"),
        ("timed out", "no answer"),
    ):
        if sign in text:
            return meaning
    return text[:200]
