"""The server over HTTP: every transport in every era, who gets in, and what is left at the end."""

from __future__ import annotations

import functools
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import httpx2
import psutil
import pytest
from docker import APIClient
from mcp import Client

from tests.support import CHECKOUT
from tests.support.clients import facts_of, text_of
from tests.support.containers import containers_of, remove
from tests.support.engines import ENGINE
from tests.support.hanging_engine import hanging_engine
from tests.support.http_server import TOKENS, HttpServer, http_client, http_server, open_http_client
from tests.support.stdio_server import INITIALIZE

pytestmark = pytest.mark.anyio

WAYS = [("streamable", "legacy"), ("streamable", "2026-07-28"), ("sse", "legacy"), ("sse", "2026-07-28")]
PING = {"jsonrpc": "2.0", "id": 1, "method": "ping"}


@pytest.fixture(scope="module")
def server(runner_image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HttpServer]:
    with http_server(tmp_path_factory.mktemp("http"), "--pool", "1") as running:
        yield running


class Talk:
    """One conversation, which passes on the handle of its sandbox where it has been given one."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.handle: str | None = None

    async def run(self, code: str, **arguments: Any) -> str:
        if self.handle is not None:
            arguments.setdefault("sandbox", self.handle)
        result = await self.client.call_tool("run_python", {"code": code, **arguments})
        handle = facts_of(result)["sandbox"]
        if handle is not None and self.handle is None:
            assert f'sandbox="{handle}"' in text_of(result)
            self.handle = handle
        return text_of(result)


@pytest.mark.parametrize(("transport", "mode"), WAYS)
async def test_state_is_kept_and_sessions_are_apart(server: HttpServer, transport: str, mode: str) -> None:
    async with (
        open_http_client(server, transport, mode) as one,
        open_http_client(server, transport, mode) as other,
    ):
        first, second = Talk(one), Talk(other)
        await first.run("x = 41")
        await second.run("x = 1")
        assert await first.run("x + 1") == "42\n"
        assert await second.run("x + 1") == "2\n"
        assert (first.handle is None) == ((transport, mode) != ("streamable", "2026-07-28"))


@pytest.mark.parametrize(("transport", "mode"), WAYS)
async def test_cancel_and_timeout_keep_the_state(server: HttpServer, transport: str, mode: str) -> None:
    async with open_http_client(server, transport, mode) as client:
        talk = Talk(client)
        await talk.run("x = 5\nimport time")
        with anyio.move_on_after(0.5):
            await talk.run("time.sleep(100)")
        with anyio.fail_after(30):
            assert await talk.run("x") == "5\n"
        assert "its time limit of 0.3 s" in await talk.run("time.sleep(100)", timeout=0.3)
        assert await talk.run("x") == "5\n"


async def test_a_client_that_leaves_takes_nobodys_progress_with_it(server: HttpServer) -> None:
    async with open_http_client(server, "streamable", "legacy") as stays:
        async with open_http_client(server, "sse", "legacy") as leaves:
            assert await Talk(leaves).run("1") == "1\n"
        told = anyio.Event()

        async def on_progress(progress: float, total: float | None, message: str | None) -> None:
            told.set()

        async with anyio.create_task_group() as tasks:
            call = functools.partial(stays.call_tool, progress_callback=on_progress)
            tasks.start_soon(call, "run_python", {"code": "print('early', flush=True); import time; time.sleep(100)"})
            with anyio.fail_after(25):
                await told.wait()
            tasks.cancel_scope.cancel()
        assert await Talk(stays).run("1") == "1\n"


@pytest.mark.parametrize(("transport", "mode"), [way for way in WAYS if way != ("streamable", "2026-07-28")])
async def test_a_connection_that_ends_frees_its_sandbox(
    server: HttpServer, transport: str, mode: str, api: APIClient
) -> None:
    async with open_http_client(server, transport, mode) as client:
        name = await Talk(client).run("import uuid; uuid.uuid4().hex")
        held = set(containers_of(api, server.process.pid))
        assert name
    with anyio.fail_after(30):
        while not held - set(containers_of(api, server.process.pid)):
            await anyio.sleep(0.05)  # the engine says nothing when a container has gone


async def test_a_stream_of_either_era_may_have_other_sandboxes_beside_its_own(server: HttpServer) -> None:
    async with open_http_client(server, "sse", "2026-07-28") as client:
        own, other = Talk(client), Talk(client)
        await own.run("x = 'own'")
        text = text_of(await client.call_tool("run_python", {"code": "x = 'other'", "sandbox": "new"}))
        other.handle = text.partition('sandbox="')[2].partition('"')[0]
        assert (await own.run("x"), await other.run("x")) == ("'own'\n", "'other'\n")
        reset = await client.call_tool("reset_sandbox", {})
        assert "handle" not in text_of(reset) and "NameError" in await own.run("x")
        assert await other.run("x") == "'other'\n"


async def test_an_unknown_handle_tells_what_to_do(server: HttpServer) -> None:
    async with open_http_client(server, "streamable", "2026-07-28") as client:
        result = await client.call_tool("run_python", {"code": "1", "sandbox": "nope"})
        assert result.is_error
        assert "No sandbox has the handle 'nope'. Leave `sandbox` out, or pass \"new\"" in text_of(result)


async def test_another_principal_s_handle_is_unknown(server: HttpServer) -> None:
    async with open_http_client(server, "streamable", "2026-07-28") as alice:
        talk = Talk(alice)
        await talk.run("secret = 7")
        async with open_http_client(server, "streamable", "2026-07-28", "bob") as bob:
            stolen = await bob.call_tool("run_python", {"code": "secret", "sandbox": talk.handle})
            assert stolen.is_error
            assert "No sandbox has the handle" in text_of(stolen)
        assert await talk.run("secret") == "7\n"


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/mcp", {}, 401),
        ("/mcp", {"Authorization": "Bearer wrong-token-0123456789"}, 401),
        ("/mcp", {"Authorization": "Basic YTpi"}, 401),
        ("/sse", {}, 401),
        ("/messages/?session_id=0", {}, 401),
        ("/metrics", {}, 401),
        ("/mcp", {"Authorization": f"Bearer {TOKENS['bob']}", "Host": "evil.example"}, 421),
        ("/mcp", {"Authorization": f"Bearer {TOKENS['bob']}", "Origin": "https://evil.example"}, 403),
    ],
)
async def test_nobody_gets_in_who_does_not_belong(
    server: HttpServer, path: str, headers: dict[str, str], status: int
) -> None:
    accept = {"Accept": "application/json, text/event-stream"}
    async with http_client() as http:
        answer = await http.post(server.url + path, json=PING, headers={**accept, **headers})
    assert answer.status_code == status


async def test_a_large_body_is_refused_and_others_go_on(server: HttpServer) -> None:
    async with open_http_client(server, "streamable", "legacy") as client, http_client() as http:
        talk = Talk(client)

        async def chunks():
            for _ in range(100):
                yield bytes(1 << 20)

        headers = {"Authorization": f"Bearer {TOKENS['bob']}", "Content-Type": "application/json"}
        try:
            answer = await http.post(f"{server.url}/mcp", content=chunks(), headers=headers)
            assert answer.status_code == 413
        except httpx2.TransportError:
            pass  # hung up on, which is a refusal too
        assert await talk.run("1 + 1") == "2\n"


async def test_a_large_body_without_a_token_is_not_read(server: HttpServer) -> None:
    async def chunks():
        for _ in range(100):
            yield bytes(1 << 20)

    before = psutil.Process(server.process.pid).memory_info().rss
    async with open_http_client(server, "streamable", "legacy") as client, http_client() as http:
        talk = Talk(client)
        try:
            answer = await http.post(f"{server.url}/mcp", content=chunks())
            assert answer.status_code == 401
        except httpx2.TransportError:
            pass  # hung up on, which is a refusal too
        assert await talk.run("1 + 1") == "2\n"
    assert psutil.Process(server.process.pid).memory_info().rss - before < 50 << 20


async def test_it_says_where_it_listens(runner_image: str, tmp_path: Path) -> None:
    with http_server(tmp_path, "--pool", "0", env={"AGENTRUN_LOG_LEVEL": "warning"}) as server:
        assert server.log.read_text() == f"mcp-agentrun: listening on {server.url}\n"


async def test_an_unused_sandbox_expires_and_that_is_told(runner_image: str, tmp_path: Path, api: APIClient) -> None:
    with http_server(tmp_path, "--pool", "0", "--idle-ttl", "1") as server:
        async with open_http_client(server, "streamable", "2026-07-28") as modern:
            talk = Talk(modern)
            await talk.run("x = 1")
            with anyio.fail_after(30):
                while containers_of(api, server.process.pid):
                    await anyio.sleep(0.05)
            assert "has been closed" in await talk.run("x")
        async with open_http_client(server, "sse", "legacy") as old:
            talk = Talk(old)
            await talk.run("x = 1")
            with anyio.fail_after(30):
                while containers_of(api, server.process.pid):
                    await anyio.sleep(0.05)
            text = await talk.run("x")
            assert text.startswith("[agentrun] Your sandbox was closed")
            assert "NameError" in text


async def test_reading_a_file_is_use(runner_image: str, tmp_path: Path, api: APIClient) -> None:
    with http_server(tmp_path, "--pool", "0", "--idle-ttl", "5") as server:
        async with open_http_client(server, "streamable", "2026-07-28") as client:
            read, idle = Talk(client), Talk(client)

            async def keep_reading() -> None:
                while True:
                    await client.read_resource(f"agentrun://{read.handle}/files/a")
                    await anyio.sleep(0.1)  # a client that reads now and then

            await read.run("x = 1")
            await client.call_tool("run_python", {"code": "open('a', 'w').close()", "sandbox": read.handle})
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(keep_reading)
                await idle.run("1")
                with anyio.fail_after(60):
                    while len(await anyio.to_thread.run_sync(containers_of, api, server.process.pid)) > 1:
                        await anyio.sleep(0.1)  # the engine says nothing when a container has gone
                tasks.cancel_scope.cancel()
            assert await read.run("x") == "1\n"


async def test_more_sandboxes_than_may_be_are_refused_and_a_failed_call_leaves_none(
    runner_image: str, tmp_path: Path
) -> None:
    with http_server(tmp_path, "--pool", "0", "--max-sandboxes", "1") as server:
        async with (
            open_http_client(server, "streamable", "2026-07-28") as client,
            open_http_client(server, "streamable", "2026-07-28", "bob") as other,
        ):
            for tool, arguments, reason in (
                ("run_python", {"code": "1", "timeout": -1}, "positive number"),
                ("run_python", {"code": "\0"}, "NUL"),
                ("install_package", {"packages": "no such requirement"}, "Nothing was"),
            ):
                failed = await client.call_tool(tool, arguments)
                assert failed.is_error
                assert reason in text_of(failed)
            talk = Talk(client)
            assert (await talk.run("x = 1; x")).startswith("1\n")
            assert (await client.call_tool("run_python", {"code": "\0", "sandbox": talk.handle})).is_error
            refused = await client.call_tool("run_python", {"code": "1"})
            assert refused.is_error
            assert "You already have 1 sandbox," in text_of(refused)
            assert await talk.run("x") == "1\n"
            assert (await Talk(other).run("1 + 1")).startswith("2\n")


async def test_the_pool_gives_out_each_sandbox_once(runner_image: str, tmp_path: Path, api: APIClient) -> None:
    with http_server(tmp_path, "--pool", "2", "--pool-max", "2") as server:

        async def spares() -> float:
            headers = {"Authorization": f"Bearer {TOKENS['bob']}"}
            async with http_client(headers=headers) as http:
                text = (await http.get(f"{server.url}/metrics")).text
            return float(text.partition("\nagentrun_pool_sandboxes ")[2].split()[0])

        with anyio.fail_after(60):
            while await spares() < 2:
                await anyio.sleep(0.05)
        before = set(containers_of(api, server.process.pid))
        async with (
            open_http_client(server, "streamable", "legacy") as one,
            open_http_client(server, "streamable", "legacy") as other,
        ):
            hosts = {await Talk(client).run("import time; time.monotonic_ns()") for client in (one, other)}
            assert len(hosts) == 2
            assert before <= set(containers_of(api, server.process.pid))
            assert (await Talk(other).run("'time' in globals()")) == "True\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_at_a_signal_calls_are_answered_and_nothing_is_left(
    runner_image: str, tmp_path: Path, api: APIClient, number: signal.Signals
) -> None:
    with http_server(tmp_path, "--pool", "0") as server:
        begun, answers = [anyio.Event() for _ in WAYS], list[str]()

        async def use(transport: str, mode: str, begun: anyio.Event) -> None:
            async def on_progress(progress: float, total: float | None, message: str | None) -> None:
                if message is not None and "begun" in message:
                    begun.set()

            async with open_http_client(server, transport, mode) as client:
                talk = Talk(client)
                await talk.run("x = 1; import time")
                arguments = {"code": "print('begun', flush=True); time.sleep(5); 'answered'", "sandbox": talk.handle}
                answer = await client.call_tool("run_python", arguments, progress_callback=on_progress)
                answers.append(text_of(answer))

        async with anyio.create_task_group() as tasks:
            for (transport, mode), event in zip(WAYS, begun, strict=True):
                tasks.start_soon(use, transport, mode, event)
            for event in begun:
                await event.wait()
            server.process.send_signal(number)
        assert answers == ["begun\n'answered'\n"] * len(WAYS)
        pid = server.process.pid
        code = await anyio.to_thread.run_sync(server.process.wait, 60)
        assert code == 128 + number
    assert containers_of(api, pid) == []


def test_the_end_waits_for_no_image(runner_image: str, tmp_path: Path) -> None:
    with hanging_engine() as engine:
        engine.hangs = True
        with http_server(tmp_path, "--pool", "1", env={"DOCKER_HOST": engine.url}) as server:
            engine.wait_for("/images/")
            server.process.send_signal(signal.SIGTERM)
            assert server.process.wait(50) == 128 + signal.SIGTERM  # the engine is given a minute for each answer


async def test_a_second_signal_ends_it_at_once_though_the_engine_hangs(runner_image: str, tmp_path: Path) -> None:
    with (
        hanging_engine() as engine,
        http_server(tmp_path, "--pool", "0", env={"DOCKER_HOST": engine.url}) as server,
    ):
        async with open_http_client(server, "streamable", "2026-07-28") as client:
            await Talk(client).run("1")
        engine.deaf_to = "DELETE "  # and not to the sweep after the start, for which the end would wait
        server.process.send_signal(signal.SIGTERM)
        await anyio.to_thread.run_sync(engine.wait_for, "DELETE ")
        server.process.send_signal(signal.SIGTERM)
        assert await anyio.to_thread.run_sync(server.process.wait, 50) == 128 + signal.SIGTERM


@pytest.mark.parametrize(
    ("command", "asked"),
    [
        (("build",), "/images/"),
        (("cache", "show"), "/images/"),
        (("cache", "show"), "/containers/create"),
        (("cache", "show"), "/attach"),
        (("cache", "clear"), "/start"),
    ],
)
def test_an_interrupt_ends_a_command_that_waits_for_the_engine(
    runner_image: str, api: APIClient, command: tuple[str, ...], asked: str
) -> None:
    with hanging_engine() as engine:
        engine.deaf_to = asked
        process = subprocess.Popen(
            [sys.executable, "-m", "mcp_agentrun", *command], env={**os.environ, "DOCKER_HOST": engine.url}
        )
        try:
            engine.wait_for(asked)
            process.send_signal(signal.SIGINT)
            assert process.wait(50) == 128 + signal.SIGINT
        finally:
            process.kill()
            process.wait()
            for container in containers_of(api, process.pid):  # what had been created is for the next server to remove
                remove(api, container)


@pytest.mark.timeout(300)
async def test_a_killed_server_leaves_nothing_and_a_new_one_serves(
    runner_image: str, tmp_path: Path, api: APIClient
) -> None:
    with http_server(tmp_path, "--pool", "1") as server:
        async with http_client(headers={"Authorization": f"Bearer {TOKENS['alice']}"}) as http:
            arguments = {"name": "run_python", "arguments": {"code": "import time; time.sleep(100)"}}
            meta = {
                "io.modelcontextprotocol/protocolVersion": "2026-07-28",
                "io.modelcontextprotocol/clientCapabilities": {},
            }
            call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {**arguments, "_meta": meta}}
            headers = {
                "Accept": "application/json, text/event-stream",
                "MCP-Protocol-Version": "2026-07-28",
                "Mcp-Method": "tools/call",
                "Mcp-Name": "run_python",
            }
            async with anyio.create_task_group() as tasks:

                async def end() -> None:
                    with anyio.fail_after(100):
                        while len(containers_of(api, server.process.pid)) < 2:
                            await anyio.sleep(0.05)
                    server.end(signal.SIGKILL)

                tasks.start_soon(end)
                with pytest.raises(httpx2.TransportError):
                    await http.post(f"{server.url}/mcp", json=call, headers=headers)
        pid = server.process.pid
    with http_server(tmp_path, "--pool", "1") as server:
        async with open_http_client(server, "streamable", "legacy") as client:
            assert await Talk(client).run("1 + 1") == "2\n"
        # In a cluster, what has ended is removed by the next comparison.
        with anyio.fail_after(150 if ENGINE == "kubernetes" else 60):
            while containers_of(api, pid):
                await anyio.sleep(0.05)


CLIENT = """
import asyncio, sys
sys.path.insert(0, {root!r})
from pathlib import Path
from tests.support.http_server import HttpServer, open_http_client
async def main():
    server = HttpServer(None, {port}, Path())
    async with open_http_client(server, {transport!r}, {mode!r}) as client:
        await client.call_tool("run_python", {{"code": "x = 1"}})
        print("ready", flush=True)
        await client.call_tool("run_python", {{"code": "import time; time.sleep(100)"}})
asyncio.run(main())
"""


@pytest.mark.parametrize("transport", ["streamable", "sse"])
async def test_a_client_that_is_killed_in_a_call_frees_the_sandbox(
    runner_image: str, tmp_path: Path, api: APIClient, transport: str
) -> None:
    with http_server(tmp_path, "--pool", "0", "--idle-ttl", "2") as server:
        root = str(CHECKOUT)
        code = CLIENT.format(root=root, port=server.port, transport=transport, mode="legacy")
        process = subprocess.Popen(  # noqa: ASYNC220
            [sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=root
        )
        assert process.stdout is not None
        assert await anyio.to_thread.run_sync(process.stdout.readline) == b"ready\n"
        assert containers_of(api, server.process.pid)
        process.kill()
        process.wait()
        process.stdout.close()
        with anyio.fail_after(60):
            while containers_of(api, server.process.pid):
                await anyio.sleep(0.05)


@pytest.mark.parametrize("form", ["text", "json"])
async def test_logs_hold_no_code_no_token_and_no_handle(runner_image: str, tmp_path: Path, form: str) -> None:
    secret = "a-secret-word"
    with http_server(tmp_path, "--pool", "0", "--log-format", form, "--log-level", "debug") as server:
        async with open_http_client(server, "streamable", "2026-07-28") as client:
            talk = Talk(client)
            await talk.run(f"print({secret!r}); 1 / 0")
            await client.call_tool("run_python", {"code": [secret], "timeout": secret})
            await client.call_tool("run_python", {"code": secret, "sandbox": secret})
            await client.call_tool("run_python", {secret: secret})
        async with open_http_client(server, "sse", "legacy") as older:
            await older.list_tools()
            assert secret in await Talk(older).run(f"print({secret!r})")
        async with http_client(headers={"Authorization": f"Bearer {TOKENS['bob']}"}) as http:
            async with http.stream("GET", f"{server.url}/sse") as stream:
                async for line in stream.aiter_lines():
                    if line.startswith("data: "):
                        # What is no message at all is quoted by the exception that says so.
                        await http.post(server.url + line.removeprefix("data: "), json={"code": secret})
                        break
            wrong = {"Authorization": f"Bearer {secret}-0123456789"}
            await http.post(f"{server.url}/mcp?token={secret}", json=PING, headers=wrong)
        server.end()
        log = server.log.read_text()
    assert "Failed to parse message" in log
    assert secret not in log
    assert talk.handle is not None
    assert talk.handle not in log
    assert not any(token in log for token in TOKENS.values())
    if form == "json":
        entries = [json.loads(line) for line in log.splitlines()]
        assert all({"time", "level", "logger", "message"} <= set(entry) for entry in entries)
        calls = [entry for entry in entries if "outcome" in entry]
        outcomes = ["error", "error", "ok"]
        assert [(call["tool"], call["outcome"]) for call in calls] == [("run_python", outcome) for outcome in outcomes]
        assert all(call["seconds"] >= 0 for call in calls)


async def abort_upload(server: HttpServer, path: str, *headers: str) -> None:
    """Begin to send a request, and go away."""
    async with await anyio.connect_tcp("127.0.0.1", server.port) as stream:
        head = f"POST {path} HTTP/1.1", f"Host: 127.0.0.1:{server.port}", f"Authorization: Bearer {TOKENS['alice']}"
        kind = "Content-Type: application/json", "Accept: application/json, text/event-stream"
        await stream.send("\r\n".join((*head, *kind, *headers, "", '8\r\n{"jsonrp')).encode())


@pytest.mark.parametrize("form", ["text", "json"])
async def test_a_session_is_named_in_no_log_and_an_aborted_upload_is_no_error(
    runner_image: str, tmp_path: Path, form: str
) -> None:
    bob = {"Authorization": f"Bearer {TOKENS['bob']}"}
    accept = {"Accept": "application/json, text/event-stream"}
    with http_server(tmp_path, "--pool", "0", "--log-format", form, "--log-level", "info") as server:
        url = f"{server.url}/mcp"
        async with http_client(headers={"Authorization": f"Bearer {TOKENS['alice']}", **accept}) as http:
            began = await http.post(url, json=INITIALIZE)
            session = began.headers["mcp-session-id"]
            named = {"Mcp-Session-Id": session}
            assert (await http.post(url, json=PING, headers={**named, **bob})).status_code == 404
            for odd in (session, session.upper(), f"x{session}", f"{session[:8]}-{session[8:]}"):
                await http.post(f"{server.url}/messages/?session_id={odd}", json=PING)
            async with http.stream("GET", f"{server.url}/sse") as stream:
                lines = stream.aiter_lines()
                path = ""
                while not path:
                    path = (await anext(lines)).partition("data: ")[2]
                assert (await http.post(server.url + path, json=PING, headers=bob)).status_code == 404
                for length in ("Content-Length: 1000", "Transfer-Encoding: chunked"):
                    await abort_upload(server, path, length)
                    await abort_upload(server, "/mcp", length)
                    await abort_upload(server, "/mcp", length, "MCP-Protocol-Version: 2026-07-28")
                    await abort_upload(server, "/mcp", length, f"Mcp-Session-Id: {session}")
                with anyio.fail_after(30):
                    while server.log.read_text().count("a client disconnected during its request") < 8:
                        await anyio.sleep(0.05)
            assert (await http.post(url, json=PING, headers=named)).status_code == 200
        server.end()
        log = server.log.read_text()
    assert "Rejecting request for session ***" in log
    ids = session, path.partition("=")[2]
    assert all(part not in log.lower().replace("-", "") for part in ids)
    assert not re.search("error|traceback|ClientDisconnect", log, re.IGNORECASE), log


async def test_metrics_tell_how_calls_ended(runner_image: str, tmp_path: Path) -> None:
    async def figures(server: HttpServer) -> dict[str, float]:
        async with http_client(headers={"Authorization": f"Bearer {TOKENS['bob']}"}) as http:
            text = (await http.get(f"{server.url}/metrics")).text
        lines = [line.rpartition(" ") for line in text.splitlines() if not line.startswith("#")]
        return {name: float(value) for name, _, value in lines}

    arguments = "--pool", "1", "--pool-max", "1", "--max-sandboxes", "1"
    with http_server(tmp_path, *arguments) as server:
        with anyio.fail_after(60):
            while (await figures(server))["agentrun_pool_sandboxes"] < 1:
                await anyio.sleep(0.05)  # it tells nobody
        async with open_http_client(server, "streamable", "2026-07-28") as client:
            talk = Talk(client)
            await talk.run("1")
            await talk.run("1 / 0")
            await talk.run("while True: pass", timeout=0.2)
            assert (await client.call_tool("run_python", {"code": "1"})).is_error  # one sandbox is all it may have
            await client.call_tool("reset_sandbox", {"sandbox": talk.handle})
        found = await figures(server)
    for tool, outcome in (
        *(("run_python", outcome) for outcome in ("ok", "error", "timeout", "unavailable")),
        ("reset_sandbox", "ok"),
    ):
        assert found[f'agentrun_calls_total{{interface="mcp",outcome="{outcome}",tool="{tool}"}}'] == 1
    assert found['agentrun_call_seconds_count{interface="mcp",tool="run_python"}'] == 4
    assert found['agentrun_call_seconds_bucket{interface="mcp",le="0.1",tool="run_python"}'] < 4
    assert found["agentrun_pool_hits_total"] == 1
    assert found["agentrun_pool_misses_total"] == 0
    assert found['agentrun_refused_total{for="quota"}'] == 1
    assert found['agentrun_refused_total{for="queue"}'] == 0
    assert found["agentrun_sandboxes"] == 1
    assert found["agentrun_waiting"] == 0


async def test_health(server: HttpServer) -> None:
    async with http_client() as http:
        assert (await http.get(f"{server.url}/healthz")).json() == {"status": "ok"}
        assert (await http.get(f"{server.url}/readyz")).json() == {"status": "ok"}


async def test_an_engine_that_hangs_is_found_out_in_time_and_by_one_thread(runner_image: str, tmp_path: Path) -> None:
    with hanging_engine() as engine:
        engine.hangs = True
        with http_server(tmp_path, "--pool", "0", env={"DOCKER_HOST": engine.url}) as server:
            statuses: list[int] = []
            limits = httpx2.Limits(max_connections=None)
            async with http_client(limits=limits) as http, anyio.create_task_group() as tasks:

                async def probe() -> None:
                    statuses.append((await http.get(f"{server.url}/readyz")).status_code)

                for _ in range(45):  # more than there are threads
                    tasks.start_soon(probe)
                with anyio.fail_after(50):  # the engine is given a minute for each answer
                    while len(statuses) < 45:
                        await anyio.sleep(0.5)
                        assert (await http.get(f"{server.url}/healthz")).status_code == 200
            assert set(statuses) == {503}
            assert sum(b"/containers/json" in request for request in engine.taken) == 1
