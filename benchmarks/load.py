"""Many sessions over streamable HTTP, beside a tool that does nothing: ``python -m benchmarks.load``.

Each session calls again as soon as it is answered, and each answer must be that of its own variables. The exit code is
1 if an answer is wrong or lost, if one session gets more than twice as much done as another, or if a sandbox from the
pool is not as quick as it is to be.
"""

from __future__ import annotations

import argparse
import math
import os
import secrets
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import httpx2
import psutil
from docker import APIClient
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.types import CallToolResult, TextContent

from mcp_agentrun.engine import LABEL_OWNER, LABEL_ROLE
from mcp_agentrun.engine.docker.discovery import connect
from tests.support.violations import Violations

from .common import row, serving_process

OPENED_AT_ONCE = 4
POOL = 8
FROM_POOL_MS = 50.0
FAIRNESS = 2.0
IDLE_PERCENT, IDLE_SECONDS = 25, 120
MEMORY_EACH = 150 << 20
"""What a session is reckoned with, where it is asked whether the machine has the memory for as many."""

NOOP_SERVER = """
import sys
from mcp.server.mcpserver import MCPServer
server = MCPServer("noop", log_level="WARNING")
@server.tool(structured_output=False)
async def run_python(code: str) -> str:
    return code
server.run("streamable-http", port=int(sys.argv[1]))
"""


class Server:
    """A server process that answers on *port*."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, tokens: Sequence[str]) -> None:
        self.process = process
        self.url = f"http://127.0.0.1:{port}"
        self.tokens = tokens

    @property
    def cpu(self) -> float:
        """Seconds of CPU that its process has had."""
        times = psutil.Process(self.process.pid).cpu_times()
        return times.user + times.system

    @property
    def memory(self) -> int:
        return psutil.Process(self.process.pid).memory_info().rss

    async def metric(self, name: str) -> float:
        headers = {"Authorization": f"Bearer {self.tokens[0]}"}
        async with httpx2.AsyncClient(headers=headers) as http:
            text = (await http.get(f"{self.url}/metrics")).text
        return float(text.partition(f"\n{name} ")[2].split()[0])


@contextmanager
def serving(*arguments: str, tokens: Sequence[str] = ()) -> Generator[Server]:
    """The server that Python starts with *arguments*, in which PORT and TOKENS stand for what they are to be."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "tokens")
        file.touch(0o600)
        file.write_text("".join(f"principal-{number} {token}\n" for number, token in enumerate(tokens)))
        file.chmod(0o600)
        command = [str(file) if word == "TOKENS" else word for word in arguments]
        with serving_process(sys.executable, *command) as (process, port):
            yield Server(process, port, tokens)


@asynccontextmanager
async def client_of(server: Server, number: int, mode: str) -> AsyncGenerator[Client]:
    headers = {"Authorization": f"Bearer {server.tokens[number]}"} if server.tokens else {}
    async with (
        httpx2.AsyncClient(headers=headers, timeout=120) as http,
        Client(streamable_http_client(f"{server.url}/mcp", http_client=http), mode=mode) as client,
    ):
        yield client


def text_of(result: CallToolResult) -> str:
    return "".join(block.text for block in result.content if isinstance(block, TextContent))


class Session:
    """One client, and what must be true of its variables."""

    def __init__(self, client: Client, violations: Violations) -> None:
        self._client = client
        self._violations = violations
        self._mine = secrets.randbelow(1 << 60)
        self._count = 0
        self._handle: str | None = None
        self.times: list[float] = []

    async def _call(self, code: str) -> CallToolResult:
        arguments = {"code": code} if self._handle is None else {"code": code, "sandbox": self._handle}
        return await self._client.call_tool("run_python", arguments)

    async def begin(self) -> None:
        result = await self._call(f"mine, count = {self._mine}, 0")
        self._violations.require(not result.is_error, "a session was not opened", text_of(result))
        self._handle = ((result.meta or {}).get("agentrun/run") or {}).get("sandbox")

    async def work(self) -> None:
        """A call that changes what the session holds, and must be answered with all that went before."""
        self._count += 1
        started = time.perf_counter()
        result = await self._call("count += 1\n(mine, count)")
        self.times.append(time.perf_counter() - started)
        expected = f"({self._mine}, {self._count})\n"
        self._violations.require(text_of(result) == expected, "a wrong answer", (expected, text_of(result)[:200]))


class Idler:
    """A client of the tool that does nothing."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self.times: list[float] = []

    async def begin(self) -> None:
        await self._client.call_tool("run_python", {"code": "1"})

    async def work(self) -> None:
        started = time.perf_counter()
        await self._client.call_tool("run_python", {"code": "count += 1\n(mine, count)"})
        self.times.append(time.perf_counter() - started)


async def at_most(many: int, calls: Sequence[Callable[[], Awaitable[object]]]) -> None:
    """Make all *calls*, so *many* at a time."""
    limiter = anyio.CapacityLimiter(many)

    async def make(call: Callable[[], Awaitable[object]]) -> None:
        async with limiter:
            await call()

    async with anyio.create_task_group() as tasks:
        for call in calls:
            tasks.start_soon(make, call)


async def press(sessions: Sequence[Session | Idler], seconds: float) -> float:
    """Have all *sessions* call for so long; returns how long it took until all were answered."""
    started = time.perf_counter()

    async def go_on(session: Session | Idler) -> None:
        while time.perf_counter() < started + seconds:
            await session.work()

    async with anyio.create_task_group() as tasks:
        for session in sessions:
            tasks.start_soon(go_on, session)
    return time.perf_counter() - started


def percentile(times: Sequence[float], share: float) -> float:
    ordered = sorted(times)
    return ordered[min(len(ordered) - 1, math.ceil(share * len(ordered)) - 1)] * 1000


async def idle() -> None:
    """Wait until the machine has nothing to do: new sandboxes import packages in the background."""
    with anyio.move_on_after(IDLE_SECONDS):
        while await anyio.to_thread.run_sync(psutil.cpu_percent, 1.0) > IDLE_PERCENT:
            pass  # it tells nobody


def report(what: str, sessions: Sequence[Session | Idler], seconds: float, cpu: float) -> tuple[float, float, float]:
    """Print what *sessions* have measured; returns the median in ms, calls per second, and most calls by fewest."""
    times = [taken for session in sessions for taken in session.times]
    counts = [len(session.times) for session in sessions]
    fairness = max(counts) / max(1, min(counts))
    p50, rate = percentile(times, 0.5), len(times) / seconds
    row(f"{what}: calls per second", f"{rate:.0f}")
    row("  p50", f"{p50:.1f} ms")
    row("  p99", f"{percentile(times, 0.99):.1f} ms")
    row("  CPU of the server's process, for each call", f"{cpu / len(times) * 1000:.2f} ms")
    row("  most calls of a session, by fewest", f"{fairness:.2f} x")
    return p50, rate, fairness


def memory_of(api: APIClient, pid: int) -> list[int]:
    """Bytes that each container of process *pid* holds, page cache that can be dropped apart."""
    found: list[int] = []
    for item in api.containers(filters={"label": f"{LABEL_ROLE}=runner"}):
        if f'"pid":{pid},' in item["Labels"][LABEL_OWNER]:
            found.append(container_memory(api, item["Id"]))
    return found


def container_memory(api: APIClient, container: str) -> int:
    """Bytes that *container* holds, page cache that can be dropped apart."""
    stats: dict[str, Any] = api.stats(container, stream=False)["memory_stats"]
    inner = stats["stats"]
    return stats["usage"] - inner.get("total_inactive_file", inner.get("inactive_file", 0))


async def many(api: APIClient, server: Server, bare: Server, count: int, seconds: float, mode: str) -> Violations:
    violations = Violations()
    print(f"\n{count} sessions", flush=True)
    before = server.memory
    async with AsyncExitStack() as stack:
        idlers = [Idler(await stack.enter_async_context(client_of(bare, number, mode))) for number in range(count)]
        clients = [await stack.enter_async_context(client_of(server, number, mode)) for number in range(count)]
        sessions = [Session(client, violations) for client in clients]
        await idle()  # so that all sessions begin with what has been imported
        started = time.perf_counter()
        await at_most(OPENED_AT_ONCE, [session.begin for session in (*sessions, *idlers)])
        row(f"opened, {OPENED_AT_ONCE} at a time", f"{time.perf_counter() - started:.1f} s")
        await idle()
        taken = {bare.url: 0.0, server.url: 0.0}
        cpu = {bare.url: 0.0, server.url: 0.0}
        # In turns, so that whatever else the machine does falls on both.
        for _ in range(2):
            for of, those in ((bare, idlers), (server, sessions)):
                before_cpu = of.cpu
                taken[of.url] += await press(those, seconds)
                cpu[of.url] += of.cpu - before_cpu
        noop, noop_rate, _ = report("no-op tool", idlers, taken[bare.url], cpu[bare.url])
        ours, ours_rate, fairness = report("run_python", sessions, taken[server.url], cpu[server.url])
        row("  calls per second, by those of the no-op", f"{ours_rate / noop_rate:.2f} x")
        row("  p50, more than the no-op, for each session that calls", f"{(ours - noop) / count:.2f} ms")
        violations.require(fairness <= FAIRNESS, "unfair", f"{fairness:.2f} x")
        held = await anyio.to_thread.run_sync(memory_of, api, server.process.pid)
        row("memory of an idle session's container, median", f"{statistics.median(held) / (1 << 20):.0f} MiB")
        row("  of the server's process, for each session", f"{(server.memory - before) / count / (1 << 20):.2f} MiB")
    return violations


async def filled(server: Server) -> None:
    """Wait until the pool is full."""
    with anyio.fail_after(120):
        while await server.metric("agentrun_pool_sandboxes") < POOL:  # noqa: ASYNC110
            await anyio.sleep(0.05)  # it tells nobody


async def from_pool(mode: str, tokens: Sequence[str]) -> Violations:
    """First calls while the pool lasts, beside warm ones of the same clients."""
    violations = Violations()
    arguments = "--pool", str(POOL), "--pool-max", str(POOL)
    with serving("-m", "mcp_agentrun", "serve", *COMMON, *arguments, tokens=tokens) as server:
        await filled(server)
        more: list[float] = []
        async with AsyncExitStack() as stack:
            for number in range(POOL):
                client = await stack.enter_async_context(client_of(server, number, mode))
                await client.list_tools()
                session = Session(client, violations)
                started = time.perf_counter()
                await session.begin()
                first = time.perf_counter() - started
                for _ in range(20):
                    await session.work()
                more.append((first - statistics.median(session.times)) * 1000)
            misses = await server.metric("agentrun_pool_misses_total")
    print(f"\n{POOL} first calls, from a pool of {POOL}", flush=True)
    violations.require(misses == 0, "the pool did not last", f"{misses:g} misses")
    median = statistics.median(more)
    row("from pool to first answer, more than a warm call, median", f"{median:.1f} ms", f"at most {FROM_POOL_MS:g} ms")
    row("  the slowest", f"{max(more):.1f} ms")
    violations.require(median <= FROM_POOL_MS, "slow from the pool", f"{median:.1f} ms")
    return violations


COMMON = ("--port", "PORT", "--token-file", "TOKENS")


async def load(counts: Sequence[int], seconds: float, mode: str, api: APIClient) -> int:
    tokens = [secrets.token_urlsafe(24) for _ in range(max(*counts, POOL))]
    found = await from_pool(mode, tokens)
    broken = sum(found.counts.values())
    for count in counts:
        if psutil.virtual_memory().available < count * MEMORY_EACH:
            print(f"\n{count} sessions: left out, this machine has too little memory free", flush=True)
            continue
        with (
            serving("-c", NOOP_SERVER, "PORT") as bare,
            serving("-m", "mcp_agentrun", "serve", *COMMON, "--max-total", str(max(count, 8)), tokens=tokens) as server,
        ):
            broken += sum((await many(api, server, bare, count, seconds, mode)).counts.values())
    return broken


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.load", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--sessions", type=int, nargs="+", default=[1, 8, 32, 100])
    parser.add_argument(
        "--seconds", type=float, default=6.0, help="of each of the four turns at each number of sessions"
    )
    parser.add_argument("--mode", default="legacy", choices=["legacy", "2026-07-28"], help="era of the protocol")
    arguments: Any = parser.parse_args()
    api, tried = connect()
    if api is None:
        sys.exit(f"no container engine: {tried}")
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {arguments.mode}", flush=True)
    started = time.monotonic()
    broken = anyio.run(load, arguments.sessions, arguments.seconds, arguments.mode, api)
    api.close()
    print(f"\n{time.monotonic() - started:.0f} s in all, {broken} violations")
    sys.exit(1 if broken else 0)


if __name__ == "__main__":
    main()
