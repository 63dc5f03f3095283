"""The server over stdio. Only MCP messages go to stdout, and nothing outlives the process."""

from __future__ import annotations

import importlib
import os
import signal
import sys
from contextlib import AbstractContextManager, nullcontext
from importlib.metadata import version
from typing import NoReturn

import anyio
from anyio.abc import TaskGroup, TaskStatus
from mcp.server.stdio import stdio_server

from ...audit import Trail
from ...errors import SettingsError
from ...sandbox import AsyncRuntime
from ...sessions import SessionManager
from ...settings import Settings
from ..logs import configure_logging
from ..tracing import audit_of
from .app import AgentRunServer, build_server
from .pipes import claim_stdio

__all__ = ["serve_stdio"]

_STARTED_MANUALLY = """\
mcp-agentrun {version}: a private Python interpreter for AI agents.

This is its MCP server, which waits for an MCP client on standard input. Typing
here has no effect.
  To add it to a client:    mcp-agentrun client add NAME
  To see the clients:       mcp-agentrun client list
  To run a Python program:  mcp-agentrun run FILE
  To try it yourself:       mcp-agentrun shell
  For all commands:         mcp-agentrun --help
To leave, press Ctrl-C.
"""


def serve_stdio(settings: Settings) -> NoReturn:
    """Serve one client until it closes stdin or a signal arrives, then remove its containers and exit."""
    configure_logging(settings)
    if sys.stdin.isatty():
        sys.stderr.write(_STARTED_MANUALLY.format(version=version("mcp-agentrun")))
        sys.stderr.flush()
    # Importing these takes 0.15 s, which would delay the first call more noticeably than the start.
    for module in ("docker.types", "psutil"):
        importlib.import_module(module)
    try:
        anyio.run(_serve, settings)
    except SettingsError as error:
        sys.stderr.write(f"mcp-agentrun: {error}\n")
        sys.exit(2)
    # On Windows, a thread that can't be interrupted reads stdin, and a normal exit would wait for it.
    os._exit(0)


async def _serve(settings: Settings) -> None:
    trail = Trail.of(settings)
    sessions = SessionManager(AsyncRuntime(settings), audit=audit_of(trail))
    process = _Process(sessions, trail or nullcontext())
    server = build_server(sessions)
    async with anyio.create_task_group() as tasks:
        if sys.platform != "win32":
            tasks.start_soon(process.exit_on_signal, tasks)
        await process.run(server)
        tasks.cancel_scope.cancel()


class _Process:
    """Keeps the sessions open while the server runs, or until a signal arrives."""

    def __init__(self, sessions: SessionManager, trail: AbstractContextManager[object]) -> None:
        self._sessions = sessions
        self._trail = trail
        self._stop = anyio.Event()
        self._sessions_ended = anyio.Event()

    async def run(self, server: AgentRunServer) -> None:
        async with anyio.create_task_group() as tasks:
            await tasks.start(self._keep_sessions)
            try:
                await _run(server)
            finally:
                self._stop.set()

    async def _keep_sessions(self, *, task_status: TaskStatus[None]) -> None:
        with self._trail:
            async with self._sessions:
                task_status.started()
                await self._stop.wait()
        self._sessions_ended.set()

    async def exit_on_signal(self, tasks: TaskGroup) -> None:
        """Close the sessions when a signal arrives, while calls are still answered, and exit; a second one exits at
        once.
        """
        with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            async for number in signals:
                if self._stop.is_set():
                    os._exit(128 + number)
                self._stop.set()
                tasks.start_soon(self._exit_after_sessions, 128 + number)

    async def _exit_after_sessions(self, code: int) -> None:
        await self._sessions_ended.wait()
        os._exit(code)


async def _run(server: AgentRunServer) -> None:
    if sys.platform == "win32":  # its event loop can't wait for a pipe
        async with stdio_server() as (read, write):
            await server.run(read, write, server.create_initialization_options())
        return
    with anyio.CancelScope() as scope:  # a client that stops reading is treated like one that closes stdin
        async with claim_stdio(scope.cancel) as (read, write):
            await server.run(read, write, server.create_initialization_options())
