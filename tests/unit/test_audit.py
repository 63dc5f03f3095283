"""The audit trail: what a line says and never says, and that no line is torn or lost without being counted."""

from __future__ import annotations

import json
import logging
import os
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mcp_agentrun import AsyncRuntime, CapacityError, FileError, InvalidRequestError, Settings, SettingsError
from mcp_agentrun.audit import Record, Trail, record_of, through, trail_files
from mcp_agentrun.engine.network import NetworkSettings
from mcp_agentrun.sandbox import (
    Event,
    FileDone,
    InstallDone,
    Installed,
    Output,
    Refused,
    Result,
    RunDone,
    RunError,
    Timing,
)
from mcp_agentrun.sessions import Caller, SessionManager
from mcp_agentrun.wire import messages
from tests.support.audit_questions import HAS_JQ
from tests.support.fake_engine import FakeEngine, honest_runner, result

ALICE = Caller("a connection", '["alice",null,null]')
OK = Timing(0.5, 0.1, None)


def _record(number: int) -> Record:
    return Record(time="2026-01-01T00:00:00.000Z", kind="run", outcome="ok", who=str(number))


def _lines(path: Path) -> list[dict[str, Any]]:
    """All lines, in order. A torn one is an error."""
    return [json.loads(line) for each in trail_files(path) for line in each.read_bytes().splitlines()]


def _trail(path: Path, **options: Any) -> Trail:
    return Trail(Settings(audit_file=path, **options), path)


async def _audited(
    path: Path, act: Callable[[SessionManager], Any], *, runner: Any = honest_runner, **options: Any
) -> list[dict[str, Any]]:
    """The lines of what *act* does with the sandboxes of a server."""
    settings, engine = Settings(audit_file=path, **options), FakeEngine(runners=[runner])
    with _trail(path, **options) as trail:
        runtime = AsyncRuntime(settings, engine=engine, package_network=NetworkSettings())
        async with engine.running(), SessionManager(runtime, audit=trail.record) as sessions:
            await act(sessions)
    return _lines(path)


async def test_each_call_is_a_line_that_says_who_did_what_through_which_interface(tmp_path: Path) -> None:
    async def act(sessions: SessionManager) -> None:
        with through("mcp"):
            async with sessions.lease(ALICE, None) as lease:
                await lease.sandbox.run("secret = 1")
        with through("rest"):
            async with sessions.lease(ALICE, None) as lease:
                await lease.sandbox.install("x")
                await lease.sandbox.reset(keep_files=True)
                await lease.sandbox.files.write("a.txt", b"content")
                await lease.sandbox.files.stat("a.txt")
                await lease.sandbox.files.list()
                await lease.sandbox.files.remove("a.txt")

    lines = await _audited(tmp_path / "audit.jsonl", act)
    assert [(line["kind"], line.get("action"), line["interface"]) for line in lines] == [
        ("run", None, "mcp"),
        ("install", None, "rest"),
        ("reset", None, "rest"),
        ("file", "write", "rest"),
        ("file", "stat", "rest"),
        ("file", "list", "rest"),
        ("file", "remove", "rest"),
    ]
    assert {(line["who"], line["outcome"], len(line["sandbox"])) for line in lines} == {("alice", "ok", 12)}
    assert len({line["sandbox"] for line in lines}) == 1
    run, install, reset, write, *_ = lines
    assert len(run["code_sha256"]) == 64
    assert "code" not in run
    assert (install["cause"], install["requirements"], install["packages"]) == ("request", ["x"], ["x==1.0"])
    assert (reset["keep"], write["path"], write["size"]) == (["files"], "a.txt", 7)
    assert "content" not in str(lines)
    assert "secret" not in str(lines)


async def test_a_run_has_its_outcome_times_memory_and_limits(tmp_path: Path) -> None:
    def runner(message: messages.Message) -> Any:
        if not isinstance(message, messages.Run):
            return honest_runner(message)
        ended = result(outcome="timeout", duration=2.0, cpu_time=1.5, peak_memory=1 << 20, written=9)
        return [messages.OutputChunk(data=b"private"), ended]

    async def act(sessions: SessionManager) -> None:
        async with sessions.lease(ALICE, None) as lease:
            await lease.sandbox.run("print(1)")

    (line,) = await _audited(tmp_path / "audit.jsonl", act, runner=runner, audit_code=True)
    measured = ("outcome", "run_seconds", "cpu_seconds", "peak_memory", "output_bytes", "limits", "code")
    assert [line[name] for name in measured] == ["timeout", 2.0, 1.5, 1 << 20, 9, ["timeout", "output"], "print(1)"]
    assert line["seconds"] >= line["queue_seconds"] >= 0
    assert line["time"].endswith("Z")
    assert "private" not in str(line)


async def test_refusals_say_why(tmp_path: Path) -> None:
    def runner(message: messages.Message) -> Any:
        if not isinstance(message, messages.Run):
            return honest_runner(message)
        finding = messages.Finding(rule="process", line=1, column=1, reason="private", remedy="private")
        return [result(outcome="blocked", exit_code=None, findings=(finding,))]

    async def act(sessions: SessionManager) -> None:
        async with sessions.lease(ALICE, None) as lease:
            await lease.sandbox.run("import os; os.fork()")
            with pytest.raises(InvalidRequestError):
                await lease.sandbox.run("1", timeout=-1)
            with pytest.raises(InvalidRequestError):
                await lease.sandbox.install("evil")
            with pytest.raises(FileError):
                await lease.sandbox.files.read("../secret")
        for handle in ("new", "guessed"):
            with pytest.raises((CapacityError, InvalidRequestError)):
                async with sessions.lease(ALICE, handle):
                    pass
        with pytest.raises(InvalidRequestError):
            sessions.look(ALICE, "guessed")

    lines = await _audited(tmp_path / "audit.jsonl", act, runner=runner, packages_deny="evil", max_sandboxes=1)
    refusals = [line for line in lines if line["kind"] == "refusal"]
    assert [(line["action"], line["reason"], line["who"]) for line in refusals] == [
        ("run", "rule", "alice"),
        ("run", "timeout", "alice"),
        ("install", "requirements", "alice"),
        ("open", "quota", "alice"),
        *[("open", "sandbox", "alice")] * 2,
    ]
    assert refusals[0]["rules"] == ["process"]
    assert "evil" in refusals[2]["detail"]
    assert "sandbox" not in refusals[3]
    assert "guessed" not in str(lines), "which may be the handle of another client"
    assert [(line["kind"], line["outcome"]) for line in lines if line["kind"] != "refusal"] == [("file", "outside")]
    assert "private" not in str(lines)


async def test_packages_that_code_imports_are_an_installation(tmp_path: Path) -> None:
    def runner(message: messages.Message) -> Any:
        match message:
            case messages.Run():
                return [messages.MissingPackages(run=1, names=("x",), requirements=())]
            case messages.Proceed():
                return [result()]
            case _:
                return honest_runner(message)

    async def act(sessions: SessionManager) -> None:
        async with sessions.lease(ALICE, None) as lease:
            await lease.sandbox.run("import x")

    install, run = await _audited(tmp_path / "audit.jsonl", act, runner=runner, auto_install="all")
    assert (install["kind"], install["cause"], install["packages"]) == ("install", "code", ["x==1.0"])
    assert (run["kind"], run["outcome"]) == ("run", "ok")


@pytest.mark.parametrize(
    "requirement",
    [
        "x @ https://user:hunter2@host.example/x.whl",
        "x @ https://user:a@hunter2@host.example/x.whl",
        "x @ https://host.example/x.whl?token=hunter2",
        "x @ https://host.example/x.whl#token=hunter2",
        "--index-url=https://hunter2@host.example/simple",
    ],
)
def test_credentials_in_urls_are_not_recorded(requirement: str) -> None:
    error = InvalidRequestError(f"'{requirement}' is an option", argument="requirements")
    for timing in (OK, Timing(0.5, 0.1, error)):
        line = record_of("", InstallDone("a" * 32, timing, (requirement,), "request", None)).line()
        assert b"host.example/" in line
        assert b"hunter2" not in line


@pytest.mark.parametrize("part", ["a", "://", "://a@", "a:/", "@", "'", "://'"])
def test_requirements_of_any_length_and_number_are_recorded_quickly_and_briefly(part: str) -> None:
    one = record_of("", InstallDone("a" * 32, OK, (part * (4 << 20),), "request", None))
    assert len(one.line()) < 1000
    many = record_of("", InstallDone("a" * 32, OK, (part * 500,) * 1000, "request", None))
    assert len(many.line()) < 60_000


def test_code_that_is_not_a_string_is_recorded() -> None:
    code: Any = None
    run = RunDone("a" * 32, OK, code, Result("ok", Output(), 0.1))
    assert record_of("", run, with_code=True).line()


def test_every_line_is_json_whatever_its_fields_contain() -> None:
    chosen = random.Random(19)

    def text() -> str:
        parts = (
            "\ud83d",
            "\ude00",
            "\udcff",
            "\0",
            "\x7f",
            "\u2028",
            "\\",
            '"',
            "\\ud800",
            chr(chosen.randrange(0x110000)),
        )
        return "".join(chosen.choices(parts, k=8))

    def events() -> Iterator[Event]:
        for argument in ("code", "sandbox", "path"):
            timing = Timing(0.5, 0.1, InvalidRequestError(text(), argument=argument))
            error = RunError(text(), text(), None)
            yield RunDone("a" * 32, OK, text(), Result("error", Output(), 0.1, error=error))
            yield InstallDone("a" * 32, timing, (text(), text()), "request", None)
            yield InstallDone("a" * 32, OK, (text(),), "request", Installed("", ((text(), text()),), ()))
            yield FileDone("a" * 32, OK, "write", text(), 1)
            yield Refused(timing)

    lines = [record_of(text(), event, with_code=True).line() for _ in range(200) for event in events()]
    for line in lines:
        assert line.isascii() and json.dumps(json.loads(line), ensure_ascii=False).encode()  # no lone surrogate
    if HAS_JQ:
        read = subprocess.run(["jq", "-c", ".kind"], input=b"".join(lines), capture_output=True, check=True)
        assert len(read.stdout.splitlines()) == len(lines)


def test_lines_are_divided_among_files_and_none_is_lost_or_torn(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    with _trail(path, audit_size=4096) as one, _trail(path, audit_size=4096) as other:

        def add(trail: Trail, first: int) -> None:
            for number in range(first, first + 500):
                trail.add(_record(number))

        threads = [threading.Thread(target=add, args=(trail, 500 * i)) for i, trail in enumerate((one, one, other))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    files = trail_files(path)
    assert len(files) > 10
    assert files[-1] == path
    assert all(each.stat().st_size <= 2 * 4096 for each in files)
    assert {each.stat().st_mode & 0o777 for each in files} == {0o600}
    assert Counter(int(line["who"]) for line in _lines(path)) == Counter(range(1500))


def test_each_day_begins_a_file_and_old_ones_are_deleted(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "audit.jsonl"
    now = time.time()
    for days in (9, 3, 1):
        with _trail(path, audit_age=5) as trail:
            trail.add(_record(days))
        os.utime(path, (now - days * 86400 - 60, now - days * 86400 - 60))
    kept = [path.parent / "audit.jsonl.bak", path.parent / "other.jsonl"]
    for each in kept:
        each.touch()
        os.utime(each, (0, 0))
    with _trail(path, audit_age=5) as trail:
        trail.add(_record(0))
    assert [line["who"] for line in _lines(path)] == ["3", "1", "0"]
    assert len(trail_files(path)) == 3
    assert all(each.exists() for each in kept)


def test_a_file_that_others_can_read_is_made_private_and_one_that_is_moved_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    path.touch(0o644)
    with _trail(path) as trail:
        assert path.stat().st_mode & 0o777 == 0o600
        path.rename(tmp_path / "moved")
        trail.add(_record(1))
    assert [line["who"] for line in _lines(path)] == ["1"]


def test_a_call_never_waits_and_lines_that_are_too_many_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    with _trail(path) as trail:
        line_size, total = len(_record(0).line()), 200_000
        for _ in range(total):
            trail.add(_record(0))  # the pipe has space for 64 KiB, and the queue for 8 MiB
        os.set_blocking(reader, True)
        counted = Counter[str]()
        with os.fdopen(reader, "rb") as lines:
            while counted["run"] + counted["lost"] < total:
                line = json.loads(lines.readline())
                counted[line["kind"]] += 1
                counted["lost"] += line.get("lines", 0)
    assert counted["dropped"] >= 1
    assert 0 < counted["lost"] <= total - (8 << 20) // line_size


_FULL_DISK = """
import json, resource, sys, logging
from pathlib import Path
from mcp_agentrun import Settings
from mcp_agentrun.audit import Record, Trail
logging.basicConfig(stream=sys.stdout, format="%(message)s")
path = Path(sys.argv[1])
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
with Trail(Settings(), path) as trail:
    for number in range(100):
        trail.add(Record(time="now", kind="run", outcome="ok", who=str(number)))
    while trail._waiting or not trail._dropped:
        pass
    assert path.stat().st_size <= 1000
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    trail.add(Record(time="now", kind="run", outcome="ok", who="last"))
"""


def test_a_full_disk_tears_no_line_is_reported_once_and_is_made_up_for(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    done = subprocess.run([sys.executable, "-c", _FULL_DISK, path], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"audit: {path} can't be written, lines are lost: File too large\n"
    *written, lost, last = _lines(path)
    assert [line["who"] for line in written] == [str(number) for number in range(len(written))]
    assert (lost["kind"], lost["lines"], last["who"]) == ("dropped", 100 - len(written), "last")


def test_a_file_that_cannot_be_written_is_reported_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"audit_file \(argument\)|audit_file: .* can't be written: Is a directory"):
        _trail(tmp_path)


def test_an_event_that_cannot_be_recorded_does_not_fail_its_call(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    event: Any = object()
    with caplog.at_level(logging.ERROR), _trail(tmp_path / "audit.jsonl") as trail:
        trail.record("", event)
    assert "a call could not be recorded" in caplog.text
