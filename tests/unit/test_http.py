"""The server over HTTP: every transport in every era, who gets in, and what is left at the end."""

from __future__ import annotations

import os
import re
import socket
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from io import StringIO
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
from mcp import Client
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from mcp_agentrun.engine.docker.engine import DockerEngine
from mcp_agentrun.engine.docker.image import ImageRecipe
from mcp_agentrun.engine.network import NetworkSettings
from mcp_agentrun.errors import SettingsError
from mcp_agentrun.sandbox import AsyncRuntime
from mcp_agentrun.server.http import app
from mcp_agentrun.server.http.app import (
    _config,  # pyright: ignore[reportPrivateUsage]
    _listen,  # pyright: ignore[reportPrivateUsage]
    build_app,
    is_loopback,
)
from mcp_agentrun.server.http.limits import AddressLimit, SessionQuota, TokenBuckets
from mcp_agentrun.server.http.metrics import Metrics
from mcp_agentrun.server.http.tokens import Tokens
from mcp_agentrun.sessions import SessionManager
from mcp_agentrun.settings import Settings
from tests.support.clients import client_text
from tests.support.command_line import command
from tests.support.fake_engine import FakeEngine, open_sessions
from tests.support.http_server import TOKENS, HttpServer, http_client, open_http_client, serve_here
from tests.support.stdio_server import INITIALIZE

pytestmark = pytest.mark.anyio

PING = {"jsonrpc": "2.0", "id": 1, "method": "ping"}


async def test_a_session_in_the_middle_of_a_call_is_not_the_one_to_end() -> None:
    ended: list[bytes] = []
    busy, go = anyio.Event(), anyio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"])
        if scope["method"] == "DELETE":
            ended.append(headers[b"mcp-session-id"])
        elif b"mcp-session-id" in headers:
            busy.set()
            await go.wait()
        else:
            begun = [(b"mcp-session-id", headers[b"begin"])]
            await send({"type": "http.response.start", "status": 200, "headers": begun})

    share = SessionQuota(app, most=2, idle=60)

    async def ask(*headers: tuple[bytes, bytes]) -> None:
        async def receive() -> dict[str, Any]:
            return {"type": "http.request"}

        async def send(_: Any) -> None:
            pass

        scope = {"type": "http", "method": "POST", "headers": headers, "client": ("192.0.2.1", 1)}
        await share(scope, receive, send)

    async with anyio.create_task_group() as tasks:
        await ask((b"begin", b"first"))
        tasks.start_soon(ask, (b"mcp-session-id", b"first"))
        await busy.wait()
        for name in (b"second", b"third"):
            await ask((b"begin", name))
        assert ended == [b"second"]
        go.set()
    await ask((b"begin", b"fourth"))
    assert ended == [b"second", b"third"]


async def test_a_revoked_token_is_a_stranger_s_again() -> None:
    """What was found good once is not good for ever."""
    good, refused = {b"Bearer one"}, 0

    def on_refusal() -> None:
        nonlocal refused
        refused += 1

    limit = AddressLimit(1, on_refusal=on_refusal)
    behind = limit.after(PlainTextResponse("in"))

    async def authenticated(scope: Scope, receive: Receive, send: Send) -> None:
        is_in = dict(scope["headers"])[b"authorization"] in good
        await (behind if is_in else PlainTextResponse("out", 401))(scope, receive, send)

    transport = httpx2.ASGITransport(limit.before(authenticated))
    async with httpx2.AsyncClient(transport=transport, base_url="http://here") as http:

        async def statuses() -> list[int]:
            headers = {"Authorization": "Bearer one"}
            return [(await http.get("/", headers=headers)).status_code for _ in range(20)]

        assert set(await statuses()) == {200}
        good.clear()
        assert (await statuses())[-1] == 429
    assert refused


def test_the_memory_of_who_came_is_bounded() -> None:
    async def check() -> None:
        buckets = TokenBuckets(1, 2)
        for number in range(20_000):
            assert buckets.take(str(number)) == 0
        assert buckets.count <= 10_000
        assert [buckets.take("19999") > 0 for _ in range(2)] == [False, True]
        buckets.refund("19999")
        assert buckets.take("19999") == 0

    anyio.run(check)


def test_without_a_token_only_this_machine_is_served(tmp_path: Path) -> None:
    refused = command("serve", "--no-auth", "--host", "0.0.0.0")
    assert refused.returncode == 2
    assert "everyone who can reach 0.0.0.0 could run code here" in refused.stderr
    assert [is_loopback(host) for host in ("127.0.0.1", "::1", "localhost", "0.0.0.0", "10.0.0.1", "a.example")] == [
        *[True] * 3,
        *[False] * 3,
    ]


@pytest.mark.parametrize(
    ("host", "reached"),
    [("fd00::1", "[fd00::1]"), ("10.0.0.1", "10.0.0.1"), ("here.example", "here.example"), ("::1", "[::1]")],
)
async def test_the_server_answers_to_the_name_that_it_listens_on(host: str, reached: str) -> None:
    network = NetworkSettings.from_environment(os.environ)
    sessions = SessionManager(
        AsyncRuntime(Settings(host=host), engine=DockerEngine(recipe=ImageRecipe()), package_network=network),
        is_shared=True,
    )
    transport = httpx2.ASGITransport(build_app(sessions, None)[0])
    async with httpx2.AsyncClient(transport=transport) as http:
        for name, is_ours in ((reached, True), ("[fd00::2]", False), ("10.0.0.2", False)):
            for port in ("", ":8000"):
                answer = await http.post(f"http://{name}{port}/messages/?session_id=0", json=PING)
                assert (answer.status_code != 421) is is_ours


@pytest.mark.parametrize(
    ("host", "reason"), [("127.0.0.1", "Address already in use"), ("192.0.2.1", "Cannot assign requested address")]
)
def test_an_address_that_can_not_be_had_is_said(host: str, reason: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        where = ("--port", str(port), "--host", host)
        refused = command("serve", *where, "--no-auth", "--allow-public-without-auth")
    assert refused.returncode == 2
    assert f"{host}:{port} can't be listened on: {reason}" in refused.stderr
    assert "Traceback" not in refused.stderr


@pytest.mark.parametrize("host", ["x..y", "a" * 70 + ".example"])
def test_a_name_that_no_host_can_have_is_said(host: str) -> None:
    with pytest.raises(SettingsError, match=f"{re.escape(host)}:0 can't be listened on: "):
        _listen(host, 0)


def test_a_name_with_several_addresses_is_listened_on_where_it_can_be() -> None:
    listening = _listen("localhost", 0)
    assert listening
    assert all(one.proto == socket.IPPROTO_TCP for one in listening)  # or each answer takes 40 ms longer
    for one in listening:
        with socket.create_connection(one.getsockname()[:2]):
            pass
        one.close()


@pytest.mark.parametrize(("form", "stream"), [("text", "stderr"), ("json", "stdout")])
@pytest.mark.parametrize("is_terminal", [True, False])
def test_a_generated_token_is_shown_on_a_terminal_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: Any, stream: str, is_terminal: bool
) -> None:
    path, shown = tmp_path / "tokens", StringIO()
    monkeypatch.setattr(app, "default_token_file", lambda: path)
    monkeypatch.setattr(shown, "isatty", lambda: is_terminal)
    monkeypatch.setattr(sys, stream, shown)
    for _ in range(2):
        app._verifier(Settings(log_format=form))  # pyright: ignore[reportPrivateUsage]
    assert shown.getvalue().count(str(path)) == 1
    assert (path.read_text().split()[1] in shown.getvalue()) is is_terminal


def test_a_generated_token_is_private_and_shown_once(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "tokens"
    _, token = Tokens.generated(path)
    assert token is not None
    assert path.stat().st_mode & 0o777 == 0o600
    assert Tokens.generated(path)[1] is None
    assert token in path.read_text()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no token"),
        ("# nothing\n", "has no token"),
        ("short", "fewer than 16 characters"),
        ("a b c", "line 1 .* is not NAME TOKEN"),
        (f"a {'x' * 20}\na {'y' * 20}", "line 2 .* repeats the name 'a'"),
        (f"a {'x' * 20}\nb {'x' * 20}", "line 2 .* repeats the token of another name"),
    ],
)
def test_token_files_that_are_of_no_use(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "tokens"
    path.touch(0o600)
    path.write_text(text)
    with pytest.raises(SettingsError, match=message):
        Tokens.from_file(path)


@pytest.mark.parametrize("mode", [0o644, 0o602])
def test_a_token_file_that_is_open_to_everybody_is_not_used(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "tokens"
    path.write_text(f"a {'x' * 20}")
    path.chmod(mode)
    with pytest.raises(SettingsError, match="can be read or changed by every user of this machine: chmod 600"):
        Tokens.from_file(path)
    path.chmod(0o640)  # a group is the operator's choice
    Tokens.from_file(path)


def test_a_token_file_that_was_named_is_not_made(tmp_path: Path) -> None:
    refused = command("serve", "--port", "0", "--token-file", str(tmp_path / "tokenz"))
    assert refused.returncode == 2
    assert "tokenz does not exist" in refused.stderr
    assert not list(tmp_path.iterdir())


@asynccontextmanager
async def serving(**settings: Any) -> AsyncGenerator[HttpServer]:
    """The whole server in this process, on containers that answer everything with ``x``."""
    chosen = Settings(pool=0, reserve=1, **settings)
    async with open_sessions(chosen) as sessions:
        app, _ = build_app(sessions, Tokens(TOKENS))
        async with serve_here(_config(app, chosen)) as server:
            yield server


async def run(client: Client) -> str:
    return client_text(await client.call_tool("run_python", {"code": "1"}))


async def test_who_sends_too_fast_is_slowed_and_others_go_on() -> None:
    async with (
        serving(rate_limit=5) as server,
        open_http_client(server, "streamable", "legacy") as client,
        http_client(headers={"Authorization": f"Bearer {TOKENS['bob']}"}) as http,
    ):
        statuses: list[int] = []
        while 429 not in statuses:
            statuses.append((await http.post(f"{server.url}/mcp", json=PING)).status_code)
        assert await run(client) == "x"
    assert len(statuses) > 10


async def test_who_opens_sessions_and_goes_away_keeps_nobody_out() -> None:
    accepted = {"Accept": "application/json, text/event-stream"}
    async with serving(max_sandboxes=1, max_total=1, rate_limit=1000) as server:  # 4 sessions each, 16 in all
        url = f"{server.url}/mcp"
        async with http_client(headers={"Authorization": f"Bearer {TOKENS['alice']}", **accepted}) as http:
            opened = [(await http.post(url, json=INITIALIZE)).headers["mcp-session-id"] for _ in range(40)]
            statuses = [
                (await http.post(url, json=PING, headers={"mcp-session-id": session})).status_code for session in opened
            ]
            assert statuses == [404] * 36 + [200] * 4
            for _ in range(10):  # what is refused has begun no session
                assert (await http.post(url, json=PING)).status_code == 400
                assert (await http.get(url)).status_code == 400
            last = {"mcp-session-id": opened[-1]}
            assert (await http.post(url, json=PING, headers=last)).status_code == 200
        async with open_http_client(server, "streamable", "legacy", "bob") as client:
            assert await run(client) == "x"


def test_the_server_closes_no_connection_before_its_client_does() -> None:
    ours = _config(PlainTextResponse(), Settings()).timeout_keep_alive
    theirs = httpx2.Limits().keepalive_expiry
    assert theirs is not None and ours > 2 * theirs


async def test_tokens_are_not_tried_at_any_speed_and_others_go_on() -> None:
    wrong = {"Authorization": "Bearer wrong-token-0123456789"}
    async with (
        serving(stranger_limit=5) as server,
        open_http_client(server, "streamable", "legacy") as client,
        http_client() as http,
    ):
        statuses: list[int] = []
        while 429 not in statuses:
            # A client that names another address each time is counted all the same.
            told = {**wrong, "X-Forwarded-For": f"10.0.0.{len(statuses) % 256}"}
            answer = await http.post(f"{server.url}/mcp", json=PING, headers=told)
            statuses.append(answer.status_code)
            assert answer.status_code == 401 or int(answer.headers["Retry-After"]) >= 1
        assert await run(client) == "x"
    assert set(statuses) == {401, 429}
    assert len(statuses) > 10


async def test_who_a_proxy_speaks_for_is_counted_apart_where_it_is_trusted() -> None:
    async with serving(stranger_limit=1, trusted_proxies=("127.0.0.1",)) as server, http_client() as http:
        for number in range(20):
            headers = {"X-Forwarded-For": f"10.0.0.{number}"}
            assert (await http.post(f"{server.url}/mcp", json=PING, headers=headers)).status_code == 401
        headers, status = {"X-Forwarded-For": "10.0.0.0"}, 401
        while status != 429:
            status = (await http.post(f"{server.url}/mcp", json=PING, headers=headers)).status_code


async def test_probes_are_answered_while_tokens_are_tried_from_their_address() -> None:
    async with serving(stranger_limit=1) as server, http_client() as http:
        while (await http.post(f"{server.url}/mcp", json=PING)).status_code != 429:
            pass
        for path in ("/healthz", "/readyz"):
            assert (await http.get(f"{server.url}{path}")).status_code == 200
            assert (await http.get(f"{server.url}{path}", headers={"Authorization": "Bearer x"})).status_code == 429


async def test_a_connection_ends_with_a_request_of_ambiguous_length() -> None:
    settings = Settings(pool=0, reserve=1, auth=False)
    body = '14\r\n{"code": "print(1)"}\r\n0\r\n\r\n'
    head = "POST /v1/run/ HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    ambiguous = f"{head}Content-Length: {len(body)}\r\nTransfer-Encoding: chunked\r\n\r\n{body}"
    async with (
        open_sessions(settings) as sessions,
        serve_here(_config(build_app(sessions, None)[0], settings)) as served,
        await anyio.connect_tcp("127.0.0.1", served.port) as stream,
    ):
        await stream.send((ambiguous + head + "Content-Length: 2\r\n\r\n{}").encode())
        answers = b""
        with anyio.fail_after(30), suppress(anyio.EndOfStream):
            while True:
                answers += await stream.receive()
        assert answers.startswith(b"HTTP/1.1 200 ") and answers.count(b"HTTP/1.1") == 1
        assert b"\r\nconnection: close\r\n" in answers


async def test_calls_are_counted_by_interface() -> None:
    metrics = Metrics()
    settings = Settings(pool=0, reserve=1, auth=False, max_sandboxes=2)
    engine = FakeEngine()
    runtime = AsyncRuntime(settings, engine=engine, package_network=NetworkSettings())
    async with engine.running(), SessionManager(runtime, is_shared=True, audit=metrics.count_event) as sessions:
        app, _ = build_app(sessions, None, metrics=metrics)
        async with serve_here(_config(app, settings)) as server:
            async with Client(f"{server.url}/mcp", mode="legacy") as client:
                assert await run(client) == "x"
            async with http_client() as http:
                http.base_url = server.url
                assert (await http.post("/v1/run/", json={"code": "1"})).json() == {"output": "x"}
                made = (await http.post("/v1/sandboxes", json={"packages": ["x"]})).json()["id"]
                await http.post(f"/v1/sandboxes/{made}/runs", json={"code": "1"})
                await http.post(f"/v1/sandboxes/{made}/runs", json={"code": "1", "timeout": 1e6})
                started = (await http.post("/v1/runs", json={"sandbox": made, "code": "1"})).headers["location"]
                assert (await http.get(started, params={"wait": 30})).json()["status"] == "done"
                await http.post(f"/v1/sandboxes/{made}/reset")
                await http.put(f"/v1/sandboxes/{made}/files/f", content=b"1")
                await http.get(f"/v1/sandboxes/{made}/files")
                assert (await http.get("/v1/runs/guessed")).status_code == 404
                text = (await http.get("/metrics")).text
    found = re.findall(r'^agentrun_calls_total{interface="(.*)",outcome="(.*)",tool="(.*)"} (.*)$', text, re.MULTILINE)
    assert sorted(found) == [
        ("agentrun", "ok", "run_python", "1.0"),
        ("mcp", "ok", "run_python", "1.0"),
        ("rest", "error", "open", "1.0"),
        ("rest", "error", "run_python", "1.0"),
        ("rest", "ok", "install_package", "1.0"),
        ("rest", "ok", "list_files", "1.0"),
        ("rest", "ok", "reset_sandbox", "1.0"),
        ("rest", "ok", "run_python", "2.0"),
        ("rest", "ok", "write_file", "1.0"),
    ]
    assert 'agentrun_call_seconds_count{interface="rest",tool="run_python"} 3.0' in text
