"""The connection to the installer's container."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

import anyio
from anyio.abc import TaskGroup

from ..background import log_errors
from ..engine import ContainerSpec, Engine
from ..engine.manager import ContainerManager
from ..engine.network import NetworkSettings
from ..errors import SandboxLostError, UnavailableError
from ..settings import Settings
from ..wire import messages
from .folders import SandboxFolders
from .multiplexer import RequestMultiplexer

__all__ = ["INSTALLER_UID", "InstallerConnection", "unavailable_if_lost"]

INSTALLER_UID = 10002
"""Owner of the package volume and all packages. No sandbox runs as this user."""

_MEMORY = 1 << 30
_CAPABILITIES = ("CHOWN", "DAC_READ_SEARCH", "KILL", "SETGID", "SETUID")


class InstallerConnection:
    """Requests to the installer's container, which is started when it is first needed and replaced when it is lost.

    :param network: has the certificates to trust.
    :param folders: is updated with the folders that each new container reports, and names those to remove.
    """

    def __init__(
        self, engine: Engine, settings: Settings, network: NetworkSettings, folders: SandboxFolders, tasks: TaskGroup
    ) -> None:
        self._engine = engine
        self._settings = settings
        self._network = network
        self._folders = folders
        self._tasks = tasks
        self._removing = anyio.Lock()
        self._multiplexer: RequestMultiplexer | None = None
        self.manager = ContainerManager(engine, tasks, self._make_spec, self._make_hello, messages.InstallerReady)

    async def connect(self) -> RequestMultiplexer:
        """Return the multiplexer for the container, which is started if necessary.

        :raises UnavailableError: the container could not be started.
        """
        link = await self.manager.connect()
        if self._multiplexer is None or self._multiplexer.link is not link:
            assert isinstance(link.greeting, messages.InstallerReady)
            self._folders.on_connected(link.greeting.held)
            self._multiplexer = RequestMultiplexer(link)
            self._tasks.start_soon(log_errors, self._multiplexer.serve)
        return self._multiplexer

    async def connect_after_removal(self) -> RequestMultiplexer:
        """Return the multiplexer, after removing the folders that are no longer needed.

        :raises UnavailableError: the container could not be started, or was lost.
        """
        async with self._removing:
            multiplexer = await self.connect()
            with unavailable_if_lost():
                await self._folders.remove_unwanted(multiplexer)
            return multiplexer

    async def _make_hello(self) -> messages.InstallerHello:
        limits = messages.InstallLimits(
            offline=self._settings.packages.offline,
            exclude_newer=self._settings.packages.exclude_newer,
            build=self._settings.packages.build,
            download=self._settings.packages.download,
            size=self._settings.packages.size,
            files=self._settings.packages.files,
            cache_size=self._settings.packages.cache_size,
        )
        return messages.InstallerHello(
            version=messages.VERSION,
            ca_bundle=(self._network.ca_bundle or b"").decode("utf-8", "replace"),
            limits=limits,
            living=tuple(await self._engine.list_sandboxes()),
            served=self._folders.served,
        )

    def _make_spec(self, image: str) -> ContainerSpec:
        own = f"noexec,nosuid,nodev,mode=0711,uid={INSTALLER_UID},gid={INSTALLER_UID}"
        return ContainerSpec(
            image=image,
            role="installer",
            sandbox="",
            user="0:0",
            capabilities=_CAPABILITIES,
            memory=_MEMORY,
            cpus=max(1.0, self._settings.limits.cpus),
            pids=512,
            open_files=4096,
            file_size=self._settings.packages.size,
            tmpfs={"/tmp": f"rw,size=256m,nr_inodes=1m,{own}", "/dev/shm": f"rw,size=4k,nr_inodes=2,{own}"},  # noqa: S108
            network="none" if self._settings.packages.offline else "bridge",
            packages_writable=True,
            accept_unlimited=self._settings.engine.accept_weak,
        )


@contextmanager
def unavailable_if_lost() -> Generator[None]:
    """Convert `SandboxLostError`, which here means that the installer was lost.

    :raises UnavailableError: the installer was lost; the caller can try again.
    """
    try:
        yield
    except SandboxLostError as error:
        raise UnavailableError(f"The installer was lost ({error}). Call again.") from error
