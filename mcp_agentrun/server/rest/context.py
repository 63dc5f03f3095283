"""What routes get with a request: the sessions, who calls, and whether the client is still there."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, TypeVar

from fastapi import Depends, Request
from starlette.requests import ClientDisconnect

from ...background import background_tasks
from ...sessions import Caller, SessionManager
from ..principals import principal_of

__all__ = ["CallerOf", "Sessions", "while_connected"]

T = TypeVar("T")


async def _sessions(request: Request) -> SessionManager:
    return request.app.state.sessions


async def _caller(request: Request) -> Caller:
    return Caller(None, principal_of(request.scope))


Sessions = Annotated[SessionManager, Depends(_sessions)]
"""The sandboxes of the server, as a parameter of a route."""

CallerOf = Annotated[Caller, Depends(_caller)]
"""Who sent the request, as a parameter of a route. It has no sandbox of its own, only ones with a handle."""


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
