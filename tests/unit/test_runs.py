"""The states of a session in the supervisor, with processes that are only said to exist."""

from __future__ import annotations

import importlib
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from mcp_agentrun.wire import messages
from mcp_agentrun.wire.codec import ProtocolError
from tests.support import CHECKOUT

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the supervisor runs on Linux")


class Worker:
    def __init__(self, *, used: bool = False) -> None:
        self.pid = 0
        self.connection: object = "open"
        self.used = used
        self.warm = True

    def signal(self, number: int) -> None: ...


class Workers:
    """A current worker and, where the test wants that, a checkpoint."""

    is_forking = is_making_checkpoint = False
    unprotected: str | None = None

    @property
    def has_lost_checkpoint(self) -> bool:
        return self.unprotected == "died" and self.current is not None and self.current.used

    def __init__(self) -> None:
        self.current: Worker | None = Worker()
        self.checkpoint: Worker | None = None
        self.dying: set[int] = set()

    def execute(self, request: messages.Execute, descriptors: object) -> None:
        assert self.current is not None
        self.current.connection = None

    def restore(self) -> bool:
        self.current, self.checkpoint = self.checkpoint, None
        return self.current is not None

    def begin_reset(self) -> None:
        self.current, self.checkpoint = Worker(), None

    def preload(self, names: object) -> None: ...

    def make_checkpoint(self) -> None:
        self.checkpoint, self.unprotected = Worker(used=True), None


def _begin(**_options: bool) -> int:
    return 0


def _ignore(**_options: bool) -> None:
    pass


def _runner_pids(_without: object) -> set[int]:
    return set()


class Session:
    """Runs, and what happens to them; `sent` is what the server gets."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.syspath_prepend(CHECKOUT / "runner_image")
        runs, preparation = importlib.import_module("runner.runs"), importlib.import_module("runner.preparation")
        monkeypatch.setattr("runner.linux.process_table.processes", lambda: ())
        self.sent: list[messages.Message] = []
        self.workers = Workers()
        host = SimpleNamespace(send=self.sent.append, flush=lambda: None)
        checkers = SimpleNamespace(check=self._check, cancel=lambda: None)
        memory = SimpleNamespace(begin=lambda: None, relieve=lambda: None, was_exceeded=False, is_tight=False)
        usage = SimpleNamespace(begin=lambda: None, sample=lambda: None, end=lambda: (0.25, 1 << 20))
        output = SimpleNamespace(begin=_begin, end=lambda: 0)
        stdin = SimpleNamespace(begin=_ignore, close_readable=lambda: None, end=lambda: None, descriptor=0)
        changes = SimpleNamespace(take=lambda: ((), 0))
        prepared: Any = preparation.Preparation(host, self.workers, checkers)
        self.runs: Any = runs.Runs(host, output, stdin, self.workers, prepared, changes, memory, usage, _runner_pids)
        self.runs.makes_checkpoints = True

    @property
    def state(self) -> str:
        return self.runs.state.name

    def _check(self, code: str, on_verdict: Any) -> None:
        self._on_verdict = on_verdict

    def receive(self, *, allowed: bool | None = True) -> None:
        """Run 1 arrives, and is judged."""
        self.runs.receive(messages.Run(run=1, code="1", timeout=1.0, path=None, no_preload=False))
        if allowed is not None:
            self._on_verdict(messages.Verdict(allowed=allowed, findings=(), imports=(), requirements=()))
        self.runs.step()

    def report(self, run: int = 1, *, changed: bool = True) -> None:
        assert self.workers.current is not None
        self.workers.current.connection = "open"
        report = messages.RunReport(
            run=run, ok=True, changed=changed, left=False, exit_code=0, value=None, error=None, imported=()
        )
        self.runs.on_report(report)
        self.runs.step()

    def die(self) -> None:
        """The worker ends; a step later there is the checkpoint, or a fresh one."""
        worker, self.workers.current = self.workers.current, None
        self.runs.on_worker_exit(worker, -9)
        assert self.state == "RECOVERING"
        self.workers.current = self.workers.current or Worker()
        self.runs.step()

    @property
    def results(self) -> list[tuple[str, str]]:
        """Outcome and state of each result."""
        return [(each.outcome, each.state) for each in self.sent if isinstance(each, messages.RunResult)]


@pytest.fixture
def session(monkeypatch: pytest.MonkeyPatch) -> Session:
    return Session(monkeypatch)


def test_a_run_waits_for_its_verdict_runs_and_is_answered(session: Session) -> None:
    session.receive(allowed=None)
    assert session.state == "WAITING"
    session._on_verdict(  # pyright: ignore[reportPrivateUsage]
        messages.Verdict(allowed=True, findings=(), imports=(), requirements=())
    )
    session.runs.step()
    assert (session.state, session.results) == ("RUNNING", [])
    session.report()
    assert (session.state, session.results) == ("IDLE", [("ok", "kept")])


def test_blocked_and_cancelled_code_does_not_run(session: Session) -> None:
    session.receive(allowed=False)
    session.receive(allowed=None)
    session.runs.cancel(2)
    assert session.state == "WAITING"
    session.runs.cancel(1)
    assert (session.state, session.results) == ("IDLE", [("blocked", "kept"), ("cancelled", "kept")])


def test_nothing_is_lost_where_the_first_run_crashes(session: Session) -> None:
    session.receive()
    session.die()
    assert (session.state, session.results) == ("IDLE", [("crashed", "restored")])


def test_without_a_checkpoint_the_variables_are_lost(session: Session) -> None:
    session.workers.current = Worker(used=True)
    session.receive()
    session.die()
    assert (session.state, session.results) == ("IDLE", [("crashed", "lost")])


def test_a_checkpoint_is_probed_before_it_counts(session: Session) -> None:
    session.receive()
    session.report()
    session.receive()
    session.die()
    assert (session.state, session.results[1:]) == ("PROBING", [])
    session.report(messages.PROBE)
    assert (session.state, session.results[1:]) == ("IDLE", [("crashed", "restored")])


def test_a_checkpoint_that_dies_of_its_probe_is_given_up(session: Session) -> None:
    session.receive()
    session.report()
    session.receive()
    session.die()
    session.die()
    assert (session.state, session.results[1:]) == ("IDLE", [("crashed", "lost")])
    assert isinstance(session.sent[-1], messages.RunResult) and session.sent[-1].unprotected == "died"


def test_a_checkpoint_that_dies_unnoticed_is_made_again_before_the_next_run(session: Session) -> None:
    session.workers.current = Worker(used=True)
    session.workers.make_checkpoint()
    session.receive()
    session.report(changed=False)
    session.workers.checkpoint, session.workers.unprotected = None, "died"
    session.runs.step()
    assert session.workers.checkpoint is None, "there is no run that could need it"
    session.receive()
    assert session.workers.checkpoint is not None
    session.die()
    session.report(messages.PROBE)
    assert session.results == [("ok", "kept"), ("crashed", "restored")]


def test_requests_wait_for_an_idle_session(session: Session) -> None:
    """The server sends one at a time. Another one would be a defect, and the container ends."""
    session.runs.begin_reset(no_preload=False)
    assert session.state == "RESETTING"
    with pytest.raises(ProtocolError, match="RESETTING"):
        session.receive()
    session.runs.end_reset()
    session.receive()
    for request in (session.receive, lambda: session.runs.begin_reset(no_preload=False)):
        with pytest.raises(ProtocolError, match="RUNNING"):
            request()


def test_a_report_of_another_run_is_refused(session: Session) -> None:
    with pytest.raises(ProtocolError, match="no such run"):
        session.report()
    session.receive()
    for number in (0, 2):
        with pytest.raises(ProtocolError, match="no such run"):
            session.report(number)
