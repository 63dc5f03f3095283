"""What is refused in front of the endpoints: how REST and MCP clients are answered, and what the audit trail says."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path
from typing import Any

import httpx2
import pytest

from mcp_agentrun.audit import Trail
from mcp_agentrun.server.http.app import build_app
from mcp_agentrun.server.http.tokens import Tokens
from mcp_agentrun.settings import Settings
from tests.support.fake_engine import open_sessions
from tests.support.http_server import TOKENS

pytestmark = pytest.mark.anyio

ALICE = {"Authorization": f"Bearer {TOKENS['alice']}"}
ROUTES = ("/v1/run/", "/v1/sandboxes", "/v1/runs", "/v1/sandboxes/guessed/reset", "/v1/nothing")
REFUSED: tuple[tuple[dict[str, str], bytes, int, str], ...] = (
    ({}, b"", 401, "token"),
    ({"Authorization": "Bearer wrong-token-0123456789"}, b"", 401, "token"),
    ({**ALICE, "Host": "evil.example"}, b"", 421, "host"),
    ({**ALICE, "Origin": "https://u:hunter2@evil.example/?hunter2"}, b"", 403, "origin"),
    (ALICE, b" " * 2000, 413, "body"),
)


@asynccontextmanager
async def client(trail: Trail | None = None, **settings: Any) -> AsyncGenerator[httpx2.AsyncClient]:
    """A client of the whole server in this process, without a token."""
    async with open_sessions(Settings(pool=0, reserve=1, body_limit=1000, **settings)) as sessions:
        transport = httpx2.ASGITransport(build_app(sessions, Tokens(TOKENS), trail)[0], client=("192.0.2.7", 1))
        with trail or nullcontext():
            async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as http:
                yield http


def problem(answer: httpx2.Response, status: int, kind: str) -> None:
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    assert int(answer.headers["content-length"]) == len(answer.content)
    found = answer.json()
    assert (found["type"], found["status"]) == (f"urn:mcp-agentrun:problem:{kind}", status)
    assert found["title"] and found["detail"]


@pytest.mark.parametrize("path", ROUTES)
async def test_rest_clients_get_problem_details(path: str) -> None:
    async with client() as http:
        for headers, body, status, kind in REFUSED:
            answer = await http.post(path, headers={"Content-Type": "application/json", **headers}, content=body)
            problem(answer, status, kind)
            assert ("www-authenticate" in answer.headers) is (status == 401)
    async with client(rate_limit=1, stranger_limit=1) as http:
        for headers in (ALICE, {}):
            while (answer := await http.post(path, headers=headers, json={})).status_code != 429:
                pass
            problem(answer, 429, "rate")
            assert int(answer.headers["retry-after"]) >= 1


async def test_pages_that_need_no_token_are_refused_alike() -> None:
    async with client() as http:
        problem(await http.get("/openapi.json", headers={"Host": "evil.example"}), 421, "host")


async def test_mcp_clients_are_answered_as_their_protocol_says() -> None:
    async with client() as http:
        refused = await http.post("/mcp", json={})
        assert (refused.status_code, refused.json()["error"]) == (401, "invalid_token")
        assert refused.headers["www-authenticate"].startswith('Bearer error="invalid_token"')
        forged = await http.post("/messages/?session_id=0", headers={**ALICE, "Host": "evil.example"}, json={})
        assert (forged.status_code, forged.text) == (421, "Invalid Host header")


async def test_the_trail_says_who_was_refused_and_why_and_no_secret(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    async with client(Trail(Settings(), path), rate_limit=8) as http:
        for headers, body, _, _ in REFUSED:
            await http.post("/v1/sandboxes/handle-0123/runs", headers=headers, content=body)
        await http.post("/mcp", headers={"Authorization": "Bearer wrong-token-0123456789"}, json={})
        await http.get("/metrics")
        while (await http.get("/v1/health/", headers=ALICE)).status_code == 200:
            pass
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert {(line["kind"], line["outcome"], line["action"]) for line in lines} == {("refusal", "refused", "request")}
    assert [(line["reason"], line.get("who"), line.get("interface")) for line in lines] == [
        ("token", None, "rest"),
        ("token", None, "rest"),
        ("host", "alice", "rest"),
        ("origin", "alice", "rest"),
        ("body", "alice", "rest"),
        ("token", None, "mcp"),
        ("token", None, None),
        ("rate", "alice", "agentrun"),
    ]
    assert {line["address"] for line in lines} == {"192.0.2.7"}
    for secret in ("wrong-token", "hunter2", "evil", "handle-0123", *TOKENS.values()):
        assert secret not in path.read_text()


async def test_a_flood_of_refusals_is_counted_and_does_not_fill_the_disk(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    async with client(Trail(Settings(), path), stranger_limit=10) as http:
        statuses = [(await http.get("/v1/sandboxes")).status_code for _ in range(400)]
    assert set(statuses) == {401, 429}
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    omitted = [line["lines"] for line in lines if line["kind"] == "dropped"]
    assert len(lines) < 100 and len(lines) - len(omitted) + sum(omitted) == 400


async def test_an_answer_of_an_endpoint_is_no_refusal_in_front(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    async with client(Trail(Settings(), path), max_sandboxes=1) as http:
        assert (await http.post("/v1/sandboxes", headers=ALICE)).status_code == 201
        problem(await http.post("/v1/sandboxes", headers=ALICE), 429, "capacity-quota")
        malformed = await http.post("/v1/run/", headers=ALICE, json={})
        assert malformed.status_code == 422 and malformed.json()["detail"][0]["loc"] == ["body", "code"]
        assert (await http.get("/readyz")).status_code == 200
    assert path.read_text() == ""  # the sessions of this test have no trail
