"""AgentRun's REST API beside ours: ``python -m benchmarks.agentrun_api CHECKOUT``.

CHECKOUT is a checkout of AgentRun's repository, whose API is in ``agentrun-api/src``. It is served as it is, by a
Python of its own that has AgentRun 0.2.5. Both answer 200 calls by 16 callers, one after the other; then a
call looks for what another one has left.
"""

from __future__ import annotations

import contextlib
import math
import statistics
import sys
import time
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import anyio
import httpx2

from .agentrun import agentruns_container, agentruns_python, open_docker
from .common import serving_process

CALLS, CALLERS = 200, 16

# Only with what AgentRun's check permits.
_LEAVE = "import pathlib\npathlib.Path('secret').write_text('mine')\nprint('left')"
_LOOK = "import pathlib\nfound = pathlib.Path('secret')\nprint(found.read_text() if found.exists() else 'nothing')"


@contextmanager
def serving(*command: str, environment: dict[str, str] | None = None) -> Generator[str]:
    """The URL of the server that *command* starts."""
    with serving_process(*command, environment=environment) as (_, port):
        yield f"http://127.0.0.1:{port}"


async def run(http: httpx2.AsyncClient, url: str, code: str) -> str:
    response = await http.post(f"{url}/v1/run/", json={"code": code})
    response.raise_for_status()
    return response.json()["output"]


async def measure(url: str) -> tuple[float, list[float]]:
    """Return the seconds that all calls take together, and the milliseconds of each."""
    times: list[float] = []
    numbers = iter(range(CALLS))

    async def call_again() -> None:
        async with httpx2.AsyncClient(timeout=600) as http:
            for number in numbers:
                begun = time.perf_counter()
                output = await run(http, url, f"print({number})")
                times.append((time.perf_counter() - begun) * 1000)
                if output != f"{number}\n":
                    raise RuntimeError(f"{url}: {output!r} instead of {number}")

    begun = time.perf_counter()
    async with anyio.create_task_group() as tasks:
        for _ in range(CALLERS):
            tasks.start_soon(call_again)
    return time.perf_counter() - begun, times


async def compare(urls: dict[str, str]) -> None:
    """Print throughput and latency of each, and what a call finds of another one."""
    print(f"| {CALLS} calls, {CALLERS} at once | calls/s | p50, ms | p99, ms | what a call sees of another |")
    print("| --- | ---: | ---: | ---: | --- |")
    async with httpx2.AsyncClient(timeout=600) as http:
        for name, url in urls.items():
            await run(http, url, "print('warm')")
            seconds, times = await measure(url)
            await run(http, url, _LEAVE)
            seen = {(await run(http, url, _LOOK)).strip() for _ in range(CALLERS)}
            slowest = sorted(times)[math.ceil(0.99 * CALLS) - 1]
            figures = f"{CALLS / seconds:.1f} | {statistics.median(times):.0f} | {slowest:.0f}"
            print(f"| {name} | {figures} | {', '.join(sorted(seen))} |", flush=True)


def main() -> None:
    source = Path(*sys.argv[1:2]) / "agentrun-api" / "src"
    if len(sys.argv) != 2 or not source.is_dir():
        sys.exit("usage: make bench-agentrun-api AGENTRUN=CHECKOUT, a checkout of AgentRun's repository")
    api, image = open_docker()
    with ExitStack() as stack:
        stack.enter_context(contextlib.closing(api))
        container = stack.enter_context(agentruns_container(api, image))
        python = stack.enter_context(agentruns_python("fastapi", "uvicorn"))
        theirs = serving(
            *(python, "-m", "uvicorn", "api.main:app", "--app-dir", str(source)),
            *("--port", "PORT", "--log-level", "warning"),
            environment={"CONTAINER_NAME": container},
        )
        ours = serving(sys.executable, "-m", "mcp_agentrun", "serve", "--no-auth", "--port", "PORT")
        urls = {"mcp-agentrun": stack.enter_context(ours), "AgentRun": stack.enter_context(theirs)}
        anyio.run(compare, urls)


if __name__ == "__main__":
    main()
