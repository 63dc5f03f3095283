"""AgentRun's API: run code, each call in a sandbox that is as new."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field

from ...compat import PROGRAM, output_text
from ...errors import InvalidRequestError
from .context import CallerOf, Sessions, while_connected
from .problems import API, problems

__all__ = ["router"]


class CodeSchema(BaseModel):
    """Code to run."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"code": "print('hello, world!')"}]})

    code: str = Field(description="Python code. Packages that it imports are installed.")


class OutputSchema(BaseModel):
    """What the code has printed."""

    output: str = Field(description="Output, with the traceback of an error; or why the code was not run or ended.")


class HealthSchema(BaseModel):
    """State of the server."""

    status: str


router = APIRouter(prefix=API, tags=["AgentRun"])


@router.post("/run/", responses=problems(400, 429, 503))
async def run_code(body: CodeSchema, request: Request, sessions: Sessions, caller: CallerOf) -> OutputSchema:
    """Run code as a program, and return its output. Nothing is kept for the next call."""

    async def work() -> OutputSchema:
        async with sessions.fresh(caller.principal) as sandbox:
            return OutputSchema(output=output_text(await sandbox.run(body.code, script=PROGRAM)))

    try:
        return await while_connected(request, work)
    except InvalidRequestError as error:
        invalid = {"type": "value_error", "loc": ("body", "code"), "msg": str(error)}
        raise RequestValidationError([invalid]) from None


@router.get("/health/")
async def health() -> HealthSchema:
    """Say that the server is running."""
    return HealthSchema(status="ok")
