"""Finding the container engine as other clients do: ``DOCKER_HOST``, the current context, then the usual sockets."""

from __future__ import annotations

import contextlib
import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from docker import APIClient

__all__ = ["REQUEST_SECONDS", "candidates", "connect"]

REQUEST_SECONDS = 60
"""Longest wait for one answer of the engine, except where a request says otherwise."""

_CONNECT_SECONDS = 5
_ANY_VERSION = "1.41"  # of the API; a ping has none


def candidates() -> Iterator[tuple[str, str]]:
    """``(URL, where it comes from)`` of the engines to try. One that the user has chosen is the only one."""
    if host := os.environ.get("DOCKER_HOST"):
        yield host, "DOCKER_HOST"
        return
    from docker.context import ContextAPI  # pyright: ignore[reportUnknownVariableType]

    with contextlib.suppress(Exception):  # an unreadable docker configuration is no reason to look no further
        context = ContextAPI.get_context()  # pyright: ignore
        if context is not None and context.Name != "default":  # pyright: ignore
            yield context.Host, f"docker context {context.Name!r}"  # pyright: ignore
            return
    if sys.platform == "win32":
        for name in ("docker_engine", "dockerDesktopLinuxEngine", "podman-machine-default"):
            yield f"npipe:////./pipe/{name}", "usual pipe"
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
                yield f"unix://{path}", "usual socket"


def connect() -> tuple[APIClient | None, list[str]]:
    """A client of the first engine that answers, or None; and what was tried, for the error message.

    Blocking: call it in a thread.
    """
    from docker import APIClient
    from docker.utils import kwargs_from_env  # pyright: ignore[reportUnknownVariableType]

    def client_of(url: str, version: str) -> APIClient:
        tls = kwargs_from_env().get("tls", False)  # pyright: ignore
        return APIClient(base_url=url, tls=tls, timeout=_CONNECT_SECONDS, version=version)  # pyright: ignore

    tried: list[str] = []
    for url, origin in candidates():
        try:
            # What the SDK's "auto" asks takes an engine five times as long to answer as a ping, which names it too.
            with client_of(url, _ANY_VERSION) as probe:
                probe.trust_env = False
                answer = probe.get(f"{probe.base_url}/_ping", timeout=_CONNECT_SECONDS)
            client = client_of(url, answer.headers.get("Api-Version", "auto"))
        except Exception as error:  # the SDK lets errors of requests, urllib3, ssl and paramiko through
            tried.append(f"{url} ({origin}): {_shortened(error)}")
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
        ("FileNotFoundError", "no such socket: the engine is not running"),
        ("timed out", "no answer"),
    ):
        if sign in text:
            return meaning
    return text[:200]
