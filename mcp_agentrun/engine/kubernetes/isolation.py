"""Whether the cluster keeps sandboxes off the network: tried, since clusters accept policies that nothing enforces."""

from __future__ import annotations

import json
import secrets
from urllib.parse import urlsplit

import anyio
from lightkube.models.core_v1 import EnvVar, EnvVarSource, ObjectFieldSelector
from lightkube.resources.core_v1 import Pod

from ...errors import EngineError
from ...settings.kubernetes import KubernetesSettings
from .. import ContainerSpec
from .cluster import Cluster
from .pod import PYTHON, make_pod
from .starting import describe_end, phase_of, wait_until

__all__ = ["TRIAL_ROLE", "find_weakness"]

TRIAL_ROLE = "trial"
_KUBELET_PORT = 10250
_MIB = 1 << 20

# Tries what every Pod can reach unless it is kept from it: the kubelet of its node and the API server.
_TRIAL = """
import json, os, socket
def can_reach(target):
    host, _, port = target.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), 3).close()
    except OSError:
        return False
    return True
targets = [f"{os.environ['NODE']}:{os.environ['KUBELET_PORT']}", *os.environ["TARGETS"].split()]
if "KUBERNETES_SERVICE_HOST" in os.environ:
    targets.append(f"{os.environ['KUBERNETES_SERVICE_HOST']}:{os.environ['KUBERNETES_SERVICE_PORT']}")
with open("/dev/termination-log", "w") as file:
    json.dump([target for target in targets if can_reach(target)], file)
"""


async def find_weakness(cluster: Cluster, image: str, settings: KubernetesSettings) -> str | None:
    """Return what a Pod without network could reach, or why that can't be known; None if it could reach nothing.

    A second Pod with network shows that there is something to reach.

    :raises ImageError: the image can't be pulled.
    :raises EngineError: the cluster could not run them.
    """
    reached: dict[str, list[str]] = {}
    failures: list[EngineError] = []

    async def try_as(network: str) -> None:
        try:
            reached[network] = await _reached_from(cluster, image, settings, network)
        except EngineError as error:
            failures.append(error)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(try_as, "none")
        tasks.start_soon(try_as, "bridge")
    if failures:
        raise failures[0]
    if reached["none"]:
        return (
            f"code could reach {', '.join(reached['none'])}, because the cluster does not enforce the network policy "
            "for sandboxes, or it is not there"
        )
    if not reached["bridge"]:
        return "it can't be seen whether a network policy keeps code off the network, as no Pod reaches anything"
    return None


async def _reached_from(cluster: Cluster, image: str, settings: KubernetesSettings, network: str) -> list[str]:
    name = f"mcp-agentrun-{TRIAL_ROLE}-{secrets.token_hex(6)}"
    pod = _trial_pod(cluster, name, image, settings, network)
    try:
        await cluster.create(pod)
        ended = await wait_until(cluster, name, "Succeeded", "Failed")
    finally:
        with anyio.CancelScope(shield=True):
            await cluster.remove(name)
    try:
        found = json.loads(_message(ended))
        return [str(target) for target in found]
    except (ValueError, TypeError):
        reason = describe_end(ended) or phase_of(ended)
        raise EngineError(f"The Pod that tries the cluster's network has failed: {reason}. Call again.") from None


def _message(pod: Pod) -> str:
    """Return what the container of *pod* has left as its last words."""
    for container in (pod.status and pod.status.containerStatuses) or ():
        if container.state and container.state.terminated:
            return container.state.terminated.message or ""
    return ""


def _trial_pod(cluster: Cluster, name: str, image: str, settings: KubernetesSettings, network: str) -> Pod:
    spec = ContainerSpec(
        image=image,
        role="runner",
        sandbox="",
        user="20000:20000",
        memory=128 * _MIB,
        cpus=1.0,
        pids=16,
        open_files=64,
        file_size=_MIB,
        tmpfs={},
        network="none" if network == "none" else "bridge",
    )
    pod = make_pod(name, spec, settings, role=TRIAL_ROLE)
    address = urlsplit(cluster.address)
    assert pod.spec is not None
    (container,) = pod.spec.containers
    container.command, container.args = [PYTHON, "-I", "-c", _TRIAL], []
    container.env = [
        EnvVar(name="TARGETS", value=f"{address.hostname}:{address.port or 443}"),
        EnvVar(name="KUBELET_PORT", value=str(_KUBELET_PORT)),
        EnvVar(name="NODE", valueFrom=EnvVarSource(fieldRef=ObjectFieldSelector(fieldPath="status.hostIP"))),
    ]
    return pod
