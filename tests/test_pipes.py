"""stdin and stdout of the server: lines cut anywhere, readers that are slow, and files in the place of pipes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import anyio
import pytest

from mcp_agentrun.server import pipes

pytestmark = pytest.mark.anyio

INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-06-18",
        "capabilities": {},
        "clientInfo": {"name": "a file", "version": "1"},
    },
}


async def test_lines_arrive_whole_however_they_were_cut() -> None:
    read, write = os.pipe()
    found: list[str] = []

    async def take() -> None:
        async for line in pipes._Lines(read, pipes._Text(1))._lines():  # pyright: ignore[reportPrivateUsage]
            found.append(line)
            arrived.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(take)
        for piece in (b"on", "e\ntwo\nthr\u00e9".encode()[:-1], b"\xa9e\n\xff\n", b"the end"):
            arrived = anyio.Event()
            os.write(write, piece)
            if b"\n" in piece:
                await arrived.wait()
        os.close(write)
    os.close(read)
    assert found == ["one", "two", "thr\u00e9e", "\ufffd", "the end"]


async def test_what_is_no_json_is_answered() -> None:
    (requests, client_out), (client_in, answers) = os.pipe(), os.pipe()
    os.write(client_out, b'{"id": 5, "code": "\\ud83d"}\n{"id": 6\n\n{"id": 7}\n')
    os.close(client_out)
    good = [line async for line in pipes._Lines(requests, pipes._Text(answers))]  # pyright: ignore[reportPrivateUsage]
    os.close(answers)
    with os.fdopen(client_in) as lines:
        found = [json.loads(line) for line in lines]
    os.close(requests)
    assert good == ["", '{"id": 7}']
    assert [answer["id"] for answer in found] == [5, None]
    assert {answer["error"]["code"] for answer in found} == {-32700}
    assert "surrogate" in found[0]["error"]["message"]


async def test_a_slow_reader_holds_up_nobody_else() -> None:
    read, write = os.pipe()
    text = "0123456789" * 100_000
    received = bytearray()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(pipes._Text(write).write, text)  # pyright: ignore[reportPrivateUsage]
        while len(received) < len(text):
            await anyio.wait_readable(read)
            received += os.read(read, 1000)
    os.close(read)
    os.close(write)
    assert received.decode() == text


async def test_the_wait_for_a_line_can_be_cancelled() -> None:
    read, write = os.pipe()
    with anyio.move_on_after(0.01) as scope:
        async for _ in pipes._Lines(read, pipes._Text(1)):  # pyright: ignore[reportPrivateUsage]
            raise AssertionError
    os.close(read)
    os.close(write)
    assert scope.cancelled_caught


def test_files_do_as_well(tmp_path: Path) -> None:
    requests, answers = tmp_path / "requests", tmp_path / "answers"
    requests.write_text(json.dumps(INITIALIZE) + "\n")
    with requests.open() as stdin, answers.open("w") as stdout:
        subprocess.run([sys.executable, "-m", "mcp_agentrun"], stdin=stdin, stdout=stdout, check=True, timeout=60)
    answer = json.loads(answers.read_text())
    assert answer["id"] == 1
    assert answer["result"]["serverInfo"]["name"] == "mcp-agentrun"
