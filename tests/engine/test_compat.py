"""AgentRun's class in real containers: what its README shows and its tests check, and where ours differs."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from docker import APIClient
from docker.errors import NotFound

from mcp_agentrun.compat import AgentRun
from mcp_agentrun.engine import LABEL_OWNER, LABEL_ROLE
from mcp_agentrun.engine.owner import Owner
from tests.support.agentrun_examples import DIFFERENCES, EXAMPLES, SAFETY_CHECKS, Example
from tests.support.local_index import make_wheel
from tests.support.processes import COMMAND_LINES

ARROW = """
from datetime import datetime
class Moment(datetime):
    def format(self, _):
        return self.strftime("%Y-%m-%d %H:%M")
get = Moment.fromisoformat
"""

REQUESTS = """
class Request:
    def __init__(self, method, url):
        self.method = method
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("index")
    make_wheel(root / "simple" / "arrow", "arrow", files={"arrow.py": ARROW})
    make_wheel(root / "simple" / "requests", "requests", files={"requests.py": REQUESTS})
    make_wheel(root / "simple" / "scikit-learn", "scikit-learn", files={"sklearn.py": "VERSION = 'real'"})
    return root


@pytest.fixture(scope="module", autouse=True)
def _index(runner_image: str, index: str) -> Iterator[None]:  # pyright: ignore[reportUnusedFunction]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UV_DEFAULT_INDEX", index)
        yield


@pytest.fixture(scope="module")
def runner(_index: None) -> Iterator[AgentRun]:
    """With all defaults."""
    with AgentRun() as runner:
        yield runner


@pytest.fixture(scope="module")
def unchecked(_index: None) -> Iterator[AgentRun]:
    with AgentRun(safety="off", cached_dependencies=["requests"]) as runner:
        yield runner


@pytest.mark.parametrize("example", SAFETY_CHECKS, ids=lambda example: example.name)
def test_the_safety_checks(runner: AgentRun, example: Example) -> None:
    checked = runner.safety_check(example.code)
    assert checked["message"] == example.expected
    if not checked["safe"]:
        assert runner.execute_code_in_container(example.code) == example.expected


@pytest.mark.parametrize("example", EXAMPLES + DIFFERENCES, ids=lambda example: example.name)
def test_the_examples(runner: AgentRun, example: Example) -> None:
    if not example.options:
        assert runner.execute_code_in_container(python_code=example.code) == example.expected
        return
    with AgentRun(container_name="my_container", **example.options) as other:
        assert other.execute_code_in_container(python_code=example.code) == example.expected


def test_an_exception_is_what_python_prints(runner: AgentRun) -> None:
    printed = runner.execute_code_in_container("print('before')\nprint(f'{1/0}')")
    assert printed.startswith("before\nTraceback (most recent call last):\n")
    assert printed.endswith("ZeroDivisionError: division by zero\n")


def test_each_call_begins_fresh(unchecked: AgentRun) -> None:
    write = "import arrow, os\nx = 1\nopen('file', 'w').close()\nprint(os.listdir())\n'not shown'"
    assert unchecked.execute_code_in_container(write) == "['file']\n"
    look = """
import os, importlib.util
print(os.listdir(), "x" in globals(), [importlib.util.find_spec(name) is not None for name in ("arrow", "requests")])
"""
    assert unchecked.execute_code_in_container(look) == "[] False [False, True]\n"


def test_a_timeout_ends_processes(unchecked: AgentRun) -> None:
    unchecked.default_timeout = 1
    sleep = "import subprocess\nsubprocess.run(['sleep', '1000'])"
    assert unchecked.execute_code_in_container(sleep) == "Execution timed out."
    unchecked.default_timeout = 20
    look = COMMAND_LINES + "print([line for line in command_lines() if line.startswith(b'sleep')])"
    assert unchecked.execute_code_in_container(look) == "[]\n"


def test_the_end_of_a_script(unchecked: AgentRun) -> None:
    code = """
import atexit, threading
begun = threading.Event()
atexit.register(print, "at exit")
threading.Thread(target=lambda: (begun.wait(), print("in a thread"))).start()
print("main")
begun.set()
"""
    assert unchecked.execute_code_in_container(code) == "main\nin a thread\nat exit\n"
    assert unchecked.execute_code_in_container("import sys\nsys.exit('no')") == "no\n"


def test_limits_that_fire_are_named(unchecked: AgentRun) -> None:
    assert unchecked.execute_code_in_container("x = bytearray(1 << 30)") == "Memory limit exceeded.\n"
    assert unchecked.execute_code_in_container("import os\nos.abort()").endswith(
        "The process crashed (exit code -6).\n"
    )


def test_a_module_whose_package_has_another_name(runner: AgentRun) -> None:
    assert runner.execute_code_in_container("import sklearn\nprint(sklearn.VERSION)") == "real\n"


def test_steps_one_by_one(runner: AgentRun) -> None:
    copied = runner.copy_code_to_container(None, "import arrow\nprint(arrow.get('2024-01-01').format(''))")
    script = str(copied["message"])
    assert copied["success"] and script.endswith(".py")
    assert runner.install_dependencies(None, ["arrow"]) == "Dependencies installed successfully."
    for command in (f"python /code/{script}", f"python {script}", ["python", script]):
        assert runner.execute_command_in_container(None, command, 20) == (0, "2024-01-01 00:00\n")
    assert runner.uninstall_dependencies(None, ["arrow"]) == "Dependencies uninstalled successfully."
    code, output = runner.execute_command_in_container(None, f"python {script}", 20)
    assert code == 1 and "No module named 'arrow'" in output
    assert runner.execute_command_in_container(None, "sh -c 'echo problem >&2; exit 3'", 20) == (3, "problem\n")
    assert runner.execute_command_in_container(None, "sh -c 'kill -9 $$'", 20) == (137, "")
    code, output = runner.execute_command_in_container(None, "no-such-program", 20)
    assert code == 127 and "no-such-program" in output
    with pytest.raises(AgentRun.CommandTimeout, match="Command timed out"):
        runner.execute_command_in_container(None, "sleep 1000", 1)
    runner.clean_up(None, script, ["arrow"])
    assert runner.execute_command_in_container(None, "ls", 20) == (0, "")


def test_no_network_unless_asked_for(unchecked: AgentRun, index: str) -> None:
    fetch = f"import urllib.request\nprint(urllib.request.urlopen({index!r} + '/').status)"
    assert "Traceback" in unchecked.execute_code_in_container(fetch)
    with AgentRun(safety="standard", network="bridge") as runner:
        assert runner.execute_code_in_container(fetch) == "200\n"


def _containers(api: APIClient, owner: Owner | None = None) -> dict[str, dict[str, Any]]:
    labels = {"label": f"{LABEL_OWNER}={(owner or Owner.current()).to_label()}"}
    return {each["Id"]: each for each in api.containers(filters=labels)}


def _new_runners(api: APIClient, before: dict[str, Any]) -> list[str]:
    return [id for id, each in _containers(api).items() if id not in before and each["Labels"][LABEL_ROLE] == "runner"]


def test_containers_are_made_with_the_limits_and_destroyed(api: APIClient) -> None:
    before = _containers(api)
    with AgentRun(cpu_quota=30000, memory_limit="300m"):
        (made,) = _new_runners(api, before)
        limits = api.inspect_container(made)["HostConfig"]
        assert (limits["CpuQuota"], limits["CpuPeriod"]) == (30000, 100_000)
        assert limits["Memory"] == limits["MemorySwap"] == 300 << 20
        assert limits["NetworkMode"] == "none"
    assert not _new_runners(api, before)


def test_a_forgotten_runner_is_destroyed(api: APIClient) -> None:
    before = _containers(api)
    runner = AgentRun()
    assert _new_runners(api, before)
    del runner
    for thread in threading.enumerate():
        if thread.name == "mcp-agentrun-close":
            thread.join()
    assert not _new_runners(api, before)


def test_the_process_ends_though_nobody_closes_the_runner(api: APIClient) -> None:
    code = "from mcp_agentrun.compat import AgentRun\nrunner = AgentRun()\nprint('ready', flush=True)\ninput()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None and other.stdout.readline() == "ready\n"
        made = _containers(api, Owner.of(other.pid))
        assert made
        other.communicate("\n", timeout=60)
    assert other.returncode == 0
    for container in made:
        with contextlib.suppress(NotFound):
            api.wait(container, condition="removed")
