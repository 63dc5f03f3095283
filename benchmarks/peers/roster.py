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
from dataclasses import dataclass, field
from pathlib import Path

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
    name: str, requirements: str | None = None, variant: str = ""
) -> Callable[[Bench], AbstractAsyncContextManager[Session]]:
    @asynccontextmanager
    async def open_(bench: Bench) -> AsyncGenerator[Session]:
        python = await anyio.to_thread.run_sync(bench.python, requirements)
        async with driven_session([name, variant], python, bench.environment, bench.log(name)) as session:
            yield session

    return open_


def _served(
    tools: McpTools, *command: str, requirements: str | None = None, log: str, **environment: str
) -> Callable[[Bench], AbstractAsyncContextManager[Session]]:
    """The MCP server that *command* starts with the Python of the environment."""

    @asynccontextmanager
    async def open_(bench: Bench) -> AsyncGenerator[Session]:
        python = await anyio.to_thread.run_sync(bench.python, requirements)
        arguments = [word.replace("FOLDER", str(bench.folder)) for word in command]
        variables = {name: value.replace("FOLDER", str(bench.folder)) for name, value in environment.items()}
        async with mcp_session([str(python), *arguments], variables, tools, bench.log(log)) as session:
            yield session

    return open_


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


_PRINTS = {"value": "shows only what is printed"}
_STATELESS = {**_PRINTS, "frame": "keeps no variables"}

PEERS: Mapping[str, Peer] = {
    "ours": Peer(
        OURS, "over stdio, without settings", _served(_OUR_TOOLS, "-m", "mcp_agentrun", log="ours"), is_mcp=True
    ),
    "library": Peer("`AsyncSandbox`", "without settings", _library),
    "no-op": Peer(
        "no-op MCP tool",
        "the floor of what MCP can do: answers at once",
        _served(McpTools("run_python"), "-c", NOOP_SERVER.replace("1\\n", "hello"), log="no-op"),
        floor_of="hello",
        is_mcp=True,
    ),
    "echo": Peer(
        "attached echo",
        "the floor of what a container can do: a line there and back over the engine's stream",
        _driven("echo"),
        floor_of="hello",
    ),
    "agentrun": Peer(
        "AgentRun",
        "its class, data packages cached, 1 GB of memory and a whole processor",
        _driven("agentrun_class", "agentrun"),
        "agentrun",
        _STATELESS,
    ),
    "llm-sandbox": Peer(
        "llm-sandbox",
        "`SandboxSession`, `skip_environment_setup`",
        _driven("llm_sandbox_ways", "llm-sandbox", "session"),
        "llm-sandbox",
        {**_STATELESS, "install": "not supported with `skip_environment_setup`"},
    ),
    "llm-sandbox-pool": Peer(
        "llm-sandbox, pool",
        "three containers kept ready",
        _driven("llm_sandbox_ways", "llm-sandbox", "pool"),
        "llm-sandbox",
        _STATELESS,
    ),
    "llm-sandbox-interactive": Peer(
        "llm-sandbox, interactive",
        "`InteractiveSandboxSession`",
        _driven("llm_sandbox_ways", "llm-sandbox", "interactive"),
        "llm-sandbox",
    ),
    "docker-exec": Peer(
        "`docker exec python`", "a container that stays, code over stdin", _driven("docker_exec"), lacks=_STATELESS
    ),
    "ipykernel": Peer(
        "ipykernel in a container",
        "jupyter_client over the engine's bridge",
        _driven("ipykernel_client", "ipykernel", "container"),
        "ipykernel",
    ),
    "ipykernel-host": Peer(
        "ipykernel on the host",
        "jupyter_client; no isolation",
        _driven("ipykernel_client", "ipykernel", "host"),
        "ipykernel",
    ),
    "ipybox": Peer(
        "ipybox",
        "its MCP server; without isolation, which needs another package",
        _served(
            McpTools("execute_ipython_cell", reset="reset"),
            *("-c", "from ipybox.mcp_server import cli; cli()", "--workspace", "FOLDER/ipybox-workspace"),
            requirements="ipybox",
            log="ipybox",
        ),
        "ipybox",
        {"install": "has requests already"},
        is_mcp=True,
    ),
    "jupyter-mcp-server": Peer(
        "jupyter-mcp-server",
        "`execute_code`, JupyterLab on the host; no isolation",
        _jupyter,
        "jupyter-mcp-server",
        {"install": "has requests already"},
    ),
    "monty": Peer(
        "pydantic-monty",
        "a session of its pool; part of Python, without packages",
        _driven("monty_pool", "monty"),
        "monty",
        {"install": "no packages"},
    ),
    "smolagents": Peer(
        "smolagents' DockerExecutor",
        "a kernel gateway in a container",
        _driven("smolagents_docker", "smolagents"),
        "smolagents",
    ),
    "autogen": Peer(
        "AutoGen's DockerCommandLineCodeExecutor",
        "without settings",
        _driven("autogen_docker", "autogen"),
        "autogen",
        _STATELESS,
    ),
    "python-docker-mcp": Peer(
        "python-docker-mcp",
        "`execute-persistent`, a pool of two",
        _served(
            McpTools(
                "execute-persistent",
                more={"session_id": "bench"},
                reset="cleanup-session",
                install="install-package",
                install_argument="package_name",
            ),
            *("-m", "python_docker_mcp"),
            requirements="python-docker-mcp",
            log="python-docker-mcp",
            PYTHON_DOCKER_MCP_CONFIG="FOLDER/python-docker-mcp.yaml",
            PYTHON_DOCKER_MCP_POOL_SIZE="2",
        ),
        "python-docker-mcp",
        _STATELESS,
        is_mcp=True,
    ),
    "subprocess": Peer(
        "plain subprocess",
        "`python -` on the host; no isolation",
        _driven("plain_subprocess", "ipykernel"),
        lacks={**_STATELESS, "reset": "has no session", "install": "has no session"},
    ),
}
