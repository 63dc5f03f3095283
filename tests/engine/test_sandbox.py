"""One sandbox on a real engine: the living namespace, what it prints, and how runs end."""

from __future__ import annotations

import ast
import functools
import operator
import statistics

import anyio
import anyio.lowlevel
import pytest
from docker import APIClient

from mcp_agentrun.errors import EngineError, InvalidRequestError, SandboxLostError, UnavailableError
from mcp_agentrun.sandbox import AsyncSandbox, ReadFile, Result
from mcp_agentrun.server.mcp.render import run_answer
from mcp_agentrun.settings import Settings
from mcp_agentrun.wire import messages
from mcp_agentrun.wire.codec import ProtocolError
from tests.support.fake_engine import result as forged_result
from tests.support.sandboxes import begin, open_sandbox, text_of

pytestmark = pytest.mark.anyio


async def test_state_lives_from_run_to_run(shared: AsyncSandbox) -> None:
    await text_of(shared, "x = 41\ndef f(): return x + 1")
    result = await shared.run("x + 1")
    assert (result.output.text(), result.value) == ("42\n", "42")
    assert await text_of(shared, "f(); print(_)") == "42\n"


async def test_last_expression_is_shown_as_the_repl_shows_it(shared: AsyncSandbox) -> None:
    assert await text_of(shared, "None") == ""
    assert await text_of(shared, "'é'") == "'é'\n"
    assert await text_of(shared, "if True:\n    5\n") == ""
    assert await text_of(shared, "import sys; print(1, file=sys.stderr); print(2); 3") == "1\n2\n3\n"


async def test_streams_keep_the_order_of_writing(shared: AsyncSandbox) -> None:
    code = (
        "import os, sys, subprocess\n"
        "for i in range(200):\n"
        "    print('out', i)\n"
        "    print('err', i, file=sys.stderr)\n"
        "    os.write(1, b'raw %d\\n' % i)\n"
        "    if i % 50 == 0: subprocess.run(['echo', 'child', str(i)])\n"
    )
    expected = "".join(f"out {i}\nerr {i}\nraw {i}\n" + (f"child {i}\n" if i % 50 == 0 else "") for i in range(200))
    assert await text_of(shared, code) == expected


async def test_traceback_has_no_frame_of_ours_and_shows_source_of_earlier_runs(shared: AsyncSandbox) -> None:
    await text_of(shared, "def outer():\n    return inner()\n\ndef inner():\n    raise ValueError('no')\n")
    result = await shared.run("outer()")
    lines = result.output.text().splitlines()
    assert result.outcome == "error"
    assert result.exit_code == 1
    assert result.error is not None
    assert (result.error.type, result.error.message) == ("ValueError", "no")
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[-1] == "ValueError: no"
    assert "    return inner()" in lines
    assert "    raise ValueError('no')" in lines
    assert "runner" not in result.output.text()
    assert "worker.py" not in result.output.text()


async def test_syntax_error_is_printed_as_python_prints_it(shared: AsyncSandbox) -> None:
    result = await shared.run("print('before')\nx = = 1\n")
    assert result.outcome == "error"
    assert result.error is not None
    assert (result.error.type, result.error.line) == ("SyntaxError", 2)
    text = result.output.text()
    assert text.startswith('  File "<run-')
    assert text.endswith("SyntaxError: invalid syntax\n")
    assert "before" not in text


@pytest.mark.parametrize(
    ("code", "outcome", "exit_code", "printed"),
    [
        ("import sys; sys.exit()", "ok", 0, ""),
        ("import sys; sys.exit(0)", "ok", 0, ""),
        ("import sys; sys.exit(3)", "error", 3, ""),
        ("import sys; sys.exit(300)", "error", 44, ""),
        ("import sys; sys.exit('bye')", "error", 1, "bye\n"),
        ("raise SystemExit(-1)", "error", 255, ""),
        ("raise SystemExit(10**5000)", "error", 255, ""),
        ("import os; os._exit(37)", "crashed", 37, ""),
        ("import os; print('x'); os.abort()", "crashed", -6, "x\n"),
        ("import ctypes; ctypes.string_at(0)", "crashed", -11, ""),
    ],
)
async def test_exits(shared: AsyncSandbox, code: str, outcome: str, exit_code: int, printed: str) -> None:
    result = await shared.run(code)
    assert (result.outcome, result.exit_code, result.output.text()) == (outcome, exit_code, printed)
    assert await text_of(shared, "1 + 1") == "2\n"


async def test_hostile_exceptions_are_only_exceptions(shared: AsyncSandbox) -> None:
    code = """
class Meta(type):
    __name__ = property(lambda self: 1 / 0)
class Evil(Exception, metaclass=Meta):
    def __str__(self): raise KeyError
    __repr__ = __str__
raise Evil
"""
    result = await shared.run(code)
    assert result.outcome == "error"
    assert result.error is not None
    assert result.error.type == "Evil"
    surrogate = await shared.run("raise ValueError('\\ud800')")
    assert surrogate.error is not None
    assert surrogate.error.message == "\ud800"


async def test_code_finds_three_descriptors_and_may_close_them_all(shared: AsyncSandbox) -> None:
    assert await text_of(shared, "import os; print(sorted(map(int, os.listdir('/proc/self/fd'))))") == "[0, 1, 2, 3]\n"
    result = await shared.run("x = 'kept'\nos.closerange(0, 256)")
    assert (result.outcome, result.output.text()) == ("ok", "")
    assert await text_of(shared, "print(x)") == "kept\n"
    assert (await shared.run("import sys\nsys.stdout.close(); sys.stderr.close()")).outcome == "ok"
    assert await text_of(shared, "print(x); print('err', file=sys.stderr)") == "kept\nerr\n"


async def test_what_code_does_to_the_interpreter_is_the_end_of_nothing(shared: AsyncSandbox) -> None:
    for code in ("import sys; del sys.argv", "import builtins; del builtins.len, builtins.open, builtins.repr"):
        assert (await shared.run(code)).outcome == "ok"
        assert await text_of(shared, "1 + 1") == "2\n"
        result = await shared.run("1 / 0")
        assert (result.outcome, result.output.text().splitlines()[-1]) == (
            "error",
            "ZeroDivisionError: division by zero",
        )
    await shared.reset()


ODD = {
    "descriptors closed beside a helper": (
        "from multiprocessing import resource_tracker as r; r.ensure_running(); import os; os.closerange(3, 256)",
        "'kept'",
        "'kept'",
    ),
    "a module that refuses attributes": (
        (
            "import subprocess, sys, types\nchild = subprocess.Popen(['sleep', '99'])\nclass No(types.ModuleType):\n"
            "    def __getattr__(self, name): raise ImportError(name)\nsys.modules['subprocess'] = No('subprocess')"
        ),
        "del sys.modules['subprocess']; 'kept'",
        "'kept'",
    ),
    "no table of lines": (
        "import linecache; linecache.cache = None",
        "1 / 0",
        None,
    ),
    "a tracer from a hook": (
        (
            "import sys\nseen = []\ndef hook(*_): sys.settrace(lambda f, *_: seen.append(f.f_code.co_filename))\n"
            "sys.excepthook = hook\n1 / 0"
        ),
        "sys.settrace(None); sys.excepthook = sys.__excepthook__; [name for name in seen if 'runner' in name]",
        "[]",
    ),
    "a number with operators of its own": (
        "class Odd(int):\n    def __and__(self, other): return object()\nraise SystemExit(Odd(3))",
        "'kept'",
        "'kept'",
    ),
}


@pytest.mark.parametrize("name", ODD)
async def test_odd_code_does_no_harm_to_later_runs(shared: AsyncSandbox, name: str) -> None:
    first, second, value = ODD[name]
    await shared.run(first)
    result = await shared.run(second)
    assert (result.since, result.state, result.value) == ("kept", "kept", value)
    if value is None:
        assert result.error is not None and result.error.type == "ZeroDivisionError"
        assert result.output.text().endswith("ZeroDivisionError: division by zero\n")
    await shared.reset()


async def test_streams_that_can_not_be_flushed_end_a_run_as_they_end_python(shared: AsyncSandbox) -> None:
    result = await shared.run("import sys\nsys.stdout = open('/dev/full', 'w'); print(1); sys.stderr = None")
    assert (result.outcome, result.exit_code) == ("error", 120)
    await shared.reset()


async def test_stdin_is_at_its_end(shared: AsyncSandbox) -> None:
    assert await text_of(shared, "import sys; sys.stdin.read()") == "''\n"
    result = await shared.run("input()")
    assert result.error is not None
    assert result.error.type == "EOFError"


async def test_a_forked_child_does_not_answer_for_its_parent(shared: AsyncSandbox) -> None:
    code = "import os\nif os.fork() == 0:\n    print('child')\nelse:\n    os.wait()\n    print('parent')\n"
    for _ in range(3):
        assert await text_of(shared, code) == "child\nparent\n"
    assert await text_of(shared, "1 + 1") == "2\n"


async def test_removing_the_socket_of_the_turns_costs_nothing_but_time(shared: AsyncSandbox) -> None:
    await text_of(shared, "y = 7")
    assert (await shared.run("import shutil; shutil.rmtree('/run/agentrun', ignore_errors=True)")).outcome == "ok"
    assert await text_of(shared, "y") == "7\n"


async def test_what_a_run_started_ends_with_it_but_threads(shared: AsyncSandbox) -> None:
    code = """
import subprocess, threading, time, os
child = subprocess.Popen(["sleep", "1000"], start_new_session=True)
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        time.sleep(1000)
    os._exit(0)
go = threading.Event()
threading.Thread(target=lambda: (go.wait(), print("thread")), daemon=True).start()
"""
    await text_of(shared, code)
    alive = (
        "import os\nnames = []\nfor pid in os.listdir('/proc'):\n    if not pid.isdigit(): continue\n"
        "    try: fields = open(f'/proc/{pid}/stat').read().rpartition(')')\n    except OSError: continue\n"
        "    if fields[2].split()[0] != 'Z': names.append(fields[0].partition('(')[2])\nprint(sorted(set(names)))"
    )
    names = ast.literal_eval(await text_of(shared, alive))
    assert set(names) - {"relay"} == {"checker", "supervisor", "worker", "zygote"}  # a Pod has a relay
    await text_of(shared, "go.set(); [thread.join() for thread in threading.enumerate()[1:]]")


async def test_what_threads_print_between_runs_comes_apart_from_the_next_output(shared: AsyncSandbox) -> None:
    await text_of(shared, "import threading, time\ndef late():\n    time.sleep(0.2)\n    print('from a thread')")
    with anyio.fail_after(30):
        result = await shared.run("threading.Thread(target=late).start()")
        while not result.late.written:
            if "thread" in result.output.text():  # it has found itself in a run
                await shared.run("threading.Thread(target=late).start()")
            await anyio.sleep(0.05)  # the thread is to find itself between two runs
            result = await shared.run("print('from the run')")
    assert result.late.text() == "from a thread\n"
    assert result.output.text() == "from the run\n"


async def test_a_timeout_interrupts_shows_where_and_keeps_the_state(shared: AsyncSandbox) -> None:
    result = await shared.run("z = 1\nprint('begun')\nimport time\ntime.sleep(60)", timeout=2.5)
    assert (result.outcome, result.state, result.timeout) == ("timeout", "kept", 2.5)
    assert result.output.text().startswith("begun\nTraceback")
    assert "time.sleep(60)" in result.output.text()
    assert await text_of(shared, "z") == "1\n"


async def test_code_that_swallows_the_interrupt_is_killed_and_says_so(shared: AsyncSandbox) -> None:
    code = "import time\nwhile True:\n    try:\n        time.sleep(60)\n    except BaseException:\n        pass"
    result = await shared.run(code, timeout=3)
    assert (result.outcome, result.state) == ("timeout", "restored")
    assert await text_of(shared, "1 + 1") == "2\n"


async def test_memory_limit_is_named(shared: AsyncSandbox) -> None:
    result = await shared.run("blocks = []\nwhile True:\n    blocks.append(bytearray(16 << 20))")
    assert (result.outcome, result.state) == ("memory_limit", "restored")
    assert await text_of(shared, "1 + 1") == "2\n"


async def test_cancelling_interrupts_the_code_and_keeps_the_state(shared: AsyncSandbox) -> None:
    await text_of(shared, "import time, os\nkept = 5")
    async with anyio.create_task_group() as tasks:
        (await begin(tasks, shared, "time.sleep(60)", timeout=60)).cancel()
    with anyio.fail_after(50):  # it would be 60 if the code still ran
        result = await shared.run("kept")
    assert result.output.text() == "5\n"


@pytest.mark.parametrize("error", [ValueError("ours"), TimeoutError("ours"), SandboxLostError("ours")])
async def test_what_is_raised_while_a_run_is_watched_interrupts_the_code_and_keeps_the_state(
    shared: AsyncSandbox, error: Exception
) -> None:
    await text_of(shared, "import time\nkept = 5")
    starts = shared.container.starts

    async def on_output(_: bytes) -> None:
        raise error

    with pytest.raises(type(error), match="ours"):
        await shared.run("print('now', flush=True); time.sleep(60)", on_bytes=on_output)
    result = await shared.run("kept")
    assert (result.output.text(), result.since, result.replaced, shared.container.starts) == (
        "5\n",
        "kept",
        False,
        starts,
    )


async def test_what_is_raised_with_the_result_at_hand_costs_only_that_answer(shared: AsyncSandbox) -> None:
    async def then(result: Result, read: ReadFile) -> None:
        raise ValueError("ours")

    await text_of(shared, "kept = 5")
    with pytest.raises(ValueError, match="ours"):
        await shared.run("import os; os._exit(1)", then=then)
    result = await shared.run("kept")
    assert (result.output.text(), result.since) == ("5\n", "restored")


async def test_files_are_listed_in_the_middle_of_a_run_and_are_news_in_its_result(shared: AsyncSandbox) -> None:
    await shared.reset()
    link = await shared.container.connect()
    async with anyio.create_task_group() as tasks:
        scope = await begin(tasks, shared, "import time; time.sleep(60)", first="open('a', 'w').close()")
        assert [file.path for file in await shared.files.list()] == ["a"]
        async with anyio.create_task_group() as listing:
            for _ in range(Settings().limits.queue + 8):
                listing.start_soon(shared.files.page)
            listing.start_soon(_run_and_cancel, shared)  # there is a place in the queue nevertheless
        scope.cancel()
    assert link.is_alive
    await shared.reset()


async def _run_and_cancel(sandbox: AsyncSandbox) -> None:
    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(sandbox.run, "1")
            await anyio.wait_all_tasks_blocked()
            scope.cancel()


async def test_what_is_written_between_two_runs_is_news_though_it_was_listed(shared: AsyncSandbox) -> None:
    for delay in (0.01, 0.1, 1, 10):
        await shared.reset()
        code = f"import threading\nthreading.Timer({delay}, lambda: open('late', 'w').write('x')).start();"
        if not (await shared.run(code)).files:
            break  # otherwise it was written before the run had ended
    with anyio.fail_after(30):
        while not await shared.files.list():
            await anyio.lowlevel.checkpoint()
    assert [file.path for file in (await shared.run("1")).files] == ["late"]
    await shared.reset()


async def test_a_listing_that_nobody_has_asked_for_ends_the_container(shared: AsyncSandbox) -> None:
    """Or it would be the answer to the next question, and that one's to the one after it."""
    await text_of(shared, "1")
    link = await shared.container.connect()
    with pytest.raises(ProtocolError):
        link._deliver(messages.FileList(files=(), more=0))  # pyright: ignore[reportPrivateUsage]
    link.abandon("a test")
    with pytest.raises(SandboxLostError, match="a test"):
        await link.request(messages.ListFiles(folder="", after=""), messages.FileList)
    assert (await shared.run("1")).replaced


async def test_a_call_that_is_cancelled_before_its_code_was_sent_costs_nothing(shared: AsyncSandbox) -> None:
    await text_of(shared, "kept = 6")
    link = await shared.container.connect()
    async with link._sending, anyio.create_task_group() as tasks:  # pyright: ignore[reportPrivateUsage]
        tasks.start_soon(shared.run, "kept = 7")
        await anyio.wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()
    result = await shared.run("kept")
    assert (result.since, result.replaced, result.output.text()) == ("kept", False, "6\n")


async def test_a_container_that_breaks_the_protocol_is_not_believed_afterwards(shared: AsyncSandbox) -> None:
    await text_of(shared, "1")
    link = await shared.container.connect()
    number = int((await text_of(shared, "import sys; sys._getframe().f_code.co_filename"))[6:-3]) + 1
    for message in (messages.ResetDone(), forged_result(number)):
        link._put.send_nowait(message)  # pyright: ignore[reportPrivateUsage]
    with pytest.raises(SandboxLostError, match="unexpected ResetDone"):
        await shared.run("1")
    assert await text_of(shared, "1 + 1") == "2\n"


async def test_runs_at_once_queue_up(shared: AsyncSandbox) -> None:
    await text_of(shared, "order = []")
    async with anyio.create_task_group() as tasks:
        for number in range(8):
            tasks.start_soon(shared.run, f"order.append({number})")
    assert await text_of(shared, "sorted(order) == list(range(8))") == "True\n"


async def test_the_queue_is_bounded(runner_image: str) -> None:
    async with open_sandbox(Settings(queue=1, preload=())) as sandbox:
        await sandbox.ready()
        refused: list[Exception] = []

        async def run() -> None:
            try:
                await sandbox.run("import time; time.sleep(0.5)")
            except UnavailableError as error:
                refused.append(error)

        async with anyio.create_task_group() as tasks:
            for _ in range(4):
                tasks.start_soon(run)
        assert [str(error)[:20] for error in refused] == ["The sandbox is busy:"] * 2


async def test_output_beyond_what_is_kept_is_counted_and_the_run_goes_on(runner_image: str) -> None:
    async with open_sandbox(Settings(output_show=1000, output_keep=100_000, preload=())) as sandbox:
        result = await sandbox.run("print('a' * 3_000_000)\nprint('the end')\ndone = True")
        assert result.outcome == "ok"
        assert result.output.written == 3_000_001 + 8
        assert len(result.output.head) == 100_000
        text = result.output.text(1000)
        assert text.startswith("aaa")
        assert text.endswith("aaa\nthe end\n")
        assert "bytes of output not shown" in text
        assert (await sandbox.run("done")).output.text() == "True\n"


async def test_output_is_forwarded_while_the_run_goes_on(shared: AsyncSandbox) -> None:
    first = anyio.Event()
    seen: list[bytes] = []

    async def on_output(data: bytes) -> None:
        seen.append(data)
        if b"\n" in data:  # which may come by itself
            first.set()

    async with anyio.create_task_group() as tasks:

        async def run() -> None:
            await shared.run("print('now')\nimport time; time.sleep(60)", on_bytes=on_output)

        tasks.start_soon(run)
        with anyio.fail_after(25):  # before its time limit
            await first.wait()
        tasks.cancel_scope.cancel()
    assert b"".join(seen).startswith(b"now\n")


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("x = '\0'", "NUL character at position 5"),
        ("x = '\ud800'", r"lone surrogate \(U\+D800\) at position 5"),
        ("#" * 262_145, "exceeds the limit of 262144 bytes"),
        ("#" + "日" * 100_000, "exceeds the limit"),
    ],
)
async def test_code_that_can_not_be_accepted_is_refused(shared: AsyncSandbox, code: str, message: str) -> None:
    with pytest.raises(InvalidRequestError, match=message):
        await shared.run(code)
    assert await text_of(shared, "1 + 1") == "2\n"


@pytest.mark.parametrize("timeout", [0, -1, 301, float("nan"), float("inf")])
async def test_timeouts_that_can_not_be_accepted_are_refused(shared: AsyncSandbox, timeout: float) -> None:
    with pytest.raises(InvalidRequestError):
        await shared.run("1", timeout=timeout)


async def test_reset_forgets_variables_and_files(shared: AsyncSandbox) -> None:
    await text_of(
        shared,
        "import os\nq = 1\nos.makedirs('/workspace/a/b'); open('/workspace/a/b/c', 'w').write('x')\n"
        "open('/tmp/t', 'w').write('x'); open('/dev/shm/s', 'w').write('x')\n"
        "os.symlink('/etc', '/workspace/link'); os.chmod('/workspace/a/b', 0)\n"
        "path = '/workspace/deep'\nos.mkdir(path); os.chdir(path)\n"
        "for _ in range(400): os.mkdir('d' * 200); os.chdir('d' * 200)\n",
    )
    await shared.reset()
    result = await shared.run("q")
    assert result.error is not None
    assert result.error.type == "NameError"
    assert await text_of(shared, "import os; print(os.getcwd(), os.listdir('/workspace'), os.listdir('/dev/shm'))") == (
        "/workspace [] []\n"
    )
    assert await text_of(shared, "os.listdir('/tmp')") == "['home']\n"


async def test_a_port_is_free_after_a_reset(shared: AsyncSandbox) -> None:
    listening = "import socket; s = socket.create_server(('127.0.0.1', 4567)); held = b'x' * 300_000_000"
    for _ in range(10):
        await shared.reset()
        result = await shared.run(listening)
        assert result.outcome == "ok", result.output.text()


async def test_reset_can_keep_files(shared: AsyncSandbox) -> None:
    await text_of(shared, "r = 1; open('kept.txt', 'w').write('kept')")
    await shared.reset(keep_files=True)
    assert (await shared.run("r")).outcome == "error"
    assert await text_of(shared, "print(open('kept.txt').read())") == "kept\n"


@pytest.mark.parametrize("keep_files", [True, False])
async def test_a_reset_that_is_cancelled_is_done_and_told(shared: AsyncSandbox, keep_files: bool) -> None:
    await text_of(shared, "r = 1; open('kept.txt', 'w').write('kept')")
    starts = shared.container.starts
    link = await shared.container.connect()
    async with anyio.create_task_group() as tasks, link._sending:  # pyright: ignore[reportPrivateUsage]
        tasks.start_soon(functools.partial(shared.reset, keep_files=keep_files))
        await anyio.wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()
    result = await shared.run("import os; print('r' in globals(), os.path.exists('kept.txt'))")
    assert result.output.text() == f"False {keep_files}\n"
    assert (result.since, result.replaced, shared.container.starts) == ("lost", not keep_files, starts)
    assert (await shared.run("1")).since == "kept"
    await shared.reset()


async def test_random_numbers_differ_after_a_reset(shared: AsyncSandbox) -> None:
    code = "import random, numpy; print(random.random(), numpy.random.rand())"
    first = await text_of(shared, code)
    await shared.reset()
    second = await text_of(shared, code)
    assert not set(first.split()) & set(second.split())


async def test_data_packages_are_there(shared: AsyncSandbox) -> None:
    await shared.reset()
    assert await text_of(shared, "import sys; print('pandas' in sys.modules)") == "True\n"
    assert await text_of(shared, "import pandas as pd; pd.DataFrame({'a': [1, 2]}).a.sum()") == "np.int64(3)\n"


async def test_what_was_imported_beforehand_is_shared_by_worker_and_checkpoint(shared: AsyncSandbox) -> None:
    await shared.reset()
    await text_of(shared, "import json, pandas, resource, sys")
    objects = "None", "json.dumps", "pandas.DataFrame.sum", "json.dumps.__code__.co_consts", "object()"
    counts = [await text_of(shared, f"sys.getrefcount({each})") for each in objects]
    assert counts[0] == counts[1] == counts[2] == counts[3] != counts[4] == "1\n"
    code = "resource.getrusage(resource.RUSAGE_SELF).ru_minflt"
    faults = [int((await shared.run(code)).value or "") for _ in range(9)]
    assert statistics.median(map(operator.sub, faults[1:], faults)) < 350  # without immortal objects 450


async def test_packages_are_installed_seen_and_forgotten(shared: AsyncSandbox) -> None:
    await text_of(shared, "before = 1")
    assert (await shared.run("import cowsay")).outcome == "error"
    installed = await shared.install("cowsay")
    assert [name for name, _ in installed.packages] == ["cowsay"]
    assert await text_of(shared, "import cowsay; print(before, cowsay.__name__)") == "1 cowsay\n"
    more = await shared.install("iniconfig")
    assert [name for name, _ in more.packages] == ["iniconfig"]
    assert await text_of(shared, "import iniconfig, cowsay; print(iniconfig.__name__)") == "iniconfig\n"
    assert (await shared.install("numpy")).satisfied[0][0] == "numpy"
    await shared.reset(keep_packages=True)
    assert await text_of(shared, "import cowsay, iniconfig; print(1)") == "1\n"
    await shared.reset()
    assert (await shared.run("import cowsay")).outcome == "error"


async def test_two_sandboxes_see_nothing_of_each_other(shared: AsyncSandbox) -> None:
    await text_of(shared, "mine = 1; open('mine.txt', 'w').write('x'); open('/tmp/mine', 'w')")
    await shared.install("cowsay")
    async with open_sandbox() as other:
        assert await text_of(other, "import os; os.listdir('.'), os.listdir('/tmp')") == "([], ['home'])\n"
        assert (await other.run("mine")).outcome == "error"
        assert (await other.run("import cowsay")).outcome == "error"
        assert (await other.run("os.listdir('/packages/sandboxes')")).error is not None
        assert (await other.run("os.listdir('/packages/lanes')")).error is not None
        pids = await text_of(other, "print(len([p for p in os.listdir('/proc') if p.isdigit()]) < 8)")
        assert pids == "True\n"


async def test_a_container_that_is_gone_is_replaced_and_the_loss_told(runner_image: str, api: APIClient) -> None:
    async with open_sandbox() as sandbox:
        await text_of(sandbox, "x = 1")
        (container,) = api.containers(filters={"label": f"mcp-agentrun.sandbox={sandbox.id}"})
        async with anyio.create_task_group() as tasks:

            async def run() -> None:
                with pytest.raises(UnavailableError, match="lost during this call"):
                    await sandbox.run("print('begun', flush=True); import time; time.sleep(60)", on_bytes=on_output)

            async def on_output(_: bytes) -> None:
                begun.set()

            begun = anyio.Event()
            tasks.start_soon(run)
            await begun.wait()
            await anyio.to_thread.run_sync(lambda: api.kill(container["Id"]))
        result = await sandbox.run("x")
        assert result.replaced
        assert result.outcome == "error"
        assert not (await sandbox.run("1")).replaced


@pytest.mark.parametrize(("count", "told"), [(0, None), (1, "1 process was still"), (3, "3 processes were still")])
async def test_what_a_run_leaves_running_is_named(shared: AsyncSandbox, count: int, told: str | None) -> None:
    code = f"import subprocess\nkept = [subprocess.Popen(['sleep', '1000']) for _ in range({count})]\n"
    result = await shared.run(code + "subprocess.Popen(['true']).wait(); None")
    assert result.ended == count
    content = run_answer(result, handle=None, new=False).content[0]
    text = getattr(content, "text", "")
    assert told is None or told in text, text
    assert ("ended with the call" in text) == (told is not None)


async def test_code_that_caught_its_interrupt_was_not_successful(shared: AsyncSandbox) -> None:
    result = await shared.run("import time\ntry: time.sleep(60)\nexcept KeyboardInterrupt: print('caught')", timeout=3)
    assert (result.outcome, result.exit_code, result.output.text()) == ("timeout", 130, "caught\n")


async def test_a_runtime_that_the_engine_lacks_is_named(runner_image: str) -> None:
    async with open_sandbox(Settings(runtime="no-such-runtime")) as sandbox:
        with pytest.raises(EngineError, match=r"no runtime 'no-such-runtime'.*unset AGENTRUN_RUNTIME"):
            await sandbox.run("1")
