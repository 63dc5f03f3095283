"""Memory that the session's checkpoint takes from a run."""

from __future__ import annotations

from .linux.memory import Memory, anonymous_memory
from .workers import Worker, Workers

TIGHT = 0.85  # share of the memory limit above which no checkpoint is made or kept
CHECKPOINT_WORTH = 48 << 20  # bytes that dropping a checkpoint must free


class MemoryWatch:
    """Drops the checkpoint if a run lacks the memory that it no longer shares with the worker."""

    def __init__(self, memory: Memory, workers: Workers) -> None:
        self._memory = memory
        self._workers = workers
        self._oom_kills = 0
        self._not_shared: int | None = None  # bytes that other processes used alone when the run began

    def begin(self) -> None:
        """Record the state at the start of a run."""
        self._oom_kills = self._memory.oom_kills()
        self._not_shared = None

    @property
    def was_exceeded(self) -> bool:
        """Whether the kernel has killed a process for lack of memory since the run began."""
        return self._memory.oom_kills() > self._oom_kills

    @property
    def is_tight(self) -> bool:
        return self._memory.exceeds(TIGHT)

    def relieve(self) -> None:
        """Drop the checkpoint if its memory is needed."""
        worker = self._workers.current
        if worker is None or self._workers.checkpoint is None:
            return
        if self._not_shared is None:
            self._not_shared = self._not_shared_with(worker)
        elif (
            self.is_tight
            and not self.was_exceeded
            and self._not_shared_with(worker) > self._not_shared + CHECKPOINT_WORTH
        ):
            self._workers.drop_checkpoint("memory")

    def _not_shared_with(self, worker: Worker) -> int:
        """Bytes that processes other than *worker* use alone."""
        in_worker = anonymous_memory(worker.pid)
        if not in_worker:  # it is ending, and the figures are not consistent
            return 0
        in_zygote = 0 if worker.warm else anonymous_memory(self._workers.zygote.pid)
        return self._memory.anonymous() - in_worker - in_zygote
