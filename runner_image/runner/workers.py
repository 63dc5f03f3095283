"""The processes that user code runs in, and those they come from.

A *worker* waits for code or runs it. It is a fork: of the zygote, or of an earlier self. The *spare* is a fresh worker
in waiting; the *copy* is the checkpoint, a frozen fork of the current worker as it was after its last run.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from collections.abc import Callable, Sequence

from mcp_agentrun.errors import ProtocolError
from mcp_agentrun.wire.messages import (
    Checkpoint,
    Execute,
    Fork,
    Forked,
    Message,
    Picture,
    PictureData,
    Report,
    Started,
    Warm,
)

from . import linux, wipe, zygote
from .events import Events
from .sockets import Peer

TURN_PATH = "/run/agentrun/turn"
"""Where workers report. Only the pid of the current worker is listened to."""

BIRTH_SECONDS = 10.0
"""Longest time that a fork of the zygote may take."""

COPY_SECONDS = 3.0
"""Longest time that a copy may take to be made: user code can be in its way, by hooks that are called at a fork."""

COPY_PAUSE = 60.0
"""From a copy that took too long to the next try; doubled each time, since each delays a call by `COPY_SECONDS`."""

LAST_LOOK_SECONDS = 0.2
COPY_PATIENCE = 10
"""How many times that is, where the machine has no time for the worker."""

RETRY_SECONDS = 0.2
"""From a fork that failed to the next try; doubled each time."""

_REPORT_LIMIT = 1 << 18
_CALLERS = 16


def _inode(path: str) -> int | None:
    try:
        return os.lstat(path).st_ino
    except OSError:
        return None


class Worker:
    """A process that waits for code, or runs it."""

    def __init__(self, pid: int, turn: Peer, *, warm: bool, used: bool) -> None:
        self.pid = pid
        self.turn: Peer | None = turn
        """Its connection while it waits for code; while it runs some, it has none."""
        self.warm = warm
        """Forked after the data packages had been imported."""
        self.used = used
        """Has run code, so that there are variables to lose."""
        self.delivery: Peer | None = None
        """The connection over which its current code is still being sent."""


class Birth:
    """A process that has been asked for: it exists when its maker *and* it itself have said so."""

    def __init__(self, peer: Peer, deadline: float) -> None:
        self.peer = peer
        self.deadline = deadline
        self.made = False
        self.failed = False
        self.overdue = False
        self.interrupted = False
        self.patience = COPY_PATIENCE
        self.cpu: float | None = None
        """Processor time that its maker had used, when that was last looked at."""
        self.warm = False


class Workers:
    """At most one current worker, one spare and one copy.

    :param on_report: given each report that the current worker sends in its turn.
    :param on_picture: given the pictures that it sends before that, in parts.
    """

    def __init__(
        self,
        events: Events,
        on_report: Callable[[Report], None],
        on_picture: Callable[[Picture | PictureData], None],
    ) -> None:
        self.current: Worker | None = None
        self.spare: Worker | None = None
        self.copy: Worker | None = None
        self.unprotected: str | None = None
        """Why there is no copy of the current worker, where there should be one: ``threads``, ``memory``, ``hooks``,
        ``died`` or an errno's name."""
        self.zygote_pid: int | None = None
        self.dying: set[int] = set()
        """Workers killed since the last sweep, which may still be there."""
        self._events = events
        self._on_report = on_report
        self._on_picture = on_picture
        self._preload: Sequence[str] = ()
        self._warm = False
        self._zygote: Peer | None = None
        self._birth: Birth | None = None
        self._copying: Birth | None = None
        self._copy_at = 0.0
        self._copy_pause = COPY_PAUSE
        self._retry_at = 0.0
        self._retry_seconds = RETRY_SECONDS
        self._listener: socket.socket | None = None
        self._listener_inode: int | None = None
        self._callers: list[Peer] = []
        """Connections that have not said anything yet."""

    def begin(self, preload: Sequence[str]) -> None:
        """Make the first worker, and then import *preload* for the later ones."""
        self._preload = preload
        self.listen()
        self._start_zygote()

    # -- what there is

    @property
    def is_in_birth(self) -> bool:
        """Whether there may be a process of ours whose pid is not known yet."""
        return self._birth is not None or self._copying is not None

    @property
    def is_copying(self) -> bool:
        return self._copying is not None

    @property
    def deadline(self) -> float:
        """When `keep_deadlines` has something to do."""
        if self._birth is not None or self._copying is not None:
            return min(birth.deadline for birth in (self._birth, self._copying) if birth is not None)
        waits = self._wants_worker() if self._zygote is not None else self._listener is not None
        return self._retry_at if waits else float("inf")

    def pids(self, *, but: Worker | None = None) -> set[int]:
        """The pids that are ours, and not a run's strays."""
        workers = (self.current, self.spare, self.copy)
        pids = {worker.pid for worker in workers if worker is not None and worker is not but}
        if self.zygote_pid is not None:
            pids.add(self.zygote_pid)
        return pids

    # -- what the supervisor asks for

    def step(self) -> None:
        """Do what is due and possible now."""
        self._deliver_birth()
        self._deliver_copy()
        if self.current is None and self.spare is not None:
            self.current, self.spare = self.spare, None
        spare, worker = self.spare, self.current
        if spare is not None and worker is not None and spare.warm and not worker.warm and not worker.used:
            self.current, self.spare = spare, None
            self.end(worker)
        if self.zygote_pid is None and self._listener is not None and time.monotonic() >= self._retry_at:
            self._start_zygote()
        if self._birth is None and self._wants_worker() and time.monotonic() >= self._retry_at:
            self._fork_worker()

    def give(self, request: Execute, descriptors: Sequence[int]) -> None:
        """Send the current worker, whose turn it is, code to run."""
        worker, turn = self._in_turn()
        worker.turn = None
        turn.send(request, descriptors)
        if turn.has_unsent:
            worker.delivery = turn
            self._events.watch(turn, lambda: self._on_delivery(worker), write=True)
        else:
            self._drop(turn)

    def make_copy(self) -> None:
        """Ask the current worker, whose turn it is, for a frozen copy of itself; it then replaces the old one.

        Not for some time after a copy that took too long.
        """
        if time.monotonic() < self._copy_at:
            self.drop_copy("hooks")  # an older one would be taken for the last
            return
        worker, turn = self._in_turn()
        self._copying = self._ask(turn, Checkpoint(), COPY_SECONDS)
        self._copying.warm = worker.warm

    def drop_copy(self, reason: str | None) -> None:
        """Do without a copy."""
        self.unprotected = reason
        self._drop_copying()
        self.end(self.copy)
        self.copy = None

    def restore(self) -> bool:
        """Make the copy the current worker. False if there is none."""
        worker, self.copy = self.copy, None
        if worker is None or worker.turn is None:
            return False
        self.end(self.current)
        self.current = worker
        self.signal(worker, signal.SIGCONT)  # user code can have stopped it
        return True

    def renew(self) -> None:
        """Replace the current worker by a fresh one."""
        self._copy_at, self._copy_pause = 0.0, COPY_PAUSE
        self.drop_copy(None)
        self.end(self.current)
        self.current, self.spare = self.spare, None

    def preload(self, names: Sequence[str]) -> None:
        """Have workers come with *names* imported from now on. The current one goes, too, if it has not run anything:
        what is imported can't be taken back.
        """
        if list(names) == list(self._preload):
            return
        self._preload = names
        self.end(self.spare)
        self.spare = None
        if self.current is not None and not self.current.used:
            self.end(self.current)
            self.current = None
        self._miscarry()
        self._drop(self._zygote)
        self._zygote = None
        if self.zygote_pid is not None:
            self.dying.add(self.zygote_pid)
            os.kill(self.zygote_pid, signal.SIGKILL)
            self.zygote_pid = None
        self._retry_at, self._retry_seconds = 0.0, RETRY_SECONDS
        self._start_zygote()

    def end(self, worker: Worker | None) -> None:
        if worker is not None:
            self.dying.add(worker.pid)
            self.signal(worker, signal.SIGKILL)
            self._disconnect(worker)

    @staticmethod
    def signal(worker: Worker, number: int) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(worker.pid, number)

    def bury(self, pid: int) -> Worker | None:
        """Note that process *pid* has ended; returns the current worker if it was that."""
        if pid == self.zygote_pid:
            self.zygote_pid = None
            self._drop(self._zygote)
            self._zygote = None
            self._miscarry()
        for name in ("spare", "copy", "current"):
            worker: Worker | None = getattr(self, name)
            if worker is not None and worker.pid == pid:
                self._disconnect(worker)
                setattr(self, name, None)
                if name == "current":
                    self._drop_copying()
                    return worker
                if name == "copy" and self.unprotected is None:
                    self.unprotected = "died"
        return None

    def keep_deadlines(self, now: float) -> None:
        if self._birth is not None and now >= self._birth.deadline:
            self._miscarry()
            if self.zygote_pid is not None:
                os.kill(self.zygote_pid, signal.SIGKILL)
        if self._copying is not None and now >= self._copying.deadline:
            if (
                not self._copying.overdue
            ):  # what has been said may not have been heard: this process, too, may be starved
                self._copying.overdue = True
                self._copying.deadline = now + LAST_LOOK_SECONDS
            elif self._copying.made:
                self._postpone_copies(now)
                self.drop_copy("hooks")
            elif self._is_starved(self._copying):
                self._copying.overdue = False
                self._copying.deadline = now + COPY_SECONDS
            elif not self._copying.interrupted and self.current is not None:
                self._copying.interrupted = True
                self._copying.deadline = now + LAST_LOOK_SECONDS
                self._postpone_copies(now)
                self.signal(self.current, signal.SIGINT)  # a hook that waits is ended, and the copy is made
            else:  # the worker hangs in the middle of a fork: only the old copy is left
                self._drop_copying()
                self.end(self.current)

    def _postpone_copies(self, now: float) -> None:
        self._copy_at = now + self._copy_pause
        self._copy_pause *= 2

    def _is_starved(self, copying: Birth) -> bool:
        """Whether the worker could make the copy, had it only been given the processor: it waits for nothing else."""
        assert self.current is not None
        before, copying.cpu = copying.cpu, linux.cpu_seconds(self.current.pid)
        copying.patience -= 1
        has_had_it = before is not None and copying.cpu - before > COPY_SECONDS / 2
        return copying.patience >= 0 and not has_had_it and linux.is_runnable(self.current.pid)

    def check_listener(self) -> None:
        """Listen at `TURN_PATH` again, where user code has removed that name or given it to something else."""
        if _inode(TURN_PATH) != self._listener_inode:
            self.listen()

    # -- zygote and births

    def _wants_worker(self) -> bool:
        if self.current is None:
            return self.spare is None
        return self._warm and self.current.turn is not None and self.spare is None

    def _start_zygote(self) -> None:
        self._warm = not self._preload
        try:
            self.zygote_pid, control = zygote.start(self._preload, TURN_PATH)
        except OSError:  # too many processes, of user code's: tried again when some have ended
            self._retry_at = time.monotonic() + RETRY_SECONDS
            return
        self._zygote = Peer(control, limit=_REPORT_LIMIT)
        self._events.watch(self._zygote, self._on_zygote)

    def _fork_worker(self) -> None:
        if self._zygote is not None and self.zygote_pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.zygote_pid, signal.SIGCONT)  # user code can have stopped it
            self._birth = self._ask(self._zygote, Fork(), BIRTH_SECONDS)

    def _ask(self, maker: Peer, request: Fork | Checkpoint, seconds: float) -> Birth:
        """Ask for a process. Its pid is learnt from the kernel, with its first word."""
        ours, theirs = socket.socketpair()
        birth = Birth(Peer(ours, limit=_REPORT_LIMIT, credentials=True), time.monotonic() + seconds)
        self._events.watch(birth.peer, lambda: self._on_birth(birth))
        maker.send(request, [theirs.fileno()])
        theirs.close()
        return birth

    def _on_zygote(self) -> None:
        peer = self._zygote
        if peer is None:
            return
        for message in peer.receive():
            if isinstance(message, Warm):
                self._warm = True
            elif isinstance(message, Forked) and self._birth is not None:
                if message.error is not None:
                    self._miscarry()
                else:
                    self._birth.made = True
                    self._birth.warm = self._warm
        if peer.closed:
            self._drop(peer)
            self._zygote = None

    def _on_birth(self, birth: Birth) -> None:
        if birth not in (self._birth, self._copying):
            return
        try:
            received = birth.peer.receive()
            if birth.peer.closed or (
                received and (not isinstance(received[0], Started) or birth.peer.sender_pid is None)
            ):
                raise ProtocolError("stillborn")
        except ProtocolError:
            if birth is self._birth:
                self._miscarry()
            elif birth.made:
                self.drop_copy("hooks")
            else:  # the worker, whose turn it still is, will say why
                birth.failed = True
                self._events.forget(birth.peer)

    def _miscarry(self) -> None:
        if self._birth is not None:
            self._drop(self._birth.peer)
            self._birth = None
            self._retry_at = time.monotonic() + self._retry_seconds
            self._retry_seconds *= 2

    def _drop_copying(self) -> None:
        if self._copying is not None:
            self._drop(self._copying.peer)
            self._copying = None

    def _deliver_birth(self) -> None:
        birth = self._birth
        if birth is not None and birth.made and birth.peer.sender_pid is not None:
            self._birth = None
            self._retry_seconds = RETRY_SECONDS
            newborn = self._adopt(birth, used=False)
            if self.current is None:
                self.current = newborn
            else:
                self.spare = newborn

    def _deliver_copy(self) -> None:
        birth = self._copying
        if birth is not None and birth.made and birth.peer.sender_pid is not None:
            self._copying = None
            self.end(self.copy)
            self.copy = self._adopt(birth, used=True)
            self.unprotected = None
            if not birth.interrupted:
                self._copy_pause = COPY_PAUSE

    def _adopt(self, birth: Birth, *, used: bool) -> Worker:
        assert birth.peer.sender_pid is not None
        worker = Worker(birth.peer.sender_pid, birth.peer, warm=birth.warm, used=used)
        self._events.watch(birth.peer, lambda: self._on_turn(worker, birth.peer))
        return worker

    # -- turns

    def _in_turn(self) -> tuple[Worker, Peer]:
        """The current worker, which is to go on, and its connection."""
        if self.current is None or self.current.turn is None:
            raise RuntimeError("it is no worker's turn")
        self.signal(self.current, signal.SIGCONT)  # user code can have stopped it, in its turn or while it was a spare
        return self.current, self.current.turn

    def listen(self) -> None:
        """Listen at `TURN_PATH`, in a folder with nothing else in it."""
        if self._listener is not None:
            self._events.forget(self._listener)
            self._listener.close()
        with contextlib.suppress(OSError):
            wipe.empty(os.path.dirname(TURN_PATH))
        self._listener = listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        with contextlib.suppress(OSError):
            listener.bind(TURN_PATH)
            listener.listen(16)
            self._listener_inode = _inode(TURN_PATH)
            self._events.watch(listener, lambda: self._on_connect(listener))

    def _on_connect(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            connection, _ = listener.accept()
            caller = Peer(connection, limit=_REPORT_LIMIT, credentials=True)
            self._callers.append(caller)
            self._events.watch(caller, lambda: self._on_call(caller))
            self._on_call(caller)  # the report follows the connection at once
            if len(self._callers) > _CALLERS:
                self._drop(self._callers.pop(0))

    def _on_call(self, caller: Peer) -> None:
        """Whoever calls has to be the current worker, by what the kernel says of the sender of the first bytes."""
        received: list[Message] | None = None
        with contextlib.suppress(ProtocolError):
            received = caller.receive()
        if caller.sender_pid is None and not caller.closed:
            return
        self._callers.remove(caller)
        worker = self.current
        if caller.closed or worker is None or worker.turn is not None or caller.sender_pid != worker.pid:
            self._drop(caller)
            return
        self._drop(worker.delivery)
        worker.delivery = None
        worker.turn = caller
        self._events.watch(caller, lambda: self._on_turn(worker, caller))
        if received is None:
            self.end(worker)
        else:
            self._take(worker, received)

    def _on_delivery(self, worker: Worker) -> None:
        if worker.delivery is not None:
            worker.delivery.flush()
            if not worker.delivery.has_unsent:
                self._drop(worker.delivery)
                worker.delivery = None

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
                    if worker is self.copy:  # it need not be a child of ours, whose end would be told
                        self.drop_copy("died")

    def _take(self, worker: Worker, received: list[Message]) -> None:
        """What a worker says is hostile: one report of its run, or an answer about a copy, or it goes."""
        try:
            for message in received:
                if worker is not self.current:
                    raise ProtocolError("out of turn")
                if isinstance(message, Forked):
                    self._on_copied(message.error)
                elif isinstance(message, Report):
                    self._on_report(message)
                elif isinstance(message, (Picture, PictureData)):
                    self._on_picture(message)
                else:
                    raise ProtocolError("out of turn")
        except Exception:  # whatever its words lead to is the end of the worker, and of nobody else
            self.end(worker)

    def _on_copied(self, error: str | None) -> None:
        if self._copying is None:  # it has been given up meanwhile
            return
        if error is None and not self._copying.failed:
            self._copying.made = True
        else:
            self.drop_copy(error or "hooks")

    def _disconnect(self, worker: Worker) -> None:
        self._drop(worker.turn)
        self._drop(worker.delivery)
        worker.turn = worker.delivery = None

    def _drop(self, peer: Peer | None) -> None:
        if peer is not None and peer.fileno() >= 0:
            self._events.forget(peer)
            peer.close()
