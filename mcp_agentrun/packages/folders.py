"""The folders of this server's sandboxes on the package volume: which exist, and which are to be removed."""

from __future__ import annotations

from collections.abc import Iterable

from ..wire import messages
from .multiplexer import RequestMultiplexer

__all__ = ["REMOVE_SECONDS", "SandboxFolders"]

REMOVE_SECONDS = 20.0
"""Longest time the installer may take to remove a sandbox's folder."""


class SandboxFolders:
    """Each sandbox with installed packages has a folder, named by its id. Only the installer can look at the volume, so
    this is what it has reported.
    """

    def __init__(self) -> None:
        self._served: set[str] = set()
        """Sandboxes for which something was installed."""
        self._existing: set[str] = set()
        """Those of them whose folders the current installer protects from other servers' installers."""
        self._unwanted: set[str] = set()
        """Sandboxes whose folders are still to be removed."""

    @property
    def served(self) -> tuple[str, ...]:
        """Ids of the sandboxes for which something was installed."""
        return tuple(self._served)

    @property
    def has_unwanted(self) -> bool:
        """Whether there are folders to remove."""
        return bool(self._unwanted)

    def exists(self, sandbox: str) -> bool:
        """Whether the folder of *sandbox* is there, as far as the installer has reported."""
        return sandbox in self._existing

    def on_connected(self, found: Iterable[str]) -> None:
        """Another installer was started, which has *found* the folders of these sandboxes."""
        self._existing = self._served.intersection(found)

    def on_begin(self, sandbox: str) -> None:
        """An installation for *sandbox* begins."""
        self._served.add(sandbox)

    def on_installed(self, sandbox: str) -> None:
        """The installer has filled a folder for *sandbox*."""
        self._existing.add(sandbox)

    def discard(self, sandbox: str) -> bool:
        """Mark the folder of *sandbox* for removal. Return whether something was ever installed for it."""
        if sandbox not in self._served:
            return False
        self._served.discard(sandbox)
        self._existing.discard(sandbox)
        self._unwanted.add(sandbox)
        return True

    async def remove_unwanted(self, multiplexer: RequestMultiplexer) -> None:
        """Have the installer remove the folders that are to be removed.

        :raises SandboxLostError: the installer is lost, or does not follow the protocol.
        """
        for sandbox in tuple(self._unwanted):
            with multiplexer.request() as request:
                await request.send(messages.RemovePackages(request=request.number, sandbox=sandbox))
                answer = await request.expect(messages.PackagesRemoved, within=REMOVE_SECONDS)
                if answer.sandbox != sandbox:
                    request.fail("it removed the packages of another sandbox")
            self._unwanted.discard(sandbox)
