"""Runs that go on without their client."""

from __future__ import annotations

import logging
import secrets
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from datetime import datetime, timezone
from typing import Literal

import anyio
from anyio.abc import TaskGroup, TaskStatus

from ..background import background_tasks
from ..errors import AgentRunError, CapacityError, InvalidRequestError, UnavailableError
from ..sandbox import Output, Result, State
from ..sandbox.execution import PartialOutput
from ..sandbox.observer import RunAccepted, observed
from ..settings import Settings
from .session_store import Audit, Caller, Lease, refusals_audited

__all__ = ["BackgroundRun", "BackgroundRuns", "RunStatus"]

logger = logging.getLogger(__name__)

RunStatus = Literal["queued", "running", "done"]

_INTERRUPT_SECONDS = 10.0
"""Longest time between an interrupt and the result."""

_KEPT_BYTES = 64 << 20
"""Size of the results that are kept for one principal."""


class BackgroundRun:
    """A run that goes on without its client.

    :param principal: whose it is.
    """

    def __init__(self, principal: str, lease: Lease, code: str, timeout: float | None) -> None:
        self.id = secrets.token_urlsafe(16)
        self.principal = principal
        self.handle = lease.handle
        """The handle of its sandbox."""
        self.created_at = _now()
        self.started_at: datetime | None = None
        """When its code began to run."""
        self.ended_at: datetime | None = None
        self.result: Result | None = None
        self.error: AgentRunError | None = None
        """Why there is no result, although it has ended."""
        self.ended = anyio.Event()
        self.forgotten = anyio.Event()
        self._lease = lease
        self._code = code
        self._timeout = timeout
        self._output: PartialOutput | None = None
        self._scope = anyio.CancelScope()

    @property
    def status(self) -> RunStatus:
        """Whether it waits for its turn, its code is running, or it has ended."""
        if self.ended.is_set():
            return "done"
        return "queued" if self.started_at is None else "running"

    @property
    def written(self) -> int:
        """Size of its output so far, in bytes."""
        if self.result is not None:
            return self.result.output.written
        return 0 if self._output is None else self._output.written

    @property
    def output(self) -> Output:
        """Its output so far: of more than ``output_keep`` bytes, the beginning and the end."""
        if self.result is not None:
            return self.result.output
        return Output() if self._output is None else self._output.output()

    @property
    def size(self) -> int:
        """Number of bytes that its output and its pictures take up."""
        output = self.output
        pictures = () if self.result is None else self.result.images
        return len(output.head) + len(output.tail) + sum(len(picture.data) for picture in pictures)

    async def execute(self) -> None:
        """Run the code. Errors are recorded."""
        try:
            with self._scope:
                self.result = await self._lease.sandbox.run(
                    self._code, timeout=self._timeout, on_start=self._on_start, stream=True
                )
        except AgentRunError as error:
            self.error = error
        except Exception:
            logger.exception("a run in the background failed unexpectedly")
            self.error = UnavailableError("The run failed because of an error in the server, which has logged it.")
        finally:
            self.ended_at = _now()
            is_closed = self._lease.closing.is_set()
            if self.result is None and (self.error is None or is_closed):
                self.result, self.error = self._cancelled("lost" if is_closed else self._lease.sandbox.state), None
            self._code = ""
            if self.result is not None:
                self._output = None  # the result has it
            self.ended.set()

    def _on_start(self, output: PartialOutput) -> None:
        self.started_at = _now()
        self._output = output

    def _cancelled(self, state: State) -> Result:
        """Return the result of a run that was cancelled without one of its own."""
        assert self.ended_at is not None
        started = self.started_at or self.ended_at
        duration = (self.ended_at - started).total_seconds()
        limits = self._lease.sandbox.container.settings.limits
        timeout = limits.timeout if self._timeout is None else self._timeout
        return Result("cancelled", self.output, duration, state=state, timeout=timeout, limits=limits)

    async def wait(self, seconds: float) -> None:
        """Wait until it has ended, at most *seconds*."""
        with anyio.move_on_after(seconds):
            await self.ended.wait()

    async def cancel(self) -> None:
        """Interrupt the code, or don't start it, and wait until the run has ended. Its variables stay."""
        if self.status == "running":
            with suppress(UnavailableError):  # the container is lost, which ends the run
                await self._lease.sandbox.interrupt()
            await self.wait(_INTERRUPT_SECONDS)
        self._scope.cancel()
        await self.ended.wait()


class BackgroundRuns:
    """The background runs of all clients. Each belongs to a principal; its sandbox does not expire while it runs.

    A run is forgotten ``idle_ttl`` after its end, or earlier if its principal has many later ones.

    :param lease: see `SessionManager.lease`.
    :param audit: receives who asked for a run of others, or one that is forgotten.
    """

    def __init__(
        self,
        settings: Settings,
        lease: Callable[[Caller, str | None], AbstractAsyncContextManager[Lease]],
        audit: Audit | None = None,
    ) -> None:
        self._settings = settings
        self._lease = lease
        self._audit = audit
        self._runs: dict[str, BackgroundRun] = {}
        self._tasks: TaskGroup | None = None

    @property
    def limit(self) -> int:
        """How many runs of a principal may be in progress: one in each sandbox, and those that wait."""
        return self._settings.limits.max_sandboxes + self._settings.limits.queue

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Allow runs to be started. At the end, they are cancelled."""
        async with background_tasks() as self._tasks:
            yield
        self._runs.clear()

    async def start(
        self, caller: Caller, handle: str | None, code: str, *, timeout: float | None = None
    ) -> BackgroundRun:
        """Start a run in the sandbox of *caller* with that handle.

        :param timeout: see `OpenSandbox.run`.
        :raises InvalidRequestError: there is no such sandbox, or *code* or *timeout* can't be accepted.
        :raises BusyError: too many calls are waiting for the sandbox.
        :raises CapacityError: too many runs of the principal are in progress.
        :raises UnavailableError: a sandbox would have to be opened, and can't be.
        """
        if self._tasks is None:
            raise RuntimeError("runs are started inside `running`")
        return await self._tasks.start(self._execute, caller, handle, code, timeout)

    def get(self, principal: str, run_id: str) -> BackgroundRun:
        """Return the run of *principal* with that id.

        :raises InvalidRequestError: there is none, or not any more.
        """
        run = self._runs.get(run_id)
        if run is None or run.principal != principal:
            with refusals_audited(self._audit, Caller(None, principal)):
                raise InvalidRequestError("You have no run with this id, or it has been forgotten.", argument="run")
        return run

    async def remove(self, run: BackgroundRun) -> None:
        """Cancel *run*, if it has not ended, and forget it."""
        await run.cancel()
        self._forget(run)

    async def _execute(
        self,
        caller: Caller,
        handle: str | None,
        code: str,
        timeout: float | None,
        *,
        task_status: TaskStatus[BackgroundRun],
    ) -> None:
        async with self._lease(caller, handle) as lease:
            sandbox = lease.sandbox
            with observed(sandbox.container.observer, lambda timing: RunAccepted(sandbox.id, timing, code)):
                self._require_quota(caller.principal)
                sandbox.check_run(code, timeout)
            run = BackgroundRun(caller.principal, lease, code, timeout)
            self._runs[run.id] = run
            task_status.started(run)
            await run.execute()
        self._forget_earlier(run)
        with anyio.move_on_after(self._settings.serve.idle_ttl):
            await run.forgotten.wait()
        self._forget(run)

    def _require_quota(self, principal: str) -> None:
        in_progress = sum(not run.ended.is_set() for run in self._of(principal))
        if in_progress >= self.limit:
            raise CapacityError(
                f"You have {in_progress} background runs in progress, the most that this server allows. Wait until "
                "one has ended, or cancel one.",
                reason="quota",
                limit=self.limit,
            )

    def _forget_earlier(self, latest: BackgroundRun) -> None:
        """Forget runs that ended earlier, as far as their number or size exceeds what is kept for a principal."""
        ended = [(run.ended_at, run) for run in self._of(latest.principal) if run.ended_at and run is not latest]
        size = latest.size
        for count, (_, run) in enumerate(sorted(ended, reverse=True, key=lambda each: each[0]), 1):
            size += run.size
            if count >= self.limit or size > _KEPT_BYTES:
                self._forget(run)

    def _of(self, principal: str) -> list[BackgroundRun]:
        return [run for run in self._runs.values() if run.principal == principal]

    def _forget(self, run: BackgroundRun) -> None:
        self._runs.pop(run.id, None)
        run.forgotten.set()


def _now() -> datetime:
    return datetime.now(timezone.utc)
