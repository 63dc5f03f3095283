"""Replicas of one server: whichever a client asks, one of them answers all that a principal sends."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, closing
from urllib.parse import quote

import anyio
import anyio.lowlevel
import httpx2
import pytest
from anyio.abc import SocketAttribute, SocketStream, TaskStatus
from hypothesis import given
from hypothesis import strategies as st
from starlette.responses import JSONResponse

from mcp_agentrun.background import background_tasks
from mcp_agentrun.errors import EngineError, SettingsError
from mcp_agentrun.server.http import peers, slow_clients
from mcp_agentrun.server.http.app import (
    _config,  # pyright: ignore[reportPrivateUsage]
    build_app,
)
from mcp_agentrun.server.http.limits import Drain
from mcp_agentrun.server.http.peers import Peers, better_peers
from mcp_agentrun.server.http.tokens import Tokens
from mcp_agentrun.server.rest.problems import PROBLEM_TYPE
from mcp_agentrun.settings import Settings
from mcp_agentrun.wire.messages import Cancel, Message, OutputChunk, Run
from tests.support.clients import client_text, facts_of
from tests.support.fake_engine import Answer, FakeEngine, honest_runner, open_sessions, result
from tests.support.http_server import (
    TOKENS,
    HttpServer,
    bound,
    client_for,
    connected,
    open_http_client,
    received,
    serve_here,
)
from tests.support.stdio_server import INITIALIZE

pytestmark = pytest.mark.anyio

WAYS = [("streamable", "legacy"), ("streamable", "2026-07-28"), ("sse", "legacy"), ("sse", "2026-07-28")]
ACCEPTED = {"Accept": "application/json, text/event-stream"}
PING = {"jsonrpc": "2.0", "id": 1, "method": "ping"}


class _Engine(FakeEngine):
    """An engine that may fail to respond."""

    is_failing = False
    has_failed = False

    async def list_sandboxes(self) -> Sequence[str]:
        if self.is_failing:
            self.has_failed = True
            raise EngineError("it can't be reached")
        return await super().list_sandboxes()


class Replica:
    """One of the servers, in this process."""

    def __init__(self, server: HttpServer, engine: _Engine, drain: Drain) -> None:
        self.server = server
        self.engine = engine
        self.drain = drain
        self.stopping, self.stopped = anyio.Event(), anyio.Event()

    async def stop(self) -> None:
        self.stopping.set()
        await self.stopped.wait()


def _settings(ports: Sequence[int], own: int) -> Settings:
    urls = [f"http://127.0.0.1:{port}" for port in ports]
    return Settings(pool=0, reserve=1, peers=urls, own_url=f"http://127.0.0.1:{own}")


async def _serve(settings: Settings, port: int, *, task_status: TaskStatus[Replica]) -> None:
    engine = _Engine(runners=[_runner])
    async with open_sessions(settings, engine) as sessions:
        app, drain = build_app(sessions, Tokens(TOKENS))
        async with serve_here(_config(app, settings), port) as server:
            task_status.started(found := Replica(server, engine, drain))
            await found.stopping.wait()
    found.stopped.set()


def _runner(message: Message) -> Sequence[Answer]:
    """A runner whose run ends only when it is interrupted, if the code says so."""
    match message:
        case Run(code="wait"):
            return [OutputChunk(data=b"begun")]
        case Cancel(run=run):
            return [result(run, outcome="cancelled", written=5)]
        case _:
            return honest_runner(message)


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        return [stack.enter_context(closing(bound())).getsockname()[1] for _ in range(count)]


@asynccontextmanager
async def replicas(count: int = 2) -> AsyncGenerator[list[Replica]]:
    """Servers that are replicas, the first of which is the one for alice."""
    ports = _free_ports(count)
    async with background_tasks(lambda: [each.stopping.set() for each in found]) as tasks:
        found: list[Replica] = [await tasks.start(_serve, _settings(ports, port), port) for port in ports]
        async with client_for(found[0].server) as http:
            assert (await http.post("/v1/sandboxes")).status_code == 201
            await _delete_all(http)
        yield sorted(found, key=lambda each: each.engine.started["runner"], reverse=True)


async def _delete_all(http: httpx2.AsyncClient) -> None:
    for sandbox in (await http.get("/v1/sandboxes")).json()["sandboxes"]:
        assert (await http.delete(f"/v1/sandboxes/{sandbox['id']}")).status_code == 204


@pytest.mark.parametrize(("transport", "mode"), WAYS)
async def test_a_sandbox_is_found_through_either_replica(transport: str, mode: str) -> None:
    async with replicas() as (home, other):
        async with open_http_client(other.server, transport, mode) as client:
            first = await client.call_tool("run_python", {"code": "1", "sandbox": "new"})
            handle = facts_of(first)["sandbox"]
        async with open_http_client(home.server, transport, mode) as client:
            again = await client.call_tool("run_python", {"code": "1", "sandbox": handle})
            assert client_text(again) == "x"
        assert (home.engine.started["runner"], other.engine.started["runner"]) == (2, 0)


async def test_a_session_goes_on_whichever_replica_is_asked() -> None:
    async with replicas() as both, client_for(both[0].server) as first, client_for(both[1].server) as second:
        session = (await second.post("/mcp", json=INITIALIZE, headers=ACCEPTED)).headers["mcp-session-id"]
        for http in (first, second, first, second):
            answer = await http.post("/mcp", json=PING, headers={**ACCEPTED, "mcp-session-id": session})
            assert (answer.status_code, answer.json()["result"]) == (200, {})


async def test_rest_is_the_same_through_either_replica() -> None:
    async with replicas() as both, client_for(both[0].server) as first, client_for(both[1].server) as second:
        sandbox = (await second.post("/v1/sandboxes")).json()["id"]
        assert [each["id"] for each in (await first.get("/v1/sandboxes")).json()["sandboxes"]] == [sandbox]
        path = f"/v1/sandboxes/{sandbox}/files/a%2Fb%20%3F"
        made = [await http.put(path, content=_parts()) for http in (first, second)]
        assert [answer.status_code for answer in made] == [200, 200]
        assert [made[0].json(), dict(made[0].headers)] == [made[1].json(), dict(made[1].headers)]
        started = await second.post("/v1/runs", json={"sandbox": sandbox, "code": "1"})
        run = started.headers["location"]
        assert (await first.get(run, params={"wait": 30})).json()["status"] == "done"
        assert (await second.get(f"{run}/output", params={"offset": 0})).json()["text"] == "x"
        assert (await second.head("/v1/health/")).status_code == 200
        async with client_for(both[1].server, "bob") as bob:
            assert (await bob.get(f"/v1/sandboxes/{sandbox}")).status_code == 404


async def _parts() -> AsyncGenerator[bytes]:
    for _ in range(3):
        yield b"part"


async def test_output_is_passed_on_as_it_comes_and_a_client_that_leaves_ends_its_run() -> None:
    async with replicas() as (home, other), client_for(other.server) as http:
        sandbox = (await http.post("/v1/sandboxes")).json()["id"]
        runs, accepted = f"/v1/sandboxes/{sandbox}/runs", {"Accept": "text/event-stream"}
        async with http.stream("POST", runs, json={"code": "wait"}, headers=accepted) as events:
            async for line in events.aiter_lines():
                if line == 'data: {"text":"begun"}':
                    break
        with anyio.fail_after(30):
            while home.drain.in_progress:
                await anyio.lowlevel.checkpoint()
            answer = await http.post(runs, json={"code": "1"})
        assert answer.json()["output"] == "x"


async def test_without_its_replica_a_client_begins_anew_at_another() -> None:
    async with replicas() as (home, other), client_for(other.server) as http:
        session = (await http.post("/mcp", json=INITIALIZE, headers=ACCEPTED)).headers["mcp-session-id"]
        sandbox = (await http.post("/v1/sandboxes")).json()["id"]
        guessed = await http.get("/v1/sandboxes/guessed")
        await home.stop()
        unknown = await http.get(f"/v1/sandboxes/{sandbox}")
        assert (unknown.status_code, unknown.json()) == (404, guessed.json())
        lost = await http.post("/mcp", json=PING, headers={**ACCEPTED, "mcp-session-id": session})
        assert (lost.status_code, lost.json()["error"]["message"]) == (404, "Session not found")
        async with open_http_client(other.server, "streamable", "legacy") as client:
            assert client_text(await client.call_tool("run_python", {"code": "1"})) == "x"
        assert other.engine.started["runner"] == 1


async def test_nothing_new_goes_to_a_replica_that_ends() -> None:
    async with replicas() as (home, other), client_for(other.server) as http:
        home.drain.begin()
        with anyio.fail_after(30):
            while (answer := await http.post("/v1/sandboxes")).status_code == 503:  # until it is asked again
                assert answer.json()["type"].endswith(":shutdown")
        assert answer.status_code == 201
        assert (home.engine.started["runner"], other.engine.started["runner"]) == (1, 1)


async def test_a_replica_whose_engine_fails_for_a_moment_keeps_its_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    async with replicas() as (home, other), client_for(other.server) as http:
        sandbox = (await http.post("/v1/sandboxes")).json()["id"]
        home.engine.is_failing = True
        with anyio.fail_after(30):
            while not home.engine.has_failed:  # by the other replica
                assert (await http.get(f"/v1/sandboxes/{sandbox}")).status_code == 200
        assert (await http.get(f"{home.server.url}/readyz")).status_code == 503
        assert (await http.get(f"/v1/sandboxes/{sandbox}")).status_code == 200
        monkeypatch.setattr(peers, "_PATIENCE_SECONDS", 0.0)
        with anyio.fail_after(30):
            while (await http.get(f"/v1/sandboxes/{sandbox}")).status_code == 200:
                pass


async def test_nothing_that_a_client_sends_decides_where_it_goes() -> None:
    async with replicas() as (_, other), client_for(other.server) as http, AsyncExitStack() as stack:
        trap = await anyio.create_tcp_listener(local_host="127.0.0.1")
        await stack.enter_async_context(trap)
        evil = f"127.0.0.1:{trap.extra(SocketAttribute.local_port)}"
        token = f"Authorization: Bearer {TOKENS['alice']}"
        tasks = await stack.enter_async_context(background_tasks())
        tasks.start_soon(trap.serve, _trapped)
        for target in (f"http://{evil}/v1/sandboxes", f"//{evil}/v1/sandboxes", f"/v1/@{evil}/", f"/v1/../..//{evil}"):
            head = f"GET {target} HTTP/1.1\r\nHost: localhost\r\n{token}\r\nConnection: close\r\n\r\n"
            async with connected(other.server.port, head) as stream:
                assert await _status(stream) in (200, 404)
        for name, value in (
            ("Host", evil),
            ("X-Forwarded-Host", evil),
            ("Forwarded", f"host={evil}"),
            ("agentrun-peer", f"http://{evil}"),
            ("mcp-session-id", f"http://{evil}/"),
        ):
            answer = await http.post("/mcp", json=PING, headers={**ACCEPTED, name: value})
            assert answer.status_code in (400, 404, 421, 508), (name, answer.status_code)
        for handle in ("1", "-1", "../../metrics", f"http://{evil}", "%00", "\u2028", "a" * 4000):
            answer = await http.get(f"/v1/sandboxes/{quote(handle, safe='')}")
            assert answer.status_code == 404, handle


async def test_a_length_that_contradicts_the_body_is_not_passed_on() -> None:
    async with replicas() as (_, other):
        head = (
            "POST /v1/sandboxes HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            f"Authorization: Bearer {TOKENS['alice']}\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        async with connected(other.server.port, f"{head}2\r\n{{}}\r\n0\r\n\r\n") as stream:
            assert await _status(stream) == 201


async def _trapped(_: SocketStream) -> None:
    raise AssertionError("a client has chosen where its request goes")


async def _status(stream: SocketStream) -> int:
    return int((await received(stream)).split()[1])


async def test_a_body_that_does_not_come_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slow_clients, "SILENT_SECONDS", 0.1)
    async with replicas() as (home, other):
        token = f"Authorization: Bearer {TOKENS['alice']}"
        head = f"POST /v1/sandboxes HTTP/1.1\r\nHost: localhost\r\n{token}\r\nContent-Length: 9\r\n\r\n"
        for replica in (home, other):
            async with connected(replica.server.port, head) as stream:
                assert await _status(stream) == 408
            assert home.drain.in_progress == 0


async def test_a_replica_that_is_lost_during_a_request_is_reported() -> None:
    async def lose(stream: SocketStream) -> None:
        async with stream:
            if (await stream.receive()).startswith(b"GET /readyz "):
                await stream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")

    async with replicas() as (home, other), client_for(other.server) as http:
        await home.stop()
        assert (await http.get("/v1/sandboxes")).status_code == 200
        listener = await anyio.create_tcp_listener(local_host="127.0.0.1", local_port=home.server.port)
        async with listener, background_tasks() as tasks:
            tasks.start_soon(listener.serve, lose)
            with anyio.fail_after(30):
                # Until the replica is asked again; such a client is also told that it calls too often.
                while (answer := await http.get("/v1/sandboxes")).status_code in (200, 429):
                    pass
        assert (answer.status_code, answer.json()["detail"]) == (502, "The replica with this sandbox was lost.")
        assert answer.headers["content-type"] == PROBLEM_TYPE


async def test_a_request_does_not_go_round_in_circles() -> None:
    """The replica for alice believes that it is the other one."""
    async with replicas() as (home, other), client_for(other.server) as http:
        await home.stop()
        settings = _settings([home.server.port, other.server.port], other.server.port)
        async with background_tasks() as tasks:
            impostor: Replica = await tasks.start(_serve, settings, home.server.port)
            answer = await http.get("/v1/sandboxes")
            await impostor.stop()
    assert (answer.status_code, answer.json()["detail"]) == (508, "This is another replica.")
    assert answer.headers["content-type"] == PROBLEM_TYPE


async def test_metrics_are_those_of_the_replica_that_is_asked() -> None:
    async with replicas() as (home, other), client_for(other.server) as http:
        await http.post("/v1/sandboxes")
        assert "agentrun_sandboxes 0.0" in (await http.get("/metrics")).text
        async with client_for(home.server) as direct:
            assert "agentrun_sandboxes 1.0" in (await direct.get("/metrics")).text


async def test_authorities_of_peers_are_those_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "/none")
    with pytest.raises(FileNotFoundError):
        Peers(JSONResponse({}), _settings([1, 2], 1))


@given(st.lists(st.integers(1, 65535), min_size=2, max_size=5, unique=True), st.text())
def test_all_replicas_agree_on_the_best_one(ports: list[int], principal: str) -> None:
    urls = [f"http://127.0.0.1:{port}" for port in ports]
    better = {url: better_peers(json.dumps(principal), urls, url) for url in urls}
    ranked = sorted(urls, key=lambda url: len(better[url]))
    assert [better[url] for url in ranked] == [ranked[:number] for number in range(len(urls))]
    # One more replica takes principals from others, and exchanges none between them.
    added = better_peers(json.dumps(principal), [*urls, "http://127.0.0.1:0"], ranked[-1])
    assert [url for url in added if url in urls] == ranked[:-1]


@pytest.mark.parametrize(
    ("peers", "own"),
    [
        ("http://a:1,http://b:1", None),
        ("http://a:1,http://b:1", "http://c:1"),
        ("", "http://a:1"),
        ("http://a:1/path", "http://a:1/path"),
        ("ftp://a:1", "ftp://a:1"),
        ("http://user@a:1", "http://user@a:1"),
        ("http://a:1:2", "http://a:1:2"),
        ("http://[::1", "http://[::1"),
    ],
)
def test_a_replica_is_one_of_its_peers(peers: str, own: str | None) -> None:
    with pytest.raises(SettingsError, match="peers"):
        Settings(peers=peers, own_url=own)
    assert Settings(peers="http://a:1,https://[::1]", own_url="http://a:1").serve.peers == (
        "http://a:1",
        "https://[::1]",
    )
