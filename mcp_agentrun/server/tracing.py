"""OpenTelemetry traces, if the process has a provider for them, as under ``opentelemetry-instrument``.

The MCP SDK makes a span for each request of MCP. This makes those for requests of REST and, below either, those for
what is done in the sandbox. Like the audit trail, they have neither output nor code nor secrets.
"""

from __future__ import annotations

from opentelemetry import propagate, trace
from opentelemetry.util.types import AttributeValue
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..audit import Record, Trail, record_of
from ..sandbox import Event
from ..sessions import Audit

__all__ = ["audit_of", "traced"]

_tracer = trace.get_tracer("mcp-agentrun")

_ATTRIBUTES = (
    *("sandbox", "outcome", "action", "reason", "rules", "cause", "packages"),
    *("cpu_seconds", "peak_memory", "output_bytes", "limits", "error"),
)
"""Fields of a record that are attributes."""

_SHORTEST_WAIT = 0.001
"""Seconds from which the wait for a turn is a span."""


def audit_of(trail: Trail | None) -> Audit | None:
    """Return what receives the calls of sandboxes: *trail*, the traces, both, or None if there is neither."""
    if not _is_traced():
        return trail and trail.record

    def audit(principal: str, event: Event) -> None:
        _add_spans(event)
        if trail is not None:
            trail.record(principal, event)

    return audit


def traced(app: ASGIApp) -> ASGIApp:
    """Return *app* with a span for each request, whose parent is that of the header ``traceparent``."""
    if not _is_traced():
        return app

    async def with_span(scope: Scope, receive: Receive, send: Send) -> None:
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        method = scope["method"]
        with _tracer.start_as_current_span(
            method, propagate.extract(headers), trace.SpanKind.SERVER, record_exception=False
        ) as span:

            async def send_with_status(message: Message) -> None:
                if message["type"] == "http.response.start":
                    span.set_attribute("http.response.status_code", message["status"])
                    if message["status"] >= 500:
                        span.set_status(trace.StatusCode.ERROR)
                await send(message)

            span.set_attribute("http.request.method", method)
            try:
                await app(scope, receive, send_with_status)
            finally:
                route = getattr(scope.get("route"), "path", None)  # the path itself has the sandbox's handle
                if route is not None:
                    span.update_name(f"{method} {route}")
                    span.set_attribute("http.route", route)

    return with_span


def _is_traced() -> bool:
    return not isinstance(trace.get_tracer_provider(), (trace.ProxyTracerProvider, trace.NoOpTracerProvider))


def _add_spans(event: Event) -> None:
    """Add spans for a call that has ended, below the span of its request."""
    record = record_of("", event)
    end = event.timing.ended_at
    start = end - _nanoseconds(event.timing.seconds)
    turn = start + _nanoseconds(event.timing.queued)
    if event.timing.queued >= _SHORTEST_WAIT:
        _tracer.start_span("queue", start_time=start).end(turn)
    if record.run_seconds is not None:
        begun = max(turn, end - _nanoseconds(record.run_seconds))
        _tracer.start_span("prepare", start_time=turn).end(begun)
        turn = begun
    span = _tracer.start_span(record.kind, start_time=turn, attributes=_attributes(record))
    if record.outcome != "ok":
        span.set_status(trace.StatusCode.ERROR, record.outcome)
    span.end(end)


def _attributes(record: Record) -> dict[str, AttributeValue]:
    values = {name: getattr(record, name) for name in _ATTRIBUTES}
    return {f"agentrun.{name}": value for name, value in values.items() if value is not None and value != ()}


def _nanoseconds(seconds: float) -> int:
    return int(seconds * 1e9)
