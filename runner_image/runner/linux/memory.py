"""Memory of the container and its processes."""

from __future__ import annotations

import os
from contextlib import suppress

from ..prelude import __builtins__


class Memory:
    """The container's memory statistics, for version 1 and 2 of cgroups, from files that stay open."""

    def __init__(self) -> None:
        v2 = os.path.exists("/sys/fs/cgroup/memory.current")
        folder = "/sys/fs/cgroup/" if v2 else "/sys/fs/cgroup/memory/memory."
        names = (
            ("memory.current", "memory.max", "memory.stat", "memory.events")
            if v2
            else ("usage_in_bytes", "limit_in_bytes", "stat", "oom_control")
        )
        self._files: list[int] = []
        with suppress(OSError):
            self._files = [os.open(folder + name, os.O_RDONLY | os.O_CLOEXEC) for name in names]
        self._anonymous = b"anon" if v2 else b"rss"

    def oom_kills(self) -> int:
        """How many processes of this container the kernel has killed because memory was exhausted."""
        return self._fields(3).get(b"oom_kill", 0)

    def anonymous(self) -> int:
        """Bytes of all processes together, shared ones counted once, files and tmpfs not counted."""
        return self._fields(2).get(self._anonymous, 0)

    def share(self) -> float:
        """Fraction of the limit that is in use and can't simply be dropped by the kernel; 0 if there is no limit."""
        usage, limit = self._read(0), self._read(1)
        if not limit.strip().isdigit():
            return 0.0
        stat = self._fields(2)
        droppable = stat.get(b"inactive_file", 0) + stat.get(b"active_file", 0)
        return (int(usage) - droppable) / int(limit)

    def _read(self, number: int) -> bytes:
        try:
            return os.pread(self._files[number], 8192, 0)
        except (OSError, IndexError):
            return b""

    def _fields(self, number: int) -> dict[bytes, int]:
        lines = (line.split() for line in self._read(number).splitlines())
        return {words[0]: int(words[1]) for words in lines if len(words) == 2}


def anonymous_memory(pid: int | None) -> int:
    """Bytes of process *pid*, what it shares with its forks included; 0 if there is no such process."""
    with suppress(OSError, ValueError), open(f"/proc/{pid}/status", "rb") as status:
        for line in status:
            if line.startswith(b"RssAnon:"):
                return int(line.split()[1]) << 10
    return 0


def set_oom_score(score: int) -> None:
    """Set this process's priority for the kernel's OOM killer, from 0 (like any other) to 1000 (before all others).

    A hint: user code can lower its own.
    """
    with suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write(str(score))
