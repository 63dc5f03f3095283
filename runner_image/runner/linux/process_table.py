"""Processes of the container: which there are, how they are, and ending them."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Collection, Iterator
from contextlib import suppress
from os import O_CLOEXEC, O_RDONLY, close, read
from os import open as open_descriptor

from ..prelude import __builtins__

_PROCESS_CLOCK = 2
_PAUSE = 0.0002  # seconds: SIGKILL has no event to wait for where the process is not our child
_ENDED = (b"", b"Z", b"X")
_EXITING = 4  # in the flags that Linux keeps of a thread: it never returns to its program


def processes() -> list[int]:
    """Every pid of this pid namespace."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def children() -> set[int]:
    """Pids of the children of this process, ended ones included."""
    found: set[int] = set()
    for thread in os.listdir("/proc/self/task"):
        with open(f"/proc/self/task/{thread}/children", "rb") as listed:
            found.update(map(int, listed.read().split()))
    return found


def reap() -> Iterator[tuple[int, int]]:
    """Every ended child, orphans of others included, as ``(pid, exit code)``, negative for a signal."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        yield pid, os.waitstatus_to_exitcode(status)


def send_signal(pid: int, number: int) -> None:
    """Send a signal to *pid*, if it still exists."""
    with suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


def sweep(keep: Collection[int], *, seconds: float = 5.0) -> tuple[list[tuple[int, int]], set[int]]:
    """End every process but PID 1 and *keep*, however fast they fork, and reap those that are children.

    Strays are first stopped, in passes over ``/proc`` until one finds nobody new, so that nothing can fork away
    from the kill that follows.

    :param seconds: after which to give up on processes that the kernel can't end yet.
    :returns: ended children, as `reap` yields them, among which may be kept ones that ended by themselves; and the
        strays, which have begun to exit.
    """
    spared = {1, *keep}
    strays: set[int] = set()
    ended: list[tuple[int, int]] = []
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = [pid for pid in processes() if pid not in spared and pid not in strays]
        if not found:
            break
        for pid in found:
            strays.add(pid)
            send_signal(pid, signal.SIGSTOP)
    alive = strays
    while alive and time.monotonic() < deadline:
        for pid in alive:
            send_signal(pid, signal.SIGKILL)
        ended += reap()
        alive = {pid for pid in alive if is_alive(pid)}
        if alive:
            time.sleep(_PAUSE)
    return ended, strays


def await_ends(pids: Collection[int], *, seconds: float = 5.0) -> None:
    """Wait until processes that have begun to exit are gone, with their memory and ports."""
    deadline = time.monotonic() + seconds
    while any(_state(pid) not in _ENDED for pid in pids) and time.monotonic() < deadline:
        time.sleep(_PAUSE)


def is_alive(pid: int) -> bool:
    """Whether *pid* still executes. A zombie, whose parent has to reap it, does not, nor does a process whose only
    thread has begun to exit: the kernel is freeing its memory, which takes milliseconds.
    """
    fields = _stat(pid)
    if not fields or fields[0] in _ENDED:
        return False
    return fields[17] != b"1" or not int(fields[6]) & _EXITING


def is_stopped(pid: int) -> bool:
    """Whether *pid* is stopped by a signal."""
    return _state(pid) == b"T"


def is_runnable(pid: int) -> bool:
    """Whether *pid* waits for nothing but a processor or the kernel."""
    return _state(pid) in (b"R", b"D")


def cpu_seconds(pid: int) -> float:
    """Processor time that *pid* has used; 0 if it has gone."""
    try:
        return time.clock_gettime((~pid << 3) | _PROCESS_CLOCK)  # how Linux numbers the clocks of other processes
    except OSError:  # other kernels do not
        with suppress(IndexError):
            return sum(map(int, _stat(pid)[11:13])) / os.sysconf("SC_CLK_TCK")
    return 0.0


def thread_count() -> int:
    """Threads of this process, native ones included."""
    return int(_read_stat("self")[17])


def _state(pid: int) -> bytes:
    return (_stat(pid) or [b""])[0]


def _stat(pid: int) -> list[bytes]:
    """The fields of /proc/PID/stat from the state on; empty if the process is gone."""
    try:
        return _read_stat(pid)
    except OSError:
        return []


def _read_stat(pid: int | str) -> list[bytes]:
    """:raises OSError: the process is gone."""
    descriptor = open_descriptor(f"/proc/{pid}/stat", O_RDONLY | O_CLOEXEC)  # a third of the system calls of a file
    try:
        return read(descriptor, 4096).rpartition(b")")[2].split()
    finally:
        close(descriptor)
