"""The Pods of a cluster as Docker's API shows containers, for tests that look at sandboxes from outside."""

from __future__ import annotations

import itertools
from contextlib import ExitStack, aclosing
from typing import Any

import pytest
from anyio.from_thread import start_blocking_portal
from docker import APIClient

from mcp_agentrun.engine import LABEL_ROLE
from mcp_agentrun.engine.kubernetes.cluster import Cluster
from mcp_agentrun.engine.kubernetes.pod import CONTAINER, PYTHON
from mcp_agentrun.engine.kubernetes.stream import open_exec
from mcp_agentrun.settings import Settings

__all__ = ["ClusterApi"]

_OF_DOCKER = ("HostConfig", "NetworkSettings", "State")
"""What only Docker tells of a container."""

_AS_USER = (
    "import os, sys; user, group = map(int, sys.argv[1].split(':')); os.setgroups([]); os.setgid(group); "
    "os.setuid(user); os.execvp(sys.argv[2], sys.argv[2:])"
)


class ClusterApi:
    """What a cluster can do of Docker's API. A test that asks for anything else of it is skipped."""

    def __init__(self) -> None:
        with ExitStack() as stack:
            self._portal = stack.enter_context(start_blocking_portal())
            self._cluster = Cluster(Settings().kubernetes)
            stack.callback(self._portal.call, self._cluster.aclose)
            self.close = stack.pop_all().close
        self._commands: dict[str, tuple[str, list[str], bool]] = {}
        self._exit_codes: dict[str, int] = {}
        self._numbers = itertools.count()

    def __getattr__(self, name: str) -> Any:
        if not hasattr(APIClient, name):
            raise AttributeError(name)
        pytest.skip(f"not on kubernetes: a cluster has nothing like {name} of Docker's API")

    def _pods(self) -> list[dict[str, Any]]:
        return [pod.to_dict() for pod in self._portal.call(self._cluster.pods, LABEL_ROLE)]

    def containers(self, *, all: bool = False, filters: dict[str, str] | None = None) -> list[dict[str, Any]]:
        ((kind, label),) = (filters or {"label": LABEL_ROLE}).items()
        name, has_value, value = label.partition("=")
        assert kind == "label"
        found: list[dict[str, Any]] = []
        for pod in self._pods():
            about = pod["metadata"]
            labels = {**about["labels"], **about.get("annotations", {})}
            if name in labels and (labels[name] == value or not has_value) and (all or _phase(pod) == "Running"):
                found.append({"Id": about["name"], "Labels": labels})
        return found

    def inspect_container(self, container: str) -> dict[str, Any]:
        (pod,) = [pod for pod in self._pods() if pod["metadata"]["name"] == container]
        return _Description({**pod, "Mounts": []})

    def volumes(self) -> dict[str, list[Any]]:
        return {"Volumes": []}  # those of a Pod are a part of it

    def remove_container(self, container: str, *, force: bool) -> None:
        self._portal.call(self._cluster.remove, container)

    def kill(self, container: str) -> None:
        self.remove_container(container, force=True)

    def wait(self, container: str, *, condition: str) -> None:
        """Wait until it has ended, or is gone: an ended Pod is removed by another server, whenever there is one."""

        async def wait() -> None:
            async with aclosing(self._cluster.watch(container)) as states:
                async for pod in states:
                    if pod is None or _phase(pod.to_dict()) in ("Succeeded", "Failed"):
                        return

        if any(pod["metadata"]["name"] == container for pod in self._pods()):
            self._portal.call(wait)

    def exec_create(
        self, container: str, command: list[str], *, user: str = "", workdir: str = "/", stderr: bool = True
    ) -> dict[str, str]:
        """Only in the Pod of an installer can *user* be given, and a command without it is root's."""
        assert workdir == "/"
        if user.partition(":")[0] not in ("", "0"):
            command = [PYTHON, "-c", _AS_USER, user, *command]
        name = str(next(self._numbers))
        self._commands[name] = container, command, stderr
        return {"Id": name}

    def exec_start(self, name: str) -> bytes:
        output, self._exit_codes[name] = self._portal.call(self._execute, *self._commands[name])
        return output

    async def _execute(self, container: str, command: list[str], stderr: bool) -> tuple[bytes, int]:
        async with await open_exec(self._cluster, container, CONTAINER, command) as stream:
            output = b"".join([data async for data in stream])
            if stderr and not stream.has_succeeded:
                output += stream.diagnostics.encode()
            return output, int(not stream.has_succeeded)

    def exec_inspect(self, name: str) -> dict[str, int]:
        """The exit code is 1 for whatever is not 0."""
        return {"ExitCode": self._exit_codes[name]}


class _Description(dict[str, Any]):
    """A Pod. A test that looks for a property of Docker's containers is skipped."""

    def __missing__(self, key: str) -> Any:
        if key not in _OF_DOCKER:
            raise KeyError(key)
        pytest.skip(f"not on kubernetes: a Pod has no {key}")


def _phase(pod: dict[str, Any]) -> str | None:
    return pod.get("status", {}).get("phase")
