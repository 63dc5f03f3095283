"""Open sandboxes, and keep them open."""

from __future__ import annotations

import contextlib
import logging
import os
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
from anyio.abc import TaskGroup, TaskStatus

from ..background import background_tasks
from ..errors import CapacityError, CapacityReason
from ..own_process import is_inherited, require_own
from ..settings import Settings
from .capacity import Capacity, OpenContainer, Slot
from .container import SandboxContainer

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["SANDBOX_MEMORY", "MemoryReserve", "OpenOnce", "Opener"]

logger = logging.getLogger(__name__)

SANDBOX_MEMORY = 128 << 20
"""Memory of a fresh sandbox that has imported the data packages, in bytes."""


class MemoryReserve:
    """Refuses sandboxes for which the machine has too little memory.

    :param free_memory: returns the machine's free memory in bytes, or None if it is unknown.
    :param reserve: number of bytes to leave free.
    :param refused: counts refusals.
    """

    def __init__(
        self,
        free_memory: Callable[[], Awaitable[int | None]],
        reserve: int,
        capacity: Capacity,
        refused: Counter[CapacityReason],
    ) -> None:
        self._free_memory = free_memory
        self._reserve = reserve
        self._capacity = capacity
        self._refused = refused

    async def require(self) -> None:
        """Require memory for one more sandbox, and for those that are starting.

        :raises CapacityError: there is too little.
        """
        free = await self._free_memory()
        if free is not None and free < self._reserve + SANDBOX_MEMORY * (self._capacity.starting + 1):
            self._refused["memory"] += 1
            raise CapacityError(
                "The server is busy: its machine has too little memory for another sandbox. Call again later.",
                reason="memory",
                limit=self._reserve,
            )


class Opener:
    """Opens sandboxes, each in a task of its own, until they are closed or the server ends.

    :param new: makes a container that is not running yet, with the given settings or its own.
    :param memory: None if the machine's memory is not limited.
    """

    def __init__(self, new: Callable[[Settings | None], SandboxContainer], memory: MemoryReserve | None = None) -> None:
        self._new = new
        self._memory = memory
        self._tasks: TaskGroup | None = None
        self._closing = anyio.Event()
        self.sandboxes: set[OpenContainer] = set()

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Allow sandboxes to be opened. At the end, all are closed and completely removed."""
        self._closing = anyio.Event()
        async with background_tasks(self._closing.set) as self._tasks:
            yield

    async def open(self, slot: Slot, settings: Settings | None = None) -> OpenContainer:
        """Open a sandbox in *slot*, which is released when that fails, or when the sandbox is closed.

        :param settings: those of the sandbox, if they are not the ones of all.
        :raises CapacityError: there is too little memory.
        """
        if self._tasks is None:
            raise RuntimeError("sandboxes are opened inside `running`")
        try:
            if self._memory is not None:
                await self._memory.require()
            slot.is_starting = True
            return await self._tasks.start(self._keep_open, slot, settings)
        except BaseException:
            slot.release()
            raise

    async def _keep_open(
        self, slot: Slot, settings: Settings | None, *, task_status: TaskStatus[OpenContainer]
    ) -> None:
        opened: OpenContainer | None = None
        try:
            container = self._new(settings)
            async with container.running():
                opened = OpenContainer(container)
                self.sandboxes.add(opened)
                task_status.started(opened)
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(self._close_with_all, opened)
                    tasks.start_soon(self._note_start, container, slot)
                    await opened.closing.wait()
                    tasks.cancel_scope.cancel()
        except Exception:
            if opened is None:
                raise
            logger.exception("a sandbox ended unexpectedly")  # the others continue
        finally:
            if opened is not None:
                self.sandboxes.discard(opened)
                opened.closed.set()
            slot.release()

    async def _note_start(self, container: SandboxContainer, slot: Slot) -> None:
        with contextlib.suppress(Exception):  # raised again when the sandbox is used
            await container.ready()
        slot.is_starting = False

    async def _close_with_all(self, opened: OpenContainer) -> None:
        await self._closing.wait()
        opened.closing.set()


class OpenOnce:
    """What can be entered again once it has ended, but not before: what was opened first would be left."""

    _stack: AsyncExitStack | None = None
    _pid: int | None = None
    """The process in which it was entered."""

    def _require_own(self) -> None:
        """Require that this process was not forked from one in which it was entered.

        :raises RuntimeError: it was.
        """
        require_own(self._pid, type(self).__name__)

    async def _open(self, stack: AsyncExitStack) -> None:
        """Open what *stack* is to close."""
        raise NotImplementedError

    async def __aenter__(self) -> Self:
        self._require_own()
        if self._stack is not None:
            raise RuntimeError(f"this {type(self).__name__} is open already")
        self._stack, self._pid = AsyncExitStack(), os.getpid()
        try:
            async with AsyncExitStack() as stack:
                await self._open(stack)
                self._stack = stack.pop_all()
        except BaseException:
            self._stack = self._pid = None
            raise
        return self

    async def __aexit__(self, *exc_info: Any) -> bool | None:
        if is_inherited(self._pid):  # its containers belong to the parent
            return None
        assert self._stack is not None
        try:
            return await self._stack.__aexit__(*exc_info)
        finally:
            self._stack = self._pid = None
