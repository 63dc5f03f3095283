"""How long after it was written a line of a long run reaches an MCP client: ``python -m benchmarks.first_byte``.

The code prints its clock, and the client looks at its own when it is told of the line: on one machine, the two are one.
Each run goes on after its line, so that nothing but a progress notification can have brought it.
"""

from __future__ import annotations

import statistics
import time

import anyio

from .common import client_of, row

RUNS = 40
CODE = """
import time
time.sleep({pause})
print(time.time_ns(), flush=True)
time.sleep(0.5)
"""


async def main() -> None:
    took: list[float] = []

    async def on_progress(progress: float, total: float | None, message: str | None) -> None:
        now = time.time_ns()
        written = (message or "").split(" ")[0]
        if written.isdigit():
            took.append((now - int(written)) / 1e6)

    async with client_of("-m", "mcp_agentrun", "--safety", "off") as client:
        await client.call_tool("run_python", {"code": "import time"})
        for number in range(RUNS):
            # At once, and when the run has gone on for a while.
            code = CODE.format(pause=0 if number % 2 else 0.5)
            await client.call_tool("run_python", {"code": code}, progress_callback=on_progress)
    assert len(took) == RUNS, took
    row(
        "first line of a long run, from being written to the client, median",
        f"{statistics.median(took):.1f} ms",
        "at most 50 ms",
    )
    row("  the slowest of ten", f"{statistics.quantiles(took, n=10)[-1]:.1f} ms")


if __name__ == "__main__":
    anyio.run(main)
