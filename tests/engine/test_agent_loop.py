"""The example of function calling as a program, with a scripted weak model and a real sandbox."""

from __future__ import annotations

import subprocess
import sys

from tests.support import CHECKOUT
from tests.support.scripted_model import call, scripted_model


def test_a_weak_model_gets_there(runner_image: str) -> None:
    replies = (
        call("table = [1, 2, 3]\nprint(tabel)"),
        call(arguments='{"code": '),
        "```python\nprint(sum(table))\n```",
        "合計は6です。",
    )
    with scripted_model(*replies) as model:
        ended = subprocess.run(
            [sys.executable, "examples/agent_loop.py", "--url", model.url, "合計は?"],
            check=False,
            cwd=CHECKOUT,
            env={"PYTHONUTF8": "1", "PATH": "/usr/bin:/bin", "HOME": "/nonexistent"},
            capture_output=True,
            encoding="utf-8",
            timeout=100,
        )
    assert (ended.returncode, ended.stdout) == (0, "合計は6です。\n"), ended.stderr
    assert "NameError: name 'tabel' is not defined. Did you mean: 'table'?" in model.last_received(1)
    assert "not valid JSON" in model.last_received(2)
    assert model.last_received(3) == "6"
