"""URIs and media types of what a client can read."""

from __future__ import annotations

import mimetypes
from urllib.parse import quote

__all__ = ["OWN", "file_uri", "mime_type", "output_uri"]

OWN = "own"
"""Stands for the client's own sandbox in a URI, instead of a handle."""

_TYPES = {"csv": "text/csv", "md": "text/markdown", "py": "text/x-python", "json": "application/json"}
"""Types that some systems' tables lack or define differently."""


def file_uri(handle: str | None, path: str) -> str:
    """Return the URI of a file in the workspace."""
    return f"agentrun://{handle or OWN}/files/{quote(path.encode('utf-8', 'surrogateescape'))}"


def output_uri(handle: str | None, run: int) -> str:
    """Return the URI of the output of a run."""
    return f"agentrun://{handle or OWN}/runs/{run}/output"


def mime_type(path: str) -> str:
    """Return the media type that the name of a file suggests."""
    return _TYPES.get(path.rpartition(".")[2].lower()) or mimetypes.guess_type(path)[0] or "application/octet-stream"
