"""One run at a time, from its arrival to its result, and what happens to the session's variables meanwhile.

`runner.states` has the states and what leads from one to the next.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable

from mcp_agentrun.wire import messages
from mcp_agentrun.wire.codec import ProtocolError
from mcp_agentrun.wire.messages import Picture, PictureData

from .changes import Changes
from .linux import process_table
from .memory_watch import MemoryWatch
from .output import Output
from .preparation import Preparation
from .run import Run
from .sockets import HostStream
from .states import SessionState
from .stdin import Stdin
from .usage import Usage
from .workers import Worker, Workers

INTERRUPT_WORKER_AGAIN = 0.3  # seconds from the first interrupt (worker and children) to the second (worker only)
GRACE = 1.0  # seconds from the first interrupt to the kill
REPORT_SOCKET_CHECK = 1.0  # seconds between two checks, during a run, that workers can still report
MEMORY_CHECK = 0.02  # seconds between two checks, during a run, whether memory is too short for a checkpoint
_INTERRUPTED = 130  # exit code after Ctrl-C


class Runs:
    """The state of the session, and its current run.

    :param runner_pids: returns the pids of the runner's own processes, without that of a given worker.
    """

    def __init__(
        self,
        host: HostStream,
        output: Output,
        stdin: Stdin,
        workers: Workers,
        preparation: Preparation,
        changes: Changes,
        memory: MemoryWatch,
        usage: Usage,
        runner_pids: Callable[[Worker | None], set[int]],
    ) -> None:
        self.state = SessionState.IDLE
        self.is_sweep_due = False  # processes that the last run has left are still to be killed
        self.makes_checkpoints = False
        self._host = host
        self._output = output
        self._stdin = stdin
        self._workers = workers
        workers.on_report, workers.on_picture = self.on_report, self.on_picture
        self._preparation = preparation
        self._changes = changes
        self._memory = memory
        self._usage = usage
        self._runner_pids = runner_pids
        self._run: Run | None = None  # the server's, unless the session is idle
        self._executing: Run | None = None  # the one that a worker executes: the server's, or a probe
        self._since: messages.State = "kept"  # what has happened to the variables since the last result
        self._is_checkpoint_due = False

    @property
    def is_executing(self) -> bool:
        """Whether a worker executes a run, or a probe."""
        return self._executing is not None

    # -- requests of the server

    def receive(self, request: messages.Run) -> None:
        """:raises ProtocolError: the session is not idle."""
        self._leave_idle(SessionState.WAITING)
        self._run = run = Run(request)
        self._stdin.begin(has_content=run.has_stdin)
        self._preparation.begin(run)

    def proceed(self, answer: messages.Proceed) -> None:
        """Continue with a run that has waited for packages."""
        run = self._run
        if self.state is SessionState.WAITING and run is not None and run.number == answer.run:
            self._preparation.proceed(run, answer)

    def cancel(self, number: int) -> None:
        """Interrupt run *number*, or don't start it."""
        run = self._run
        if run is None or run.number != number:
            return
        if self.state is SessionState.WAITING:
            self._preparation.cancel()
            run.outcome = "cancelled"
            self._answer("kept")
        elif self.state is SessionState.RUNNING and run.stopping is None:
            self._interrupt(run, "cancelled")

    def begin_reset(self, *, no_preload: bool) -> None:
        """Replace the worker.

        :raises ProtocolError: the session is not idle.
        """
        self._leave_idle(SessionState.RESETTING)
        self._workers.begin_reset()
        self._preparation.reset(no_preload=no_preload)
        self._since = "kept"
        self.is_sweep_due = True
        self._is_checkpoint_due = False

    def end_reset(self) -> None:
        self.state = SessionState.IDLE

    def _leave_idle(self, state: SessionState) -> None:
        if self.state is not SessionState.IDLE:
            raise ProtocolError(f"a request while the session is {self.state.name}")
        self.state = state

    # -- events of the worker

    def on_report(self, report: messages.RunReport) -> None:
        """Handle the worker's report of its run.

        :raises ProtocolError: the worker does not execute that run.
        """
        run = self._executing
        if run is None or report.run != run.number:
            raise ProtocolError("no such run")
        outcome = run.stopping or ("ok" if report.ok else "error")
        # Code may have caught the interrupt and then succeeded, but not in time.
        exit_code = report.exit_code or (_INTERRUPTED if run.stopping else 0)
        run.report = report
        self._end(run, outcome, exit_code)
        if report.left and not self._workers.is_forking:
            strays = set(process_table.processes()) - self._runner_pids(None) - self._workers.dying
            run.strays = sum(map(process_table.is_alive, strays))
        if not report.changed and self._workers.checkpoint is not None:
            self._is_checkpoint_due = False
        self._answer("restored" if run.is_probe else "kept")

    def on_picture(self, message: Picture | PictureData) -> None:
        """Forward a picture of the worker's run, or a part of one.

        :raises ProtocolError: there is no such run, or the picture is not valid.
        """
        run = self._executing
        if run is None:
            raise ProtocolError("no such run")
        run.add_picture(message)
        if not run.is_probe:
            self._host.send(message)

    def on_worker_exit(self, worker: Worker, code: int) -> None:
        """Record that the current worker has ended, in its run or between two."""
        self.is_sweep_due = True
        self._is_checkpoint_due = False
        run = self._executing
        if run is None:
            if worker.used and self.state is SessionState.RECOVERING:  # the restored checkpoint was killed as well
                self._workers.unprotected = "died"
            elif worker.used:
                self._since = "restored" if self._workers.restore() else "lost"
                self._is_checkpoint_due = self.makes_checkpoints
            return
        self._end(run, run.stopping or ("memory_limit" if self._memory.was_exceeded else "crashed"), code)
        self.state = SessionState.RECOVERING
        if run.is_probe:  # it would kill the next one as well
            self._workers.unprotected = "died"
        elif not run.is_first:
            self._workers.restore()

    # -- deadlines

    def deadline(self, now: float) -> float:
        """When `keep_deadlines` has something to do."""
        run, executing = self._run, self._executing
        if executing is not None:
            check = REPORT_SOCKET_CHECK if self._workers.checkpoint is None else MEMORY_CHECK
            return min(executing.deadline, now + check)
        if self.state is SessionState.WAITING and run is not None:
            return self._preparation.deadline(run, now)
        return float("inf")

    def keep_deadlines(self, now: float) -> None:
        run, worker = self._executing, self._workers.current
        if run is None:
            return
        if now >= run.deadline and worker is not None:
            self._escalate(run, worker, now)
        if now - run.started > REPORT_SOCKET_CHECK:
            self._workers.report_socket.check()
        if now - run.started > MEMORY_CHECK:
            self._memory.relieve()
            self._usage.sample()

    def _escalate(self, run: Run, worker: Worker, now: float) -> None:
        """Take the next step to end *run*, which has exceeded its time."""
        if run.interrupts == 0:
            self._interrupt(run, "timeout")
        elif run.interrupts == 1:
            run.interrupts = 2
            run.deadline = now + GRACE - INTERRUPT_WORKER_AGAIN
            worker.signal(signal.SIGINT)
        else:
            run.deadline = now + GRACE  # the kill that ends it may have to be repeated
            worker.signal(signal.SIGKILL)
            # A restored checkpoint may not be a child of this process, which then is not notified of its end.
            if not process_table.is_alive(worker.pid) and self._workers.on_exit(worker.pid) is worker:
                self.on_worker_exit(worker, -signal.SIGKILL)

    def _interrupt(self, run: Run, outcome: messages.Outcome) -> None:
        """Interrupt the worker and its children, like Ctrl-C in a terminal."""
        run.stopping = outcome
        run.interrupts = 1
        run.deadline = time.monotonic() + INTERRUPT_WORKER_AGAIN
        spared = self._runner_pids(self._workers.current)
        for pid in process_table.processes():
            if pid not in spared:
                process_table.send_signal(pid, signal.SIGINT)

    # -- progress

    def step(self) -> None:
        """Do everything that is due and possible, once nothing is left to be swept."""
        worker, run = self._workers.current, self._run
        if self.state is SessionState.RECOVERING and run is not None and not (worker is not None and worker.used):
            self._answer("restored" if run.is_first else "lost")  # a fresh worker is as good as before the first run
        if worker is None or worker.connection is None or self.is_executing or self.state is SessionState.RESETTING:
            return
        if self.state is SessionState.RECOVERING and run is not None:
            self.state = SessionState.PROBING
            self._execute(Run.probe(run.path), worker)
            return
        if self._is_checkpoint_due or (self.state is SessionState.WAITING and self._workers.has_lost_checkpoint):
            self._is_checkpoint_due = False
            if self._memory.is_tight:
                self._workers.drop_checkpoint("memory")
            else:
                self._workers.make_checkpoint()
        if self.state is SessionState.WAITING and run is not None and run.verdict is not None:
            if not run.verdict.allowed:
                worker.signal(signal.SIGCONT)
                run.outcome = "blocked"
                self._answer("kept")
            elif self._preparation.is_complete(run, worker) and not self._workers.is_making_checkpoint:
                self.state = SessionState.RUNNING
                self._execute(run, worker)

    def _execute(self, run: Run, worker: Worker) -> None:
        self._executing = run
        run.is_first = not worker.used
        worker.used = True
        pipe = self._output.begin(quiet=run.is_probe, unlimited=run.request.stream)
        run.started = time.monotonic()
        run.deadline = run.started + run.request.timeout
        self._workers.execute(run.to_execute(), [self._stdin.descriptor, pipe])
        self._stdin.close_readable()
        self._memory.begin()  # now, while the worker is only waking up
        self._usage.begin()

    def _end(self, run: Run, outcome: messages.Outcome, exit_code: int) -> None:
        run.written = self._output.end()
        run.outcome, run.exit_code = outcome, exit_code
        run.duration = time.monotonic() - run.started
        run.cpu_time, run.peak_memory = self._usage.end()
        if not run.is_probe:
            run.files, run.more_files = self._changes.take()
        self._executing = None
        self.is_sweep_due = True
        self._is_checkpoint_due = self.makes_checkpoints

    def _answer(self, state: messages.State) -> None:
        """Send the result of the run, before anything is cleaned up."""
        run, self._run = self._run, None
        assert run is not None
        self._stdin.end()
        self.state = SessionState.IDLE
        self._host.send(run.result(state, self._since, self._workers.unprotected))
        self._host.flush()
        self._since = "kept"
