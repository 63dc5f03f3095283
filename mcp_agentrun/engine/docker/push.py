"""Push images to registries. All functions block."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from ...errors import ImageError
from ..network import redact
from .pull import DownloadProgress, shortened

if TYPE_CHECKING:
    from .api import DockerApi

__all__ = ["push_image"]

_DIGEST = re.compile(r"\bdigest: (sha256:[0-9a-f]{64})\b")
"""In the last status of a push. Docker also sends it as a field of its own, Podman does not."""


def push_image(api: DockerApi, image: str, repository: str, report: Callable[[str], None]) -> str:
    """Push *image* to *repository*, with the tag that it has here, and return a reference with its digest.

    :raises ImageError: the registry refused it, or can't be reached.
    """
    tag = image.rpartition(":")[2]
    report(f"pushing {repository}:{tag}")
    progress = DownloadProgress("Pushing")
    digest: str | None = None
    failure = "it did not report a digest"
    api.tag(image, repository, tag)
    try:
        for event in api.push(repository, tag=tag, stream=True, decode=True):
            if (sizes := progress.note(event)) is not None:
                report(f"pushing {repository}:{tag}: {sizes}")
            if (pushed := _DIGEST.search(event.get("status", ""))) is not None:
                digest = pushed[1]
            failure = str(event.get("error", failure))
    finally:
        api.remove_image(f"{repository}:{tag}")
    if digest is None:
        raise ImageError(f"The image can't be pushed to {repository}: {redact(shortened(failure))}.")
    return f"{repository}@{digest}"
