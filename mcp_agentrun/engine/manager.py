"""A container that is started on demand, and replaced when it is lost."""

from __future__ import annotations

import contextlib
import copy
import logging
import os
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager

import anyio
from anyio.abc import ByteStream, TaskGroup

from ..errors import AgentRunError, EngineError, SandboxLostError, UnavailableError
from ..own_process import require_own
from ..wire.messages import InstallerReady, Message, SupervisorReady
from . import ContainerSpec, Engine
from .link import Link
from .owner import Owner

__all__ = ["ContainerManager"]

logger = logging.getLogger(__name__)

_START_SECONDS = 30.0
_CLOSED = "The sandbox has been closed."


class ContainerManager:
    """Starts a container when it is first needed, and another one when that is lost.

    :param make_spec: describes the container, given the name of its image.
    :param make_hello: makes the first message to a container.
    :param ready: type of the container's answer to that message.
    :param after_start: called after each start, when the container can already be used.
    """

    def __init__(
        self,
        engine: Engine,
        tasks: TaskGroup,
        make_spec: Callable[[str], ContainerSpec],
        make_hello: Callable[[], Awaitable[Message]],
        ready: type[Message],
        *,
        after_start: Callable[[], Awaitable[object]] | None = None,
    ) -> None:
        self._engine = engine
        self._tasks = tasks
        self._make_spec = make_spec
        self._make_hello = make_hello
        self._ready = ready
        self._after_start = after_start
        self._attempt: _Attempt | None = None
        self._pid = os.getpid()
        self.stage = "not started"
        """The current stage of the container's start, for progress messages."""
        self.starts = 0
        """Number of containers that have become ready so far."""

    @property
    def is_ready(self) -> bool:
        """Whether the container is running and has answered."""
        return self._link is not None

    @property
    def _link(self) -> Link | None:
        return None if self._attempt is None else self._attempt.link

    def mark_lost(self, start: int, reason: str) -> None:
        """Declare container number *start* lost, unless another one has replaced it already."""
        if self._link is not None and self.starts == start:
            self._link.abandon(reason)

    def start(self) -> None:
        """Start the container in the background, unless it is running or starting.

        :raises UnavailableError: it would have to be started, but the tasks of this manager are being ended.
        """
        if self._attempt is None or self._attempt.is_over:
            if self._tasks.cancel_scope.cancel_called:  # a task that starts now might never be cancelled
                raise UnavailableError(_CLOSED)
            self._attempt = _Attempt()
            self._tasks.start_soon(self._run, self._attempt)

    async def connect(self) -> Link:
        """Return the link to the container, which is started if necessary. Cancelling the call does not stop the start.

        :raises UnavailableError: the container could not be started; the next call tries again.
        :raises RuntimeError: it belongs to a process from which this one was forked.
        """
        require_own(self._pid, "sandbox")
        self.start()
        assert self._attempt is not None
        return await self._attempt.result()

    def set_stage(self, stage: str) -> None:
        """Set `stage`."""
        self.stage = stage

    def _report(self, stage: str) -> None:
        logger.info("%s", stage)
        self.stage = stage

    async def _run(self, attempt: _Attempt) -> None:
        """Start a container, and keep it until it is lost."""
        try:
            self._report("looking for the container engine")
            spec = self._make_spec(await self._engine.ensure_image(self._report))
            self._report("starting the container")
            # Before the stream is opened: the message may take a request to the engine, which an unread attach stalls.
            hello = await self._make_hello()
            async with _container(self._engine, spec) as stream:
                with contextlib.closing(Link(stream)) as link:
                    problem = await self._use(attempt, link, spec, hello)
                diagnostics = getattr(stream, "diagnostics", "").strip()
                logger.info("container ended: %s; %s", link.reason, diagnostics)
                if problem is not None:
                    attempt.fail(EngineError(" ".join(filter(None, (problem, diagnostics, "Call again.")))))
        except AgentRunError as error:
            attempt.fail(error)
        except Exception as error:  # a defect of ours must not end the server and its other sandboxes
            logger.exception("starting a container failed unexpectedly")
            attempt.fail(EngineError(f"The container could not be started ({type(error).__name__}). Call again."))
        finally:
            attempt.fail(UnavailableError(_CLOSED))

    async def _use(self, attempt: _Attempt, link: Link, spec: ContainerSpec, hello: Message) -> str | None:
        """Provide *link* until it breaks. Return an error message if the container did not start properly."""
        problem: str | None = None
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(link.pump)
            problem = await self._greet(link, hello) or _problem(spec, link.greeting)
            if problem is None:
                tasks.start_soon(link.ping)
                self.starts += 1
                self._report("ready")
                attempt.succeed(link)
                tasks.start_soon(self._finish_start)
                await link.wait_broken()
            tasks.cancel_scope.cancel()
        return problem

    async def _finish_start(self) -> None:
        if self._after_start is not None:
            try:
                await self._after_start()
            except Exception as error:  # housekeeping is no reason to end a container
                logger.warning("%s: %s", type(error).__name__, error)

    async def _greet(self, link: Link, hello: Message) -> str | None:
        """Exchange greetings. Return an error message, or None on success."""
        try:
            with anyio.fail_after(_START_SECONDS):
                await link.send(hello)
                link.greeting = await link.expect(self._ready)
        except SandboxLostError as error:
            return f"The container ended as soon as it was started ({error})."
        except TimeoutError:
            return "The container was started but does not respond."
        return None


def _problem(spec: ContainerSpec, greeting: Message) -> str | None:
    """Return an error message if the engine has not made the container that *spec* describes, by its *greeting*."""
    problem = _mount_problem(spec, greeting) if isinstance(greeting, SupervisorReady) else None
    if problem is None and isinstance(greeting, (SupervisorReady, InstallerReady)):
        problem = _limit_problem(spec, greeting.memory)
    return problem


def _limit_problem(spec: ContainerSpec, limit: int | None) -> str | None:
    """Return an error message if the engine has accepted limits and ignores them, as rootless Podman can.

    Other runtimes than the engine's own may have a kernel of their own, which is not the one that limits.
    """
    if spec.accept_unlimited or spec.runtime is not None or (limit or 0) <= spec.memory:
        return None
    return (
        "The container engine ignores limits: it does not limit the container's memory. Use another one, such as one "
        "that does not run rootless, or set AGENTRUN_ACCEPT_WEAK_ENGINE=true to go on without that protection."
    )


def _mount_problem(spec: ContainerSpec, greeting: SupervisorReady) -> str | None:
    """Return an error message if the engine has mounted other folders than those of *spec*, as the container's
    *greeting* reports them: the path of one may have been replaced at the last moment. Device and inode can only be
    compared if container and server share a kernel.
    """
    if greeting.boot != Owner.current().boot:
        return None
    wrong = [target for target, folder in spec.data.items() if greeting.data.get(target) != folder.identity]
    return f"The container engine has mounted another folder than that of `data` at {wrong[0]!a}." if wrong else None


class _Attempt:
    """One start of a container, and its life thereafter."""

    def __init__(self) -> None:
        self._settled = anyio.Event()
        self._error: AgentRunError | None = None
        self._link: Link | None = None

    @property
    def link(self) -> Link | None:
        """The link to the container while it is alive."""
        return self._link if self._link is not None and self._link.is_alive else None

    @property
    def is_over(self) -> bool:
        """Whether the start failed or the container was lost."""
        return self._settled.is_set() and self.link is None

    def succeed(self, link: Link) -> None:
        self._link = link
        self._settled.set()

    def fail(self, error: AgentRunError) -> None:
        """Report *error* to those who wait, unless the start has succeeded or failed already."""
        if not self._settled.is_set():
            self._error = error
            self._settled.set()

    async def result(self) -> Link:
        await self._settled.wait()
        if self._error is not None:
            raise copy.copy(self._error) from self._error
        assert self._link is not None
        return self._link


@asynccontextmanager
async def _container(engine: Engine, spec: ContainerSpec) -> AsyncGenerator[ByteStream]:
    """Run a container and yield its stream. The container is destroyed at the end."""
    container = await engine.allocate(spec)
    try:
        stream = await engine.open_stream(container)
        try:
            yield stream
        finally:
            with anyio.CancelScope(shield=True):
                await stream.aclose()  # before any other request to the engine: an unread attach stalls it
    finally:
        with anyio.CancelScope(shield=True):
            try:
                await engine.destroy(container)
            except UnavailableError as error:
                logger.warning("a container may be left: %s", error)
