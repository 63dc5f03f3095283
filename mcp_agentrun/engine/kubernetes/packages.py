"""Packages in the Pods of sandboxes that share no volume with the installer: copied there, over two streams."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field

import anyio

from ...errors import EngineError, InstallError
from ...settings.packages import PackageSettings
from .cluster import Cluster, one_line
from .pod import CONTAINER, COPY, PACKAGES_CONTAINER
from .stream import ExecStream, open_exec

__all__ = ["PackageCopies"]


@dataclass
class _RunningPod:
    name: str
    folders: set[str] = field(default_factory=set[str])
    """The copies that it has, except those that are to be removed."""
    copying: anyio.Lock = field(default_factory=anyio.Lock)


class PackageCopies:
    """The running Pods of sandboxes and of the installer, and which copies they have."""

    def __init__(self, settings: PackageSettings) -> None:
        self._settings = settings
        self._pods: dict[str, _RunningPod] = {}
        """By id of the sandbox; empty for the installer."""

    def on_running(self, sandbox: str, pod: str) -> None:
        """The *pod* of *sandbox* runs; that of the installer if *sandbox* is empty."""
        self._pods[sandbox] = _RunningPod(pod)

    def on_destroyed(self, sandbox: str, pod: str) -> None:
        """The *pod* of *sandbox* is gone."""
        if (running := self._pods.get(sandbox)) is not None and running.name == pod:
            del self._pods[sandbox]

    def release(self, sandbox: str) -> None:
        """Have the copies of what was installed for *sandbox* removed when the next one is made."""
        if (pod := self._pods.get(sandbox)) is not None:
            pod.folders = {folder for folder in pod.folders if not folder.startswith(f"sandboxes/{sandbox}/")}

    async def provide(self, cluster: Cluster, sandbox: str, folder: str) -> bool:
        """As `Engine.provide_packages`."""
        pod = self._pods.get(sandbox)
        if pod is None:  # its next call asks again
            return True
        async with pod.copying:
            if folder not in pod.folders:
                installer = self._pods.get("")
                if installer is None or not await self._copy(cluster, installer, pod, folder):
                    return False
                pod.folders.add(folder)
        return True

    async def _copy(self, cluster: Cluster, installer: _RunningPod, pod: _RunningPod, folder: str) -> bool:
        """Copy *folder*; return False if the installer does not have it."""
        limits = str(self._settings.size), str(self._settings.files)
        sending = (*COPY, "send", folder, *pod.folders)
        receiving = (*COPY, "receive", folder, *limits, *pod.folders)
        with anyio.move_on_after(self._settings.install_timeout):
            async with (
                await open_exec(cluster, installer.name, CONTAINER, sending) as source,
                await open_exec(cluster, pod.name, PACKAGES_CONTAINER, receiving) as target,
            ):
                await _connect(source, target)
                if target.has_succeeded:
                    return True
                if source.diagnostics == "gone":
                    return False
                raise self._failure(target.diagnostics or source.diagnostics or "a stream broke")
        raise self._failure(f"this took longer than {self._settings.install_timeout:g} s")

    def _failure(self, reason: str) -> InstallError | EngineError:
        """Return the error for *reason*, which can be a code of the runner's module ``copies``."""
        if reason == "limit":
            return InstallError(
                f"The sandbox's packages would take more than {self._settings.size / (1 << 20):.4g} MiB, or have more "
                f"than {self._settings.files} files, this server's limits."
            )
        if reason == "full":
            return EngineError("The disk of the sandbox's node is full. Call again later.")
        return EngineError(f"The packages could not be copied to the sandbox: {one_line(reason)}. Call again.")


async def _connect(source: ExecStream, target: ExecStream) -> None:
    """Send what *source* writes to *target*, until that ends or *source* fails."""

    async def wait_for_end() -> None:
        with contextlib.suppress(anyio.BrokenResourceError):
            async for _ in target:
                pass
        tasks.cancel_scope.cancel()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait_for_end)
        with contextlib.suppress(anyio.BrokenResourceError):
            async for data in source:
                await target.send(data)
        if not source.has_succeeded:
            tasks.cancel_scope.cancel()
