"""What this program has on a container engine, and whether the engine can run sandboxes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Literal

from ..engine import ContainerInfo, Engine, EngineStatus, Report, StorageItem
from ..engine.network import CA_VARIABLES, NetworkSettings
from ..host_resources import HostResources
from ..settings import Settings
from .facade import AsyncRuntime

__all__ = ["CA_VARIABLES", "ContainerInfo", "EngineStatus", "Housekeeping", "NetworkSettings", "StorageItem"]


class Housekeeping:
    """Look at what all servers have on an engine, and remove what is no longer needed. Use as a context::

        async with Housekeeping(settings) as housekeeping:
            for container in await housekeeping.containers():
                if container.role is not None and container.is_orphaned:
                    await housekeeping.destroy(container)

    Every method raises `EngineError` if the engine failed or can't be reached.

    :param engine: where the containers live; by default the engine that *settings* name. It is closed at the end.
    :param package_network: index, proxies and certificates with which packages are fetched; by default this machine's.
    :raises SettingsError: a setting about the engine or about packages is invalid.
    """

    def __init__(
        self, settings: Settings, *, engine: Engine | None = None, package_network: NetworkSettings | None = None
    ) -> None:
        self.package_network = package_network or NetworkSettings.from_environment(os.environ)
        self._runtime = AsyncRuntime(
            settings,
            engine=engine,
            package_network=self.package_network,
            host_resources=HostResources(data={}, safety={}),  # no sandbox is started
        )

    async def __aenter__(self) -> Housekeeping:
        await self._runtime.__aenter__()
        return self

    async def __aexit__(self, *exc_info: Any) -> bool | None:
        return await self._runtime.__aexit__(*exc_info)

    async def status(self) -> EngineStatus:
        """Return what the engine can do. Nothing is built or pulled for it."""
        return await self._runtime.engine.status()

    async def free_memory(self) -> int | None:
        """Return how many bytes the engine's machine could give to a container, or None if that is unknown."""
        return await self._runtime.engine.free_memory()

    async def containers(self, *, usage: bool = False) -> Sequence[ContainerInfo]:
        """Return the containers of all servers, and those of others whose names look like ours.

        :param usage: measure the memory and processor time of those that run, which takes seconds.
        """
        return await self._runtime.engine.list_containers(usage=usage)

    async def destroy(self, container: ContainerInfo) -> None:
        """Destroy *container*. If it is gone already, do nothing."""
        await self._runtime.engine.destroy(container.id)

    async def list_storage(self, kind: Literal["image", "volume"]) -> Sequence[StorageItem]:
        """Return the images or volumes that were made for sandboxes, in an order in which they can be removed."""
        return await self._runtime.engine.list_storage(kind)

    async def remove_storage(self, item: StorageItem) -> None:
        """Remove an image or a volume that nothing uses. If it is gone already, do nothing."""
        await self._runtime.engine.remove_storage(item)

    async def push_image(self, repository: str, report: Report) -> str:
        """Push the runner image that is built here to *repository*, after building it if necessary. Return a reference
        with its digest, for a cluster.

        :param report: called with what is being done.
        :raises ImageError: it can't be built or pushed.
        """
        return await self._runtime.engine.push_image(repository, report)

    async def try_installation(self, requirement: str) -> None:
        """Install *requirement* as for a sandbox, and forget it, to see whether installations work.

        :raises InstallError: it can't be resolved or fetched.
        :raises UnavailableError: the installer can't be started.
        """
        sandbox = os.urandom(16).hex()
        installer = self._runtime.installer
        try:
            await installer.install(sandbox, (requirement,))
        finally:
            installer.remove_packages(sandbox)
