"""The engine that the tests run against: Docker, or the one that ``MCP_AGENTRUN_TEST_ENGINE`` names."""

from __future__ import annotations

import os

import pytest

__all__ = ["ENGINE", "needs_inode_limit", "skip_what_is_not_for"]

ENGINE = os.environ.get("MCP_AGENTRUN_TEST_ENGINE", "docker")


needs_inode_limit = pytest.mark.not_on(
    "podman", reason="it has no limit of the number of files, which only the limit of memory bounds"
)


def skip_what_is_not_for(engine: str, items: list[pytest.Item]) -> None:
    """Skip those of *items* that have a marker ``not_on`` with the name of *engine*, for the marker's reason."""
    for item in items:
        for marker in item.iter_markers("not_on"):
            if engine in marker.args:
                item.add_marker(pytest.mark.skip(reason=f"not on {engine}: {marker.kwargs['reason']}"))
