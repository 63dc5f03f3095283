"""Who owns which sandbox."""

from __future__ import annotations

import logging
import secrets
from contextlib import AsyncExitStack
from typing import Any

import anyio
from anyio.abc import TaskGroup

from .engine import Engine
from .engine.network import NetworkSettings
from .errors import InvalidRequestError, UnavailableError
from .packages.installer import Installer
from .sandbox import Sandbox
from .settings import Settings

__all__ = ["NEW", "Sessions"]

logger = logging.getLogger(__name__)

NEW = "new"
"""In place of a handle: open another sandbox."""


class Sessions:
    """The sandboxes of one client: its own, which needs no name, and more by handle. Use as an async context manager;
    nothing of them is left when it has ended.
    """

    def __init__(self, engine: Engine, settings: Settings, network: NetworkSettings) -> None:
        self.settings = settings
        self._engine = engine
        self._installer = Installer(engine, settings, network)
        self._stack = AsyncExitStack()
        self._tasks: TaskGroup | None = None
        self._own: Sandbox | None = None
        self._by_handle: dict[str, Sandbox] = {}
        self._closing = anyio.Event()

    async def __aenter__(self) -> Sessions:
        self._stack.push_async_callback(self._engine.aclose)
        await self._stack.enter_async_context(self._installer)
        self._tasks = await self._stack.enter_async_context(anyio.create_task_group())
        self._stack.callback(self._closing.set)
        return self

    async def __aexit__(self, *exc_info: Any) -> bool | None:
        return await self._stack.__aexit__(*exc_info)

    async def begin(self) -> None:
        """Begin to prepare the client's own sandbox, so that its first call finds it ready."""
        if self._own is None:
            self._own = await self._open()

    def opened(self) -> dict[str | None, Sandbox]:
        """The sandboxes that there are, by handle; the client's own has none."""
        own: dict[str | None, Sandbox] = {} if self._own is None else {None: self._own}
        return own | self._by_handle

    async def get(self, handle: str | None) -> tuple[Sandbox, str | None]:
        """The sandbox that a call means, and the handle to tell the client where it has just been made.

        :raises InvalidRequestError: no sandbox has that handle.
        :raises UnavailableError: there are as many sandboxes as may be.
        """
        if not handle:
            await self.begin()
            assert self._own is not None
            return self._own, None
        if handle == NEW:
            if len(self._by_handle) + 1 >= self.settings.max_sandboxes:
                raise UnavailableError(
                    f"There are {self.settings.max_sandboxes} sandboxes already, the most that this server allows. "
                    "Use one of those that you have."
                )
            handle = secrets.token_urlsafe(16)
            self._by_handle[handle] = await self._open()
            return self._by_handle[handle], handle
        sandbox = self._by_handle.get(handle)
        if sandbox is None:
            raise InvalidRequestError(
                f"No sandbox has the handle {handle[:40]!a}. Leave `sandbox` out to use your own, or pass "
                f'"{NEW}" to open another one; what was in the old one is gone.'
            )
        return sandbox, None

    async def _open(self) -> Sandbox:
        if self._tasks is None:
            raise RuntimeError("Sessions is used inside `async with`")
        return await self._tasks.start(self._keep_open)

    async def _keep_open(self, *, task_status: anyio.abc.TaskStatus[Sandbox]) -> None:
        async with Sandbox(self._engine, self.settings, installer=self._installer) as sandbox:
            task_status.started(sandbox)
            await self._closing.wait()
