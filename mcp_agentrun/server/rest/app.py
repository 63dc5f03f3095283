"""The application for plain HTTP, with its documentation."""

from __future__ import annotations

from importlib.metadata import version

from fastapi import Depends, FastAPI
from fastapi.responses import RedirectResponse
from fastapi.security import HTTPBearer
from fastapi_offline import FastAPIOffline

from ...audit import Interface
from ...sessions import SessionManager
from . import agentrun, background, files, runs, sandboxes
from .problems import API, BACKGROUND_API, IN_FRONT, OWN_API, Problem, add_handlers

__all__ = ["build_rest", "interface_of", "is_documentation", "is_rest"]

_DOCS, _OPENAPI = "/docs", "/openapi.json"


def is_documentation(path: str) -> bool:
    """Return whether everyone may read what is at *path*."""
    return path in ("/", _DOCS, _OPENAPI) or path.startswith(f"{_DOCS}/")


def is_rest(path: str) -> bool:
    """Return whether *path* belongs to this application."""
    return path.startswith(f"{API}/") or is_documentation(path)


def interface_of(path: str) -> Interface | None:
    """Return the interface that *path* belongs to, or None if it is one of the server's own, such as metrics."""
    if path.startswith((OWN_API, BACKGROUND_API)):
        return "rest"
    if is_rest(path):
        return "agentrun"
    return "mcp" if path.startswith(("/mcp", "/sse", "/messages")) else None


def build_rest(sessions: SessionManager) -> FastAPI:
    """Return the application for *sessions*, without authentication, limits, and the check of Host and Origin."""
    app = FastAPIOffline(
        title="mcp-agentrun",
        summary="Run Python code in private sandboxes.",
        version=version("mcp-agentrun"),
        docs_url=_DOCS,
        openapi_url=_OPENAPI,
        redoc_url=None,
        static_url=f"{_DOCS}/assets",
        # Otherwise the page sends the document's address to a service on the internet.
        swagger_ui_parameters={"validatorUrl": None},
        # Its spans would have the handles of sandboxes, which are in paths; `server.tracing` makes those of requests.
        telemetry={"tracing": False, "logs": False},
        responses=IN_FRONT,
        dependencies=[Depends(HTTPBearer(auto_error=False))] if sessions.settings.serve.auth else [],
    )
    app.state.sessions = sessions
    for router in (agentrun.router, sandboxes.router, runs.router, background.router, files.router):
        app.include_router(router)
    app.add_api_route("/", _to_documentation, include_in_schema=False)
    add_handlers(app)
    # Routes refer to it, but for its media type FastAPI would not know it.
    app.openapi()["components"]["schemas"]["Problem"] = Problem.model_json_schema()
    return app


async def _to_documentation() -> RedirectResponse:
    return RedirectResponse(_DOCS)
