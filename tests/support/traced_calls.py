"""Calls through MCP and REST in a process with a provider of traces, which it can have only once.

``python -m tests.support.traced_calls`` prints the handle of a sandbox, and one JSON object per span.
"""

from __future__ import annotations

import json
from typing import Any

import anyio
import httpx2
import uvicorn
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from mcp_agentrun import AsyncRuntime, Settings
from mcp_agentrun.engine.network import NetworkSettings
from mcp_agentrun.server.http.app import build_app
from mcp_agentrun.server.tracing import audit_of, traced
from mcp_agentrun.sessions import SessionManager
from mcp_agentrun.wire import messages
from tests.support.fake_engine import FakeEngine, honest_runner, result
from tests.support.http_server import http_client, serve_here

REMOTE = ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331")
"""Trace and span of the caller over REST."""


def _runner(message: messages.Message) -> Any:
    match message:
        case messages.Run(run=run):
            return [messages.MissingPackages(run=run, names=("x",), requirements=())]
        case messages.Proceed(run=run):
            return [messages.OutputChunk(data=b"private"), result(run, written=7, duration=0.0, cpu_time=0.5)]
        case _:
            return honest_runner(message)


async def _call() -> None:
    settings, engine = Settings(auth=False, pool=0, auto_install="all"), FakeEngine(runners=[_runner])
    runtime = AsyncRuntime(settings, engine=engine, package_network=NetworkSettings())
    async with engine.running(), SessionManager(runtime, is_shared=True, audit=audit_of(None)) as sessions:
        app, _ = build_app(sessions, None)
        async with serve_here(uvicorn.Config(app, log_config=None)) as server, http_client() as http:
            with trace.get_tracer("test").start_as_current_span("the caller"):
                async with Client(streamable_http_client(f"{server.url}/mcp", http_client=http)) as client:
                    await client.call_tool("run_python", {"code": "import x; secret = 1"})
            headers = {"traceparent": f"00-{REMOTE[0]}-{REMOTE[1]}-01"}
            created = await http.post(f"{server.url}/v1/sandboxes")
            path = f"{server.url}/v1/sandboxes/{created.json()['id']}"
            await http.post(f"{path}/runs", json={"code": "import x; secret = 1"}, headers=headers)
            print(json.dumps(created.json()["id"]))  # noqa: T201
    failing = httpx2.ASGITransport(traced(_fail), raise_app_exceptions=False)
    async with httpx2.AsyncClient(transport=failing, base_url="http://localhost") as http:
        await http.get("/")


async def _fail(scope: Scope, receive: Receive, send: Send) -> None:
    await PlainTextResponse("", 500)(scope, receive, send)
    raise ValueError("private")


def _as_json(span: ReadableSpan) -> dict[str, Any]:
    context = span.get_span_context()
    assert context is not None
    assert span.start_time is not None
    assert span.end_time is not None
    return {
        "name": span.name,
        "trace": f"{context.trace_id:032x}",
        "id": f"{context.span_id:016x}",
        "parent": None if span.parent is None else f"{span.parent.span_id:016x}",
        "start": span.start_time,
        "end": span.end_time,
        "status": (span.status.status_code.name, span.status.description),
        "attributes": dict(span.attributes or {}),
    }


if __name__ == "__main__":
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    anyio.run(_call)
    for each in exporter.get_finished_spans():
        print(json.dumps(_as_json(each)))  # noqa: T201
