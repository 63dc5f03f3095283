"""stdin and stdout of the server: lines cut anywhere, readers that are slow, and files in the place of pipes."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess

import psutil
import pytest
from docker import APIClient

from tests.support.containers import containers_of
from tests.support.stdio_server import INITIALIZE, LIST, answers_of, impatient_server, say

pytestmark = pytest.mark.anyio

READ = {"jsonrpc": "2.0", "method": "resources/read", "params": {"uri": "agentrun://own/runs/1/output"}}


def flood(server: subprocess.Popen[bytes], data: bytes) -> int:
    """Send *data* again and again, and read nothing, until the server ends. Returns how many bytes it has taken."""
    assert server.stdin is not None
    taken = 0
    with contextlib.suppress(BrokenPipeError):
        while True:
            taken += os.write(server.stdin.fileno(), data)
    return taken


@pytest.mark.parametrize(
    "data",
    [
        json.dumps({**LIST, "id": 7}).encode() + b"\n",
        b"".join(json.dumps({**LIST, "id": str(number)}).encode() + b"\n" for number in range(50)),
        json.dumps({**READ, "id": 7}).encode() + b"\n",
        b"{}\n",
        b"[" * 5000 + b"\n",
        json.dumps({**INITIALIZE, "id": 7}).encode() + b"\n",
    ],
    ids=["lists", "lists with ids of their own", "long outputs", "no messages", "no JSON", "handshakes"],
)
def test_a_client_that_never_reads_is_taken_for_gone_and_does_not_fill_the_memory(
    runner_image: str, api: APIClient, data: bytes
) -> None:
    with impatient_server() as server:
        code = {"name": "run_python", "arguments": {"code": "print('x' * 8_000_000)"}}
        say(server, {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": code})
        assert "truncated" in str(answers_of(server, 2))
        before = psutil.Process(server.pid).memory_info().rss
        taken = flood(server, data)
        assert server.wait(60) == 0
        assert server.stderr is not None
        said = server.stderr.read().decode()
        assert "the client does not read" in said
        (peak,) = re.findall(r"VmHWM:\s+(\d+) kB", said)
    assert taken < 4 << 20
    # Twenty answers and a few more, of 8 MB at most; each takes its size a few times while it is made.
    assert int(peak) * 1024 - before < (400 << 20 if b"runs/1" in data else 48 << 20)
    assert containers_of(api, server.pid) == []


@pytest.mark.parametrize("waiting", [4, 40])
def test_a_client_that_closes_stdin_and_reads_nothing_is_taken_for_gone(
    runner_image: str, api: APIClient, waiting: int
) -> None:
    """Whether the end of what it sends is seen, or stands behind requests that are not read any more."""
    with impatient_server() as server:
        say(server, {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {"name": "reset_sandbox"}})
        answers_of(server, 2)
        assert containers_of(api, server.pid)
        say(server, {**LIST, "id": 3})
        fit = (1 << 16) // len(json.dumps(answers_of(server, 3)))
        say(server, *({**LIST, "id": number} for number in range(fit + waiting)))
        assert server.stdin is not None
        server.stdin.close()
        assert server.wait(60) == 0
    assert containers_of(api, server.pid) == []
