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
from tests.support.audit_questions import HAS_JQ, answers
from tests.support.http_server import TOKENS, http_client, http_server, open_http_client
from tests.support.local_index import make_wheel
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
    killed = await small.run(code, timeout=2)  # others leave it a tenth of that
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
    first, refusal, _, before, second, _ = lines
    assert (refusal["reason"], refusal["rules"]) == ("rule", [finding.rule for finding in blocked.findings])
    assert "cpu_seconds" not in refusal
    assert first["output_bytes"] == 11
    assert first["cpu_seconds"] > 0
    assert first["peak_memory"] > 1 << 20
    assert before["run_seconds"] >= 0.3
    assert second["queue_seconds"] >= 0.2
    rounding = 0.01
    assert second["queue_seconds"] + second["run_seconds"] <= second["seconds"] + rounding


@pytest.mark.skipif(not HAS_JQ, reason="the page's commands need jq")
async def test_a_mixed_hour_over_all_interfaces_answers_three_questions(module_image: str, tmp_path: Path) -> None:
    path, wheels = tmp_path / "audit.jsonl", tmp_path / "wheels"
    make_wheel(wheels, "alpha", needs=("beta",))
    make_wheel(wheels, "beta", "2.0")
    options = ("--image", module_image, "--offline", "--wheelhouse", str(wheels), "--max-sandboxes", "2")
    with http_server(tmp_path, "--audit-file", str(path), *options, "--packages-deny", "evil") as server:
        async with open_http_client(server, "streamable", "legacy") as alice:
            await alice.call_tool("run_python", {"code": "import shutil; shutil.rmtree('/')"})
            await alice.call_tool("install_package", {"packages": "alpha"})
            await alice.call_tool("install_package", {"packages": "evil @ https://user:hunter2@host.example/x.whl"})
        async with http_client({"Authorization": f"Bearer {TOKENS['bob']}"}) as bob:
            bob.base_url = server.url
            await bob.post("/v1/run/", json={"code": "print('private')"})
            created = [(await bob.post("/v1/sandboxes")).json()["id"] for _ in range(2)]
            assert (await bob.post("/v1/sandboxes")).status_code == 429
            assert (await bob.get("/v1/sandboxes/guessed/files")).status_code == 404
            await bob.post(f"/v1/sandboxes/{created[0]}/runs", json={"code": BURN})
            await bob.put(f"/v1/sandboxes/{created[0]}/files/a.txt", content=b"private")
        assert server.end() == 143
    refused, busiest, packages = answers(path)
    assert [line.split("\t")[1:4] for line in refused] == [
        ["alice", "run", "rule"],
        ["alice", "install", "requirements"],
        ["bob", "open", "quota"],
        ["bob", "open", "sandbox"],
    ]
    who, _, seconds = busiest[0].split("\t")
    assert who == "bob"
    assert float(seconds) >= 0.5
    assert packages == ["alpha==1.0", "beta==2.0"]
    trail = path.read_text()
    found = {(line["interface"], line["kind"]) for line in map(json.loads, trail.splitlines())}
    assert found >= {("mcp", "install"), ("agentrun", "run"), ("rest", "run"), ("rest", "file"), ("rest", "refusal")}
    for secret in ("private", "hunter2", "rmtree", *TOKENS.values(), *created):
        assert secret not in trail
