"""The Pods of a cluster as Docker's API shows containers, for tests that look at sandboxes from outside."""

from __future__ import annotations

import contextlib
import itertools
from typing import Any

import pytest
from anyio.from_thread import start_blocking_portal
from lightkube import ApiError, Client
from lightkube.operators import in_
from lightkube.resources.core_v1 import Pod

from mcp_agentrun.engine import LABEL_ROLE
from mcp_agentrun.engine.kubernetes.cluster import Cluster
from mcp_agentrun.engine.kubernetes.pod import CONTAINER, PYTHON
from mcp_agentrun.engine.kubernetes.stream import open_exec
from mcp_agentrun.settings import Settings

__all__ = ["ClusterApi"]

_AS_USER = (
    "import os, sys; user, group = map(int, sys.argv[1].split(':')); os.setgroups([]); os.setgid(group); "
    "os.setuid(user); os.execvp(sys.argv[2], sys.argv[2:])"
)


class ClusterApi:
    """What a cluster can do of Docker's API. A test that asks for anything else is skipped."""

    def __init__(self) -> None:
        self._client: Any = Client()
        self._commands: dict[str, tuple[str, list[str]]] = {}
        self._exit_codes: dict[str, int] = {}
        self._numbers = itertools.count()

    def __getattr__(self, name: str) -> Any:
        pytest.skip(f"not on kubernetes: a cluster has nothing like {name} of Docker's API")

    def containers(self, *, all: bool = False, filters: dict[str, Any] | None = None) -> list[dict[str, Any]]:
        name, _, value = (filters or {}).get("label", "").partition("=")
        roles: dict[str, Any] = {LABEL_ROLE: in_(["runner", "installer"])}
        found = [
            {"Id": pod.metadata.name, "Labels": {**pod.metadata.labels, **pod.metadata.annotations}}
            for pod in self._client.list(Pod, labels=roles)
            if all or pod.status.phase == "Running"
        ]
        return [each for each in found if not value or each["Labels"].get(name) == value]

    def inspect_container(self, container: str) -> dict[str, Any]:
        return _Description({**self._client.get(Pod, container).to_dict(), "Mounts": []})

    def volumes(self) -> dict[str, list[Any]]:
        return {"Volumes": []}  # those of a Pod are a part of it

    def remove_container(self, container: str, *, force: bool) -> None:
        with contextlib.suppress(ApiError):
            self._client.delete(Pod, container, grace_period=0)

    def kill(self, container: str) -> None:
        self.remove_container(container, force=True)

    def wait(self, container: str, *, condition: str) -> None:
        for event, pod in self._client.watch(Pod, fields={"metadata.name": container}):
            if event == "DELETED" or pod.status.phase in ("Succeeded", "Failed"):  # the next server removes it
                return

    def exec_create(
        self, container: str, command: list[str], *, user: str = "", workdir: str | None = None, stderr: bool = True
    ) -> dict[str, str]:
        if user.partition(":")[0] not in ("", "0"):
            command = [PYTHON, "-c", _AS_USER, user, *command]
        name = str(next(self._numbers))
        self._commands[name] = container, command
        return {"Id": name}

    def exec_start(self, name: str) -> bytes:
        container, command = self._commands[name]

        async def execute() -> tuple[bytes, str, int]:
            cluster = Cluster(Settings().kubernetes)
            async with await open_exec(cluster, container, CONTAINER, command) as stream:
                output = b"".join([data async for data in stream])
                succeeded = stream.has_succeeded
                said = "" if succeeded else stream.diagnostics
            await cluster.aclose()
            return output, said, int(not succeeded)

        with start_blocking_portal() as portal:
            output, said, self._exit_codes[name] = portal.call(execute)
        return output + said.encode()

    def exec_inspect(self, name: str) -> dict[str, int]:
        return {"ExitCode": self._exit_codes[name]}

    def close(self) -> None:
        self._client.close()


class _Description(dict[str, Any]):
    """A Pod. A test that looks for a property of Docker's containers is skipped."""

    def __missing__(self, key: str) -> Any:
        pytest.skip(f"not on kubernetes: a Pod has no {key}")
