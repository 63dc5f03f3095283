"""Concurrent requests to an installer over one stream."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Generator
from contextlib import contextmanager
from typing import NoReturn, TypeVar

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from ..engine.link import Link
from ..errors import SandboxLostError
from ..wire import messages
from ..wire.codec import ProtocolError
from .pins import PinError, validated

__all__ = ["Request", "RequestMultiplexer"]

logger = logging.getLogger(__name__)

_UNREAD = 64
_AnswerT = TypeVar("_AnswerT", bound=messages.InstallerMessage)


class Request:
    """A request, from its first message to its last answer. See `RequestMultiplexer.request`."""

    def __init__(self, link: Link, number: int, answers: MemoryObjectReceiveStream[messages.InstallerMessage]) -> None:
        self._link = link
        self._answers = answers
        self.number = number

    async def send(self, message: messages.InstallerMessage) -> None:
        """:raises SandboxLostError: the installer is lost."""
        await self._link.send(message)

    async def receive(self) -> messages.InstallerMessage:
        """Return the next answer.

        :raises SandboxLostError: the installer is lost.
        """
        try:
            return await self._answers.receive()
        except anyio.EndOfStream:
            raise SandboxLostError(self._link.reason) from None

    async def expect(self, expected: type[_AnswerT], *, within: float) -> _AnswerT:
        """Return the next answer, which must be of type *expected*. A cancelled call still waits for it, so that it is
        not taken for an answer to another request.

        :param within: time limit in seconds.
        :raises SandboxLostError: the installer is lost, or does not follow the protocol.
        """
        answer: messages.InstallerMessage | None = None
        with anyio.CancelScope(shield=True), anyio.move_on_after(within):
            answer = await self.receive()
        if answer is None:
            self.fail(f"it sent no {expected.__name__} in {within:g} s")
        if not isinstance(answer, expected):
            self.fail(f"it sent {type(answer).__name__} instead of {expected.__name__}")
        return answer

    def fail(self, reason: str) -> NoReturn:
        """Declare the installer lost.

        :raises SandboxLostError: always.
        """
        self.abandon(reason)
        raise SandboxLostError(reason)

    def abandon(self, reason: str) -> None:
        """Declare the installer lost."""
        self._link.abandon(reason)


class RequestMultiplexer:
    """Assigns the answers of one installer to numbered requests. An answer without a request means that it is lost."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self._numbers = itertools.count(1)
        self._open: dict[int, MemoryObjectSendStream[messages.InstallerMessage]] = {}

    @contextmanager
    def request(self) -> Generator[Request]:
        """Begin a request. Its last answer must be received before the context ends.

        :raises SandboxLostError: the installer is lost.
        """
        if not self.link.is_alive:  # `serve` has ended
            raise SandboxLostError(self.link.reason)
        number = next(self._numbers)
        put, answers = anyio.create_memory_object_stream[messages.InstallerMessage](_UNREAD)
        self._open[number] = put
        try:
            yield Request(self.link, number, answers)
        finally:
            del self._open[number]
            put.close()
            answers.close()

    async def serve(self) -> None:
        """Pass answers to their requests, until the installer is lost."""
        try:
            while True:
                answer = await self.link.receive()
                if not isinstance(answer, messages.InstallerMessage) or answer.request not in self._open:
                    raise ProtocolError(f"unexpected {type(answer).__name__} message")
                _check_pins(answer)
                try:
                    self._open[answer.request].send_nowait(answer)
                except anyio.WouldBlock:
                    raise ProtocolError("more answers than are read") from None
        except SandboxLostError:
            pass
        except ProtocolError as error:
            self.link.abandon(f"the installer broke the protocol: {error}")
        except Exception as error:  # a defect here must not end the server
            logger.exception("an installer's answers could not be read")
            self.link.abandon(f"its answers could not be read ({type(error).__name__})")
        finally:
            for put in self._open.values():
                put.close()


def _check_pins(answer: messages.InstallerMessage) -> None:
    """Check that names and versions in *answer* are in canonical form.

    :raises ProtocolError: they are not.
    """
    if isinstance(answer, messages.Resolved):
        found = [answer.pins]
    elif isinstance(answer, messages.InstallDone):
        found = [dict(answer.packages), dict(answer.satisfied)]
    else:
        return
    try:
        is_canonical = all(validated(pins) == pins for pins in found)
    except PinError:
        is_canonical = False
    if not is_canonical:
        raise ProtocolError("a name or version is not in canonical form")
