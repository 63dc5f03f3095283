"""Who a caller is, by what the SDK's connection object says: this fails when that object becomes another."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Hashable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
import uvicorn
from mcp import Client
from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser, BearerAuthBackend, RequireAuthMiddleware
from mcp.server.auth.provider import AccessToken, principal_components
from mcp.server.mcpserver import Context, MCPServer
from mcp.types import TextContent
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.types import Message, Receive, Scope, Send

from mcp_agentrun.server.http.limits import RateLimit
from mcp_agentrun.server.http.tokens import Tokens
from mcp_agentrun.server.mcp.connections import by_connection, streams
from mcp_agentrun.server.principals import principal_of
from tests.support.http_server import TOKENS, HttpServer, open_http_client, serve_here

pytestmark = pytest.mark.anyio


class Ended:
    """The connections that have ended."""

    def __init__(self) -> None:
        self.connections: list[Hashable] = []
        self.changed = anyio.Event()

    def __call__(self, connection: Hashable) -> None:
        self.connections.append(connection)
        self.changed.set()


@asynccontextmanager
async def telling_server(ended: Ended, *, auth: bool) -> AsyncGenerator[HttpServer]:
    """A server of the SDK's own with one tool, which says who calls."""
    caller_of = by_connection(ended)
    seen: dict[Hashable, int] = {}
    mcp = MCPServer("who", log_level="WARNING", lifespan=streams(ended))

    @mcp.tool(structured_output=False)
    async def who(ctx: Context[Any, Any]) -> str:
        caller = caller_of(ctx.request_context)
        number = None if caller.connection is None else seen.setdefault(caller.connection, len(seen))
        return json.dumps([number, caller.principal])

    _ = who
    inner = Starlette(routes=[*mcp.streamable_http_app().routes, *mcp.sse_app().routes])
    backend = Middleware(AuthenticationMiddleware, backend=BearerAuthBackend(Tokens(TOKENS)))
    outer = Starlette(middleware=[backend] if auth else [], lifespan=lambda _: mcp.session_manager.run())
    outer.mount("/", RequireAuthMiddleware(inner, []) if auth else inner)
    async with serve_here(uvicorn.Config(outer, log_config=None, timeout_graceful_shutdown=1)) as server:
        yield server


async def who(client: Client) -> tuple[int | None, str]:
    (block,) = (await client.call_tool("who", {})).content
    assert isinstance(block, TextContent)
    number, principal = json.loads(block.text)
    return number, principal


@pytest.mark.parametrize(("transport", "mode"), [("streamable", "legacy"), ("sse", "legacy"), ("sse", "2026-07-28")])
async def test_a_connection_is_the_same_in_all_its_calls_and_its_end_is_told_once(transport: str, mode: str) -> None:
    ended = Ended()
    async with telling_server(ended, auth=False) as server, open_http_client(server, transport, mode) as other:
        async with open_http_client(server, transport, mode) as one:
            assert [await who(client) for client in (one, other, one, other)] == [
                (0, ""),
                (1, ""),
                (0, ""),
                (1, ""),
            ]
            assert ended.connections == []
        with anyio.fail_after(30):
            await ended.changed.wait()
        assert len(ended.connections) == 1
        assert await who(other) == (1, "")
    assert len(set(ended.connections)) == len(ended.connections) == 2


async def test_since_2026_07_28_there_are_no_connections_but_streams() -> None:
    ended = Ended()
    async with (
        telling_server(ended, auth=False) as server,
        open_http_client(server, "streamable", "2026-07-28") as client,
    ):
        assert [await who(client) for _ in range(2)] == [(None, "")] * 2
    assert ended.connections == []


@pytest.mark.parametrize(
    ("transport", "mode"),
    [("streamable", "legacy"), ("streamable", "2026-07-28"), ("sse", "legacy"), ("sse", "2026-07-28")],
)
async def test_a_principal_is_whose_token_it_is(transport: str, mode: str) -> None:
    async with (
        telling_server(Ended(), auth=True) as server,
        open_http_client(server, transport, mode, "alice") as alice,
        open_http_client(server, transport, mode, "bob") as bob,
    ):
        principals = [(await who(client))[1] for client in (alice, bob, alice)]
    assert principals[0] == principals[2] != principals[1]
    assert [json.loads(principal)[0] for principal in principals] == ["alice", "bob", "alice"]


def test_no_two_principals_have_one_name() -> None:
    """Whatever they are called, as far as an authorization server may call them so."""
    parts = ["a", "a b", "b", "a\n", "\nb", '"a"', 'a", "b', "\u00e9", "null", ""]
    tokens = [
        AccessToken(token="t", client_id=client, scopes=[], subject=subject, claims=claims)
        for client in parts
        for subject in [*parts, None]
        for claims in (None, {}, {"iss": "https://one.example"}, {"iss": "https://two.example"})
    ]
    names = {principal_of({"user": AuthenticatedUser(token)}): principal_components(token) for token in tokens}
    assert len(names) == len(set(map(principal_components, tokens)))
    assert "" not in names and principal_of({}) == ""


async def test_the_limits_of_one_principal_are_not_another_s() -> None:
    status: list[int] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        status.append(200)

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            status.append(message["status"])

    limit = RateLimit(app, rate=0.5, on_refusal=lambda: None)
    names = [("a b", "c", "1"), ("a", "b c", "1"), ("a b", "c", "2"), ("a b", "c", "1")]
    for client, subject, issuer in names:
        token = AccessToken(token="t", client_id=client, scopes=[], subject=subject, claims={"iss": issuer})
        await limit({"type": "http", "headers": [], "user": AuthenticatedUser(token)}, _nothing, send)
    assert status == [200, 200, 200, 429]


async def _nothing() -> Message:
    return {"type": "http.request"}
