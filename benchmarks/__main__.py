"""What things cost here, beside what they are to be compared with, in one run: ``python -m benchmarks``."""

from __future__ import annotations

import functools
import io
import statistics
import subprocess
import sys
import tarfile
import time

import anyio
import anyio.to_thread
from docker import APIClient
from mcp import Client

from mcp_agentrun.engine.docker.discovery import connect
from mcp_agentrun.sandbox import AsyncSandbox
from mcp_agentrun.settings import Settings
from tests.support.sandboxes import open_engine

from .common import client_of, median_ms, open_sandbox, row, times_ms

CODE = "print(1)"
RUNS = 200

NOOP_SERVER = """
from mcp.server.mcpserver import MCPServer
server = MCPServer("noop", log_level="WARNING")
@server.tool(structured_output=False)
async def run_python(code: str) -> str:
    return "1\\n"
server.run()
"""


async def warm_calls(engine: APIClient, image: str) -> None:
    """A warm ``run_python`` beside a tool that does nothing, and beside the way by ``docker exec``."""

    async def call(client: Client) -> None:
        result = await client.call_tool("run_python", {"code": CODE})
        assert not result.is_error

    async with client_of("-c", NOOP_SERVER) as bare, client_of("-m", "mcp_agentrun") as ours:
        await call(ours)
        await ours.call_tool("run_python", {"code": "import pandas"})
        await ours.call_tool("reset_sandbox", {})
        # In turns, so that whatever else the machine does falls on both.
        noop: list[float] = []
        run: list[float] = []
        for _ in range(4):
            noop.append(await median_ms(lambda: call(bare), RUNS // 4))
            run.append(await median_ms(lambda: call(ours), RUNS // 4))
    noop_ms, run_ms = statistics.median(noop), statistics.median(run)
    exec_ms, whole_ms = await exec_way(engine, image)
    row("no-op tool over stdio, median", f"{noop_ms:.2f} ms")
    row("warm run_python over stdio, median", f"{run_ms:.2f} ms")
    row("  more than the no-op", f"{run_ms - noop_ms:.2f} ms", "at most 1.5 ms")
    row("AgentRun's way: update, copy, docker exec, remove the copy, median", f"{whole_ms:.0f} ms")
    row("  times a warm run_python", f"{whole_ms / run_ms:.0f} x", "at least 50 x")
    row("update, copy and docker exec alone, median", f"{exec_ms:.0f} ms")
    row("  times a warm run_python", f"{exec_ms / run_ms:.0f} x")


async def exec_way(engine: APIClient, image: str) -> tuple[float, float]:
    """Milliseconds by AgentRun's way, which gives the code to ``docker exec``: to the code's output, and to the end of
    the call, when another ``docker exec`` has removed the copy of the code.
    """
    config = engine.create_host_config(network_mode="none")
    container = engine.create_container(image, entrypoint=["sleep", "1000"], host_config=config)["Id"]
    engine.start(container)
    to_output: list[float] = []

    def execute(*command: str) -> bytes:
        execution = engine.exec_create(container, command)["Id"]
        output = engine.exec_start(execution)
        assert engine.exec_inspect(execution)["ExitCode"] == 0
        return output

    def call() -> None:
        started = time.perf_counter()
        engine.inspect_container(container)
        engine.update_container(container, cpu_quota=100_000, mem_limit="1g", memswap_limit="1g")
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as archive:
            member = tarfile.TarInfo("script.py")
            member.size = len(CODE)
            member.uid = member.gid = 10001
            archive.addfile(member, io.BytesIO(CODE.encode()))
        engine.put_archive(container, "/tmp", packed.getvalue())
        assert execute("/opt/venv/bin/python", "/tmp/script.py") == b"1\n"
        to_output.append((time.perf_counter() - started) * 1000)
        execute("rm", "/tmp/script.py")

    async def in_thread() -> None:
        await anyio.to_thread.run_sync(call)

    try:
        whole = await median_ms(in_thread, 20, warm_up=2)
        return statistics.median(to_output), whole
    finally:
        engine.remove_container(container, force=True)


def bare_container(engine: APIClient, image: str) -> tuple[float, float]:
    """Seconds to create, attach and start a container, nothing of ours in it; and to destroy it."""
    started = time.perf_counter()
    container = engine.create_container(
        image, entrypoint=["sleep", "1000"], stdin_open=True, host_config=engine.create_host_config(network_mode="none")
    )["Id"]
    stream = engine.attach_socket(container, {"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1})
    engine.start(container)
    ready = time.perf_counter()
    stream.close()
    engine.remove_container(container, force=True)
    return ready - started, time.perf_counter() - ready


async def first_answer(engine: APIClient, image: str) -> float:
    """From nothing but the image to the first answer, beside the engine's own part of it; and a reset."""
    ours: list[float] = []
    server: list[float] = []
    bare: list[float] = []
    destroyed: list[float] = []
    for _ in range(7):
        create, destroy = await anyio.to_thread.run_sync(bare_container, engine, image)
        bare.append(create)
        destroyed.append(destroy)
        started = time.perf_counter()
        async with open_sandbox() as sandbox:
            assert (await sandbox.run(CODE)).output.text() == "1\n"
            ours.append(time.perf_counter() - started)
        async with client_of("-m", "mcp_agentrun") as client:
            started = time.perf_counter()
            assert not (await client.call_tool("run_python", {"code": CODE})).is_error
            server.append(time.perf_counter() - started)
    bare_s, ours_s, server_s = (statistics.median(times) for times in (bare, ours, server))
    row("engine: create, attach, start, median", f"{bare_s * 1000:.0f} ms")
    row("Sandbox: from nothing to the first answer, median", f"{ours_s * 1000:.0f} ms")
    row("  times the engine's own", f"{ours_s / bare_s:.2f} x", "at most 1.3 x")
    row("server: from the first call, right after initialize, to its answer", f"{server_s * 1000:.0f} ms")
    row("  times the engine's own", f"{server_s / bare_s:.2f} x", "at most 1.3 x")
    return bare_s + statistics.median(destroyed)


async def resets(cycle: float) -> None:
    async with open_sandbox() as sandbox:
        await sandbox.run("import pandas")

        async def used_and_reset() -> float:
            await sandbox.run("open('file', 'w').write('x' * 1000)")
            started = time.perf_counter()
            await sandbox.reset()
            return time.perf_counter() - started

        for _ in range(5):
            await used_and_reset()
        reset = statistics.median([await used_and_reset() for _ in range(30)])
    row("destroying and creating a container, median", f"{cycle * 1000:.0f} ms")
    row("reset_sandbox, median", f"{reset * 1000:.1f} ms")
    row("  of destroying and creating", f"1/{cycle / reset:.0f}", "at most 1/10")


async def sandbox_runs() -> None:
    async with open_sandbox() as sandbox:
        await sandbox.run("import pandas")
        row("warm Sandbox.run, without MCP, median", f"{await median_ms(lambda: sandbox.run(CODE), 1000):.2f} ms")


async def checkpoints() -> None:
    """A warm run back to back, with checkpoints and without, in turns; ``x = 1`` makes a new copy due each time."""
    frame = "import numpy, pandas; frame = pandas.DataFrame({'a': numpy.ones(25 << 20)})"  # 200 MiB
    async with (
        open_sandbox() as with_them,
        open_sandbox(Settings(checkpoints=False)) as without,
    ):
        for alive, prepare in (("bare", "import pandas"), ("a 200 MB DataFrame alive", frame)):
            for sandbox in (with_them, without):
                assert (await sandbox.run(prepare)).outcome == "ok"
            for code in (CODE, "x = 1"):
                times: dict[AsyncSandbox, list[float]] = {with_them: [], without: []}
                for _ in range(4):
                    for sandbox, found in times.items():
                        found += await times_ms(functools.partial(sandbox.run, code), RUNS // 4, warm_up=5)
                on, off = (statistics.median(found) for found in times.values())
                row(f"Sandbox.run({code!r}), {alive}, without checkpoints, median", f"{off:.2f} ms")
                bound = "at most 1.1 x" if code == CODE else ""
                row("  with checkpoints", f"{on:.2f} ms")
                row("  times that without", f"{on / off:.2f} x", bound)


def version_command() -> None:
    times: dict[str, list[float]] = {"-c": [], "-m": []}
    for _ in range(20):
        for option, arguments in (("-c", ["pass"]), ("-m", ["mcp_agentrun", "--version"])):
            begun = time.perf_counter()
            subprocess.run([sys.executable, option, *arguments], check=True, capture_output=True)
            times[option].append((time.perf_counter() - begun) * 1000)
    row("mcp-agentrun --version, median", f"{statistics.median(times['-m']):.0f} ms", "at most 150 ms")
    row("  Python alone", f"{statistics.median(times['-c']):.0f} ms")


async def main() -> None:
    engine, tried = connect()
    if engine is None:
        sys.exit(f"no container engine: {tried}")
    async with open_engine() as docker:
        image = await docker.ensure_image(lambda stage: print(stage, file=sys.stderr))
    version_command()
    await sandbox_runs()
    await checkpoints()
    await warm_calls(engine, image)
    await resets(await first_answer(engine, image))
    engine.close()


if __name__ == "__main__":
    anyio.run(main)
