"""The three tools, as MCP sees them."""

# Annotations are evaluated here: the SDK reads those of the tools, which name local settings.

import contextlib
import logging
import re
import warnings
from collections.abc import Awaitable, Callable
from importlib.metadata import version
from typing import Annotated, Any

import anyio
from mcp import MCPDeprecationWarning
from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.server.mcpserver import Context, MCPServer
from mcp.types import CallToolResult, ToolAnnotations
from mcp_types.methods import serialize_server_result
from pydantic import Field

from ...errors import AgentRunError, InstallError, InvalidRequestError, NotReadyError, SandboxLostError
from ...sandbox import AsyncSandbox, ReadFile, Result
from ...sessions import NEW, Lease, Sessions
from ...settings import Settings
from ...spoofing import foreign, plain_text, unmarked
from .arguments import wrong_arguments
from .connections import CallerOf, Lifespan, accept_log_levels, on_stdio, wants_log_messages
from .render import (
    CONNECTION_LIFETIME,
    failure,
    install_answer,
    latest_line,
    new_sandbox,
    outcome_of,
    output_uri,
    run_answer,
    text_answer,
)
from .resources import KeptOutput, OutFolder, ServerWithFiles, announce_files, calling
from .revisions import adapted, has

__all__ = ["build_server"]

# Clients still ask for log messages, and there is no other way to send them.
warnings.filterwarnings("ignore", category=MCPDeprecationWarning, module=re.escape(__name__))

logger = logging.getLogger(__name__)

READY_SECONDS = 45.0
"""How long a call waits for its sandbox, the wait for room included; clients give up at 60 seconds of silence, and some
hear no progress.
"""

PROGRESS_SECONDS = 5.0
STREAM_SECONDS = 0.25
"""From one line of a run's output that the client is told to the next; later in the run four times as long."""

FIRST_SECONDS = 0.02
"""How long output waits before it is told: most runs have ended by then."""

_RECENT = 4096
_STAGE = 300

OnCall = Callable[[str, str, float], object]


def _unheard(_tool: str, _outcome: str, _seconds: float) -> None:
    """Nobody counts."""


Handle = Annotated[
    str | None,
    Field(
        description=f'Leave out to use your own sandbox. "{NEW}" opens another, separate one; its handle, which the '
        "answer gives, is passed here to use it again."
    ),
]


class _Call:
    """A call that is being answered, and what to tell its client about it meanwhile."""

    def __init__(self, ctx: Context[Any, Any], tool: str, doing: str) -> None:
        self.ctx = ctx
        self.tool = tool
        self.started = anyio.current_time()
        self._doing = doing
        self._told = self.started
        self._has_streamed = False
        self.sandbox: AsyncSandbox | None = None
        """Whose stage is told while it is being made ready."""
        self._recent = b""
        self._heard = anyio.Event()
        meta: Any = ctx.request_context.meta or {}
        self.logs = wants_log_messages(ctx.request_context)
        self.listens = self.logs or "progress_token" in meta
        """The client wants to be told what goes on."""

    def say(self, text: str) -> None:
        """Have the client told *text*, when it is next told what is being done."""
        self._doing = text

    async def hear(self, data: bytes) -> None:
        """Note what the code has written; the client is told in due time."""
        self._recent = (self._recent + data)[-_RECENT:]
        self._heard.set()

    async def keep_telling(self) -> None:
        """Tell the client what the code writes and what is being done, until cancelled. One that doesn't read holds up
        nobody else's.
        """
        while True:
            with anyio.move_on_after(self._told + PROGRESS_SECONDS - anyio.current_time()):
                await self._heard.wait()
                await anyio.sleep(self._pause())
            with contextlib.suppress(Exception):  # the client has gone: its call is about to be cancelled
                if self._heard.is_set():
                    self._heard = anyio.Event()
                    await self._tell_output()
                else:
                    await self._tell_stage()

    def _pause(self) -> float:
        """Seconds until the client should be told what has just been heard."""
        now = anyio.current_time()
        pause = STREAM_SECONDS if now - self.started < 20 * STREAM_SECONDS else 4 * STREAM_SECONDS
        return max(FIRST_SECONDS, self._told + pause - now) if self._has_streamed else FIRST_SECONDS

    async def _tell_output(self) -> None:
        """Tell the client the latest line of what the code has written."""
        self._has_streamed = True
        recent, self._recent = self._recent, b""
        line = latest_line(recent)
        if not line:
            return
        self._told = now = anyio.current_time()
        self._doing = line
        elapsed = now - self.started
        await self._report(elapsed, f"{line} ({elapsed:.1f} s)")
        if self.logs:
            text = unmarked(plain_text(recent.decode("utf-8", "replace")))
            await self.ctx.session.send_log_message(  # pyright: ignore[reportDeprecated]
                "info", text, "run_python", self.ctx.request_context.request_id
            )

    async def _tell_stage(self) -> None:
        """Tell the client what is being done."""
        self._told = now = anyio.current_time()
        doing = foreign(self._doing if self.sandbox is None else self.sandbox.stage, limit=_STAGE)
        elapsed = now - self.started
        await self._report(elapsed, f"{doing} ({elapsed:.0f} s)")

    async def _report(self, elapsed: float, message: str) -> None:
        is_known = has(self.ctx.request_context.protocol_version, "ProgressNotificationParams", "message")
        await self.ctx.report_progress(round(elapsed, 3), None, message if is_known else None)


class _Calls:
    """Answers calls.

    :param on_call: see `build_server`.
    """

    def __init__(self, on_call: OnCall) -> None:
        self._on_call = on_call

    async def answer(
        self,
        sessions: Sessions,
        caller_of: CallerOf,
        handle: str | None,
        call: _Call,
        act: Callable[[AsyncSandbox, Lease], Awaitable[CallToolResult]],
    ) -> CallToolResult:
        """Find the sandbox, wait for it as long as a client waits, and act; every error of ours becomes an answer."""
        outcome = "cancelled"
        try:
            result = await _telling(call, lambda: self._answer(sessions, caller_of, handle, call, act))
            outcome = outcome_of(result)
            return result
        except Exception:
            outcome = "error"
            raise
        finally:
            seconds = anyio.current_time() - call.started
            self._on_call(call.tool, outcome, seconds)
            logger.info(
                "%s: %s in %.0f ms",
                call.tool,
                outcome,
                seconds * 1000,
                extra={"fields": {"tool": call.tool, "outcome": outcome, "seconds": round(seconds, 6)}},
            )

    async def _answer(
        self,
        sessions: Sessions,
        caller_of: CallerOf,
        handle: str | None,
        call: _Call,
        act: Callable[[AsyncSandbox, Lease], Awaitable[CallToolResult]],
    ) -> CallToolResult:
        target: AsyncSandbox | None = None
        try:
            async with sessions.lease(caller_of(call.ctx.request_context), handle) as lease:
                target = lease.sandbox
                if not target.is_ready:
                    call.sandbox = target
                    with anyio.CancelScope(deadline=call.started + READY_SECONDS) as waiting:
                        await target.ready()
                    call.sandbox = None
                    if waiting.cancelled_caught:
                        again = f' and pass sandbox="{lease.handle}"' if lease.is_new else ""
                        raise NotReadyError(
                            f"The sandbox is not ready yet: {target.stage}. Call again in a moment{again}."
                        )
                return await act(target, lease)
        except InvalidRequestError as error:
            return failure(f"Nothing was done: {error}", "error")
        except InstallError as error:
            return failure(f"Nothing was installed. {error}", "error")
        except SandboxLostError as error:
            return failure(str(error), state="lost")
        except AgentRunError as error:
            return failure(str(error), state="kept" if target is None else target.state)


async def _telling(call: _Call, answer: Callable[[], Awaitable[CallToolResult]]) -> CallToolResult:
    """What *answer* returns, with the client of *call* told what goes on until then."""
    if not call.listens:  # a task less
        return await answer()
    result: CallToolResult | None = None
    problem: Exception | None = None
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(call.keep_telling)
        try:
            result = await answer()
        except Exception as error:  # which the task group would wrap
            problem = error
        tasks.cancel_scope.cancel()
    if problem is not None:
        raise problem
    assert result is not None
    return result


def build_server(
    sessions: Sessions,
    caller_of: CallerOf = on_stdio,
    on_call: OnCall = _unheard,
    *,
    lifespan: Lifespan | None = None,
) -> MCPServer[None]:
    """The MCP server over *sessions*. On stdio it begins to prepare a sandbox behind its first answer.

    :param caller_of: whose sandbox a call means.
    :param on_call: told of each call of a tool how it ended, and after how many seconds.
    :param lifespan: entered for each stream to a client.
    :raises SettingsError: the folder for copies of files can't be made.
    """
    settings = sessions.settings
    calls = _Calls(on_call)
    lifetime = _lifetime(sessions)

    def told(lease: Lease) -> str | None:
        return new_sandbox(lease.handle, lifetime) if lease.is_new else None

    async def prepare_after_first_answer(ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
        wrong = wrong_arguments(ctx)
        if wrong is not None:
            refusal = failure(f"Nothing was done: {wrong}", "error")  # which does not go through the SDK
            return serialize_server_result(
                ctx.method, ctx.protocol_version, refusal.model_dump(by_alias=True, mode="json", exclude_none=True)
            )
        with calling(caller_of(ctx)):
            result = await call_next(ctx)
        await sessions.begin()
        return adapted(ctx.method, ctx.protocol_version, result)

    kept = KeptOutput()
    out = OutFolder(settings) if settings.access.out else None
    server: MCPServer[None] = ServerWithFiles(
        sessions,
        kept,
        "mcp-agentrun",
        title="AgentRun: a private Python",
        instructions=_instructions(settings),
        version=version("mcp-agentrun"),
        website_url="https://github.com/mcp-agentrun/mcp-agentrun",
        middleware=[prepare_after_first_answer],
        log_level="WARNING",
        lifespan=lifespan,
    )
    accept_log_levels(server)
    open_world = settings.access.network != "none"

    @server.tool(
        title="Run Python",
        description=_run_description(settings, lifetime if sessions.is_shared else None),
        annotations=ToolAnnotations(destructive_hint=True, idempotent_hint=False, open_world_hint=open_world),
        structured_output=False,
    )
    async def run_python(
        ctx: Context[Any, Any],
        code: Annotated[str, Field(description="Python source to execute.")],
        timeout: Annotated[
            float | None,
            Field(
                description=f"Seconds the code may run: {settings.limits.timeout:g} if left out, at most "
                f"{settings.limits.max_timeout:g}.",
            ),
        ] = None,
        sandbox: Handle = None,
    ) -> CallToolResult:
        call = _Call(ctx, "run_python", "running")

        async def run(target: AsyncSandbox, lease: Lease) -> CallToolResult:
            handle = lease.handle
            copied: list[str] = []

            async def copy(result: Result, read: ReadFile) -> None:
                if out is not None and result.files:
                    folder = handle or (target.id if sessions.is_shared else None)
                    copied.extend(await out.copy(read, folder, result.files))

            result = await target.run(
                code, timeout=timeout, on_bytes=call.hear if call.listens else None, report=call.say, then=copy
            )
            if result.output.written > settings.limits.output_show:
                kept.keep(target.id, output_uri(handle, result.number), result.output)
            if any(file.change == "created" for file in result.files):
                await announce_files(ctx)
            return run_answer(
                result,
                settings,
                handle=handle,
                new=lease.is_new,
                copied=copied,
                expired=lease.expired,
                lifetime=lifetime,
            )

        return await calls.answer(sessions, caller_of, sandbox, call, run)

    @server.tool(
        title="Install packages",
        description="Install packages from the Python package index into the sandbox, by name, with an optional "
        "version. Variables stay; import the packages in the next run_python call.",
        annotations=ToolAnnotations(destructive_hint=False, idempotent_hint=True, open_world_hint=True),
        structured_output=False,
    )
    async def install_package(
        ctx: Context[Any, Any],
        packages: Annotated[
            str | list[str],
            Field(description='One or more requirements, such as "requests" or ["scipy>=1.14", "rich"].'),
        ],
        sandbox: Handle = None,
    ) -> CallToolResult:
        call = _Call(ctx, "install_package", "installing")

        async def install(target: AsyncSandbox, lease: Lease) -> CallToolResult:
            wanted = [packages] if isinstance(packages, str) else packages
            return install_answer(await target.install(*wanted, report=call.say), note=told(lease))

        return await calls.answer(sessions, caller_of, sandbox, call, install)

    @server.tool(
        title="Reset the sandbox",
        description="Start over with a fresh interpreter: variables and imports are forgotten, and so are files and "
        "installed packages unless they are kept.",
        annotations=ToolAnnotations(destructive_hint=True, idempotent_hint=True, open_world_hint=False),
        structured_output=False,
    )
    async def reset_sandbox(
        ctx: Context[Any, Any],
        keep_packages: Annotated[bool, Field(description="Keep the packages that were installed.")] = False,
        keep_files: Annotated[bool, Field(description="Keep the files in the workspace.")] = False,
        sandbox: Handle = None,
    ) -> CallToolResult:
        async def reset(target: AsyncSandbox, lease: Lease) -> CallToolResult:
            await target.reset(keep_packages=keep_packages, keep_files=keep_files)
            kept = [what for what, keep in (("files", keep_files), ("packages", keep_packages)) if keep]
            return text_answer(
                "The sandbox is fresh: all variables are gone."
                + (f" Kept: {' and '.join(kept)}." if kept else "")
                + (f"\n{note}" if (note := told(lease)) else "")
            )

        return await calls.answer(sessions, caller_of, sandbox, _Call(ctx, "reset_sandbox", "resetting"), reset)

    return server


def _lifetime(sessions: Sessions) -> str:
    if not sessions.is_shared:
        return CONNECTION_LIFETIME
    serve = sessions.settings.serve
    return f"it is closed after {_minutes(serve.idle_ttl)} without use, or {_minutes(serve.max_ttl)} in all"


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:g} minutes" if seconds >= 60 else f"{seconds:g} seconds"


def _run_description(settings: Settings, lifetime: str | None) -> str:
    """:param lifetime: of a sandbox, where it ends before the server does."""
    network = (
        "There is no network: data must come with the code, and packages with install_package."
        if settings.access.network == "none"
        else "The network can be reached."
    )
    return (
        "Execute Python in a private sandbox. Variables, imports, functions and files live on from call to call. "
        "Answers what a terminal would show: everything printed, the value of the last expression, and the traceback "
        f"of an error. Installed already: {', '.join(settings.image.packages) or 'the standard library only'}; "
        "install_package adds more. Plots come back as pictures. Files are written to the current folder, /workspace. "
        f"{network} Processes that a call starts end with it. "
        f"Limits: {settings.limits.timeout:g} s per call unless `timeout` says otherwise, "
        f"{settings.limits.memory >> 20} MiB of memory, {settings.limits.workspace_size >> 20} MiB of files."
        + (
            " If the answer names a handle, pass it as `sandbox` in all further calls, or they begin from nothing. "
            f"Each sandbox is private; {lifetime}."
            if lifetime
            else ""
        )
    )


def _instructions(settings: Settings) -> str:
    return (
        "A private Python interpreter in a locked-down container on the user's own machine. Work in small steps: each "
        "run_python call sees the variables of the ones before. After an error, read the traceback, mend and go on; "
        "earlier variables are still there."
    )
