"""The engine that the tests run against: Docker, or the one that ``MCP_AGENTRUN_TEST_ENGINE`` names.

For ``kubernetes``, ``KUBECONFIG`` names the kubeconfig of a cluster whose nodes have the runner image, and
``MCP_AGENTRUN_TEST_HOST`` the address at which its Pods reach this machine, for the tests with an index of their own.
``MCP_AGENTRUN_TEST_SETTINGS`` changes the defaults of settings, as a JSON object: the image, or the seccomp profile.
"""

from __future__ import annotations

import json
import os

import pytest

from mcp_agentrun.engine.docker.image import ImageRecipe
from mcp_agentrun.settings import GROUPS, SETTINGS

__all__ = [
    "ENGINE",
    "needs_daemon",
    "needs_folder_limits",
    "needs_inode_limit",
    "require_daemon",
    "skip_what_is_not_for",
    "use_cluster",
]

ENGINE = os.environ.get("MCP_AGENTRUN_TEST_ENGINE", "docker")


needs_inode_limit = pytest.mark.not_on(
    "podman", "kubernetes", reason="it has no limit of the number of files, which only the limit of memory bounds"
)


needs_folder_limits = pytest.mark.not_on("kubernetes", reason="only memory limits folders before Kubernetes 1.22")


needs_daemon = pytest.mark.not_on("kubernetes", reason="it is about failures of an engine's daemon")


def require_daemon() -> None:
    """Skip a test that stops, stalls or replaces the engine's daemon, unless there is one."""
    if ENGINE in needs_daemon.args:
        pytest.skip(f"not on {ENGINE}: {needs_daemon.kwargs['reason']}")


def use_cluster() -> None:
    """Make sandboxes in a cluster the default of this process and its children, if the tests run against one."""
    if ENGINE != "kubernetes":
        return
    given = json.loads(os.environ.get("MCP_AGENTRUN_TEST_SETTINGS", "{}"))
    # Whether a cluster enforces network policies is a test of its own.
    for name, value in {"engine": ENGINE, "image": ImageRecipe().tag, "accept_weak_engine": True, **given}.items():
        os.environ.setdefault(f"AGENTRUN_{name.upper()}", str(value))
        SETTINGS[name].field.default = value
        GROUPS[SETTINGS[name].group].model_rebuild(force=True)


def skip_what_is_not_for(engine: str, items: list[pytest.Item]) -> None:
    """Skip those of *items* that have a marker ``not_on`` with the name of *engine*, for the marker's reason.

    :raises UsageError: they need a cluster, and none is named.
    """
    for item in items:
        if engine == "kubernetes" and "KUBECONFIG" not in os.environ and "tests/engine/" in item.path.as_posix():
            raise pytest.UsageError("KUBECONFIG must name the kubeconfig of a cluster")
        for marker in item.iter_markers("not_on"):
            if engine in marker.args:
                item.add_marker(pytest.mark.skip(reason=f"not on {engine}: {marker.kwargs['reason']}"))
