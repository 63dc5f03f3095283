"""Sandboxes of several engines beside each other, in turns: ``python -m benchmarks.engines docker kubernetes``.

Settings are taken from the environment, such as the namespace, and an image that all engines have.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack

import anyio

from mcp_agentrun.sandbox import AsyncRuntime, AsyncSandbox
from mcp_agentrun.settings import Settings, load_settings

from .common import row

CODE = "print(1)"
USED = "import pandas\nopen('file', 'w').write('x' * 1000)"
POOL = 2
OPENED_AT_ONCE = 4

Call = Callable[[str], Awaitable[float]]
"""Does something on the engine of that name, and returns the seconds of the part that is measured."""


def settings_of(engine: str) -> Settings:
    return load_settings({"engine": engine})


async def seconds_of(call: Awaitable[object]) -> float:
    begun = time.perf_counter()
    await call
    return time.perf_counter() - begun


async def in_turns(what: str, engines: list[str], rounds: int, call: Call) -> None:
    """Print the medians of what *call* takes on each of *engines*, without those of a first round."""
    samples: Mapping[str, list[float]] = {name: [] for name in engines}
    for number in range(rounds + 1):
        for name in engines:
            seconds = await call(name)
            if number:
                samples[name].append(seconds * 1000)
    row(what, " / ".join(f"{statistics.median(samples[name]):.1f}" for name in engines), "ms")


async def many(engine: str, sessions: int, seconds: float) -> None:
    """Print what *sessions* sandboxes that call without a pause get done, after they have imported pandas."""
    slots = anyio.CapacityLimiter(OPENED_AT_ONCE)
    is_open = 0
    all_open = anyio.Event()
    latencies: list[float] = []
    begun = time.perf_counter()

    async def session(runtime: AsyncRuntime) -> None:
        nonlocal is_open
        async with AsyncExitStack() as stack:
            async with slots:
                sandbox = await stack.enter_async_context(runtime.sandbox())
                await sandbox.run("import pandas; count = 0")
            is_open += 1
            if is_open == sessions:
                row(
                    f"{engine}: {sessions} sessions opened, {OPENED_AT_ONCE} at once",
                    f"{time.perf_counter() - begun:.1f}",
                    "s",
                )
                all_open.set()
            await all_open.wait()
            end, count = time.perf_counter() + seconds, 0
            while time.perf_counter() < end:
                latencies.append(await seconds_of(sandbox.run("count += 1")))
                count += 1
            assert (await sandbox.run("print(count)")).text.strip() == str(count)

    async with AsyncRuntime(settings_of(engine)) as runtime, anyio.create_task_group() as tasks:
        for _ in range(sessions):
            tasks.start_soon(session, runtime)
    row(f"{engine}: calls of {sessions} sessions", f"{len(latencies) / seconds:.0f}", "per second")
    row("  of which each takes, median", f"{statistics.median(latencies) * 1000:.0f}", "ms")


async def fill(runtime: AsyncRuntime) -> None:
    """Wait until the pool of *runtime* is full."""
    while runtime.spares < POOL:  # noqa: ASYNC110 - it tells nobody
        await anyio.sleep(0.1)


async def measure(engines: list[str], sessions: int, seconds: float) -> None:
    async with AsyncExitStack() as stack:
        fresh: dict[str, AsyncRuntime] = {}
        pooled: dict[str, AsyncRuntime] = {}
        kept: dict[str, AsyncSandbox] = {}
        for name in engines:
            fresh[name] = await stack.enter_async_context(AsyncRuntime(settings_of(name)))
            pooled[name] = await stack.enter_async_context(AsyncRuntime(settings_of(name), pool=POOL))
            kept[name] = await stack.enter_async_context(fresh[name].sandbox())
            await kept[name].run("import pandas")
            await fill(pooled[name])

        async def reset(name: str) -> float:
            await kept[name].run(USED)
            return await seconds_of(kept[name].reset())

        async def first(runtime: AsyncRuntime) -> float:
            begun = time.perf_counter()
            async with runtime.sandbox() as sandbox:
                await sandbox.run(CODE)
                return time.perf_counter() - begun

        async def from_pool(name: str) -> float:
            await fill(pooled[name])
            return await first(pooled[name])

        row("", " / ".join(engines))
        await in_turns("warm call", engines, 60, lambda name: seconds_of(kept[name].run(CODE)))
        await in_turns("reset", engines, 20, reset)
        await in_turns("from nothing to the first answer", engines, 6, lambda name: first(fresh[name]))
        await in_turns("the same from the pool", engines, 6, from_pool)
    for name in engines:
        await many(name, sessions, seconds)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="benchmarks.engines", description=__doc__)
    parser.add_argument("engines", nargs="+")
    parser.add_argument("--sessions", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=10)
    given = parser.parse_args()
    anyio.run(measure, given.engines, given.sessions, given.seconds)
