"""What the kernel's own figures say in the audit trail, and what the trail of a real server has."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import anyio
import pytest

from mcp_agentrun import AsyncRuntime, Settings
from mcp_agentrun.audit import Trail
from mcp_agentrun.sandbox import AsyncSandbox
from mcp_agentrun.sessions import Caller, SessionManager
from tests.support.sandboxes import open_engine

pytestmark = pytest.mark.anyio

BURN = "import time\nend = time.process_time() + 0.5\nwhile time.process_time() < end: pass"
IN_A_CHILD = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {BURN!r}])"


async def test_processor_time_and_memory_are_those_of_the_run_with_its_children(small: AsyncSandbox) -> None:
    await small.run("import time, subprocess, sys")  # a first run shares the processor with a container's start
    idle = await small.run("time.sleep(0.5)")
    busy = [await small.run(code) for code in (BURN, IN_A_CHILD)]
    assert idle.cpu_time is not None
    assert idle.cpu_time < 0.4
    for result in busy:
        assert result.cpu_time is not None
        assert result.cpu_time >= 0.5
    large = await small.run("block = bytearray(150 << 20); del block")
    modest = await small.run("time.sleep(0.1)")
    for result in (idle, large, modest):
        assert result.peak_memory is not None
    assert (large.peak_memory or 0) >= 150 << 20
    assert (modest.peak_memory or 0) < 150 << 20


async def test_a_run_that_is_killed_is_accounted_as_well(small: AsyncSandbox) -> None:
    code = "import signal, os\nsignal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})\nwhile True: pass"
    killed = await small.run(code, timeout=0.2)
    assert killed.outcome == "timeout"
    assert (killed.cpu_time or 0) >= 0.2
    assert killed.peak_memory


async def test_the_trail_of_a_server_with_runs_refusals_and_files(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    settings = Settings(audit_file=path, max_sandboxes=1)
    with Trail(settings, path) as trail:
        async with (
            open_engine() as engine,
            SessionManager(AsyncRuntime(settings, engine=engine), audit=trail.record) as sessions,
            sessions.lease(Caller("one", "alice"), None) as lease,
        ):
            await lease.sandbox.run("print('x' * 10)")
            blocked = await lease.sandbox.run("import shutil; shutil.rmtree('/')")
            await lease.sandbox.files.write("a", b"1")
            async with anyio.create_task_group() as tasks:  # the second waits for the first
                tasks.start_soon(lease.sandbox.run, "import time; time.sleep(0.3)")
                tasks.start_soon(lease.sandbox.run, "1")
            await lease.sandbox.reset()
    lines: list[dict[str, Any]] = list(map(json.loads, path.read_text().splitlines()))
    assert [line["kind"] for line in lines] == ["run", "refusal", "file", "run", "run", "reset"]
    assert {(line["who"], line["sandbox"]) for line in lines} == {("alice", lines[0]["sandbox"])}
    first, refusal, _, _, second, _ = lines
    assert (refusal["reason"], refusal["rules"]) == ("rule", [finding.rule for finding in blocked.findings])
    assert "cpu_seconds" not in refusal
    assert first["output_bytes"] == 11
    assert first["cpu_seconds"] > 0
    assert first["peak_memory"] > 1 << 20
    assert second["queue_seconds"] >= 0.2
    assert second["run_seconds"] < 0.3 <= second["seconds"]
