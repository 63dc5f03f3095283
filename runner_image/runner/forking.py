"""The processes that user code runs in, while they are being made: forks of the zygote, and checkpoints of a worker.

A process that was asked for exists once both its forker and the process itself have confirmed it. The kernel reports
its pid.
"""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable, Sequence

from mcp_agentrun.wire.codec import ProtocolError
from mcp_agentrun.wire.messages import Checkpoint, Fork, Forked, Started, Warm

from . import linux, zygote
from .events import Events
from .sockets import Peer

REPORT_LIMIT = 1 << 18  # bytes of a message from a process that runs user code
FORK_SECONDS = 10.0  # time limit for a fork of the zygote
RETRY_SECONDS = 0.2  # from a failed fork to the next try; doubled each time

CHECKPOINT_SECONDS = 3.0  # time limit for a checkpoint, which hooks of user code can delay
CHECKPOINT_PAUSE = 60.0  # from a checkpoint that took too long to the next try; doubled each time
FINAL_CHECK_SECONDS = 0.2
STARVED_PERIODS = 10  # of `CHECKPOINT_SECONDS` each, for a worker that gets no processor


class PendingFork:
    """A process that was asked for and may not exist yet."""

    def __init__(
        self, events: Events, forker: Peer, request: Fork | Checkpoint, seconds: float, on_failure: Callable[[], None]
    ) -> None:
        ours, theirs = socket.socketpair()
        self.peer = Peer(ours, limit=REPORT_LIMIT, credentials=True)
        self.deadline = time.monotonic() + seconds
        self.is_forked = False  # the forker has confirmed it
        self.warm = False
        self._on_failure = on_failure
        events.watch(self.peer, self._on_message)
        forker.send(request, [theirs.fileno()])
        theirs.close()

    @property
    def is_complete(self) -> bool:
        return self.is_forked and self.peer.sender_pid is not None

    def _on_message(self) -> None:
        try:
            received = self.peer.receive()
            is_valid = not received or (isinstance(received[0], Started) and self.peer.sender_pid is not None)
        except ProtocolError:
            is_valid = False
        if self.peer.closed or not is_valid:
            self._on_failure()


class Zygote:
    """The zygote, and the fresh worker that it was asked for, if any."""

    def __init__(self, events: Events, report_path: str) -> None:
        self.pid: int | None = None
        self.is_warm = False  # has imported what is to be preloaded
        self.pending: PendingFork | None = None
        self.preload: Sequence[str] = ()
        self._events = events
        self._report_path = report_path
        self._control: Peer | None = None
        self._is_wanted = False
        self._retry_at = 0.0
        self._retry_seconds = RETRY_SECONDS

    def deadline(self, *, is_worker_wanted: bool) -> float:
        """When there is something to do."""
        if self.pending is not None:
            return self.pending.deadline
        waits = is_worker_wanted if self._control is not None else self._is_wanted
        return self._retry_at if waits else float("inf")

    def start(self, preload: Sequence[str]) -> None:
        """Start the zygote, and have it import *preload*."""
        self._is_wanted = True
        self.preload = preload
        self.is_warm = not preload
        try:
            self.pid, control = linux.start_helper(lambda control: zygote.main(control, preload, self._report_path))
        except OSError:  # user code has too many processes: tried again when some have ended
            self._retry_at = time.monotonic() + RETRY_SECONDS
            return
        self._control = Peer(control, limit=REPORT_LIMIT)
        self._events.watch(self._control, self._on_message)

    def stop(self) -> int | None:
        """Kill the zygote; returns its pid."""
        self._abort()
        self._disconnect()
        pid, self.pid = self.pid, None
        if pid is not None:
            os.kill(pid, signal.SIGKILL)
        self._retry_at, self._retry_seconds = 0.0, RETRY_SECONDS
        return pid

    def step(self, *, is_worker_wanted: bool) -> None:
        """Do everything that is due and possible."""
        if time.monotonic() < self._retry_at:
            return
        if self.pid is None and self._is_wanted:
            self.start(self.preload)
        if self.pending is None and is_worker_wanted and self._control is not None and self.pid is not None:
            linux.send_signal(self.pid, signal.SIGCONT)  # user code can have stopped it
            self.pending = PendingFork(self._events, self._control, Fork(), FORK_SECONDS, self._abort)

    def take(self) -> PendingFork | None:
        """The fresh worker, once it exists."""
        pending = self.pending
        if pending is None or not pending.is_complete:
            return None
        self.pending = None
        self._retry_seconds = RETRY_SECONDS
        return pending

    def keep_deadline(self, now: float) -> None:
        if self.pending is not None and now >= self.pending.deadline:
            self._abort()
            if self.pid is not None:
                os.kill(self.pid, signal.SIGKILL)

    def on_exit(self, pid: int) -> None:
        """Record that process *pid* has ended."""
        if pid == self.pid:
            self.pid = None
            self._disconnect()
            self._abort()

    def _on_message(self) -> None:
        control = self._control
        if control is None:
            return
        for message in control.receive():
            if isinstance(message, Warm):
                self.is_warm = True
            elif isinstance(message, Forked) and self.pending is not None:
                if message.error is not None:
                    self._abort()
                else:
                    self.pending.is_forked = True
                    self.pending.warm = self.is_warm
        if control.closed:
            self._disconnect()

    def _abort(self) -> None:
        if self.pending is not None:
            self._events.close(self.pending.peer)
            self.pending = None
            self._retry_at = time.monotonic() + self._retry_seconds
            self._retry_seconds *= 2

    def _disconnect(self) -> None:
        self._events.close(self._control)
        self._control = None


class CheckpointMaker:
    """The checkpoint that a worker was asked for, if any.

    :param on_failure: called with the reason if there will be none.
    :param on_hang: called if the worker hangs in the middle of the fork.
    """

    def __init__(self, events: Events, on_failure: Callable[[str], None], on_hang: Callable[[], None]) -> None:
        self.pending: PendingFork | None = None
        self._events = events
        self._give_up = on_failure
        self._on_hang = on_hang
        self._not_before = 0.0
        self._pause = CHECKPOINT_PAUSE
        self._reset(0)

    def _reset(self, pid: int) -> None:
        self._pid = pid
        self._has_failed = self._is_overdue = self._was_interrupted = False
        self._starved_periods_left = STARVED_PERIODS
        self._cpu: float | None = None  # processor time that the worker had used at the last check

    @property
    def deadline(self) -> float:
        """When `keep_deadline` has something to do."""
        return float("inf") if self.pending is None else self.pending.deadline

    @property
    def is_postponed(self) -> bool:
        """Whether the last one took so long that the next one has to wait."""
        return time.monotonic() < self._not_before

    def request(self, pid: int, connection: Peer, *, warm: bool) -> None:
        """Ask worker *pid* for a checkpoint."""
        self._reset(pid)
        self.pending = PendingFork(self._events, connection, Checkpoint(), CHECKPOINT_SECONDS, self._on_failure)
        self.pending.warm = warm

    def on_answer(self, error: str | None) -> None:
        """Handle the worker's answer whether it has made the checkpoint."""
        if self.pending is None:  # it was given up meanwhile
            return
        if error is None and not self._has_failed:
            self.pending.is_forked = True
        else:
            self._give_up(error or "hooks")

    def take(self) -> PendingFork | None:
        """The checkpoint, once it exists."""
        pending = self.pending
        if pending is None or not pending.is_complete:
            return None
        self.pending = None
        if not self._was_interrupted:
            self._pause = CHECKPOINT_PAUSE
        return pending

    def drop(self) -> None:
        """Give up the checkpoint that is being made, if any."""
        if self.pending is not None:
            self._events.close(self.pending.peer)
            self.pending = None

    def forget_delays(self) -> None:
        """Don't postpone the next checkpoint, which is of another session."""
        self._not_before, self._pause = 0.0, CHECKPOINT_PAUSE

    def keep_deadline(self, now: float) -> None:
        pending = self.pending
        if pending is None or now < pending.deadline:
            return
        if not self._is_overdue:  # the answer may have come and not been read: this process can be starved as well
            self._is_overdue = True
            pending.deadline = now + FINAL_CHECK_SECONDS
        elif pending.is_forked:
            self._postpone(now)
            self._give_up("hooks")
        elif self._is_starved():
            self._is_overdue = False
            pending.deadline = now + CHECKPOINT_SECONDS
        elif not self._was_interrupted:
            self._was_interrupted = True
            pending.deadline = now + FINAL_CHECK_SECONDS
            self._postpone(now)
            linux.send_signal(self._pid, signal.SIGINT)  # ends a hook that waits, and the checkpoint is made
        else:
            self.drop()
            self._on_hang()

    def _on_failure(self) -> None:
        pending = self.pending
        if pending is None:
            return
        if pending.is_forked:
            self._give_up("hooks")
        else:  # the worker's answer will say why
            self._has_failed = True
            self._events.forget(pending.peer)

    def _postpone(self, now: float) -> None:
        self._not_before = now + self._pause
        self._pause *= 2

    def _is_starved(self) -> bool:
        """Whether the worker lacks nothing but the processor to make the checkpoint."""
        before, self._cpu = self._cpu, linux.cpu_seconds(self._pid)
        self._starved_periods_left -= 1
        had_processor = before is not None and self._cpu - before > CHECKPOINT_SECONDS / 2
        return self._starved_periods_left >= 0 and not had_processor and linux.is_runnable(self._pid)
