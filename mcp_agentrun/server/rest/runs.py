"""Runs of code, answered whole or as they go on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

import anyio
from fastapi import APIRouter, Request
from pydantic import BaseModel
from starlette.responses import Response

from ...background import background_tasks
from ...errors import AgentRunError
from ...sandbox import OpenSandbox
from ...sessions import Caller, SessionManager
from .context import CallerOf, Sessions, StreamedResponse, opened, while_connected
from .models import FileAnswer, ImageAnswer, OutputEvent, RunAnswer, RunRequest, RunSummary
from .problems import OWN_API, problem_of, problems

__all__ = ["router"]

KEEP_ALIVE_SECONDS = 15.0
"""Time between two signs of life in a stream of events."""

_EVENTS = "text/event-stream"

router = APIRouter(prefix=f"{OWN_API}/{{sandbox}}/runs", tags=["Runs"])


@router.post(
    "",
    response_model=RunAnswer,
    responses={
        **problems(400, 404, 422, 503),
        200: {
            "description": "The result; or with `Accept: text/event-stream` the events `output`, `image`, `file`, and "
            "at the end `result` or `problem`, whose data are JSON",
            "content": {_EVENTS: {"schema": {"type": "string"}}},
        },
    },
)
async def run(
    sandbox: str, body: RunRequest, request: Request, sessions: Sessions, caller: CallerOf
) -> RunAnswer | Response:
    """Run code. An error of the code is a result. The code is interrupted if the client disconnects."""
    with opened(sessions, caller, sandbox) as found:
        if _EVENTS in request.headers.get("accept", ""):
            events = _Events(sessions, caller, sandbox, body)
            return StreamedResponse(events.write, headers={"Cache-Control": "no-store"}, media_type=_EVENTS)
        result = await while_connected(request, partial(found.run, body.code, timeout=body.timeout))
        return RunAnswer.of(result)


class _Events:
    """The events of one run, as server-sent events."""

    def __init__(self, sessions: SessionManager, caller: Caller, sandbox: str, body: RunRequest) -> None:
        self._sessions = sessions
        self._caller = caller
        self._sandbox = sandbox
        self._body = body

    async def write(self, send: Callable[[bytes], Awaitable[None]]) -> None:
        async def keep_alive() -> None:
            while True:
                await send(b": running\n\n")
                await anyio.sleep(KEEP_ALIVE_SECONDS)

        async def event(name: str, data: BaseModel) -> None:
            # JSON has no line breaks outside of strings, where they are escaped.
            await send(f"event: {name}\ndata: {data.model_dump_json(exclude_none=name == 'problem')}\n\n".encode())

        async with background_tasks() as tasks:
            tasks.start_soon(keep_alive)
            try:
                with opened(self._sessions, self._caller, self._sandbox) as found:
                    await self._run(found, event)
            except AgentRunError as error:
                await event("problem", problem_of(error))

    async def _run(self, sandbox: OpenSandbox, event: Callable[[str, BaseModel], Awaitable[None]]) -> None:
        async def on_output(text: str) -> None:
            await event("output", OutputEvent(text=text))

        result = await sandbox.run(self._body.code, timeout=self._body.timeout, on_output=on_output, stream=True)
        for image in result.images:
            await event("image", ImageAnswer.of(image))
        for file in result.files:
            await event("file", FileAnswer.of(file))
        await event("result", RunSummary.of(result))
