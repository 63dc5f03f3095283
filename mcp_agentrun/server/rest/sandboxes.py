"""Sandboxes with an id: created, used by any number of requests, and deleted."""

from __future__ import annotations

from functools import partial

import anyio
from fastapi import APIRouter, Request
from starlette.exceptions import HTTPException

from ...errors import NotReadyError
from ...sessions import NEW, Caller, SessionManager
from .context import CallerOf, Sessions, opened, while_connected
from .models import CreateRequest, InstallAnswer, InstallRequest, ResetRequest, SandboxAnswer, SandboxList
from .problems import OWN_API, problems

__all__ = ["router"]

READY_SECONDS = 120.0
"""Longest time that a new sandbox may take to start, in seconds."""

router = APIRouter(prefix=OWN_API, tags=["Sandboxes"])


@router.post("", status_code=201, responses=problems(400, 422, 429, 503))
async def create(
    request: Request, sessions: Sessions, caller: CallerOf, body: CreateRequest | None = None
) -> SandboxAnswer:
    """Create a sandbox, and wait until it is ready. Its id is a secret: whoever has it and your token can use it."""
    return await while_connected(request, partial(_create, sessions, caller, body or CreateRequest()))


async def _create(sessions: SessionManager, caller: Caller, wanted: CreateRequest) -> SandboxAnswer:
    async with sessions.lease(caller, NEW, lifetime=wanted.lifetime, limits=wanted.limits) as lease:
        assert lease.handle is not None
        try:
            with anyio.fail_after(READY_SECONDS):
                await lease.sandbox.ready()
        except TimeoutError:
            sessions.close(caller, lease.handle)
            raise NotReadyError("The sandbox did not start in time.", stage=lease.sandbox.stage) from None
        if wanted.packages:
            await lease.sandbox.install(*wanted.packages)
    return SandboxAnswer.of(sessions.look(caller, lease.handle))


@router.get("", responses=problems(403))
async def list_all(sessions: Sessions, caller: CallerOf) -> SandboxList:
    """List your sandboxes. A server without authentication can't tell whose they are, and refuses."""
    if not caller.principal:
        raise HTTPException(403, "Sandboxes are listed only where the server requires authentication.")
    return SandboxList(sandboxes=[SandboxAnswer.of(info) for info in sessions.describe(caller)])


@router.get("/{sandbox}", responses=problems(404, 422))
async def look(sandbox: str, sessions: Sessions, caller: CallerOf) -> SandboxAnswer:
    """Look at a sandbox. This does not count as a use."""
    return SandboxAnswer.of(sessions.look(caller, sandbox))


@router.delete("/{sandbox}", status_code=204, responses=problems(404, 422))
async def delete(sandbox: str, sessions: Sessions, caller: CallerOf) -> None:
    """Delete a sandbox with all that is in it. Calls in progress fail."""
    sessions.close(caller, sandbox)


@router.post("/{sandbox}/reset", responses=problems(400, 404, 422, 503))
async def reset(
    sandbox: str, request: Request, sessions: Sessions, caller: CallerOf, body: ResetRequest | None = None
) -> SandboxAnswer:
    """Forget all variables; packages and files too, unless they are kept."""
    kept = body or ResetRequest()
    with opened(sessions, caller, sandbox) as found:
        await while_connected(
            request, partial(found.reset, keep_packages=kept.keep_packages, keep_files=kept.keep_files)
        )
    return SandboxAnswer.of(sessions.look(caller, sandbox))


@router.post("/{sandbox}/packages", responses=problems(400, 404, 422, 503))
async def install(
    sandbox: str, body: InstallRequest, request: Request, sessions: Sessions, caller: CallerOf
) -> InstallAnswer:
    """Install packages. Variables stay."""
    with opened(sessions, caller, sandbox) as found:
        return InstallAnswer.of(await while_connected(request, partial(found.install, *body.packages)))
