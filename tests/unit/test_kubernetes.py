"""The engine for Kubernetes, on an API server that misbehaves."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest
from starlette.websockets import WebSocket

from mcp_agentrun.cli.checks import Finding, check_all
from mcp_agentrun.engine import ContainerSpec
from mcp_agentrun.engine.kubernetes import starting
from mcp_agentrun.engine.kubernetes.engine import KubernetesEngine
from mcp_agentrun.engine.kubernetes.pod import server_label
from mcp_agentrun.engine.owner import Owner
from mcp_agentrun.errors import EngineError, ImageError, InstallError, SandboxLostError, SettingsError, UnavailableError
from mcp_agentrun.sandbox import AsyncRuntime, AsyncSandbox, Housekeeping
from mcp_agentrun.sandbox.spec import runner_spec
from mcp_agentrun.settings import Settings
from tests.support import fake_engine
from tests.support.fake_cluster import FakeCluster, Process, end, running, unschedulable, waiting
from tests.support.sandboxes import sandbox_on, text_of

pytestmark = pytest.mark.anyio

IMAGE = "registry.example/runner@sha256:" + "0" * 64


@pytest.fixture
async def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, anyio_backend: str) -> AsyncIterator[FakeCluster]:
    fake = FakeCluster()
    async with fake.serving(tmp_path) as kubeconfig:
        monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
        yield fake


def settings(**values: Any) -> Settings:
    return Settings(engine="kubernetes", image=IMAGE, auto_install="off", **values)


def spec(**values: Any) -> ContainerSpec:
    return runner_spec(settings(**values), IMAGE, "a" * 32, 23456)


async def failure_of(**values: Any) -> str:
    """What a call reads that can't have a sandbox."""
    async with AsyncSandbox(settings(**values)) as sandbox:
        with pytest.raises(EngineError) as caught:
            await sandbox.run("1")
        return str(caught.value)


async def test_a_sandbox_runs_code_and_is_removed(cluster: FakeCluster) -> None:
    async with AsyncSandbox(settings()) as sandbox:
        assert await text_of(sandbox, "x" * 1000) == "x"
        assert len(cluster.pods) == 1
    assert cluster.pods == {}


async def test_a_pod_has_every_lock(cluster: FakeCluster) -> None:
    options = {
        "runtime": "gvisor",
        "kubernetes_node_selector": "disk=ssd",
        "kubernetes_tolerations": "sandboxes=true:NoSchedule,spot",
        "kubernetes_priority_class": "low",
        "kubernetes_pull_secrets": "registry",
        "kubernetes_seccomp": "profiles/agentrun.json",
        "kubernetes_user_namespaces": True,
        "kubernetes_lifetime": 60,
    }
    engine = KubernetesEngine(settings(**options))
    await engine.allocate(spec(**options))
    await engine.aclose()
    (pod,) = cluster.created
    assert pod["metadata"]["labels"] == {
        "mcp-agentrun.role": "runner",
        "mcp-agentrun.sandbox": "a" * 32,
        "mcp-agentrun.network": "none",
        "mcp-agentrun.server": server_label(),
    }
    made = pod["spec"]
    container, _ = made.pop("containers")
    volumes = {each["name"]: each["emptyDir"] for each in made.pop("volumes")}
    assert made == {
        "activeDeadlineSeconds": 60,
        "automountServiceAccountToken": False,
        "dnsConfig": {"nameservers": ["127.0.0.1"]},
        "dnsPolicy": "None",
        "enableServiceLinks": False,
        "hostUsers": False,
        "hostname": "sandbox",
        "imagePullSecrets": [{"name": "registry"}],
        "nodeSelector": {"disk": "ssd"},
        "priorityClassName": "low",
        "restartPolicy": "Never",
        "runtimeClassName": "gvisor",
        "securityContext": {
            "runAsGroup": 65534,
            "runAsNonRoot": True,
            "runAsUser": 65534,
            "seccompProfile": {"type": "Localhost", "localhostProfile": "profiles/agentrun.json"},
        },
        "terminationGracePeriodSeconds": 1,
        "tolerations": [
            {"key": "sandboxes", "operator": "Equal", "value": "true", "effect": "NoSchedule"},
            {"key": "spot", "operator": "Exists"},
        ],
    }
    assert container["args"] == ["supervisor", "256", str(256 << 20), "64"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "privileged": False,
        "readOnlyRootFilesystem": True,
        "runAsGroup": 23456,
        "runAsNonRoot": True,
        "runAsUser": 23456,
    }
    assert container["resources"] == {
        "limits": {"cpu": "1000m", "memory": str(1 << 30), "ephemeral-storage": str(64 << 20)},
        "requests": {"cpu": "100m", "memory": str(256 << 20), "ephemeral-storage": str(64 << 20)},
    }
    assert {name for name, volume in volumes.items() if volume.get("medium") == "Memory"} == {
        "workspace",
        "tmp",
        "dev-shm",
        "run-agentrun",
    }
    assert volumes["workspace"]["sizeLimit"] == str(256 << 20)
    assert {mount["mountPath"] for mount in container["volumeMounts"]} == {
        "/workspace",
        "/tmp",
        "/dev/shm",
        "/run/agentrun",
        "/packages",
    }


@pytest.mark.parametrize("text", ["x=1:Never", "=1", "a b"])
def test_a_toleration_must_be_one(text: str) -> None:
    with pytest.raises(SettingsError, match="kubernetes_tolerations"):
        Settings(kubernetes_tolerations=text)


async def test_a_lost_watch_begins_anew(cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mcp_agentrun.engine.kubernetes.cluster._RETRY_SECONDS", 0)
    cluster.states = lambda _: [{"phase": "Pending"}, None, {"phase": "Pending"}, None, running()]
    async with AsyncSandbox(settings(accept_weak_engine=True)) as sandbox:
        assert await text_of(sandbox, "1") == "x"
    assert cluster.watches >= 3


async def test_a_used_up_quota_is_told(cluster: FakeCluster) -> None:
    message = 'pods "p" is forbidden: exceeded quota: most, requested: pods=1, used: pods=4, limited: pods=4'
    cluster.refusals["POST"] = [(403, message)]
    assert "The quota of the namespace sandboxes is used up" in await failure_of()


async def test_a_missing_right_is_told(cluster: FakeCluster) -> None:
    cluster.refusals["POST"] = [(403, 'pods is forbidden: User "u" cannot create resource "pods"')]
    assert "The server's account lacks a right" in await failure_of()


async def test_after_a_conflict_the_next_call_succeeds(cluster: FakeCluster) -> None:
    cluster.refusals["POST"] = [(409, "object is being deleted: pods already exists")]
    async with AsyncSandbox(settings(accept_weak_engine=True)) as sandbox:
        with pytest.raises(EngineError, match="already exists"):
            await sandbox.run("1")
        assert await text_of(sandbox, "1") == "x"


async def test_an_image_that_cannot_be_pulled_is_told(cluster: FakeCluster) -> None:
    cluster.states = lambda _: [waiting("ErrImagePull", "manifest unknown")]
    async with AsyncSandbox(settings(accept_weak_engine=True)) as sandbox:
        with pytest.raises(ImageError, match="ErrImagePull, manifest unknown"):
            await sandbox.run("1")
    assert cluster.pods == {}


async def test_the_scheduler_s_reason_is_told(cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(starting, "_SCHEDULE_SECONDS", 0.2)
    cluster.states = lambda _: [unschedulable("0/2 nodes are available: 2 Insufficient memory.")]
    told = await failure_of(accept_weak_engine=True)
    assert "The cluster has no node for the sandbox: 0/2 nodes are available: 2 Insufficient memory" in told


async def test_an_api_server_that_is_away_is_told(cluster: FakeCluster, tmp_path: Path) -> None:
    config = tmp_path / "kubeconfig"
    config.write_text(config.read_text().replace("http://127.0.0.1:", "http://127.0.0.1:1/?"))
    assert "can't be reached" in await failure_of()


async def test_without_a_kubeconfig_it_says_what_to_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    assert "Set KUBECONFIG" in await failure_of()


async def test_without_an_image_it_says_how_to_push_one(cluster: FakeCluster) -> None:
    async with AsyncSandbox(Settings(engine="kubernetes")) as sandbox:
        with pytest.raises(ImageError, match="mcp-agentrun image push"):
            await sandbox.run("1")


async def test_a_broken_stream_ends(cluster: FakeCluster) -> None:
    engine = KubernetesEngine(settings(accept_weak_engine=True))
    stream = await engine.open_stream(await engine.allocate(spec()))
    cluster.cut.set()
    with pytest.raises((anyio.EndOfStream, anyio.BrokenResourceError)):
        await stream.receive()
    await stream.aclose()
    await engine.aclose()


async def test_another_protocol_is_refused(cluster: FakeCluster) -> None:
    cluster.protocol = None
    assert "does not speak the protocol" in await failure_of(accept_weak_engine=True)


async def test_a_cluster_that_lets_code_out_is_refused(cluster: FakeCluster) -> None:
    cluster.trial["none"] = ["10.0.0.1:10250"]
    told = await failure_of()
    assert "code could reach 10.0.0.1:10250" in told
    assert "AGENTRUN_ACCEPT_WEAK_ENGINE" in told
    assert cluster.pods == {}


async def test_a_trial_that_shows_nothing_is_no_proof(cluster: FakeCluster) -> None:
    cluster.trial["bridge"] = []
    assert "no Pod reaches anything" in await failure_of()


async def test_the_network_is_tried_once(cluster: FakeCluster) -> None:
    engine = KubernetesEngine(settings())
    async with sandbox_on(engine, settings()) as sandbox, anyio.create_task_group() as tasks:
        tasks.start_soon(sandbox.run, "1")
        async with AsyncSandbox(settings()) as other:
            await other.run("1")
        await sandbox.reset()
    trials = [pod for pod in cluster.created if pod["metadata"]["labels"]["mcp-agentrun.role"] == "trial"]
    assert len(trials) == 4  # two for each engine


async def test_a_server_asks_for_its_own_pods_unless_they_share_a_claim(cluster: FakeCluster) -> None:
    engine = KubernetesEngine(settings())
    own = cluster.pods[await engine.allocate(spec())]
    labels = {**own["metadata"]["labels"], "mcp-agentrun.server": "another", "mcp-agentrun.sandbox": "theirs"}
    cluster.pods["other"] = {"metadata": {"name": "other", "labels": labels}, "spec": {"containers": []}}
    assert (list(await engine.list_sandboxes()), cluster.listed) == (["a" * 32], 1)
    await engine.aclose()
    sharing = KubernetesEngine(settings(kubernetes_packages_claim="claim"))
    assert set(await sharing.list_sandboxes()) == {"a" * 32, "theirs"}
    await sharing.aclose()


async def test_a_sweep_removes_what_has_no_owner(cluster: FakeCluster) -> None:
    engine = KubernetesEngine(settings())
    owner = '{"host":"h","boot":"b","namespace":"n","pid":1,"began":1.0}'
    for name, state in (("ended", {"phase": "Failed"}), ("lives", running()), ("waits", {"phase": "Pending"})):
        created = "2020-01-01T00:00:00Z" if name == "waits" else "2099-01-01T00:00:00Z"
        metadata = {"name": name, "labels": {"mcp-agentrun.role": "runner"}, "creationTimestamp": created}
        cluster.pods[name] = {
            "metadata": {**metadata, "annotations": {"mcp-agentrun.owner": owner}},
            "spec": {"containers": []},
            "status": state,
        }
    assert await engine.sweep() == 2
    assert list(cluster.pods) == ["lives"]
    assert cluster.listed == 2  # those that run may be thousands, and are not asked for
    await engine.aclose()


def with_packages(**values: Any) -> Settings:
    return settings(accept_weak_engine=True, packages_files=1000, packages_size=100 << 20, **values)


async def has_run(sandbox: AsyncSandbox) -> bool:
    """Whether code runs, and finds all packages that it should."""
    result = await sandbox.run("1")
    return (result.output.text(), result.missing_packages) == ("x", None)


async def lose_pod(sandbox: AsyncSandbox, cluster: FakeCluster) -> None:
    """Lose the Pod of *sandbox*, and have that noticed."""
    cluster.lose("runner")
    with suppress(SandboxLostError):
        await sandbox.run("1")


async def test_packages_are_copied_to_each_pod_of_a_sandbox(cluster: FakeCluster) -> None:
    async with AsyncSandbox(with_packages()) as sandbox:
        installed = await sandbox.install("x")
        await sandbox.run("1")
        names = cluster.names
        limits = [str(100 << 20), "1000"]
        assert sorted(cluster.copies) == [
            (names["installer"], "sandbox", ["send", installed.folder]),
            (names["runner"], "packages", ["receive", installed.folder, *limits]),
        ]
        cluster.copies.clear()
        await lose_pod(sandbox, cluster)
        assert await has_run(sandbox)
        assert {name for name, _, _ in cluster.copies} == set(cluster.names.values())
        assert names["runner"] not in cluster.names


async def test_a_pod_keeps_its_packages_when_the_installer_is_lost(cluster: FakeCluster) -> None:
    async with AsyncSandbox(with_packages()) as sandbox:
        await sandbox.install("x")
        cluster.lose("installer")
        cluster.copies.clear()
        assert await has_run(sandbox)
        assert cluster.copies == []


async def test_packages_are_installed_anew_when_the_installer_has_lost_them(cluster: FakeCluster) -> None:
    async with AsyncSandbox(with_packages()) as sandbox:
        await sandbox.install("x")
        cluster.copying["send"].append(lambda process: end(process, "gone"))
        await lose_pod(sandbox, cluster)
        assert await has_run(sandbox)
    assert [words[0] for _, _, words in cluster.copies].count("send") == 3


async def test_packages_that_could_not_be_copied_are_not_forgotten(cluster: FakeCluster) -> None:
    async with AsyncSandbox(with_packages()) as sandbox:
        await sandbox.install("x")
        await lose_pod(sandbox, cluster)
        cluster.copying["send"].append(cut)
        result = await sandbox.run("1")
        assert result.missing_packages is not None and "could not be copied" in result.missing_packages
        assert await has_run(sandbox)
    assert [words[0] for _, _, words in cluster.copies].count("send") == 3


async def test_what_a_pod_has_is_not_sent_again_until_a_reset(
    cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with AsyncSandbox(with_packages()) as sandbox:
        folders: list[str] = []
        for name in "xyz":
            monkeypatch.setattr(fake_engine, "FOLDER", str(len(folders)) * 16)
            folders.append((await sandbox.install(name)).folder)
            if name == "y":
                await sandbox.reset()
    first, second, third = folders
    sent = [words for _, _, words in cluster.copies if words[0] == "send"]
    assert sent == [["send", first], ["send", second, first], ["send", third]]


async def test_preinstalled_packages_are_copied_to_each_sandbox(cluster: FakeCluster) -> None:
    async with (
        AsyncRuntime(with_packages(preinstall="x")) as runtime,
        runtime.sandbox() as one,
        runtime.sandbox() as other,
    ):
        assert await has_run(one)
        assert await has_run(other)
        assert await has_run(one)
    installers = {name for name, _, words in cluster.copies if words[0] == "send"}
    assert len(cluster.copies) == 4
    assert len(installers) == 1


async def cut(process: WebSocket) -> None:
    """Send half of an archive."""
    await process.send_bytes(b"\1archive")


async def hang(process: WebSocket) -> None:
    """Wait for what never comes."""
    while True:
        await process.receive_bytes()


FAULTS: dict[str, tuple[str, Process, type[Exception], str]] = {
    "the stream is cut": ("send", cut, EngineError, "could not be copied to the sandbox: a stream broke. Call again"),
    "the installer is gone": ("send", partial(end, problem="gone"), UnavailableError, "installer was lost"),
    "reading fails": (
        "send",
        partial(end, problem="failed"),
        EngineError,
        "could not be copied to the sandbox: failed",
    ),
    "the disk is full": ("receive", partial(end, problem="full"), EngineError, "disk of the sandbox's node is full"),
    "it is too much": (
        "receive",
        partial(end, problem="limit"),
        InstallError,
        "more than 100 MiB, or have more than 1000",
    ),
    "the archive is hostile": ("receive", partial(end, problem="malformed"), EngineError, "sandbox: malformed"),
    "the sandbox is gone": ("receive", lambda process: process.close(), EngineError, "could not be copied"),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_copy_that_fails_is_told_and_can_be_repeated(cluster: FakeCluster, fault: str) -> None:
    role, process, error, message = FAULTS[fault]
    async with AsyncSandbox(with_packages()) as sandbox:
        cluster.copying[role].append(process)
        with pytest.raises(error, match=message):
            await sandbox.install("x")
        assert await has_run(sandbox)
        assert (await sandbox.install("x")).packages == (("x", "1.0"),)


async def test_a_copy_that_never_ends_is_given_up(cluster: FakeCluster) -> None:
    async with AsyncSandbox(with_packages(install_timeout=1)) as sandbox:
        cluster.copying["receive"].append(hang)
        with pytest.raises(EngineError, match="this took longer than 1 s"):
            await sandbox.install("x")


async def test_a_pod_that_has_packages_of_its_own_limits_them(cluster: FakeCluster) -> None:
    async with AsyncSandbox(with_packages(cache_size=300 << 20)) as sandbox:
        await sandbox.install("x")
    by_role = {pod["metadata"]["labels"]["mcp-agentrun.role"]: pod["spec"] for pod in cluster.created}
    limits = {
        role: (
            next(volume["emptyDir"] for volume in spec["volumes"] if volume["name"] == "packages"),
            spec["containers"][-1]["resources"]["limits"]["ephemeral-storage"],
        )
        for role, spec in by_role.items()
    }
    runners, installers = 125 << 20, 625 << 20
    assert limits == {
        "runner": ({"sizeLimit": str(runners)}, str(runners)),
        "installer": ({"sizeLimit": str(installers)}, str(installers + (64 << 20))),
    }
    sandbox_, packages = by_role["runner"]["containers"]
    assert sandbox_["volumeMounts"][-1] == {"name": "packages", "mountPath": "/packages", "readOnly": True}
    assert packages["volumeMounts"] == [{"name": "packages", "mountPath": "/packages", "readOnly": False}]
    assert packages["securityContext"] == {**sandbox_["securityContext"], "runAsUser": 65534, "runAsGroup": 65534}
    assert not {"shareProcessNamespace", "hostNetwork", "hostPID", "hostIPC"} & by_role["runner"].keys()


BASELINE = {
    *("AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_BIND_SERVICE", "SETFCAP"),
    *("SETGID", "SETPCAP", "SETUID", "SYS_CHROOT"),
}
"""Capabilities that the Pod Security Standards let a container have at this level."""


async def test_pods_keep_to_levels_of_the_pod_security_standards(cluster: FakeCluster) -> None:
    async with AsyncSandbox(with_packages()) as sandbox:
        await sandbox.install("x")
    for pod in cluster.created:
        contexts = [container["securityContext"] for container in pod["spec"]["containers"]]
        assert pod["spec"]["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert all(context["capabilities"]["drop"] == ["ALL"] for context in contexts)
        assert not any(context["allowPrivilegeEscalation"] or context["privileged"] for context in contexts)
        added = [set(context["capabilities"].get("add", ())) for context in contexts]
        if pod["metadata"]["labels"]["mcp-agentrun.role"] == "installer":
            assert set[str]() < added[0] <= BASELINE
        else:
            assert added == [set(), set()]
            assert all(context["runAsNonRoot"] for context in contexts)


async def test_with_a_claim_nothing_is_copied(cluster: FakeCluster) -> None:
    async with AsyncSandbox(with_packages(kubernetes_packages_claim="shared")) as sandbox:
        await sandbox.install("x")
        assert await has_run(sandbox)
    assert cluster.copies == []
    assert all(len(pod["spec"]["containers"]) == 1 for pod in cluster.created)


async def doctor(**options: Any) -> dict[str, Finding]:
    async with Housekeeping(settings(**options)) as housekeeping:
        return {finding.name: finding async for finding in check_all(settings(**options), housekeeping)}


async def test_doctor_says_what_a_pod_does_not_limit(cluster: FakeCluster) -> None:
    found = await doctor()
    assert {finding.level for finding in found.values()} <= {"ok", "skipped"}, found
    assert "processes are limited by user id only" in found["limits"].text
    assert cluster.pods == {}


async def test_doctor_finds_a_cluster_that_lets_code_out(cluster: FakeCluster) -> None:
    cluster.trial["none"] = ["10.0.0.1:10250"]
    assert (await doctor())["limits"].level == "error"
    assert (await doctor(accept_weak_engine=True))["limits"].level == "warning"


async def test_doctor_finds_that_the_image_can_not_be_pulled(cluster: FakeCluster) -> None:
    cluster.trial_states = [waiting("ErrImagePull", "manifest unknown")]
    found = await doctor()
    assert found["image"].level == "error"
    assert "manifest unknown" in found["image"].text


async def test_containers_are_listed(cluster: FakeCluster) -> None:
    async with AsyncSandbox(settings(accept_weak_engine=True)) as sandbox, Housekeeping(settings()) as housekeeping:
        await sandbox.ready()
        (found,) = await housekeeping.containers()
        assert (found.sandbox, found.role, found.is_orphaned) == (sandbox.id, "runner", False)
        assert found.owner == Owner.current()
        assert await housekeeping.list_storage("image") == ()
        await housekeeping.destroy(found)
        assert cluster.pods == {}
