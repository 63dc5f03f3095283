"""The protocol of container engines, of which Docker is one implementation."""

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
"""Mount point of the package volume in containers."""

Role = Literal["runner", "installer"]
Report = Callable[[str], None]
"""Called with short progress messages."""


@dataclass(frozen=True, kw_only=True)
class ContainerSpec:
    """A container to create, in terms that any engine can implement. Sizes are in bytes."""

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
    """Linux capabilities of the container's first process."""
    runtime: str | None = None
    accept_unlimited: bool = False
    """Use the container even if the engine has not limited its memory."""
    data: Mapping[str, HostFolder] = field(default_factory=dict[str, HostFolder])
    """Folders of the host to mount read-only, by path in the container."""


@dataclass(frozen=True, kw_only=True)
class EngineStatus:
    """State and abilities of an engine. Sizes are in bytes."""

    address: str
    version: str
    """Name and version of the product, and of its API."""
    is_outdated: bool
    weaknesses: tuple[str, ...]
    """Restrictions of sandboxes that it can't enforce."""
    gaps: tuple[str, ...] = ()
    """What it lacks beside Docker, without danger to its machine."""
    architecture: str
    """As the kernel names it, e.g. ``x86_64``."""
    image: str
    """Name of the runner image."""
    image_architecture: str | None
    """None if the image does not exist."""
    image_obstacle: str | None
    """Why the image, if it does not exist, can't be built or pulled. None if no obstacle is known."""
    is_building: bool
    """Whether another process is building the image."""
    memory: int | None
    """Memory of its machine. None if it has several."""
    free_disk: int | None
    time: float
    """Its clock, in seconds since the epoch."""


@dataclass(frozen=True, kw_only=True)
class ContainerInfo:
    """A container that exists on the engine, whoever owns it."""

    id: str
    name: str
    role: str | None
    """None if the container belongs to another program but has a name like ours."""
    sandbox: str
    owner: Owner | None
    """None if the label is missing, or was written by a release with another format."""
    is_orphaned: bool
    """Whether its owner has certainly ended."""
    created: float
    """Time of creation, in seconds since the epoch."""
    is_running: bool
    memory: int | None = None
    """Memory in use, in bytes. None if it was not measured, as below."""
    cpu: float | None = None
    """Number of processor cores in use."""
    processes: int | None = None


@dataclass(frozen=True, kw_only=True)
class StorageItem:
    """An image or volume of this program on the engine."""

    kind: Literal["image", "volume"]
    id: str
    name: str
    size: int | None
    """Size in bytes. Images share layers, so several of them take up less than the sum of their sizes."""
    created: float | None
    is_used: bool
    """Whether a container uses it, or the next sandbox with these settings will."""


class Engine(Protocol):
    """A container engine. Every method may raise `EngineError`.

    Another package brings one by an entry point of the group ``mcp_agentrun.engines``, which names a function that
    makes it from `Settings`; the setting ``engine`` chooses it. It can also be given directly::

        runtime = AsyncRuntime(engine=MyEngine())
    """

    async def ensure_image(self, report: Report, *, refresh: bool = False) -> str:
        """Return the name of the runner image, after pulling or building it if necessary.

        :param refresh: rebuild it on the newest base, which has the latest security updates.
        :raises ImageError: it can't be built; an existing image is kept.
        """
        ...

    async def push_image(self, repository: str, report: Report) -> str:
        """Push the runner image that is built here, after building it if necessary, and return a reference with its
        digest, which other engines can pull.

        :raises ImageError: it can't be built or pushed.
        """
        ...

    async def allocate(self, spec: ContainerSpec) -> str:
        """Create a container without starting it, and return its name or id."""
        ...

    async def open_stream(self, container: str) -> ByteStream:
        """Attach to the container's stdin and stdout, and start it. Closing the stream ends the container."""
        ...

    async def destroy(self, container: str) -> None:
        """Destroy the container and wait until it is gone. It is not an error if it does not exist."""
        ...

    async def provide_packages(self, sandbox: str, folder: str) -> bool | None:
        """Copy *folder* from the installer to the running container of *sandbox*, unless it is there. Return whether it
        exists, or None if the containers share a volume, and nothing had to be done.

        :param folder: a path below `PACKAGES`.
        :raises InstallError: the sandbox can't have so much.
        """
        ...

    def release_packages(self, sandbox: str) -> None:
        """Declare all folders that were installed for *sandbox* unused."""
        ...

    async def list_sandboxes(self) -> Sequence[str]:
        """Return the ids of all sandboxes with a container on this engine, whoever owns them; those of other servers
        only if these have the same volume for packages.
        """
        ...

    async def free_memory(self) -> int | None:
        """Return the free memory of the engine's machine in bytes, or None if it is unknown."""
        ...

    async def sweep(self) -> int:
        """Destroy containers whose owners have certainly ended, and those of this process that it could not destroy
        because the engine did not respond. Return their number.
        """
        ...

    async def status(self) -> EngineStatus:
        """Return the engine's state, without building or pulling an image."""
        ...

    async def list_containers(self, *, usage: bool = False) -> Sequence[ContainerInfo]:
        """Return this program's containers, whoever owns them, and others with names like theirs.

        :param usage: measure the memory and processor time of running containers, which takes seconds.
        """
        ...

    async def list_storage(self, kind: Literal["image", "volume"]) -> Sequence[StorageItem]:
        """Return this program's images or volumes, in an order in which they can be removed."""
        ...

    async def remove_storage(self, item: StorageItem) -> None:
        """Remove an image or volume that is not in use. It is not an error if it does not exist."""
        ...

    async def aclose(self) -> None:
        """Close the connection to the engine. Containers are not affected."""
        ...
