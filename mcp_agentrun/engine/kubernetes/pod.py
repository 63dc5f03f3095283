"""The manifest of a Pod: a container's specification, with every restriction that Kubernetes offers."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence

from lightkube.models.core_v1 import (
    Capabilities,
    Container,
    EmptyDirVolumeSource,
    EnvVar,
    LocalObjectReference,
    PersistentVolumeClaimVolumeSource,
    PodDNSConfig,
    PodSecurityContext,
    PodSpec,
    ResourceRequirements,
    SeccompProfile,
    SecurityContext,
    Toleration,
    Volume,
    VolumeMount,
)
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.core_v1 import Pod

from ...errors import EngineError
from ...settings.kubernetes import KubernetesSettings
from .. import LABEL_OWNER, LABEL_ROLE, LABEL_SANDBOX, PACKAGES, ContainerSpec
from ..owner import Owner

__all__ = [
    "CONTAINER",
    "COPY",
    "LABEL_NETWORK",
    "LABEL_SERVER",
    "PACKAGES_CONTAINER",
    "PYTHON",
    "RELAY",
    "make_pod",
    "server_label",
]

CONTAINER = "sandbox"
PACKAGES_CONTAINER = "packages"
"""Beside the sandbox's, where packages are copied: it does nothing by itself."""

LABEL_NETWORK = "mcp-agentrun.network"
"""Label of all Pods: ``none`` or ``bridge``. The network policy applies to those without network."""

LABEL_SERVER = "mcp-agentrun.server"
"""Label of all Pods: that of the server that has made them, by which it finds its own among thousands."""

PYTHON = "/opt/venv/bin/python"
_RUNNER = (PYTHON, "-I", "-S", "/opt/agentrun/runner/__main__.py")
RELAY = (*_RUNNER, "relay")
"""Passes its standard streams to the container's first process."""

COPY = (*_RUNNER, "copy")
"""Copies packages. Arguments say which, and in which direction."""

# Waits for the lock that the runner has while the sandbox lives. A program in Python would take ten times the memory.
_WAIT_FOR_END = "for _ in $(seq 600); do flock -n /packages true || break; sleep 0.2; done; exec flock /packages true"

_DISK = 64 << 20
"""Limit of the disk, in bytes. Nothing but packages is written there: all other folders are in memory."""

_SIZE = re.compile(r"(?:^|,)size=(\d+)([kmg]?)")
_UNITS = {"": "", "k": "Ki", "m": "Mi", "g": "Gi"}
_PACKAGES_VOLUME = "packages"
_NOBODY = 65534


def server_label() -> str:
    """Return the value of the label of this server's Pods: a digest of the owner, since labels are short."""
    return hashlib.sha256(Owner.current().to_label().encode()).hexdigest()[:32]


def make_pod(
    name: str,
    spec: ContainerSpec,
    settings: KubernetesSettings,
    *,
    role: str | None = None,
    limit_pids: bool = False,
    packages_size: int = 0,
) -> Pod:
    """Return the manifest of a Pod called *name*.

    :param role: value of the label, if it is not that of *spec*.
    :param limit_pids: no other Pod has its user id, so that its processes can be limited by that.
    :param packages_size: limit of a volume for packages that no other Pod has, in bytes; 0 for none. It is on disk,
        because in memory it would count as the sandbox's.
    :raises EngineError: *spec* asks for something that a Pod can't have.
    """
    if spec.data:
        raise EngineError("Sandboxes in a cluster can't see folders of the server's machine: unset AGENTRUN_DATA.")
    labels = {LABEL_ROLE: role or spec.role, LABEL_NETWORK: spec.network, LABEL_SERVER: server_label()}
    if spec.sandbox:
        labels[LABEL_SANDBOX] = spec.sandbox
    return Pod(
        metadata=ObjectMeta(name=name, labels=labels, annotations={LABEL_OWNER: Owner.current().to_label()}),
        spec=PodSpec(
            containers=[
                _container(spec, settings, spec.pids if limit_pids else 0, packages_size),
                *([_packages_container(spec, packages_size)] if packages_size and not spec.packages_writable else []),
            ],
            volumes=list(_volumes(spec, settings, packages_size)),
            securityContext=_pod_security(settings),
            hostUsers=False if settings.user_namespaces else None,
            hostname="sandbox",
            automountServiceAccountToken=False,
            enableServiceLinks=False,
            # Nothing listens there; the cluster's own configuration would name its services.
            dnsPolicy="None" if spec.network == "none" else "ClusterFirst",
            dnsConfig=PodDNSConfig(nameservers=["127.0.0.1"]) if spec.network == "none" else None,
            restartPolicy="Never",
            terminationGracePeriodSeconds=1,  # the first process ignores SIGTERM
            activeDeadlineSeconds=round(settings.lifetime),
            runtimeClassName=spec.runtime,
            priorityClassName=settings.priority_class,
            nodeSelector=dict(_pair(label, "=") for label in settings.node_selector) or None,
            tolerations=[_toleration(text) for text in settings.tolerations] or None,
            imagePullSecrets=[LocalObjectReference(name=secret) for secret in settings.pull_secrets] or None,
        ),
    )


def _container(spec: ContainerSpec, settings: KubernetesSettings, pids: int, packages_size: int) -> Container:
    user, _, group = spec.user.partition(":")
    limits = [str(limit) for limit in (spec.open_files, spec.file_size, pids)]
    cpu, memory = f"{round(spec.cpus * 1000)}m", str(spec.memory)
    disk = _DISK + packages_size if spec.packages_writable else _DISK
    return Container(
        name=CONTAINER,
        image=spec.image,
        imagePullPolicy="IfNotPresent",
        args=["installer" if spec.role == "installer" else "supervisor", *limits],
        workingDir="/workspace",
        env=[EnvVar(name=name, value=value) for name, value in spec.environment.items()],
        resources=ResourceRequirements(
            limits={"cpu": cpu, "memory": memory, "ephemeral-storage": str(disk)},
            requests={
                "cpu": f"{round(min(spec.cpus, settings.cpu_request) * 1000)}m",
                "memory": str(min(spec.memory, settings.memory_request)),
                "ephemeral-storage": str(_DISK),
            },
        ),
        securityContext=_security(int(user), int(group), spec.capabilities),
        volumeMounts=[
            *(VolumeMount(name=_volume_name(folder), mountPath=folder) for folder in _folders(spec)),
            *([_packages_mount(spec.packages_writable)] if packages_size or settings.packages_claim else []),
        ],
    )


def _packages_container(spec: ContainerSpec, packages_size: int) -> Container:
    """The container beside a sandbox's that can write to the volume for packages. It ends with the sandbox."""
    return Container(
        name=PACKAGES_CONTAINER,
        image=spec.image,
        imagePullPolicy="IfNotPresent",
        command=["/bin/sh", "-c", _WAIT_FOR_END],
        resources=ResourceRequirements(
            limits={"cpu": "1", "memory": "128Mi", "ephemeral-storage": str(packages_size)},
            requests={"cpu": "1m", "memory": "8Mi", "ephemeral-storage": "0"},
        ),
        securityContext=_security(_NOBODY, _NOBODY),
        volumeMounts=[_packages_mount(is_writable=True)],
    )


def _security(user: int, group: int, capabilities: Sequence[str] = ()) -> SecurityContext:
    # The Pod Security level `baseline` does not allow the one that only reads. With the others it makes no difference:
    # a process that can become any user can write everywhere.
    added = ["DAC_OVERRIDE" if name == "DAC_READ_SEARCH" else name for name in capabilities]
    return SecurityContext(
        runAsUser=user,
        runAsGroup=group,
        runAsNonRoot=user != 0,
        allowPrivilegeEscalation=False,
        capabilities=Capabilities(drop=["ALL"], add=added or None),
        privileged=False,
        readOnlyRootFilesystem=True,
    )


def _pod_security(settings: KubernetesSettings) -> PodSecurityContext:
    is_default = settings.seccomp == "RuntimeDefault"
    return PodSecurityContext(
        # Of the process that holds the Pod's namespaces: with the sandbox's, it would count as one of user code's.
        runAsUser=_NOBODY,
        runAsGroup=_NOBODY,
        runAsNonRoot=True,
        seccompProfile=SeccompProfile(
            type="RuntimeDefault" if is_default else "Localhost",
            localhostProfile=None if is_default else settings.seccomp,
        ),
    )


def _folders(spec: ContainerSpec) -> dict[str, str]:
    """Return the options of the folders in memory, by path: with that of the socket for the relay."""
    return {"/run/agentrun": "size=64k", **spec.tmpfs}


def _volumes(spec: ContainerSpec, settings: KubernetesSettings, packages_size: int) -> Iterator[Volume]:
    for folder, options in _folders(spec).items():
        size = _SIZE.search(options)
        limit = f"{size[1]}{_UNITS[size[2]]}" if size else None
        yield Volume(name=_volume_name(folder), emptyDir=EmptyDirVolumeSource(medium="Memory", sizeLimit=limit))
    if settings.packages_claim is not None:
        claim = PersistentVolumeClaimVolumeSource(claimName=settings.packages_claim)
        yield Volume(name=_PACKAGES_VOLUME, persistentVolumeClaim=claim)
    elif packages_size:
        yield Volume(name=_PACKAGES_VOLUME, emptyDir=EmptyDirVolumeSource(sizeLimit=str(packages_size)))


def _packages_mount(is_writable: bool) -> VolumeMount:
    return VolumeMount(name=_PACKAGES_VOLUME, mountPath=PACKAGES, readOnly=not is_writable)


def _volume_name(folder: str) -> str:
    return folder.strip("/").replace("/", "-")


def _pair(text: str, separator: str) -> tuple[str, str]:
    first, _, second = text.partition(separator)
    return first, second


def _toleration(text: str) -> Toleration:
    """Parse a toleration as kubectl writes taints: ``key=value:effect``, of which each part may be missing."""
    taint, effect = _pair(text, ":")
    key, value = _pair(taint, "=")
    return Toleration(
        key=key or None,
        operator="Equal" if "=" in taint else "Exists",
        value=value if "=" in taint else None,
        effect=effect or None,
    )
