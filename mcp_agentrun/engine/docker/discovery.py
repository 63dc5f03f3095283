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
"""Default time limit for a response of the engine."""

_CONNECT_SECONDS = 5
_ANY_VERSION = "1.41"  # of the API; a ping works with any


@dataclass(frozen=True)
class Candidate:
    """An engine to try."""

    url: str
    origin: str
    """Where the address was found, for messages."""
    tls: TLSConfig | None = None
    """The certificates to use; None without TLS."""
    problem: str | None = None
    """Why it can't be tried, if so."""


def candidates() -> Iterator[Candidate]:
    """Yield the engines to try. If the user has chosen one, it is the only one, even if the choice is invalid."""
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
    name: str = chosen or get_current_context_name() or "default"  # None if the configuration can't be read
    if name != "default":
        origin = f"docker context {name!r}" + (" of DOCKER_CONTEXT" if chosen else "")
        try:
            context: Any = ContextAPI.get_context(name)  # pyright: ignore[reportUnknownMemberType]
            if context is None:
                raise LookupError("there is no such context; `docker context ls` lists the existing ones")
            if not context.Host:
                raise LookupError("it names no engine")
            yield Candidate(context.Host, origin, _tls_of(context))
        except Exception as error:  # the SDK raises all kinds of errors for malformed files
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
        *(folder / "docker.sock" for folder in folders),
        *(folder / "podman/podman.sock" for folder in folders),
        Path("/run/podman/podman.sock"),
    ):
        with contextlib.suppress(OSError):
            if stat.S_ISSOCK(path.stat().st_mode):
                yield Candidate(f"unix://{path}", "usual socket")


def _tls_of(context: Any) -> TLSConfig | None:
    """Return the certificates of a docker context. The SDK ignores a CA certificate without a client certificate."""
    from docker.tls import TLSConfig

    authority = Path(context.tls_path, "docker", "ca.pem")
    if context.TLSConfig is None and authority.is_file():
        return TLSConfig(ca_cert=str(authority), verify=not context.endpoints["docker"]["SkipTLSVerify"])
    return context.TLSConfig


def connect() -> tuple[APIClient | None, list[str]]:
    """Return a client of the first engine that responds, or None, and what was tried, for the error message.

    The call blocks.
    """
    from docker import APIClient

    from .podman import PodmanClient, is_podman

    def client_of(engine: Candidate, version: str, kind: type[APIClient] = APIClient) -> APIClient:
        tls: Any = engine.tls or False
        return kind(base_url=engine.url, tls=tls, timeout=_CONNECT_SECONDS, version=version)

    tried: list[str] = []
    for engine in candidates():
        if engine.problem is not None:
            tried.append(f"{engine.origin}: {engine.problem}")
            continue
        try:
            # The request by which the SDK finds out the version takes five times as long as a ping, which returns it
            # too.
            with client_of(engine, _ANY_VERSION) as probe:
                probe.trust_env = False
                answer = probe.get(f"{probe.base_url}/_ping", timeout=_CONNECT_SECONDS)
            kind = PodmanClient if is_podman(answer.headers) else APIClient
            client = client_of(engine, answer.headers.get("Api-Version", "auto"), kind)
        except Exception as error:  # the SDK does not convert errors of requests, urllib3, ssl and paramiko
            tried.append(f"{engine.url} ({engine.origin}): {_shortened(error)}")
            continue
        client.timeout = REQUEST_SECONDS
        # Otherwise REQUESTS_CA_BUNDLE overrides the TLS settings, and requests go through the proxy for the internet.
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
        ("timed out", "no response"),
    ):
        if sign in text:
            return meaning
    return text[:200]
