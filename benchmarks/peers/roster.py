"""The peers, each in its best documented configuration, and what they are measured with."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import anyio.to_thread
from docker import APIClient

from benchmarks.__main__ import NOOP_SERVER
from mcp_agentrun.sandbox import AsyncRuntime

from .image import REQUIREMENTS
from .sessions import LibrarySession, McpTools, PeerError, Session, driven_session, mcp_session

__all__ = ["OURS", "PEERS", "Bench", "Peer"]

OURS = "mcp-agentrun"
"""The peer that all others are compared with: the server over stdio, as it is without settings."""

_OUR_TOOLS = McpTools("run_python", reset="reset_sandbox")


@dataclass(frozen=True)
class Bench:
    """What peers are given."""

    api: APIClient
    image: str
    """The image of `image.peer_image`."""
    folder: Path
    """Where environments and logs are."""

    @property
    def environment(self) -> dict[str, str]:
        return {"PEER_IMAGE": self.image, "PEER_FOLDER": str(self.folder)}

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
            for command in (
                [uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(environment)],
                [uv, "pip", "install", "--quiet", "--python", str(python), "--requirements", str(file)],
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

    @property
    def version(self) -> str:
        if self.requirements is None:
            return ""
        return (REQUIREMENTS / f"{self.requirements}.txt").read_text().split()[0].partition("==")[2]


def _driven(name: str, requirements: str | None = None) -> Callable[[Bench], AbstractAsyncContextManager[Session]]:
    @asynccontextmanager
    async def open_(bench: Bench) -> AsyncGenerator[Session]:
        python = await anyio.to_thread.run_sync(bench.python, requirements)
        async with driven_session(name, python, bench.environment, bench.log(name)) as session:
            yield session

    return open_


def _served(
    tools: McpTools, *command: str, requirements: str | None = None, log: str, **environment: str
) -> Callable[[Bench], AbstractAsyncContextManager[Session]]:
    """The MCP server that *command* starts with the Python of the environment."""

    @asynccontextmanager
    async def open_(bench: Bench) -> AsyncGenerator[Session]:
        python = await anyio.to_thread.run_sync(bench.python, requirements)
        variables = {name: value.replace("IMAGE", bench.image) for name, value in environment.items()}
        async with mcp_session([str(python), *command], variables, tools, bench.log(log)) as session:
            yield session

    return open_


@asynccontextmanager
async def _library(bench: Bench) -> AsyncGenerator[Session]:
    async with AsyncRuntime() as runtime, runtime.sandbox() as sandbox:
        yield LibrarySession(sandbox)


PEERS: Mapping[str, Peer] = {
    "ours": Peer(OURS, "over stdio, without settings", _served(_OUR_TOOLS, "-m", "mcp_agentrun", log="ours")),
    "library": Peer("`AsyncSandbox`", "without settings", _library),
    "no-op": Peer("no-op MCP tool", "answers at once", _served(McpTools("run_python"), "-c", NOOP_SERVER, log="no-op")),
    "agentrun": Peer(
        "AgentRun",
        "its class, data packages cached, 1 GB of memory and a whole processor",
        _driven("agentrun_class", "agentrun"),
        "agentrun",
        {"value": "shows only what is printed"},
    ),
    "docker-exec": Peer(
        "`docker exec python`",
        "a container that stays, code over stdin",
        _driven("docker_exec"),
        lacks={"value": "shows only what is printed"},
    ),
}
