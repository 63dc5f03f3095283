"""What counts as a difference between a sandbox and what it is compared with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support.differences import Difference, compare, differences, is_limit, report


def cell(text: str = "", error: str | None = None, pictures: int = 0, value: str | None = None) -> dict[str, Any]:
    return {"text": text, "error": error, "pictures": pictures, "value": value}


SAME, FAILED = cell("1"), cell("ValueError: x", "ValueError")
VERDICTS = [
    (SAME, SAME, "same"),
    (cell("<A object at 0x7f12>"), cell("<A at 0x7f34>"), "text: addresses and paths"),
    (cell("{'b', 'a'}"), cell("{'a', 'b'}"), "text: order in sets"),
    (cell("12"), cell("21"), "text differs"),
    (cell("1\n2", value="2"), SAME, "text: value of the last expression"),
    (cell(pictures=1), cell(pictures=2), "picture missing"),
    (FAILED, SAME, "fails here only"),
    (SAME, FAILED, "fails there only"),
    (FAILED, FAILED, "fails on both sides"),
    (FAILED, cell("KeyError: x", "KeyError"), "fails otherwise"),
    (cell("1", "timeout"), cell("2", "memory_limit"), "limit on both sides"),
    (cell("1", "timeout"), SAME, "fails here only"),
]


@pytest.mark.parametrize(("mine", "other", "verdict"), VERDICTS)
def test_verdicts(mine: dict[str, Any], other: dict[str, Any], verdict: str) -> None:
    assert compare(mine, other, notebook=False).verdict == verdict


@pytest.mark.parametrize(
    ("mine", "again", "verdict"),
    [
        ("took 3 s\ndone", "took 5 s\ndone", "text: differs between runs of the reference"),
        ("took 3 s\nlost", "took 5 s\ndone", "text differs"),
        ("took 3 s", "took 5 s\ndone", "text differs"),
        ("took 3 s\ndone", "took 4 s\ndone", "text differs"),
        ("took 3 s\nlost", "took 5 s", "text: differs between runs of the reference"),
    ],
)
def test_what_varies_in_the_reference_hides_no_other_difference(mine: str, again: str, verdict: str) -> None:
    (found,) = differences([cell(mine)], [cell("took 4 s\ndone")], [cell(again)], notebook=False)
    assert found.verdict == verdict


def test_a_limit_that_one_side_has_reached_decides_nothing() -> None:
    assert is_limit(cell(error="timeout"), SAME) and is_limit(SAME, cell(error="memory_limit"))
    assert not is_limit(cell(error="timeout"), cell(error="not begun")) and not is_limit(FAILED, SAME)


def test_the_report_fails_for_what_has_no_reason(tmp_path: Path) -> None:
    reasons = tmp_path / "reasons.tsv"
    reasons.write_text("# verdict\ntext differs\ta/*\t^1 \\|\tknown\n")
    rows: dict[str, list[list[str]]] = {"a/x.py": [list(Difference("text differs", "1 | 2"))]}
    text, is_acceptable = report(rows, reasons)
    assert is_acceptable and "text differs: known" in text
    text, is_acceptable = report({**rows, "b/y.ipynb": [["same", ""], ["text differs", "1 | 2"]]}, reasons)
    assert not is_acceptable and "b/y.ipynb#1: text differs: 1 | 2" in text
