"""``mcp-agentrun audit``, and the questions of docs/audit.md, answered by its commands."""

from __future__ import annotations

import json
import re
from dataclasses import fields
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from mcp_agentrun.audit import KINDS, Record
from mcp_agentrun.cli import audit as audit_command
from tests.support.audit_questions import AUDIT_PAGE, HAS_JQ, answers
from tests.support.command_line import command


def _time(**ago: float) -> str:
    at = datetime.now(timezone.utc) - timedelta(**ago)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _record(kind: Any, outcome: str, **values: Any) -> Record:
    given: dict[str, Any] = {"time": _time(minutes=5), "who": "alice", **values}
    return Record(kind=kind, outcome=outcome, **given)


@pytest.fixture
def trail(tmp_path: Path) -> Path:
    """A mixed hour in two files."""
    run: dict[str, Any] = {"interface": "mcp", "peak_memory": 64 << 20}
    earlier = [
        _record("run", "ok", **run, sandbox="aaaa", cpu_seconds=1.5, seconds=2.0, time=_time(days=2)),
        _record("install", "ok", sandbox="aaaa", cause="request", packages=("rich==14.0", "pygments==2.19")),
        _record("refusal", "refused", action="run", reason="rule", rules=("process", "network"), sandbox="aaaa"),
    ]
    now = [
        _record("run", "ok", **run, sandbox="bbbb", cpu_seconds=1.0, who="bob"),
        _record("run", "timeout", **run, sandbox="bbbb", cpu_seconds=1.0, who="bob", limits=("timeout",)),
        _record("install", "ok", sandbox="bbbb", cause="code", packages=("rich==14.0",), who="bob"),
        _record("refusal", "refused", action="open", reason="quota", detail="You already have 1 sandbox", who="bob"),
        _record("refusal", "refused", action="request", reason="token", detail="Send one", who=None, address="::1"),
        _record("file", "ok", action="write", path="evil\x1b[31m.txt", size=2048, sandbox="bbbb", who=None),
        _record("reset", "ok", keep=("files",), sandbox="bbbb"),
        _record("dropped", "error", lines=3, who=None),
    ]
    path = tmp_path / "audit.jsonl"
    path.write_bytes(b"".join(each.line() for each in now) + b'{"torn')
    path.with_name("audit.jsonl.20260101T000000000000-1").write_bytes(b"".join(each.line() for each in earlier))
    return path


def _lines(trail: Path, *arguments: str) -> list[dict[str, Any]]:
    done = command("audit", "--json", *arguments, AGENTRUN_AUDIT_FILE=str(trail))
    assert done.returncode == 0
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_the_lines_of_all_files_are_filtered(trail: Path) -> None:
    assert len(_lines(trail)) == 11
    assert [line["outcome"] for line in _lines(trail, "--who", "bob", "--kind", "run")] == ["ok", "timeout"]
    assert len(_lines(trail, "--sandbox", "aa")) == 3
    assert len(_lines(trail, "--outcome", "refused")) == 3
    assert len(_lines(trail, "--who", "-")) == 3
    assert len(_lines(trail, "--who", "::1")) == 1
    assert len(_lines(trail, "--since", "1 day")) == 10
    assert len(_lines(trail, "--since", _time(hours=1)[:16])) == 10
    assert _lines(trail, "--since", _time(days=-1)) == []


def test_a_table_says_what_is_most_worth_knowing(trail: Path) -> None:
    done = command("audit", AGENTRUN_AUDIT_FILE=str(trail))
    head, *rows = done.stdout.splitlines()
    assert head.split() == "time who via sandbox kind outcome seconds cpu memory what".split()  # noqa: SIM905
    ends = [
        "64.0 MiB",
        "rich==14.0 pygments==2.19",
        "run: process, network",
        "64.0 MiB",
        "limit:timeout",
        "rich==14.0",
        "open: You already have 1 sandbox",
        "request: Send one",
        ".txt (2.0 KiB)",
        "kept files",
        "3 lines not written",
    ]
    assert len(rows) == len(ends)
    assert [row for row, end in zip(rows, ends, strict=True) if not row.endswith(end)] == []
    assert "\x1b" not in done.stdout
    assert done.stderr == "mcp-agentrun: 1 line that can't be read left out\n"


def test_what_is_missing_or_wrong_is_reported_in_one_line(tmp_path: Path) -> None:
    assert "audit_file is not set" in command("audit").stderr
    missing = command("audit", "--audit-file", str(tmp_path / "none" / "audit.jsonl"))
    assert (missing.returncode, missing.stderr.count("\n")) == (1, 1)
    assert command("audit", "--audit-file", str(tmp_path / "audit.jsonl")).stdout == "No calls.\n"
    wrong = command("audit", "--since", "yesterday", AGENTRUN_AUDIT_FILE="x")
    assert wrong.returncode == 2
    assert "'2 hours'" in wrong.stderr


def test_the_command_and_the_page_know_all_kinds_and_fields() -> None:
    assert audit_command._KINDS == KINDS  # pyright: ignore[reportPrivateUsage]
    table = AUDIT_PAGE.read_text("utf-8").split("## Fields")[1].split("\n## ")[0]
    assert set(re.findall(r"`([a-z_0-9]+)`", table)) >= {field.name for field in fields(Record)}


@pytest.mark.skipif(not HAS_JQ, reason="the page's commands need jq")
def test_the_three_questions_of_the_page_are_answered_by_its_commands(trail: Path) -> None:
    refused, busiest, packages = answers(trail)
    assert [line.split("\t")[1:] for line in refused] == [
        ["alice", "run", "rule", "process network"],
        ["bob", "open", "quota", "You already have 1 sandbox"],
        ["::1", "request", "token", "Send one"],
    ]
    assert busiest == ["bob\tbbbb\t2"]
    assert packages == ["pygments==2.19", "rich==14.0"]
