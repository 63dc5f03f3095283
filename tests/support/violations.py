"""Counts of what a long test found wrong."""

from __future__ import annotations

import collections


class Violations:
    """Every bound that was broken, by what it was; the first few are printed at once."""

    def __init__(self) -> None:
        self.counts: collections.Counter[str] = collections.Counter()

    def note(self, what: str, details: object) -> None:
        self.counts[what] += 1
        if self.counts[what] <= 5:
            print(f"VIOLATION {what}: {details}", flush=True)

    def require(self, holds: bool, what: str, details: object) -> None:
        if not holds:
            self.note(what, details)
