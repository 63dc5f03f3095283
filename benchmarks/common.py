"""What the benchmarks share."""

from __future__ import annotations

import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Mapping
from contextlib import asynccontextmanager, contextmanager

import httpx2
from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client

from mcp_agentrun.sandbox import AsyncSandbox
from mcp_agentrun.settings import Settings
from tests.support.sandboxes import open_engine, sandbox_on

__all__ = [
    "client_of",
    "median_ms",
    "open_sandbox",
    "row",
    "serving_process",
    "times_ms",
]


@contextmanager
def serving_process(
    *command: str, environment: Mapping[str, str] | None = None
) -> Generator[tuple[subprocess.Popen[bytes], int]]:
    """Start a server with *command*, in which PORT stands for its port, and yield process and port when it answers."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [str(port) if word == "PORT" else word for word in command], env={**os.environ, **(environment or {})}
    )
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                httpx2.get(f"http://127.0.0.1:{port}/healthz")
                break
            except httpx2.TransportError:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise
                time.sleep(0.05)  # it tells nobody when it listens
        yield process, port
    finally:
        process.terminate()
        process.wait()


async def times_ms(call: Callable[[], Awaitable[object]], runs: int, *, warm_up: int) -> list[float]:
    """What each of *runs* calls takes, in milliseconds, after *warm_up* others."""
    for _ in range(warm_up):
        await call()
    times: list[float] = []
    for _ in range(runs):
        started = time.perf_counter()
        await call()
        times.append((time.perf_counter() - started) * 1000)
    return times


async def median_ms(call: Callable[[], Awaitable[object]], runs: int, warm_up: int = 10) -> float:
    return statistics.median(await times_ms(call, runs, warm_up=warm_up))


@asynccontextmanager
async def client_of(*arguments: str, env: Mapping[str, str] | None = None) -> AsyncGenerator[Client]:
    """An MCP client of the server that Python starts with *arguments*, over stdio."""
    environment = {**os.environ, **(env or {})}
    parameters = StdioServerParameters(command=sys.executable, args=list(arguments), env=environment)
    async with Client(stdio_client(parameters)) as client:
        yield client


@asynccontextmanager
async def open_sandbox(settings: Settings | None = None) -> AsyncGenerator[AsyncSandbox]:
    """A sandbox on an engine client of its own."""
    async with open_engine() as engine, sandbox_on(engine, settings or Settings()) as sandbox:
        yield sandbox


def row(what: str, value: str, bound: str = "") -> None:
    print(f"{what:<66} {value:>14}  {bound}", flush=True)
