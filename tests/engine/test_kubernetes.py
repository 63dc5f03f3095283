"""What only a cluster does to sandboxes. Needs ``MCP_AGENTRUN_TEST_ADMIN``, a kubeconfig of somebody who may do all."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from mcp_agentrun.engine import LABEL_SANDBOX
from mcp_agentrun.errors import EngineError, ImageError, SandboxLostError
from mcp_agentrun.sandbox import AsyncSandbox
from mcp_agentrun.settings import Settings
from tests.support import CHECKOUT
from tests.support.engines import ENGINE
from tests.support.local_index import make_wheel
from tests.support.sandboxes import open_engine, open_sandbox, text_of

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(
        ENGINE != "kubernetes" or "MCP_AGENTRUN_TEST_ADMIN" not in os.environ,
        reason="needs MCP_AGENTRUN_TEST_ENGINE=kubernetes and MCP_AGENTRUN_TEST_ADMIN",
    ),
]

SECRET = "aXq93-secret"


class Admin:
    """The cluster as its operator sees it."""

    def __init__(self) -> None:
        from lightkube import Client, KubeConfig

        self.client: Any = Client(KubeConfig.from_file(os.environ["MCP_AGENTRUN_TEST_ADMIN"]))

    def __enter__(self) -> Admin:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()

    def pods(self, **labels: str) -> list[Any]:
        from lightkube.resources.core_v1 import Pod

        return list(self.client.list(Pod, labels=labels))

    def pod_of(self, sandbox: AsyncSandbox) -> str:
        (pod,) = self.pods(**{LABEL_SANDBOX: sandbox.id})
        return pod.metadata.name

    def delete(self, pod: str) -> None:
        """Delete *pod*, if it exists."""
        from lightkube import ApiError
        from lightkube.resources.core_v1 import Pod

        with contextlib.suppress(ApiError):
            self.client.delete(Pod, pod, grace_period=0)

    def wait_for_phase(self, pod: str, *phases: str) -> None:
        from lightkube.resources.core_v1 import Pod

        for _, found in self.client.watch(Pod, fields={"metadata.name": pod}):
            if found.status.phase in phases:
                return


@pytest.fixture(scope="module")
def admin() -> Iterator[Admin]:
    with Admin() as opened:
        yield opened


@pytest.fixture
def namespace(admin: Admin, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A namespace of the test's own, in which sandboxes are the operator's."""
    from lightkube.models.meta_v1 import ObjectMeta
    from lightkube.resources.core_v1 import Namespace

    name = f"agentrun-test-{uuid.uuid4().hex[:8]}"
    admin.client.create(Namespace(metadata=ObjectMeta(name=name)))
    monkeypatch.setenv("KUBECONFIG", os.environ["MCP_AGENTRUN_TEST_ADMIN"])
    yield name
    admin.client.delete(Namespace, name)


@pytest.fixture
async def sandbox(runner_image: str, anyio_backend: str) -> AsyncIterator[AsyncSandbox]:
    async with open_sandbox() as opened:
        yield opened


async def lose_pod(sandbox: AsyncSandbox, admin: Admin) -> None:
    """Delete the Pod of *sandbox* during a call."""
    pod = admin.pod_of(sandbox)
    with pytest.raises(SandboxLostError, match="lost during this call"):
        await sandbox.run(
            "print('begun', flush=True); import time; time.sleep(60)",
            on_bytes=lambda _: anyio.to_thread.run_sync(admin.delete, pod),
        )


async def refusal(**options: Any) -> str:
    """What a call reads that can't have a sandbox."""
    async with AsyncSandbox(Settings(**options)) as sandbox:
        with pytest.raises(EngineError) as caught:
            await sandbox.run("1")
        return str(caught.value)


async def test_logs_and_events_have_neither_code_nor_output(sandbox: AsyncSandbox, admin: Admin) -> None:
    from lightkube.resources.core_v1 import Event

    from mcp_agentrun.engine.kubernetes.pod import CONTAINER, PACKAGES_CONTAINER

    code = f"""
import os, sys, threading
print({SECRET!r}); print({SECRET!r}, file=sys.stderr)
os.write(1, b"{SECRET}"); os.system("echo {SECRET}")
for stream in (1, 2):
    try: open(f"/proc/1/fd/{{stream}}", "w").write({SECRET!r})
    except OSError as error: print(error.errno)
"""
    printed = await text_of(sandbox, code)
    assert printed.count(SECRET) == 4
    assert printed.count("13\n") == 2
    assert (await sandbox.run(f"raise ValueError({SECRET!r})")).outcome == "error"
    assert (await sandbox.run("import os; os._exit(1)")).outcome == "crashed"
    pod = admin.pod_of(sandbox)
    for container in (CONTAINER, PACKAGES_CONTAINER):
        assert list(admin.client.log(pod, container=container)) == []
    events = [event for event in admin.client.list(Event) if event.involvedObject.name == pod]
    assert events
    assert SECRET not in json.dumps([event.to_dict() for event in events], default=str)


async def test_code_has_no_privileges_and_finds_nothing_of_the_cluster(sandbox: AsyncSandbox) -> None:
    status = dict(
        line.split(":\t")
        for line in (await text_of(sandbox, "print(open('/proc/self/status').read())")).splitlines()
        if line
    )
    assert {status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    assert await text_of(sandbox, "import os; os.path.exists('/var/run/secrets')") == "False\n"
    found = await text_of(sandbox, "[name for name in os.environ if name.endswith('_SERVICE_PORT_HTTP')]")
    assert found == "[]\n"
    written = await sandbox.run("open('/opt/agentrun/x', 'w')")
    assert written.error is not None
    assert written.error.errno == 30


async def test_code_can_not_use_the_relay(sandbox: AsyncSandbox) -> None:
    code = """
import os, socket
relay = next(p for p in os.listdir('/proc') if p.isdigit() and open(f'/proc/{p}/comm').read() == 'relay\\n')
for path in (f'/proc/{relay}/fd', f'/proc/{relay}/mem', f'/proc/{relay}/environ'):
    try: os.listdir(path) if path.endswith('fd') else open(path, 'rb').read(1)
    except OSError as error: print(error.errno)
print(os.path.exists('/run/agentrun/relay'), open(f'/proc/{relay}/stat').read().split()[3])
"""
    assert await text_of(sandbox, code) == "13\n13\n13\nFalse 0\n"
    with contextlib.suppress(SandboxLostError):  # some engines keep the stream, which PID 1 holds open as well
        await sandbox.run("os.kill(int(relay), 9)")
    assert await text_of(sandbox, "40 + 2") == "42\n"


async def test_a_second_relay_is_not_accepted(sandbox: AsyncSandbox, admin: Admin) -> None:
    from mcp_agentrun.engine.kubernetes.cluster import Cluster
    from mcp_agentrun.engine.kubernetes.pod import CONTAINER, RELAY
    from mcp_agentrun.engine.kubernetes.stream import open_exec

    await text_of(sandbox, "x = 1")
    cluster = Cluster(Settings().kubernetes)
    stream = await open_exec(cluster, admin.pod_of(sandbox), CONTAINER, RELAY)
    await stream.send(b"anything")
    assert await text_of(sandbox, "x") == "1\n"
    await stream.aclose()
    await cluster.aclose()
    assert await text_of(sandbox, "x") == "1\n"


async def test_a_pod_that_is_deleted_is_lost_and_replaced(sandbox: AsyncSandbox, admin: Admin) -> None:
    await text_of(sandbox, "x = 1")
    await lose_pod(sandbox, admin)
    result = await sandbox.run("x")
    assert result.replaced
    assert result.outcome == "error"


async def test_a_sandbox_that_no_node_can_take_is_told_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mcp_agentrun.engine.kubernetes.starting._SCHEDULE_SECONDS", 3)
    told = await refusal(kubernetes_node_selector="no-such=label")
    assert "no node for the sandbox: 0/" in told


async def test_an_image_that_is_nowhere_is_told() -> None:
    async with AsyncSandbox(Settings(image="127.0.0.1:1/no/such:1")) as sandbox:
        with pytest.raises(ImageError, match=r"can't pull the image 127\.0\.0\.1:1/no/such:1"):
            await sandbox.run("1")


async def test_a_quota_that_is_used_up_is_told(namespace: str, admin: Admin) -> None:
    from lightkube.models.core_v1 import ResourceQuotaSpec
    from lightkube.models.meta_v1 import ObjectMeta
    from lightkube.resources.core_v1 import ResourceQuota

    quota = ResourceQuota(
        metadata=ObjectMeta(name="none", namespace=namespace), spec=ResourceQuotaSpec(hard={"pods": "0"})
    )
    admin.client.create(quota)
    for _, found in admin.client.watch(ResourceQuota, namespace=namespace):
        if found.status and found.status.used:
            break
    assert f"The quota of the namespace {namespace} is used up" in await refusal(kubernetes_namespace=namespace)


async def test_code_runs_only_where_it_is_kept_off_the_network(runner_image: str) -> None:
    from mcp_agentrun.engine.kubernetes.cluster import Cluster
    from mcp_agentrun.engine.kubernetes.isolation import find_weakness

    cluster = Cluster(Settings().kubernetes)
    weakness = await find_weakness(cluster, runner_image, Settings().kubernetes)
    await cluster.aclose()
    if weakness is None:
        async with AsyncSandbox(Settings(accept_weak_engine=False)) as sandbox:
            assert await text_of(sandbox, "1") == "1\n"
    else:
        told = await refusal(accept_weak_engine=False)
        assert _without_addresses(weakness) in _without_addresses(told)  # of the node, which may be another one


def _without_addresses(text: str) -> str:
    return re.sub(r"[\d.]+:\d+", "", text)


async def test_the_pods_of_a_killed_server_end_and_are_swept(runner_image: str, admin: Admin) -> None:
    code = """
import sys
from mcp_agentrun import Sandbox
from tests.support.engines import use_cluster
use_cluster()
with Sandbox() as sandbox:
    sandbox.run("1")
    print(sandbox.id, flush=True)
    sys.stdin.read()
"""
    with subprocess.Popen(  # noqa: ASYNC220
        [sys.executable, "-c", code],
        cwd=CHECKOUT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        sandbox = (await anyio.to_thread.run_sync(process.stdout.readline)).strip()
        (pod,) = admin.pods(**{LABEL_SANDBOX: sandbox})
        process.send_signal(signal.SIGKILL)
    await anyio.to_thread.run_sync(admin.wait_for_phase, pod.metadata.name, "Succeeded", "Failed")
    async with open_engine() as engine:
        await engine.sweep()
    assert admin.pods(**{LABEL_SANDBOX: sandbox}) == []


@pytest.fixture
async def equipped(runner_image: str, tmp_path: Path, anyio_backend: str) -> AsyncIterator[AsyncSandbox]:
    """A sandbox that can install the packages ``alpha`` and ``beta``."""
    make_wheel(tmp_path, "alpha", "1.0", files={"alpha_data.bin": "x" * (1 << 20)})
    make_wheel(tmp_path, "beta", "1.0")
    async with open_sandbox(Settings(wheelhouse=str(tmp_path), offline=True)) as opened:
        yield opened


async def test_packages_need_no_volume_that_nodes_share(equipped: AsyncSandbox, admin: Admin) -> None:
    await text_of(equipped, "x = 1")
    assert (await equipped.install("alpha")).packages == (("alpha", "1.0"),)
    first = await text_of(equipped, "import alpha; print(alpha.__file__)")
    assert (await equipped.install("beta")).packages == (("beta", "1.0"),)
    assert await text_of(equipped, "import beta; x, open(alpha.__file__).read(9)") == "(1, 'VERSION =')\n"
    links = "import glob, os; [os.stat(path).st_nlink for path in glob.glob('/packages/sandboxes/*/*/alpha_data.bin')]"
    assert await text_of(equipped, links) == "[2, 2]\n"
    await lose_pod(equipped, admin)
    second = await text_of(equipped, "import alpha, beta; print(alpha.__file__)")
    assert first != second
    await equipped.reset(keep_packages=True)
    assert await text_of(equipped, "import alpha; print(alpha.__file__)") == second
    await equipped.reset()
    assert (await equipped.run("import alpha")).error is not None
    assert (await equipped.install("beta")).packages == (("beta", "1.0"),)
    left = "import glob; [path.rpartition('/')[2] for path in glob.glob('/packages/sandboxes/*/*/*.py')]"
    assert await text_of(equipped, left) == "['beta.py']\n"


async def test_code_can_neither_change_packages_nor_reach_their_container(equipped: AsyncSandbox) -> None:
    await equipped.install("alpha")
    code = """
import alpha, ctypes, os, socket
folder = os.path.dirname(alpha.__file__)
for change in (
    lambda: open(alpha.__file__, "a"), lambda: os.chmod(alpha.__file__, 0o666), lambda: os.unlink(alpha.__file__),
    lambda: os.mkdir("/packages/x"), lambda: os.mkfifo("/packages/x"), lambda: os.symlink("/", folder + "/x"),
    lambda: os.rename(folder, "/packages/x"), lambda: socket.socket(socket.AF_UNIX).bind("/packages/x"),
    lambda: os.utime("/packages"), lambda: os.link(alpha.__file__, "/packages/x"),
):
    try: print("changed", change())
    except OSError as error: print(error.errno, end=" ")
libc = ctypes.CDLL(None, use_errno=True)
for flags in (32 | 4096, 32):  # MS_REMOUNT, with MS_BIND
    print(libc.mount(b"none", b"/packages", None, flags, None), end=" ")
"""
    assert await text_of(equipped, code) == "13 " + "30 " * 9 + "-1 -1 "  # the file itself is read-only as well
    code = """
names = [open(f"/proc/{pid}/comm").read().strip() for pid in os.listdir("/proc") if pid.isdigit()]
print({"flock", "sh", "pause", "sleep"} & {*names})
print([line for line in open("/proc/net/unix").read().splitlines() if "@" in line])
listening = [line.split()[3] for path in ("tcp", "tcp6", "udp") for line in open(f"/proc/net/{path}").readlines()[1:]]
print(listening, [open(f"/proc/sysvipc/{kind}").read().count("\\n") for kind in ("shm", "sem", "msg")])
"""
    assert await text_of(equipped, code) == "set()\n[]\n[] [1, 1, 1]\n"


async def test_packages_can_be_installed_after_code_has_killed_all_that_it_can(equipped: AsyncSandbox) -> None:
    with contextlib.suppress(SandboxLostError):  # of the relay, some engines keep the stream
        await equipped.run("import os; os.kill(-1, 9)")
    await equipped.run("1")
    await equipped.install("alpha")
    assert await text_of(equipped, "import alpha; print(1)") == "1\n"


async def test_a_run_survives_running_out_of_memory(sandbox: AsyncSandbox) -> None:
    await text_of(sandbox, "x = 42")
    assert (await sandbox.run("b = b'x' * (2 << 30)")).outcome in ("memory_limit", "error")
    assert (await sandbox.run("blocks = []\nwhile True: blocks.append(b'x' * (8 << 20))")).outcome == "memory_limit"
    result = await sandbox.run("x")
    assert (result.state, result.output.text()) == ("kept", "42\n")
