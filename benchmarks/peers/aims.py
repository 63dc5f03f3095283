"""The aims that releases are measured against, in one run of a few minutes: ``python -m benchmarks.peers aims``."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import anyio
import anyio.to_thread

from benchmarks.__main__ import bare_container
from benchmarks.load import memory_of
from mcp_agentrun.engine.docker.image import ImageRecipe
from mcp_agentrun.sandbox import AsyncRuntime
from mcp_agentrun.settings import Settings

from .roster import PEERS, Bench
from .sessions import Session
from .work import FRAME, HELLO, LINES, PLOT, expect

__all__ = ["AIMS", "Aim", "measure_aims"]

USED = "import pandas\nopen('file', 'w').write('x' * 1000)"
MIB = 1 << 20


@dataclass(frozen=True)
class Aim:
    """One aim, and what was measured."""

    name: str
    aim: str
    before: str
    """The figure when the aim was set."""
    now: str
    is_reached: bool
    samples: Mapping[str, Sequence[float]]
    """Milliseconds, or MiB of memory."""


Samples = dict[str, list[float]]


async def in_turns(rounds: int, **calls: Callable[[], Awaitable[float]]) -> Samples:
    """Make each call once in each of *rounds*, after one more that isn't counted; milliseconds from its seconds."""
    samples: Samples = {name: [] for name in calls}
    for number in range(rounds + 1):
        for name, call in calls.items():
            milliseconds = await call() * 1000
            if number:
                samples[name].append(milliseconds)
    return samples


def ratio(samples: Samples, one: str, other: str) -> float:
    """The median of the ratios of those samples that belong to the same turn."""
    return statistics.median(a / b for a, b in zip(samples[one], samples[other], strict=True))


def timed(session: Session, code: str, expected: str) -> Callable[[], Awaitable[float]]:
    async def call() -> float:
        return expect(await session.call(code), expected) / 1000

    return call


@asynccontextmanager
async def sessions(bench: Bench, *names: str) -> AsyncGenerator[list[Session]]:
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(PEERS[name].open(bench)) for name in names]


async def hello(bench: Bench) -> Aim:
    """A warm call over stdio, each call in turn with one of each of the others."""
    names = ("ours", "no-op", "library", "docker-exec", "agentrun")
    async with sessions(bench, *names) as opened:
        ours, noop, library, execution, agentrun = opened
        await ours.call("import pandas")
        samples = await in_turns(
            30,
            noop=timed(noop, HELLO, "hello"),
            ours=timed(ours, HELLO, "hello"),
            library=timed(library, HELLO, "hello"),
            docker_exec=timed(execution, HELLO, "hello"),
            agentrun=timed(agentrun, HELLO, "hello"),
        )
    more = statistics.median(b - a for a, b in zip(samples["noop"], samples["ours"], strict=True))
    times = ratio(samples, "agentrun", "ours")
    return Aim(
        "warm hello over stdio, in turns with others",
        "at most 1.5 ms over the no-op tool, 30 times AgentRun",
        "2.3 ms",
        f"{more:.2f} ms over the no-op tool, {times:.0f} times AgentRun",
        more <= 1.5 and times >= 30,
        samples,
    )


async def reset(bench: Bench) -> Aim:
    """A reset after a file was written; of AgentRun, a new container for its class."""
    async with sessions(bench, "ours", "library", "agentrun") as (ours, library, agentrun):

        async def used(session: Session) -> float:
            await session.call(USED)
            return await session.reset()

        samples = await in_turns(25, ours=lambda: used(ours), library=lambda: used(library))
        for session in (ours, library):
            assert "NameError" in (await session.call("pandas")).text
        samples |= await in_turns(2, agentrun=agentrun.reset)
    times = statistics.median(samples["agentrun"]) / statistics.median(samples["ours"])
    median = statistics.median(samples["ours"])
    return Aim(
        "reset over stdio",
        "at most 3 ms, 100 times AgentRun",
        "11 ms",
        f"{median:.1f} ms, {times:.0f} times AgentRun; library {statistics.median(samples['library']):.1f} ms",
        median <= 3 and times >= 100,
        samples,
    )


async def plot(bench: Bench) -> Aim:
    """The first plot of a session that was reset, over stdio; and one more."""
    async with sessions(bench, "ours") as (ours,):

        async def again() -> float:
            answer = await ours.call(PLOT)
            assert answer.pictures == 1, answer.text
            return answer.seconds

        async def fresh() -> float:
            await ours.reset()
            await anyio.sleep(0.2)  # as a client takes between two calls
            return await again()

        samples = await in_turns(15, fresh=fresh, later=again)
    median = statistics.median(samples["fresh"])
    return Aim(
        "a plot in a fresh session",
        "at most 40 ms",
        "61 ms",
        f"{median:.0f} ms; later {statistics.median(samples['later']):.0f} ms",
        median <= 40,
        samples,
    )


async def output(bench: Bench) -> Aim:
    """1 MB in 20,000 lines, of which the library returns all and the server shows the beginning and the end."""
    async with sessions(bench, "library", "ours", "docker-exec") as (library, ours, execution):
        lines, last = LINES.replace("COUNT", "20_000"), f"{19_999:049d}"
        samples = await in_turns(
            15,
            library=timed(library, lines, last),
            ours=timed(ours, lines, last),
            docker_exec=timed(execution, lines, last),
        )
    found, stdio = ratio(samples, "library", "docker_exec"), ratio(samples, "ours", "docker_exec")
    return Aim(
        "1 MB in 20,000 lines",
        "at most 0.5 times docker exec",
        "0.74 times",
        f"{found:.2f} times; over stdio {stdio:.2f} times",
        found <= 0.5,
        samples,
    )


async def first_answer(bench: Bench) -> Aim:
    """From the first call, right after `initialize`, to its answer; and from the start of the server's process."""
    samples: Samples = {"engine": [], "first_call": [], "library": [], "from_process": []}
    for number in range(9):
        bare, _ = await anyio.to_thread.run_sync(bare_container, bench.api, ImageRecipe().tag)
        begun = time.perf_counter()
        async with PEERS["ours"].open(bench) as ours:
            answer = await ours.call(HELLO)
            whole = time.perf_counter() - begun
        begun = time.perf_counter()
        async with PEERS["library"].open(bench) as library:
            await library.call(HELLO)
            of_library = time.perf_counter() - begun
        if number:
            for name, seconds in zip(samples, (bare, answer.seconds, of_library, whole), strict=True):
                samples[name].append(seconds * 1000)
    found = ratio(samples, "first_call", "engine")
    return Aim(
        "first answer from the built image, server included",
        "at most 1.15 times the engine's own create-attach-start",
        "1.30 times",
        f"{found:.2f} times ({statistics.median(samples['first_call']):.0f} ms); "
        f"library {ratio(samples, 'library', 'engine'):.2f}, from the server's process "
        f"{ratio(samples, 'from_process', 'engine'):.2f} times",
        found <= 1.15,
        samples,
    )


async def memory(bench: Bench) -> Aim:
    """What the control group of an idle session's container holds, after one call and when the imports are done."""
    samples: Samples = {"data": [], "bare": []}
    for name, settings in (("data", Settings()), ("bare", Settings(preload=()))):
        async with AsyncRuntime(settings) as runtime:
            for _ in range(3):
                async with runtime.sandbox() as sandbox:
                    await sandbox.run("import pandas" if name == "data" else HELLO)
                    await sandbox.run(HELLO)
                    await anyio.sleep(3)  # idle
                    held = await anyio.to_thread.run_sync(_held, bench)
                    samples[name].append(held / MIB)
    data, bare = (statistics.median(found) for found in samples.values())
    return Aim(
        "an idle session's own memory",
        "at most 85 MiB with the data packages, 20 without",
        "94 MiB with",
        f"{data:.0f} MiB with, {bare:.0f} MiB without",
        data <= 85 and bare <= 20,
        samples,
    )


def _held(bench: Bench) -> int:
    """Bytes of this process's only container."""
    (found,) = memory_of(bench.api, os.getpid())
    return found


async def frame(bench: Bench) -> Aim:
    """Ten calls with 100 MB alive, each beside one of a session without; of each of the ten, the median of rounds."""
    with_it: list[list[float]] = [[] for _ in range(10)]
    without: list[list[float]] = [[] for _ in range(10)]
    async with sessions(bench, "library", "library") as (one, other):
        pairs = [(one, FRAME, with_it), (other, "import numpy, pandas", without)]
        for _ in range(40):
            pairs.reverse()
            for session, code, _times in pairs:
                await session.reset()
                await session.call(code)
            for call in range(10):
                for session, _code, times in pairs:
                    times[call].append((await session.call(f"x = {call}")).seconds * 1000)
    ratios = [statistics.median(a) / statistics.median(b) for a, b in zip(with_it, without, strict=True)]
    worst = max(ratios)
    samples = {"with": [t for times in with_it for t in times], "without": [t for times in without for t in times]}
    return Aim(
        "a 100 MB frame over ten calls",
        "no call over 1.2 times one without it",
        "",
        f"at most {worst:.2f} times (call {ratios.index(worst) + 1}), median {statistics.median(ratios):.2f}",
        worst <= 1.2,
        samples,
    )


AIMS: Mapping[str, Callable[[Bench], Awaitable[Aim]]] = {
    each.__name__: each for each in (hello, reset, plot, output, first_answer, memory, frame)
}


async def measure_aims(bench: Bench, names: Sequence[str] = ()) -> list[Aim]:
    """Measure the aims of *names*, or all, and print each as soon as it is known."""
    found: list[Aim] = []
    for name in names or AIMS:
        begun = time.monotonic()
        aim = await AIMS[name](bench)
        found.append(aim)
        verdict = "reached" if aim.is_reached else "NOT reached"
        print(f"{name}: {aim.name}: {aim.now}\n    aim: {aim.aim}; before: {aim.before or 'not measured'}; {verdict}")
        for label, samples in aim.samples.items():
            low, middle, high = min(samples), statistics.median(samples), max(samples)
            print(f"    {label}: {middle:.2f} ({low:.2f} to {high:.2f}, {len(samples)} samples)")
        print(f"    {time.monotonic() - begun:.0f} s", flush=True)
    return found
