"""stdin and stdout of the server: lines cut anywhere, readers that are slow, and files in the place of pipes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
import tracemalloc
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest

from mcp_agentrun.server.mcp import pipes
from tests.support.stdio_server import INITIALIZE, LIST, answers_of, impatient_server, say

pytestmark = pytest.mark.anyio


async def test_lines_arrive_whole_however_they_were_cut() -> None:
    read, write = os.pipe()
    found: list[str] = []

    async def take() -> None:
        async for line in pipes._LineReader(read, pipes._LineWriter(1))._lines():  # pyright: ignore[reportPrivateUsage]
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


async def answers_to(*lines: str) -> tuple[list[str], list[dict[str, Any]]]:
    """The *lines* that go on to the SDK, and the answers to the others."""
    (requests, client_out), (client_in, answers) = os.pipe(), os.pipe()
    os.write(client_out, "".join(line + "\n" for line in lines).encode())
    os.close(client_out)
    good = [line async for line in pipes._LineReader(requests, pipes._LineWriter(answers))]  # pyright: ignore[reportPrivateUsage]
    os.close(answers)
    with os.fdopen(client_in) as found:
        answered = [json.loads(line) for line in found]
    os.close(requests)
    return good, answered


PING = '{"jsonrpc": "2.0", "id": 7, "method": "ping"}'


async def test_what_is_no_json_is_answered() -> None:
    good, found = await answers_to('{"id": 5, "code": "\\ud83d"}', '{"id": 6', "", PING)
    assert good == ["", PING]
    assert [answer["id"] for answer in found] == [5, None]
    assert {answer["error"]["code"] for answer in found} == {-32700}
    assert "surrogate" in found[0]["error"]["message"]


@pytest.mark.parametrize("depth", [210, 900, 5000, 20_000])
async def test_what_is_nested_too_deep_is_answered_with_its_id(depth: int) -> None:
    nested = "[" * depth + "]" * depth
    _, found = await answers_to(
        f'{{"jsonrpc": "2.0", "params": {{"x": {nested}}}, "y": "}}\\"]", "id": "a", "method": "x"}}', "[" * depth
    )
    assert [answer["id"] for answer in found] == ["a", None]
    for answer in found:
        assert answer["error"]["code"] == -32700
        assert "too many nested lists and objects" in answer["error"]["message"]


@pytest.mark.parametrize(
    ("line", "id_"),
    [
        ('{"jsonrpc": "2.0", "id": 77}', 77),
        ('{"id": "b", "method": "ping"}', "b"),
        ('{"jsonrpc": "2.0", "id": 9, "method": "ping", "params": [1]}', 9),
        ('{"jsonrpc": "2.0", "id": 1.5, "method": "ping"}', None),
        ('{"jsonrpc": "2.0", "id": null, "method": "ping"}', None),
        ('{"jsonrpc": "2.0", "id": 8, "result": 5}', None),  # 8 is a request of ours, and not one of the client's
        ("{}", None),
        ("[]", None),
        (f"[{PING}]", None),
        ("5", None),
    ],
)
async def test_what_is_no_message_is_answered(line: str, id_: str | int | None) -> None:
    good, (answer,) = await answers_to(line)
    assert good == []
    assert (answer["id"], answer["error"]["code"]) == (id_, -32600)


@pytest.mark.parametrize("end", ["", "\\"])
def test_a_text_without_an_end_is_looked_through_once(end: str) -> None:
    def took(count: int) -> float:
        line = '{"id": 5, "x": "' + '\\"' * count + end
        times: list[float] = []
        for _ in range(5):
            started = time.process_time()
            assert pipes._id_of(line) is None  # pyright: ignore[reportPrivateUsage]
            times.append(time.process_time() - started)
        return min(times)

    assert took(16_000) < 4 * 16 * took(1000)


async def test_messages_are_not_answered_here() -> None:
    lines = [
        PING,
        '{"jsonrpc": "2.0", "id": 8, "result": {}}',
        '{"jsonrpc": "2.0", "id": 8, "error": {"code": 1, "message": "x"}}',
        '{"jsonrpc": "2.0", "method": "notifications/initialized"}',
        '{"jsonrpc": "2.0", "method": "notifications/x", "params": {"id": 1.5}}',
    ]
    assert await answers_to(*lines) == (lines, [])


async def test_a_slow_reader_holds_up_nobody_else() -> None:
    read, write = os.pipe()
    text = "0123456789" * 100_000
    received = bytearray()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(pipes._LineWriter(write).write, text)  # pyright: ignore[reportPrivateUsage]
        while len(received) < len(text):
            await anyio.wait_readable(read)
            received += os.read(read, 1000)
    os.close(read)
    os.close(write)
    assert received.decode() == text


async def test_the_wait_for_a_line_can_be_cancelled() -> None:
    read, write = os.pipe()
    with anyio.move_on_after(0.01) as scope:
        async for _ in pipes._LineReader(read, pipes._LineWriter(1)):  # pyright: ignore[reportPrivateUsage]
            raise AssertionError
    os.close(read)
    os.close(write)
    assert scope.cancelled_caught


def test_files_do_as_well_and_the_server_lives_on_after_lines_that_are_no_messages(tmp_path: Path) -> None:
    requests, answers = tmp_path / "requests", tmp_path / "answers"
    lines = [json.dumps(INITIALIZE), "[" * 5000, "{}", '{"jsonrpc": "2.0", "id": 2, "method": "ping"}', ""]
    requests.write_text("\n".join(lines))
    with requests.open() as stdin, answers.open("w") as stdout:
        server = subprocess.run(
            [sys.executable, "-m", "mcp_agentrun"],
            check=False,
            stdin=stdin,
            stdout=stdout,
            stderr=subprocess.PIPE,
            timeout=60,
        )
    assert (server.returncode, server.stderr) == (0, b"")  # nothing is said to who is no person at a terminal
    found = [json.loads(line) for line in answers.read_text().splitlines()]
    (greeting,) = [answer["result"] for answer in found if answer["id"] == 1]
    assert greeting["serverInfo"]["name"] == "mcp-agentrun"
    assert {(answer["id"], answer.get("error", {}).get("code")) for answer in found} == {
        (1, None),
        (None, -32700),
        (None, -32600),
        (2, None),
    }


def test_a_client_that_reads_late_is_answered_in_full() -> None:
    with impatient_server(30) as server:  # the test itself may be late
        numbers = range(100, 400)
        asking = threading.Thread(target=say, args=(server, *({**LIST, "id": number} for number in numbers)))
        asking.start()
        assert server.stdout is not None
        answered = [json.loads(server.stdout.readline())["id"] for _ in numbers]
        asking.join()
        assert sorted(answered) == list(numbers)
        say(server, {"jsonrpc": "2.0", "id": 2, "method": "ping"})
        assert answers_of(server, 2)["result"] == {}


async def test_a_client_that_only_listens_may_stop_for_as_long_as_it_likes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipes, "PATIENCE_SECONDS", 0.01)
    (requests, client_out), (client_in, answers) = os.pipe(), os.pipe()
    gone: list[str] = []
    waits = anyio.Event()

    class Poll:
        """Tells when it has been looked for requests a few times."""

        looks = 0

        def poll(self, _: int) -> list[int]:
            self.looks += 1
            if self.looks == 5:
                waits.set()
            return []

    text = pipes._LineWriter(answers, lambda: gone.append("gone"), requests=requests)  # pyright: ignore[reportPrivateUsage]
    real, text._requests = text._requests, Poll()  # pyright: ignore
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(text.write, "x" * 200_000)
        await waits.wait()
        assert gone == []
        text._requests = real  # pyright: ignore[reportPrivateUsage]
        os.close(client_out)  # and now it is known to have gone
        with anyio.fail_after(30):
            while not gone:
                await anyio.sleep(0.01)
    for descriptor in (requests, client_in, answers):
        os.close(descriptor)


async def test_a_line_without_an_end_is_not_kept() -> None:
    (requests, client_out), (client_in, answers) = os.pipe(), os.pipe()
    sent = b'{"id": "' + "\u00e9".encode() * pipes.LONGEST_LINE

    def send() -> None:
        with os.fdopen(client_out, "wb") as out:
            out.write(sent + b"\n" + PING.encode() + b"\n")

    lines = pipes._LineReader(requests, pipes._LineWriter(answers))  # pyright: ignore[reportPrivateUsage]
    tracemalloc.start()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(anyio.to_thread.run_sync, send)
        assert [line async for line in lines] == [PING]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    os.close(answers)
    with os.fdopen(client_in) as found:
        (answer,) = (json.loads(line) for line in found)
    os.close(requests)
    assert (answer["id"], answer["error"]["code"]) == (None, -32600)
    assert "longer than 4 MiB" in answer["error"]["message"]
    assert peak < len(sent) * 4  # the test's own copies are two of them


def test_a_client_that_closes_its_end_for_answers_has_gone() -> None:
    server = subprocess.Popen(
        [sys.executable, "-m", "mcp_agentrun"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    with server:
        assert server.stdin is not None and server.stdout is not None and server.stderr is not None
        server.stdout.close()
        server.stdin.write(json.dumps(INITIALIZE).encode() + b"\n")
        server.stdin.flush()  # and it stays open
        assert server.stderr.read() == b""
        assert server.wait(60) == 0
