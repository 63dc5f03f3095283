"""Metrics of a server over HTTP for Prometheus."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ...audit import Interface, current_interface
from ...errors import UnavailableError
from ...sandbox import Event, FileDone, InstallDone, Refused, ResetDone, RunAccepted, RunDone
from ...sessions import REFUSALS, SessionManager

__all__ = ["Metrics"]

_SECONDS = (0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)


class Metrics:
    """The metrics of one server. The values of labels never depend on what clients send."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        self._responses = Counter("agentrun_http_responses", "HTTP responses by status.", ["status"], registry=registry)
        self._limited = Counter(
            "agentrun_http_rate_limited", "HTTP requests refused by a rate limit.", ["from"], registry=registry
        )
        self._calls = Counter(
            "agentrun_calls", "Calls by outcome.", ["interface", "tool", "outcome"], registry=registry
        )
        self._seconds = Histogram(
            "agentrun_call_seconds",
            "Duration of a call; over MCP including the wait for its sandbox.",
            ["interface", "tool"],
            buckets=_SECONDS,
            registry=registry,
        )

    def count_response(self, status: int) -> None:
        """Count an HTTP response."""
        self._responses.labels(status).inc()

    def count_limited(self, whose: str) -> None:
        """Count a request refused by the rate limit of a ``principal``, or of an ``address`` without a valid token."""
        self._limited.labels(whose).inc()

    def watch(self, sessions: SessionManager) -> None:
        """Show the figures of *sessions*, too."""
        self._registry.register(_SessionCollector(sessions))

    def count_call(self, tool: str, outcome: str, seconds: float, interface: Interface = "mcp") -> None:
        """Count a call."""
        self._calls.labels(interface, tool, outcome).inc()
        self._seconds.labels(interface, tool).observe(seconds)

    def count_event(self, _principal: str, event: Event) -> None:
        """Count a call through another interface than MCP, whose calls are those of tools."""
        interface, tool = current_interface(), _tool(event)
        if tool is not None and interface not in (None, "mcp"):
            self.count_call(tool, _outcome(event), event.timing.seconds, interface)

    def text(self) -> str:
        """Return all metrics in Prometheus' text format."""
        return generate_latest(self._registry).decode()


def _tool(event: Event) -> str | None:
    """Return the tool that does the same as a call, or None if *event* is not a call of its own."""
    match event:
        case RunDone():
            return "run_python"
        case RunAccepted():  # which `RunDone` follows, unless it was refused
            return None if event.timing.error is None else "run_python"
        case InstallDone():
            return "install_package" if event.cause == "request" else None
        case ResetDone():
            return "reset_sandbox"
        case FileDone():
            return "list_files" if event.operation == "list" else f"{event.operation}_file"
        case Refused():
            return "open"


def _outcome(event: Event) -> str:
    """Return how a call ended, in the words for calls of tools."""
    match event.timing.error:
        case None:
            return event.result.outcome if isinstance(event, RunDone) and event.result is not None else "ok"
        case UnavailableError():
            return "unavailable"
        case Exception():
            return "error"
        case _:
            return "cancelled"


class _SessionCollector(Collector):
    """The metrics that `SessionManager` counts."""

    def __init__(self, sessions: SessionManager) -> None:
        self._sessions = sessions

    def collect(self) -> Iterator[Metric]:
        sessions = self._sessions
        yield GaugeMetricFamily("agentrun_sandboxes", "Sandboxes that belong to a client.", sessions.count)
        yield GaugeMetricFamily("agentrun_pool_sandboxes", "Sandboxes in the warm pool.", sessions.spares)
        yield GaugeMetricFamily(
            "agentrun_places_taken", "All sandboxes, including those that are starting or ending.", sessions.taken
        )
        yield GaugeMetricFamily("agentrun_waiting", "Calls that wait for capacity.", sessions.waiting)
        hits, misses = sessions.pool_use
        yield CounterMetricFamily("agentrun_pool_hits", "Requests for a sandbox that the warm pool served.", hits)
        yield CounterMetricFamily(
            "agentrun_pool_misses", "Requests for a sandbox that the warm pool could not serve.", misses
        )
        refused = CounterMetricFamily("agentrun_refused", "Refused sandboxes by reason.", labels=["for"])
        for reason in REFUSALS:
            refused.add_metric([reason], sessions.refused[reason])
        yield refused
