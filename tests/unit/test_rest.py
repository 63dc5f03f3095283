"""The REST APIs on a scripted engine: clients that are slow or gone, and what is loaded for them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from typing import Any

import anyio
import httpx2
import pytest

from mcp_agentrun.engine import Report
from mcp_agentrun.errors import EngineError
from mcp_agentrun.server.http import slow_clients
from mcp_agentrun.server.http.app import build_app
from mcp_agentrun.server.http.tokens import Tokens
from mcp_agentrun.settings import Settings
from mcp_agentrun.wire import messages
from mcp_agentrun.wire.messages import Message
from tests.support.fake_engine import Answer, FakeEngine, honest_runner, open_sessions
from tests.support.http_server import TOKENS

pytestmark = pytest.mark.anyio

SETTINGS: dict[str, Any] = {"pool": 0, "reserve": 1, "auth": False}


async def test_an_upload_that_stops_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slow_clients, "SILENT_SECONDS", 0.05)

    async def stopping() -> AsyncIterator[bytes]:
        yield b"beginning"
        await anyio.sleep_forever()

    async with open_sessions(Settings(**SETTINGS)) as sessions:
        transport = httpx2.ASGITransport(build_app(sessions, None)[0])
        async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as http:
            sandbox = f"/v1/sandboxes/{(await http.post('/v1/sandboxes')).json()['id']}"
            with anyio.fail_after(60):
                answer = await http.put(f"{sandbox}/files/f", content=stopping())
            assert (answer.status_code, answer.json()["detail"]) == (408, "The body was sent too slowly.")
            assert (await http.post(f"{sandbox}/runs", json={"code": "1"})).json()["outcome"] == "ok"


async def test_a_server_that_ends_refuses_new_calls_and_uploads() -> None:
    async with open_sessions(Settings(**SETTINGS)) as sessions:
        app, drain = build_app(sessions, None)
        async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://localhost") as http:
            sandbox = f"/v1/sandboxes/{(await http.post('/v1/sandboxes')).json()['id']}"
            drain.begin()
            for method, path in (("POST", "/v1/run/"), ("POST", "/v1/runs"), ("PUT", f"{sandbox}/files/f")):
                refused = await http.request(method, path, content=b"{}")
                assert refused.status_code == 503 and refused.headers["retry-after"], path
            assert (await http.get(sandbox)).status_code == 200
            assert (await http.delete(sandbox)).status_code == 204


async def test_a_body_with_many_unknown_fields_is_refused_in_a_few_bytes() -> None:
    body = {f"field{number}": 1 for number in range(10_000)}
    async with open_sessions(Settings(**SETTINGS)) as sessions:
        transport = httpx2.ASGITransport(build_app(sessions, None)[0])
        async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as http:
            sandbox = f"/v1/sandboxes/{(await http.post('/v1/sandboxes')).json()['id']}"
            for path in ("/v1/sandboxes", "/v1/runs", f"{sandbox}/runs", f"{sandbox}/packages", f"{sandbox}/reset"):
                refused = await http.post(path, json=body)
                assert refused.status_code == 422 and len(refused.content) < 1000, path


@pytest.mark.parametrize("timeout", [True, "5", [5], {}])
async def test_numbers_are_numbers(timeout: object) -> None:
    async with open_sessions(Settings(**SETTINGS)) as sessions:
        transport = httpx2.ASGITransport(build_app(sessions, None)[0])
        async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as http:
            created = await http.post("/v1/sandboxes", json={"lifetime": 100, "limits": {"max_timeout": 5, "cpus": 1}})
            sandbox = created.json()["id"]
            for path, body in (("/v1/runs", {"sandbox": sandbox}), (f"/v1/sandboxes/{sandbox}/runs", {})):
                assert (await http.post(path, json={**body, "code": "1", "timeout": 5})).is_success
                assert (await http.post(path, json={**body, "code": "1", "timeout": timeout})).status_code == 422
            for body in ({"lifetime": timeout}, {"limits": {"cpus": timeout}}):
                assert (await http.post("/v1/sandboxes", json=body)).status_code == 422


@pytest.mark.parametrize(
    ("accept", "is_streamed"),
    [
        ("text/event-stream", True),
        ("application/json;q=0.1, Text/Event-Stream ; q=0.5", True),
        ("text/event-stream;q=0.01", True),
        ("text/event-stream;q=0", False),
        ("text/event-stream; q=0.000, */*", False),
        ("*/*", False),
    ],
)
async def test_events_are_sent_to_those_who_accept_them(accept: str, is_streamed: bool) -> None:
    async with open_sessions(Settings(**SETTINGS)) as sessions:
        transport = httpx2.ASGITransport(build_app(sessions, None)[0])
        async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as http:
            runs = f"/v1/sandboxes/{(await http.post('/v1/sandboxes')).json()['id']}/runs"
            answer = await http.post(runs, json={"code": "1"}, headers={"Accept": accept})
            assert answer.headers["content-type"].startswith("text/event-stream") is is_streamed


async def test_only_the_operator_is_told_where_the_engine_is(caplog: pytest.LogCaptureFixture) -> None:
    class Missing(FakeEngine):
        async def ensure_image(self, report: Report, *, refresh: bool = False) -> str:
            raise EngineError("Nothing at unix:///engine.sock (DOCKER_HOST). Start Docker Desktop.")

    async with open_sessions(Settings(**SETTINGS), Missing()) as sessions:
        transport = httpx2.ASGITransport(build_app(sessions, None)[0])
        async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as http:
            for path, body in (("/v1/sandboxes", {}), ("/v1/run/", {"code": "1"})):
                refused = await http.post(path, json=body)
                assert (refused.status_code, "engine.sock" in caplog.text) == (503, True)
                assert "engine is not available" in refused.json()["detail"] and "Docker" not in refused.text
                caplog.clear()


async def test_runs_are_listed_for_those_whose_they_are() -> None:
    async with open_sessions(Settings(pool=0, reserve=1)) as sessions:
        transport = httpx2.ASGITransport(build_app(sessions, Tokens(TOKENS))[0])
        async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as http:
            alice, bob = ({"Authorization": f"Bearer {TOKENS[name]}"} for name in ("alice", "bob"))
            sandbox = (await http.post("/v1/sandboxes", headers=alice)).json()["id"]
            body = {"sandbox": sandbox, "code": "1"}
            started = [(await http.post("/v1/runs", json=body, headers=alice)).json()["id"] for _ in range(2)]
            listed = (await http.get("/v1/runs", headers=alice)).json()["runs"]
            assert [each["id"] for each in listed] == started[::-1]
            assert {each["sandbox"] for each in listed} == {sandbox}
            assert (await http.get("/v1/runs", headers=bob)).json() == {"runs": []}
        transport = httpx2.ASGITransport(build_app(sessions, None)[0])
        async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as http:
            for path in ("/v1/runs", "/v1/sandboxes"):
                assert (await http.get(path)).status_code == 403


async def test_every_route_says_what_can_be_asked_of_it() -> None:
    async with open_sessions(Settings(**SETTINGS)) as sessions:
        transport = httpx2.ASGITransport(build_app(sessions, None)[0])
        async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as http:
            for path, methods in (("/v1/sandboxes", "GET, POST"), ("/v1/run/", "POST"), ("/v1/health/", "GET, HEAD")):
                answer = await http.options(path)
                assert (answer.status_code, answer.headers["allow"], answer.content) == (204, methods, b"")
            assert (await http.options("/v1/nothing")).status_code == 404
            health = await http.head("/v1/health/")
            assert (health.status_code, health.content) == (200, b"")


async def test_the_quota_is_answered_with_when_to_try_again() -> None:
    async with open_sessions(Settings(**SETTINGS, max_sandboxes=1)) as sessions:
        transport = httpx2.ASGITransport(build_app(sessions, None)[0])
        async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as http:
            assert (await http.post("/v1/run/", json={"code": "1"})).json() == {"output": "x"}
            assert (await http.post("/v1/sandboxes")).status_code == 201  # the idle sandbox gives way
            refused = await http.post("/v1/sandboxes")
            assert refused.status_code == 429
            assert refused.headers["retry-after"] and refused.json()["type"].endswith(":capacity-quota")


async def test_background_runs_have_a_quota_and_say_why_they_have_no_result() -> None:
    def silent(message: Message) -> Sequence[Answer]:
        return [] if isinstance(message, messages.Run) else honest_runner(message)

    engine = FakeEngine(runners=[silent])
    async with open_sessions(Settings(**SETTINGS, max_sandboxes=1, queue=1), engine) as sessions:
        transport = httpx2.ASGITransport(build_app(sessions, None)[0])
        async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as http:
            body = {"sandbox": (await http.post("/v1/sandboxes")).json()["id"], "code": "1"}
            first = await http.post("/v1/runs", json=body)
            assert (first.status_code, first.headers["location"]) == (202, f"/v1/runs/{first.json()['id']}")
            assert (await http.post("/v1/runs", json=body)).status_code == 202
            refused = await http.post("/v1/runs", json=body)
            assert (refused.status_code, refused.json()["type"].rpartition(":")[2]) == (429, "capacity-quota")
            assert refused.headers["retry-after"] and "2 background runs in progress" in refused.json()["detail"]
            for container in [*engine.containers]:
                engine.lose(container)
            run = (await http.get(first.headers["location"], params={"wait": 30})).json()
            assert (run["status"], run["result"], run["problem"]["status"]) == ("done", None, 503)
            assert run["problem"]["type"].endswith(":sandbox-lost")


def test_a_server_on_stdio_does_not_load_it() -> None:
    code = "import sys, mcp_agentrun.server.mcp.stdio; sys.exit('fastapi' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
