"""Which interface a call came through."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Literal

__all__ = ["Interface", "current_interface", "through"]

Interface = Literal["mcp", "rest", "agentrun"]

_interface: ContextVar[Interface | None] = ContextVar("interface", default=None)


@contextmanager
def through(interface: Interface | None) -> Generator[None]:
    """Record calls in this context, and in tasks that are started in it, as calls through *interface*."""
    token = _interface.set(interface)
    try:
        yield
    finally:
        _interface.reset(token)


def current_interface() -> Interface | None:
    """Return the interface of the current call."""
    return _interface.get()
