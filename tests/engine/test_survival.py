"""What is left of a session after everything that can hit it."""

from __future__ import annotations

import anyio
import pytest
from docker import APIClient

from mcp_agentrun.sandbox import AsyncSandbox
from mcp_agentrun.settings import Settings
from tests.support.sandboxes import begin, open_sandbox, text_of

pytestmark = pytest.mark.anyio

SWALLOW = "import time\nwhile True:\n    try:\n        time.sleep(60)\n    except BaseException:\n        pass"
SEGFAULT = "import ctypes; ctypes.string_at(0)"
FORK_BOMB = "import os, time\nwhile True:\n    try:\n        os.fork()\n    except OSError:\n        time.sleep(0.01)"

PATIENT = Settings(safety="off", timeout=300)
"""For code that fills memory, which takes a busy machine long."""

HITS = {
    "exception": ("1 / 0", "error", "kept"),
    "exit": ("import sys; sys.exit(3)", "error", "kept"),
    "SystemExit": ("raise SystemExit", "ok", "kept"),
    "soft timeout": ("import time; time.sleep(60)", "timeout", "kept"),
    "hard timeout": (SWALLOW, "timeout", "restored"),
    "timeout in C": ("sum(range(10**12))", "timeout", "restored"),
    "stopped by itself": ("import os, signal; os.kill(os.getpid(), signal.SIGSTOP)", "timeout", "restored"),
    "segmentation fault": (SEGFAULT, "crashed", "restored"),
    "abort": ("import os; os.abort()", "crashed", "restored"),
    "os._exit": ("import os; os._exit(0)", "crashed", "restored"),
    "out of memory": ("block = [bytearray(16 << 20) for _ in range(1000)]", "memory_limit", "restored"),
    "memory error": ("block = bytearray(1 << 40)", "error", "kept"),
    "fork bomb": (FORK_BOMB, "timeout", "kept or restored"),
    "kill -1": ("import os, signal; os.kill(-1, signal.SIGKILL)", "ok", "kept"),
    "stop -1": ("import os, signal; os.kill(-1, signal.SIGSTOP)", "ok", "kept"),
    "killed by its child": (
        "import os\nif os.fork() == 0:\n    os.kill(os.getppid(), 9); os._exit(0)\nos.wait()",
        "crashed",
        "restored",
    ),
}


@pytest.mark.parametrize("hit", HITS)
async def test_variables_survive(shared: AsyncSandbox, hit: str) -> None:
    code, outcome, state = HITS[hit]
    await text_of(
        shared,
        "import pandas, random\nglobals().pop('changed', 0)\nkept = pandas.DataFrame({'a': [40, 41]})\nrandom.seed(7)",
    )
    await text_of(shared, "kept.a += 1; open('file.txt', 'w').write('here')")
    before = await text_of(shared, "random.getstate()[1][:3]")
    result = await shared.run(
        "changed = True\nprint('begun', flush=True)\n" + code, timeout=3 if outcome == "timeout" else None
    )
    assert result.outcome == outcome, result
    assert result.state in state.split(" or "), result
    assert result.output.text().startswith("begun\n")
    assert await text_of(shared, "list(kept.a)") == "[41, 42]\n"
    assert await text_of(shared, "random.getstate()[1][:3]") == before
    assert await text_of(shared, "print(open('file.txt').read())") == "here\n"
    assert await text_of(shared, "'changed' in globals()") == f"{result.state == 'kept'}\n"


async def test_a_chain_of_failures_loses_nothing(shared: AsyncSandbox) -> None:
    await text_of(shared, "count = 0")
    for code, outcome in ((SEGFAULT, "crashed"), (SWALLOW, "timeout"), ("import os; os._exit(1)", "crashed")) * 2:
        result = await shared.run(code, timeout=3 if outcome == "timeout" else None)
        assert (result.outcome, result.state) == (outcome, "restored")
    assert await text_of(shared, "count += 1; count") == "1\n"
    assert (await shared.run(SEGFAULT)).state == "restored"
    assert await text_of(shared, "count += 1; count") == "2\n"


async def test_cancelling_code_that_swallows_interrupts_restores(shared: AsyncSandbox) -> None:
    await text_of(shared, "x = 5")
    async with anyio.create_task_group() as tasks:
        (await begin(tasks, shared, SWALLOW)).cancel()
    assert await text_of(shared, "x") == "5\n"


async def test_cancelling_code_that_can_be_interrupted_keeps(shared: AsyncSandbox) -> None:
    await text_of(shared, "x = 5")
    async with anyio.create_task_group() as tasks:
        (await begin(tasks, shared, "time.sleep(60)", first="import time; x = 6")).cancel()
    assert await text_of(shared, "x") == "6\n"


async def test_the_first_run_has_nothing_to_lose(runner_image: str) -> None:
    async with open_sandbox() as sandbox:
        assert (await sandbox.run("import os; os._exit(1)")).state == "restored"
        assert await text_of(sandbox, "1 + 1") == "2\n"


async def test_without_checkpoints_variables_are_lost_and_that_is_said(runner_image: str) -> None:
    async with open_sandbox(Settings(checkpoints=False, safety="off")) as sandbox:
        await text_of(sandbox, "x = 1")
        result = await sandbox.run("import os; os._exit(1)")
        assert (result.state, result.unprotected) == ("lost", None)
        assert (await sandbox.run("x")).outcome == "error"


@pytest.mark.timeout(400)
async def test_a_large_object_changed_in_place_costs_the_copy_and_not_the_run(runner_image: str) -> None:
    async with open_sandbox(PATIENT) as sandbox:
        await text_of(sandbox, "import numpy as np; a = np.ones(75_000_000)")
        result = await sandbox.run("a += 1; float(a[7])")
        assert (result.outcome, result.state, result.unprotected) == ("ok", "kept", "memory")
        assert result.output.text() == "2.0\n"
        assert (await sandbox.run("import os; os._exit(1)")).state == "restored"  # there is a new copy
        assert await text_of(sandbox, "float(a.sum())") == "150000000.0\n"


@pytest.mark.timeout(400)
async def test_where_memory_is_too_tight_for_a_copy_that_is_said(runner_image: str) -> None:
    async with open_sandbox(PATIENT) as sandbox:
        await text_of(sandbox, "import numpy as np; a = np.ones(118_000_000)")
        result = await sandbox.run("import os; os._exit(1)")
        assert (result.state, result.unprotected) == ("lost", "memory")
        assert (await sandbox.run("a")).outcome == "error"


async def test_native_threads_are_not_copied_and_that_is_said(runner_image: str) -> None:
    async with open_sandbox() as sandbox:
        await sandbox.install("polars")
        await text_of(sandbox, "import polars; f = polars.DataFrame({'a': list(range(1000))}).lazy()")
        await text_of(sandbox, "f.select(polars.col('a').sum()).collect().item()")
        result = await sandbox.run("import os; os._exit(1)")
        assert (result.state, result.unprotected) == ("lost", "threads")
        assert (await sandbox.run("f")).outcome == "error"


async def test_python_threads_end_with_their_interpreter_and_variables_come_back(shared: AsyncSandbox) -> None:
    await text_of(
        shared, "import threading\nstop = threading.Event()\nthreading.Thread(target=stop.wait).start()\nx = 3"
    )
    assert (await shared.run("import os; os._exit(1)")).state == "restored"
    assert await text_of(shared, "x, threading.active_count()") == "(3, 1)\n"


async def test_a_killed_copy_loses_the_variables_and_that_is_said(shared: AsyncSandbox) -> None:
    await text_of(shared, "x = 1")
    result = await shared.run("import os, signal; os.kill(-1, signal.SIGKILL); os.kill(os.getpid(), signal.SIGKILL)")
    assert (result.outcome, result.state, result.unprotected) == ("crashed", "lost", "died")
    assert (await shared.run("x")).outcome == "error"


async def test_a_copy_that_is_killed_while_the_next_one_is_made_costs_nothing(shared: AsyncSandbox) -> None:
    hook = """
import os, signal, time
def kill_the_last_one():
    if kills.pop():
        os.kill(-1, signal.SIGKILL)
        time.sleep(0.3)  # the supervisor reads of its end while it waits for the next one
os.register_at_fork(before=kill_the_last_one)
"""
    await shared.reset()
    await text_of(shared, "x = 41; kills = [False] * 99")
    await text_of(shared, hook)
    await text_of(shared, "kills.append(True); x += 1")
    after = await shared.run("x")
    assert (after.outcome, after.since, after.state, after.output.text()) == ("ok", "kept", "kept", "42\n")
    assert (await shared.run("os._exit(1)")).state == "restored"
    assert await text_of(shared, "x") == "42\n"
    await shared.reset()


POISONS = {
    "dies when forked": ("import os; os.register_at_fork(after_in_child=lambda: os._exit(1))", "kept", "lost", "hooks"),
    "hangs before the fork": (
        "import os, time; os.register_at_fork(before=lambda: time.sleep(1000))",
        "kept",
        "restored",
        None,
    ),
    "hangs in the child": (
        "import os, time; os.register_at_fork(after_in_child=lambda: time.sleep(1000))",
        "kept",
        "lost",
        "hooks",
    ),
    "dies of any code": (
        ("import sys, os\narmed = []\ndef trace(*_):\n    if armed: os._exit(1)\nsys.settrace(trace)\narmed.append(1)"),
        "kept",
        "lost",
        "died",
    ),
}


@pytest.mark.parametrize("poison", POISONS)
async def test_a_poisoned_copy_is_never_tried_again(shared: AsyncSandbox, poison: str) -> None:
    code, since, state, unprotected = POISONS[poison]
    await shared.reset()
    await text_of(shared, "x = 1")
    await text_of(shared, code)
    with anyio.fail_after(60):
        result = await shared.run("import os; os._exit(1)")
        assert (result.since, result.state, result.unprotected) == (since, state, unprotected)
        assert (await shared.run("x")).outcome == ("ok" if state == "restored" else "error")
        assert await text_of(shared, "1 + 1") == "2\n"


async def test_an_interpreter_that_ends_between_runs(shared: AsyncSandbox) -> None:
    await text_of(shared, "x = 1")
    await text_of(shared, "y = 2")  # whose checkpoint is made before the next run begins
    start = "import threading, os; threading.Timer(0.1, os._exit, [1]).start()"
    await text_of(shared, start)
    with anyio.fail_after(100):
        while (result := await shared.run("'y' in globals(), x")).since == "kept":
            if result.outcome != "ok":  # it has ended in a run
                await text_of(shared, start)
            await anyio.sleep(0.05)  # it is to end between two runs
    assert result.since == "restored"
    assert result.output.text() == "(True, 1)\n"


async def test_signal_handlers_of_the_user_s_wait_for_the_next_run(shared: AsyncSandbox) -> None:
    await text_of(
        shared,
        "import signal, time\nhits = []\nsignal.signal(signal.SIGALRM, lambda *_: hits.append(1))\n"
        "signal.setitimer(signal.ITIMER_REAL, 0.05)",
    )
    with anyio.fail_after(100):
        while await text_of(shared, "len(hits)") == "0\n":
            await anyio.sleep(0.02)  # the signal is to come between two runs


async def test_sandboxes_do_not_feel_each_other(shared: AsyncSandbox, api: APIClient) -> None:
    async with open_sandbox() as other:
        await text_of(other, "x = 9")
        async with anyio.create_task_group() as tasks:
            scope = await begin(tasks, shared, FORK_BOMB, timeout=30)
            for _ in range(20):
                assert await text_of(other, "x") == "9\n"
            scope.cancel()
        assert await text_of(shared, "1 + 1") == "2\n"


THREADS = "for _ in range(100): threading.Thread(target=go.wait).start()"
PROCESSES = "children = []\nfor _ in range(100): children.append(subprocess.Popen(['sleep', '100']))"
FORKS = "for _ in range(100):\n    if os.fork() == 0: time.sleep(100); os._exit(0)"


@pytest.mark.parametrize(
    "fill", [THREADS, f"threading.Thread(target=lambda: [0 for _ in iter(go.wait, 1)]).start()\n{THREADS}"]
)
@pytest.mark.parametrize("is_first", [True, False])
async def test_threads_leave_room_for_a_copy(shared: AsyncSandbox, fill: str, is_first: bool) -> None:
    await shared.reset()
    prepare = "precious = 42; import threading, time, os; go = threading.Event()\n"
    started = await shared.run(prepare + fill) if is_first else await shared.run(prepare)
    if not is_first:
        started = await shared.run(fill)
    assert started.error is not None and started.error.full == ("pids",)
    result = await shared.run("print(threading.active_count() > 30, precious)")
    assert (result.outcome, result.state, result.unprotected, result.output.text()) == ("ok", "kept", None, "True 42\n")
    for _ in range(2):
        lost = await shared.run("os._exit(1)")
        assert (lost.outcome, lost.state) == ("crashed", "restored")
    assert await text_of(shared, "precious") == "42\n"
    await shared.reset()


@pytest.mark.parametrize("fill", [PROCESSES, FORKS])
async def test_processes_at_the_limit_leave_room_for_a_copy(shared: AsyncSandbox, fill: str) -> None:
    await shared.reset()
    await text_of(shared, "precious = 42; import subprocess, os, time")
    filled = await shared.run(fill)
    assert filled.error is not None and filled.error.full == ("pids",)
    lost = await shared.run("os._exit(1)")
    assert (lost.outcome, lost.state) == ("crashed", "restored")
    assert await text_of(shared, "precious") == "42\n"


async def test_what_room_user_code_leaves_it_may_see_and_change(shared: AsyncSandbox) -> None:
    """Like any soft limit; the container's holds all the same."""
    await shared.reset()
    code = "import resource as r; soft, hard = r.getrlimit(r.RLIMIT_NPROC); print(soft)"
    assert await text_of(shared, code) == f"{Settings().limits.pids - 8}\n"
    child = (
        f"import subprocess, sys; print(subprocess.check_output([sys.executable, '-c', {code!r}], text=True), end='')"
    )
    assert await text_of(shared, child) == f"{Settings().limits.pids - 8}\n"
    await text_of(shared, "r.setrlimit(r.RLIMIT_NPROC, (30, hard))")
    for _ in range(2):
        assert await text_of(shared, "print(r.getrlimit(r.RLIMIT_NPROC)[0])") == "30\n"
        assert (await shared.run("import os; os._exit(1)")).state == "restored"
    await shared.reset()


async def test_threads_beyond_the_soft_limit_cost_no_variables(shared: AsyncSandbox) -> None:
    await shared.reset()
    await text_of(
        shared,
        "import resource as r, threading; precious = 42; go = threading.Event()\n"
        "r.setrlimit(r.RLIMIT_NPROC, (r.getrlimit(r.RLIMIT_NPROC)[1],) * 2)",
    )
    started = await shared.run("for _ in range(100): threading.Thread(target=go.wait).start()")
    assert started.error is not None
    result = await shared.run("precious")
    assert (result.outcome, result.state, result.output.text()) == ("ok", "kept", "42\n")
    assert result.unprotected == "EAGAIN"
    await text_of(shared, "go.set(); [thread.join() for thread in threading.enumerate()[1:]]")


async def test_children_that_were_ended_with_their_run_have_not_succeeded(shared: AsyncSandbox) -> None:
    await text_of(shared, "import subprocess; child = subprocess.Popen(['sleep', '100'])")
    assert await text_of(shared, "child.poll()") == "-9\n"


async def test_processes_that_have_ended_between_two_runs_are_told_to_multiprocessing(shared: AsyncSandbox) -> None:
    start = (
        "import multiprocessing, time\n"
        "child = multiprocessing.get_context('fork').Process(target=time.sleep, args=[100])\nchild.start()"
    )
    await text_of(shared, start)
    assert await text_of(shared, "child.join(); child.is_alive(), child.exitcode") == "(False, -9)\n"


async def test_helpers_of_multiprocessing_are_nothing_left_running_and_come_back_without_a_word(
    shared: AsyncSandbox,
) -> None:
    code = (
        "import multiprocessing\nfrom multiprocessing import shared_memory\n"
        "if __name__ == '__main__':\n"
        "    memory = shared_memory.SharedMemory(create=True, size=10); memory.close(); memory.unlink()\n"
        "    child = multiprocessing.get_context('forkserver').Process(target=print, args=['hi'])\n"
        "    child.start(); child.join()\n"
    )
    for _ in range(2):
        result = await shared.run(code)
        assert (result.outcome, result.ended, result.output.text()) == ("ok", 0, "hi\n")
    result = await shared.run(code + "    import subprocess; subprocess.Popen(['sleep', '100'])")
    assert result.ended == 3


FORGE = """
import json, re, socket, struct, sys
number = int(re.search(r"<run-(\\d+)>", sys._getframe().f_code.co_filename)[1])
error = {{"type": "E", "message": "", "line": {line}, "causes": {causes}, "full": {full}}}
report = {{"run": number, "ok": False, "changed": True, "exit_code": 1, "value": {value}, "error": error}}
report["imported"] = {imported}
for kind, fields in {frames}:
    payload = json.dumps(fields or report).encode()
    caller = socket.socket(socket.AF_UNIX)
    caller.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    caller.connect("/run/agentrun/report")
    caller.sendall(struct.pack(">IB", len(payload), kind) + payload)
import time; time.sleep(30)
"""
FORGERIES = {
    "unhashable": {"full": "[[]]"},
    "a number without end": {"line": "10**30"},
    "causes that are none": {"causes": "[{'type': 'E', 'text': '', 'errno': None, 'path': 1, 'function': None}]"},
    "a cause with a field of its own": {
        "causes": "[{'type': 'E', 'text': '', 'errno': None, 'path': None, 'function': None, 'more': 1}]"
    },
    "causes without end": {"causes": "[{'type': 'E', 'text': '', 'errno': None, 'path': None, 'function': None}] * 11"},
    "a long value": {"value": "'x' * 70_000"},
    "imports that are no names": {"imported": "[[1]]"},
    "imports without end": {"imported": "['x'] * 1000"},
    "a picture that is none": {"frames": "[(50, [1])]"},
    "another type of picture": {"frames": "[(50, {'type': 'image/gif', 'size': 5})]"},
}


@pytest.mark.parametrize("forgery", FORGERIES)
async def test_a_forged_report_is_the_end_of_its_worker_alone(shared: AsyncSandbox, forgery: str) -> None:
    await text_of(shared, "precious = 42")
    sound = {"line": "1", "causes": "[]", "full": "[]", "value": "None", "imported": "[]", "frames": "[(13, None)]"}
    fields = sound | FORGERIES[forgery]
    result = await shared.run(FORGE.format(**fields), timeout=10)
    assert (result.outcome, result.state) == ("crashed", "restored"), result
    assert await text_of(shared, "precious") == "42\n"


async def test_a_copy_that_only_lacks_the_processor_is_waited_for(runner_image: str) -> None:
    """It takes longer than a copy may, and the worker would be taken for one that hangs."""
    hook = """
import os, time
def work():
    end = time.process_time() + 0.7
    while time.process_time() < end: pass
os.register_at_fork(before=work)
x = 41
"""
    async with open_sandbox(Settings(safety="off", preload=(), cpus=0.15)) as sandbox:
        await text_of(sandbox, hook)
        after = await sandbox.run("x += 1\nx")
        assert (after.output.text(), after.since, after.unprotected) == ("42\n", "kept", None)
        assert (await sandbox.run("os._exit(1)")).state == "restored"
