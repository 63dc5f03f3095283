"""The container engine protocol. Docker is one implementation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from anyio.abc import ByteStream

from ..host_folder import HostFolder

__all__ = ["LABEL_OWNER", "LABEL_ROLE", "LABEL_SANDBOX", "PACKAGES", "ContainerSpec", "Engine", "Report", "Role"]

LABEL_ROLE = "mcp-agentrun.role"
LABEL_OWNER = "mcp-agentrun.owner"
LABEL_SANDBOX = "mcp-agentrun.sandbox"

PACKAGES = "/packages"
"""Where containers see the package volume."""

Role = Literal["runner", "installer"]
Report = Callable[[str], None]
"""Receives short progress messages."""


@dataclass(frozen=True, kw_only=True)
class ContainerSpec:
    """One container, in terms that any engine can carry out. Sizes are bytes."""

    image: str
    role: Role
    sandbox: str
    """Id of the sandbox that a runner belongs to; empty for an installer."""
    user: str
    memory: int
    cpus: float
    pids: int
    open_files: int
    file_size: int
    tmpfs: Mapping[str, str]
    """Mount options by folder."""
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    network: Literal["none", "bridge"] = "none"
    packages_writable: bool = False
    capabilities: tuple[str, ...] = ()
    """What the container's first process keeps of root's privileges; none as a rule."""
    runtime: str | None = None
    data: Mapping[str, HostFolder] = field(default_factory=dict[str, HostFolder])
    """Folders of the host to be seen read-only, each by where in the container."""


class Engine(Protocol):
    """A container engine. Every method may raise `EngineError`."""

    async def ensure_image(self, report: Report, *, refresh: bool = False) -> str:
        """Name of the runner image, built first if it does not exist.

        :param refresh: build it anew in any case, on the newest base, for its security updates.
        :raises ImageError: it can't be built; what there was is still there.
        """
        ...

    async def allocate(self, spec: ContainerSpec) -> str:
        """Create a container, not yet running; returns its id."""
        ...

    async def open_stream(self, container: str) -> ByteStream:
        """Attach to the container's stdin and stdout, once, and start it. Closing the stream ends the container."""
        ...

    async def destroy(self, container: str) -> None:
        """Destroy the container and wait until it is gone. A missing container is not an error."""
        ...

    async def sandboxes(self) -> Sequence[str]:
        """Ids of the sandboxes, of any owner, that have a container on this engine."""
        ...

    async def free_memory(self) -> int | None:
        """Bytes that the engine's machine could give to a new container; None where that can't be known."""
        ...

    async def sweep(self) -> int:
        """Destroy the containers of owners that have provably ended, and those that this process has made but does not
        know any more, because the engine was away when they were to go; returns how many.
        """
        ...

    async def aclose(self) -> None:
        """Close the connection to the engine. Containers are not affected."""
        ...
