"""The container of one sandbox: started in the background, and replaced when it is lost."""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import anyio
import anyio.lowlevel

from ..background import background_tasks, contained
from ..engine import ContainerSpec, Engine, Report
from ..engine.link import Keeper, Link
from ..errors import SandboxLostError
from ..host_resources import HostResources
from ..packages.installer import Installer
from ..settings import Settings
from ..wire import messages
from .exchange import Exchange, Unreported
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
        self.unreported = Unreported()
        self._engine = engine
        self._host = host
        self._uid = 0
        self._seen_starts = 0
        self._keeper: Keeper | None = None

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Start the container, and keep one until the context ends. Nothing of it is left then."""
        self._uid = take_uid(*self.settings.engine.uid_range)
        try:
            async with background_tasks() as tasks:
                self._keeper = Keeper(
                    self._engine,
                    tasks,
                    self._prepare,
                    self._hello,
                    messages.SupervisorReady,
                    afterwards=self._engine.sweep,
                )
                self._keeper.begin()
                tasks.start_soon(contained, self.preinstall)
                try:
                    yield
                finally:
                    self.packages.close()
        finally:
            self._keeper = None
            self._seen_starts = 0
            give_back_uid(self._uid)

    @property
    def starts(self) -> int:
        """Number of containers so far."""
        return self.keeper.starts

    def abandon(self, start: int) -> None:
        """Declare container number *start* lost, if it is still the current one. The next call gets a new one, and its
        result says so.
        """
        self.keeper.abandon(start, "its container is gone")

    @property
    def keeper(self) -> Keeper:
        """What starts the container, and another when that one is lost."""
        if self._keeper is None:
            raise RuntimeError("a sandbox is used inside `async with`")
        return self._keeper

    @property
    def stage(self) -> str:
        """What is being done to start it, in a few words."""
        return "closed" if self._keeper is None else self._keeper.stage

    @property
    def is_ready(self) -> bool:
        """Whether code can run now: the container is there, with what the operator wants every sandbox to have."""
        return self._keeper is not None and self._keeper.is_ready and self.packages.is_preinstalled

    @property
    def state(self) -> State:
        """Whether the container is still the one that was seen last: ``kept`` or ``lost``."""
        if self._keeper is None:
            return "lost"
        is_same = self._seen_starts == self.starts and self._keeper.is_ready
        return "kept" if is_same or self._seen_starts == 0 else "lost"

    def was_replaced(self) -> bool:
        """Whether another container has taken the place of the one that this was asked about last."""
        seen, self._seen_starts = self._seen_starts, self.starts
        return 0 < seen < self._seen_starts

    async def connected(self) -> Link:
        """The link to the container, which is started first if need be."""
        link = await self.keeper.connected()
        self.packages.image = link.distributions
        if self._seen_starts != self.starts:
            self.packages.note_interpreter(frozenset())
        return link

    async def preinstall(self) -> None:
        """Install what the operator wants every sandbox to have, if that has not been tried yet."""
        if not self.packages.is_preinstalled:
            await self.packages.preinstall(self.keeper.tell)

    async def ready(self) -> None:
        """Wait until the container can run code.

        :raises UnavailableError: it can't be started.
        """
        await self.keeper.connected()
        await self.preinstall()

    async def prepared(self, report: Report | None) -> Link:
        """The link to the container, once that has all the packages which the session should have."""
        link = await self.connected()
        await self.preinstall()
        await self.packages.restore(report)
        return link

    async def warm(self) -> None:
        """Wait until the data packages are imported, and until what only a first run has to do is done. Code finds the
        sandbox as new.

        :raises UnavailableError: the engine failed.
        """
        link = await self.prepared(None)
        warm_up = Exchange(
            link, self.packages, self.settings, Unreported(), number=1, timeout=self.settings.limits.max_timeout
        )
        await warm_up.run("".join(f"import {name}\n" for name in self.settings.image.preload))
        await self.reset(keep_packages=False, keep_files=False)

    async def reset(self, *, keep_packages: bool, keep_files: bool) -> None:
        """Forget all variables; files and installed packages too, unless kept.

        :raises UnavailableError: the engine failed.
        :raises SandboxLostError: files that were to be kept are gone.
        """
        link = await self.connected()
        if self.was_replaced() and keep_files:
            raise SandboxLostError(
                "The sandbox was lost since the last call and has been replaced; its variables and files are gone."
            )
        bare = self.packages.before_reset(keep=keep_packages).bare
        is_reset = await self._reset_over(link, keep_files=keep_files, bare=bare)
        self.packages.note_interpreter(frozenset())
        self.unreported = Unreported()
        try:
            await anyio.lowlevel.checkpoint_if_cancelled()
            if not is_reset:
                # A new container is as good as a reset, unless files were to stay.
                await self.keeper.connected()
                self.was_replaced()
        except anyio.get_cancelled_exc_class():
            self.unreported.add("lost")  # the caller does not learn that it was done
            self.unreported.is_replaced = not keep_files
            raise
        if not is_reset and keep_files:
            raise SandboxLostError("The sandbox could not be reset and was replaced; its files are gone.")
        self.packages.after_reset(keep=keep_packages)

    async def _reset_over(self, link: Link, *, keep_files: bool, bare: bool) -> bool:
        """Reset the container; if that fails, abandon it and return False. Once begun, this is not cancelled, which
        would cost the files.
        """
        try:
            with anyio.CancelScope(shield=True), anyio.fail_after(_RESET_SECONDS):
                await link.send(messages.Reset(keep_files=keep_files, bare=bare))
                await link.expect(messages.ResetDone)
        except (SandboxLostError, TimeoutError):
            link.abandon("it could not be reset")
            return False
        return True

    async def _prepare(self, report: Report) -> ContainerSpec:
        image = await self._engine.ensure_image(report)
        return runner_spec(self.settings, image, self.id, self._uid, self._host.data)

    async def _hello(self) -> messages.SupervisorHello:
        return messages.SupervisorHello(
            version=messages.VERSION,
            data=tuple(self._host.data),
            preload=self.settings.image.preload,
            output_keep=self.settings.limits.output_keep,
            checkpoints=self.settings.limits.checkpoints,
            installs=True,
            auto_install=self.settings.packages.auto_install != "off",
            user_pids=user_pids(self.settings),
            safety=messages.SafetyOptions(**self._host.safety),
        )
