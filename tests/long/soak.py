"""Thousands of runs of mixed kinds over four sandboxes at once: ``python -m tests.long.soak``.

Nine sorts of failure have a twentieth of the runs each, and what is left is ordinary work. Each sandbox is held to a
model of what its variables and files must be. At the end, and at every tenth of the runs in between, memory,
descriptors and processes are compared with what they were at the first tenth. The exit code is 1 if a bound is broken.
"""

from __future__ import annotations

import argparse
import array
import collections
import gc
import math
import os
import random
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import anyio
import anyio.to_thread
import psutil
from docker import APIClient

from mcp_agentrun.engine.docker.discovery import connect
from mcp_agentrun.errors import UnavailableError
from mcp_agentrun.sandbox import AsyncSandbox, Result
from mcp_agentrun.settings import Settings
from tests.support.containers import containers_of_ours
from tests.support.sandboxes import open_engine, sandbox_on
from tests.support.violations import Violations

SANDBOXES = 4
EACH = 7
"""Processes of a sandbox at rest: supervisor, two checkers, zygote, worker, spare and copy."""

PARTS = 10
"""The first is the warm-up; what grows is looked for in the others."""

GROWTH = 1.05
PAYLOAD = 100_000
SETTINGS = Settings(
    safety="off",
    memory=400 << 20,
    workspace_size=32 << 20,
    tmp_size=16 << 20,
    shm_size=16 << 20,
    output_keep=1 << 20,
)

SETUP = """
import ctypes, os, sys, time, pandas
session, count, frame = {session}, 0, pandas.DataFrame({{'a': range(1000)}})
open('session', 'w').write('{session}')
"""
CHECK = "session, count, int(frame['a'].sum()), open('session').read()"

FAILURES = {
    "exception": ("1 / 0", "error", None),
    "sys.exit": ("sys.exit(3)", "error", None),
    "soft timeout": ("time.sleep(60)", "timeout", 0.2),
    "os._exit": ("os._exit(1)", "crashed", None),
    "segmentation fault": ("ctypes.string_at(0)", "crashed", None),
    "out of memory": ("block = [bytearray(16 << 20) for _ in range(1000)]", "memory_limit", None),
    "fork bomb": (
        "while True:\n    try:\n        os.fork()\n    except OSError:\n        time.sleep(0.01)",
        "timeout",
        0.2,
    ),
    "cancel": ("print('begun', flush=True); time.sleep(60)", "cancelled", None),
    "output flood": ("while True: print('x' * 8191)", "timeout", 0.2),
}


class Tally:
    """What is counted over all sandboxes."""

    def __init__(self, runs: int) -> None:
        self.ordinary = array.array("d", bytes(8 * runs))  # all of it now, so that it doesn't look like growth later
        self.measured = 0
        self.kinds: collections.Counter[str] = collections.Counter()
        self.ends: collections.Counter[str] = collections.Counter()
        self.violations = Violations()

    def measure(self, seconds: float) -> None:
        self.ordinary[self.measured] = seconds
        self.measured += 1

    def percentile(self, share: float) -> float:
        ordered = sorted(self.ordinary[: self.measured])
        return ordered[min(len(ordered) - 1, math.ceil(share * len(ordered)) - 1)] * 1000


class Session:
    """One sandbox, and what must be true of it."""

    def __init__(self, sandbox: AsyncSandbox, number: int, tally: Tally, chance: random.Random, share: float) -> None:
        self.sandbox = sandbox
        self.number = number
        self.count = 0
        self.added = 0
        self._has_failed = False
        self._tally = tally
        self._chance = chance
        self._share = share
        self._ordinary: tuple[Callable[[], Awaitable[None]], ...] = (
            self._print,
            self._count,
            self._pandas,
            self._large_output,
            self._files,
            self._check,
        )

    async def begin(self) -> None:
        result = await self.sandbox.run(SETUP.format(session=self.number), timeout=SETTINGS.limits.max_timeout)
        assert result.outcome == "ok", result
        self.count = self.added = 0

    async def step(self) -> None:
        """One run of whatever kind comes up."""
        drawn = self._chance.random()
        try:
            if drawn < self._share * len(FAILURES):
                await self._fail(list(FAILURES)[int(drawn / self._share)])
            else:
                kind = self._chance.choice(self._ordinary)
                self._tally.kinds[kind.__name__.strip("_").replace("_", " ")] += 1
                await kind()
        except UnavailableError as error:
            self._tally.violations.note("a sandbox was lost", error)
            await self.begin()

    async def check(self) -> None:
        """Whether every variable and file is what it must be."""
        expected = (self.number, self.count, 499_500 + 1000 * self.added, str(self.number))
        await self._expect(CHECK, f"{expected}\n")

    async def _expect(self, code: str, text: str) -> None:
        result = await self.sandbox.run(code)
        self._note_loss(result)
        right = result.outcome == "ok" and result.output.text() == text
        if not self._has_failed:  # what a failed run has left behind may have written something while it was ended
            right = right and not result.late.written
        self._has_failed = False
        self._tally.violations.require(
            right and result.since == "kept", "an ordinary run went wrong", (code[:60], text[:60], _brief(result))
        )
        if result.outcome != "ok":
            await self.begin()

    async def _timed(self, code: str, text: str) -> None:
        started = time.perf_counter()
        await self._expect(code, text)
        self._tally.measure(time.perf_counter() - started)

    async def _print(self) -> None:
        number = self._chance.randrange(1 << 30)
        await self._timed(f"print({number})", f"{number}\n")

    async def _count(self) -> None:
        self.count += 1
        await self._timed("count += 1\ncount", f"{self.count}\n")

    async def _pandas(self) -> None:
        self.added += 1
        total = 499_500 + 1000 * self.added
        code = "frame['a'] += 1\nprint(int(frame.groupby(frame['a'] % 7)['a'].sum().sum()))"
        await self._timed(code, f"{total}\n")

    async def _large_output(self) -> None:
        letter = self._chance.choice("abcdefgh")
        await self._timed(f"print('{letter}' * {PAYLOAD})", letter * PAYLOAD + "\n")

    async def _files(self) -> None:
        number = self._chance.randrange(1 << 30)
        code = f"with open('data', 'w') as file: file.write('{number}' * 1000)\nlen(open('data').read())"
        await self._timed(code, f"{len(str(number)) * 1000}\n")

    async def _check(self) -> None:
        started = time.perf_counter()
        await self.check()
        self._tally.measure(time.perf_counter() - started)

    async def _fail(self, sort: str) -> None:
        code, outcome, timeout = FAILURES[sort]
        code = "count += 1\n" + code
        self._tally.kinds[sort] += 1
        self._has_failed = True
        if sort == "cancel":
            await self._cancel(code)
            return
        result = await self.sandbox.run(code, timeout=timeout)
        self._note_loss(result)
        self._tally.ends[f"{sort}: {result.outcome}, {result.state}"] += 1
        self._tally.violations.require(result.outcome == outcome, f"the outcome of: {sort}", _brief(result))
        if result.state == "kept" and timeout is not None:
            await self._learn(sort)
        elif result.state == "kept":
            self.count += 1
        elif result.state == "lost":
            await self.begin()

    async def _learn(self, sort: str) -> None:
        """See whether a run that was interrupted had come to its first statement: a busy machine is slow to begin."""
        result = await self.sandbox.run("count")
        self._note_loss(result)
        counts = {f"{self.count}\n": self.count, f"{self.count + 1}\n": self.count + 1}
        right = counts.get(result.output.text())
        self._tally.violations.require(right is not None, f"the variables after: {sort}", _brief(result))
        self.count = self.count if right is None else right

    async def _cancel(self, code: str) -> None:
        with anyio.CancelScope() as scope:

            async def cancel(_: bytes) -> None:
                scope.cancel()

            await self.sandbox.run(code, on_bytes=cancel)
            self._tally.violations.note("a run was not cancelled", code)
        # The answer has gone with the call. An interrupt keeps the variables, a kill brings them back.
        result = await self.sandbox.run("count")
        self._note_loss(result)
        known = {f"{self.count + 1}\n": "kept", f"{self.count}\n": "restored"}
        state = known.get(result.output.text())
        self._tally.ends[f"cancel: {state}"] += 1
        self._tally.violations.require(state is not None, "the variables after a cancel", _brief(result))
        if state == "kept":
            self.count += 1
        elif state is None:
            await self.begin()

    def _note_loss(self, result: Result) -> None:
        self._tally.violations.require(
            not result.replaced and "lost" not in (result.state, result.since), "variables were lost", _brief(result)
        )


def _brief(result: Result) -> str:
    output = result.output
    return (
        f"{result.outcome}, state {result.state}, since {result.since}, unprotected {result.unprotected}, "
        f"replaced {result.replaced}, exit code {result.exit_code}, error {result.error}, "
        f"{output.written} bytes of output, beginning {output.head[:120]!r}, {result.late.written} late"
    )


class Gauges:
    """What must not grow, of this process and of its containers."""

    def __init__(self, api: APIClient, violations: Violations) -> None:
        self._api = api
        self._violations = violations
        self._process = psutil.Process()
        self.processes: dict[str, int] = {}
        self.supervisor_kib: list[int] = []

    def _top(self, container: str) -> list[tuple[int, int]]:
        """Resident KiB and the host's pid of each process in *container*, PID 1's first."""
        table: list[list[str]] = self._api.top(container, ps_args="-eo rss,pid,comm")["Processes"]
        return [(int(line[0]), int(line[1])) for line in table]

    def settle(self) -> None:
        """Wait until every container has as many processes as at the first call, which is after a run each."""
        known = dict(self.processes)
        self.supervisor_kib = []
        for container in containers_of_ours(self._api):
            deadline = time.monotonic() + 10
            while len(processes := self._top(container)) > known.get(container, EACH):
                if time.monotonic() > deadline:
                    self._violations.note("processes are left in a container", self._api.top(container)["Processes"])
                    break
                time.sleep(0.1)
            self.processes[container] = len(processes)
            self.supervisor_kib.append(min(rss for rss, _ in processes))

    def pids(self) -> list[psutil.Process]:
        """The processes of our containers, where the engine is on this machine."""
        found: list[psutil.Process] = []
        for container in containers_of_ours(self._api):
            for _, pid in self._top(container):
                if psutil.pid_exists(pid):
                    found.append(psutil.Process(pid))
        return found

    def read(self) -> dict[str, float]:
        self.settle()
        gc.collect()
        return {
            "memory, MiB": self._process.memory_info().rss / (1 << 20),
            "descriptors": self._process.num_fds() if hasattr(self._process, "num_fds") else 0,
            "threads": self._process.num_threads(),
            "memory of the supervisors, MiB": sum(self.supervisor_kib) / 1024,
            "processes in the containers": sum(self.processes.values()),
        }


async def soak(runs: int, seed: int, share: float, api: APIClient) -> Tally:
    tally = Tally(runs + 10 * SANDBOXES)
    gauges = Gauges(api, tally.violations)
    each = max(1, runs // (SANDBOXES * PARTS))
    async with open_engine() as engine, AsyncExitStack() as stack:
        sessions = [
            Session(
                await stack.enter_async_context(sandbox_on(engine, SETTINGS)),
                number,
                tally,
                random.Random(seed * 1000 + number),
                share,
            )
            for number in range(SANDBOXES)
        ]

        async def some_of(session: Session) -> None:
            for _ in range(each):
                await session.step()

        for session in sessions:
            await session.begin()
        readings: list[dict[str, float]] = []
        started = time.monotonic()
        for part in range(PARTS):
            async with anyio.create_task_group() as tasks:
                for session in sessions:
                    tasks.start_soon(some_of, session)
            for session in sessions:
                await session.check()
            readings.append(await anyio.to_thread.run_sync(gauges.read))
            figures = "  ".join(f"{name}: {value:.1f}" for name, value in readings[-1].items())
            print(
                f"{(part + 1) * each * SANDBOXES:>6} runs, {time.monotonic() - started:4.0f} s  {figures}", flush=True
            )
        left = await anyio.to_thread.run_sync(gauges.pids)
    for name, first in readings[0].items():
        last = readings[-1][name]
        tally.violations.require(last <= first * GROWTH, f"growth of {name}", f"{first:.1f} to {last:.1f}")
        print(f"{name:<36} {first:8.1f} -> {last:8.1f}  ({(last / first - 1) * 100 if first else 0:+.1f} %)")
    still = [process for process in left if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]
    tally.violations.require(not still, "processes are left", still)
    containers = containers_of_ours(api)
    tally.violations.require(not containers, "containers are left", containers)
    children = psutil.Process().children(recursive=True)
    tally.violations.require(not children, "children are left", children)
    print(f"left: {len(containers)} containers, {len(still)} of their {len(left)} processes, {len(children)} children")
    return tally


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.long.soak", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(3), "big"))
    parser.add_argument("--share", type=float, default=0.05, help="of the runs, for each sort of failure")
    arguments: Any = parser.parse_args()
    api, tried = connect()
    if api is None:
        sys.exit(f"no container engine: {tried}")
    print(f"{arguments.runs} runs over {SANDBOXES} sandboxes, seed {arguments.seed}", flush=True)
    started = time.monotonic()
    tally = anyio.run(soak, arguments.runs, arguments.seed, arguments.share, api)
    api.close()
    for name, count in sorted(tally.kinds.items()):
        print(f"  {count:>6} {name}")
    for name, count in sorted(tally.ends.items()):
        print(f"  {count:>6} {name}")
    median = statistics.median(tally.ordinary[: tally.measured]) * 1000
    print(
        f"{tally.measured} ordinary runs: p50 {median:.1f} ms, p90 {tally.percentile(0.9):.1f} ms, "
        f"p99 {tally.percentile(0.99):.1f} ms, longest {tally.percentile(1):.1f} ms"
    )
    violations = tally.violations.counts
    print(f"{time.monotonic() - started:.0f} s in all, {sum(violations.values())} violations {dict(violations) or ''}")
    sys.exit(1 if violations else 0)


if __name__ == "__main__":
    main()
