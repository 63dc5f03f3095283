"""Sandboxes as Pods of a Kubernetes cluster."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import Field

from .fields import MIB, Group, Metavar, Names, Seconds, Size, each

__all__ = ["KubernetesSettings"]

_NAME = r"[a-z0-9]([-.a-z0-9]{0,251}[a-z0-9])?"
_LABEL = r"[A-Za-z0-9./_-]{1,253}"
_TOLERATION = re.compile(rf"({_LABEL}(=[A-Za-z0-9._-]{{0,63}})?)?(:(NoSchedule|PreferNoSchedule|NoExecute))?", re.ASCII)


def _matches(pattern: str, text: str) -> bool:
    return re.fullmatch(pattern, text, re.ASCII) is not None


Name = Annotated[str | None, Field(pattern=f"^{_NAME}$"), Metavar("NAME")]
Labels = Annotated[
    Names,
    each(lambda text: _matches(rf"{_LABEL}=[A-Za-z0-9._-]{{0,63}}", text), "a label, as in disk=ssd"),
    Metavar("LABEL=VALUE,..."),
]
Tolerations = Annotated[
    Names,
    each(lambda text: bool(text and _TOLERATION.fullmatch(text)), "a toleration, as in sandboxes=true:NoSchedule"),
    Metavar("KEY=VALUE:EFFECT,..."),
]
ObjectNames = Annotated[Names, each(lambda text: _matches(_NAME, text), "the name of a Kubernetes object")]


class KubernetesSettings(Group):
    """Sandboxes as Pods of a Kubernetes cluster."""

    context: Annotated[str | None, Metavar("NAME")] = Field(
        default=None,
        alias="kubernetes_context",
        description="Context of the kubeconfig. Defaults to the current one.",
    )
    namespace: Name = Field(
        default=None, alias="kubernetes_namespace", description="Namespace of the Pods. Defaults to the context's."
    )
    node_selector: Labels = Field(
        default=(), alias="kubernetes_node_selector", description="Labels of the nodes that sandboxes may run on."
    )
    tolerations: Tolerations = Field(
        default=(), alias="kubernetes_tolerations", description="Taints of nodes that sandboxes tolerate."
    )
    priority_class: Name = Field(
        default=None, alias="kubernetes_priority_class", description="Priority class of the Pods."
    )
    pull_secrets: ObjectNames = Field(
        default=(), alias="kubernetes_pull_secrets", description="Secrets with the registry's credentials."
    )
    seccomp: Annotated[str, Field(pattern=r"^(RuntimeDefault|[\w./-]+\.json)$"), Metavar("PROFILE")] = Field(
        default="RuntimeDefault",
        alias="kubernetes_seccomp",
        description="RuntimeDefault, or a profile's path on the nodes, in the kubelet's folder.",
    )
    user_namespaces: bool = Field(
        default=False,
        alias="kubernetes_user_namespaces",
        description="Give each Pod a user namespace (hostUsers: false). Kubernetes 1.33.",
    )
    cpu_request: float = Field(
        default=0.1,
        gt=0,
        le=1024,
        alias="kubernetes_cpu_request",
        description="CPU cores that a node reserves for a sandbox, at most `cpus`.",
    )
    memory_request: Size = Field(
        default=256 * MIB,
        alias="kubernetes_memory_request",
        description="Memory that a node reserves for a sandbox, at most `memory`.",
    )
    lifetime: Seconds = Field(
        default=86400.0,
        le=1e9,
        alias="kubernetes_lifetime",
        description="Time after which the cluster ends a Pod, whatever the server does.",
    )
    packages_claim: Name = Field(
        default=None,
        alias="kubernetes_packages_claim",
        description="ReadWriteMany claim for packages. Without one, each sandbox gets copies.",
    )
