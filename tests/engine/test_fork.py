"""Sandboxes in forked processes: those that are inherited, and those that are their own."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from mcp_agentrun import AsyncRuntime, Runtime, Sandbox
from mcp_agentrun.compat import AgentRun

pytestmark = [
    pytest.mark.usefixtures("runner_image"),
    pytest.mark.skipif(sys.platform == "win32", reason="needs fork"),
    pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning"),
]

INHERITED = "RuntimeError: this {} was made in another process; make one in this process"


def in_child(work: Callable[[], Any]) -> str:
    """Return what *work* returns or raises in a forked process, or nothing if it hangs."""
    reading, writing = os.pipe()
    if os.fork() == 0:
        signal.alarm(100)
        try:
            said = repr(work())
        except BaseException as error:
            said = f"{type(error).__name__}: {error}"
        os.write(writing, said.encode())
        os._exit(0)
    os.close(writing)
    with open(reading, "rb") as pipe:
        said = pipe.read().decode()
    os.wait()
    return said


def test_workers_of_a_pool_have_sandboxes_of_their_own() -> None:
    with AgentRun() as parent:
        assert parent.execute_code_in_container("print('before')") == "before\n"
        with multiprocessing.get_context("fork").Pool(2) as pool:
            assert pool.map(_compute, range(4), chunksize=1) == [f"{number}\n" * 3 for number in range(4)]
        assert parent.execute_code_in_container("print('after')") == "after\n"


def _compute(number: int) -> str:
    with AgentRun() as runner:
        return "".join(runner.execute_code_in_container(f"print({number})") for _ in range(3))


def test_an_inherited_sandbox_refuses_calls_and_is_left_to_the_parent() -> None:
    with Runtime(safety="off") as runtime, runtime.sandbox() as one, Sandbox(safety="off") as other:
        one.run("x = 1")
        other.run("x = 2")
        of_sandbox, of_runtime = INHERITED.format("Sandbox"), INHERITED.format("Runtime")
        assert in_child(lambda: one.run("x")) == of_sandbox
        assert in_child(other.files.list) == of_sandbox
        assert in_child(other.start) == of_sandbox
        assert in_child(runtime.build) == of_runtime
        assert in_child(runtime.sandbox().start) == of_runtime
        assert in_child(lambda: (other.close(), one.close(), runtime.close())) == "(None, None, None)"
        assert (one.run("x").text, other.run("x").text) == ("1\n", "2\n")


def test_an_inherited_agentrun_refuses_calls_and_is_left_to_the_parent() -> None:
    with AgentRun() as runner:
        refused = INHERITED.format("AgentRun")
        assert in_child(lambda: runner.execute_code_in_container("print(1)")) == refused
        assert in_child(lambda: runner.install_dependencies(None, [])) == refused
        assert in_child(runner.close) == "None"
        assert runner.execute_code_in_container("print(2)") == "2\n"


def test_a_sandbox_that_was_not_started_can_be_started_in_a_child() -> None:
    sandbox = Sandbox(safety="off")

    def run() -> str:
        with sandbox:
            return sandbox.run("1 + 1").text

    assert in_child(run) == repr("2\n")


@pytest.mark.anyio
async def test_an_inherited_asynchronous_sandbox_does_not_disturb_the_parent() -> None:
    async with AsyncRuntime(safety="off", pool=1) as runtime, runtime.sandbox() as sandbox:
        await sandbox.run("x = 1")
        calls: list[Callable[[], Coroutine[Any, Any, Any]]] = [
            lambda: sandbox.run("x"),
            lambda: sandbox.install("six"),
            sandbox.files.list,
            sandbox.reset,
            sandbox.ready,
        ]
        for call in calls:
            assert in_child(lambda call=call: asyncio.run(call())) == INHERITED.format("sandbox")
        assert in_child(lambda: asyncio.run(runtime.build())) == INHERITED.format("AsyncRuntime")
        assert in_child(lambda: asyncio.run(runtime.sandbox().__aenter__())) == INHERITED.format("AsyncRuntime")
        assert in_child(lambda: asyncio.run(sandbox.__aexit__())) == "None"
        assert (await sandbox.run("x")).text == "1\n"
