"""Containers, as the engine reports them."""

from __future__ import annotations

import os
from typing import Any

from docker import APIClient
from docker.errors import APIError

from mcp_agentrun.engine import LABEL_OWNER, LABEL_ROLE, LABEL_SANDBOX
from mcp_agentrun.engine.owner import Owner
from mcp_agentrun.sandbox import AsyncSandbox
from tests.support.engines import ENGINE


def containers_of(api: APIClient, pid: int, role: str | None = None) -> list[str]:
    """Ids of the containers whose owner is process *pid*: all of them, or those of one *role*."""
    found = api.containers(all=True, filters={"label": f"{LABEL_ROLE}={role}" if role else LABEL_ROLE})
    return [item["Id"] for item in found if f'"pid":{pid},' in item["Labels"]["mcp-agentrun.owner"]]


def containers_of_ours(api: APIClient) -> list[str]:
    """Ids of the containers that this process has made."""
    found = api.containers(all=True, filters={"label": LABEL_ROLE})
    owner = Owner.current().to_label()
    return [item["Id"] for item in found if item["Labels"].get(LABEL_OWNER) == owner]


def container_of(api: APIClient, sandbox: AsyncSandbox) -> str:
    (found,) = api.containers(filters={"label": f"{LABEL_SANDBOX}={sandbox.id}"})
    return found["Id"]


def remove(api: APIClient, container: str) -> None:
    """Remove a *container* that may be gone, or being removed, as it has ended or as another server sweeps."""
    try:
        api.remove_container(container, force=True)
    except APIError as error:
        if error.status_code not in (404, 409):
            raise


def volume_of(image: str) -> str:
    return f"mcp-agentrun-packages-{image.partition(':')[2]}"


def installers_of(api: APIClient, image: str) -> list[str]:
    """Ids of the installer containers that have the package volume of *image*; in a cluster, of this process's."""
    if ENGINE == "kubernetes":
        return containers_of(api, os.getpid(), "installer")
    return [
        each["Id"]
        for each in api.containers(filters={"label": "mcp-agentrun.role=installer"})
        if any(mount.get("Name") == volume_of(image) for mount in each["Mounts"])
    ]


def installer_of(api: APIClient, image: str) -> str:
    return installers_of(api, image)[0]


def run_in_container(api: APIClient, image: str, *command: str, user: str = "23456:23456", **host: Any) -> str:
    """What *command* prints in a container as closed as a runner; as root, it can read everything."""
    config = api.create_host_config(
        cap_add=["DAC_READ_SEARCH"] if user == "0" else [],
        cap_drop=["ALL"],
        network_mode="none",
        read_only=True,
        security_opt=["no-new-privileges"],
        tmpfs={"/tmp": "mode=1777"},
        **host,
    )
    container = api.create_container(
        image, entrypoint=command[0], command=list(command[1:]), user=user, host_config=config
    )
    try:
        api.start(container)
        status = api.wait(container)["StatusCode"]
        output = api.logs(container).decode()
    finally:
        api.remove_container(container, force=True, v=True)
    assert status == 0, output
    return output
