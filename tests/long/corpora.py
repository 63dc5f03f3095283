"""Corpora of programs that are not in this repository: ``make corpora CORPORA=FOLDER``.

The folder has ``benign.jsonl``, a JSON object on each line: ``id``, ``code``, ``category``, ``needs`` (modules),
``expected_stdout`` and ``expected_exit``.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from packaging.utils import canonicalize_name

from mcp_agentrun.packages.known import WELL_KNOWN
from mcp_agentrun.packages.names import distribution_of
from mcp_agentrun.safety import check
from mcp_agentrun.settings import Settings
from tests.support.sandboxes import open_sandbox


@pytest.fixture(scope="module")
def programs() -> list[dict[str, Any]]:
    folder = Path(os.environ["CORPORA"])
    return [json.loads(line) for line in (folder / "benign.jsonl").read_text("utf-8").splitlines()]


@pytest.mark.anyio
async def test_programs_of_benchmarks_print_what_they_should(programs: list[dict[str, Any]], runner_image: str) -> None:
    rows = [row for row in programs if row["category"] in ("humaneval", "mbpp") and row["expected_stdout"] is not None]
    assert rows
    wrong: list[str] = []
    async with open_sandbox(Settings(checkpoints=False, safety="off")) as sandbox:
        for row in rows:
            result = await sandbox.run(row["code"])
            if (result.output.text(), result.exit_code) != (row["expected_stdout"], row["expected_exit"]):
                wrong.append(row["id"])
    assert wrong == []


def test_no_ordinary_program_is_refused(programs: list[dict[str, Any]]) -> None:
    assert [row["id"] for row in programs if not check(row["code"]).allowed] == []


def test_the_most_common_imports_are_known(programs: list[dict[str, Any]]) -> None:
    expected = {"sklearn": "scikit-learn", "bs4": "beautifulsoup4", "yaml": "pyyaml", "PIL": "pillow"}
    expected |= {"dateutil": "python-dateutil", "cv2": "opencv-python-headless"}
    counts: Counter[str] = Counter()
    for row in programs:
        counts.update(row.get("needs") or [])
    for module, _ in counts.most_common(30):
        name = distribution_of(module)
        assert name == expected.get(module, canonicalize_name(module))
        assert name in WELL_KNOWN
