"""Processor time and memory of a run, as the kernel accounts them to the container."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress

from .prelude import __builtins__

_FOLDER = "/sys/fs/cgroup/"
_CPU = (("cpu.stat", 1e6), ("cpuacct/cpuacct.usage", 1e9))  # of version 2 and 1, and their units in a second
_CURRENT = ("memory.current", "memory/memory.usage_in_bytes")
_PEAK = ("memory.peak", "memory/memory.max_usage_in_bytes")  # of the container so far


class Usage:
    """What a run uses, its child processes included. User code can't change these figures.

    The files stay open: reading all of them takes a few microseconds.
    """

    def __init__(self, folder: str = _FOLDER) -> None:
        self._cpu, self._unit = -1, 1.0
        for name, unit in _CPU:
            if (descriptor := _open(folder, (name,))) >= 0:
                self._cpu, self._unit = descriptor, unit
                break
        self._current, self._peak = _open(folder, _CURRENT), _open(folder, _PEAK)
        self._cpu_before = self._peak_before = self._highest = 0

    def begin(self) -> None:
        """A run begins."""
        self._cpu_before, self._peak_before = _number(self._cpu), _number(self._peak)
        self._highest = 0

    def sample(self) -> None:
        """Note the memory that is in use now: between two runs, the kernel does not forget its peak."""
        self._highest = max(self._highest, _number(self._current))

    def end(self) -> tuple[float | None, int | None]:
        """Seconds of processor time since the run began, and most memory in bytes; None for what is not known.

        The memory is exact if no earlier run has used more, and otherwise that of the largest sample.
        """
        self.sample()
        peak = _number(self._peak)
        memory = peak if peak > self._peak_before else self._highest
        cpu = None if self._cpu < 0 else max(0, _number(self._cpu) - self._cpu_before) / self._unit
        return cpu, memory or None


def _open(folder: str, names: Iterable[str]) -> int:
    """A descriptor of the first of these files that exists, or -1."""
    for name in names:
        with suppress(OSError):
            return os.open(folder + name, os.O_RDONLY | os.O_CLOEXEC)
    return -1


def _number(descriptor: int) -> int:
    """The first number of a file; 0 if there is none."""
    with suppress(OSError, ValueError):
        line = os.pread(descriptor, 64, 0).partition(b"\n")[0]
        return int(line.rpartition(b" ")[2])
    return 0
