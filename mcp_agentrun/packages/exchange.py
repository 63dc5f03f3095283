"""Numbered requests to one installer, several at a time over its one stream."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, NoReturn, TypeVar

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from ..engine.link import Link
from ..errors import SandboxLostError
from ..wire.codec import FrameError, Kind
from .answers import Answer, parse_answer

__all__ = ["Exchange", "Request"]

logger = logging.getLogger(__name__)

_UNREAD = 64
_A = TypeVar("_A", bound=Answer)


class Request:
    """One request, from its first frame to its last answer. See `Exchange.request`."""

    def __init__(self, link: Link, number: int, answers: MemoryObjectReceiveStream[Answer]) -> None:
        self._link = link
        self._number = number
        self._answers = answers

    async def send(self, kind: Kind, **fields: Any) -> None:
        """:raises SandboxLostError: the installer is lost."""
        await self._link.send(kind, request=self._number, **fields)

    async def receive(self) -> Answer:
        """The next answer.

        :raises SandboxLostError: the installer is lost.
        """
        try:
            return await self._answers.receive()
        except anyio.EndOfStream:
            raise SandboxLostError(self._link.reason) from None

    async def expect(self, kind: type[_A], *, within: float) -> _A:
        """The next answer, which must be of that *kind*. It is received even where nobody waits for it any more, since
        it must find its request.

        :param within: seconds in which it must come.
        :raises SandboxLostError: the installer is lost, or does not follow the protocol.
        """
        answer: Answer | None = None
        with anyio.CancelScope(shield=True), anyio.move_on_after(within):
            answer = await self.receive()
        if answer is None:
            self.fail(f"it sent no {kind.__name__} in {within:g} s")
        if not isinstance(answer, kind):
            self.fail(f"it sent {type(answer).__name__} in place of {kind.__name__}")
        return answer

    def fail(self, reason: str) -> NoReturn:
        """Take the installer for lost.

        :raises SandboxLostError: always.
        """
        self.abandon(reason)
        raise SandboxLostError(reason)

    def abandon(self, reason: str) -> None:
        """Take the installer for lost."""
        self._link.abandon(reason)


class Exchange:
    """The stream to one installer. An answer that belongs to no open request means that the installer is lost."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self._numbers = itertools.count(1)
        self._open: dict[int, MemoryObjectSendStream[Answer]] = {}

    @contextmanager
    def request(self) -> Generator[Request]:
        """A new request. It ends with the block, in which its last answer must have been received.

        :raises SandboxLostError: the installer is lost.
        """
        if not self.link.is_alive:  # nothing hands out answers any more
            raise SandboxLostError(self.link.reason)
        number = next(self._numbers)
        put, answers = anyio.create_memory_object_stream[Answer](_UNREAD)
        self._open[number] = put
        try:
            yield Request(self.link, number, answers)
        finally:
            del self._open[number]
            put.close()
            answers.close()

    async def serve(self) -> None:
        """Hand answers to their requests, until the installer is lost."""
        try:
            while True:
                answer = parse_answer(await self.link.receive())
                if answer.request not in self._open:
                    raise FrameError("an answer to no request")
                try:
                    self._open[answer.request].send_nowait(answer)
                except anyio.WouldBlock:
                    raise FrameError("more answers than are read") from None
        except SandboxLostError:
            pass
        except FrameError as error:
            self.link.abandon(f"the installer broke the protocol: {error}")
        except Exception as error:  # a defect here must not end the server
            logger.exception("an installer's answers could not be read")
            self.link.abandon(f"its answers could not be read ({type(error).__name__})")
        finally:
            for put in self._open.values():
                put.close()
