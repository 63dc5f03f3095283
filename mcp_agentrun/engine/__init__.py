"""The container engine protocol. Docker is one implementation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from anyio.abc import ByteStream

from ..host_folder import HostFolder
from .owner import Owner

__all__ = [
    "LABEL_OWNER",
    "LABEL_ROLE",
    "LABEL_SANDBOX",
    "PACKAGES",
    "ContainerInfo",
    "ContainerSpec",
    "Engine",
    "EngineStatus",
    "Report",
    "Role",
    "StorageItem",
]

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


@dataclass(frozen=True, kw_only=True)
class EngineStatus:
    """What an engine can do, as far as it can be known. Sizes are bytes."""

    address: str
    version: str
    """Name and version of the product, and of its API."""
    is_outdated: bool
    weaknesses: tuple[str, ...]
    """What it can't enforce, of what a sandbox is promised."""
    architecture: str
    """In the words of the kernel, such as ``x86_64``."""
    image: str
    """Name of the runner image."""
    image_architecture: str | None
    """None if the image does not exist."""
    image_obstacle: str | None
    """Why the image, which does not exist, can't be built or pulled; None if nothing is known to prevent it."""
    is_building: bool
    """Whether another process builds the image."""
    memory: int
    """Of its machine."""
    free_disk: int | None
    time: float
    """Of its clock, in seconds since the epoch."""


@dataclass(frozen=True, kw_only=True)
class ContainerInfo:
    """A container on the engine, of any owner."""

    id: str
    name: str
    role: str | None
    """None for one that is not ours although its name looks like it."""
    sandbox: str
    owner: Owner | None
    """None if the label is missing or from another release."""
    created: float
    """In seconds since the epoch."""
    is_running: bool
    memory: int | None = None
    """Bytes in use."""
    cpu: float | None = None
    """Cores in use."""
    processes: int | None = None

    @property
    def is_orphaned(self) -> bool:
        """Whether its owner has certainly ended."""
        return self.owner is not None and self.owner.has_ended()


@dataclass(frozen=True, kw_only=True)
class StorageItem:
    """An image or a volume of ours on the engine."""

    kind: Literal["image", "volume"]
    id: str
    name: str
    size: int | None
    """Bytes; images share layers, so that several take less than their sum."""
    created: float | None
    is_used: bool
    """A container needs it, or the next sandbox with these settings."""


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

    async def list_sandboxes(self) -> Sequence[str]:
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

    async def status(self) -> EngineStatus:
        """What the engine can do. Nothing is built or pulled for it."""
        ...

    async def list_containers(self, *, usage: bool = False) -> Sequence[ContainerInfo]:
        """The containers of all owners, and those of others whose names look like ours.

        :param usage: measure the memory and processor time of those that run, which takes seconds.
        """
        ...

    async def list_storage(self, kind: Literal["image", "volume"]) -> Sequence[StorageItem]:
        """The images or volumes of ours, in an order in which they can be removed."""
        ...

    async def remove_storage(self, item: StorageItem) -> None:
        """Remove an image or a volume that nothing uses; one that is gone already is no error."""
        ...

    async def aclose(self) -> None:
        """Close the connection to the engine. Containers are not affected."""
        ...
