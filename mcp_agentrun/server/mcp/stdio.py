"""The server over stdio: stdout carries MCP and nothing else, and nothing is left when it ends, however it ends."""

from __future__ import annotations

import importlib
import os
import signal
import sys
from typing import NoReturn

import anyio
from mcp.server.mcpserver import MCPServer

from ...errors import SettingsError
from ...sandbox import AsyncRuntime
from ...sessions import Sessions
from ...settings import Settings
from ..logs import configure_logging
from .app import build_server
from .pipes import claimed

__all__ = ["serve_stdio"]


def serve_stdio(settings: Settings) -> NoReturn:
    """Serve one client until it closes stdin or a signal ends the process; then remove its containers and exit."""
    configure_logging(settings)
    # 0.15 s that the first call would otherwise wait for, and a client that is just starting won't notice.
    for module in ("docker.types", "psutil"):
        importlib.import_module(module)
    try:
        code = anyio.run(_serve, settings)
    except SettingsError as error:
        sys.stderr.write(f"mcp-agentrun: {error}\n")
        sys.exit(2)
    # On Windows, a thread that nothing can interrupt reads stdin: leaving the interpreter would wait for it.
    os._exit(code)


async def _serve(settings: Settings) -> int:
    sessions = Sessions(AsyncRuntime(settings))
    server = build_server(sessions)
    stop, sessions_ended = anyio.Event(), anyio.Event()

    async def keep_sessions(*, task_status: anyio.abc.TaskStatus[None]) -> None:
        async with sessions:
            task_status.started()
            await stop.wait()
        sessions_ended.set()

    async def end_on_signal() -> None:
        with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            async for number in signals:
                # The server goes on, so that calls under way are answered: its sandboxes are ended under it.
                if stop.is_set():  # asked again: at once
                    os._exit(128 + number)
                stop.set()
                tasks.start_soon(exit_when_ended, 128 + number)

    async def exit_when_ended(code: int) -> None:
        await sessions_ended.wait()
        os._exit(code)

    async with anyio.create_task_group() as tasks:
        if sys.platform != "win32":
            tasks.start_soon(end_on_signal)
        async with anyio.create_task_group() as inner:
            await inner.start(keep_sessions)
            try:
                await _run(server)
            finally:
                stop.set()
        tasks.cancel_scope.cancel()
    return 0


async def _run(server: MCPServer[None]) -> None:
    if sys.platform == "win32":  # whose event loop can't wait for a pipe
        await server.run_stdio_async()
        return
    inner = server._lowlevel_server  # pyright: ignore[reportPrivateUsage]
    with anyio.CancelScope() as scope:  # a client that reads nothing any more has gone as one has that closes stdin
        async with claimed(scope.cancel) as (read, write):
            await inner.run(read, write, inner.create_initialization_options())
