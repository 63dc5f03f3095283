"""The manifest of a Pod: a container's specification, with every restriction that Kubernetes offers."""

from __future__ import annotations

import re
from collections.abc import Iterator

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

__all__ = ["CONTAINER", "LABEL_NETWORK", "PYTHON", "RELAY", "make_pod"]

CONTAINER = "sandbox"
LABEL_NETWORK = "mcp-agentrun.network"
"""Label of all Pods: ``none`` or ``bridge``. The network policy applies to those without network."""

PYTHON = "/opt/venv/bin/python"
RELAY = (PYTHON, "-I", "-S", "/opt/agentrun/runner/__main__.py", "relay")
"""Passes its standard streams to the container's first process."""

_DISK = "64Mi"
"""Limit of the disk, on which nothing is written: all folders are in memory."""

_SIZE = re.compile(r"(?:^|,)size=(\d+)([kmg]?)")
_UNITS = {"": "", "k": "Ki", "m": "Mi", "g": "Gi"}
_PACKAGES_VOLUME = "packages"
_NOBODY = 65534


def make_pod(
    name: str, spec: ContainerSpec, settings: KubernetesSettings, *, role: str | None = None, limit_pids: bool = False
) -> Pod:
    """Return the manifest of a Pod called *name*.

    :param role: value of the label, if it is not that of *spec*.
    :param limit_pids: no other Pod has its user id, so that its processes can be limited by that.
    :raises EngineError: *spec* asks for something that a Pod can't have.
    """
    if spec.data:
        raise EngineError("Sandboxes in a cluster can't see folders of the server's machine: unset AGENTRUN_DATA.")
    owner = Owner.current().to_label()
    labels = {LABEL_ROLE: role or spec.role, LABEL_NETWORK: spec.network}
    if spec.sandbox:
        labels[LABEL_SANDBOX] = spec.sandbox
    return Pod(
        metadata=ObjectMeta(name=name, labels=labels, annotations={LABEL_OWNER: owner}),
        spec=PodSpec(
            containers=[_container(spec, settings, spec.pids if limit_pids else 0)],
            volumes=list(_volumes(spec, settings)),
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


def _container(spec: ContainerSpec, settings: KubernetesSettings, pids: int) -> Container:
    user, _, group = spec.user.partition(":")
    limits = [str(limit) for limit in (spec.open_files, spec.file_size, pids)]
    cpu, memory = f"{round(spec.cpus * 1000)}m", str(spec.memory)
    return Container(
        name=CONTAINER,
        image=spec.image,
        imagePullPolicy="IfNotPresent",
        args=["installer" if spec.role == "installer" else "supervisor", *limits],
        workingDir="/workspace",
        env=[EnvVar(name=name, value=value) for name, value in spec.environment.items()],
        resources=ResourceRequirements(
            limits={"cpu": cpu, "memory": memory, "ephemeral-storage": _DISK},
            requests={
                "cpu": f"{round(min(spec.cpus, settings.cpu_request) * 1000)}m",
                "memory": str(min(spec.memory, settings.memory_request)),
                "ephemeral-storage": _DISK,
            },
        ),
        securityContext=SecurityContext(
            runAsUser=int(user),
            runAsGroup=int(group),
            runAsNonRoot=int(user) != 0,
            allowPrivilegeEscalation=False,
            capabilities=Capabilities(drop=["ALL"], add=list(spec.capabilities) or None),
            privileged=False,
            readOnlyRootFilesystem=True,
        ),
        volumeMounts=[
            *(VolumeMount(name=_volume_name(folder), mountPath=folder) for folder in _folders(spec)),
            *_package_mounts(spec, settings),
        ],
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


def _volumes(spec: ContainerSpec, settings: KubernetesSettings) -> Iterator[Volume]:
    for folder, options in _folders(spec).items():
        size = _SIZE.search(options)
        limit = f"{size[1]}{_UNITS[size[2]]}" if size else None
        yield Volume(name=_volume_name(folder), emptyDir=EmptyDirVolumeSource(medium="Memory", sizeLimit=limit))
    if settings.packages_claim is not None:
        claim = PersistentVolumeClaimVolumeSource(claimName=settings.packages_claim)
        yield Volume(name=_PACKAGES_VOLUME, persistentVolumeClaim=claim)


def _package_mounts(spec: ContainerSpec, settings: KubernetesSettings) -> Iterator[VolumeMount]:
    if settings.packages_claim is not None:
        yield VolumeMount(name=_PACKAGES_VOLUME, mountPath=PACKAGES, readOnly=not spec.packages_writable)


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
