"""A server over HTTP as an OAuth 2.1 resource server, with an authorization server of the test's own."""

from __future__ import annotations

import contextlib
import gzip
import json
import ssl
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import anyio
import httpx2
import pytest
from anyio.abc import SocketStream

from mcp_agentrun.errors import SettingsError
from mcp_agentrun.sandbox import AsyncRuntime
from mcp_agentrun.server.http import oauth
from mcp_agentrun.server.http.app import build_app
from mcp_agentrun.server.http.oauth import Introspection, ResourceServer
from mcp_agentrun.sessions import SessionManager
from mcp_agentrun.settings import Settings
from tests.support.serving import serving

pytestmark = pytest.mark.anyio

RESOURCE = "https://python.example/mcp"
GOOD: dict[str, Any] = {"active": True, "client_id": "c", "sub": "alice", "scope": "run", "aud": RESOURCE}
ANSWERS: dict[str, Any] = {
    "good": GOOD,
    "listed": {**GOOD, "aud": [RESOURCE]},
    "revoked": {"active": False},
    "not quite true": {**GOOD, "active": "true"},
    "of nobody": {**GOOD, "client_id": "", "sub": ""},
    "for another": {**GOOD, "aud": "https://other.example/mcp"},
    "for nobody": {**GOOD, "aud": None},
    "of another issuer": {**GOOD, "iss": "https://evil.example"},
    "without the scope": {**GOOD, "scope": "read"},
    "expired": {**GOOD, "exp": 1},
    "garbled": {**GOOD, "exp": "soon"},
    "no object": [],
    "scope that is no text": {**GOOD, "scope": ["run"]},
    "name that is no text": {**GOOD, "sub": {"name": "alice"}},
    "end of time": {**GOOD, "exp": 10**300},
}
NESTED = {
    "nested": '{"active": %s}',
    "nested beside": '{"active": true, "client_id": "c", "scope": "run", "aud": "https://python.example/mcp", "x": %s}',
    "nested scope": '{"active": true, "client_id": "c", "scope": %s, "aud": "https://python.example/mcp"}',
    "nested name": '{"active": true, "client_id": %s, "scope": "run", "aud": "https://python.example/mcp"}',
    "nested audience": '{"active": true, "client_id": "c", "scope": "run", "aud": %s}',
    "nested issuer": '{"active": true, "client_id": "c", "scope": "run", "iss": %s}',
    "nested end": '{"active": true, "client_id": "c", "scope": "run", "exp": %s}',
    "nested and no object": "%s",
}
"""Answers in which lists are put into each other."""


class _AuthorizationServer(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        asked = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())["token"][0]
        kind, _, depth = asked.partition("/")
        body = json.dumps(ANSWERS.get(asked, {"active": False})).encode()
        if kind in NESTED:
            body = (NESTED[kind] % ("[" * int(depth) + "]" * int(depth))).encode()
        elif asked == "packed":
            body = gzip.compress(json.dumps(GOOD).encode() + b" " * (64 << 20))
        elif asked == "long":
            body = json.dumps(GOOD).encode() + b" " * (64 << 20)
        self.send_response(200 if asked != "broken" else 500)
        self.send_header("Content-Length", str(len(body)))
        if asked == "packed":
            self.send_header("Content-Encoding", "gzip")
        self.end_headers()
        with contextlib.suppress(OSError):
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture(scope="module")
def issuer() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), _AuthorizationServer)
    with serving(server):
        yield f"http://127.0.0.1:{server.server_address[1]}"


def resource_server(settings: Settings) -> ResourceServer:
    found = ResourceServer.from_settings(settings)
    assert found is not None
    return found


def guarded(issuer: str) -> httpx2.AsyncClient:
    """A client of the whole server, as `serve` builds it."""
    settings = settings_for(issuer)
    app, _ = build_app(SessionManager(AsyncRuntime(settings), is_shared=True), resource_server(settings))
    return httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url="https://python.example")


def settings_for(issuer: str) -> Settings:
    return Settings(
        oauth_issuer=issuer, oauth_introspection=issuer, oauth_resource=RESOURCE, oauth_scopes=("run",), pool=0
    )


@pytest.mark.parametrize("token", [*ANSWERS, "broken", "unknown", "x" * 10_000])
async def test_only_tokens_for_this_server_are_taken(issuer: str, token: str) -> None:
    async with guarded(issuer) as client:
        answer = await client.get("/metrics", headers={"Authorization": f"Bearer {token}"})
    expected = 200 if token in ("good", "listed", "end of time") else 403 if "scope" in token else 401
    assert answer.status_code == expected


async def test_a_token_without_the_scope_is_refused_on_rest_routes_with_the_reason(issuer: str) -> None:
    async with guarded(issuer) as client:
        refused = await client.get("/v1/sandboxes", headers={"Authorization": "Bearer without the scope"})
    assert (refused.status_code, refused.json()["type"]) == (403, "urn:mcp-agentrun:problem:scope")
    assert 'error="insufficient_scope"' in refused.headers["WWW-Authenticate"]


async def test_who_has_no_token_learns_where_to_get_one(issuer: str) -> None:
    async with guarded(issuer) as client:
        refusal = await client.get("/mcp")
        assert refusal.status_code == 401
        metadata = "https://python.example/.well-known/oauth-protected-resource/mcp"
        assert f'resource_metadata="{metadata}"' in refusal.headers["WWW-Authenticate"]
        answer = (await client.get(metadata)).json()
    assert answer["resource"] == RESOURCE
    assert [server.rstrip("/") for server in answer["authorization_servers"]] == [issuer]


async def test_certificates_are_read_once(issuer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    verifier, reads = resource_server(settings_for(issuer)).verifier, list[object]()
    monkeypatch.setattr(ssl.SSLContext, "load_verify_locations", lambda *what, **_: reads.append(what))  # pyright: ignore
    for _ in range(2):
        assert await verifier.verify_token("good") is not None
    assert reads == []


@pytest.mark.parametrize("kind", NESTED)
async def test_an_answer_that_is_nested_deep_lets_nobody_in(issuer: str, kind: str) -> None:
    async with guarded(issuer) as client:
        for depth in (1, 300, 900, 1100, 15_000):
            answer = await client.get("/metrics", headers={"Authorization": f"Bearer {kind}/{depth}"})
            # What is beside what is asked for does no harm, unless it can't be read.
            assert answer.status_code in ((200, 401) if kind == "nested beside" else (401, 403)), depth


@pytest.mark.parametrize("token", ["packed", "long"])
async def test_no_more_of_an_answer_is_taken_than_one_can_have(
    issuer: str, token: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert await resource_server(settings_for(issuer)).verifier.verify_token(token) is None
    assert "the authorization server failed" in caplog.text


DRIPPING = {
    "status line": b"",
    "headers": b"HTTP/1.1 200 OK\r\nX: ",
    "body": b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{",
    "chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
    "interim answers": b"HTTP/1.1 100 Continue\r\n\r\n",
}


@pytest.mark.parametrize("where", DRIPPING)
async def test_an_answer_that_drips_is_given_up(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oauth, "_SECONDS", 0.2)
    drop = {"chunks": b"1\r\n \r\n", "interim answers": DRIPPING["interim answers"]}.get(where, b" ")
    gone = anyio.Event()

    async def drip(stream: SocketStream) -> None:
        async with stream:
            with contextlib.suppress(anyio.BrokenResourceError):
                await stream.send(DRIPPING[where] or b"H")
                while True:
                    await stream.send(drop)
                    await anyio.sleep(0.02)  # less than any wait for a part of it
        gone.set()

    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, drip)
        port: int = listener.extra(anyio.abc.SocketAttribute.local_port)
        verifier = Introspection(f"http://127.0.0.1:{port}", issuer="https://a.example")
        with anyio.fail_after(30):
            assert await verifier.verify_token("good") is None
            await gone.wait()  # nothing is kept open
        tasks.cancel_scope.cancel()


async def test_where_the_authorization_server_is_away_nobody_gets_in() -> None:
    async with guarded("http://127.0.0.1:1") as client:
        assert (await client.get("/metrics", headers={"Authorization": "Bearer good"})).status_code == 401


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"oauth_issuer": "https://a.example"}, "must be set together"),
        (dict.fromkeys(("oauth_issuer", "oauth_introspection", "oauth_resource"), "nonsense"), "must be HTTP URLs"),
        (dict.fromkeys(("oauth_issuer", "oauth_introspection", "oauth_resource"), "http://a.example"), "https://"),
        (dict.fromkeys(("oauth_issuer", "oauth_introspection", "oauth_resource"), "https://a.example/x"), "in /mcp"),
    ],
)
def test_settings_that_are_of_no_use(values: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        ResourceServer.from_settings(Settings(**values))


def test_a_secret_that_everybody_can_read_is_not_used(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("secret")
    path.chmod(0o644)
    named = dict.fromkeys(("oauth_issuer", "oauth_introspection"), "https://a.example")
    settings = Settings(
        **named,  # pyright: ignore[reportArgumentType]
        oauth_resource=RESOURCE,
        oauth_client_id="x",
        oauth_client_secret_file=path,
    )
    with pytest.raises(SettingsError, match=r"oauth_client_secret_file .* chmod 600"):
        ResourceServer.from_settings(settings)
    path.chmod(0o600)
    assert ResourceServer.from_settings(settings) is not None
