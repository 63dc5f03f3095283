"""Limits on processes and processors of user code, and whether they are reached."""

from __future__ import annotations

import os
from contextlib import suppress
from resource import RLIMIT_NPROC, getrlimit, setrlimit

from ..prelude import __builtins__

user_process_limit = [-1]  # processes and threads of the container at which user code gets no more; -1 for no limit

_processors = os.sched_getaffinity(0)
_refusals = [0]  # processes and threads that the container was refused until the last `is_process_limit_reached`
_JUST_ENDED = 2  # processes that may no longer count


def use_all_processors() -> None:
    """Undo what user code may have done to this process, since it can pin any but PID 1."""
    with suppress(OSError):
        os.sched_setaffinity(0, _processors)


def limit_user_processes() -> None:
    """Apply `user_process_limit` to this process and its children, so that the runner can start some more."""
    most = getrlimit(RLIMIT_NPROC)[1]
    if user_process_limit[0] > 0:
        limit = user_process_limit[0] if most < 0 else min(user_process_limit[0], most)
        setrlimit(RLIMIT_NPROC, (limit, most))


def lift_process_limit() -> tuple[int, int]:
    """Lift the limit of this process; returns it, for `set_process_limit`."""
    before = getrlimit(RLIMIT_NPROC)
    setrlimit(RLIMIT_NPROC, (before[1], before[1]))
    return before


def set_process_limit(limits: tuple[int, int]) -> None:
    setrlimit(RLIMIT_NPROC, limits)


def is_process_limit_reached() -> bool:
    """Whether, since the last call, the kernel has refused the container a process or thread, or it has so many that
    user code gets no more.
    """
    with suppress(OSError, ValueError):
        if 0 <= getrlimit(RLIMIT_NPROC)[0] <= int(_pids_file("current") or 0) + _JUST_ENDED:
            return True
    before = _refusals[0]
    with suppress(ValueError, IndexError):
        _refusals[0] = int(_pids_file("events").split()[1])
    return _refusals[0] > before


def _pids_file(name: str) -> bytes:
    """The content of a file of the cgroup's pids controller, for version 1 and 2 of cgroups; empty if there is none."""
    for folder in ("/sys/fs/cgroup", "/sys/fs/cgroup/pids"):
        with suppress(OSError), open(f"{folder}/pids.{name}", "rb") as file:
            return file.read()
    return b""
