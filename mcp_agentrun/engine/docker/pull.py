"""Pull images from registries. All functions block."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from ..network import redact

if TYPE_CHECKING:
    from .api import DockerApi

__all__ = ["DownloadProgress", "architecture", "inspect_image", "pull_image", "registry_obstacle", "shortened"]

_SILENCE_SECONDS = 45
"""Time without progress after which a registry is given up. Progress of a download is at least one MiB."""

_ARCHITECTURES = {"amd64": "x86_64", "arm64": "aarch64", "arm": "armv7l", "386": "i686"}


def inspect_image(api: DockerApi, image: str) -> dict[str, Any] | None:
    """Return the engine's description of *image*, or None if it does not have it."""
    import docker.errors

    try:
        return api.inspect_image(image)
    except docker.errors.ImageNotFound:
        return None


def architecture(described: Mapping[str, Any]) -> str:
    """Return the processor architecture of an image or an engine, as the engine describes it, by Linux's name."""
    name = str(described["Architecture"])
    return _ARCHITECTURES.get(name, name)


def registry_obstacle(api: DockerApi, image: str) -> str | None:
    """Return why the engine can't pull *image*, or None if the registry has it."""
    import docker.errors
    import requests

    try:
        api.inspect_distribution(image)
    except docker.errors.APIError as error:
        return redact(shortened(str(error.explanation or error)))
    except requests.exceptions.RequestException:
        return "the registry does not respond"
    return None


def pull_image(
    api: DockerApi, image: str, report: Callable[[str], None], *, seconds: float | None = None
) -> str | None:
    """Pull *image*. Return an error message, or None on success. Stops if there is no progress for a while.

    :param seconds: longest time that it may take; None: no limit.
    """
    report(f"pulling {image}")
    download = DownloadProgress()
    events: queue.SimpleQueue[dict[str, Any] | Exception | None] = queue.SimpleQueue()
    is_abandoned = threading.Event()

    def pull() -> None:  # the SDK offers no timeout for this
        try:
            for event in api.pull(image, stream=True, decode=True):
                if is_abandoned.is_set():
                    return  # which closes the connection, so that the engine stops
                events.put(event)
            events.put(None)
        except Exception as error:  # passed to the waiting thread
            events.put(error)

    threading.Thread(target=pull, name="pull", daemon=True).start()
    try:
        return _follow(image, events, download, report, seconds)
    finally:
        is_abandoned.set()


def _follow(
    image: str,
    events: queue.SimpleQueue[dict[str, Any] | Exception | None],
    download: DownloadProgress,
    report: Callable[[str], None],
    seconds: float | None,
) -> str | None:
    """Report the progress of a pull until it ends. Return an error message, or None on success."""
    failure: str | None = None
    end = None if seconds is None else time.monotonic() + seconds
    patience = time.monotonic() + _SILENCE_SECONDS
    while True:
        try:
            event = events.get(timeout=max(0, (patience if end is None else min(end, patience)) - time.monotonic()))
        except queue.Empty:
            return "the registry does not respond, or too slowly"
        if event is None:
            return failure
        if isinstance(event, Exception):
            return str(getattr(event, "explanation", None) or event)
        failure = event.get("error", failure)
        before = download.done
        if (sizes := download.note(event)) is not None:
            report(f"pulling {image}: {sizes}")
        if event.get("status") != "Downloading" or download.done > before:
            patience = time.monotonic() + _SILENCE_SECONDS


class DownloadProgress:
    """Progress of the download of an image, or of its upload, from the engine's events.

    :param status: that of the events which count.
    """

    def __init__(self, status: str = "Downloading") -> None:
        self._status = status
        self.done = 0
        """Downloaded MiB."""
        self._layers: dict[str, tuple[int, int]] = {}
        self._reported = 0

    def note(self, event: dict[str, Any]) -> str | None:
        """Process an event. About every 5 %, return how much has been downloaded, as text."""
        detail: dict[str, Any] = event.get("progressDetail") or {}
        if event.get("status") != self._status or not detail.get("total"):
            return None
        self._layers[event["id"]] = int(detail["current"]), int(detail["total"])
        self.done, total = (sum(sizes) >> 20 for sizes in zip(*self._layers.values(), strict=True))
        if (share := 20 * self.done // max(total, 1)) <= self._reported:
            return None
        self._reported = share
        return f"{self.done} of {total} MiB"


def shortened(text: str) -> str:
    """Return *text* in one line of at most some 400 characters."""
    text = " ".join(text.split())
    return text if len(text) <= 400 else f"{text[:200]} ... {text[-200:]}"
