"""The processes that user code runs in.

A *worker* waits for code or runs it. It is a fork: of the zygote, or of an earlier self. The *spare* is a fresh worker
in waiting; the *checkpoint* is a frozen fork of the current worker as it was after its last run::

    zygote ──Fork──▶ WAITING ──Execute──▶ RUNNING      Of a waiting worker, Checkpoint makes another one that waits.
                        ▲                    │
                        └─────RunReport──────┘         From either state: ──its process ends, or is killed──▶ ENDED

A worker that waits has a connection, its turn. One that runs has none, and connects again to report.
"""

from __future__ import annotations

import contextlib
import enum
import os
import signal
from collections.abc import Callable, Sequence

from mcp_agentrun.wire.codec import ProtocolError
from mcp_agentrun.wire.messages import Execute, Forked, Message, Picture, PictureData, RunReport

from .births import Birth, CheckpointMaker, Nursery
from .events import Events
from .sockets import Peer
from .turns import Turns

TURN_PATH = "/run/agentrun/turn"
"""Socket on which workers report. Only the current worker is accepted."""


class State(enum.Enum):
    """What a worker is doing."""

    WAITING = enum.auto()
    RUNNING = enum.auto()
    ENDED = enum.auto()


class Worker:
    """A process that runs user code or waits for it."""

    def __init__(self, events: Events, birth: Birth, *, used: bool) -> None:
        assert birth.peer.sender_pid is not None
        self.pid = birth.peer.sender_pid
        self.state = State.WAITING
        self.turn: Peer | None = birth.peer
        """Its connection while it waits."""
        self.warm = birth.warm
        """Forked after the data packages had been imported."""
        self.used = used
        """Has run code, so that there are variables to lose."""
        self._events = events
        self._delivery: Peer | None = None
        """The connection over which its current code is still being sent."""

    def wait_at(self, turn: Peer) -> None:
        """It has connected again, having run its code."""
        self._drop(self._delivery)
        self.state, self.turn, self._delivery = State.WAITING, turn, None

    def execute(self, request: Execute, descriptors: Sequence[int]) -> None:
        """Send it code to run."""
        turn, self.turn = self.turn, None
        assert turn is not None
        self.state = State.RUNNING
        turn.send(request, descriptors)
        if turn.has_unsent:
            self._delivery = turn
            self._events.watch(turn, self._on_writable, write=True)
        else:
            self._drop(turn)

    def signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(self.pid, number)

    def disconnect(self) -> None:
        """It has ended, or is about to."""
        self._drop(self.turn)
        self._drop(self._delivery)
        self.state, self.turn, self._delivery = State.ENDED, None, None

    def _on_writable(self) -> None:
        if self._delivery is not None:
            self._delivery.flush()
            if not self._delivery.has_unsent:
                self._drop(self._delivery)
                self._delivery = None

    def _drop(self, peer: Peer | None) -> None:
        if peer is not None and peer.fileno() >= 0:
            self._events.forget(peer)
            peer.close()


class Workers:
    """At most one current worker, one spare and one checkpoint.

    :param on_report: given each report that the current worker sends in its turn.
    :param on_picture: given the pictures that it sends before that, in parts.
    """

    def __init__(
        self,
        events: Events,
        on_report: Callable[[RunReport], None],
        on_picture: Callable[[Picture | PictureData], None],
    ) -> None:
        self.current: Worker | None = None
        self.spare: Worker | None = None
        self.checkpoint: Worker | None = None
        self.unprotected: str | None = None
        """Why there is no checkpoint of the current worker, where there should be one: ``threads``, ``memory``,
        ``hooks``, ``died`` or an errno's name."""
        self.dying: set[int] = set()
        """Workers killed since the last sweep, which may still exist."""
        self._events = events
        self._on_report = on_report
        self._on_picture = on_picture
        self._nursery = Nursery(events, TURN_PATH)
        self._checkpoints = CheckpointMaker(events, self.drop_checkpoint, lambda: self.end(self.current))
        self._turns = Turns(events, TURN_PATH, self._on_call)

    def begin(self, preload: Sequence[str]) -> None:
        """Make the first worker, and then import *preload* for the later ones."""
        self._turns.listen()
        self._nursery.start(preload)

    # -- what there is

    @property
    def zygote_pid(self) -> int | None:
        return self._nursery.pid

    @property
    def is_in_birth(self) -> bool:
        """Whether there may be a process of ours whose pid is not known yet."""
        return self._nursery.birth is not None or self.is_making_checkpoint

    @property
    def is_making_checkpoint(self) -> bool:
        return self._checkpoints.birth is not None

    @property
    def deadline(self) -> float:
        """When `keep_deadlines` has something to do."""
        if self._nursery.birth is None and self.is_making_checkpoint:
            return self._checkpoints.deadline
        return min(self._nursery.deadline(is_worker_wanted=self._wants_worker()), self._checkpoints.deadline)

    def pids(self, *, but: Worker | None = None) -> set[int]:
        """Pids of the runner's own processes."""
        workers = (self.current, self.spare, self.checkpoint)
        pids = {worker.pid for worker in workers if worker is not None and worker is not but}
        if self._nursery.pid is not None:
            pids.add(self._nursery.pid)
        return pids

    def _wants_worker(self) -> bool:
        if self.current is None:
            return self.spare is None
        return self._nursery.is_warm and self.current.state is State.WAITING and self.spare is None

    # -- what the supervisor asks for

    def step(self) -> None:
        """Do everything that is due and possible."""
        fresh = self._nursery.take()
        if fresh is not None:
            newborn = self._adopt(fresh, used=False)
            if self.current is None:
                self.current = newborn
            else:
                self.spare = newborn
        frozen = self._checkpoints.take()
        if frozen is not None:
            self.end(self.checkpoint)
            self.checkpoint = self._adopt(frozen, used=True)
            self.unprotected = None
        if self.current is None and self.spare is not None:
            self.current, self.spare = self.spare, None
        spare, worker = self.spare, self.current
        if spare is not None and worker is not None and spare.warm and not worker.warm and not worker.used:
            self.current, self.spare = spare, None
            self.end(worker)
        self._nursery.step(is_worker_wanted=self._wants_worker())

    def give(self, request: Execute, descriptors: Sequence[int]) -> None:
        """Send the current worker, whose turn it is, code to run."""
        self._in_turn()[0].execute(request, descriptors)

    def make_checkpoint(self) -> None:
        """Ask the current worker, whose turn it is, for a frozen copy of itself; it then replaces the old one.

        Not for some time after one that took too long.
        """
        if self._checkpoints.is_postponed:
            self.drop_checkpoint("hooks")  # an older one would be taken for the last
            return
        worker, turn = self._in_turn()
        self._checkpoints.ask(worker.pid, turn, warm=worker.warm)

    def drop_checkpoint(self, reason: str | None) -> None:
        """Do without a checkpoint."""
        self.unprotected = reason
        self._checkpoints.drop()
        self.end(self.checkpoint)
        self.checkpoint = None

    def restore(self) -> bool:
        """Make the checkpoint the current worker. False if there is none."""
        worker, self.checkpoint = self.checkpoint, None
        if worker is None or worker.state is not State.WAITING:
            return False
        self.end(self.current)
        self.current = worker
        worker.signal(signal.SIGCONT)  # user code can have stopped it
        return True

    def renew(self) -> None:
        """Replace the current worker by a fresh one."""
        self._checkpoints.forget_delays()
        self.drop_checkpoint(None)
        self.end(self.current)
        self.current, self.spare = self.spare, None

    def preload(self, names: Sequence[str]) -> None:
        """Have workers come with *names* imported from now on. The current one goes, too, if it has not run anything:
        what is imported can't be taken back.
        """
        if list(names) == list(self._nursery.preload):
            return
        self.end(self.spare)
        self.spare = None
        if self.current is not None and not self.current.used:
            self.end(self.current)
            self.current = None
        zygote = self._nursery.stop()
        if zygote is not None:
            self.dying.add(zygote)
        self._nursery.start(names)

    def quieten(self) -> bool:
        """Stop the worker that waits for its turn, until that comes: a thread of it may be what ends the checkers.

        :returns: False if that can't be now, because it is making a checkpoint, for a few seconds at most.
        """
        if self.is_making_checkpoint:
            return False
        if self.current is not None and self.current.state is State.WAITING:
            self.current.signal(signal.SIGSTOP)
        return True

    def end(self, worker: Worker | None) -> None:
        if worker is not None:
            self.dying.add(worker.pid)
            worker.signal(signal.SIGKILL)
            worker.disconnect()

    def bury(self, pid: int) -> Worker | None:
        """Note that process *pid* has ended; returns the current worker if it was that."""
        self._nursery.bury(pid)
        for name in ("spare", "checkpoint", "current"):
            worker: Worker | None = getattr(self, name)
            if worker is not None and worker.pid == pid:
                worker.disconnect()
                setattr(self, name, None)
                if name == "current":
                    self._checkpoints.drop()
                    return worker
                if name == "checkpoint" and self.unprotected is None:
                    self.unprotected = "died"
        return None

    def keep_deadlines(self, now: float) -> None:
        self._nursery.keep_deadline(now)
        self._checkpoints.keep_deadline(now)

    def listen(self) -> None:
        """Listen for reports at a new socket."""
        self._turns.listen()

    def check_listener(self) -> None:
        """Listen again, where user code has removed the socket."""
        self._turns.check()

    # -- turns

    def _adopt(self, birth: Birth, *, used: bool) -> Worker:
        worker = Worker(self._events, birth, used=used)
        self._events.watch(birth.peer, lambda: self._on_turn(worker, birth.peer))
        return worker

    def _in_turn(self) -> tuple[Worker, Peer]:
        """The current worker, which is to go on, and its connection."""
        if self.current is None or self.current.turn is None:
            raise RuntimeError("it is no worker's turn")
        self.current.signal(signal.SIGCONT)  # user code can have stopped it, in its turn or while it was a spare
        return self.current, self.current.turn

    def _on_call(self, pid: int, caller: Peer, received: list[Message] | None) -> bool:
        worker = self.current
        if worker is None or worker.state is not State.RUNNING or worker.pid != pid:
            return False
        worker.wait_at(caller)
        self._events.watch(caller, lambda: self._on_turn(worker, caller))
        if received is None:
            self.end(worker)
        else:
            self._take(worker, received)
        return True

    def _on_turn(self, worker: Worker, turn: Peer) -> None:
        if worker.turn is turn:
            try:
                received = turn.receive()
            except ProtocolError:
                self.end(worker)
            else:
                self._take(worker, received)
                if turn.closed:
                    self.end(worker)
                    if worker is self.checkpoint:  # it need not be a child of ours, whose end would be told
                        self.drop_checkpoint("died")

    def _take(self, worker: Worker, received: list[Message]) -> None:
        """What a worker says is hostile: one report of its run, or an answer about a checkpoint, or it goes."""
        try:
            for message in received:
                if worker is not self.current:
                    raise ProtocolError("out of turn")
                if isinstance(message, Forked):
                    self._checkpoints.on_answer(message.error)
                elif isinstance(message, RunReport):
                    self._on_report(message)
                elif isinstance(message, (Picture, PictureData)):
                    self._on_picture(message)
                else:
                    raise ProtocolError("out of turn")
        except Exception:  # whatever its words lead to is the end of the worker, and of nobody else
            self.end(worker)
