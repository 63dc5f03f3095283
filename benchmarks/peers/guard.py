"""What a call costs beside what it is made of, compared with what was recorded: ``python -m benchmarks.peers guard``.

Each is the least of several samples by the least of another's, taken in turns, because whatever else a machine does
only adds to times. A band is wide enough for machines to differ, and is left by what makes a call cost twice as much.
"""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
from docker import APIClient

from benchmarks.__main__ import bare_container
from mcp_agentrun.engine.docker.image import ImageRecipe

from .roster import PEERS, Bench
from .sessions import Session
from .work import HELLO, LINES, expect

__all__ = ["guard"]

BANDS = Path(__file__).with_name("bands.json")
_LINES = LINES.replace("COUNT", "20_000")


async def guard(bench: Bench) -> bool:
    """Measure the ratios and print each; whether all are within their bands."""
    bands: dict[str, dict[str, float]] = json.loads(BANDS.read_text())
    is_within = True
    for name, found in (await _ratios(bench)).items():
        most = bands[name]["at most"]
        print(f"{name}: {found:.2f} (recorded: {bands[name]['recorded']}, at most {most})", flush=True)
        is_within &= found <= most
    return is_within


async def _ratios(bench: Bench) -> dict[str, float]:
    async with PEERS["library"].open(bench) as library:
        async with PEERS["ours"].open(bench) as ours, PEERS["no-op"].open(bench) as noop:
            for session in (ours, noop, library):
                await session.call(HELLO)
            await ours.call("import pandas")  # after which the sandbox has nothing more to prepare
            hello = await _least(40, lambda: _call(ours, HELLO), lambda: _call(noop, HELLO))

        async def bare() -> float:
            seconds, _ = await anyio.to_thread.run_sync(bare_container, bench.api, ImageRecipe().tag)
            return seconds * 1000

        async def reset() -> float:
            await library.call("import pandas\nopen('file', 'w').write('x' * 1000)")
            return await library.reset() * 1000

        async def first() -> float:
            async with PEERS["ours"].open(bench) as ours:
                return await _call(ours, HELLO)

        container = await anyio.to_thread.run_sync(_container, bench.api)
        try:
            output = await _least(
                6, lambda: _call(library, _LINES), lambda: anyio.to_thread.run_sync(_execute, bench.api, container)
            )
        finally:
            bench.api.remove_container(container, force=True)
        return {
            "warm hello over stdio / no-op tool": hello,
            "1 MB in 20,000 lines / docker exec": output,
            "reset / create, attach and start a container": await _least(7, reset, bare),
            "first answer after initialize / create, attach and start": await _least(7, first, bare),
        }


async def _least(rounds: int, one: Callable[[], Awaitable[float]], other: Callable[[], Awaitable[float]]) -> float:
    samples = [(await one(), await other()) for _ in range(rounds)]
    return min(a for a, _ in samples) / min(b for _, b in samples)


async def _call(session: Session, code: str) -> float:
    return expect(await session.call(code), "hello" if code == HELLO else "19999")


def _container(api: APIClient) -> str:
    config = api.create_host_config(network_mode="none")
    container = api.create_container(ImageRecipe().tag, entrypoint=["sleep", "1000"], host_config=config)["Id"]
    api.start(container)
    return container


def _execute(api: APIClient, container: str) -> float:
    begun = time.perf_counter()
    execution: Any = api.exec_create(container, ["/opt/venv/bin/python", "-c", _LINES])
    output: bytes = api.exec_start(execution)
    seconds = time.perf_counter() - begun
    assert output.endswith(b"19999\n"), output[-100:]
    return seconds * 1000
