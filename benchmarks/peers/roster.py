"""The peers, each in its best documented configuration, and what they are measured with."""

from __future__ import annotations

import hashlib
import secrets
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType

import anyio
import anyio.to_thread
import httpx2
from docker import APIClient

from benchmarks.__main__ import NOOP_SERVER
from mcp_agentrun.sandbox import AsyncRuntime

from .image import REQUIREMENTS, gateway_of
from .sessions import LibrarySession, McpTools, PeerError, Session, driven_session, mcp_session

__all__ = ["OURS", "PEERS", "Bench", "Peer"]

OURS = "mcp-agentrun"
"""The peer that all others are compared with: the server over stdio, as it is without settings."""

_OUR_TOOLS = McpTools("run_python", reset="reset_sandbox", install="install_package")
_DOCKER_TOOLS = McpTools(
    "execute-persistent", {"session_id": "bench"}, "cleanup-session", install="install-package", argument="package_name"
)
_ABLE: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True)
class Bench:
    """What peers are given."""

    api: APIClient
    image: str
    """The image of `image.peer_image`."""
    folder: Path
    """Where environments, logs and configurations are."""

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.image:
            (self.folder / "python-docker-mcp.yaml").write_text(f"docker:\n  image: {self.image}\n")

    @property
    def environment(self) -> dict[str, str]:
        return {"PEER_IMAGE": self.image, "PEER_GATEWAY_IMAGE": gateway_of(self.image)}

    def log(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def python(self, requirements: str | None) -> Path:
        """The Python of the environment that has *requirements*, which is made if need be; without them, this one.

        :raises PeerError: they can't be installed.
        """
        if requirements is None:
            return Path(sys.executable)
        file = REQUIREMENTS / f"{requirements}.txt"
        digest = hashlib.sha256(file.read_bytes()).hexdigest()[:12]
        environment = self.folder / f"{requirements}-{digest}"
        python = environment / "bin" / "python"
        if not (environment / "complete").exists():
            uv = str(Path(sys.executable).with_name("uv"))
            install = [uv, "pip", "install", "--quiet", "--compile-bytecode"]
            for command in (
                [uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(environment)],
                [*install, "--python", str(python), "--requirements", str(file)],
            ):
                done = subprocess.run(command, check=False, capture_output=True, text=True)
                if done.returncode != 0:
                    raise PeerError(done.stderr.strip())
            (environment / "complete").touch()
        return python


@dataclass(frozen=True)
class Peer:
    """One of those that are measured."""

    name: str
    configuration: str
    open: Callable[[Bench], AbstractAsyncContextManager[Session]]
    """From nothing but the image to a session that has not been called yet."""
    requirements: str | None = None
    """Name of the list of its packages, of which the first is the peer."""
    lacks: Mapping[str, str] = field(default_factory=dict[str, str])
    """Kinds of work that it can't do, and why not."""

    floor_of: str = ""
    """The only kind of work that it takes part in."""
    is_mcp: bool = False

    def lacking(self, kind: str) -> str:
        """Why it can't do a kind of work, or nothing."""
        if self.floor_of and kind not in (self.floor_of, "first"):
            return "runs no code"
        return self.lacks.get(kind, "")

    @property
    def version(self) -> str:
        if self.requirements is None:
            return ""
        return (REQUIREMENTS / f"{self.requirements}.txt").read_text().split()[0].partition("==")[2]


def _driven(
    name: str,
    configuration: str,
    driver: str,
    requirements: str | None = None,
    variant: str = "",
    lacks: Mapping[str, str] = _ABLE,
    floor_of: str = "",
) -> Peer:
    """A peer that *driver* calls, one of ``drivers``."""

    @asynccontextmanager
    async def open_(bench: Bench) -> AsyncGenerator[Session]:
        python = await anyio.to_thread.run_sync(bench.python, requirements)
        async with driven_session([driver, variant], python, bench.environment, bench.log(driver)) as session:
            yield session

    return Peer(name, configuration, open_, requirements, lacks, floor_of)


def _served(
    name: str,
    configuration: str,
    tools: McpTools,
    *command: str,
    requirements: str | None = None,
    lacks: Mapping[str, str] = _ABLE,
    floor_of: str = "",
    **environment: str,
) -> Peer:
    """The MCP server that *command* starts with the Python of the environment."""

    @asynccontextmanager
    async def open_(bench: Bench) -> AsyncGenerator[Session]:
        python = await anyio.to_thread.run_sync(bench.python, requirements)
        arguments = [word.replace("FOLDER", str(bench.folder)) for word in command]
        variables = {key: value.replace("FOLDER", str(bench.folder)) for key, value in environment.items()}
        log = bench.log(requirements or name.replace(" ", "-"))
        async with mcp_session([str(python), *arguments], variables, tools, log) as session:
            yield session

    return Peer(name, configuration, open_, requirements, lacks, floor_of, is_mcp=True)


@asynccontextmanager
async def _library(bench: Bench) -> AsyncGenerator[Session]:
    async with AsyncRuntime() as runtime, runtime.sandbox() as sandbox:
        yield LibrarySession(sandbox)


@asynccontextmanager
async def _jupyter(bench: Bench) -> AsyncGenerator[Session]:
    """JupyterLab, the MCP server for it, and a new notebook."""
    python = await anyio.to_thread.run_sync(bench.python, "jupyter-mcp-server")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    token = secrets.token_hex(16)
    command = [python, "-m", "jupyterlab", "--no-browser", "--allow-root", "--port", port]
    options = [f"--IdentityProvider.token={token}"]
    url = f"http://127.0.0.1:{port}"
    with tempfile.TemporaryDirectory() as folder, bench.log("jupyterlab").open("a") as log:
        options.append(f"--ServerApp.root_dir={folder}")
        lab = await anyio.open_process([*map(str, command), *options], stdout=log, stderr=log, cwd=folder)
        async with lab as process:
            await _answers(f"{url}/api?token={token}")
            environment = {"JUPYTER_URL": url, "JUPYTER_TOKEN": token, "ALLOW_IMG_OUTPUT": "true"}
            tools = McpTools("execute_code", reset="restart_notebook", reset_with={"notebook_name": "bench"})
            server = [str(python.with_name("jupyter-mcp-server"))]
            async with mcp_session(server, environment, tools, bench.log("jupyter-mcp-server")) as session:
                notebook = {"notebook_name": "bench", "notebook_path": "bench.ipynb", "mode": "create"}
                await session.tool("use_notebook", notebook)
                yield session
            process.terminate()


async def _answers(url: str) -> None:
    with anyio.fail_after(60):
        async with httpx2.AsyncClient() as http:
            while True:
                try:
                    await http.get(url)
                    return
                except httpx2.TransportError:
                    await anyio.sleep(0.05)  # it tells nobody when it listens


_STATELESS = {"value": "shows only what is printed", "frame": "keeps no variables"}
_HAS_REQUESTS = {"install": "has requests already"}
_NO_SETUP = {"install": "not supported with `skip_environment_setup`"}

PEERS: Mapping[str, Peer] = {
    "ours": _served(OURS, "over stdio, without settings", _OUR_TOOLS, "-m", "mcp_agentrun"),
    "library": Peer("`AsyncSandbox`", "without settings", _library),
    "no-op": _served(
        "no-op MCP tool",
        "the floor of what MCP can do: answers at once",
        McpTools("run_python"),
        "-c",
        NOOP_SERVER.replace("1\\n", "hello"),
        floor_of="hello",
    ),
    "echo": _driven(
        "attached echo",
        "the floor of what a container can do: a line there and back over the engine's stream",
        "echo",
        floor_of="hello",
    ),
    "agentrun": _driven(
        "AgentRun",
        "its class, data packages cached, 1 GB of memory and a whole processor",
        "agentrun_class",
        "agentrun",
        lacks=_STATELESS,
    ),
    "llm-sandbox": _driven(
        "llm-sandbox",
        "`SandboxSession`, `skip_environment_setup`",
        "llm_sandbox_ways",
        "llm-sandbox",
        "session",
        lacks=_STATELESS | _NO_SETUP,
    ),
    "llm-sandbox-pool": _driven(
        "llm-sandbox, pool", "three containers kept ready", "llm_sandbox_ways", "llm-sandbox", "pool", lacks=_STATELESS
    ),
    "llm-sandbox-interactive": _driven(
        "llm-sandbox, interactive", "`InteractiveSandboxSession`", "llm_sandbox_ways", "llm-sandbox", "interactive"
    ),
    "docker-exec": _driven(
        "`docker exec python`", "a container that stays, code over stdin", "docker_exec", lacks=_STATELESS
    ),
    "ipykernel": _driven(
        "ipykernel in a container",
        "jupyter_client over the engine's bridge",
        "ipykernel_client",
        "ipykernel",
        "container",
    ),
    "ipykernel-host": _driven(
        "ipykernel on the host", "jupyter_client; no isolation", "ipykernel_client", "ipykernel", "host"
    ),
    "ipybox": _served(
        "ipybox",
        "its MCP server; without isolation, which needs another package",
        McpTools("execute_ipython_cell", reset="reset"),
        "-c",
        "from ipybox.mcp_server import cli; cli()",
        "--workspace",
        "FOLDER/ipybox-workspace",
        requirements="ipybox",
        lacks=_HAS_REQUESTS,
    ),
    "jupyter-mcp-server": Peer(
        "jupyter-mcp-server",
        "`execute_code`, JupyterLab on the host; no isolation",
        _jupyter,
        "jupyter-mcp-server",
        _HAS_REQUESTS,
    ),
    "monty": _driven(
        "pydantic-monty",
        "a session of its pool; part of Python, without packages",
        "monty_pool",
        "monty",
        lacks={"install": "no packages"},
    ),
    "smolagents": _driven(
        "smolagents' DockerExecutor", "a kernel gateway in a container", "smolagents_docker", "smolagents"
    ),
    "autogen": _driven(
        "AutoGen's DockerCommandLineCodeExecutor", "without settings", "autogen_docker", "autogen", lacks=_STATELESS
    ),
    "python-docker-mcp": _served(
        "python-docker-mcp",
        "`execute-persistent`, a pool of two",
        _DOCKER_TOOLS,
        "-m",
        "python_docker_mcp",
        requirements="python-docker-mcp",
        lacks=_STATELESS,
        PYTHON_DOCKER_MCP_CONFIG="FOLDER/python-docker-mcp.yaml",
        PYTHON_DOCKER_MCP_POOL_SIZE="2",
    ),
    "subprocess": replace(
        _driven("plain subprocess", "`python -` on the host; no isolation", "plain_subprocess", "ipykernel"),
        requirements=None,
        lacks=_STATELESS | {"reset": "has no session", "install": "has no session"},
    ),
}
