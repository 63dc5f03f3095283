"""Close sandboxes that have been unused, or have existed, for too long."""

from __future__ import annotations

import logging

import anyio

from ..settings import Settings
from .session_store import Session, SessionStore

__all__ = ["SHORTEST_LIFETIME", "Expiry", "session_end"]

logger = logging.getLogger(__name__)

_SHORTEST_PAUSE = 0.05
_LONGEST_PAUSE = 60.0

SHORTEST_LIFETIME = _LONGEST_PAUSE
"""Shortest lifetime of a sandbox in seconds: shorter ones could be noticed too late."""


def session_end(session: Session, settings: Settings) -> float:
    """Return when *session* is closed if it is not used until then, by the clock of the event loop."""
    lifetime = settings.serve.max_ttl if session.lifetime is None else session.lifetime
    return min(session.used_at + settings.serve.idle_ttl, session.started_at + lifetime)


class Expiry:
    """Closes sandboxes after ``idle_ttl`` without use and after ``max_ttl``, but never during a call."""

    def __init__(self, store: SessionStore, settings: Settings) -> None:
        self._store = store
        self._settings = settings

    async def run(self) -> None:
        """Close sandboxes that are due, until cancelled."""
        while True:
            now = anyio.current_time()
            pause = min(self._expire(now) - now, self._settings.serve.idle_ttl / 4, _LONGEST_PAUSE)
            await anyio.sleep(max(_SHORTEST_PAUSE, pause))

    def _expire(self, now: float) -> float:
        """Close sandboxes that are due. Return when the next one is."""
        due = float("inf")
        for session in self._store:
            if session.calls:
                continue
            end = session_end(session, self._settings)
            if end > now:
                due = min(due, end)
            else:
                logger.info("a sandbox has expired")
                self._store.expire(session)
        return due
