"""The stream of messages to one container."""

from __future__ import annotations

import contextlib
from functools import cached_property
from typing import NoReturn, TypeVar

import anyio
from anyio.abc import ByteStream
from anyio.streams.memory import MemoryObjectSendStream
from packaging.utils import canonicalize_name

from ..errors import InvalidRequestError, SandboxLostError
from ..wire.codec import ProtocolError, encode_frame
from ..wire.messages import (
    FileList,
    Message,
    MessageDecoder,
    Ping,
    Pong,
    SupervisorReady,
)

__all__ = ["Link"]

PING_SECONDS = 15.0
SILENCE_SECONDS = 60.0
"""A container that sends nothing for this long, although it is pinged, is considered dead."""

OUT_OF_BAND = (FileList,)
"""Types of answers that may arrive in the middle of a run. Only `request` receives them."""

_SEND_SECONDS = 30.0
_BUFFERED = 64

MessageT = TypeVar("MessageT", bound=Message)


class Link:
    """The stream of messages to one container. Once broken it stays broken: a frame that was cut can't be resumed."""

    def __init__(self, stream: ByteStream) -> None:
        self._stream = stream
        self._sending = anyio.Lock(fast_acquire=True)
        self._put, self._messages = anyio.create_memory_object_stream[Message](_BUFFERED)
        self._requesting = anyio.Lock(fast_acquire=True)
        self._awaited: MemoryObjectSendStream[Message] | None = None
        self._last_received_at = 0.0
        self._broken = anyio.Event()
        self._is_closed = False
        self.reason = ""
        self.greeting = Message()
        """The container's first message."""

    @property
    def is_alive(self) -> bool:
        return not self._broken.is_set()

    @cached_property
    def distributions(self) -> dict[str, str]:
        """Version by canonical name of the distributions in the image, as the container reported them."""
        found = self.greeting.distributions if isinstance(self.greeting, SupervisorReady) else ()
        return {canonicalize_name(name): version for name, version in found}

    def abandon(self, reason: str) -> None:
        """Declare the link broken. The errors that its methods raise from then on have this *reason*."""
        if self.is_alive:
            self.reason = reason
            self._broken.set()
            self._put.close()
            if self._awaited is not None:
                self._awaited.close()

    def fail(self, reason: str) -> NoReturn:
        """Declare the link broken.

        :raises SandboxLostError: always.
        """
        self.abandon(reason)
        raise self.lost() from None

    def lost(self) -> SandboxLostError:
        """Return the error that says why the link is broken."""
        return SandboxLostError(self.reason, is_closed=self._is_closed)

    async def wait_broken(self) -> None:
        """Wait until the link is broken."""
        await self._broken.wait()

    def close(self) -> None:
        """Declare the link broken and release its buffer."""
        self._is_closed = self.is_alive
        self.abandon("the sandbox has been closed")
        self._messages.close()

    async def send(self, message: Message) -> None:
        """Send *message*. If this is cancelled, nothing of it has been sent.

        :raises InvalidRequestError: the container would not accept it, which would cost the session.
        :raises SandboxLostError: the link is broken.
        """
        try:
            payload = message.payload()
            type(message).from_payload(payload)
            frame = encode_frame(message.kind, payload)
        except (ProtocolError, TypeError) as error:
            raise InvalidRequestError(f"An argument of the call can't be accepted: {error}.") from None
        try:
            # A frame that is cut in the middle ends the stream: once begun, it is sent whole.
            async with self._sending:
                with anyio.fail_after(_SEND_SECONDS, shield=True):
                    await self._stream.send(frame)
        except TimeoutError:
            self.fail("the container does not read")
        except (OSError, anyio.BrokenResourceError, anyio.ClosedResourceError):
            self.fail("the stream to the container broke")

    async def receive(self) -> Message:
        """Return the next message. Pongs, and answers to `request`, are not among them.

        :raises SandboxLostError: the link is broken.
        """
        try:
            try:
                return self._messages.receive_nowait()  # spares passes of the event loop
            except anyio.WouldBlock:
                return await self._messages.receive()
        except (anyio.EndOfStream, anyio.ClosedResourceError):
            raise self.lost() from None

    async def expect(self, expected: type[MessageT]) -> MessageT:
        """Return the next message, which must be of type *expected*.

        :raises SandboxLostError: the link is broken, or the container does not follow the protocol.
        """
        return self._require(await self.receive(), expected)

    async def request(self, message: Message, expected: type[MessageT]) -> MessageT:
        """Send *message* and return the answer, of a type in `OUT_OF_BAND`. Shield the call from cancellation:
        otherwise the next request would get the answer.

        :raises SandboxLostError: the link is broken, or the container does not follow the protocol.
        """
        async with self._requesting:
            if not self.is_alive:
                raise self.lost()
            put, answers = anyio.create_memory_object_stream[Message](1)
            with put, answers:
                self._awaited = put
                try:
                    await self.send(message)
                    answer = await answers.receive()
                except anyio.EndOfStream:
                    raise self.lost() from None
                finally:
                    self._awaited = None
        return self._require(answer, expected)

    def _require(self, message: Message, expected: type[MessageT]) -> MessageT:
        if not isinstance(message, expected):
            self.fail(f"the container sent {type(message).__name__} instead of {expected.__name__}")
        return message

    def _deliver(self, answer: Message) -> None:
        if self._awaited is None:
            raise ProtocolError(f"unexpected {type(answer).__name__} message")
        self._awaited.send_nowait(answer)
        self._awaited = None

    async def pump(self) -> None:
        """Move messages from the stream to `receive` and `request`, until the link breaks."""
        decoder = MessageDecoder()
        try:
            while self.is_alive:
                decoder.feed(await self._stream.receive())
                self._last_received_at = anyio.current_time()
                for message in decoder:
                    if isinstance(message, OUT_OF_BAND):
                        self._deliver(message)
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
        """Ping the container, which ends itself without pings, and declare the link broken if it is silent."""
        self._last_received_at = anyio.current_time()
        while self.is_alive:
            with contextlib.suppress(SandboxLostError):
                await self.send(Ping())
            await anyio.sleep(PING_SECONDS)
            is_full = self._put.statistics().current_buffer_used == _BUFFERED  # so that nothing more is read
            if not is_full and anyio.current_time() - self._last_received_at > SILENCE_SECONDS:
                self.abandon("the container does not answer")
