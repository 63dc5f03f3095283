"""What routes get with a request: the sessions, who calls, and whether the client is still there."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from typing import Annotated, TypeVar

from fastapi import Depends, Request
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from ...background import background_tasks
from ...errors import AgentRunError, InvalidRequestError
from ...sandbox import OpenSandbox
from ...sessions import Caller, SessionManager
from ..principals import principal_of

__all__ = ["CallerOf", "Sessions", "StreamedResponse", "named", "opened", "while_connected"]

logger = logging.getLogger(__name__)

T = TypeVar("T")


async def _sessions(request: Request) -> SessionManager:
    return request.app.state.sessions


async def _caller(request: Request) -> Caller:
    return Caller(None, principal_of(request.scope))


Sessions = Annotated[SessionManager, Depends(_sessions)]
"""The sandboxes of the server, as a parameter of a route."""

CallerOf = Annotated[Caller, Depends(_caller)]
"""Who sent the request, as a parameter of a route. It has no sandbox of its own, only ones with a handle."""


def named(caller: Caller) -> Caller:
    """Return *caller*, of whom the server knows what is theirs.

    :raises HTTPException: the server requires no authentication.
    """
    if not caller.principal:
        raise HTTPException(403, "What is yours is listed only where the server requires authentication.")
    return caller


async def while_connected(request: Request, work: Callable[[], Awaitable[T]]) -> T:
    """Return the result of *work*, which is cancelled if the client disconnects. The body must have been read.

    :raises ClientDisconnect: it has.
    """
    async with background_tasks() as tasks:

        async def watch() -> None:
            while (await request.receive())["type"] != "http.disconnect":
                pass
            tasks.cancel_scope.cancel()

        tasks.start_soon(watch)
        return await work()
    raise ClientDisconnect


@contextmanager
def opened(sessions: SessionManager, caller: Caller, sandbox: str) -> Generator[OpenSandbox]:
    """Yield the sandbox of *caller* with that id, and keep it from expiring.

    :raises InvalidRequestError: there is none.
    """
    with sessions.reading(caller, sandbox) as found:
        if found is None:
            raise InvalidRequestError("no sandbox has that id", argument="sandbox")
        yield found


class StreamedResponse(Response):
    """A response whose body *write* sends in parts. It is cancelled if the client disconnects.

    Its errors end the response early: the client learns from the connection that the body is not complete.
    """

    def __init__(
        self,
        write: Callable[[Callable[[bytes], Awaitable[None]]], Awaitable[None]],
        status: int = 200,
        headers: dict[str, str] | None = None,
        *,
        media_type: str,
    ) -> None:
        super().__init__(None, status, headers, media_type)
        if "Content-Length" not in (headers or {}):
            del self.headers["Content-Length"]
        self._write = write

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def write(part: bytes) -> None:
            await send({"type": "http.response.body", "body": part, "more_body": True})

        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        try:
            await while_connected(Request(scope, receive), lambda: self._write(write))
        except (AgentRunError, ClientDisconnect) as error:
            logger.info("a response was not completed: %s", error)
        else:
            await send({"type": "http.response.body", "body": b""})
