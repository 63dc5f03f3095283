"""Making processes in which user code runs: forks of the zygote, and checkpoints of a worker.

A process that has been asked for exists when its maker *and* it itself have said so. Its pid is learnt from the kernel.
"""

from __future__ import annotations

import contextlib
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
BIRTH_SECONDS = 10.0  # time limit for a fork of the zygote
RETRY_SECONDS = 0.2  # from a fork that failed to the next try; doubled each time

CHECKPOINT_SECONDS = 3.0
"""Longest time that a checkpoint may take: user code can be in its way, by hooks that are called at a fork."""

CHECKPOINT_PAUSE = 60.0
"""From a checkpoint that took too long to the next try; doubled each time, as each delays a call by
`CHECKPOINT_SECONDS`."""

LAST_LOOK_SECONDS = 0.2
PATIENCE = 10  # how many times `CHECKPOINT_SECONDS` is waited where the machine has no time for the worker


class Birth:
    """A process that has been asked for."""

    def __init__(
        self, events: Events, maker: Peer, request: Fork | Checkpoint, seconds: float, on_failure: Callable[[], None]
    ) -> None:
        ours, theirs = socket.socketpair()
        self.peer = Peer(ours, limit=REPORT_LIMIT, credentials=True)
        self.deadline = time.monotonic() + seconds
        self.is_made = False  # the maker has said so
        self.warm = False
        self._events = events
        self._on_failure = on_failure
        events.watch(self.peer, self._on_message)
        maker.send(request, [theirs.fileno()])
        theirs.close()

    @property
    def is_complete(self) -> bool:
        return self.is_made and self.peer.sender_pid is not None

    def _on_message(self) -> None:
        try:
            received = self.peer.receive()
            is_right = not received or (isinstance(received[0], Started) and self.peer.sender_pid is not None)
        except ProtocolError:
            is_right = False
        if self.peer.closed or not is_right:
            self._on_failure()

    def drop(self) -> None:
        """Do without it."""
        if self.peer.fileno() >= 0:
            self._events.forget(self.peer)
            self.peer.close()


class Nursery:
    """The zygote, and the fresh worker that it has been asked for, if any."""

    def __init__(self, events: Events, turn_path: str) -> None:
        self.pid: int | None = None  # the zygote's
        self.is_warm = False  # the zygote has imported what is to be preloaded
        self.birth: Birth | None = None
        self.preload: Sequence[str] = ()
        self._events = events
        self._turn_path = turn_path
        self._control: Peer | None = None
        self._is_wanted = False
        self._retry_at = 0.0
        self._retry_seconds = RETRY_SECONDS

    def deadline(self, *, is_worker_wanted: bool) -> float:
        """When there is something to do."""
        if self.birth is not None:
            return self.birth.deadline
        waits = is_worker_wanted if self._control is not None else self._is_wanted
        return self._retry_at if waits else float("inf")

    def start(self, preload: Sequence[str]) -> None:
        """Start the zygote, and have it import *preload*."""
        self._is_wanted = True
        self.preload = preload
        self.is_warm = not preload
        try:
            self.pid, control = zygote.start(preload, self._turn_path)
        except OSError:  # too many processes, of user code's: tried again when some have ended
            self._retry_at = time.monotonic() + RETRY_SECONDS
            return
        self._control = Peer(control, limit=REPORT_LIMIT)
        self._events.watch(self._control, self._on_message)

    def stop(self) -> int | None:
        """Kill the zygote; returns its pid."""
        self._abort()
        self._drop_control()
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
        if self.birth is None and is_worker_wanted and self._control is not None and self.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGCONT)  # user code can have stopped it
            self.birth = Birth(self._events, self._control, Fork(), BIRTH_SECONDS, self._abort)

    def take(self) -> Birth | None:
        """The fresh worker, once there is one."""
        birth = self.birth
        if birth is None or not birth.is_complete:
            return None
        self.birth = None
        self._retry_seconds = RETRY_SECONDS
        return birth

    def keep_deadline(self, now: float) -> None:
        if self.birth is not None and now >= self.birth.deadline:
            self._abort()
            if self.pid is not None:
                os.kill(self.pid, signal.SIGKILL)

    def bury(self, pid: int) -> None:
        """Note that process *pid* has ended."""
        if pid == self.pid:
            self.pid = None
            self._drop_control()
            self._abort()

    def _on_message(self) -> None:
        control = self._control
        if control is None:
            return
        for message in control.receive():
            if isinstance(message, Warm):
                self.is_warm = True
            elif isinstance(message, Forked) and self.birth is not None:
                if message.error is not None:
                    self._abort()
                else:
                    self.birth.is_made = True
                    self.birth.warm = self.is_warm
        if control.closed:
            self._drop_control()

    def _abort(self) -> None:
        if self.birth is not None:
            self.birth.drop()
            self.birth = None
            self._retry_at = time.monotonic() + self._retry_seconds
            self._retry_seconds *= 2

    def _drop_control(self) -> None:
        control, self._control = self._control, None
        if control is not None and control.fileno() >= 0:
            self._events.forget(control)
            control.close()


class CheckpointMaker:
    """The checkpoint that a worker has been asked for, if any.

    :param give_up: called where there will be none, with the reason.
    :param on_hang: called where the worker hangs in the middle of the fork.
    """

    def __init__(self, events: Events, give_up: Callable[[str], None], on_hang: Callable[[], None]) -> None:
        self.birth: Birth | None = None
        self._events = events
        self._give_up = give_up
        self._on_hang = on_hang
        self._pid = 0
        self._has_failed = self._is_overdue = self._was_interrupted = False
        self._patience = PATIENCE
        self._cpu: float | None = None  # processor time that the worker had used, when that was last looked at
        self._not_before = 0.0
        self._pause = CHECKPOINT_PAUSE

    @property
    def deadline(self) -> float:
        """When `keep_deadline` has something to do."""
        return float("inf") if self.birth is None else self.birth.deadline

    @property
    def is_postponed(self) -> bool:
        """Whether the last one took so long that the next one has to wait."""
        return time.monotonic() < self._not_before

    def ask(self, pid: int, turn: Peer, *, warm: bool) -> None:
        """Ask worker *pid* for a checkpoint."""
        self._pid = pid
        self._has_failed = self._is_overdue = self._was_interrupted = False
        self._patience, self._cpu = PATIENCE, None
        self.birth = Birth(self._events, turn, Checkpoint(), CHECKPOINT_SECONDS, self._on_failure)
        self.birth.warm = warm

    def on_answer(self, error: str | None) -> None:
        """The worker has said whether it has made the checkpoint."""
        if self.birth is None:  # it has been given up meanwhile
            return
        if error is None and not self._has_failed:
            self.birth.is_made = True
        else:
            self._give_up(error or "hooks")

    def take(self) -> Birth | None:
        """The checkpoint, once there is one."""
        birth = self.birth
        if birth is None or not birth.is_complete:
            return None
        self.birth = None
        if not self._was_interrupted:
            self._pause = CHECKPOINT_PAUSE
        return birth

    def drop(self) -> None:
        """Do without the checkpoint that is being made."""
        birth, self.birth = self.birth, None
        if birth is not None:
            birth.drop()

    def forget_delays(self) -> None:
        """The next checkpoint is of another session."""
        self._not_before, self._pause = 0.0, CHECKPOINT_PAUSE

    def keep_deadline(self, now: float) -> None:
        birth = self.birth
        if birth is None or now < birth.deadline:
            return
        if not self._is_overdue:  # what has been said may not have been heard: this process, too, may be starved
            self._is_overdue = True
            birth.deadline = now + LAST_LOOK_SECONDS
        elif birth.is_made:
            self._postpone(now)
            self._give_up("hooks")
        elif self._is_starved():
            self._is_overdue = False
            birth.deadline = now + CHECKPOINT_SECONDS
        elif not self._was_interrupted:
            self._was_interrupted = True
            birth.deadline = now + LAST_LOOK_SECONDS
            self._postpone(now)
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(self._pid, signal.SIGINT)  # a hook that waits is ended, and the checkpoint is made
        else:
            self.drop()
            self._on_hang()

    def _on_failure(self) -> None:
        birth = self.birth
        if birth is None:
            return
        if birth.is_made:
            self._give_up("hooks")
        else:  # the worker, whose turn it still is, will say why
            self._has_failed = True
            self._events.forget(birth.peer)

    def _postpone(self, now: float) -> None:
        self._not_before = now + self._pause
        self._pause *= 2

    def _is_starved(self) -> bool:
        """Whether the worker could make the checkpoint, had it only been given the processor: it waits for nothing
        else.
        """
        before, self._cpu = self._cpu, linux.cpu_seconds(self._pid)
        self._patience -= 1
        has_had_it = before is not None and self._cpu - before > CHECKPOINT_SECONDS / 2
        return self._patience >= 0 and not has_had_it and linux.is_runnable(self._pid)
