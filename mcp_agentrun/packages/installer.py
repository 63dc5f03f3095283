"""The installer: one container for all sandboxes of a server, which has the network and never runs user code."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import anyio

from ..engine import ContainerSpec, Engine, Report
from ..engine.link import Keeper, Link
from ..engine.network import NetworkSettings, redact
from ..errors import InstallError, SandboxLostError, UnavailableError
from ..protocol import Kind, decode_json
from ..settings import Settings

__all__ = ["Installed", "Installer"]

logger = logging.getLogger(__name__)

INSTALLER_UID = 10002
"""Owns the package volume; no sandbox ever runs under it."""

_FORGET_SECONDS = 20.0
_MEMORY = 1 << 30
_LARGEST_FILE = 8 << 30


@dataclass(frozen=True)
class Installed:
    """What an installation came to."""

    folder: str
    """Where the sandbox finds its packages, below the package volume; empty if the image has all that was asked."""
    packages: tuple[tuple[str, str], ...]
    """Name and version of all that is installed for the sandbox, beside what the image carries."""
    satisfied: tuple[tuple[str, str], ...]
    """Name and version of what was needed and is part of the image."""


class Installer:
    """Installs packages for sandboxes, each into a folder of its own. Use as an async context manager.

    The container is started when first needed and ends with the manager.

    :param network: index, proxies and certificates with which packages are fetched.
    """

    def __init__(self, engine: Engine, settings: Settings, network: NetworkSettings) -> None:
        self._engine = engine
        self._settings = settings
        self._network = network
        self._turn = anyio.Lock()
        self._stack = AsyncExitStack()
        self._keeper: Keeper | None = None
        self._tasks: anyio.abc.TaskGroup | None = None

    async def __aenter__(self) -> Installer:
        self._tasks = await self._stack.enter_async_context(anyio.create_task_group())
        self._stack.callback(self._tasks.cancel_scope.cancel)
        return self

    async def __aexit__(self, *exc_info: Any) -> bool | None:
        return await self._stack.__aexit__(*exc_info)

    async def install(self, sandbox: str, requirements: Sequence[str], *, report: Report | None = None) -> Installed:
        """Resolve *requirements* together and make them available to *sandbox*, in a new folder: nothing that is in
        use is replaced. Cancelling stops the installer's work and leaves what was there.

        :raises InstallError: they can't be resolved or fetched, in the resolver's own words.
        :raises UnavailableError: the installer could not be started, or was lost.
        """
        tell: Report = report or (lambda _: None)
        async with self._turn:
            tell("starting the installer")
            link = await (await self._started()).connected()
            try:
                with anyio.fail_after(self._settings.install_timeout):
                    await link.send(Kind.INSTALL, sandbox=sandbox, requirements=list(requirements))
                    return self._installed(await self._outcome(link, tell))
            except TimeoutError:
                await self._stop(link)
                raise InstallError(
                    f"The installation did not end within {self._settings.install_timeout:g} s and was stopped."
                ) from None
            except SandboxLostError as error:
                raise UnavailableError(f"The installer was lost ({error}). Call again.") from error
            except anyio.get_cancelled_exc_class():
                with anyio.CancelScope(shield=True):
                    await self._stop(link)
                raise

    async def forget(self, sandbox: str) -> None:
        """Remove what was installed for *sandbox*. What can't be removed now goes when the next installer starts."""
        with anyio.CancelScope(shield=True), anyio.move_on_after(_FORGET_SECONDS):
            async with self._turn:
                try:
                    link = await (await self._started()).connected()
                    await link.send(Kind.FORGET, sandbox=sandbox)
                    await link.expect(Kind.FORGOTTEN)
                except UnavailableError as error:
                    logger.warning("packages of a sandbox are left for the next installer to remove: %s", error)

    async def _started(self) -> Keeper:
        if self._tasks is None:
            raise RuntimeError("an Installer is used inside `async with`")
        if self._keeper is None:
            hello = {
                "index_url": self._network.index_url,
                "extra_index_urls": list(self._network.extra_index_urls),
                "proxies": dict(self._network.proxies),
                "ca_bundle": (self._network.ca_bundle or b"").decode("utf-8", "replace"),
                "living": list(await self._engine.sandboxes()),
            }
            self._keeper = Keeper(self._engine, self._tasks, self._prepare, hello)
        return self._keeper

    async def _prepare(self, report: Report) -> ContainerSpec:
        image = await self._engine.ensure_image(report)
        return ContainerSpec(
            image=image,
            role="installer",
            sandbox="",
            user=f"{INSTALLER_UID}:{INSTALLER_UID}",
            memory=_MEMORY,
            cpus=max(1.0, self._settings.cpus),
            pids=256,
            open_files=4096,
            file_size=_LARGEST_FILE,
            tmpfs={"/tmp": "rw,noexec,nosuid,nodev,size=256m,nr_inodes=65536,mode=1777"},  # noqa: S108
            network="bridge",
            packages_writable=True,
        )

    async def _outcome(self, link: Link, tell: Report) -> dict[str, Any]:
        while True:
            kind, payload = await link.receive()
            fields = decode_json(payload)
            if kind is Kind.INSTALL_DONE:
                return fields
            tell(str(fields.get("text", "")))

    def _installed(self, fields: dict[str, Any]) -> Installed:
        if fields["error"] is not None:
            raise InstallError(redact(fields["error"]))
        return Installed(
            fields["folder"],
            tuple((name, version) for name, version in fields["packages"]),
            tuple((name, version) for name, version in fields["satisfied"]),
        )

    async def _stop(self, link: Link) -> None:
        """Stop the current installation and take its answer, so that the next one finds the stream in order."""
        with anyio.move_on_after(_FORGET_SECONDS) as scope:
            try:
                await link.send(Kind.INSTALL_CANCEL)
                await self._outcome(link, lambda _: None)
            except SandboxLostError:
                return
        if scope.cancelled_caught:
            link.abandon("a stopped installation did not end")
