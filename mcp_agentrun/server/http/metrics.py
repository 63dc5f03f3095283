"""What Prometheus is told of a server over HTTP."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ...sessions import REFUSALS, Sessions

__all__ = ["Metrics"]

_SECONDS = (0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)


class Metrics:
    """The figures of one server. Labels have a few values each, whatever clients send."""

    def __init__(self, sessions: Sessions) -> None:
        self._registry = registry = CollectorRegistry()
        registry.register(_OfSessions(sessions))
        self._responses = Counter(
            "agentrun_http_responses", "Answers over HTTP, by status.", ["status"], registry=registry
        )
        self._limited = Counter(
            "agentrun_http_rate_limited", "Requests refused for coming too fast.", ["from"], registry=registry
        )
        self._calls = Counter(
            "agentrun_calls", "Calls of tools, by how they ended.", ["tool", "outcome"], registry=registry
        )
        self._seconds = Histogram(
            "agentrun_call_seconds",
            "From a call's arrival to its answer, the wait for its sandbox included.",
            ["tool"],
            buckets=_SECONDS,
            registry=registry,
        )

    def responded(self, status: int) -> None:
        """An answer over HTTP has begun."""
        self._responses.labels(status).inc()

    def limited(self, whose: str) -> None:
        """A request was refused for coming too fast from a *principal*, or from an *address* that shows no token."""
        self._limited.labels(whose).inc()

    def called(self, tool: str, outcome: str, seconds: float) -> None:
        """A call of a tool has ended."""
        self._calls.labels(tool, outcome).inc()
        self._seconds.labels(tool).observe(seconds)

    def text(self) -> str:
        """All of them, in Prometheus' format."""
        return generate_latest(self._registry).decode()


class _OfSessions(Collector):
    """What `Sessions` counts itself."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    def collect(self) -> Iterator[Metric]:
        sessions = self._sessions
        yield GaugeMetricFamily("agentrun_sandboxes", "Sandboxes that a client has.", sessions.count)
        yield GaugeMetricFamily("agentrun_pool_sandboxes", "Sandboxes in the warm pool.", sessions.spares)
        yield GaugeMetricFamily(
            "agentrun_places_taken", "Sandboxes in all, those included that begin or end.", sessions.taken
        )
        yield GaugeMetricFamily("agentrun_waiting", "Calls that wait for room for a sandbox.", sessions.waiting)
        hits, misses = sessions.pool_use
        yield CounterMetricFamily("agentrun_pool_hits", "Sandboxes that were ready when asked for.", hits)
        yield CounterMetricFamily("agentrun_pool_misses", "Sandboxes that had to be started when asked for.", misses)
        refused = CounterMetricFamily(
            "agentrun_refused", "Sandboxes that were not given, by what was lacking.", labels=["for"]
        )
        for reason in REFUSALS:
            refused.add_metric([reason], sessions.refused[reason])
        yield refused
