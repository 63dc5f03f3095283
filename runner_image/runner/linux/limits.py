"""Limits on processes and processors of user code, and whether they are reached."""

from __future__ import annotations

import contextlib
import os
import resource

from ..prelude import __builtins__

_processors = os.sched_getaffinity(0)


def use_all_processors() -> None:
    """Undo what user code may have done to this process, since it can pin any but PID 1."""
    with contextlib.suppress(OSError):
        os.sched_setaffinity(0, _processors)


user_processes = [-1]
"""Processes and threads of the container at which user code gets no more; -1 if there is no such limit."""
_refusals = [0]  # processes and threads that the container had been refused at the last call of `no_more_processes`
_ROUGHLY = 2  # have just ended
_NPROC = resource.RLIMIT_NPROC
_getrlimit = resource.getrlimit
_setrlimit = resource.setrlimit


def leave_room() -> None:
    """Restrict this process and its children to `user_processes`, so that the runner can start some more."""
    most = _getrlimit(_NPROC)[1]
    if user_processes[0] > 0:
        own = user_processes[0] if most < 0 else min(user_processes[0], most)
        _setrlimit(_NPROC, (own, most))


def take_room() -> tuple[int, int]:
    """Lift the restriction of `leave_room` from this process; returns what `set_room` restores it from."""
    before = _getrlimit(_NPROC)
    _setrlimit(_NPROC, (before[1], before[1]))
    return before


def set_room(limits: tuple[int, int]) -> None:
    _setrlimit(_NPROC, limits)


def no_more_processes() -> bool:
    """Whether, since the last call, the kernel has refused the container a process or thread, or it has so many that
    user code gets no more.
    """
    with contextlib.suppress(OSError, ValueError):
        if 0 <= _getrlimit(_NPROC)[0] <= _processes() + _ROUGHLY:
            return True
    before = _refusals[0]
    for path in ("/sys/fs/cgroup/pids.events", "/sys/fs/cgroup/pids/pids.events"):
        with contextlib.suppress(OSError, ValueError, IndexError), open(path, "rb") as events:
            _refusals[0] = int(events.read().split()[1])
            break
    return _refusals[0] > before


def _processes() -> int:
    """Processes and threads of the container."""
    for path in ("/sys/fs/cgroup/pids.current", "/sys/fs/cgroup/pids/pids.current"):
        with contextlib.suppress(OSError), open(path, "rb") as count:
            return int(count.read())
    return 0
