"""Close sandboxes that have been unused, or have existed, for too long."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from datetime import datetime, timedelta, timezone

import anyio

from ..errors import InvalidRequestError
from ..settings import SandboxLimits, Settings
from .session_store import SandboxInfo, Session, SessionStore

__all__ = ["SHORTEST_LIFETIME", "Expiry", "described", "require_lifetime", "session_end"]

logger = logging.getLogger(__name__)

_SHORTEST_PAUSE = 0.05
_LONGEST_PAUSE = 60.0

SHORTEST_LIFETIME = _LONGEST_PAUSE
"""Shortest lifetime of a sandbox in seconds: shorter ones could be noticed too late."""


def session_end(session: Session, settings: Settings) -> float:
    """Return when *session* is closed if it is not used until then, by the clock of the event loop."""
    lifetime = settings.serve.max_ttl if session.lifetime is None else session.lifetime
    return min(session.used_at + settings.serve.idle_ttl, session.started_at + lifetime)


def require_lifetime(lifetime: float | None, settings: Settings) -> None:
    """Require that a sandbox may live for *lifetime* seconds. None is the default.

    :raises InvalidRequestError: that is too short or too long.
    """
    longest = settings.serve.max_ttl
    if lifetime is not None and not min(SHORTEST_LIFETIME, longest) <= lifetime <= longest:
        raise InvalidRequestError(
            f"a sandbox can live from {min(SHORTEST_LIFETIME, longest):g} to {longest:g} seconds",
            argument="lifetime",
            limit=longest,
        )


def described(sessions: Iterable[Session], settings: Settings) -> list[SandboxInfo]:
    """Describe those of *sessions* that have a handle."""
    now, current = datetime.now(timezone.utc), anyio.current_time()

    def at(time: float) -> datetime:
        return now + timedelta(seconds=time - current)

    return [
        SandboxInfo(
            session.handle,
            created=at(session.started_at),
            last_used=at(session.used_at),
            expires=at(session_end(session, settings)),
            is_in_use=session.calls > 0,
            limits=SandboxLimits.model_validate(session.opened.container.settings.limits),
            stage="ready" if session.sandbox.is_ready else session.sandbox.stage,
        )
        for session in sessions
        if session.handle is not None
    ]


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
