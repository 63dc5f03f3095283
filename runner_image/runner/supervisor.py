"""PID 1 of a sandbox: owns the stream to the server, the processes, and every deadline. It never runs user code.

Everything happens in one loop over one epoll. Events only note what they saw; `Supervisor._step` then does whatever
has become possible, in an order that does not depend on the order of events.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Iterable

from mcp_agentrun.wire.codec import VERSION, FrameError, Kind, decode_json, encode, encode_json
from mcp_agentrun.wire.reports import PROBE, WRITABLE, is_report

from . import files, linux, missing, wipe
from .changes import Changes
from .checkers import Checkers
from .events import Events
from .output import Output
from .sockets import HostStream
from .workers import Worker, Workers

TYPE_CHECKING = False  # importing `typing` takes 2 ms, for which a first answer would wait
if TYPE_CHECKING:
    from typing import Any, NoReturn

    from .checkers import Verdict

HOST_SILENCE = 120.0
"""Seconds without a word from the server, which pings every 15, after which it is taken for dead."""

INTERRUPT_WORKER_AGAIN = 0.3
"""Seconds from the first interrupt, to the worker and its children, to the second, to the worker alone."""

GRACE = 1.0
"""Seconds from the first interrupt to the kill."""

TURN_CHECK = 1.0
"""Seconds between two looks, during a run, at whether workers could still report."""

MEMORY_CHECK = 0.02
"""Seconds between two looks, during a run, at whether the copy has to go for want of memory."""

TIGHT = 0.85
"""Share of the memory limit above which a copy does more harm than good."""

COPY_WORTH = 48 << 20
"""Bytes that dropping a copy must free."""

ITEMS, ITEMS_LIMIT = 16, 8 << 20
"""Pictures that are forwarded of one run, and their bytes."""

_INTERRUPTED = 130
"""Exit code of what ^C has ended."""

_MOST_REQUIREMENTS = 50

WIPE_SECONDS = 20.0
WARM_SECONDS = 20.0
PROBE_SECONDS = 2.0


class Run:
    """One execution of code, from its arrival to its result.

    :param bare: at *path* there are others in place of the data packages that workers come with.
    :param is_probe: it is empty code, by which a restored copy shows that it lives.
    """

    def __init__(
        self,
        number: int,
        code: str,
        path: str | None,
        timeout: float,
        *,
        bare: bool = False,
        is_probe: bool = False,
    ) -> None:
        self.number = number
        self.code = code
        self.path = path
        self.timeout = timeout
        self.bare = bare
        self.is_probe = is_probe
        self.received = time.monotonic()
        self.started = 0.0
        self.deadline = float("inf")
        """When the next step of ending the run is due: interrupt, second interrupt, kill."""
        self.stopping: str | None = None
        """Outcome that a forced end will have: ``timeout`` or ``cancelled``."""
        self.interrupts = 0
        self.oom_kills = 0
        self.not_shared: int | None = None
        """Bytes that processes other than its worker had for themselves soon after it began."""
        self.is_first = False
        """Of its worker: there were no variables yet."""
        self.items = 0
        """Pictures forwarded; `items_size` are their bytes, of which `items_missing` are to come."""
        self.items_size = 0
        self.items_missing = 0
        self.verdict: Verdict | None = None
        """What the checker says of the code; nothing runs without."""
        self.is_held = False
        """Until the server has answered what becomes of modules that it imports and that are missing."""
        self.result: dict[str, Any] | None = None
        """Set when it has ended."""


class Reset:
    """A reset under way."""

    def __init__(self, *, keep_files: bool, bare: bool) -> None:
        self.keep_files = keep_files
        self.bare = bare
        self.janitor: int | None = None
        self.deadline = float("inf")
        self.wiped = keep_files


class Supervisor:
    """See the module. Construct, then `serve`."""

    def __init__(self) -> None:
        self._events = Events()
        self._host = HostStream()
        self._heard = time.monotonic()
        self._output = Output(self._events, self._host)
        self._workers = Workers(self._events, self._on_report, self._on_item)
        self._checkers = Checkers(self._events, self._quieten)
        self._modules = missing.Modules()
        self._installs = self._auto_install = False
        self._memory = linux.Memory()
        self._changes = Changes()
        self._files = files.Files(self._host, self._changes, self._memory)
        self._preload: list[str] = []
        self._data: list[str] = []
        self._checkpoints = False
        self._announced = False
        self._waiting: Run | None = None
        self._run: Run | None = None
        self._ended: Run | None = None
        """A run whose worker is gone: its result waits for what becomes of the session."""
        self._reset: Reset | None = None
        self._sweep_due = False
        self._copy_due = False
        self._since = "kept"
        """What has become of the variables since the last result."""
        self._nowhere = os.open(os.devnull, os.O_RDONLY)

    def serve(self) -> NoReturn:
        self._listen_for_children()
        self._checkers.begin()
        self._events.watch(self._host.readable_fd, self._on_host)
        while True:
            self._step()
            self._flush()
            self._events.wait(self._patience())
            self._keep_deadlines()
            if self._host.ended:
                os._exit(0)

    def _flush(self) -> None:
        self._host.flush()
        if self._host.has_unsent:
            self._events.watch(self._host.writable_fd, self._host.flush, write=True)
        else:
            self._events.forget(self._host.writable_fd)

    def _patience(self) -> float:
        """Seconds until the next deadline, which `_keep_deadlines` keeps."""
        now = time.monotonic()
        due = min(self._heard + HOST_SILENCE, self._output.adjust(now), self._workers.deadline, self._checkers.deadline)
        if self._run is not None:
            check = TURN_CHECK if self._workers.copy is None else MEMORY_CHECK
            due = min(due, self._run.deadline, now + check)
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

        self._events.watch(read, on_child)

    def _on_host(self) -> None:
        for kind, payload in self._host.receive():
            self._heard = time.monotonic()
            if kind is Kind.PING:
                self._host.send(encode(Kind.PONG))
            elif kind is Kind.HELLO:
                self._on_hello(decode_json(payload))
            elif kind is Kind.RUN:
                fields = decode_json(payload)
                timeout, bare = float(fields["timeout"]), bool(fields["bare"])
                self._on_run(Run(fields["run"], fields["code"], fields["path"], timeout, bare=bare))
            elif kind is Kind.PROCEED:
                self._on_proceed(decode_json(payload))
            elif kind is Kind.CANCEL:
                self._on_cancel(decode_json(payload)["run"])
            elif kind in files.KINDS:
                self._files.handle(kind, payload)
            elif kind is Kind.RESET:
                fields = decode_json(payload)
                self._on_reset(Reset(keep_files=bool(fields["keep_files"]), bare=bool(fields["bare"])))
            else:
                raise FrameError(f"a {kind.name} frame is not for a supervisor")

    def _on_hello(self, fields: dict[str, Any]) -> None:
        if fields["version"] != VERSION:
            raise FrameError(f"the server speaks version {fields['version']}, this image {VERSION}")
        self._data = fields["data"]
        self._preload = fields["preload"]
        self._output.keep = fields["output_keep"]
        self._checkpoints = fields["checkpoints"]
        self._installs, self._auto_install = fields["installs"], fields["auto_install"]
        linux.user_processes[0] = fields["user_pids"]
        self._checkers.configure(fields["safety"])
        self._workers.begin(self._preload)

    def _on_run(self, run: Run) -> None:
        def on_verdict(verdict: Verdict) -> None:
            run.verdict = verdict
            if not verdict["allowed"]:
                return
            names = self._modules.missing(verdict["imports"], run.path) if self._auto_install else []
            requirements: list[str] = verdict["requirements"][:_MOST_REQUIREMENTS] if self._installs else []
            if names or requirements:
                run.is_held = True
                self._host.send_json(Kind.MISSING, run=run.number, names=names, requirements=requirements)

        self._waiting = run
        self._choose_worker(run)
        self._checkers.check(run.code, on_verdict)

    def _on_proceed(self, fields: dict[str, Any]) -> None:
        run = self._waiting
        if run is not None and run.number == fields["run"]:
            run.is_held = False
            run.path, run.bare = fields["path"], bool(fields["bare"])
            self._choose_worker(run)

    def _choose_worker(self, run: Run) -> None:
        """Have *run* begin in a worker that has what it should have, unless there are variables that it needs."""
        worker = self._workers.current
        if worker is None or not worker.used:
            self._workers.preload([] if run.bare else self._preload)

    def _on_cancel(self, number: int) -> None:
        if self._waiting is not None and self._waiting.number == number:
            run, self._waiting = self._waiting, None
            self._checkers.cancel()
            run.result = _result(run, "cancelled")
            self._answer(run, "kept")
        elif self._run is not None and self._run.number == number and self._run.stopping is None:
            self._interrupt(self._run, "cancelled")

    def _on_reset(self, reset: Reset) -> None:
        if self._run is not None or self._ended is not None or self._waiting is not None:
            raise FrameError("a reset in the middle of a run")
        self._reset = reset
        self._modules.forget()
        self._workers.renew()
        self._workers.preload([] if reset.bare else self._preload)
        self._since = "kept"
        self._sweep_due = True
        self._copy_due = False

    def _on_report(self, worker: Worker, payload: bytes) -> None:
        run = self._run
        if run is None:
            raise FrameError("out of turn")
        report = decode_json(payload)
        if not is_report(report, run.number):
            raise FrameError("malformed report")
        outcome = run.stopping or ("ok" if report["ok"] else "error")
        # Code that has caught our interrupt may have gone on to a good end of its own, but not in time.
        exit_code = report["exit_code"] or (_INTERRUPTED if run.stopping else 0)
        self._end_run(run, outcome, report, exit_code=exit_code)
        if report["left"] and run.result is not None and not self._workers.is_in_birth:
            strays = set(linux.processes()) - self._ours() - self._workers.dying
            run.result["ended"] = sum(map(linux.is_alive, strays))
        if not report["changed"] and self._workers.copy is not None:
            self._copy_due = False
        if run.is_probe:
            assert self._ended is not None
            ended, self._ended = self._ended, None
            self._answer(ended, "restored")
        else:
            self._answer(run, "kept")

    def _on_item(self, kind: Kind, payload: bytes) -> None:
        run = self._run
        if run is None:
            raise FrameError("out of turn")
        if kind is Kind.ITEM:
            fields = decode_json(payload)
            size = fields.get("size")
            if fields.get("type") != "image/png" or type(size) is not int or run.items_missing or run.items >= ITEMS:
                raise FrameError("no picture")
            run.items += 1
            run.items_size += size
            run.items_missing = size
            if not 0 < size <= run.items_size <= ITEMS_LIMIT:
                raise FrameError("too large a picture")
        elif 0 < len(payload) <= run.items_missing:
            run.items_missing -= len(payload)
        else:
            raise FrameError("more than the picture")
        if not run.is_probe:
            self._host.send(encode(kind, payload))

    # -- deadlines

    def _keep_deadlines(self) -> None:
        now = time.monotonic()
        if now - self._heard > HOST_SILENCE:
            os._exit(0)
        self._workers.keep_deadlines(now)
        self._checkers.keep_deadlines(now)
        run, worker = self._run, self._workers.current
        if run is not None:
            if now >= run.deadline and worker is not None:
                self._hasten(run, worker, now)
            if now - run.started > TURN_CHECK:
                self._workers.check_listener()
            if now - run.started > MEMORY_CHECK:
                self._relieve_memory()
        reset = self._reset
        if reset is not None and now >= reset.deadline and not reset.wiped:
            os._exit(1)  # files that can't be removed: only a new container is clean

    def _hasten(self, run: Run, worker: Worker, now: float) -> None:
        """The next step of ending *run*."""
        if run.interrupts == 0:
            self._interrupt(run, "timeout")
        elif run.interrupts == 1:
            run.interrupts = 2
            run.deadline = now + GRACE - INTERRUPT_WORKER_AGAIN
            self._workers.signal(worker, signal.SIGINT)
        else:
            run.deadline = now + GRACE  # the kill that ends it may have to be repeated
            self._workers.signal(worker, signal.SIGKILL)
            if not linux.is_alive(worker.pid):  # a copy that is not our child ends without a word
                self._bury([(worker.pid, -signal.SIGKILL)])

    def _interrupt(self, run: Run, outcome: str) -> None:
        """Interrupt as ^C in a terminal does: the worker and everything it has started, at once."""
        run.stopping = outcome
        run.interrupts = 1
        run.deadline = time.monotonic() + INTERRUPT_WORKER_AGAIN
        spared = self._ours(but=self._workers.current)
        for pid in linux.processes():
            if pid not in spared:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGINT)

    def _relieve_memory(self) -> None:
        """Give up the copy where its memory, no longer shared with the worker, is what the run lacks."""
        worker, run = self._workers.current, self._run
        if worker is None or run is None or self._workers.copy is None:
            return
        if run.not_shared is None:
            run.not_shared = self._not_shared_with(worker)
        elif (
            self._memory.share() > TIGHT
            and self._memory.oom_kills() == run.oom_kills
            and self._not_shared_with(worker) > run.not_shared + COPY_WORTH
        ):
            self._workers.drop_copy("memory")

    def _not_shared_with(self, worker: Worker) -> int:
        """Bytes that other processes than *worker* have for themselves."""
        in_worker = linux.anonymous_memory(worker.pid)
        if not in_worker:  # it is just ending, and the accounts don't agree
            return 0
        in_zygote = 0 if worker.warm else linux.anonymous_memory(self._workers.zygote_pid)
        return self._memory.anonymous() - in_worker - in_zygote

    # -- processes

    def _ours(self, *, but: Worker | None = None) -> set[int]:
        """The pids that are not a run's strays."""
        pids = self._workers.pids(but=but) | self._checkers.pids() | {1}
        if self._reset is not None and self._reset.janitor is not None:
            pids.add(self._reset.janitor)
        return pids

    def _bury(self, ended: Iterable[tuple[int, int]]) -> None:
        current = self._workers.current
        # The worker last: a copy that has ended along with it is none to restore.
        for pid, code in sorted(ended, key=lambda each: current is not None and each[0] == current.pid):
            reset = self._reset
            if reset is not None and pid == reset.janitor:
                if code != 0:
                    os._exit(1)  # as above
                reset.janitor = None
                reset.wiped = True
                continue
            worker = None if self._checkers.bury(pid) else self._workers.bury(pid)
            if worker is not None:
                self._on_death(worker, code)

    def _quieten(self) -> bool:
        """Stop the worker, which waits for its turn, until that comes: a thread of it may be what ends the checkers.

        :returns: False if that can't be now, because it is making a copy, for a few seconds at most.
        """
        if self._workers.is_copying:
            return False
        worker = self._workers.current
        if worker is not None and worker.turn is not None:
            self._workers.signal(worker, signal.SIGSTOP)
        return True

    def _on_death(self, worker: Worker, code: int) -> None:
        """The current worker has ended: in its run, or between two."""
        self._sweep_due = True
        self._copy_due = False
        run = self._run
        if run is None:
            if worker.used and self._ended is not None:  # a restored copy, killed together with the worker
                self._workers.unprotected = "died"
            elif worker.used:
                self._since = "restored" if self._workers.restore() else "lost"
                self._copy_due = self._checkpoints
            return
        outcome = run.stopping or ("memory_limit" if self._memory.oom_kills() > run.oom_kills else "crashed")
        self._end_run(run, outcome, exit_code=code)
        if self._ended is None:
            self._ended = run
            if not run.is_first:
                self._workers.restore()
        else:  # a restored copy has died of an empty run: what killed it is in the copy itself
            self._workers.unprotected = "died"

    # -- what has become possible

    def _step(self) -> None:
        """Do whatever is due and possible now; called after every round of events."""
        workers = self._workers
        workers.step()
        self._checkers.step()
        if self._sweep_due and self._run is None and not workers.is_in_birth:
            self._sweep_due = False
            self._bury(linux.sweep(self._ours()))
            workers.dying.clear()
            workers.step()
        if self._sweep_due:
            return
        self._continue_reset()
        worker = workers.current
        if self._ended is not None and self._run is None and not (worker is not None and worker.used):
            ended, self._ended = self._ended, None
            self._answer(
                ended, "restored" if ended.is_first else "lost"
            )  # a fresh worker is as good as before the first
        if worker is None:
            return
        if not self._announced:
            self._announced = True
            self._host.send_json(
                Kind.READY,
                distributions=missing.distributions(),
                boot=linux.boot_id(),
                data={path: linux.identity(path) for path in self._data},
            )
        if worker.turn is None or self._reset is not None or self._run is not None:
            return
        if self._ended is not None:
            self._start(Run(PROBE, "", self._ended.path, PROBE_SECONDS, is_probe=True))
            return
        if self._copy_due:
            self._copy_due = False
            if self._memory.share() > TIGHT:
                workers.drop_copy("memory")
            else:
                workers.make_copy()
        if self._waiting is None or self._waiting.verdict is None or self._waiting.is_held:
            return
        if not self._waiting.verdict["allowed"]:
            run, self._waiting = self._waiting, None
            workers.signal(worker, signal.SIGCONT)
            run.result = _result(run, "blocked")
            self._answer(run, "kept")
        elif not workers.is_copying and not self._is_worth_warming(worker):
            run, self._waiting = self._waiting, None
            self._start(run)

    def _continue_reset(self) -> None:
        reset = self._reset
        if reset is None:
            return
        if not reset.wiped and reset.janitor is None and not self._workers.is_in_birth:
            if reset.deadline == float("inf"):
                reset.deadline = time.monotonic() + WIPE_SECONDS
                self._workers.listen()  # what the code has put beside the socket goes, too
            with contextlib.suppress(BlockingIOError):  # what was killed still counts: once it is reaped, there is room
                reset.janitor = self._start_janitor()
        if reset.wiped and self._workers.current is not None:
            self._reset = None
            self._output.forget_late()
            if not reset.keep_files:
                self._changes.forget()
            self._host.send_json(Kind.RESET_DONE)

    @staticmethod
    def _start_janitor() -> int:
        """Wipe in a process of its own: a hostile tree takes as long as it takes."""
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                for folder, mode in WRITABLE.items():
                    wipe.empty(folder, mode)
                wipe.furnish(os.environ["HOME"])
                status = 0
            finally:
                os._exit(status)
        return pid

    # -- runs

    def _is_worth_warming(self, worker: Worker) -> bool:
        """Whether code that names a data package should wait for the worker that has it: the import is under way
        already, and would only be made a second time beside it.
        """
        run = self._waiting
        if run is None or worker.used or worker.warm or time.monotonic() >= run.received + WARM_SECONDS:
            return False
        return any(name.partition(".")[0] in run.code for name in self._preload)

    def _start(self, run: Run) -> None:
        worker = self._workers.current
        assert worker is not None
        self._run = run
        run.is_first = not worker.used
        worker.used = True
        pipe = self._output.begin(quiet=run.is_probe)
        run.started = time.monotonic()
        run.deadline = run.started + run.timeout
        request = encode_json(Kind.RUN, run=run.number, code=run.code, path=run.path)
        self._workers.give(request, [self._nowhere, pipe])
        run.oom_kills = self._memory.oom_kills()  # now, while the worker is only waking up

    def _end_run(
        self, run: Run, outcome: str, report: dict[str, Any] | None = None, *, exit_code: int | None = None
    ) -> None:
        written = self._output.end()
        run.result = _result(run, outcome, report, exit_code=exit_code, written=written)
        if not run.is_probe:
            run.result["files"], run.result["more_files"] = self._changes.take()
        self._run = None
        self._sweep_due = True
        self._copy_due = self._checkpoints

    def _answer(self, run: Run, state: str) -> None:
        """Send the result of *run*: at once, for whatever is to be tidied up can wait."""
        assert run.result is not None
        self._host.send_json(
            Kind.RESULT, **run.result, state=state, since=self._since, unprotected=self._workers.unprotected
        )
        self._host.flush()
        self._since = "kept"


def _result(
    run: Run, outcome: str, report: dict[str, Any] | None = None, *, exit_code: int | None = None, written: int = 0
) -> dict[str, Any]:
    return {
        "run": run.number,
        "outcome": outcome,
        "duration": time.monotonic() - run.started if run.started else 0.0,
        "exit_code": exit_code,
        "error": report["error"] if report else None,
        "value": report["value"] if report else None,
        "imported": report["imported"] if report else None,
        "written": written,
        "files": [],
        "more_files": 0,
        "ended": 0,
        "findings": run.verdict["findings"] if run.verdict else [],
    }


def main() -> NoReturn:
    linux.set_dumpable(False)
    linux.set_name("supervisor")
    supervisor = Supervisor()
    try:
        supervisor.serve()
    except FrameError as error:
        sys.stderr.write(f"supervisor: {error}\n")
    os._exit(1)
