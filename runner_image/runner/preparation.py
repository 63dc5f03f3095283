"""What a run waits for before it starts: a verdict on its code, missing packages, and a suitable worker."""

from __future__ import annotations

import time

from mcp_agentrun.wire import messages

from . import missing
from .checkers import Checkers
from .run import Run
from .sockets import HostStream
from .workers import Worker, Workers

WARM_SECONDS = 20.0  # longest time that a run waits for a worker that has imported what it needs


class Preparation:
    """Prepares one run at a time."""

    def __init__(self, host: HostStream, workers: Workers, checkers: Checkers) -> None:
        self._host = host
        self._workers = workers
        self._checkers = checkers
        self._modules = missing.Modules()
        self._preload: tuple[str, ...] = ()
        self._installs = self._auto_install = False

    def configure(self, hello: messages.SupervisorHello) -> None:
        self._preload = hello.preload
        self._installs, self._auto_install = hello.installs, hello.auto_install

    def begin(self, run: Run) -> None:
        """Have the code of *run* checked, and a suitable worker made."""

        def on_verdict(verdict: messages.Verdict) -> None:
            run.verdict = verdict
            if verdict.allowed:
                self._request_packages(run, verdict)

        self._choose_worker(run)
        self._checkers.check(run.request.code, on_verdict)

    def proceed(self, run: Run, answer: messages.Proceed) -> None:
        """Continue with *run*, which has waited for packages."""
        run.is_held = False
        run.path, run.no_preload = answer.path, answer.no_preload
        self._choose_worker(run)

    def cancel(self) -> None:
        self._checkers.cancel()

    def reset(self, *, no_preload: bool) -> None:
        """Prepare for the first run of a new session."""
        self._modules.forget()
        self._preload_for(no_preload)

    def is_complete(self, run: Run, worker: Worker) -> bool:
        """Whether *run*, if it is allowed at all, can start in *worker*."""
        return run.verdict is not None and not run.is_held and not self._is_worth_warming(run, worker)

    @staticmethod
    def deadline(run: Run, now: float) -> float:
        """When *run* stops waiting for a worker that has imported what it needs."""
        due = run.received + WARM_SECONDS
        return due if now < due else float("inf")

    def _choose_worker(self, run: Run) -> None:
        """Have *run* start in a worker with the right imports, unless there are variables that it needs."""
        worker = self._workers.current
        if worker is None or not worker.used:
            self._preload_for(run.no_preload)

    def _preload_for(self, no_preload: bool) -> None:
        self._workers.preload(() if no_preload else self._preload)

    def _request_packages(self, run: Run, verdict: messages.Verdict) -> None:
        names = tuple(self._modules.missing(verdict.imports, run.path)) if self._auto_install else ()
        requirements = verdict.requirements if self._installs else ()
        if names or requirements:
            run.is_held = True
            self._host.send(messages.MissingPackages(run=run.number, names=names, requirements=requirements))

    def _is_worth_warming(self, run: Run, worker: Worker) -> bool:
        """Whether code that names a data package should wait for a worker that has imported it. The import is under
        way, and would only be repeated beside it.
        """
        if worker.used or worker.warm or time.monotonic() >= run.received + WARM_SECONDS:
            return False
        return any(name.partition(".")[0] in run.request.code for name in self._preload)
