"""The container of one sandbox: started in the background, and replaced when it is lost."""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import anyio
import anyio.lowlevel

from ..background import background_tasks, log_errors
from ..engine import ContainerSpec, Engine, Report
from ..engine.link import Link
from ..engine.manager import ContainerManager
from ..errors import SandboxLostError
from ..host_resources import HostResources
from ..packages.installer import Installer
from ..settings import Settings
from ..wire import messages
from .execution import Execution, UnreportedState
from .observer import Observer
from .packages import SessionPackages
from .result import State
from .spec import give_back_uid, runner_spec, take_uid, user_pids

__all__ = ["SandboxContainer"]

_RESET_SECONDS = 60.0


class SandboxContainer:
    """A sandbox's container, the packages that code finds in it, and what no result has said of them yet."""

    def __init__(self, engine: Engine, installer: Installer, settings: Settings, host: HostResources) -> None:
        self.id = secrets.token_hex(16)
        """Of the sandbox: the same for each container that it has."""
        self.packages = SessionPackages(installer, settings, self.id)
        self.settings = settings
        self.unreported = UnreportedState()
        self._engine = engine
        self._host = host
        self._uid = 0
        self._seen_starts = 0
        self._manager: ContainerManager | None = None

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Start the container, and keep one until the context ends. Nothing of it is left then."""
        self._uid = take_uid(*self.settings.engine.uid_range)
        try:
            async with background_tasks() as tasks:
                self._manager = ContainerManager(
                    self._engine,
                    tasks,
                    self._make_spec,
                    self._make_hello,
                    messages.SupervisorReady,
                    after_start=self._engine.sweep,
                )
                self._manager.start()
                tasks.start_soon(log_errors, self.preinstall)
                try:
                    yield
                finally:
                    self.packages.close()
        finally:
            if self._manager is not None:
                self._manager.set_stage("closed")
            give_back_uid(self._uid)

    def belongs_to(self, principal: str, observer: Observer | None) -> None:
        """From now on, its calls are those of *principal*, and are reported to *observer*."""
        self.packages.principal = principal
        self.packages.observer = observer

    @property
    def observer(self) -> Observer | None:
        """Receives what is done in the sandbox."""
        return self.packages.observer

    @property
    def starts(self) -> int:
        """Number of containers so far."""
        return self.manager.starts

    def abandon(self, start: int) -> None:
        """Declare container number *start* lost, if it is still the current one. The next call gets a new one, and its
        result says so.
        """
        self.manager.mark_lost(start, "its container is gone")

    @property
    def manager(self) -> ContainerManager:
        """What starts the container, and another when that one is lost."""
        if self._manager is None:
            raise RuntimeError("a sandbox is used inside `async with`")
        return self._manager

    @property
    def stage(self) -> str:
        """What is being done to start it, in a few words."""
        return "closed" if self._manager is None else self._manager.stage

    @property
    def is_ready(self) -> bool:
        """Whether code can run now: the container is there, with what the operator wants every sandbox to have."""
        return self._manager is not None and self._manager.is_ready and self.packages.is_preinstalled

    @property
    def state(self) -> State:
        """Whether the container is still the one that was seen last: ``kept`` or ``lost``."""
        if self._manager is None:
            return "lost"
        is_same = self._seen_starts == self.starts and self._manager.is_ready
        return "kept" if is_same or self._seen_starts == 0 else "lost"

    def was_replaced(self) -> bool:
        """Whether another container has taken the place of the one that this was asked about last."""
        seen, self._seen_starts = self._seen_starts, self.starts
        return 0 < seen < self._seen_starts

    async def connect(self) -> Link:
        """The link to the container, which is started first if need be."""
        link = await self.manager.connect()
        self.packages.image = link.distributions
        if self._seen_starts != self.starts:
            self.packages.set_loaded_modules(frozenset())
        self._seen_starts = self._seen_starts or self.starts
        return link

    async def preinstall(self) -> None:
        """Install what the operator wants every sandbox to have, if that has not been tried yet."""
        if not self.packages.is_preinstalled:
            await self.packages.preinstall(self.manager.set_stage)

    async def ready(self) -> None:
        """Wait until the container can run code.

        :raises UnavailableError: it can't be started.
        """
        await self.manager.connect()
        await self.preinstall()

    async def prepared(self, report: Report | None) -> Link:
        """The link to the container, once that has all the packages which the session should have."""
        link = await self.connect()
        await self.preinstall()
        await self.packages.restore(report)
        return link

    async def warm(self) -> None:
        """Wait until the data packages are imported, and until what only a first run has to do is done. Code finds the
        sandbox as new.

        :raises UnavailableError: the engine failed.
        """
        link = await self.prepared(None)
        warm_up = Execution(
            link, self.packages, self.settings, UnreportedState(), number=1, timeout=self.settings.limits.max_timeout
        )
        await warm_up.run("".join(f"import {name}\n" for name in self.settings.image.preload))
        await self.reset(keep_packages=False, keep_files=False)

    async def reset(self, *, keep_packages: bool, keep_files: bool) -> None:
        """Forget all variables; files and installed packages too, unless kept.

        :raises UnavailableError: the engine failed.
        :raises SandboxLostError: files that were to be kept are gone.
        """
        link = await self.connect()
        if self.was_replaced() and keep_files:
            raise SandboxLostError(
                "The sandbox was lost since the last call and has been replaced; its variables and files are gone."
            )
        no_preload = self.packages.before_reset(keep=keep_packages).no_preload
        is_reset = await self._reset_over(link, keep_files=keep_files, no_preload=no_preload)
        self.packages.set_loaded_modules(frozenset())
        self.unreported = UnreportedState()
        try:
            await anyio.lowlevel.checkpoint_if_cancelled()
            if not is_reset:
                # A new container is as good as a reset, unless files were to stay.
                await self.manager.connect()
                self.was_replaced()
        except anyio.get_cancelled_exc_class():
            self.unreported.add("lost")  # the caller does not learn that it was done
            self.unreported.is_replaced = not keep_files
            raise
        if not is_reset and keep_files:
            raise SandboxLostError("The sandbox could not be reset and was replaced; its files are gone.")
        self.packages.after_reset(keep=keep_packages)

    async def _reset_over(self, link: Link, *, keep_files: bool, no_preload: bool) -> bool:
        """Reset the container; if that fails, abandon it and return False. Once begun, this is not cancelled, which
        would cost the files.
        """
        try:
            with anyio.CancelScope(shield=True), anyio.fail_after(_RESET_SECONDS):
                await link.send(messages.Reset(keep_files=keep_files, no_preload=no_preload))
                await link.expect(messages.ResetDone)
        except (SandboxLostError, TimeoutError):
            link.abandon("it could not be reset")
            return False
        return True

    def _make_spec(self, image: str) -> ContainerSpec:
        return runner_spec(self.settings, image, self.id, self._uid, self._host.data)

    async def _make_hello(self) -> messages.SupervisorHello:
        return messages.SupervisorHello(
            version=messages.VERSION,
            data=tuple(self._host.data),
            preload=self.settings.image.preload,
            output_keep=self.settings.limits.output_keep,
            checkpoints=self.settings.limits.checkpoints,
            auto_install=self.settings.packages.auto_install != "off",
            user_pids=user_pids(self.settings),
            safety=messages.SafetyOptions(**self._host.safety),
        )
