"""Kubernetes: each sandbox is a Pod, which the cluster places, limits and removes."""

from __future__ import annotations

import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from email.utils import parsedate_to_datetime
from typing import Any, Literal

import anyio
from anyio.abc import ByteStream
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.core_v1 import Pod

from ...errors import EngineError, ImageError
from ...settings import Settings
from .. import (
    LABEL_OWNER,
    LABEL_ROLE,
    LABEL_SANDBOX,
    ContainerInfo,
    ContainerSpec,
    EngineStatus,
    Report,
    StorageItem,
)
from ..owner import Owner
from .cluster import Cluster
from .isolation import find_weakness
from .packages import PackageCopies
from .pod import CONTAINER, LABEL_SERVER, RELAY, make_pod, server_label
from .starting import START_SECONDS, phase_of, wait_until
from .stream import open_exec

__all__ = ["KubernetesEngine"]

_TRIAL_SECONDS = 3600.0
"""How long a cluster that keeps sandboxes off the network is trusted to go on doing so."""

_OLDEST = (1, 20)
_MANY_UIDS = 1000
_GAPS = (
    "processes are limited by user id only",
    "the number of files is not limited",
    "programs in /workspace and /tmp can be executed",
)
_ARCHITECTURES = {"amd64": "x86_64", "arm64": "aarch64"}
_named: set[str] = set()
"""Names of the Pods of this process that still exist or are being created."""


class KubernetesEngine:
    """Implements `mcp_agentrun.engine.Engine` with Pods. It connects when it is first used."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._cluster: Cluster | None = None
        self._specs: dict[str, ContainerSpec] = {}
        """Of the Pods that exist, by name."""
        self._copies = PackageCopies(settings.packages) if settings.kubernetes.packages_claim is None else None
        self._trying = anyio.Lock()
        self._trusted_until = 0.0

    async def ensure_image(self, report: Report, *, refresh: bool = False) -> str:
        report("looking for the cluster")
        self._connected()
        return self._image()

    async def push_image(self, repository: str, report: Report) -> str:
        raise EngineError("A cluster does not build images. Push one from an engine that does, such as Docker.")

    def _image(self) -> str:
        image = self._settings.image.name
        if image is None:
            raise ImageError(
                "A cluster pulls the runner image from a registry. Push it with `mcp-agentrun image push "
                "REGISTRY/NAME`, and set AGENTRUN_IMAGE to the reference that this prints."
            )
        return image

    def _connected(self) -> Cluster:
        if self._cluster is None:
            self._cluster = Cluster(self._settings.kubernetes)
        return self._cluster

    async def allocate(self, spec: ContainerSpec) -> str:
        cluster = self._connected()
        name = f"mcp-agentrun-{spec.role}-{secrets.token_hex(6)}"
        first, last = self._settings.engine.uid_range
        limit_pids = spec.role == "runner" and last - first >= _MANY_UIDS
        packages_size = self._packages_size(spec) if self._copies is not None else 0
        pod = make_pod(name, spec, self._settings.kubernetes, limit_pids=limit_pids, packages_size=packages_size)
        _named.add(name)
        try:
            await cluster.create(pod)
        except BaseException as error:
            _named.discard(name)  # if it was created nevertheless, `sweep` finds it
            if not isinstance(error, EngineError) or "RuntimeClass" not in str(error):
                raise
            raise EngineError(
                f"The cluster has no runtime {spec.runtime!r}. Have its operator create a RuntimeClass for it, or "
                "unset AGENTRUN_RUNTIME to use the nodes' own."
            ) from error
        self._specs[name] = spec
        return name

    def _packages_size(self, spec: ContainerSpec) -> int:
        """Return the limit of a Pod's own volume for packages, in bytes, with a quarter for what files take beyond
        their size: a volume that exceeds it costs the Pod.
        """
        packages = self._settings.packages
        return (packages.size if spec.role == "runner" else packages.cache_size + 2 * packages.size) * 5 // 4

    async def open_stream(self, container: str) -> ByteStream:
        cluster = self._connected()
        problems: list[EngineError] = []
        async with anyio.create_task_group() as tasks:

            async def require(condition: Callable[..., Awaitable[object]], *arguments: Any) -> None:
                try:
                    await condition(cluster, container, *arguments)
                except EngineError as error:
                    problems.append(error)
                    tasks.cancel_scope.cancel()

            tasks.start_soon(require, self._require_isolation)
            tasks.start_soon(require, wait_until, "Running")
        if problems:
            raise problems[0]
        stream = await open_exec(cluster, container, CONTAINER, RELAY)
        if self._copies is not None:
            self._copies.on_running(self._specs[container].sandbox, container)
        return stream

    async def _require_isolation(self, cluster: Cluster, container: str) -> None:
        """Check, once in a while, that the cluster keeps Pods off the network.

        :raises EngineError: it does not.
        """
        if self._settings.engine.accept_weak or self._specs[container].network != "none":
            return
        async with self._trying:
            if anyio.current_time() < self._trusted_until:
                return
            weakness = await find_weakness(cluster, self._image(), self._settings.kubernetes)
            if weakness is not None:
                raise EngineError(
                    f"This cluster can't protect its network from the code: {weakness}. Apply the policy of "
                    "docs/guides/kubernetes.md, on a cluster whose network plugin enforces it; or set "
                    "AGENTRUN_ACCEPT_WEAK_ENGINE=true to go on without that protection."
                )
            self._trusted_until = anyio.current_time() + _TRIAL_SECONDS

    async def destroy(self, container: str) -> None:
        try:
            await self._connected().remove(container)
        finally:
            spec = self._specs.pop(container, None)
            if self._copies is not None and spec is not None:
                self._copies.on_destroyed(spec.sandbox, container)
            _named.discard(container)  # if this failed, `sweep` destroys it

    async def provide_packages(self, sandbox: str, folder: str) -> bool | None:
        return None if self._copies is None else await self._copies.provide(self._connected(), sandbox, folder)

    def release_packages(self, sandbox: str) -> None:
        if self._copies is not None:
            self._copies.release(sandbox)

    async def _pods(self) -> list[Pod]:
        """Return the Pods of this program, whoever owns them."""
        return await self._connected().pods(LABEL_ROLE)

    async def list_sandboxes(self) -> Sequence[str]:
        if self._copies is None:  # a claim has the packages of all servers' sandboxes
            pods = await self._pods()
        else:
            pods = await self._connected().pods(LABEL_SERVER, server_label())
        labels = [_labels(pod) for pod in pods]
        return [each.get(LABEL_SANDBOX, "") for each in labels if each[LABEL_ROLE] == "runner"]

    async def free_memory(self) -> int | None:
        return None  # the cluster's scheduler decides

    async def sweep(self) -> int:
        pods = await self._connected().pods(LABEL_ROLE, running=False)  # those that run have owners
        orphans = [pod for pod in pods if _is_orphaned(pod)]
        for pod in orphans:
            await self.destroy(_name(pod))
        return len(orphans)

    async def status(self) -> EngineStatus:
        cluster = self._connected()
        with cluster.reporting_errors():
            response = await cluster.http.get("version")
            response.raise_for_status()
            version: dict[str, Any] = response.json()
        await self._pods()  # which shows whether the account may
        number = tuple(int("".join(filter(str.isdigit, version[part])) or 0) for part in ("major", "minor"))
        architecture = str(version["platform"]).rpartition("/")[2]
        architecture = _ARCHITECTURES.get(architecture, architecture)
        weakness: str | None = None
        obstacle: str | None = None
        try:
            weakness = await find_weakness(cluster, self._image(), self._settings.kubernetes)
        except ImageError as error:
            obstacle = str(error)
        return EngineStatus(
            address=cluster.address,
            version=f"Kubernetes {version['gitVersion']} at {cluster.address}, namespace {cluster.namespace}",
            is_outdated=number < _OLDEST,
            weaknesses=() if weakness is None else (weakness,),
            gaps=_GAPS,
            architecture=architecture,
            image=self._settings.image.name or "none",
            image_architecture=architecture if obstacle is None else None,
            image_obstacle=obstacle,
            is_building=False,
            memory=None,
            free_disk=None,
            time=parsedate_to_datetime(response.headers["Date"]).timestamp(),
        )

    async def list_containers(self, *, usage: bool = False) -> Sequence[ContainerInfo]:
        return [_info(pod) for pod in await self._pods()]

    async def list_storage(self, kind: Literal["image", "volume"]) -> Sequence[StorageItem]:
        return ()

    async def remove_storage(self, item: StorageItem) -> None:
        raise EngineError("The cluster's operator manages its images and volumes.")

    async def aclose(self) -> None:
        cluster, self._cluster = self._cluster, None
        if cluster is not None:
            await cluster.aclose()


def _metadata(pod: Pod) -> Any:
    return pod.metadata or ObjectMeta()


def _labels(pod: Pod) -> dict[str, str]:
    return _metadata(pod).labels or {}


def _name(pod: Pod) -> str:
    return _metadata(pod).name or ""


def _owner(pod: Pod) -> Owner | None:
    annotations: dict[str, str] = _metadata(pod).annotations or {}
    return Owner.from_label(annotations.get(LABEL_OWNER, ""))


def _created(pod: Pod) -> float:
    created = _metadata(pod).creationTimestamp
    return created.timestamp() if created else 0.0


def _is_orphaned(pod: Pod) -> bool:
    """Return whether no server can be using *pod*.

    The stream to it is its lease: the first process of a Pod ends with the stream, or when the server has been silent
    for two minutes. So a Pod that runs has an owner, and one that has ended has none.
    """
    owner = _owner(pod)
    if owner == Owner.current():
        return _name(pod) not in _named
    if phase_of(pod) == "Pending":
        return time.time() - _created(pod) > 2 * START_SECONDS
    return phase_of(pod) in ("Succeeded", "Failed") or (owner is not None and owner.has_ended())


def _info(pod: Pod) -> ContainerInfo:
    labels = _labels(pod)
    return ContainerInfo(
        id=_name(pod),
        name=_name(pod),
        role=labels[LABEL_ROLE],
        sandbox=labels.get(LABEL_SANDBOX, ""),
        owner=_owner(pod),
        is_orphaned=_is_orphaned(pod),
        created=_created(pod),
        is_running=phase_of(pod) == "Running",
    )
