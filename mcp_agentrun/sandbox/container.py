"""The container of one sandbox: started in the background, and replaced when it is lost."""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import anyio

from ..background import background_tasks, contained
from ..engine import ContainerSpec, Engine
from ..engine.link import Link
from ..engine.manager import ContainerManager
from ..errors import SandboxLostError
from ..host_resources import HostResources
from ..packages.installer import Installer
from ..settings import Settings
from ..wire import messages
from .packages import SessionPackages
from .result import State
from .spec import give_back_uid, runner_spec, take_uid, user_pids

__all__ = ["SandboxContainer"]

_RESET_SECONDS = 60.0


class SandboxContainer:
    """A sandbox's container, the packages that code finds in it, and whether it is still the one that was seen last."""

    def __init__(self, engine: Engine, installer: Installer, settings: Settings, host: HostResources) -> None:
        self.id = secrets.token_hex(16)
        """Of the sandbox: the same for each container that it has."""
        self.packages = SessionPackages(installer, settings, self.id)
        self._engine = engine
        self._settings = settings
        self._host = host
        self._uid = 0
        self._seen_starts = 0
        self._manager: ContainerManager | None = None

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Start the container, and keep one until the context ends. Nothing of it is left then."""
        self._uid = take_uid(*self._settings.engine.uid_range)
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
                tasks.start_soon(contained, self.preinstall)
                try:
                    yield
                finally:
                    self.packages.close()
        finally:
            self._manager = None
            self._seen_starts = 0
            give_back_uid(self._uid)

    @property
    def manager(self) -> ContainerManager:
        """What starts the container, and replaces it."""
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
        is_same = self._seen_starts == self._manager.starts and self._manager.is_ready
        return "kept" if is_same or self._seen_starts == 0 else "lost"

    def acknowledge_replacement(self) -> bool:
        """Note that the current container was seen; return whether it has replaced another one since the last time."""
        seen, self._seen_starts = self._seen_starts, self.manager.starts
        return 0 < seen < self._seen_starts

    async def connect(self) -> Link:
        """The link to the container, which is started first if need be."""
        link = await self.manager.connect()
        self.packages.image = link.distributions
        if self._seen_starts != self.manager.starts:
            self.packages.set_loaded_modules(frozenset())
        return link

    async def preinstall(self) -> None:
        """Install what the operator wants every sandbox to have, if that has not been tried yet."""
        if not self.packages.is_preinstalled:
            await self.packages.preinstall(self.manager.set_stage)

    async def reset(self, link: Link, *, keep_files: bool, no_preload: bool) -> bool:
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
        return runner_spec(self._settings, image, self.id, self._uid, self._host.data)

    async def _make_hello(self) -> messages.SupervisorHello:
        return messages.SupervisorHello(
            version=messages.VERSION,
            data=tuple(self._host.data),
            preload=self._settings.image.preload,
            output_keep=self._settings.limits.output_keep,
            checkpoints=self._settings.limits.checkpoints,
            installs=True,
            auto_install=self._settings.packages.auto_install != "off",
            user_pids=user_pids(self._settings),
            safety=messages.SafetyOptions(**self._host.safety),
        )
