"""Clients that send or read too slowly: their connections end, so that they hold nothing for long."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import cast

import anyio
from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

__all__ = ["TimelyProtocol", "with_timely_bodies"]

SILENT_SECONDS = 60.0
"""Longest time in which the client may send nothing of a body that the server waits for."""

IDLE_SECONDS = 30.0
"""Longest time for the header of a request, and between two: longer than clients keep idle connections, or one could
send a call into a connection that is being closed. A client may read nothing of an answer for up to twice as long."""

SLOWEST = 1024
"""Bytes per second that a client must send or read on average."""


@dataclass(frozen=True)
class _State:
    """Where a connection is."""

    cycle: RequestResponseCycle | None
    """The latest request."""
    is_in_progress: bool
    is_paused: bool
    """Whether the server waits for the client to read."""
    resumed: int
    """How often the client has read enough for the server to go on."""
    unread: int
    """Bytes that the client has not read."""


class TimelyProtocol(H11Protocol):
    """Ends connections whose clients do not finish a header, or do not read an answer."""

    _timer: asyncio.TimerHandle | None = None
    _resumed = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        super().connection_made(transport)
        self._check_later(self._state())

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        super().connection_lost(exc)

    def resume_writing(self) -> None:
        self._resumed += 1
        super().resume_writing()

    def _state(self) -> _State:
        cycle = cast("RequestResponseCycle | None", self.cycle)
        is_in_progress = cycle is not None and not cycle.response_complete and not self.transport.is_closing()
        unread = self.transport.get_write_buffer_size()
        return _State(cycle, is_in_progress, self.flow.write_paused, self._resumed, unread)

    def _check_later(self, before: _State) -> None:
        self._timer = self.loop.call_later(IDLE_SECONDS, self._check, before)

    def _check(self, before: _State) -> None:
        """End the connection if nothing has happened since it was in the state *before*."""
        now = self._state()
        is_reading = before.unread - now.unread >= SLOWEST * IDLE_SECONDS
        was_idle = not before.is_in_progress and not now.is_in_progress
        was_paused = before.is_paused and now.is_paused and before.resumed == now.resumed
        if now.cycle is before.cycle and not is_reading and (was_idle or was_paused):
            self.transport.abort()  # closing it would wait for the client to read
        else:
            self._check_later(now)


def with_timely_bodies(app: ASGIApp) -> ASGIApp:
    """Wrap *app* so that a request whose body arrives too slowly is answered with 408."""

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        request = _Request(receive, send)
        try:
            await app(scope, request.receive, request.send)
        except HTTPException as error:
            if error is not request.error or request.is_answered:
                raise
            await PlainTextResponse(error.detail, error.status_code, error.headers)(scope, receive, send)

    return wrapped


class _Request:
    """A request whose body is timed, as far as the server waits for it."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self._is_received = False
        self._waited = 0.0
        self._size = 0
        self.is_answered = False
        self.error: HTTPException | None = None
        """Why its body is not received."""

    async def send(self, message: Message) -> None:
        self.is_answered = True
        await self._send(message)

    async def receive(self) -> Message:
        """Return the next part of the body.

        :raises HTTPException: it is too late.
        """
        if self._is_received:
            return await self._receive()
        began = anyio.current_time()
        left = SILENT_SECONDS + self._size / SLOWEST - self._waited
        with anyio.move_on_after(min(SILENT_SECONDS, left)):
            message = await self._receive()
            self._waited += anyio.current_time() - began
            self._size += len(message.get("body", b""))
            self._is_received = not message.get("more_body", False)
            return message
        if self.is_answered:
            return {"type": "http.disconnect"}
        self.error = HTTPException(408, "The body was sent too slowly.", {"Connection": "close"})
        raise self.error
