"""Time that passes at once: while every task waits, the clock jumps to the next deadline."""

from __future__ import annotations

import pytest
from trio.testing import MockClock

virtual_time = pytest.mark.parametrize(
    "anyio_backend", [pytest.param(("trio", {"clock": MockClock(autojump_threshold=0)}), id="virtual time")]
)
"""For tests without threads and sockets, whose waits the clock can't see."""
