"""OpenTelemetry traces, if the process has a provider for them, as under ``opentelemetry-instrument``.

The MCP SDK makes a span for each request of MCP. This makes those for requests of REST and, below either, those for
what is done in the sandbox. Like the audit trail, they have neither output nor code nor secrets.
"""

from __future__ import annotations

from opentelemetry import propagate, trace
from opentelemetry.util.types import AttributeValue
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..audit import Record, Trail, record_of
from ..sandbox import Event, RunAccepted
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


def audit_of(trail: Trail | None, count: Audit | None = None) -> Audit | None:
    """Return what passes the calls of sandboxes to *trail*, *count* and the traces, or None if there is no receiver."""
    receivers: list[Audit] = [_add_spans] if _is_traced() else []
    receivers += [] if trail is None else [trail.record]
    receivers += [] if count is None else [count]

    def audit(principal: str, event: Event) -> None:
        for receive in receivers:
            receive(principal, event)

    return audit if receivers else None


def traced(app: ASGIApp) -> ASGIApp:
    """Return *app* with a span for each request, whose parent is that of the header ``traceparent``."""
    if not _is_traced():
        return app

    async def with_span(scope: Scope, receive: Receive, send: Send) -> None:
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        method = scope["method"]
        with _tracer.start_as_current_span(
            method,
            propagate.extract(headers),
            trace.SpanKind.SERVER,
            record_exception=False,
            set_status_on_exception=False,  # its message may quote what belongs to the user
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


def _add_spans(_principal: str, event: Event) -> None:
    """Add spans for a call that has ended, below the span of its request."""
    if isinstance(event, RunAccepted) and event.timing.error is None:
        return
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
