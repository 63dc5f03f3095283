"""What the control group of a container says about its memory."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from tests.support import CHECKOUT

V1 = {"memory/memory.usage_in_bytes": "1", "memory/memory.stat": "", "memory/memory.oom_control": ""}
V2 = {"cgroup.controllers": "memory pids", "memory.current": "1", "memory.stat": "", "memory.events": ""}
UNLIMITED = 1 << 63


@pytest.mark.parametrize(
    ("files", "limit"),
    [
        pytest.param({**V1, "memory/memory.limit_in_bytes": "4096\n"}, 4096, id="version 1"),
        pytest.param({**V2, "memory.max": "4096\n"}, 4096, id="version 2"),
        pytest.param({**V2, "memory.max": "max\n"}, UNLIMITED, id="version 2, no limit"),
        pytest.param({"cgroup.controllers": "pids\n"}, UNLIMITED, id="version 2, without the controller"),
        pytest.param({}, None, id="no control groups"),
    ],
)
def test_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str], limit: int | None) -> None:
    monkeypatch.syspath_prepend(CHECKOUT / "runner_image")
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert importlib.import_module("runner.linux.memory").Memory(str(tmp_path)).limit() == limit
