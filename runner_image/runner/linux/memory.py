"""Memory of the container and its processes."""

from __future__ import annotations

import os
from contextlib import suppress
from os import O_CLOEXEC, O_WRONLY, close, write
from os import open as open_descriptor

from ..prelude import __builtins__


class Memory:
    """The container's memory statistics, for version 1 and 2 of cgroups, from files that stay open."""

    def __init__(self, cgroup: str = "/sys/fs/cgroup") -> None:
        self._is_v2 = v2 = os.path.exists(f"{cgroup}/cgroup.controllers")
        folder = f"{cgroup}/" if v2 else f"{cgroup}/memory/memory."
        names = (
            ("memory.current", "memory.max", "memory.stat", "memory.events")
            if v2
            else ("usage_in_bytes", "limit_in_bytes", "stat", "oom_control")
        )
        self._files: list[int] = []
        with suppress(OSError):
            self._files = [os.open(folder + name, os.O_RDONLY | os.O_CLOEXEC) for name in names]
        self._anonymous = b"anon" if v2 else b"rss"

    def limit(self) -> int | None:
        """Bytes that the kernel limits the container to, 2⁶³ if it does not; None if that can't be read."""
        limit = self._read(1).strip()
        if limit == b"max" or (self._is_v2 and not self._files):  # without the controller, there are no files
            return 1 << 63
        return int(limit) if limit.isdigit() else None

    def oom_kills(self) -> int:
        """How many processes of this container the kernel has killed because memory was exhausted."""
        return self._fields(3).get(b"oom_kill", 0)

    def anonymous(self) -> int:
        """Bytes of all processes together, shared ones counted once, files and tmpfs not counted."""
        return self._fields(2).get(self._anonymous, 0)

    def exceeds(self, share: float) -> bool:
        """Whether more than *share* of the limit is in use that the kernel can't simply drop; false without a limit."""
        usage, limit = self._read(0), self._read(1)
        if not limit.strip().isdigit() or int(usage) <= share * int(limit):
            return False
        stat = self._fields(2)
        droppable = stat.get(b"inactive_file", 0) + stat.get(b"active_file", 0)
        return int(usage) - droppable > share * int(limit)

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


def _initial_oom_score() -> int:
    """What the engine has set for PID 1 and its children: 0, but in a Pod up to 999, which can't be lowered."""
    with suppress(OSError, ValueError), open("/proc/self/oom_score_adj", "rb") as file:
        return int(file.read())
    return 0


_OOM_SCORE = _initial_oom_score()


def set_oom_score(score: int) -> None:
    """Set this process's priority for the kernel's OOM killer, from 0 (like PID 1) to 1000 (before all others).

    A hint: user code can lower its own.
    """
    with suppress(OSError):
        descriptor = open_descriptor("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC)
        try:
            write(descriptor, str(min(1000, _OOM_SCORE + score)).encode())
        finally:
            close(descriptor)
