"""Exit the process without waiting for its threads."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import NoReturn, TypeVar

import anyio

__all__ = ["INTERRUPTED", "exit_at_once", "run_interruptibly"]

INTERRUPTED = 128 + signal.SIGINT
"""Exit code after Ctrl-C."""

_T = TypeVar("_T")


def exit_at_once(code: int) -> NoReturn:
    """End the process. A normal exit would wait for all threads, some of which may be building an image or waiting for
    an engine that does not respond.
    """
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # the reader has gone
            stream.flush()
    os._exit(code)


def run_interruptibly(work: Callable[[], Awaitable[_T]]) -> _T:
    """Run *work* in an event loop and return its result. Ctrl-C exits the process at once."""
    # asyncio's own handler cancels, which waits for threads in which the engine may not respond.
    signal.signal(signal.SIGINT, _interrupted)
    return anyio.run(work)


def _interrupted(*_: object) -> NoReturn:
    exit_at_once(INTERRUPTED)
