"""A running container and its framed stream, restarted when lost."""

from __future__ import annotations

import contextlib
import copy
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import cached_property
from typing import TypeVar

import anyio
from anyio.abc import ByteStream, TaskGroup
from anyio.streams.memory import MemoryObjectSendStream
from packaging.utils import canonicalize_name

from ..errors import AgentRunError, EngineError, SandboxLostError, UnavailableError
from ..wire.codec import ProtocolError
from ..wire.messages import (
    FileList,
    Message,
    MessageDecoder,
    Ping,
    Pong,
    SupervisorReady,
    encode,
)
from . import ContainerSpec, Engine, Report
from .owner import Owner

__all__ = ["Keeper", "Link"]

logger = logging.getLogger(__name__)

PING_SECONDS = 15.0
SILENCE_SECONDS = 60.0
"""A container that sends nothing for this long, although it is pinged, is considered dead."""

ANSWERED_AT_ONCE = (FileList,)
"""Answers that may arrive in the middle of a run."""

_START_SECONDS = 30.0
_SEND_SECONDS = 30.0
_BUFFERED = 64

MessageT = TypeVar("MessageT", bound=Message)


class Link:
    """The stream of messages to one container. Any break of it is final: one cut in the middle can't be resumed."""

    def __init__(self, stream: ByteStream) -> None:
        self._stream = stream
        self._sending = anyio.Lock(fast_acquire=True)
        self._put, self._messages = anyio.create_memory_object_stream[Message](_BUFFERED)
        self._asking = anyio.Lock(fast_acquire=True)
        self._awaited: MemoryObjectSendStream[Message] | None = None
        self._last_received_at = 0.0
        self._broken = anyio.Event()
        self.reason = ""
        self.greeting = Message()
        """The container's first message."""

    @property
    def is_alive(self) -> bool:
        return not self._broken.is_set()

    @cached_property
    def distributions(self) -> dict[str, str]:
        """Version by canonical name of the distributions that the container says its image has."""
        found = self.greeting.distributions if isinstance(self.greeting, SupervisorReady) else ()
        return {canonicalize_name(name): version for name, version in found}

    def abandon(self, reason: str) -> None:
        """Declare the link broken: `receive` raises an error with this *reason*."""
        if self.is_alive:
            self.reason = reason
            self._broken.set()
            self._put.close()
            if self._awaited is not None:
                self._awaited.close()

    async def wait_broken(self) -> None:
        await self._broken.wait()

    def close(self) -> None:
        """Declare the link broken and release its buffer."""
        self.abandon("the sandbox has been closed")
        self._messages.close()

    async def send(self, message: Message) -> None:
        """Send *message*. If this is cancelled, nothing of it has been sent.

        :raises SandboxLostError: the link is broken.
        """
        frame = encode(message)
        try:
            # A frame that is cut in the middle ends the stream: once begun, it is sent whole.
            async with self._sending:
                with anyio.fail_after(_SEND_SECONDS, shield=True):
                    await self._stream.send(frame)
        except TimeoutError:
            self.abandon("the container does not read")
            raise SandboxLostError(self.reason) from None
        except (OSError, anyio.BrokenResourceError, anyio.ClosedResourceError):
            self.abandon("the stream to the container broke")
            raise SandboxLostError(self.reason) from None

    async def receive(self) -> Message:
        """The next message that answers something.

        :raises SandboxLostError: the link is broken.
        """
        try:
            try:
                return self._messages.receive_nowait()  # spares passes of the event loop
            except anyio.WouldBlock:
                return await self._messages.receive()
        except (anyio.EndOfStream, anyio.ClosedResourceError):
            raise SandboxLostError(self.reason) from None

    async def expect(self, expected: type[MessageT]) -> MessageT:
        """The next message, which must be of type *expected*.

        :raises SandboxLostError: the link is broken, or the container does not follow the protocol.
        """
        message = await self.receive()
        if not isinstance(message, expected):
            self.abandon(f"the container sent {type(message).__name__} instead of {expected.__name__}")
            raise SandboxLostError(self.reason)
        return message

    async def ask(self, question: Message, expected: type[MessageT]) -> MessageT:
        """The answer to *question*, of a type in `ANSWERED_AT_ONCE`. Shield it from cancellation: otherwise the next
        question would get the answer.

        :raises SandboxLostError: the link is broken, or the container does not follow the protocol.
        """
        async with self._asking:
            if not self.is_alive:
                raise SandboxLostError(self.reason)
            put, answers = anyio.create_memory_object_stream[Message](1)
            with put, answers:
                self._awaited = put
                try:
                    await self.send(question)
                    answer = await answers.receive()
                except anyio.EndOfStream:
                    raise SandboxLostError(self.reason) from None
                finally:
                    self._awaited = None
        if not isinstance(answer, expected):
            self.abandon(f"the container sent {type(answer).__name__} instead of {expected.__name__}")
            raise SandboxLostError(self.reason)
        return answer

    def _hand_over(self, answer: Message) -> None:
        if self._awaited is None:
            raise ProtocolError(f"unexpected {type(answer).__name__} message")
        self._awaited.send_nowait(answer)
        self._awaited = None

    async def pump(self) -> None:
        """Move messages from the stream to `receive`, until the link breaks."""
        decoder = MessageDecoder()
        try:
            while self.is_alive:
                decoder.feed(await self._stream.receive())
                self._last_received_at = anyio.current_time()
                for message in decoder:
                    if isinstance(message, ANSWERED_AT_ONCE):
                        self._hand_over(message)
                    elif not isinstance(message, Pong):
                        try:
                            self._put.send_nowait(message)
                        except anyio.WouldBlock:
                            await self._put.send(message)
                        self._last_received_at = anyio.current_time()
        except (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError, OSError):
            self.abandon("the container has ended")
        except ProtocolError as error:
            self.abandon(f"the container broke the protocol ({error})")

    async def ping(self) -> None:
        """Keep the container from taking this server for dead, and notice when the container is."""
        self._last_received_at = anyio.current_time()
        while self.is_alive:
            with contextlib.suppress(SandboxLostError):
                await self.send(Ping())
            await anyio.sleep(PING_SECONDS)
            waiting_for_us = self._put.statistics().current_buffer_used == _BUFFERED
            if not waiting_for_us and anyio.current_time() - self._last_received_at > SILENCE_SECONDS:
                self.abandon("the container does not answer")


class Keeper:
    """Starts a container when it is first asked for, and another when that one is lost.

    :param prepare: makes the image ready and says what to start; told whom to report progress to.
    :param hello: makes the first message, anew for each container.
    :param ready: type of the container's answer to it.
    :param afterwards: called behind each start, when the container is of use already.
    """

    def __init__(
        self,
        engine: Engine,
        tasks: TaskGroup,
        prepare: Callable[[Report], Awaitable[ContainerSpec]],
        hello: Callable[[], Awaitable[Message]],
        ready: type[Message],
        *,
        afterwards: Callable[[], Awaitable[object]] | None = None,
    ) -> None:
        self._engine = engine
        self._tasks = tasks
        self._prepare = prepare
        self._hello = hello
        self._ready = ready
        self._afterwards = afterwards
        self._attempt: _Attempt | None = None
        self.stage = "not started"
        """The current stage of the container's start, for progress messages."""
        self.starts = 0
        """How many containers have become ready so far."""

    @property
    def is_ready(self) -> bool:
        """Whether a container lives."""
        return self._attempt is not None and self._attempt.link is not None and self._attempt.link.is_alive

    def abandon(self, start: int, reason: str) -> None:
        """Mark the container of that *start* as lost, if it is still the current one."""
        if self.is_ready and self.starts == start and self._attempt is not None and self._attempt.link is not None:
            self._attempt.link.abandon(reason)

    def begin(self) -> None:
        """Begin to start the container, unless it lives or is being started."""
        if self._attempt is None or self._attempt.is_over:
            self._attempt = _Attempt()
            self._tasks.start_soon(self._keep, self._attempt)

    async def connected(self) -> Link:
        """The link to the living container, started first if need be. Cancelling the wait does not stop the start.

        :raises UnavailableError: it can't be started; the next call tries again.
        """
        self.begin()
        assert self._attempt is not None
        return await self._attempt.result()

    def tell(self, stage: str) -> None:
        """Have whoever waits told *stage*, which is still being done."""
        self.stage = stage

    def _report(self, stage: str) -> None:
        logger.info("%s", stage)
        self.stage = stage

    async def _keep(self, attempt: _Attempt) -> None:
        try:
            self._report("looking for the container engine")
            spec = await self._prepare(self._report)
            self._report("starting the container")
            hello = await self._hello()  # it may ask the engine, which an open attach would be in the way of
            async with _container(self._engine, spec) as stream, AsyncExitStack() as lifetime:
                problem: str | None = None
                link = lifetime.enter_context(contextlib.closing(Link(stream)))
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(link.pump)
                    problem = await self._greet(link, hello) or _misplaced(spec, link.greeting)
                    if problem is None:
                        tasks.start_soon(link.ping)
                        self.starts += 1
                        self._report("ready")
                        attempt.succeed(link)
                        tasks.start_soon(self._tidy)
                        await link.wait_broken()
                    tasks.cancel_scope.cancel()
                last_words = getattr(stream, "diagnostics", "").strip()
                logger.info("container ended: %s; %s", link.reason, last_words)
                if problem is not None:
                    attempt.fail(EngineError(" ".join(filter(None, (problem, last_words, "Call again.")))))
        except AgentRunError as error:
            attempt.fail(error)
        except Exception as error:  # a defect of ours must not end the server and its other sandboxes
            logger.exception("starting a container failed unexpectedly")
            attempt.fail(EngineError(f"The container could not be started ({type(error).__name__}). Call again."))
        finally:
            attempt.fail(UnavailableError("The sandbox has been closed."))
            attempt.ended.set()

    async def _tidy(self) -> None:
        if self._afterwards is not None:
            try:
                await self._afterwards()
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


def _misplaced(spec: ContainerSpec, greeting: Message) -> str | None:
    """What is wrong with the folders that the engine has mounted, as the container's *greeting* reports them: the path
    of one may have come to lead elsewhere just before. They can be compared where the kernel is this machine's.
    """
    if not isinstance(greeting, SupervisorReady) or greeting.boot != Owner.current().boot:
        return None
    wrong = [target for target, folder in spec.data.items() if greeting.data.get(target) != folder.identity]
    return f"The container engine has mounted another folder than that of `data` at {wrong[0]!a}." if wrong else None


class _Attempt:
    """One start of a container, and the container's life thereafter."""

    def __init__(self) -> None:
        self._settled = anyio.Event()
        self._error: AgentRunError | None = None
        self.link: Link | None = None
        self.ended = anyio.Event()

    @property
    def is_over(self) -> bool:
        return self.ended.is_set() or self._error is not None or (self.link is not None and not self.link.is_alive)

    def succeed(self, link: Link) -> None:
        self.link = link
        self._settled.set()

    def fail(self, error: AgentRunError) -> None:
        if not self._settled.is_set():
            self._error = error
            self._settled.set()

    async def result(self) -> Link:
        await self._settled.wait()
        if self._error is not None:
            raise copy.copy(self._error) from self._error
        assert self.link is not None
        return self.link


@asynccontextmanager
async def _container(engine: Engine, spec: ContainerSpec) -> AsyncGenerator[ByteStream]:
    """A running container of *spec* and its stream. However this ends, the container is gone afterwards."""
    container = await engine.allocate(spec)
    try:
        stream = await engine.open_stream(container)
        try:
            yield stream
        finally:
            with anyio.CancelScope(shield=True):
                await stream.aclose()  # before anything else is asked of the engine: an unread attach stalls it
    finally:
        with anyio.CancelScope(shield=True):
            try:
                await engine.destroy(container)
            except UnavailableError as error:
                logger.warning("a container may be left: %s", error)
