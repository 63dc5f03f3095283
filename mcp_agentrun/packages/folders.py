"""The folders of this server's sandboxes on the package volume."""

from __future__ import annotations

from collections.abc import Iterable

from ..wire import messages
from .multiplexer import RequestMultiplexer

__all__ = ["REMOVE_SECONDS", "SandboxFolders"]

REMOVE_SECONDS = 20.0
"""Longest time the installer may take to remove a sandbox's folder."""


class SandboxFolders:
    """Which sandboxes have a folder with packages, as the installer has reported: only it can read the volume."""

    def __init__(self) -> None:
        self._served: set[str] = set()
        """Ids of sandboxes for which packages were installed."""
        self._existing: set[str] = set()
        """Those whose folders exist: the current installer keeps other servers' installers from removing them."""
        self._unwanted: set[str] = set()
        """Ids of sandboxes whose folders have to be removed."""

    @property
    def served(self) -> tuple[str, ...]:
        """Ids of sandboxes for which packages were installed."""
        return tuple(self._served)

    @property
    def has_unwanted(self) -> bool:
        """Whether there are folders to remove."""
        return bool(self._unwanted)

    def exists(self, sandbox: str) -> bool:
        """Return whether the folder of *sandbox* exists."""
        return sandbox in self._existing

    def on_connected(self, found: Iterable[str]) -> None:
        """A new installer was started and has *found* the folders of these sandboxes."""
        self._existing = self._served.intersection(found)

    def on_begin(self, sandbox: str) -> None:
        """An installation for *sandbox* begins."""
        self._served.add(sandbox)

    def on_installed(self, sandbox: str) -> None:
        """An installation for *sandbox* has created a folder."""
        self._existing.add(sandbox)

    def discard(self, sandbox: str) -> bool:
        """Mark the folder of *sandbox* for removal. Return whether it may have one."""
        if sandbox not in self._served:
            return False
        self._served.discard(sandbox)
        self._existing.discard(sandbox)
        self._unwanted.add(sandbox)
        return True

    async def remove_unwanted(self, multiplexer: RequestMultiplexer) -> None:
        """Remove the marked folders through the installer.

        :raises SandboxLostError: the installer is lost, or does not follow the protocol.
        """
        for sandbox in tuple(self._unwanted):
            with multiplexer.request() as request:
                await request.send(messages.RemovePackages(request=request.number, sandbox=sandbox))
                answer = await request.expect(messages.PackagesRemoved, within=REMOVE_SECONDS)
                if answer.sandbox != sandbox:
                    request.fail("it removed the packages of another sandbox")
            self._unwanted.discard(sandbox)
