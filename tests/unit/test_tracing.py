"""Traces: one for a call, from its caller to what it does in the sandbox, without what belongs to the user."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from mcp_agentrun.sandbox import InstallDone, Timing
from mcp_agentrun.server import tracing
from mcp_agentrun.server.tracing import audit_of, traced
from tests.support import CHECKOUT
from tests.support.traced_calls import REMOTE

Span = dict[str, Any]


@pytest.fixture(scope="module")
def printed() -> list[Any]:
    command = [sys.executable, "-m", "tests.support.traced_calls"]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=True)
    return list(map(json.loads, done.stdout.splitlines()))


def _children(spans: list[Span], parent: Span) -> list[Span]:
    return [span for span in spans if span["parent"] == parent["id"]]


def _named(spans: list[Span], name: str) -> Span:
    (found,) = (span for span in spans if span["name"] == name)
    return found


def test_a_call_is_one_trace_from_its_caller_to_the_run_and_the_installer(printed: list[Any]) -> None:
    spans: list[Span] = printed[1:]
    caller, over_mcp = _named(spans, "the caller"), _named(spans, "tools/call run_python")
    over_rest = _named(spans, "POST /v1/sandboxes/{sandbox}/runs")
    sent = _named(spans, "MCP send tools/call run_python")
    assert (sent["parent"], over_mcp["parent"], over_mcp["trace"]) == (caller["id"], sent["id"], caller["trace"])
    assert (over_rest["trace"], over_rest["parent"]) == REMOTE
    assert over_rest["attributes"]["http.response.status_code"] == 200
    for request in (over_mcp, over_rest):
        parts = _children(spans, request)
        assert [part["name"] for part in parts] == ["install", "prepare", "run"]
        install, prepare, run = parts
        assert request["start"] <= prepare["start"] <= install["start"] <= install["end"] <= prepare["end"]
        assert prepare["end"] == run["start"] <= run["end"] <= request["end"]
        assert install["attributes"]["agentrun.packages"] == ["x==1.0"]
        assert run["attributes"]["agentrun.cpu_seconds"] == 0.5


def test_no_span_has_code_output_or_handles(printed: list[Any]) -> None:
    handle, *spans = printed
    for private in (handle, "secret", "private"):
        assert private not in json.dumps(spans)
    assert _named(spans, "GET")["status"] == ["ERROR", None]


def test_a_span_ends_when_the_call_did_whenever_it_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(tracing, "_tracer", provider.get_tracer("test"))
    timing = Timing(2.0, 0.0, None, ended_at=5_000_000_000)
    event = InstallDone("a" * 32, timing, ("x",), "request", None)
    tracing._add_spans("", event)  # pyright: ignore[reportPrivateUsage]
    (span,) = exporter.get_finished_spans()
    assert (span.start_time, span.end_time) == (3_000_000_000, 5_000_000_000)


def test_without_a_provider_nothing_is_observed() -> None:
    app: Any = object()
    assert audit_of(None) is None
    assert traced(app) is app
