"""PID 1 of a sandbox: owns the stream to the server, the processes, and every deadline. It never runs user code.

Everything happens in one loop over one selector. Events only note what they saw; `Supervisor._step` then does
whatever has become possible, in an order that does not depend on the order of events.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import selectors
import signal
import socket
import sys
import time
from collections.abc import Callable
from typing import Any, NoReturn

from mcp_agentrun.protocol import VERSION, FrameError, Kind, decode_json, encode, encode_json

from . import linux, wipe, zygote
from .sockets import HostStream, Peer, peer_pid

TURN_PATH = "/run/agentrun/turn"
"""Where workers report. Only the pid of the living worker is listened to."""

WRITABLE = ("/workspace", "/tmp", "/dev/shm")
HOST_SILENCE = 120.0
"""Seconds without a word from the server, which pings every 15, after which it is taken for dead."""

INTERRUPT_WORKER_AGAIN = 0.3
"""Seconds from the first interrupt, to the worker and its children, to the second, to the worker alone."""

GRACE = 1.0
"""Seconds from the first interrupt to the kill."""

TURN_CHECK = 1.0
"""Seconds between two looks, during a run, at whether `TURN_PATH` is still there."""

GATHER_SECONDS = 0.003
"""How long output gathers in the pipe before it is forwarded."""

WIPE_SECONDS = 20.0
WARM_SECONDS = 20.0
_READ = 1 << 16
_REPORT_LIMIT = 1 << 18
_LATE_LIMIT = 1 << 16
_TAIL = 1 << 16
_DRAIN_LIMIT = 1 << 20


@dataclasses.dataclass
class Worker:
    """A process that waits for code, or runs it."""

    pid: int
    turn: Peer | None
    """Its connection while it waits for code; while it runs some, it has none."""
    warm: bool
    """Forked after the data packages had been imported."""
    used: bool = False
    delivery: Peer | None = None
    """The connection over which its current code was, or is being, sent."""


@dataclasses.dataclass
class Birth:
    """A worker that has been asked for: it exists when the zygote *and* the worker itself have said so."""

    peer: Peer
    forked: bool = False
    warm: bool = False


@dataclasses.dataclass
class Run:
    """One execution of code, from its arrival to its result."""

    number: int
    code: str
    path: str | None
    timeout: float
    received: float
    started: float = 0.0
    deadline: float = float("inf")
    """When the next step of ending the run is due: interrupt, second interrupt, kill."""
    stopping: str | None = None
    """Outcome that a forced end will have: ``timeout`` or ``cancelled``."""
    interrupts: int = 0
    oom_kills: int = 0
    written: int = 0
    forwarded: int = 0
    tail: bytes = b""


@dataclasses.dataclass
class Reset:
    keep_files: bool
    janitor: int | None = None
    deadline: float = float("inf")
    wiped: bool = False


class Supervisor:
    """See the module. Construct, then `serve`."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._host = HostStream()
        self._heard = time.monotonic()
        self._preload: list[str] = []
        self._output_keep = 0
        self._zygote_pid: int | None = None
        self._zygote: Peer | None = None
        self._warm = False
        self._birth: Birth | None = None
        self._worker: Worker | None = None
        self._spare: Worker | None = None
        self._run: Run | None = None
        self._waiting: Run | None = None
        self._reset: Reset | None = None
        self._sweep_due = False
        self._state = "kept"
        self._announced = False
        self._pipe: tuple[int, int] | None = None
        self._output_due = 0.0
        self._late = bytearray()
        self._listener: socket.socket | None = None
        self._nowhere = os.open(os.devnull, os.O_RDONLY)

    def serve(self) -> NoReturn:
        self._listen_for_children()
        self._listen_for_turns()
        self._register(self._host.readable_fd, self._on_host)
        while True:
            self._step()
            self._watch()
            for key, _ in self._selector.select(self._patience()):
                if self._selector.get_map().get(key.fd) is key:  # not dropped by an earlier event of this round
                    key.data()
            self._keep_deadlines()
            if self._host.ended:
                os._exit(0)

    # -- the selector

    def _register(self, file: Any, callback: Callable[[], None], *, write: bool = False) -> None:
        """Call *callback* whenever *file* can be read, or, with *write*, be written."""
        self._forget(file)
        self._selector.register(file, selectors.EVENT_WRITE if write else selectors.EVENT_READ, callback)

    def _forget(self, file: Any) -> None:
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(file)

    def _drop(self, peer: Peer | None) -> None:
        if peer is not None:
            self._forget(peer)
            peer.close()

    def _watch(self) -> None:
        """Write what has gathered for the host, and ask for exactly the events that can be used now.

        Output is looked for a moment after it was last: short runs are answered at once with all that they wrote. A
        congested host stream pauses it.
        """
        self._host.flush()
        if self._host.has_unsent:
            self._register(self._host.writable_fd, self._host.flush, write=True)
        else:
            self._forget(self._host.writable_fd)
        if self._pipe is not None:
            if self._host.congested or time.monotonic() < self._output_due:
                self._forget(self._pipe[0])
            elif self._pipe[0] not in self._selector.get_map():
                self._register(self._pipe[0], self._on_output)

    def _patience(self) -> float:
        now = time.monotonic()
        due = self._heard + HOST_SILENCE
        if self._pipe is not None and now < self._output_due:
            due = min(due, self._output_due)
        if self._run is not None:
            due = min(due, self._run.deadline, now + TURN_CHECK)
        if self._waiting is not None and now < self._waiting.received + WARM_SECONDS:
            due = min(due, self._waiting.received + WARM_SECONDS)
        if self._reset is not None:
            due = min(due, self._reset.deadline)
        return max(0.0, due - now)

    # -- events

    def _listen_for_children(self) -> None:
        """Turn SIGCHLD into an event. User code can send it too: then there is nothing to reap."""
        read, write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)

        def on_child() -> None:
            with contextlib.suppress(BlockingIOError):
                os.read(read, 4096)
            self._bury(linux.reap())

        self._register(read, on_child)

    def _listen_for_turns(self) -> None:
        """Listen at `TURN_PATH`; again, when user code has removed that name."""
        if self._listener is not None:
            self._forget(self._listener)
            self._listener.close()
        with contextlib.suppress(OSError):
            wipe.empty(os.path.dirname(TURN_PATH))
        self._listener = listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        with contextlib.suppress(OSError):
            listener.bind(TURN_PATH)
            listener.listen(16)
            self._register(listener, lambda: self._on_turn(listener))

    def _on_host(self) -> None:
        for kind, payload in self._host.receive():
            self._heard = time.monotonic()
            if kind is Kind.PING:
                self._host.send(encode(Kind.PONG))
            elif kind is Kind.HELLO:
                self._on_hello(decode_json(payload))
            elif kind is Kind.RUN:
                fields = decode_json(payload)
                self._waiting = Run(
                    fields["run"], fields["code"], fields["path"], float(fields["timeout"]), time.monotonic()
                )
            elif kind is Kind.CANCEL:
                self._on_cancel(decode_json(payload)["run"])
            elif kind is Kind.RESET:
                self._on_reset(Reset(keep_files=bool(decode_json(payload)["keep_files"])))
            else:
                raise FrameError(f"a {kind.name} frame is not for a supervisor")

    def _on_hello(self, fields: dict[str, Any]) -> None:
        if fields["version"] != VERSION:
            raise FrameError(f"the server speaks version {fields['version']}, this image {VERSION}")
        self._preload = fields["preload"]
        self._output_keep = fields["output_keep"]
        self._start_zygote()

    def _on_cancel(self, number: int) -> None:
        if self._waiting is not None and self._waiting.number == number:
            run, self._waiting = self._waiting, None
            self._host.send_json(Kind.RESULT, **_result(run, "cancelled", state=self._state))
        elif self._run is not None and self._run.number == number and self._run.stopping is None:
            self._interrupt(self._run, "cancelled")

    def _on_reset(self, reset: Reset) -> None:
        if self._run is not None:
            self._run.stopping = "cancelled"
            self._finish(None)
        self._reset = reset
        self._retire(self._worker)
        self._worker, self._spare = self._spare, None
        self._state = "kept"
        self._sweep_due = True
        self._late.clear()

    def _on_zygote(self) -> None:
        zygote = self._zygote
        if zygote is None:
            return
        for kind, payload in zygote.receive():
            if kind is Kind.WARM:
                self._warm = True
            elif kind is Kind.FORKED and self._birth is not None:
                if decode_json(payload)["error"] is not None:
                    self._miscarry()
                    self._sweep_due = True
                else:
                    self._birth.forked = True
                    self._birth.warm = self._warm
        if zygote.closed:
            self._drop(zygote)
            self._zygote = None

    def _on_birth(self, birth: Birth) -> None:
        if birth is not self._birth:
            return
        frames = birth.peer.receive()
        if birth.peer.closed or (frames and (frames[0][0] is not Kind.READY or birth.peer.sender_pid is None)):
            self._miscarry()

    def _on_turn(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            connection, _ = listener.accept()
            worker = self._worker
            if self._run is None or worker is None or worker.turn is not None or peer_pid(connection) != worker.pid:
                connection.close()
                return
            self._drop(worker.delivery)
            worker.delivery = None
            worker.turn = turn = Peer(connection, limit=_REPORT_LIMIT)
            self._register(turn, lambda: self._on_report(worker, turn))

    def _on_delivery(self, peer: Peer) -> None:
        peer.flush()
        if not peer.has_unsent:
            self._register(peer, lambda: self._drop(peer))

    def _on_report(self, worker: Worker, turn: Peer) -> None:
        """What a worker sends is hostile: one well-formed result of the current run, or the worker goes."""
        try:
            frames = turn.receive()
            if not frames and not turn.closed:
                return
            if worker is not self._worker or self._run is None or len(frames) != 1 or frames[0][0] is not Kind.RESULT:
                raise FrameError("out of turn")
            report = _checked(decode_json(frames[0][1]), self._run.number)
        except FrameError:
            self._drop(turn)
            self._kill(worker)
            return
        self._finish(report)

    def _on_output(self) -> None:
        if self._pipe is None:
            return
        try:
            data = os.read(self._pipe[0], _READ)
        except BlockingIOError:
            return
        if len(data) < _READ:
            self._output_due = time.monotonic() + GATHER_SECONDS
        run = self._run
        if run is None:
            self._late += data[: _LATE_LIMIT - len(self._late)]
            return
        run.written += len(data)
        forward = data[: self._output_keep - run.forwarded]
        if forward:
            run.forwarded += len(forward)
            self._host.send(encode(Kind.OUTPUT, forward))
        if len(forward) < len(data):
            run.tail = (run.tail + data[len(forward) :])[-_TAIL:]

    # -- deadlines

    def _keep_deadlines(self) -> None:
        now = time.monotonic()
        if now - self._heard > HOST_SILENCE:
            os._exit(0)
        if self._run is not None and not os.path.exists(TURN_PATH):
            self._listen_for_turns()
        run = self._run
        if run is not None and now >= run.deadline:
            if run.interrupts == 0:
                self._interrupt(run, "timeout")
            elif run.interrupts == 1 and self._worker is not None:
                run.interrupts = 2
                run.deadline = now + GRACE - INTERRUPT_WORKER_AGAIN
                self._signal(self._worker.pid, signal.SIGINT)
            elif self._worker is not None:
                run.deadline = float("inf")
                self._kill(self._worker)
        reset = self._reset
        if reset is not None and now >= reset.deadline and reset.janitor is not None:
            os._exit(1)  # files that can't be removed: only a new container is clean

    def _interrupt(self, run: Run, outcome: str) -> None:
        """Interrupt as ^C in a terminal does: the worker and everything it has started, at once."""
        run.stopping = outcome
        run.interrupts = 1
        run.deadline = time.monotonic() + INTERRUPT_WORKER_AGAIN
        for pid in linux.processes():
            if pid not in self._ours(but=self._worker):
                self._signal(pid, signal.SIGINT)

    # -- processes

    def _ours(self, *, but: Worker | None = None) -> set[int]:
        """The pids that are not a run's strays."""
        pids = {1}
        if self._zygote_pid is not None:
            pids.add(self._zygote_pid)
        for worker in (self._worker, self._spare):
            if worker is not None and worker is not but:
                pids.add(worker.pid)
        if self._reset is not None and self._reset.janitor is not None:
            pids.add(self._reset.janitor)
        return pids

    def _start_zygote(self) -> None:
        self._warm = not self._preload
        self._zygote_pid, control = zygote.start(self._preload, TURN_PATH)
        self._zygote = Peer(control, limit=_REPORT_LIMIT)
        self._register(self._zygote, self._on_zygote)

    def _fork_worker(self) -> None:
        """Ask the zygote for a worker. Its pid is learnt from the kernel, with its first word."""
        if self._zygote is None:
            return
        ours, theirs = socket.socketpair()
        self._birth = birth = Birth(Peer(ours, limit=_REPORT_LIMIT, credentials=True))
        self._register(birth.peer, lambda: self._on_birth(birth))
        self._zygote.send(encode(Kind.FORK), [theirs.fileno()])
        theirs.close()

    def _miscarry(self) -> None:
        if self._birth is not None:
            self._drop(self._birth.peer)
            self._birth = None

    def _retire(self, worker: Worker | None) -> None:
        if worker is not None:
            self._kill(worker)
            self._disconnect(worker)

    def _disconnect(self, worker: Worker) -> None:
        self._drop(worker.turn)
        self._drop(worker.delivery)
        worker.turn = worker.delivery = None

    def _kill(self, worker: Worker) -> None:
        self._signal(worker.pid, signal.SIGKILL)

    @staticmethod
    def _signal(pid: int, number: int) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)

    def _bury(self, ended: Any) -> None:
        for pid, code in ended:
            reset = self._reset
            if pid == self._zygote_pid:
                self._zygote_pid = None
                self._drop(self._zygote)
                self._zygote = None
                self._miscarry()
            elif reset is not None and pid == reset.janitor:
                if code != 0:
                    os._exit(1)  # as above
                reset.janitor = None
                reset.wiped = True
            elif self._spare is not None and pid == self._spare.pid:
                self._disconnect(self._spare)
                self._spare = None
            elif self._worker is not None and pid == self._worker.pid:
                self._disconnect(self._worker)
                used, self._worker = self._worker.used, None
                self._sweep_due = True
                if self._run is not None:
                    self._finish(None, exit_code=code)
                elif used:
                    self._state = "lost"

    # -- what has become possible

    def _step(self) -> None:
        """Do whatever is due and possible now; called after every round of events."""
        self._deliver_birth()
        if self._birth is None:
            if self._sweep_due and self._run is None:
                self._sweep_due = False
                self._bury(linux.sweep(self._ours()))
            if self._zygote_pid is None and self._announced:
                self._start_zygote()
            if self._zygote is not None and self._wants_worker():
                self._fork_worker()
        self._continue_reset()
        self._start_waiting_run()

    def _wants_worker(self) -> bool:
        if self._worker is None:
            return self._spare is None
        return self._warm and self._run is None and self._spare is None

    def _deliver_birth(self) -> None:
        birth = self._birth
        if birth is not None and birth.forked and birth.peer.sender_pid is not None:
            self._birth = None
            newborn = Worker(birth.peer.sender_pid, birth.peer, birth.warm)
            self._register(birth.peer, lambda: self._on_report(newborn, birth.peer))
            if self._worker is None:
                self._worker = newborn
            else:
                self._spare = newborn
        if self._worker is None and self._spare is not None:
            self._worker, self._spare = self._spare, None
        spare, worker = self._spare, self._worker
        if spare is not None and worker is not None and spare.warm and not worker.warm and not worker.used:
            self._worker, self._spare = spare, None
            self._retire(worker)
        if self._worker is not None and not self._announced:
            self._announced = True
            self._host.send_json(Kind.READY)

    def _continue_reset(self) -> None:
        reset = self._reset
        if reset is None or self._sweep_due:
            return
        if reset.keep_files:
            reset.wiped = True
        elif not reset.wiped and reset.janitor is None and self._birth is None:
            reset.janitor = self._start_janitor()
            reset.deadline = time.monotonic() + WIPE_SECONDS
        if reset.wiped and self._worker is not None:
            self._reset = None
            self._host.send_json(Kind.RESET_DONE)

    @staticmethod
    def _start_janitor() -> int:
        """Wipe in a process of its own: a hostile tree takes as long as it takes."""
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                for folder in WRITABLE:
                    wipe.empty(folder)
                wipe.furnish(os.environ["HOME"])
                status = 0
            finally:
                os._exit(status)
        return pid

    # -- runs

    def _start_waiting_run(self) -> None:
        run, worker = self._waiting, self._worker
        if run is None or self._reset is not None or self._sweep_due or self._run is not None:
            return
        if worker is None or worker.turn is None or self._is_worth_warming(run, worker):
            return
        self._waiting, self._run = None, run
        self._flush_late()
        worker.used = True
        run.oom_kills = linux.oom_kills()
        run.started = time.monotonic()
        run.deadline = run.started + run.timeout
        self._open_pipe()
        assert self._pipe is not None
        worker.delivery, worker.turn = worker.turn, None
        worker.delivery.send(
            encode_json(Kind.RUN, run=run.number, code=run.code, path=run.path),
            [self._nowhere, self._pipe[1], self._pipe[1]],
        )
        delivery = worker.delivery
        self._forget(delivery)
        self._register(delivery, lambda: self._on_delivery(delivery), write=True)

    def _is_worth_warming(self, run: Run, worker: Worker) -> bool:
        """Whether code that names a data package should wait for the worker that has it: the import is under way
        already, and would only be made a second time beside it.
        """
        if worker.used or worker.warm or time.monotonic() >= run.received + WARM_SECONDS:
            return False
        return any(name.partition(".")[0] in run.code for name in self._preload)

    def _open_pipe(self) -> None:
        if self._pipe is not None:
            self._forget(self._pipe[0])
            for end in self._pipe:
                os.close(end)
        self._pipe = os.pipe2(os.O_CLOEXEC)
        self._output_due = time.monotonic() + GATHER_SECONDS
        os.set_blocking(self._pipe[0], False)

    def _flush_late(self) -> None:
        self._drain()
        if self._late:
            self._host.send(encode(Kind.LATE, self._late))
            self._late.clear()

    def _drain(self) -> None:
        """Take what was written before now; a writer that goes on and on is not waited for."""
        if self._pipe is None:
            return
        for _ in range(_DRAIN_LIMIT // _READ):
            before = (self._run.written if self._run else 0) + len(self._late)
            self._on_output()
            if (self._run.written if self._run else 0) + len(self._late) == before:
                return

    def _finish(self, report: dict[str, Any] | None, *, exit_code: int | None = None) -> None:
        """End the current run: with the worker's *report*, or because the worker ended with *exit_code*."""
        run = self._run
        assert run is not None
        self._drain()
        self._run = None
        self._sweep_due = True
        if report is not None:
            outcome = run.stopping or ("ok" if report["ok"] else "error")
            exit_code = report["exit_code"]
        else:
            outcome = run.stopping or ("memory_limit" if linux.oom_kills() > run.oom_kills else "crashed")
            self._state = "lost"
        if run.tail:
            self._host.send(encode(Kind.OUTPUT_TAIL, run.tail))
        self._host.send_json(Kind.RESULT, **_result(run, outcome, report, exit_code=exit_code, state=self._state))
        self._state = "kept"


def _result(
    run: Run, outcome: str, report: dict[str, Any] | None = None, *, exit_code: int | None = None, state: str
) -> dict[str, Any]:
    return {
        "run": run.number,
        "outcome": outcome,
        "duration": time.monotonic() - run.started if run.started else 0.0,
        "exit_code": exit_code,
        "error": report["error"] if report else None,
        "value": report["value"] if report else None,
        "written": run.written,
        "state": state,
    }


def _checked(report: dict[str, Any], number: int) -> dict[str, Any]:
    """*report*, if it is one that a worker could have made in good faith.

    :raises FrameError: it isn't.
    """
    error = report.get("error")
    if not (
        report.get("run") == number
        and isinstance(report.get("ok"), bool)
        and isinstance(code := report.get("exit_code"), int)
        and 0 <= code <= 255
        and isinstance(report.get("value"), str | None)
        and (error is None or _is_error(error))
    ):
        raise FrameError("malformed report")
    return report


def _is_error(error: object) -> bool:
    if not isinstance(error, dict):
        return False
    fields: dict[str, Any] = error  # pyright: ignore[reportUnknownVariableType]
    return (
        set(fields) == {"type", "message", "line"}
        and isinstance(fields["type"], str)
        and isinstance(fields["message"], str)
        and isinstance(fields["line"], int | None)
    )


def main() -> NoReturn:
    linux.set_dumpable(False)
    linux.set_name("supervisor")
    supervisor = Supervisor()
    try:
        supervisor.serve()
    except FrameError as error:
        sys.stderr.write(f"supervisor: {error}\n")
    os._exit(1)
