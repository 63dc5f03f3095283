"""AgentRun's class on a fake of the public API: messages, whitelists, and which sandbox does what."""

from __future__ import annotations

import gc
import logging
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from unittest.mock import Mock

import docker.errors
import pytest

from mcp_agentrun import (
    EngineError,
    ImageError,
    Installed,
    InstallError,
    Output,
    Result,
    Sandbox,
    Script,
    Settings,
    compat,
)
from mcp_agentrun.compat import AgentRun
from mcp_agentrun.engine import Report
from tests.support.agentrun_examples import SAFETY_CHECKS, Example

INSTALLED = "Dependencies installed successfully."


class FakeSandbox(Sandbox):
    """Does nothing, and records it."""

    def __init__(self, runtime: FakeRuntime) -> None:
        self.runtime = runtime
        self.calls: list[str] = []
        self.is_open = False

    def start(self) -> None:
        self.is_open = True

    def close(self) -> None:
        self.is_open = False

    def run(self, code: str, **options: Any) -> Result:
        self.calls.append("run")
        self.runtime.code = code
        self.runtime.timeout = options["timeout"]
        self.runtime.script = options.get("script")
        return self.runtime.on_run()

    def install(self, *requirements: str, report: Report | None = None) -> Installed:
        self.calls += [f"install {each}" for each in requirements]
        if set(requirements) & self.runtime.unknown:
            raise InstallError("no such package")
        return Installed("", (), ())

    def reset(self, *, keep_packages: bool = False, keep_files: bool = False) -> None:
        if self.runtime.problem is not None:
            raise self.runtime.problem
        self.calls.append("reset, files kept" if keep_files else "reset")


class FakeRuntime:
    """Its sandboxes are fakes."""

    made: FakeRuntime
    problem: BaseException | None = None
    unknown: frozenset[str] = frozenset(("unknownpackage",))

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.sandboxes: list[FakeSandbox] = []
        self.result = Result("ok", Output(b"x\n", written=2), 0.1)
        self.code, self.timeout = "", 0.0
        self.script: Script | None = None
        self.on_run = lambda: self.result
        self.is_open = False
        FakeRuntime.made = self

    def __enter__(self) -> FakeRuntime:
        self.is_open = True
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.is_open = False

    def sandbox(self) -> FakeSandbox:
        self.sandboxes.append(FakeSandbox(self))
        return self.sandboxes[-1]


@pytest.fixture(autouse=True)
def _fake(monkeypatch: pytest.MonkeyPatch) -> None:  # pyright: ignore[reportUnusedFunction]
    monkeypatch.setattr(compat, "Runtime", FakeRuntime)


@pytest.mark.parametrize("example", SAFETY_CHECKS, ids=lambda example: example.name)
def test_the_published_safety_checks(example: Example) -> None:
    found = AgentRun().safety_check(example.code)
    assert found == {"safe": example.expected.startswith("The code is safe"), "message": example.expected}


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("x = eval  ('1')", "Use of dangerous built-in function: eval"),
        ("from os.path import join", "Unsafe module import: os.path"),
        ("import socket\nimport sys", "Unsafe module import: sys"),
        ("_x = 1", 'Line 1: "_x" is an invalid variable name because it starts with "_".'),
        ("é = '\u2028'; eval('1')", "eval"),
        ("import shutil; shutil.rmtree('/')", "`shutil` is not allowed in the profile `strict`."),
        ("x = 1\x00", "NUL"),
    ],
)
def test_refusals(code: str, message: str) -> None:
    found = AgentRun().safety_check(code)
    assert not found["safe"] and message in str(found["message"])
    assert AgentRun().execute_code_in_container(code) == found["message"]


@pytest.mark.parametrize("module", ["requests", "urllib3", "httpx", "aiohttp", "psutil", "cffi", "yaml"])
def test_the_whitelist_decides_on_packages(module: str) -> None:
    code = f"import {module}\nfrom {module} import x\nprint({module}.x)"
    assert AgentRun().safety_check(code)["safe"]
    refusing = AgentRun(dependencies_whitelist=["numpy"])
    assert refusing.safety_check(code)["safe"]
    assert refusing.execute_code_in_container(code) == f"Dependency: {module} is not in the whitelist."


@pytest.mark.parametrize(
    ("code", "name"),
    [
        ("import requests, os", "os"),
        ("import requests\n" * 30 + "import sys", "sys"),
        ("import requests\nrequests.os.system('ls')", "requests.os"),
        ("import requests; import socket", "socket"),
    ],
)
def test_what_agentrun_refuses_stays_refused_beside_packages(code: str, name: str) -> None:
    found = AgentRun().safety_check(code)
    assert not found["safe"] and name in str(found["message"])


def test_a_looser_profile() -> None:
    assert AgentRun(safety="standard").safety_check("import socket, os")["safe"]
    refused = AgentRun(safety="standard").safety_check("import shutil; shutil.rmtree('/')")
    assert refused == {"safe": False, "message": "`shutil.rmtree` would delete `/`."}


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("import os", []),
        ("import requests", ["requests"]),
        ("from collections import namedtuple", []),
        ("import sys\nimport numpy as np", ["numpy"]),
        ("import unknownpackage", ["unknownpackage"]),
        ("from scipy.optimize import minimize", ["scipy"]),
        ("import b.c, a\nfrom . import x\nfrom .y import z", ["a", "b"]),  # AgentRun would install y
    ],
)
def test_dependencies_of_code(code: str, expected: list[str]) -> None:
    assert AgentRun().parse_dependencies(code) == expected


def test_dependencies_of_what_is_not_python() -> None:
    with pytest.raises(SyntaxError, match="never closed"):
        AgentRun().parse_dependencies("print(")


def test_arguments_by_position_become_attributes_and_settings() -> None:
    client = None
    runner = AgentRun("mine", ["numpy"], ["numpy"], 25000, 7, "1g", "2g", client)
    assert (runner.container_name, runner.dependencies_whitelist, runner.cached_dependencies) == (
        "mine",
        ["numpy"],
        ["numpy"],
    )
    assert (runner.cpu_quota, runner.default_timeout, runner.memory_limit, runner.memswap_limit, runner.client) == (
        25000,
        7,
        "1g",
        "2g",
        None,
    )
    settings = FakeRuntime.made.settings
    assert (settings.limits.cpus, settings.limits.memory, settings.access.network) == (0.25, 1 << 30, "none")
    assert settings.packages.preinstall == settings.image.preload == ("numpy",)
    runner.execute_code_in_container("x")
    assert FakeRuntime.made.timeout == 7


def test_defaults_are_agentruns(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        runner = AgentRun()
    assert (runner.container_name, runner.dependencies_whitelist, runner.cached_dependencies) == (None, ["*"], [])
    assert (runner.cpu_quota, runner.default_timeout, runner.memory_limit, runner.memswap_limit) == (
        50000,
        20,
        "100m",
        "512m",
    )
    assert FakeRuntime.made.settings.limits.memory == 256 << 20
    assert "memory_limit is 100m; raised to 256m" in caplog.text
    caplog.clear()
    AgentRun(memory_limit="512mb", cpu_quota=-1, network="bridge")
    assert not caplog.text
    assert FakeRuntime.made.settings.access.network == "bridge" and FakeRuntime.made.settings.limits.cpus >= 1


@pytest.mark.parametrize(
    "options",
    [
        {"memory_limit": "lots"},
        {"memory_limit": None},
        {"cpu_quota": 1},
        {"cpu_quota": "x"},
        {"cpu_quota": float("nan")},
        {"network": "some"},
        {"dependencies_whitelist": None},
        {"dependencies_whitelist": [None]},
        {"cached_dependencies": [1]},
        {"default_timeout": "x"},
        {"client": "x"},
    ],
    ids=str,
)
def test_invalid_arguments(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(options)).partition("_")[0]):
        AgentRun(**options).execute_code_in_container("1")


@pytest.mark.parametrize(
    ("method", "arguments"),
    [
        ("execute_code_in_container", (None,)),
        ("safety_check", (None,)),
        ("parse_dependencies", (b"1",)),
        ("install_dependencies", (None, None)),
        ("uninstall_dependencies", (None, [1])),
        ("execute_command_in_container", (None, None, 5)),
        ("execute_command_in_container", (None, [1], 5)),
        ("execute_command_in_container", (None, "", 5)),
        ("execute_command_in_container", (None, "ls", "x")),
        ("copy_code_to_container", (None, None)),
        ("clean_up", (None, 5, [])),
    ],
)
def test_invalid_arguments_of_methods(method: str, arguments: tuple[Any, ...]) -> None:
    with pytest.raises(ValueError, match=r"must be a|cmd is empty"):
        getattr(AgentRun(), method)(*arguments)


def test_strings_of_names_are_split_wherever_they_are_given() -> None:
    runner = AgentRun()
    runner.dependencies_whitelist = "six, pillow"
    assert runner.dependencies_whitelist == ["six", "pillow"]
    assert runner.install_dependencies(None, ["pil"]) == "Dependency: pil is not in the whitelist."
    assert runner.install_dependencies(None, "six pillow") == INSTALLED
    assert runner.uninstall_dependencies(None, "six") == "Dependencies uninstalled successfully."
    own = FakeRuntime.made.sandboxes[-1]
    assert own.calls == ["install six", "install pillow", "reset, files kept", "install pillow"]
    runner.cached_dependencies = "six"
    assert runner.cached_dependencies == ["six"]
    with pytest.raises(ValueError, match="dependencies_whitelist must be a string or a list of strings"):
        runner.dependencies_whitelist = None  # pyright: ignore[reportAttributeAccessIssue]


def test_after_close_calls_say_what_to_do() -> None:
    runner = AgentRun()
    runner.close()
    for call in (lambda: runner.execute_code_in_container("1"), lambda: runner.install_dependencies(None, [])):
        with pytest.raises(RuntimeError, match="this AgentRun is closed; make another one"):
            call()
    runner.install_cached_dependencies()
    assert runner.execute_code_in_container("1") == "x\n"


def test_each_call_begins_fresh() -> None:
    runner = AgentRun()
    (sandbox,) = FakeRuntime.made.sandboxes
    sandbox.calls.clear()
    assert runner.execute_code_in_container("import yaml_is_not; print(1)") == "x\n"
    assert sandbox.calls == ["install yaml-is-not", "run", "reset"]
    runner.execute_code_in_container("print(1)")
    assert sandbox.calls[3:] == ["run", "reset"] and len(FakeRuntime.made.sandboxes) == 1


def test_code_is_run_as_a_program_whose_last_expression_is_not_shown() -> None:
    AgentRun().execute_code_in_container("1 + 1")
    assert FakeRuntime.made.code == "1 + 1"
    assert FakeRuntime.made.script is not None and FakeRuntime.made.script.ends_session


def test_concurrent_calls_have_sandboxes_of_their_own() -> None:
    runner = AgentRun()
    both_run = threading.Barrier(3)

    def on_run() -> Result:
        both_run.wait(30)
        return FakeRuntime.made.result

    FakeRuntime.made.on_run = on_run
    with ThreadPoolExecutor(2) as threads:
        calls = [threads.submit(runner.execute_code_in_container, "print(1)") for _ in range(2)]
        both_run.wait(30)
        assert [call.result() for call in calls] == ["x\n", "x\n"]
    assert len(FakeRuntime.made.sandboxes) == 2


def test_calls_that_are_interrupted_while_resetting_do_not_block_later_ones() -> None:
    runner = AgentRun()
    runtime = FakeRuntime.made
    for _ in range(4):
        runtime.problem = KeyboardInterrupt()
        with pytest.raises(KeyboardInterrupt):
            runner.execute_code_in_container("print(1)")
        runtime.problem = None
    results: list[str] = []
    later = threading.Thread(target=lambda: results.append(runner.execute_code_in_container("print(1)")), daemon=True)
    later.start()
    later.join(30)
    assert results == ["x\n"]
    assert runtime.sandboxes[-1].calls == ["run", "reset"]  # in a sandbox of which nothing is left over


@pytest.mark.parametrize(
    ("result", "text"),
    [
        (Result("timeout", Output(b"half", written=4), 1.0), "Execution timed out."),
        (Result("memory_limit", Output(b"half\n", written=5), 1.0), "half\nMemory limit exceeded.\n"),
        (Result("crashed", Output(), 1.0, exit_code=-11), "The process crashed (exit code -11).\n"),
        (Result("error", Output(b"Traceback\n", written=10), 1.0), "Traceback\n"),
    ],
)
def test_every_end_is_text(result: Result, text: str) -> None:
    runner = AgentRun()
    FakeRuntime.made.result = result
    assert runner.execute_code_in_container("print(1)") == text


def test_a_failing_engine_is_text() -> None:
    runner = AgentRun()

    def fail() -> Result:
        raise EngineError("The container engine does not answer.")

    FakeRuntime.made.on_run = fail
    assert runner.execute_code_in_container("print(1)") == "The container engine does not answer."


@pytest.mark.parametrize(
    ("whitelist", "dependency", "message"),
    [
        (["*"], "anything", INSTALLED),
        ("*", "anything", INSTALLED),
        ([], "numpy", "Dependency: numpy is not in the whitelist."),
        ("requests", "quest", "Dependency: quest is not in the whitelist."),
        ("requests, numpy", "numpy", INSTALLED),
        (["scikit-learn"], "sklearn", INSTALLED),
        (["sklearn"], "sklearn", INSTALLED),
        (["Flask-SQLAlchemy"], "flask_sqlalchemy", INSTALLED),
        (["requests"], "requests==2.0", "Dependency: requests==2.0 is not in the whitelist."),
        (["*"], "unknownpackage", "Failed to install dependency unknownpackage"),
    ],
)
def test_whitelists(whitelist: Any, dependency: str, message: str) -> None:
    runner = AgentRun(dependencies_whitelist=whitelist)
    assert runner.install_dependencies(None, [dependency]) == message


def test_a_module_is_installed_under_its_packages_name() -> None:
    runner = AgentRun()
    runner.install_dependencies(None, ["sklearn", "PIL", "requests==2.0.1", "scipy"])
    *_, own = FakeRuntime.made.sandboxes
    assert own.calls == ["install scikit-learn", "install pillow", "install requests==2.0.1", "install scipy"]


def test_cached_dependencies() -> None:
    with pytest.raises(ValueError, match="Some cached dependencies are not in the whitelist"):
        AgentRun(dependencies_whitelist=[], cached_dependencies=["requests"])
    with pytest.raises(ValueError, match="Failed to install dependency unknownpackage"):
        AgentRun(cached_dependencies=["unknownpackage"])
    assert not FakeRuntime.made.is_open
    runner = AgentRun(dependencies_whitelist=["requests"], cached_dependencies=["requests"])
    assert runner.validate_cached_dependencies() and not runner.is_everything_whitelisted()
    first = FakeRuntime.made
    runner.cached_dependencies = []
    runner.install_cached_dependencies()
    assert not first.is_open and FakeRuntime.made.is_open
    assert FakeRuntime.made.settings.packages.preinstall == ()


def test_uninstalling_leaves_what_was_not_named() -> None:
    runner = AgentRun()
    runner.install_dependencies(None, ["a1", "b1"])
    assert runner.uninstall_dependencies(None, ["a1"]) == "Dependencies uninstalled successfully."
    assert FakeRuntime.made.sandboxes[-1].calls == ["install a1", "install b1", "reset, files kept", "install b1"]


def test_without_an_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeRuntime, "problem", EngineError("No container engine can be reached."))
    with pytest.raises(RuntimeError, match=r"Failed to connect to Docker daemon\. .* No container engine"):
        AgentRun()
    monkeypatch.setattr(FakeRuntime, "problem", ImageError("No image."))
    with pytest.raises(RuntimeError, match=r"^No image\.$"):
        AgentRun()
    client = Mock()
    client.ping.side_effect = docker.errors.DockerException("Docker daemon not available")
    with pytest.raises(RuntimeError) as failed:
        AgentRun(container_name="any-name", client=client)
    assert str(failed.value) == (
        "Failed to connect to Docker daemon. Please make sure Docker is running. Docker daemon not available"
    )


def test_a_client_of_another_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    usual, other = Mock(), Mock()
    usual.api.base_url, other.api.base_url = "http+docker://localhost", "http://elsewhere:2375"
    monkeypatch.setattr(docker, "from_env", lambda: usual)
    with pytest.raises(ValueError, match="set DOCKER_HOST"):
        AgentRun(client=other)
    assert AgentRun(client=usual).client is usual


def test_everything_ends_with_the_runner() -> None:
    with AgentRun():
        runtime = FakeRuntime.made
        assert runtime.is_open
    assert not runtime.is_open and not any(each.is_open for each in runtime.sandboxes)
    runner = AgentRun()
    runtime, gone = FakeRuntime.made, weakref.ref(runner)
    del runner
    gc.collect()
    assert gone() is None
    for thread in threading.enumerate():
        if thread.name == "mcp-agentrun-close":
            thread.join()
    assert not runtime.is_open
