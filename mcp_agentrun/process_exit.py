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
"""Exit code of a process that was ended by Ctrl-C."""

_T = TypeVar("_T")


def exit_at_once(code: int) -> NoReturn:
    """End the process. To leave the interpreter would be to wait for all threads, and in those an image may be built,
    or the engine may not answer.
    """
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # nobody reads it any more
            stream.flush()
    os._exit(code)


def run_interruptibly(work: Callable[[], Awaitable[_T]]) -> _T:
    """Run *work* in an event loop and return its result. Ctrl-C exits the process at once."""
    # asyncio's own handler cancels, and what is cancelled waits for threads in which the engine may not answer.
    signal.signal(signal.SIGINT, _interrupted)
    return anyio.run(work)


def _interrupted(*_: object) -> NoReturn:
    exit_at_once(INTERRUPTED)
