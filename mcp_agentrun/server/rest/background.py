"""Runs that go on when the client has gone."""

from __future__ import annotations

from datetime import datetime
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, Field

from ...sessions import BackgroundRun, RunStatus, SessionManager
from .context import CallerOf, Sessions, opened, while_connected
from .models import RunAnswer, RunRequest
from .problems import BACKGROUND_API, Problem, problem_of, problems

__all__ = ["router"]

_LONGEST_WAIT = 60
"""Seconds. Clients and proxies give up on a request without an answer."""

_PART_BYTES = 1 << 20

router = APIRouter(prefix=BACKGROUND_API, tags=["Background runs"])


class BackgroundRequest(RunRequest):
    """Code to run in the background."""

    sandbox: str = Field(description="Id of your sandbox.")


class BackgroundAnswer(BaseModel):
    """A run in the background."""

    id: str
    sandbox: str = Field(description="Id of its sandbox.")
    status: RunStatus = Field(description="`queued` while other calls use the sandbox, or it starts.")
    created: datetime
    started: datetime | None = Field(description="When its code began to run.")
    ended: datetime | None
    output_size: int = Field(description="Bytes of output so far.")
    result: RunAnswer | None = Field(description="How it ended, as the answer to a run that was waited for.")
    problem: Problem | None = Field(description="Why it has ended without a result.")

    @classmethod
    def of(cls, run: BackgroundRun, sessions: SessionManager) -> BackgroundAnswer:
        """Return the answer about *run*."""
        return cls(
            id=run.id,
            sandbox=run.handle or "",
            status=run.status,
            created=run.created_at,
            started=run.started_at,
            ended=run.ended_at,
            output_size=run.written,
            result=None if run.result is None else RunAnswer.of(run.result),
            problem=None if run.error is None else problem_of(run.error),
        )


class OutputPart(BaseModel):
    """A part of the output of a run."""

    status: RunStatus = Field(description="Of the run. More output may follow unless it is `done`.")
    output_size: int = Field(description="Bytes of output so far.")
    offset: int = Field(description="Where the text begins, in bytes: later than requested if what was there is gone.")
    next_offset: int = Field(description="Where the text ends: the offset of the next request.")
    text: str


@router.post(
    "",
    status_code=202,
    responses={
        **problems(400, 404, 422, 429, 503),
        202: {
            "description": "The run has been accepted",
            "headers": {"Location": {"description": "Path of the run", "schema": {"type": "string"}}},
        },
    },
)
async def start(body: BackgroundRequest, response: Response, sessions: Sessions, caller: CallerOf) -> BackgroundAnswer:
    """Run code in the background. It goes on when you disconnect, and ends at its timeout, when you cancel it, when its
    sandbox is deleted, or with the server. Its id is a secret.
    """
    with opened(sessions, caller, body.sandbox):
        run = await sessions.runs.start(caller, body.sandbox, body.code, timeout=body.timeout)
    response.headers["Location"] = f"{BACKGROUND_API}/{run.id}"
    return BackgroundAnswer.of(run, sessions)


@router.get("/{run}", responses=problems(404, 422))
async def look(
    run: str,
    request: Request,
    sessions: Sessions,
    caller: CallerOf,
    wait: Annotated[float, Query(ge=0, le=_LONGEST_WAIT, description="Seconds to wait for its end.")] = 0,
) -> BackgroundAnswer:
    """Look at a run, or wait for its end. It is forgotten some time after that, or earlier for later ones."""
    found = sessions.runs.get(caller.principal, run)
    if wait:
        await while_connected(request, partial(found.wait, wait))
    return BackgroundAnswer.of(found, sessions)


@router.get("/{run}/output", responses=problems(404, 422))
async def output(
    run: str,
    sessions: Sessions,
    caller: CallerOf,
    offset: Annotated[int, Query(ge=0, description="Bytes that you have already.")] = 0,
) -> OutputPart:
    """Read what a run has printed so far, at most 1 MiB at once. Of long output, the beginning and the end are kept."""
    found = sessions.runs.get(caller.principal, run)
    begin, text, end = found.output.since(offset, _PART_BYTES, is_complete=found.status == "done")
    return OutputPart(status=found.status, output_size=found.written, offset=begin, next_offset=end, text=text)


@router.post("/{run}/cancel", responses=problems(404, 422, 503))
async def cancel(run: str, sessions: Sessions, caller: CallerOf) -> BackgroundAnswer:
    """Interrupt a run, and wait until it has ended. Variables stay. A run that has ended stays as it is."""
    found = sessions.runs.get(caller.principal, run)
    await found.cancel()
    return BackgroundAnswer.of(found, sessions)


@router.delete("/{run}", status_code=204, responses=problems(404, 422))
async def delete(run: str, sessions: Sessions, caller: CallerOf) -> None:
    """Forget a run. It is cancelled first, unless it has ended."""
    await sessions.runs.remove(sessions.runs.get(caller.principal, run))
