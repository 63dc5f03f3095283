"""Resetting a session: removing its files."""

from __future__ import annotations

import contextlib
import os
import time

from mcp_agentrun.wire.messages import WRITABLE

from . import wipe

WIPE_SECONDS = 20.0
_FEW_ENTRIES, _FEW_BYTES = 64, 8 << 20  # of a folder, which are removed in less time than it takes to fork


class Reset:
    """A reset in progress. If files can't be removed, this container ends, because only a new one is clean.

    :param keep_files: there is nothing to wipe.
    """

    def __init__(self, *, keep_files: bool) -> None:
        self.keep_files = keep_files
        self.is_wiped = keep_files
        self.janitor: int | None = None  # pid of the process that wipes, because a hostile tree can take long
        self.strays: set[int] = set()  # processes that it has killed, which may not be gone yet
        self.deadline = float("inf")

    def wipe(self) -> bool:
        """Wipe a few files, or start wiping many unless it has started; returns whether this was the first attempt."""
        if self.is_wiped or self.janitor is not None:
            return False
        is_first = self.deadline == float("inf")
        if is_first:
            self.deadline = time.monotonic() + WIPE_SECONDS
            if all(map(_is_small, WRITABLE)):
                with contextlib.suppress(OSError):
                    _wipe()
                    self.is_wiped = True
                    return True
        with contextlib.suppress(BlockingIOError):  # killed processes count until they are reaped: tried again then
            self.janitor = _start_janitor()
        return is_first

    def on_exit(self, pid: int, code: int) -> bool:
        """Record that process *pid* has ended; false if it was not the janitor."""
        if pid != self.janitor:
            return False
        if code != 0:
            os._exit(1)
        self.janitor, self.is_wiped = None, True
        return True

    def keep_deadline(self, now: float) -> None:
        if now >= self.deadline and not self.is_wiped:
            os._exit(1)


def _is_small(folder: str) -> bool:
    """Whether little has to be removed from *folder*, by the figures of its file system; false if it keeps none."""
    usage = os.statvfs(folder)
    entries, size = usage.f_files - usage.f_ffree, (usage.f_blocks - usage.f_bfree) * usage.f_frsize
    return 0 < entries <= _FEW_ENTRIES and size <= _FEW_BYTES


def _wipe() -> None:
    for folder, mode in WRITABLE.items():
        wipe.empty(folder, mode)
    wipe.fill_home(os.environ["HOME"])


def _start_janitor() -> int:
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            _wipe()
            status = 0
        finally:
            os._exit(status)
    return pid
