"""The installer: a container with network access that all sandboxes of a server share. It never runs user code."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from types import MappingProxyType
from typing import Any

import anyio
from anyio.abc import TaskGroup

from ..background import background_tasks, log_errors
from ..engine import Engine, Report
from ..engine.network import NetworkSettings
from ..errors import InstallError, UnavailableError
from ..settings import Settings
from ..wire import messages
from .connection import InstallerConnection, unavailable_if_lost
from .fair_limiter import FairLimiter
from .folders import REMOVE_SECONDS, SandboxFolders
from .installation import Installation
from .installed import Cache, Installed
from .multiplexer import RequestMultiplexer
from .policy_settings import policy_from_settings
from .wheelhouse import WheelhouseCopy

__all__ = ["PATIENCE_SECONDS", "Cache", "Installed", "Installer"]

logger = logging.getLogger(__name__)

PATIENCE_SECONDS = 45.0
"""Longest time an installation waits for a slot."""

_SLOTS = 3
"""Number of concurrent installations: the installer has a user to run uv for each."""

_CACHE_SECONDS = 180.0


class Installer:
    """Installs packages for sandboxes, each into a folder of its own. Use as an async context manager.

    The container is started when first needed and ends with the context. Several installations run at a time.

    :param network: index, proxies and certificates with which packages are fetched.
    :raises SettingsError: a setting about packages is invalid.
    """

    def __init__(self, engine: Engine, settings: Settings, network: NetworkSettings) -> None:
        self._engine = engine
        self._settings = settings
        self._network = network
        self.policy = policy_from_settings(settings)
        self._limiter = FairLimiter(_SLOTS)
        self._folders = SandboxFolders()
        self._preinstalling = anyio.Lock()
        self._preinstalled: Installed | None = None
        self._preinstalled_id = secrets.token_hex(16)
        """Instead of a sandbox's id, for the folder that all sandboxes share."""
        self._wheelhouse: WheelhouseCopy | None = None
        self._stack = AsyncExitStack()
        self._tasks: TaskGroup | None = None
        self._connection: InstallerConnection | None = None

    async def __aenter__(self) -> Installer:
        self._tasks = tasks = await self._stack.enter_async_context(background_tasks())
        self._connection = InstallerConnection(self._engine, self._settings, self._network, self._folders, tasks)
        return self

    async def __aexit__(self, *exc_info: Any) -> bool | None:
        if self._preinstalled is not None and self._preinstalled.folder:
            self._folders.discard(self._preinstalled_id)
        with anyio.CancelScope(shield=True), anyio.move_on_after(REMOVE_SECONDS):
            await self._remove_unwanted()
        try:
            return await self._stack.__aexit__(*exc_info)
        finally:
            self._tasks = self._connection = None

    async def install(
        self,
        sandbox: str,
        requirements: Sequence[str],
        *,
        before: Mapping[str, str] = MappingProxyType({}),
        report: Report | None = None,
        principal: str = "",
        patience: float = PATIENCE_SECONDS,
    ) -> Installed:
        """Resolve *requirements* together and install them for *sandbox* into a new folder. Packages in use are not
        changed. Cancelling the call stops the installation.

        :param before: version by name of the sandbox's packages, which are kept if possible.
        :param principal: the client. Of those waiting, the one with the fewest running installations is next.
        :param patience: longest wait for a slot, in seconds.
        :raises InvalidRequestError: the policy forbids a requirement.
        :raises InstallError: the requirements can't be resolved or fetched; the message is the resolver's.
        :raises UnavailableError: the installer could not be started, is busy, or was lost.
        """
        trusted = self._settings.packages.preinstall
        self.policy.check_requested([requirement for requirement in requirements if requirement not in trusted])
        try:
            async with self._limiter.slot(principal, patience):
                return await self._install(sandbox, requirements, report, owner=sandbox, before=before)
        except TimeoutError:
            raise UnavailableError("The installer is busy. Call again in a minute.") from None

    async def preinstalled(self, sandbox: str, report: Report | None = None) -> Installed | None:
        """Return the packages of the setting ``preinstall``, which all sandboxes share, or None if there are none. The
        first call installs them, and each call makes them available to *sandbox*.

        :raises InstallError: it can't be resolved or fetched.
        :raises UnavailableError: the installer could not be started, or was lost.
        """
        wanted = self._settings.packages.preinstall
        if wanted and not await self._has_preinstalled(sandbox):
            async with self._preinstalling:
                if not await self._has_preinstalled(sandbox):
                    self._preinstalled = await self._install(sandbox, wanted, report, owner=self._preinstalled_id)
        return self._preinstalled

    async def _has_preinstalled(self, sandbox: str) -> bool:
        installed = self._preinstalled
        return installed is not None and (not installed.folder or await self.has_packages(sandbox, installed.folder))

    async def has_packages(self, sandbox: str, folder: str) -> bool:
        """Return whether *folder* still exists, and make it available to *sandbox*. If the installer is unavailable,
        assume that it does.

        Another server's installer may have removed it while neither the sandbox nor this server's installer had a
        container, as after a restart of the engine.

        :raises InstallError: the sandbox can't have so much.
        :raises UnavailableError: the engine failed.
        """
        is_there = await self._engine.provide_packages(sandbox, folder)
        if is_there is not None:
            return is_there
        try:
            await self._connected().connect()
        except UnavailableError as error:
            logger.warning("can't check whether the packages of a sandbox exist: %s", error)
            return True
        return self._folders.exists(folder.split("/")[1])

    def remove_packages(self, sandbox: str) -> None:
        """Remove the packages of *sandbox* in the background, or at the next start of the installer; in any case before
        anything else is installed for it.
        """
        self._engine.release_packages(sandbox)
        if self._folders.discard(sandbox) and self._tasks is not None:
            self._tasks.start_soon(log_errors, self._remove_unwanted)

    async def cache(self, *, clear: bool = False) -> Cache:
        """Return the contents of the cache, after clearing it if *clear*.

        :raises UnavailableError: the installer could not be started, does not answer, or was lost.
        """
        multiplexer = await self._connected().connect_after_removal()
        with unavailable_if_lost(), multiplexer.request() as request:
            await request.send(messages.DescribeCache(request=request.number, clear=clear))
            answer = await request.expect(messages.CacheContents, within=_CACHE_SECONDS)
            return Cache(answer.size, answer.packages, answer.busy > 0)

    def _connected(self) -> InstallerConnection:
        if self._connection is None:
            raise RuntimeError("an Installer is used inside `async with`")
        return self._connection

    async def _install(
        self,
        sandbox: str,
        requirements: Sequence[str],
        report: Report | None,
        *,
        owner: str,
        before: Mapping[str, str] = MappingProxyType({}),
    ) -> Installed:
        """Install *requirements* into a folder of *owner*, for *sandbox* to use."""
        report = report or (lambda _: None)
        report("starting the installer")
        self._folders.on_begin(owner)
        multiplexer = await self._connected().connect_after_removal()
        limit = self._settings.packages.install_timeout
        try:
            with unavailable_if_lost(), anyio.fail_after(limit):
                await self._provide_wheelhouse(multiplexer, report)
                with multiplexer.request() as request:
                    installation = Installation(
                        request,
                        owner,
                        requirements,
                        policy=self.policy,
                        trusted=self._settings.packages.preinstall,
                        network=self._network,
                        report=report,
                    )
                    installed = await installation.run(before)
        except TimeoutError:
            raise InstallError(
                f"The installation took longer than {limit:g} s and was stopped.", requirements=tuple(requirements)
            ) from None
        if installed.folder:
            self._folders.on_installed(owner)
            if await self._engine.provide_packages(sandbox, installed.folder) is False:
                raise UnavailableError("The installer was lost before its packages were copied. Call again.")
        return installed

    async def _provide_wheelhouse(self, multiplexer: RequestMultiplexer, report: Report) -> None:
        """Copy the operator's wheelhouse to the installer, unless it has a copy.

        :raises InstallError: the folder can't be read.
        """
        folder = self._settings.packages.wheelhouse
        if folder is None or self._tasks is None:
            return
        if self._wheelhouse is None or self._wheelhouse.multiplexer is not multiplexer:
            self._wheelhouse = WheelhouseCopy(multiplexer, folder)
            self._tasks.start_soon(log_errors, self._wheelhouse.make)
        await self._wheelhouse.wait(report)

    async def _remove_unwanted(self) -> None:
        connection = self._connection
        try:
            if self._folders.has_unwanted and connection is not None and connection.manager.is_ready:
                await connection.connect_after_removal()
        except UnavailableError as error:
            logger.warning("packages of a sandbox could not be removed; the next installer will: %s", error)
