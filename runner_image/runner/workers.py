"""The processes that user code runs in.

A *worker* waits for code or runs it (see `runner.states`). It is a fork of the zygote or of an earlier worker. The
*spare* is a fresh worker in reserve; the *checkpoint* is a frozen fork of the current worker, as it was after its last
run.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Sequence

from mcp_agentrun.wire.codec import ProtocolError
from mcp_agentrun.wire.messages import Execute, Forked, Message, Picture, PictureData, RunReport

from .events import Events
from .forking import CheckpointMaker, PendingFork, Zygote
from .linux import process_table
from .report_socket import ReportSocket
from .sockets import Peer
from .states import WorkerState

REPORT_PATH = "/run/agentrun/report"


class Worker:
    """A process that runs user code or waits for it."""

    def __init__(self, events: Events, fork: PendingFork, *, used: bool) -> None:
        assert fork.peer.sender_pid is not None
        self.pid = fork.peer.sender_pid
        self.state = WorkerState.WAITING
        self.connection: Peer | None = fork.peer  # while it waits
        self.warm = fork.warm  # was forked after the data packages had been imported
        self.used = used  # has run code, so that there are variables to lose
        self._events = events
        self._sending: Peer | None = None  # the connection over which its current code is still being sent

    def wait_on(self, connection: Peer) -> None:
        """Record that it has run its code and connected again."""
        self._events.close(self._sending)
        self.state, self.connection, self._sending = WorkerState.WAITING, connection, None

    def execute(self, request: Execute, descriptors: Sequence[int]) -> None:
        """Send it code to run."""
        connection, self.connection = self.connection, None
        assert connection is not None
        self.state = WorkerState.RUNNING
        connection.send(request, descriptors)
        if connection.has_unsent:
            self._sending = connection
            self._events.watch(connection, self._on_writable, write=True)
        else:
            self._events.close(connection)

    def signal(self, number: int) -> None:
        process_table.send_signal(self.pid, number)

    def disconnect(self) -> None:
        """Record that it has ended or is about to."""
        self._events.close(self.connection)
        self._events.close(self._sending)
        self.state, self.connection, self._sending = WorkerState.ENDED, None, None

    def _on_writable(self) -> None:
        if self._sending is not None:
            self._sending.flush()
            if not self._sending.has_unsent:
                self._events.close(self._sending)
                self._sending = None


class Workers:
    """At most one current worker, one spare and one checkpoint."""

    on_report: Callable[[RunReport], None]  # called with each report of the current worker
    on_picture: Callable[[Picture | PictureData], None]  # called with the pictures that come before it, in parts

    def __init__(self, events: Events) -> None:
        self.current: Worker | None = None
        self.spare: Worker | None = None
        self.checkpoint: Worker | None = None
        self.unprotected: str | None = None
        """Why the current worker has no checkpoint although it should: ``threads``, ``memory``, ``hooks``, ``died`` or
        an errno's name."""
        self.dying: set[int] = set()  # processes killed since the last sweep, which may still exist
        self._is_resetting = False
        self._events = events
        self.zygote = Zygote(events, REPORT_PATH)
        self.report_socket = ReportSocket(events, REPORT_PATH, self._on_call)
        self._checkpoint_maker = CheckpointMaker(events, self.drop_checkpoint, lambda: self.kill(self.current))

    def begin(self, preload: Sequence[str]) -> None:
        """Make the first worker, and then import *preload* for the later ones."""
        self.report_socket.listen()
        self.zygote.start(preload)

    @property
    def is_forking(self) -> bool:
        """Whether the runner may have a process whose pid is not known yet."""
        return self.zygote.pending is not None or self.is_making_checkpoint

    @property
    def is_making_checkpoint(self) -> bool:
        return self._checkpoint_maker.pending is not None

    @property
    def has_lost_checkpoint(self) -> bool:
        """Whether the current worker's has died, perhaps unnoticed by its last run, and no other is being made."""
        worker = self.current
        return worker is not None and worker.used and self.unprotected == "died" and not self.is_making_checkpoint

    @property
    def deadline(self) -> float:
        """When `keep_deadlines` has something to do."""
        zygote_deadline = self.zygote.deadline(is_worker_wanted=self._wants_worker())
        return min(zygote_deadline, self._checkpoint_maker.deadline)

    def pids(self, *, without: Worker | None = None) -> set[int]:
        """Pids of the workers and the zygote."""
        workers = (self.current, self.spare, self.checkpoint)
        pids = {worker.pid for worker in workers if worker is not None and worker is not without}
        return pids if self.zygote.pid is None else pids | {self.zygote.pid}

    def _wants_worker(self) -> bool:
        if self.current is None:
            return self.spare is None
        is_idle = self.current.state is WorkerState.WAITING and not self._is_resetting
        return is_idle and self.zygote.is_warm and self.spare is None

    def step(self) -> None:
        """Do everything that is due and possible."""
        fresh = self.zygote.take()
        if fresh is not None:
            worker = self._adopt(fresh, used=False)
            if self.current is None:
                self.current = worker
            else:
                self.spare = worker
        frozen = self._checkpoint_maker.take()
        if frozen is not None:
            self.kill(self.checkpoint)
            self.checkpoint = self._adopt(frozen, used=True)
            self.unprotected = None
        if self.current is None and self.spare is not None:
            self.current, self.spare = self.spare, None
        spare, current = self.spare, self.current
        if spare is not None and current is not None and spare.warm and not current.warm and not current.used:
            self.current, self.spare = spare, None
            self.kill(current)
        self.zygote.step(is_worker_wanted=self._wants_worker())

    def execute(self, request: Execute, descriptors: Sequence[int]) -> None:
        """Send the current worker, which waits, code to run."""
        self._waiting()[0].execute(request, descriptors)

    def make_checkpoint(self) -> None:
        """Ask the current worker, which waits, for a frozen copy of itself, which then replaces the old one.

        After one that took too long, there is none for some time.
        """
        if self._checkpoint_maker.is_postponed:
            self.drop_checkpoint("hooks")  # an older one would be taken for the latest
            return
        worker, connection = self._waiting()
        self._checkpoint_maker.request(worker.pid, connection, warm=worker.warm)

    def drop_checkpoint(self, reason: str | None) -> None:
        """Go on without a checkpoint."""
        self.unprotected = reason
        self._checkpoint_maker.drop()
        self.kill(self.checkpoint)
        self.checkpoint = None

    def restore(self) -> bool:
        """Make the checkpoint the current worker; false if there is none."""
        worker, self.checkpoint = self.checkpoint, None
        if worker is None or worker.state is not WorkerState.WAITING:
            return False
        self.kill(self.current)
        self.current = worker
        worker.signal(signal.SIGCONT)  # user code can have stopped it
        return True

    def begin_reset(self) -> None:
        """Replace the current worker by a fresh one.

        There is no new spare until `end_reset`: a reset would have to wait for it.
        """
        self._is_resetting = True
        self._checkpoint_maker.forget_delays()
        self.drop_checkpoint(None)
        self.kill(self.current)
        self.current, self.spare = self.spare, None

    def end_reset(self) -> None:
        self._is_resetting = False
        self.step()

    def preload(self, names: Sequence[str]) -> None:
        """Have workers start with *names* imported from now on. The current one is replaced as well if it has not run
        anything, because imports can't be undone.
        """
        if list(names) == list(self.zygote.preload):
            return
        self.kill(self.spare)
        self.spare = None
        if self.current is not None and not self.current.used:
            self.kill(self.current)
            self.current = None
        zygote_pid = self.zygote.stop()
        if zygote_pid is not None:
            self.dying.add(zygote_pid)
        self.zygote.start(names)

    def pause(self) -> bool:
        """Stop the waiting worker until it is used again: one of its threads may be what kills the checkers.

        :returns: false if it was not stopped before: a signal takes effect later, and if it is making a checkpoint, it
            can't be stopped for a few seconds.
        """
        worker = self.current
        if worker is None or worker.state is not WorkerState.WAITING:
            return True
        was_stopped = process_table.is_stopped(worker.pid)
        if not self.is_making_checkpoint:
            worker.signal(signal.SIGSTOP)
        return was_stopped

    def kill(self, worker: Worker | None) -> None:
        if worker is not None:
            self.dying.add(worker.pid)
            worker.signal(signal.SIGKILL)
            worker.disconnect()

    def on_exit(self, pid: int) -> Worker | None:
        """Record that process *pid* has ended; returns the current worker if it was that."""
        self.zygote.on_exit(pid)
        for name in ("spare", "checkpoint", "current"):
            worker: Worker | None = getattr(self, name)
            if worker is not None and worker.pid == pid:
                worker.disconnect()
                setattr(self, name, None)
                if name == "current":
                    self._checkpoint_maker.drop()
                    return worker
                if name == "checkpoint" and self.unprotected is None:
                    self.unprotected = "died"
        return None

    def keep_deadlines(self, now: float) -> None:
        self.zygote.keep_deadline(now)
        self._checkpoint_maker.keep_deadline(now)

    # -- what workers send

    def _adopt(self, fork: PendingFork, *, used: bool) -> Worker:
        worker = Worker(self._events, fork, used=used)
        self._events.watch(fork.peer, lambda: self._on_readable(worker, fork.peer))
        return worker

    def _waiting(self) -> tuple[Worker, Peer]:
        """The current worker, which is to continue, and its connection."""
        if self.current is None or self.current.connection is None:
            raise RuntimeError("no worker waits")
        self.current.signal(signal.SIGCONT)  # user code can have stopped it
        return self.current, self.current.connection

    def _on_call(self, pid: int, caller: Peer, received: list[Message] | None) -> bool:
        worker = self.current
        if worker is None or worker.state is not WorkerState.RUNNING or worker.pid != pid:
            return False
        worker.wait_on(caller)
        self._events.watch(caller, lambda: self._on_readable(worker, caller))
        if received is None:
            self.kill(worker)
        else:
            self._handle(worker, received)
        return True

    def _on_readable(self, worker: Worker, connection: Peer) -> None:
        if worker.connection is connection:
            try:
                self._handle(worker, connection.receive())
            except ProtocolError:
                self.kill(worker)
            if connection.closed:
                self.kill(worker)
                if worker is self.checkpoint:  # it may not be our child, and then its end is not reported
                    self.on_exit(worker.pid)

    def _handle(self, worker: Worker, received: list[Message]) -> None:
        """Handle messages of a worker, which is hostile. An unexpected one is its end."""
        try:
            for message in received:
                if worker is not self.current:
                    raise ProtocolError("not the current worker")
                if isinstance(message, Forked):
                    self._checkpoint_maker.on_answer(message.error)
                elif isinstance(message, RunReport):
                    self.on_report(message)
                elif isinstance(message, (Picture, PictureData)):
                    self.on_picture(message)
                else:
                    raise ProtocolError(f"unexpected {type(message).__name__} message")
        except Exception:  # whatever its messages lead to ends this worker only
            self.kill(worker)
