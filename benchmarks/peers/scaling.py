"""What a call costs against the number of sessions, the size of the state, of the output and of the code."""

from __future__ import annotations

import statistics
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import anyio
import psutil

from mcp_agentrun.sandbox import AsyncRuntime

from .roster import PEERS, Bench
from .sessions import LibrarySession, McpSession, Session
from .work import HELLO, LINES

__all__ = ["call_profile", "curves"]

COMPARED = ("ours", "ipykernel", "docker-exec")
COUNTS = (1, 3, 10, 30, 100)
_MEMORY_EACH = 150 << 20
_OPENED_AT_ONCE = 4
_LONGEST_OPENING = 20.0
"""Seconds; with a peer that takes longer, more sessions are not tried."""
_PRESSED = 3.0
_ROUNDS = 5
_CALLS = 300
_LINE = f"x = '{'a' * 93}'\n"
"""100 bytes of code."""


@dataclass(frozen=True)
class Size:
    """A size that a call may depend on."""

    name: str
    unit: str
    values: Sequence[float]
    prepare: Callable[[float], str]
    """Code before the calls."""
    call: Callable[[float], str]


SIZES = (
    Size(
        "state",
        "MB",
        (0, 10, 50, 100, 200, 400),
        lambda size: f"import numpy\nstate = numpy.ones({int(size * 125_000)})",
        lambda _: "x = 1",
    ),
    Size(
        "output",
        "kB",
        (0.05, 1, 10, 100, 1000, 5000),
        lambda _: "pass",
        lambda size: LINES.replace("COUNT", str(int(size * 20))),
    ),
    Size("code", "kB", (0.1, 1, 10, 50, 100, 250), lambda _: "pass", lambda size: _LINE * int(size * 10)),
)


async def curves(bench: Bench) -> dict[str, Any]:
    """Milliseconds of a call by size and peer: lists of pairs of size and median."""
    found: dict[str, Any] = {}
    async with AsyncExitStack() as stack:
        opened = {key: await stack.enter_async_context(PEERS[key].open(bench)) for key in COMPARED}
        for size in SIZES:
            unable = {key for key in opened if size.name == "state" and "frame" in PEERS[key].lacks}
            able = {key: session for key, session in opened.items() if key not in unable}
            found[size.name] = {"unit": size.unit, "peers": await _by_size(size, able)}
    by_peer = {key: await _by_counts(bench, key) for key in ("library", "ipykernel", "docker-exec")}
    names = ("peers", "calls per second", "seconds to open")
    found["sessions"] = {"unit": "sessions"} | {
        name: {key: [[row[0], row[1 + column]] for row in rows] for key, rows in by_peer.items()}
        for column, name in enumerate(names)
    }
    return found


async def _by_counts(bench: Bench, key: str) -> list[tuple[float, ...]]:
    rows: list[tuple[float, ...]] = []
    for count in COUNTS:
        rows.append((count, *await _by_count(bench, key, count)))
        print(f"{key}, {count} sessions: {rows[-1][1:]}", flush=True)
        most = psutil.virtual_memory().available / _MEMORY_EACH
        if rows[-1][-1] * 3.3 > _LONGEST_OPENING or count * 3.3 > most:
            break
    return rows


async def _by_size(size: Size, sessions: dict[str, Session]) -> dict[str, list[list[float]]]:
    found: dict[str, list[list[float]]] = {key: [] for key in sessions}
    for value in size.values:
        for session in sessions.values():
            await session.call(size.prepare(value))
        rounds = [
            {key: (await session.call(size.call(value))).seconds * 1000 for key, session in sessions.items()}
            for _ in range(_ROUNDS + 1)
        ]
        for key, points in found.items():
            points.append([value, round(statistics.median(taken[key] for taken in rounds[1:]), 3)])
        medians = {key: points[-1][1] for key, points in found.items()}
        print(f"{size.name}, {value:g} {size.unit}: {medians}", flush=True)
    return found


@asynccontextmanager
async def _many(bench: Bench, key: str, count: int) -> AsyncGenerator[list[Session]]:
    async with AsyncExitStack() as stack:
        sessions: list[Session] = []
        if key == "library":
            runtime = await stack.enter_async_context(AsyncRuntime())
            sandboxes = [runtime.sandbox() for _ in range(count)]
            opening = [stack.enter_async_context(sandbox) for sandbox in sandboxes]
            sessions += [LibrarySession(sandbox) for sandbox in [await each for each in opening]]
        else:
            for _ in range(count):
                sessions.append(await stack.enter_async_context(PEERS[key].open(bench)))
        limiter = anyio.CapacityLimiter(_OPENED_AT_ONCE)

        async def first_call(session: Session) -> None:
            async with limiter:
                await session.call(HELLO)

        async with anyio.create_task_group() as tasks:
            for session in sessions:
                tasks.start_soon(first_call, session)
        yield sessions


async def _by_count(bench: Bench, key: str, count: int) -> tuple[float, float, float]:
    """Milliseconds of a call while the other sessions are idle, calls per second when all call, seconds to open all."""
    begun = time.perf_counter()
    async with _many(bench, key, count) as sessions:
        opened = time.perf_counter() - begun
        alone = [(await session.call(HELLO)).seconds * 1000 for session in (sessions * 20)[: max(20, count)]]
        calls = 0

        async def press(session: Session) -> None:
            nonlocal calls
            while time.perf_counter() < begun + _PRESSED:
                await session.call(HELLO)
                calls += 1

        begun = time.perf_counter()
        async with anyio.create_task_group() as tasks:
            for session in sessions:
                tasks.start_soon(press, session)
        pressed = time.perf_counter() - begun
    return round(statistics.median(alone), 3), round(calls / pressed, 1), round(opened, 1)


async def call_profile(bench: Bench) -> dict[str, int]:
    """Microseconds of processor time that one warm call over stdio takes in each process."""
    async with PEERS["ours"].open(bench) as session:
        assert isinstance(session, McpSession)
        await session.call("import pandas")
        for _ in range(50):
            await session.call(HELLO)
        server = max(psutil.Process().children(), key=psutil.Process.create_time)
        owned = f'"pid":{server.pid},'
        (container,) = [
            item["Id"]
            for item in bench.api.containers(filters={"label": "mcp-agentrun.owner"})
            if owned in item["Labels"]["mcp-agentrun.owner"]
        ]
        processes = {
            "client": [psutil.Process()],
            "server": [server],
            "engine": _engine(container),
            "supervisor": [_supervisor(bench, container)],
        }
        before = {name: _used(each) for name, each in processes.items()}
        whole = _cgroup(bench, container)
        begun = time.perf_counter()
        for _ in range(_CALLS):
            await session.call(HELLO)
        elapsed = time.perf_counter() - begun
        found = {name: _used(each) - before[name] for name, each in processes.items()}
        found["checker, worker and checkpoints"] = _cgroup(bench, container) - whole - found["supervisor"]
    found["elapsed"] = elapsed * 1e9
    return {name: round(nanoseconds / 1000 / _CALLS) for name, nanoseconds in found.items()}


def _engine(container: str) -> list[psutil.Process]:
    return [
        process
        for process in psutil.process_iter(["name", "cmdline"])
        if process.info["name"] in ("dockerd", "containerd") or container in (process.info["cmdline"] or ())
    ]


def _supervisor(bench: Bench, container: str) -> psutil.Process:
    """The oldest process of *container*."""
    pids = [int(row[1]) for row in bench.api.top(container)["Processes"]]
    return min(map(psutil.Process, pids), key=lambda process: (process.create_time(), process.pid))


def _used(processes: Sequence[psutil.Process]) -> float:
    """Nanoseconds of processor time of all threads."""
    total = 0.0
    for process in processes:
        for thread in process.threads():
            with open(f"/proc/{process.pid}/task/{thread.id}/schedstat") as file:
                total += float(file.read().split()[0])
    return total


def _cgroup(bench: Bench, container: str) -> float:
    stats: Any = bench.api.stats(container, stream=False)
    return stats["cpu_stats"]["cpu_usage"]["total_usage"]
