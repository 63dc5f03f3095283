"""What the tools get: one call, and what all calls of a server share."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import anyio
from mcp.server.subscriptions import InMemorySubscriptionBus, SubscriptionBus
from mcp.types import CallToolResult

from ...errors import AgentRunError, FileError, InstallError, InvalidRequestError, NotReadyError, SandboxLostError
from ...sandbox import OpenSandbox
from ...sessions import Lease, Sessions
from ...settings import Settings
from .connections import CallerOf
from .out_folder import OutFolder
from .progress import Progress
from .render import failure, lifetime_of, outcome_of
from .resources import KeptOutput
from .sdk import RequestContext

__all__ = ["Call", "OnCall", "Service", "answer", "ignore_call"]

logger = logging.getLogger(__name__)

READY_SECONDS = 45.0
"""Longest time a call waits for its sandbox, including the wait for capacity. Clients give up after 60 seconds of
silence, and some do not read progress.
"""

OnCall = Callable[[str, str, float], object]
"""Receives the tool, the outcome and the duration in seconds of each call."""


def ignore_call(_tool: str, _outcome: str, _seconds: float) -> None:
    """Count no calls."""


@dataclass(frozen=True)
class Service:
    """What all calls of one server share."""

    sessions: Sessions
    caller_of: CallerOf
    on_call: OnCall
    out: OutFolder | None
    """The user's folder for copies of files, if the operator has set one."""
    outputs: KeptOutput = field(default_factory=KeptOutput)
    changes: SubscriptionBus = field(default_factory=InMemorySubscriptionBus)
    """Announces changes to clients since 2026-07-28."""

    @property
    def settings(self) -> Settings:
        return self.sessions.settings

    @property
    def lifetime(self) -> str:
        """How long a sandbox lives, for the model."""
        return lifetime_of(self.settings) if self.sessions.is_shared else lifetime_of(None)


class Call:
    """One call of a tool.

    :param stage: what the call is doing, for progress reports.
    """

    def __init__(self, service: Service, ctx: RequestContext, tool: str, stage: str) -> None:
        self.service = service
        self.ctx = ctx
        self.tool = tool
        self.progress = Progress(ctx, tool, stage)
        self.found: OpenSandbox | None = None
        """The call's sandbox, once it has one."""

    @asynccontextmanager
    async def lease(self, handle: str | None) -> AsyncGenerator[Lease]:
        """Lease the sandbox that the caller means, once it is ready.

        :param handle: see `Sessions.lease`.
        :raises InvalidRequestError: the caller has no sandbox with that handle.
        :raises UnavailableError: there is no capacity, or the sandbox is not ready in time.
        """
        caller = self.service.caller_of(self.ctx)
        async with self.service.sessions.lease(caller, handle) as lease:
            self.found = lease.sandbox
            if not lease.sandbox.is_ready:
                await self._wait_until_ready(lease)
            yield lease

    async def _wait_until_ready(self, lease: Lease) -> None:
        self.progress.sandbox = sandbox = lease.sandbox
        with anyio.CancelScope(deadline=self.progress.started + READY_SECONDS) as waiting:
            await sandbox.ready()
        self.progress.sandbox = None
        if waiting.cancelled_caught:
            again = f' and pass sandbox="{lease.handle}"' if lease.is_new else ""
            stage = sandbox.stage
            raise NotReadyError(f"The sandbox is not ready yet: {stage}. Call again in a moment{again}.", stage=stage)


async def answer(call: Call, act: Callable[[], Awaitable[CallToolResult]]) -> CallToolResult:
    """Run *act* while reporting its progress. Errors become answers; the outcome is counted and logged."""
    outcome = "cancelled"
    try:
        result = await call.progress.during(lambda: _without_errors(call, act))
        outcome = outcome_of(result)
        return result
    except Exception:
        outcome = "error"
        logger.exception("%s failed unexpectedly", call.tool)
        return failure(f"{call.tool} failed because of an error in the server, which has logged it.", "unavailable")
    finally:
        seconds = anyio.current_time() - call.progress.started
        call.service.on_call(call.tool, outcome, seconds)
        logger.info(
            "%s: %s in %.0f ms",
            call.tool,
            outcome,
            seconds * 1000,
            extra={"fields": {"tool": call.tool, "outcome": outcome, "seconds": round(seconds, 6)}},
        )


async def _without_errors(call: Call, act: Callable[[], Awaitable[CallToolResult]]) -> CallToolResult:
    try:
        return await act()
    except InvalidRequestError as error:
        return failure(f"Nothing was done: {error}", "error")
    except InstallError as error:
        return failure(f"Nothing was installed. {error}", "error")
    except FileError as error:
        return failure(f"{error}.", "error")
    except SandboxLostError as error:
        return failure(str(error), state="lost")
    except AgentRunError as error:
        return failure(str(error), state="kept" if call.found is None else call.found.state)
