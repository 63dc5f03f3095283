"""The engine that the tests run against: Docker, or the one that ``MCP_AGENTRUN_TEST_ENGINE`` names."""

from __future__ import annotations

import os
from contextlib import ExitStack

import pytest

from tests.support.private_podman import private_podman

__all__ = ["ENGINE", "provide_engine", "skip_what_is_not_for"]

ENGINE = os.environ.get("MCP_AGENTRUN_TEST_ENGINE", "docker")


def provide_engine(resources: ExitStack) -> None:
    """Start the engine that the tests run against, if it is not one that runs already, and point this process and its
    children to it. *resources* end it.
    """
    if ENGINE == "podman" and "DOCKER_HOST" not in os.environ:
        os.environ["DOCKER_HOST"] = resources.enter_context(private_podman())


def skip_what_is_not_for(engine: str, items: list[pytest.Item]) -> None:
    """Skip those of *items* that have a marker ``not_on`` with the name of *engine*, for the marker's reason."""
    for item in items:
        for marker in item.iter_markers("not_on"):
            if engine in marker.args:
                item.add_marker(pytest.mark.skip(reason=f"not on {engine}: {marker.kwargs['reason']}"))
