"""The examples of function calling as programs, with a scripted weak model and real sandboxes."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from tests.support import CHECKOUT
from tests.support.http_server import http_server
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


def test_the_loop_of_the_page_about_rest_computes_with_stateless_calls(runner_image: str, tmp_path: Path) -> None:
    (loop,) = re.findall(r"^```python\n(.*?)^```$", (CHECKOUT / "docs" / "rest.md").read_text("utf-8"), re.M | re.S)
    replies = (
        call("base = 2\nprint(bsae ** 100 % 97)", name="execute_python_code"),
        call(arguments='{"code": ', name="execute_python_code"),
        call("print(base)", name="execute_python_code"),
        call("print(2 ** 100 % 97)", name="execute_python_code"),
        "The remainder is 16.",
    )
    with http_server(tmp_path, auth=False) as server, scripted_model(*replies) as model:
        for written, actual in (("http://localhost:11434/v1", model.url), ("http://localhost:8000", server.url)):
            assert loop.count(written) == 1
            loop = loop.replace(written, actual)
        ended = subprocess.run([sys.executable, "-c", loop], stdout=subprocess.PIPE, text=True, check=True, timeout=100)
    assert ended.stdout == "The remainder is 16.\n"
    assert "NameError: name 'bsae' is not defined" in model.last_received(1)
    assert "not valid: JSONDecodeError" in model.last_received(2)
    assert "NameError: name 'base' is not defined" in model.last_received(3)  # nothing is kept
    assert model.last_received(4) == f"{2**100 % 97}\n" == "16\n"
    assert model.requests[0]["tools"][0]["function"]["name"] == "execute_python_code"
