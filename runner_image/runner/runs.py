"""One run at a time, from its arrival to its result, and what happens to the session's variables meanwhile.

::

    IDLE ──Run──▶ WAITING ──allowed, and a worker waits──▶ RUNNING ─RunReport▶ IDLE: kept
     │               │                                        │
     │               └──blocked, or cancelled──▶ IDLE: kept   └──worker ended──▶ RECOVERING
     │
     │            RECOVERING ──a checkpoint waits──▶ PROBING ─RunReport▶ IDLE: restored
     │                │  ▲                              │
     │                │  └──────── worker ended ────────┘
     │                └──only a fresh worker waits──▶ IDLE: lost, or restored where there was nothing to lose
     │
     └──Reset──▶ RESETTING ──wiped, and a fresh worker waits──▶ IDLE

Every arrow to IDLE sends the answer.
"""

from __future__ import annotations

import contextlib
import enum
import os
import signal
import time
from collections.abc import Callable

from mcp_agentrun.wire import messages
from mcp_agentrun.wire.codec import ProtocolError
from mcp_agentrun.wire.messages import Picture, PictureData

from . import linux
from .admission import Admission
from .changes import Changes
from .memory import MemoryWatch
from .output import Output
from .run import Run
from .sockets import HostStream
from .stdin import Stdin
from .workers import Worker, Workers

INTERRUPT_WORKER_AGAIN = 0.3
"""Seconds from the first interrupt, to the worker and its children, to the second, to the worker alone."""

GRACE = 1.0
"""Seconds from the first interrupt to the kill."""

TURN_CHECK = 1.0
"""Seconds between two looks, during a run, at whether workers could still report."""

MEMORY_CHECK = 0.02
"""Seconds between two looks, during a run, at whether the checkpoint has to go for want of memory."""

_INTERRUPTED = 130
"""Exit code after Ctrl-C."""


class State(enum.Enum):
    """What the session is doing."""

    IDLE = enum.auto()
    WAITING = enum.auto()
    """A run has arrived; it is judged, installs what it lacks, or waits for its worker."""
    RUNNING = enum.auto()
    RECOVERING = enum.auto()
    """The worker has ended in its run, whose result waits for what happens to the variables."""
    PROBING = enum.auto()
    """A restored checkpoint executes an empty run, to show that it is alive."""
    RESETTING = enum.auto()


class Runs:
    """See the module.

    :param ours: pids that are not a run's strays, without those of a given worker.
    """

    def __init__(
        self,
        host: HostStream,
        output: Output,
        stdin: Stdin,
        workers: Workers,
        admission: Admission,
        changes: Changes,
        memory: MemoryWatch,
        ours: Callable[[Worker | None], set[int]],
    ) -> None:
        self.state = State.IDLE
        self.is_sweep_due = False
        """What the last run has left running is still to be ended."""
        self.makes_checkpoints = False
        self._host = host
        self._output = output
        self._stdin = stdin
        self._workers = workers
        self._admission = admission
        self._changes = changes
        self._memory = memory
        self._ours = ours
        self._run: Run | None = None
        """The server's, unless the session is idle."""
        self._executing: Run | None = None
        """The one that a worker executes: the server's, or a probe."""
        self._since: messages.State = "kept"
        """What has happened to the variables since the last result."""
        self._is_checkpoint_due = False

    @property
    def is_executing(self) -> bool:
        """Whether a worker executes a run, or a probe."""
        return self._executing is not None

    # -- what the server asks for

    def receive(self, request: messages.Run) -> None:
        """:raises ProtocolError: the session is not idle."""
        self._leave_idle(State.WAITING)
        self._run = run = Run(request)
        self._stdin.begin(has_content=run.has_stdin)
        self._admission.begin(run)

    def proceed(self, answer: messages.Proceed) -> None:
        """Go on with a run that has waited for packages."""
        run = self._run
        if self.state is State.WAITING and run is not None and run.number == answer.run:
            self._admission.proceed(run, answer)

    def cancel(self, number: int) -> None:
        """Interrupt run *number*, or don't begin it."""
        run = self._run
        if run is None or run.number != number:
            return
        if self.state is State.WAITING:
            self._admission.cancel()
            run.outcome = "cancelled"
            self._answer("kept")
        elif self.state is State.RUNNING and run.stopping is None:
            self._interrupt(run, "cancelled")

    def begin_reset(self, *, no_preload: bool) -> None:
        """Replace the worker.

        :raises ProtocolError: the session is not idle.
        """
        self._leave_idle(State.RESETTING)
        self._workers.renew()
        self._admission.reset(no_preload=no_preload)
        self._since = "kept"
        self.is_sweep_due = True
        self._is_checkpoint_due = False

    def end_reset(self) -> None:
        self.state = State.IDLE

    def _leave_idle(self, state: State) -> None:
        if self.state is not State.IDLE:
            raise ProtocolError(f"a request while the session is {self.state.name}")
        self.state = state

    # -- what workers do

    def on_report(self, report: messages.RunReport) -> None:
        """The worker has executed its run.

        :raises ProtocolError: it has not been given that one.
        """
        run = self._executing
        if run is None or report.run != run.number:
            raise ProtocolError("out of turn")
        outcome = run.stopping or ("ok" if report.ok else "error")
        # Code that has caught our interrupt may have gone on to a good end of its own, but not in time.
        exit_code = report.exit_code or (_INTERRUPTED if run.stopping else 0)
        run.report = report
        self._end(run, outcome, exit_code)
        if report.left and not self._workers.is_in_birth:
            strays = set(linux.processes()) - self._ours(None) - self._workers.dying
            run.strays = sum(map(linux.is_alive, strays))
        if not report.changed and self._workers.checkpoint is not None:
            self._is_checkpoint_due = False
        self._answer("restored" if run.is_probe else "kept")

    def on_picture(self, message: Picture | PictureData) -> None:
        """The worker shows something.

        :raises ProtocolError: it is not its turn, or too much.
        """
        run = self._executing
        if run is None:
            raise ProtocolError("out of turn")
        run.add_picture(message)
        if not run.is_probe:
            self._host.send(message)

    def on_death(self, worker: Worker, code: int) -> None:
        """The current worker has ended: in its run, or between two."""
        self.is_sweep_due = True
        self._is_checkpoint_due = False
        run = self._executing
        if run is None:
            if worker.used and self.state is State.RECOVERING:  # a restored checkpoint, killed together with the worker
                self._workers.unprotected = "died"
            elif worker.used:
                self._since = "restored" if self._workers.restore() else "lost"
                self._is_checkpoint_due = self.makes_checkpoints
            return
        self._end(run, run.stopping or ("memory_limit" if self._memory.was_exceeded else "crashed"), code)
        self.state = State.RECOVERING
        if run.is_probe:  # what has killed a restored checkpoint is in the checkpoint itself
            self._workers.unprotected = "died"
        elif not run.is_first:
            self._workers.restore()

    # -- deadlines

    def deadline(self, now: float) -> float:
        """When `keep_deadlines` has something to do."""
        run, executing = self._run, self._executing
        if executing is not None:
            check = TURN_CHECK if self._workers.checkpoint is None else MEMORY_CHECK
            return min(executing.deadline, now + check)
        if self.state is State.WAITING and run is not None:
            return self._admission.deadline(run, now)
        return float("inf")

    def keep_deadlines(self, now: float) -> None:
        run, worker = self._executing, self._workers.current
        if run is None:
            return
        if now >= run.deadline and worker is not None:
            self._hasten(run, worker, now)
        if now - run.started > TURN_CHECK:
            self._workers.check_listener()
        if now - run.started > MEMORY_CHECK:
            self._memory.relieve()

    def _hasten(self, run: Run, worker: Worker, now: float) -> None:
        """Take the next step of ending *run*."""
        if run.interrupts == 0:
            self._interrupt(run, "timeout")
        elif run.interrupts == 1:
            run.interrupts = 2
            run.deadline = now + GRACE - INTERRUPT_WORKER_AGAIN
            worker.signal(signal.SIGINT)
        else:
            run.deadline = now + GRACE  # the kill that ends it may have to be repeated
            worker.signal(signal.SIGKILL)
            # A restored checkpoint need not be a child of this process, which then does not learn of its end.
            if not linux.is_alive(worker.pid) and self._workers.bury(worker.pid) is worker:
                self.on_death(worker, -signal.SIGKILL)

    def _interrupt(self, run: Run, outcome: messages.Outcome) -> None:
        """Interrupt the worker and its children, like Ctrl-C in a terminal."""
        run.stopping = outcome
        run.interrupts = 1
        run.deadline = time.monotonic() + INTERRUPT_WORKER_AGAIN
        spared = self._ours(self._workers.current)
        for pid in linux.processes():
            if pid not in spared:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGINT)

    # -- what has become possible

    def step(self) -> None:
        """Do whatever is due and possible now, when nothing is left to be swept."""
        worker, run = self._workers.current, self._run
        if self.state is State.RECOVERING and run is not None and not (worker is not None and worker.used):
            self._answer("restored" if run.is_first else "lost")  # a fresh worker is as good as before the first run
        if worker is None or worker.turn is None or self._executing is not None or self.state is State.RESETTING:
            return
        if self.state is State.RECOVERING and run is not None:
            self.state = State.PROBING
            self._execute(Run.probe(run.path), worker)
            return
        if self._is_checkpoint_due:
            self._is_checkpoint_due = False
            if self._memory.is_tight:
                self._workers.drop_checkpoint("memory")
            else:
                self._workers.make_checkpoint()
        if self.state is State.WAITING and run is not None and run.verdict is not None:
            if not run.verdict.allowed:
                worker.signal(signal.SIGCONT)
                run.outcome = "blocked"
                self._answer("kept")
            elif self._admission.is_complete(run, worker) and not self._workers.is_making_checkpoint:
                self.state = State.RUNNING
                self._execute(run, worker)

    def _execute(self, run: Run, worker: Worker) -> None:
        self._executing = run
        run.is_first = not worker.used
        worker.used = True
        pipe = self._output.begin(quiet=run.is_probe, unlimited=run.request.stream)
        run.started = time.monotonic()
        run.deadline = run.started + run.request.timeout
        self._workers.give(run.to_execute(), [self._stdin.descriptor, pipe])
        self._stdin.note_given()
        self._memory.begin()  # now, while the worker is only waking up

    def _end(self, run: Run, outcome: messages.Outcome, exit_code: int) -> None:
        run.written = self._output.end()
        run.outcome, run.exit_code = outcome, exit_code
        run.duration = time.monotonic() - run.started
        if not run.is_probe:
            run.files, run.more_files = self._changes.take()
        self._executing = None
        self.is_sweep_due = True
        self._is_checkpoint_due = self.makes_checkpoints

    def _answer(self, state: messages.State) -> None:
        """Send the result of the run: at once, for whatever is to be tidied up can wait."""
        run, self._run = self._run, None
        assert run is not None
        self._stdin.end()
        self.state = State.IDLE
        self._host.send(run.result(state, self._since, self._workers.unprotected))
        self._host.flush()
        self._since = "kept"
