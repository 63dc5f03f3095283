"""The REST APIs on a scripted engine: clients that are slow or gone, and what is loaded for them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from typing import Any

import anyio
import httpx2
import pytest

from mcp_agentrun.server.http import slow_clients
from mcp_agentrun.server.http.app import build_app
from mcp_agentrun.settings import Settings
from mcp_agentrun.wire import messages
from mcp_agentrun.wire.messages import Message
from tests.support.fake_engine import Answer, FakeEngine, honest_runner, open_sessions

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


async def test_a_body_with_many_unknown_fields_is_refused_in_a_few_bytes() -> None:
    body = {f"field{number}": 1 for number in range(10_000)}
    async with open_sessions(Settings(**SETTINGS)) as sessions:
        transport = httpx2.ASGITransport(build_app(sessions, None)[0])
        async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as http:
            sandbox = f"/v1/sandboxes/{(await http.post('/v1/sandboxes')).json()['id']}"
            for path in ("/v1/sandboxes", "/v1/runs", f"{sandbox}/runs", f"{sandbox}/packages", f"{sandbox}/reset"):
                refused = await http.post(path, json=body)
                assert refused.status_code == 422 and len(refused.content) < 1000, path


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
