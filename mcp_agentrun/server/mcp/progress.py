"""Report to a client what its call is doing."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio

from ...sandbox import OpenSandbox
from ...spoofing import foreign, plain_text, unmarked
from .connections import wants_log_messages
from .render import latest_line
from .revisions import has
from .sdk import RequestContext, send_log_message

__all__ = ["Progress"]

T = TypeVar("T")

PROGRESS_SECONDS = 5.0
"""Longest time between two reports."""

STREAM_SECONDS = 0.25
"""Shortest time between two reports of output; four times as long after `_BRISK_REPORTS`."""

FIRST_SECONDS = 0.02
"""Delay before the first output is reported: most runs have ended by then."""

_BRISK_REPORTS = 20
_RECENT = 4096
_LONGEST_STAGE = 300


class Progress:
    """Progress and log messages about one call.

    :param stage: what the call is doing, until `set_stage` or output replaces it.
    """

    def __init__(self, ctx: RequestContext, tool: str, stage: str) -> None:
        self.started = anyio.current_time()
        self.sandbox: OpenSandbox | None = None
        """The sandbox whose start the call is waiting for; its stage is reported."""
        self._ctx = ctx
        self._tool = tool
        self._stage = stage
        self._last_reported_at = self.started
        self._has_streamed = False
        self._recent = b""
        self._has_output = anyio.Event()
        self._wants_logs = wants_log_messages(ctx)
        self.is_wanted = self._wants_logs or "progress_token" in (ctx.meta or {})
        """Whether the client asked for progress or log messages."""

    def set_stage(self, stage: str) -> None:
        """Set what the next report says."""
        self._stage = stage

    async def add_output(self, data: bytes) -> None:
        """Note what the code has written. The latest line is reported later."""
        self._recent = (self._recent + data)[-_RECENT:]
        self._has_output.set()

    async def during(self, work: Callable[[], Awaitable[T]]) -> T:
        """Report while *work* runs, and return its result."""
        if not self.is_wanted:
            return await work()
        problem: Exception | None = None
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._keep_reporting)
            try:
                return await work()
            except Exception as error:  # which the task group would wrap
                problem = error
            finally:
                tasks.cancel_scope.cancel()
        assert problem is not None
        raise problem

    async def _keep_reporting(self) -> None:
        """Report until cancelled. A client that does not read delays only its own reports."""
        while True:
            with anyio.move_on_after(self._last_reported_at + PROGRESS_SECONDS - anyio.current_time()):
                await self._has_output.wait()
                await anyio.sleep(self._pause())
            with contextlib.suppress(Exception):  # the client has gone: its call is about to be cancelled
                if self._has_output.is_set():
                    self._has_output = anyio.Event()
                    await self._report_output()
                else:
                    await self._report_stage()

    def _pause(self) -> float:
        """Return the seconds to wait before new output is reported."""
        if not self._has_streamed:
            return FIRST_SECONDS
        now = anyio.current_time()
        is_brisk = now - self.started < _BRISK_REPORTS * STREAM_SECONDS
        pause = STREAM_SECONDS if is_brisk else 4 * STREAM_SECONDS
        return max(FIRST_SECONDS, self._last_reported_at + pause - now)

    async def _report_output(self) -> None:
        self._has_streamed = True
        recent, self._recent = self._recent, b""
        line = latest_line(recent)
        if not line:
            return
        self._last_reported_at = now = anyio.current_time()
        self._stage = line
        elapsed = now - self.started
        await self._report(elapsed, f"{line} ({elapsed:.1f} s)")
        if self._wants_logs:
            text = unmarked(plain_text(recent.decode("utf-8", "replace")))
            await send_log_message(self._ctx, text, self._tool)

    async def _report_stage(self) -> None:
        self._last_reported_at = now = anyio.current_time()
        stage = foreign(self._stage if self.sandbox is None else self.sandbox.stage, limit=_LONGEST_STAGE)
        elapsed = now - self.started
        await self._report(elapsed, f"{stage} ({elapsed:.0f} s)")

    async def _report(self, elapsed: float, message: str) -> None:
        has_message = has(self._ctx.protocol_version, "ProgressNotificationParams", "message")
        await self._ctx.session.report_progress(round(elapsed, 3), None, message if has_message else None)
