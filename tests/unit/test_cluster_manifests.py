"""The objects of deploy/kubernetes are what Kubernetes knows, fit together, and ask for no more than they need."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from lightkube.codecs import from_dict
from lightkube.models.core_v1 import Container, PodSpec

from mcp_agentrun.engine.kubernetes.pod import LABEL_NETWORK
from mcp_agentrun.server.http.app import CLOSE_SECONDS, READY_SECONDS
from mcp_agentrun.settings import Settings, load_settings
from tests.support import CHECKOUT

FOLDER = CHECKOUT / "deploy" / "kubernetes"


def _documents(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((FOLDER / name).read_text("utf-8")))


KUSTOMIZATION: dict[str, Any] = _documents("kustomization.yaml")[0]
DOCUMENTS = [each for name in KUSTOMIZATION["resources"] for each in _documents(name)]


def _only(kind: str, name: str = "") -> Any:
    (found,) = [each for each in DOCUMENTS if each["kind"] == kind and name in ("", each["metadata"]["name"])]
    return from_dict(found)


STATEFUL_SET = _only("StatefulSet")
POD: PodSpec = STATEFUL_SET.spec.template.spec
CONTAINER: Container = POD.containers[0]


def _environment(replica: int) -> dict[str, str]:
    """The environment of a replica, as Kubernetes makes it."""
    (settings,) = KUSTOMIZATION["configMapGenerator"]
    found = dict(literal.split("=", 1) for literal in settings["literals"])
    for each in CONTAINER.env or []:
        found[each.name] = (each.value or f"agentrun-{replica}").replace("$(POD_NAME)", found.get("POD_NAME", ""))
    return found


def _settings(replica: int) -> Settings:
    return load_settings(environ=_environment(replica), config=Path(os.devnull))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda each: f"{each['kind']}-{each['metadata']['name']}")
def test_kubernetes_knows_each_field(document: dict[str, Any]) -> None:
    assert from_dict(document).to_dict() == document


def test_the_server_s_rights_are_those_to_run_sandboxes() -> None:
    kinds = {each["kind"] for each in DOCUMENTS}
    assert not {"ClusterRole", "ClusterRoleBinding"} & kinds
    rules = _only("Role").to_dict()["rules"]
    assert [(rule["resources"], rule["verbs"]) for rule in rules] == [
        (["pods"], ["create", "delete", "get", "list", "watch"]),
        (["pods/exec"], ["create", "get"]),
    ]
    bindings = [each for each in DOCUMENTS if each["kind"] == "RoleBinding"]
    sandboxes = _settings(0).kubernetes.namespace
    assert {each["metadata"]["namespace"] for each in bindings} == {sandboxes}
    assert STATEFUL_SET.metadata.namespace != sandboxes  # whose secrets the account could read


def test_the_server_meets_the_level_restricted() -> None:
    namespaces = {each["metadata"]["name"]: each["metadata"] for each in DOCUMENTS if each["kind"] == "Namespace"}
    labels = namespaces[STATEFUL_SET.metadata.namespace]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
    assert not (POD.hostNetwork or POD.hostPID or POD.hostIPC)
    assert POD.securityContext and POD.securityContext.runAsNonRoot and POD.securityContext.runAsUser
    assert POD.securityContext.seccompProfile and POD.securityContext.seccompProfile.type == "RuntimeDefault"
    assert all(each.secret for each in POD.volumes or ())
    context = CONTAINER.securityContext
    assert context and context.capabilities and context.capabilities.drop == ["ALL"] and not context.capabilities.add
    assert context.allowPrivilegeEscalation is False and context.readOnlyRootFilesystem is True
    assert CONTAINER.resources and CONTAINER.resources.requests and CONTAINER.resources.limits
    assert CONTAINER.resources.requests.keys() == CONTAINER.resources.limits.keys()


def test_each_replica_is_one_of_the_peers() -> None:
    replicas = [_settings(number).serve for number in range(STATEFUL_SET.spec.replicas)]
    assert [each.own_url for each in replicas] == list(replicas[0].peers)
    assert STATEFUL_SET.metadata.name == "agentrun" and STATEFUL_SET.spec.serviceName == "agentrun-peers"
    assert _only("Service", "agentrun-peers").spec.publishNotReadyAddresses


def test_the_tokens_are_where_the_server_looks_and_others_can_t_read_them() -> None:
    (mount,), (volume,) = CONTAINER.volumeMounts or [], POD.volumes or []
    path = _settings(0).serve.token_file
    assert path and str(path.parent) == mount.mountPath and mount.name == volume.name
    assert volume.secret and volume.secret.defaultMode == 0o440


def test_selectors_find_the_server_and_the_policy_finds_sandboxes_only() -> None:
    labels = STATEFUL_SET.spec.template.metadata.labels
    services = [_only("Service", name).spec.selector for name in ("agentrun", "agentrun-peers")]
    budget, spread = _only("PodDisruptionBudget").spec.selector.matchLabels, POD.topologySpreadConstraints or []
    selectors = [*services, budget, STATEFUL_SET.spec.selector.matchLabels]
    assert all(each == labels for each in [*selectors, *(one.labelSelector.matchLabels for one in spread)])  # type: ignore[union-attr]
    policy = _only("NetworkPolicy").spec.podSelector.matchLabels
    assert policy == {LABEL_NETWORK: "none"} and LABEL_NETWORK not in labels


def test_there_is_time_to_answer_and_to_clean_up() -> None:
    stop = CONTAINER.lifecycle and CONTAINER.lifecycle.preStop
    assert stop and stop.exec and stop.exec.command
    pause, seconds = int(stop.exec.command[1]), _settings(0).serve.drain
    assert (
        POD.terminationGracePeriodSeconds and POD.terminationGracePeriodSeconds >= pause + seconds + CLOSE_SECONDS + 15
    )
    assert CONTAINER.readinessProbe and CONTAINER.readinessProbe.timeoutSeconds
    assert CONTAINER.readinessProbe.timeoutSeconds > READY_SECONDS
