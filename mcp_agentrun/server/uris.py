"""URIs of what a client can read."""

from __future__ import annotations

from urllib.parse import quote

__all__ = ["OWN", "file_uri", "output_uri"]

OWN = "own"
"""Stands for the client's own sandbox in a URI, instead of a handle."""


def file_uri(handle: str | None, path: str) -> str:
    """Return the URI of a file in the workspace."""
    return f"agentrun://{handle or OWN}/files/{quote(path.encode('utf-8', 'surrogateescape'))}"


def output_uri(handle: str | None, run: int) -> str:
    """Return the URI of the output of a run."""
    return f"agentrun://{handle or OWN}/runs/{run}/output"
