"""Runs that go on without their client: who can look at them, how they end, and when they are forgotten."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest

from mcp_agentrun.audit import Trail, through
from mcp_agentrun.engine.network import NetworkSettings
from mcp_agentrun.errors import BusyError, CapacityError, InvalidRequestError, SandboxLostError
from mcp_agentrun.sandbox import AsyncRuntime, Output
from mcp_agentrun.sandbox.notes import run_notes
from mcp_agentrun.sessions import NEW, Caller, SessionManager, background_runs
from mcp_agentrun.sessions.background_runs import BackgroundRun
from mcp_agentrun.settings import Settings
from mcp_agentrun.wire import messages
from mcp_agentrun.wire.messages import Message
from tests.support.fake_engine import Answer, FakeEngine, honest_installer, honest_runner, open_sessions, result
from tests.support.virtual_time import virtual_time

pytestmark = pytest.mark.anyio

ALICE, BOB = Caller(None, "alice"), Caller(None, "bob")
PING_SECONDS = 15


class Runner:
    """Prints a line whenever it is pinged, and ends after so many lines, or when it is interrupted. At first, it prints
    the code.
    """

    def __init__(self, lines: int = 1 << 20) -> None:
        self.lines = lines
        self.received: list[Message] = []
        self._current: messages.Run | None = None
        self._lines = self._written = 0

    def __call__(self, message: Message) -> Sequence[Answer]:
        self.received.append(message)
        match message:
            case messages.Run():
                self._current, self._lines, self._written = message, 0, 0
                code = message.code.encode()
                return [self._print(code[at : at + 4096]) for at in range(0, len(code), 4096)]
            case messages.Ping() if self._current is not None:
                self._lines += 1
                line = self._print(b"line %d\n" % self._lines)
                return [messages.Pong(), line, *(self._end("ok") if self._lines == self.lines else ())]
            case messages.Cancel() if self._current is not None:
                return [self._print(b"KeyboardInterrupt\n"), *self._end("cancelled", exit_code=130)]
            case _:
                return honest_runner(message)

    def _print(self, data: bytes) -> Answer:
        self._written += len(data)
        return messages.OutputChunk(data=data)

    def _end(self, outcome: str, **changes: object) -> Sequence[Answer]:
        assert self._current is not None
        number, self._current = self._current.run, None
        return [result(number, outcome=outcome, written=self._written, **changes)]

    @property
    def codes(self) -> list[str]:
        """The codes that it was sent."""
        return [message.code for message in self.received if isinstance(message, messages.Run)]


@asynccontextmanager
async def sessions_with(*runners: Runner, **settings: object) -> AsyncGenerator[tuple[SessionManager, str]]:
    """The sessions of a server, and the handle of a sandbox of Alice that follows the first of *runners*."""
    everything = Settings(**{"pool": 0, "reserve": 1, **settings})  # pyright: ignore[reportArgumentType]
    async with open_sessions(everything, FakeEngine([honest_installer], runners)) as sessions:
        async with sessions.lease(ALICE, NEW) as lease:
            assert lease.handle is not None
            await lease.sandbox.ready()
        yield sessions, lease.handle


async def begun(run: BackgroundRun, written: int = 1) -> BackgroundRun:
    """Wait until *run* has printed so many bytes."""
    while run.written < written:
        assert run.status != "done", run.error
        await anyio.sleep(0.01)  # it tells nobody
    return run


@virtual_time
async def test_a_run_of_ten_minutes_outlives_its_client() -> None:
    runner = Runner(lines=600 // PING_SECONDS)
    async with sessions_with(runner, max_timeout=900, idle_ttl=60, max_ttl=120) as (sessions, handle):
        started = anyio.current_time()
        run_id = ""
        async with anyio.create_task_group() as client:
            run_id = (await sessions.runs.start(ALICE, handle, "code\n", timeout=900)).id
            client.cancel_scope.cancel()
        run = sessions.runs.get("alice", run_id)
        assert len(run_id) >= 16 and run.handle == handle
        await begun(run)
        assert (run.status, run.result, run.ended_at) == ("running", None, None)
        await run.wait(3.5 * PING_SECONDS)
        seen = run.output
        assert seen.text().startswith("code\nline 1\n")
        assert run.status == "running" and seen.written == run.written
        await run.wait(900)
        assert 600 - 2 * PING_SECONDS < anyio.current_time() - started < 600 + 2 * PING_SECONDS
        assert (run.status, run.error) == ("done", None) and run.result is not None
        assert run.result.outcome == "ok" and run.result.output == run.output
        _, new, end = run.output.since(seen.written, 1000, is_complete=True)
        assert seen.text() + new == run.output.text() and end == run.written
        assert run.started_at is not None and run.ended_at is not None
        assert run.created_at <= run.started_at <= run.ended_at
        assert sessions.count == 1, "the sandbox did not expire meanwhile"
        await anyio.sleep(59)
        assert sessions.runs.get("alice", run_id) is run
        await anyio.sleep(2)
        with pytest.raises(InvalidRequestError, match="no run with this id, or it has been forgotten"):
            sessions.runs.get("alice", run_id)
        assert sessions.count == 0, "and does now"


async def test_a_run_is_known_to_its_principal_only() -> None:
    async with sessions_with(Runner()) as (sessions, handle):
        run = await sessions.runs.start(ALICE, handle, "x")
        assert sessions.runs.get("alice", run.id) is run
        for principal, run_id in (("bob", run.id), ("", run.id), ("alice", run.id[:-1]), ("alice", "")):
            with pytest.raises(InvalidRequestError) as refused:
                sessions.runs.get(principal, run_id)
            assert refused.value.argument == "run"
        with pytest.raises(InvalidRequestError) as refused:
            await sessions.runs.start(BOB, handle, "x")
        assert refused.value.argument == "sandbox"


async def test_what_can_not_be_run_is_refused_at_once() -> None:
    runner = Runner()
    async with sessions_with(runner, max_timeout=30, code_limit=10, queue=1, max_sandboxes=8) as (sessions, handle):
        for code, timeout, argument in (("x", 31, "timeout"), ("x", 0, "timeout"), ("x" * 11, 1, "code")):
            with pytest.raises(InvalidRequestError) as refused:
                await sessions.runs.start(ALICE, handle, code, timeout=timeout)
            assert refused.value.argument == argument
        await begun(await sessions.runs.start(ALICE, handle, "1"))
        await sessions.runs.start(ALICE, handle, "2")
        await anyio.wait_all_tasks_blocked()
        with pytest.raises(BusyError, match="1 calls are waiting"):
            await sessions.runs.start(ALICE, handle, "3")
    assert runner.codes == ["1"]


async def test_a_cancelled_run_has_a_result() -> None:
    runner = Runner()
    async with sessions_with(runner) as (sessions, handle):
        run = await begun(await sessions.runs.start(ALICE, handle, "x\n"))
        with anyio.fail_after(20):
            await run.cancel()
            await run.cancel()
        assert run.status == "done" and run.result is not None
        assert (run.result.outcome, run.result.exit_code) == ("cancelled", 130)
        assert run.output.text() == "x\nKeyboardInterrupt\n"
        again = await begun(await sessions.runs.start(ALICE, handle, "y\n"))
        await sessions.runs.remove(again)
        assert again.result is not None and again.result.outcome == "cancelled"
        with pytest.raises(InvalidRequestError):
            sessions.runs.get("alice", again.id)
        assert sessions.runs.get("alice", run.id) is run


async def test_a_queued_run_is_cancelled_without_its_neighbour() -> None:
    runner = Runner()
    async with sessions_with(runner, timeout=7) as (sessions, handle):
        first = await begun(await sessions.runs.start(ALICE, handle, "first"))
        second = await sessions.runs.start(ALICE, handle, "second")
        await anyio.wait_all_tasks_blocked()
        assert (first.status, second.status) == ("running", "queued")
        await second.cancel()
        assert (second.status, second.started_at, second.output) == ("done", None, Output())
        assert second.result is not None
        assert (second.result.outcome, second.result.exit_code, second.result.state) == ("cancelled", None, "kept")
        assert second.result.timeout == second.result.limits.timeout == 7
        assert first.status == "running"
        await first.cancel()
    assert runner.codes == ["first"]


@virtual_time
async def test_a_run_whose_container_ignores_the_interrupt_is_cancelled() -> None:
    engine = FakeEngine([honest_installer], [Runner()])
    async with open_sessions(Settings(pool=0, reserve=1), engine) as sessions:
        run = await begun(await sessions.runs.start(ALICE, NEW, "x"))
        engine.frozen.update(engine.containers)
        with anyio.fail_after(3 * background_runs._INTERRUPT_SECONDS):  # pyright: ignore[reportPrivateUsage]
            await run.cancel()
        assert run.result is not None and (run.result.outcome, run.result.state) == ("cancelled", "lost")
        assert run.output.head.startswith(b"x")


async def test_a_run_that_is_cancelled_when_its_container_is_lost_has_an_error() -> None:
    engine = FakeEngine([honest_installer], [Runner()])
    async with open_sessions(Settings(pool=0, reserve=1), engine) as sessions:
        run = await begun(await sessions.runs.start(ALICE, NEW, "x"))

        async def lost() -> None:
            for container in [*engine.containers]:
                engine.lose(container)
            raise SandboxLostError("the link is broken")

        run._lease.sandbox.interrupt = lost  # pyright: ignore[reportPrivateUsage]
        await run.cancel()
        assert run.result is None and isinstance(run.error, SandboxLostError)


async def test_closing_a_sandbox_cancels_its_runs() -> None:
    caller = Caller("connection", "alice")
    async with sessions_with(Runner(), Runner()) as (sessions, _):
        first = await begun(await sessions.runs.start(caller, None, "x"))
        second = await sessions.runs.start(caller, None, "y")
        await anyio.wait_all_tasks_blocked()
        sessions.disconnect(caller.connection)
        with anyio.fail_after(20):
            for run in (first, second):
                await run.wait(20)
                assert run.error is None and run.result is not None
                assert (run.result.outcome, run.result.state) == ("cancelled", "lost")
                notes = run_notes(run.result)
                assert notes[1:] == ["The sandbox was closed or lost: its variables and files are gone."]
        assert (first.output.head, second.output.head) == (b"x", b"")


async def test_a_run_whose_container_is_lost_has_an_error() -> None:
    engine = FakeEngine([honest_installer], [Runner()])
    async with open_sessions(Settings(pool=0, reserve=1), engine) as sessions:
        run = await begun(await sessions.runs.start(ALICE, NEW, "x"))
        for container in [*engine.containers]:
            engine.lose(container)
        await run.wait(20)
        assert (run.status, run.result) == ("done", None)
        assert isinstance(run.error, SandboxLostError)
        assert (run.written, run.output.head) == (1, b"x"), "what it has printed stays"
        async with sessions.lease(ALICE, run.handle):
            pass  # the sandbox stays, although the call that opened it has failed


async def test_the_runs_of_a_principal_are_limited() -> None:
    async with sessions_with(*(Runner() for _ in range(3)), max_sandboxes=2, queue=1) as (sessions, handle):
        runs = [await begun(await sessions.runs.start(ALICE, handle, "x"))]
        runs += [await sessions.runs.start(ALICE, handle, "x"), await sessions.runs.start(ALICE, NEW, "x")]
        with pytest.raises(CapacityError, match="You have 3 background runs in progress") as refused:
            await sessions.runs.start(ALICE, runs[-1].handle, "x")
        assert (refused.value.reason, refused.value.limit) == ("quota", 3)
        await (await sessions.runs.start(BOB, NEW, "x")).cancel()
        for run in runs:
            await run.cancel()
        await (await sessions.runs.start(ALICE, handle, "x")).cancel()


async def test_earlier_runs_are_forgotten_for_later_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    async def ended(sessions: SessionManager, handle: str, code: str) -> BackgroundRun:
        run = await begun(await sessions.runs.start(ALICE, handle, code))
        await run.cancel()
        await anyio.wait_all_tasks_blocked()
        return run

    async with sessions_with(Runner(), Runner(), max_sandboxes=1, queue=1) as (sessions, handle):
        bobs = await begun(await sessions.runs.start(BOB, NEW, "x"))
        await bobs.cancel()
        runs = [await ended(sessions, handle, "x") for _ in range(3)]
        assert [run.forgotten.is_set() for run in runs] == [True, False, False]
        monkeypatch.setattr(background_runs, "_KEPT_BYTES", 200)
        assert not (await ended(sessions, handle, "x" * 500)).forgotten.is_set(), "the latest one is kept"
        assert [run.forgotten.is_set() for run in runs] == [True, True, True]
        assert sessions.runs.get("bob", bobs.id) is bobs


async def test_long_output_is_kept_at_its_beginning_and_end() -> None:
    async with sessions_with(Runner(), output_keep=1000, output_show=500) as (sessions, handle):
        code = "".join(f"{number:09}\n" for number in range(20_000))
        run = await begun(await sessions.runs.start(ALICE, handle, code), len(code))
        live = run.output
        await run.cancel()
        assert (live.head, run.output.head) == (code[:1000].encode(),) * 2
        assert live.tail == code[-(1 << 16) :].encode()


@virtual_time
async def test_the_end_of_a_server_waits_for_runs_and_then_cancels_them() -> None:
    runner = Runner()
    waited: list[bool] = []
    async with sessions_with(runner) as (sessions, handle):
        run = await begun(await sessions.runs.start(ALICE, handle, "x"))
        with anyio.move_on_after(30):
            await sessions.idle()
            waited.append(True)
    assert waited == []
    assert any(isinstance(message, messages.Cancel) for message in runner.received)
    assert run.result is not None and run.result.outcome == "cancelled"
    with pytest.raises(InvalidRequestError):
        sessions.runs.get("alice", run.id)


async def test_the_trail_says_how_each_run_began_and_ended_and_who_was_refused(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    settings = Settings(pool=0, reserve=1, max_sandboxes=1, queue=1, code_limit=100)
    runner = Runner()

    def short_if_ok(message: Message) -> Sequence[Answer]:
        return (honest_runner if isinstance(message, messages.Run) and message.code == "ok" else runner)(message)

    engine = FakeEngine([honest_installer], [short_if_ok])
    with Trail(settings, path) as trail, through("rest"):
        runtime = AsyncRuntime(settings, engine=engine, package_network=NetworkSettings())
        async with engine.running(), SessionManager(runtime, is_shared=True, audit=trail.record) as sessions:
            cancelled = await begun(await sessions.runs.start(ALICE, NEW, "secret"))
            queued = await sessions.runs.start(ALICE, cancelled.handle, "queued")
            await anyio.wait_all_tasks_blocked()
            with pytest.raises(CapacityError):
                await sessions.runs.start(ALICE, cancelled.handle, "3")
            await queued.cancel()
            with pytest.raises(InvalidRequestError):
                await sessions.runs.start(ALICE, cancelled.handle, "x" * 101)
            await cancelled.cancel()
            for principal in ("alice", "bob"):
                with pytest.raises(InvalidRequestError):
                    sessions.runs.get(principal, "guessed" if principal == "alice" else cancelled.id)
            with pytest.raises(InvalidRequestError):
                await sessions.runs.start(BOB, cancelled.handle, "stolen")
            ended = await sessions.runs.start(ALICE, cancelled.handle, "ok")
            await ended.wait(20)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(line["kind"], line["outcome"], line["who"], line.get("reason")) for line in lines] == [
        ("run", "started", "alice", None),
        ("run", "started", "alice", None),
        ("refusal", "refused", "alice", "quota"),
        ("run", "cancelled", "alice", None),  # the one that waited
        ("refusal", "refused", "alice", "code"),
        ("run", "cancelled", "alice", None),
        ("refusal", "refused", "alice", "run"),
        ("refusal", "refused", "bob", "run"),
        ("refusal", "refused", "bob", "sandbox"),
        ("run", "started", "alice", None),
        ("run", "ok", "alice", None),
    ]
    assert [line["action"] for line in lines if line["kind"] == "refusal"] == ["run", "run", "open", "open", "open"]
    assert {line["interface"] for line in lines} == {"rest"}
    first, second, *_, last, end = lines
    assert first["code_sha256"] == lines[5]["code_sha256"] != second["code_sha256"] == lines[3]["code_sha256"]
    assert last["code_sha256"] == end["code_sha256"] and last["sandbox"] == end["sandbox"]
    for secret in ("secret", "queued", cancelled.id, str(cancelled.handle)):
        assert secret not in path.read_text()
