"""`make deploy-check`: deploy/compose.yaml from nothing, used by clients, replaced, and what its socket proxy refuses.

Builds the images, so it needs the network. The base is BASE, as for compose, or one that the engine has.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest
from docker import APIClient
from docker.errors import ImageNotFound, NotFound
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.types import ImageContent

from mcp_agentrun.engine import LABEL_OWNER, LABEL_ROLE, LABEL_SANDBOX
from mcp_agentrun.engine.docker.discovery import connect
from mcp_agentrun.engine.docker.server_container import LABEL_SERVER
from tests.support.clients import run, text_of
from tests.support.http_server import http_client
from tests.support.stdio_server import INITIALIZE

pytestmark = pytest.mark.anyio

DEPLOY = Path(__file__).parents[2] / "deploy"
BASES = ("python:3.13-slim", "mcp-agentrun-base:trixie")
PLOT = "import matplotlib.pyplot as plt\nplt.plot([1, 4, 9])\nplt.show()"
ENGINE_SECONDS = 120
"""How long a container may take to disappear."""

SEND = """
import http.client, json, socket, sys
answers = []
for method, path, headers in json.load(sys.stdin):
    connection = http.client.HTTPConnection("engine", timeout=60)
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect("/run/engine/docker.sock")
    connection.request(method, path, headers=headers)
    answer = connection.getresponse()
    answers.append([answer.status, answer.getheader("Server") or "proxy"])
    connection.close()
print(json.dumps(answers))
"""

MEMORY = """
import anyio, psutil
from mcp_agentrun.engine.docker.engine import DockerEngine
from mcp_agentrun.settings import Settings
async def main():
    engine = DockerEngine.from_settings(Settings())
    print(await engine.free_memory() > 0)
    await engine.aclose()
anyio.run(main)
"""

BUILDING = """
from mcp_agentrun.engine.docker import image
from mcp_agentrun.engine.docker.discovery import connect
api, _ = connect()
recipe = image.ImageRecipe()
tag = "mcp-agentrun-runner:" + "0" * 16
image._build(
    api, tag, {**recipe.runner_files(), "x": b"deploy"}, {"ENVIRONMENT": recipe.environment_tag}, lambda line: None,
    dockerfile="runner.Dockerfile", labels={"label": "of a test"}
)
found = image.inspect_image(api, tag)
print(found["Config"]["Labels"]["label"], found["Id"] in {each["Id"] for each in api.images(
    filters={"label": "mcp-agentrun.image=runner"})})
api.tag(tag, "mcp-agentrun-runner", "1" * 16)
api.remove_image("mcp-agentrun-runner:" + "1" * 16)
api.remove_image(found["Id"])
print(image.inspect_image(api, tag), "Forbidden" in image.pull_image(api, "localhost:9/mcp-agentrun/none:1", print))
"""

NAME = "mcp-agentrun-runner-0123456789ab"
ID = "0123456789abcdef" * 4
UNUSUAL = (
    {"Content-Type": "application/x-www-form-urlencoded"},
    {"Content-Type": "multipart/form-data"},
    {"Connection": "Upgrade", "Upgrade": "other"},  # not h2c, which newer versions of the proxy leave out
)
LISTED = "filters=%7B%22label%22%3A+%5B%22mcp-agentrun.role%22%5D%7D"
BUILD = "/build?t=mcp-agentrun-runner%3A0123456789abcdef"

REFUSED: Sequence[tuple[str, str]] = (
    # Of containers: what the server does not do, and what it does, with those of others.
    ("GET", "/containers/json"),
    ("GET", "/containers/json?all=1"),
    ("GET", f"/containers/json?limit=-1&all=1&size=0&trunc_cmd=0&%66ilters=%7B%7D&{LISTED}"),
    ("GET", f"/containers/json?limit=-1&all=1&size=0&trunc_cmd=0&{LISTED}&size=1"),
    ("GET", "/containers/json?limit=-1&all=0&size=0&trunc_cmd=0&filters=%7B%22id%22%3A+%5B%22.%2A%22%5D%7D"),
    *(("GET", f"/containers/{NAME}/{what}") for what in ("json", "top", "logs", "changes", "export", "stats")),
    *(("GET", f"/containers/{NAME}/{what}") for what in ("archive?path=/", "attach/ws?stdin=1")),
    *(("HEAD", f"/containers/{NAME}/{what}") for what in ("archive?path=/",)),
    *(("PUT", f"/containers/{NAME}/{what}") for what in ("archive?path=/",)),
    *(
        ("POST", f"/containers/{NAME}/{what}")
        for what in ("exec", "stop", "restart", "kill", "update", "rename?name=x")
    ),
    *(("POST", f"/containers/{NAME}/{what}") for what in ("pause", "unpause", "resize?h=1&w=1", "start?detachKeys=a")),
    *(("POST", f"/containers/{NAME}/{what}") for what in ("attach?stdin=1", "attach?stdin=1&logs=1", "wait")),
    *(("POST", f"/containers/{ID}/{what}") for what in ("start", "attach?stdin=1&stdout=1&stderr=1&stream=1")),
    ("POST", "/containers/database/start"),
    ("POST", f"/containers/{NAME}/../database/start"),
    ("POST", f"/containers/{NAME}%2F..%2Fdatabase/start"),
    ("POST", f"//containers/{NAME}/start"),
    ("DELETE", f"/containers/{ID}?v=True&link=False&force=True"),
    ("DELETE", "/containers/database?v=True&link=False&force=True"),
    ("DELETE", f"/containers/{NAME}?v=True&link=True&force=True"),
    ("POST", "/containers/create"),
    ("POST", "/containers/create?name=database"),
    ("POST", f"/containers/create?name={NAME}&name=database"),
    ("POST", f"/containers/create?name=database&name={NAME}"),
    ("POST", f"/containers/create?name={NAME}&platform=linux/arm64"),
    ("POST", "/containers/prune"),
    ("POST", f"/exec/{ID}/start"),
    ("GET", f"/exec/{ID}/json"),
    ("POST", f"/exec/{ID}/resize?h=1&w=1"),
    # Of images.
    ("GET", "/images/json"),
    ("GET", "/images/json?only_ids=0&all=1"),
    ("GET", "/images/search?term=x"),
    ("GET", "/images/get?names=x"),
    *(("GET", f"/images/database:1/{what}") for what in ("history", "get")),
    *(("POST", f"/images/database:1/{what}") for what in ("push", "tag?repo=x&tag=y")),
    ("POST", "/images/load"),
    ("POST", "/images/prune"),
    ("POST", "/images/create?fromSrc=-&repo=x"),
    ("POST", "/images/create?fromImage=python&tag=3.13-slim&fromSrc=-"),
    ("DELETE", "/images/database:1?force=False&noprune=False"),
    ("DELETE", "/images/database:0123456789abcdef?force=True&noprune=False"),
    ("POST", "/images/python/tag?tag=0123456789abcdef&repo=database&force=0"),
    ("POST", "/images/python/tag?tag=latest&repo=mcp-agentrun-runner&force=0"),
    ("DELETE", f"/images/sha256:{ID}?force=True&noprune=False"),
    ("DELETE", f"/images/sha256:{ID}"),
    ("POST", "/build"),
    ("POST", "/build?t=database%3A1"),
    ("POST", f"{BUILD}&remote=https%3A%2F%2Fexample.com%2Fx.git"),
    ("POST", f"{BUILD}&networkmode=host"),
    ("POST", f"{BUILD}&t=database%3A1"),
    ("POST", f"{BUILD}&version=2"),
    ("POST", f"{BUILD};t=database"),
    ("POST", "/build/prune"),
    ("POST", "/build/cancel?id=x"),
    ("POST", f"/commit?container={NAME}"),
    ("GET", "/distribution/database:1/json"),
    # All else.
    ("GET", "/version"),
    ("GET", "/system/df"),
    ("GET", "/events"),
    ("POST", "/auth"),
    ("POST", "/session"),
    ("POST", "/grpc"),
    *((method, f"/{kind}") for kind in ("volumes", "networks") for method in ("GET",)),
    *((method, f"/{kind}/x") for kind in ("volumes", "networks") for method in ("GET", "DELETE")),
    *(("POST", f"/{kind}/{what}") for kind in ("volumes", "networks") for what in ("create", "prune")),
    *(("POST", f"/networks/x/{what}") for what in ("connect", "disconnect")),
    ("PUT", "/volumes/x?version=1"),
    *(("GET", f"/{kind}") for kind in ("swarm", "nodes", "services", "tasks", "secrets", "configs", "plugins")),
    *(("GET", f"/{kind}/x") for kind in ("nodes", "services", "tasks", "secrets", "configs")),
    *(("DELETE", f"/{kind}/x") for kind in ("nodes", "services", "secrets", "configs", "plugins")),
    *(("POST", f"/{kind}/create") for kind in ("services", "secrets", "configs", "plugins")),
    *(("POST", f"/{kind}/x/update?version=1") for kind in ("nodes", "services", "secrets", "configs")),
    *(("POST", f"/swarm/{what}") for what in ("init", "join", "leave", "update", "unlock")),
    *(("GET", f"/{path}") for path in ("swarm/unlockkey", "services/x/logs", "tasks/x/logs")),
    *(("GET", f"/plugins/{what}") for what in ("x/json", "privileges?remote=x")),
    *(
        ("POST", f"/plugins/{what}")
        for what in ("pull?remote=x", "x/enable", "x/disable", "x/upgrade", "x/push", "x/set")
    ),
    # Other methods of what is let through.
    *((method, "/_ping") for method in ("POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE")),
    ("GET", f"/containers/{NAME}/start"),
    ("GET", "/_ping?x=1"),
    ("GET", "/_ping/"),
    ("GET", "/v2/_ping"),
    ("GET", "/"),
)

ALLOWED: Sequence[tuple[str, str]] = (
    ("GET", "/_ping"),
    ("GET", "/info"),
    ("GET", f"/containers/json?limit=-1&all=1&size=0&trunc_cmd=0&{LISTED}"),
    ("POST", f"/containers/{NAME}/start"),
    ("POST", f"/containers/{NAME}/wait?condition=removed"),
    ("DELETE", f"/containers/{NAME}?v=True&link=False&force=True"),
    ("GET", "/images/database:1/json"),
    ("DELETE", f"/images/sha256:{ID}?force=False&noprune=False"),
)


@dataclass(frozen=True)
class Deployment:
    """A running compose set-up."""

    files: tuple[Path, ...]
    project: str
    port: int
    base: str

    def compose(self, *arguments: str) -> None:
        command = ("docker-compose",) if shutil.which("docker-compose") else ("docker", "compose")
        files = [part for file in self.files for part in ("-f", str(file))]
        environment = {**os.environ, "BASE": self.base, "PORT": str(self.port)}
        subprocess.run([*command, "-p", self.project, *files, *arguments], env=environment, check=True)

    def container(self, api: APIClient, service: str = "server") -> str:
        """Id of the container of *service*."""
        labels = [f"com.docker.compose.project={self.project}", f"com.docker.compose.service={service}"]
        (found,) = api.containers(all=True, filters={"label": labels})
        return found["Id"]

    def python(self, api: APIClient, script: str, stdin: str = "") -> str:
        """Run *script* in the server's container, and return what it prints."""
        command = ["docker", "exec", "-i", self.container(api), "/opt/mcp-agentrun/bin/python", "-c", script]
        return subprocess.run(command, input=stdin, stdout=subprocess.PIPE, text=True, check=True).stdout

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def wait_until_ready(self) -> None:
        command = ["curl", "-fsS", "-o", os.devnull, "--retry", "120", "--retry-delay", "1", "--retry-all-errors"]
        subprocess.run([*command, f"{self.url}/readyz"], check=True, stderr=subprocess.DEVNULL)


@pytest.fixture(scope="module")
def api() -> Generator[APIClient]:
    client, tried = connect()
    assert client is not None, tried
    with client:
        yield client


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of the host that the server has under another path."""
    folder = tmp_path_factory.mktemp("deploy") / "numbers"
    folder.mkdir()
    (folder / "a.csv").write_text("41\n")
    for path in (folder.parent, folder):
        path.chmod(0o755)
    return folder


@pytest.fixture(scope="module")
def deployment(api: APIClient, data: Path) -> Generator[Deployment]:
    override = data.parent / "compose.override.yaml"
    server = {"environment": {"AGENTRUN_DATA": "/mnt/numbers"}, "volumes": [f"{data}:/mnt/numbers:ro"]}
    override.write_text(json.dumps({"services": {"server": server}}))
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]
    made = Deployment((DEPLOY / "compose.yaml", override), f"agentrun-check-{os.getpid()}", port, base_of(api))
    try:
        made.compose("up", "--build", "--detach")
        made.wait_until_ready()
        yield made
        made.compose("stop")
        stopped = [api.inspect_container(made.container(api, service)) for service in ("server", "socket-proxy")]
        assert 137 not in [each["State"]["ExitCode"] for each in stopped], "killed, because it did not stop by itself"
    finally:
        made.compose("down", "--volumes")
    labels = {"label": f"com.docker.compose.project={made.project}"}
    assert not api.containers(all=True, filters=labels)
    assert not api.volumes(filters=labels)["Volumes"]


def base_of(api: APIClient) -> str:
    for base in BASES:
        try:
            api.inspect_image(base)
        except ImageNotFound:
            continue
        return os.environ.get("BASE", base)
    return os.environ.get("BASE", BASES[0])


@pytest.fixture
def token(api: APIClient, deployment: Deployment) -> str:
    path = "pathlib.Path('/data/.local/share/mcp-agentrun/tokens')"
    return deployment.python(api, f"import pathlib; print({path}.read_text().split()[1])").strip()


async def test_an_mcp_client_works_as_elsewhere(deployment: Deployment, token: str) -> None:
    async with (
        http_client({"Authorization": f"Bearer {token}"}) as http,
        Client(streamable_http_client(f"{deployment.url}/mcp", http_client=http), mode="legacy") as client,
    ):
        plot = await run(client, PLOT)
        assert [block.mime_type for block in plot.content if isinstance(block, ImageContent)] == ["image/png"], plot
        assert "humanize" in text_of(await client.call_tool("install_package", {"packages": "humanize"}))
        used = await run(client, "import humanize; x = 1; humanize.intcomma(12345)")
        assert "12,345" in text_of(used)
        assert text_of(await run(client, "print(open('/workspace/numbers/a.csv').read())")).startswith("41")
        await client.call_tool("reset_sandbox", {})
        assert "NameError" in text_of(await run(client, "x"))


def test_curl_works_as_elsewhere(deployment: Deployment, token: str) -> None:
    def curl(*arguments: str) -> str:
        command = ["curl", "-sS", "-w", "\n%{http_code}", *arguments]
        return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout

    url = f"{deployment.url}/mcp"
    accept = ("-H", "Accept: application/json, text/event-stream", "-H", "Content-Type: application/json")
    body = ("-d", json.dumps(INITIALIZE))
    assert curl(f"{deployment.url}/healthz") == '{"status":"ok"}\n200'
    assert curl(*accept, *body, url).endswith("\n401")
    answer = curl("-H", f"Authorization: Bearer {token}", *accept, *body, url)
    assert "serverInfo" in answer and answer.endswith("\n200"), answer
    code = ("-H", "Content-Type: application/json", "-d", json.dumps({"code": "print('hello, world!')"}))
    run_url = f"{deployment.url}/v1/run/"
    assert curl(*code, run_url).endswith("\n401")
    assert curl("-H", f"Authorization: Bearer {token}", *code, run_url) == '{"output":"hello, world!\\n"}\n200'


def test_the_proxy_refuses_each_call_that_is_not_needed(api: APIClient, deployment: Deployment) -> None:
    calls = [(method, f"{version}{path}", {}) for method, path in REFUSED for version in ("", "/v1.41")]
    attach = "POST", f"/containers/{NAME}/attach?stdin=1&stdout=1&stderr=1&stream=1"
    calls += [(*call, headers) for call in (*ALLOWED, attach) for headers in UNUSUAL]
    answers = json.loads(deployment.python(api, SEND, json.dumps(calls)))
    reached = [(call[:2], status) for call, (status, who) in zip(calls, answers, strict=True) if who != "proxy"]
    assert not reached
    assert {status for status, _ in answers} <= {400, 403}
    calls = [(method, f"/v1.41{path}", {}) for method, path in ALLOWED]
    answers = json.loads(deployment.python(api, SEND, json.dumps(calls)))
    assert [call[:2] for call, (_, who) in zip(calls, answers, strict=True) if who == "proxy"] == []


@pytest.mark.parametrize("command", ["ps", "image prune", "prune", "doctor", "uninstall"])
def test_commands_that_need_more_than_the_server_say_where_to_run_them(
    api: APIClient, deployment: Deployment, command: str
) -> None:
    executed = ["docker", "exec", deployment.container(api), "mcp-agentrun", *command.split()]
    done = subprocess.run(executed, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert done.returncode != 0 and "<html>" not in done.stdout
    assert "on the host." in done.stdout.replace("\n", " "), done.stdout


def test_the_log_does_not_have_the_token(api: APIClient, deployment: Deployment, token: str) -> None:
    log = api.logs(deployment.container(api)).decode()
    assert "A new token was saved in" in log and token not in log


def test_the_runner_image_is_built_through_the_proxy(api: APIClient, deployment: Deployment) -> None:
    lines = deployment.python(api, BUILDING).splitlines()
    assert lines == ["of a test True", "pulling localhost:9/mcp-agentrun/none:1", "None False"]


def test_the_server_can_do_no_more_than_it_must(api: APIClient, deployment: Deployment) -> None:
    status = deployment.python(api, "print(open('/proc/self/status').read())")
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert (fields["Uid"].split()[0], fields["CapBnd"], fields["NoNewPrivs"]) == ("10100", "0" * 16, "1")
    for service in ("server", "socket-proxy"):
        host = api.inspect_container(deployment.container(api, service))["HostConfig"]
        assert host["ReadonlyRootfs"] and host["CapDrop"] == ["ALL"] and not host["Privileged"]
    assert api.inspect_container(deployment.container(api, "socket-proxy"))["HostConfig"]["NetworkMode"] == "none"
    assert deployment.python(api, MEMORY) == "True\n"


@pytest.mark.parametrize("how", ["restarted", "replaced"])
def test_what_a_killed_server_leaves_is_removed_by_the_next(
    api: APIClient, deployment: Deployment, token: str, how: str
) -> None:
    server = deployment.container(api)
    left = set(runners_of(api, server))
    unstarted = half_made(api, server)
    api.kill(server)
    if how == "restarted":
        api.start(server)
    else:
        deployment.compose("up", "--detach", "--force-recreate", "--no-deps", "server")
        assert deployment.container(api) != server
    deployment.wait_until_ready()
    for container in (*left, unstarted):
        wait_until_gone(api, container)
    assert token in deployment.python(api, "print(open('/data/.local/share/mcp-agentrun/tokens').read())")


def runners_of(api: APIClient, server: str) -> list[str]:
    return [each["Id"] for each in api.containers(all=True, filters={"label": f"{LABEL_SERVER}={server}"})]


def half_made(api: APIClient, server: str) -> str:
    """A container of *server* that was created, but would never have been started."""
    described = api.inspect_container(runners_of(api, server)[0])
    labels = {name: described["Config"]["Labels"][name] for name in (LABEL_OWNER, LABEL_ROLE, LABEL_SERVER)}
    made = api.create_container(
        described["Config"]["Image"],
        name="mcp-agentrun-runner-" + os.urandom(6).hex(),
        labels={**labels, LABEL_SANDBOX: "half-made"},
        host_config=api.create_host_config(network_mode="none", auto_remove=True),
    )
    return made["Id"]


def wait_until_gone(api: APIClient, container: str) -> None:
    deadline = time.monotonic() + ENGINE_SECONDS
    while time.monotonic() < deadline:
        try:
            api.wait(container, timeout=ENGINE_SECONDS, condition="removed")
        except NotFound:
            return
    raise AssertionError(f"{container} is still there")


async def test_a_client_of_the_next_server_starts_anew(deployment: Deployment, token: str) -> None:
    async with (
        http_client({"Authorization": f"Bearer {token}"}) as http,
        Client(streamable_http_client(f"{deployment.url}/mcp", http_client=http)) as client,
    ):
        assert "42" in text_of(await run(client, "print(6 * 7)"))
