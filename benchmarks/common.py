"""What the benchmarks and the long proofs share."""

from __future__ import annotations

import collections
import os
import statistics
import sys
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager

from docker import APIClient
from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client

from mcp_agentrun.engine import LABEL_OWNER, LABEL_ROLE
from mcp_agentrun.engine.docker.engine import DockerEngine
from mcp_agentrun.engine.docker.image import ImageRecipe
from mcp_agentrun.engine.owner import Owner
from mcp_agentrun.sandbox import Sandbox
from mcp_agentrun.settings import Settings

__all__ = [
    "Violations",
    "client_of",
    "containers_of_ours",
    "median_ms",
    "open_engine",
    "open_sandbox",
    "row",
    "times_ms",
]


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
async def open_engine() -> AsyncGenerator[DockerEngine]:
    engine = DockerEngine(recipe=ImageRecipe())
    try:
        yield engine
    finally:
        await engine.aclose()


@asynccontextmanager
async def open_sandbox(settings: Settings | None = None) -> AsyncGenerator[Sandbox]:
    """A sandbox on an engine client of its own."""
    async with open_engine() as engine, Sandbox(engine, settings or Settings()) as sandbox:
        yield sandbox


def row(what: str, value: str, bound: str = "") -> None:
    print(f"{what:<66} {value:>14}  {bound}", flush=True)


def containers_of_ours(api: APIClient) -> list[str]:
    """Ids of the containers that this process has made."""
    found = api.containers(all=True, filters={"label": LABEL_ROLE})
    owner = Owner.current().to_label()
    return [item["Id"] for item in found if item["Labels"].get(LABEL_OWNER) == owner]


class Violations:
    """Every bound that was broken, by what it was; the first few are printed at once."""

    def __init__(self) -> None:
        self.counts: collections.Counter[str] = collections.Counter()

    def note(self, what: str, details: object) -> None:
        self.counts[what] += 1
        if self.counts[what] <= 5:
            print(f"VIOLATION {what}: {details}", flush=True)

    def require(self, holds: bool, what: str, details: object) -> None:
        if not holds:
            self.note(what, details)
