"""Errors as problem details (RFC 9457)."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Any, cast

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.routing import Match

from ...errors import (
    AgentRunError,
    BusyError,
    CapacityError,
    FileError,
    FileReason,
    InstallError,
    InvalidRequestError,
    NotReadyError,
    SandboxLostError,
)
from ...spoofing import sanitize

__all__ = [
    "API",
    "BACKGROUND_API",
    "IN_FRONT",
    "OWN_API",
    "PROBLEM_TYPE",
    "Problem",
    "add_handlers",
    "in_front_problem",
    "problem_of",
    "problems",
    "status_of",
]

API = "/v1"
OWN_API, BACKGROUND_API = f"{API}/sandboxes", f"{API}/runs"
"""Malformed requests below these paths are problem details; elsewhere they are FastAPI's, as AgentRun's are."""

_TYPE = "urn:mcp-agentrun:problem:"
_RETRY_SECONDS = "5"

_FILE_STATUS: dict[FileReason, int] = {
    "missing": 404,
    "outside": 422,
    "name": 422,
    "full": 413,
    "memory": 413,
    "too_large": 413,
    "too_many": 413,
}


class Problem(BaseModel):
    """What went wrong, as RFC 9457 defines it."""

    type: str = Field(description="URN of the kind of problem, or `about:blank` if the status says all.")
    title: str = Field(description="The kind of problem in words.")
    status: int = Field(description="The status of the response.")
    detail: str = Field(description="What happened, and what to do.")
    errors: list[dict[str, Any]] | None = Field(default=None, description="Each invalid part of the request.")


_PROBLEM = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}


def _header(name: str, description: str) -> dict[str, Any]:
    return {"headers": {name: {"description": description, "schema": {"type": "string"}}}}


_RETRY = _header("Retry-After", "Seconds after which to try again")
_HEADERS = {401: _header("WWW-Authenticate", "How to authenticate"), 429: _RETRY, 503: _RETRY}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the documentation of error responses, for the ``responses`` of a route."""
    return {
        status: {"description": HTTPStatus(status).phrase, "content": _PROBLEM, **_HEADERS.get(status, {})}
        for status in statuses
    }


IN_FRONT = problems(401, 403, 408, 413, 421, 429)
"""Documentation of what is answered before a request reaches a route."""


def status_of(error: AgentRunError) -> int:
    """Return the status of the response that reports *error*."""
    match error:
        case InvalidRequestError(argument="sandbox" | "run"):
            return 404
        case InvalidRequestError() | InstallError():
            return 422
        case FileError(reason=reason):
            return _FILE_STATUS.get(reason, 409)
        case CapacityError(reason="quota"):
            return 429
        case _:
            return 503


def problem_of(error: AgentRunError) -> Problem:
    """Return the problem details of *error*."""
    match error:
        case InvalidRequestError(argument="sandbox"):
            kind, title, detail = "unknown-sandbox", "Unknown sandbox", "You have no sandbox with this id."
        case InvalidRequestError(argument="run"):
            kind, title, detail = "unknown-run", "Unknown run", str(error)
        case InvalidRequestError():
            kind, title, detail = "invalid-request", "Invalid request", str(error)
        case InstallError():
            kind, title, detail = "installation", "Packages could not be installed", str(error)
        case FileError(reason=reason):
            kind, title, detail = f"file-{reason.replace('_', '-')}", "The file can't be accessed", str(error)
        case CapacityError(reason="quota"):
            kind, title, detail = "capacity-quota", "Quota reached", str(error)
        case CapacityError(reason=reason):
            kind, title, detail = f"capacity-{reason}", "No sandbox available", str(error)
        case BusyError():
            kind, title, detail = "busy", "Too many calls are waiting", str(error)
        case NotReadyError():
            kind, title, detail = "not-ready", "The sandbox is still starting", str(error)
        case SandboxLostError():
            kind, title, detail = "sandbox-lost", "The sandbox was lost during the call", str(error)
        case _:
            kind, title, detail = "unavailable", "The service is unavailable", str(error)
    return Problem(type=_TYPE + kind, title=title, status=status_of(error), detail=sanitize(detail, lines=True))


def in_front_problem(status: int, reason: str, detail: str, headers: dict[str, str]) -> Response:
    """Return the answer to a request that is refused before it reaches a route."""
    return _answer(Problem(type=_TYPE + reason, title=HTTPStatus(status).phrase, status=status, detail=detail), headers)


def add_handlers(app: FastAPI) -> None:
    """Answer errors with problem details; on AgentRun's routes, malformed requests as FastAPI does."""

    async def on_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, AgentRunError)
        problem = problem_of(error)
        headers = {"Retry-After": _RETRY_SECONDS} if problem.status in (429, 503) else {}
        return _answer(problem, headers)

    async def on_http_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        title = HTTPStatus(error.status_code).phrase
        problem = Problem(type="about:blank", title=title, status=error.status_code, detail=error.detail)
        headers = dict(error.headers or {})
        if error.status_code == 405:
            headers["Allow"] = ", ".join(_methods(request))
        return _answer(problem, headers)

    async def on_invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        # Without the input, which may be large, or something that JSON can't express.
        found = [
            {key: each[key] for key in ("type", "loc", "msg")} for each in cast("list[dict[str, Any]]", error.errors())
        ]
        if not request.url.path.startswith((OWN_API, BACKGROUND_API)):
            return Response(dumps({"detail": found}), 422, media_type="application/json")
        detail = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in found)
        problem = Problem(
            type=f"{_TYPE}invalid-request", title="Invalid request", status=422, detail=detail, errors=found
        )
        return _answer(problem, {})

    async def on_disconnect(_request: Request, _error: Exception) -> Response:
        return Response(status_code=499)  # for the metrics: nobody receives it

    app.add_exception_handler(AgentRunError, on_error)
    app.add_exception_handler(HTTPException, on_http_error)
    app.add_exception_handler(RequestValidationError, on_invalid)
    app.add_exception_handler(ClientDisconnect, on_disconnect)


def _methods(request: Request) -> list[str]:
    """Return the methods of what the request is for: each of them has a route of its own."""
    return [
        method
        for method in ("DELETE", "GET", "HEAD", "POST", "PUT")
        if any(route.matches({**request.scope, "method": method})[0] is Match.FULL for route in request.app.routes)
    ]


def _answer(problem: Problem, headers: dict[str, str]) -> Response:
    return Response(dumps(problem.model_dump(exclude_none=True)), problem.status, headers, PROBLEM_TYPE)


PROBLEM_TYPE = "application/problem+json"


def dumps(value: object) -> str:
    """Return *value* as JSON in ASCII: it may have lone surrogates, which UTF-8 can't encode."""
    return json.dumps(value, ensure_ascii=True)
