"""What objects of the code's do while the runner is at work is theirs: their output is shown, and no frame of ours."""

from __future__ import annotations

import anyio
import pytest

from mcp_agentrun.sandbox import AsyncSandbox, Result
from tests.support.sandboxes import text_of

pytestmark = pytest.mark.anyio


def assert_clean(result: Result) -> str:
    text = result.output.text() + result.late.text()
    assert "/opt/agentrun" not in text and "runner:" not in text, text
    return text


# -- asyncio


async def test_tasks_begin_without_an_await_and_go_on(shared: AsyncSandbox) -> None:
    code = (
        "import asyncio\nasync def f(n):\n    print('begun', n)\n    await asyncio.sleep(0)\n    print('stepped')\n"
        "    await ready.wait()\n    print('ended')\nready = asyncio.Event()\n"
    )
    assert (
        await text_of(shared, code + "task = asyncio.create_task(f(1))\nprint('first')") == "first\nbegun 1\nstepped\n"
    )
    assert await text_of(shared, "ready.set()\ntask.done()") == "False\nended\n"
    assert await text_of(shared, "task.done()") == "True\n"
    assert await text_of(
        shared, "from asyncio import create_task\nt = create_task(f(2), name='named')\nt.get_name()"
    ) == ("'named'\nbegun 2\nstepped\nended\n")


ASYNC = {
    "in a function": "def start(): return asyncio.create_task(f())\nt = start()",
    "in a list": "ts = [asyncio.create_task(f()) for _ in range(1)]",
    "ensured": "t = asyncio.ensure_future(f())",
    "gathered": "t = asyncio.gather(f())",
    "beside asyncio.run": "t = asyncio.create_task(f())\nasyncio.run(asyncio.sleep(0))",
    "beside an await": "t = asyncio.create_task(f())\nawait asyncio.sleep(0)",
    "in a runner": "async def main():\n    await asyncio.create_task(f())\nasyncio.run(main())",
}


@pytest.mark.parametrize("way", ASYNC)
async def test_tasks_run_however_they_are_made(shared: AsyncSandbox, way: str) -> None:
    await text_of(shared, "import asyncio\nasync def f(): print('ran')")
    result = await shared.run(ASYNC[way])
    assert assert_clean(result).count("ran\n") == 1, result.output.text()
    assert result.outcome == "ok"
    assert assert_clean(await shared.run("1")) == "1\n"


@pytest.mark.parametrize("way", [*ASYNC, "from a loop", "after a future"])
async def test_a_task_may_be_the_first_of_a_session(shared: AsyncSandbox, way: str) -> None:
    ways = {
        **ASYNC,
        "from a loop": "t = asyncio.get_event_loop().create_task(f())",
        "after a future": "t = asyncio.Future()\nt.set_result(0)\nasyncio.run(f())\n_ = asyncio.gather()",
    }
    await shared.reset()
    await text_of(shared, "import asyncio\nasync def f(): print('ran')")
    assert await text_of(shared, ways[way]) == "ran\n"
    assert assert_clean(await shared.run("await t if 't' in globals() else None; 'goes on'")) == "'goes on'\n"


async def test_a_forked_process_has_loops_of_its_own(shared: AsyncSandbox) -> None:
    code = (
        "import asyncio, multiprocessing as m\nloop = asyncio.get_event_loop()\n"
        "def f(q):\n    try: asyncio.create_task(asyncio.sleep(0))\n    except RuntimeError as e: q.put(str(e))\n"
        "    import warnings; warnings.simplefilter('ignore')\n    q.put(asyncio.get_event_loop() is loop)\n"
        "c = m.get_context('fork'); q = c.Queue(); p = c.Process(target=f, args=(q,)); p.start()\n"
        "print(q.get(), q.get()); p.join()"
    )
    assert "no running event loop False\n" in await text_of(shared, code)


async def test_in_other_threads_there_is_no_loop(shared: AsyncSandbox) -> None:
    code = (
        "import asyncio, threading\ndef f():\n    c = asyncio.sleep(0)\n    try: asyncio.create_task(c)\n"
        "    except RuntimeError as e: print(e)\n    c.close()\nt = threading.Thread(target=f); t.start(); t.join()"
    )
    assert await text_of(shared, code) == "no running event loop\n"


async def test_an_error_in_a_task_is_the_task_s(shared: AsyncSandbox) -> None:
    code = "import asyncio\nasync def bad(): raise KeyError('in a task')\ntask = asyncio.create_task(bad())"
    await text_of(shared, code)
    result = await shared.run("await task")
    assert "KeyError: 'in a task'" in assert_clean(result)


@pytest.mark.parametrize("code", ["f()", "x = f()\ndel x", "f();", "[f()]"])
async def test_a_coroutine_that_nobody_awaits(shared: AsyncSandbox, code: str) -> None:
    await text_of(shared, "async def f(): pass")
    texts = [assert_clean(await shared.run(code)), assert_clean(await shared.run("7"))]
    assert "".join(texts).count("RuntimeWarning: coroutine 'f' was never awaited") == 1, texts


# -- signals, streams, audit hooks


ALARM = "import signal\ndef alarm(*_): raise ValueError('from a handler')\nsignal.signal(signal.SIGALRM, alarm)\n"


async def test_what_a_signal_handler_raises_between_runs_is_shown(shared: AsyncSandbox) -> None:
    await text_of(shared, ALARM + "signal.setitimer(signal.ITIMER_REAL, 0.02);")
    with anyio.fail_after(100):
        while (result := await shared.run("1")).outcome == "ok":
            await anyio.sleep(0.01)  # the signal is to come between two runs
    text = assert_clean(result)
    assert text.removeprefix("1\n").startswith("Traceback (most recent call last):\n"), text
    assert text.endswith("ValueError: from a handler\n")
    assert text.count("File ") == 1, text
    assert result.error is not None and result.error.type == "ValueError"
    assert await text_of(shared, "1") == "1\n"


async def test_what_one_raises_while_a_figure_is_drawn_is_shown(shared: AsyncSandbox) -> None:
    code = (
        "import matplotlib.pyplot as plt\nplt.plot([1])\nfigure = plt.gcf()\n"
        "figure.draw = lambda *_: signal.raise_signal(signal.SIGALRM)\nNone"
    )
    text = assert_clean(await shared.run(ALARM.replace("ValueError", "SystemError") + code))
    assert "SystemError: from a handler" in text
    await text_of(shared, "signal.signal(signal.SIGALRM, signal.SIG_DFL)\nNone")


EVENTS = [
    "socket.__new__",
    "socket.connect",
    "open",
    "compile",
    "os.listdir",
    "sys._getframe",
    "marshal.loads",
    "code.__new__",
]


@pytest.mark.parametrize("event", [*EVENTS, ""])
async def test_audit_hooks_do_not_hear_the_runner(shared: AsyncSandbox, event: str) -> None:
    await shared.reset()
    await text_of(shared, "x = 41")
    condition = f"event == {event!r}" if event else "armed"
    hook = (
        f"import sys\narmed = []\nseen = 0\ndef hook(event, _):\n    global seen\n    seen += 1\n"
        f"    if {condition}: raise RuntimeError('no ' + event)\nsys.addaudithook(hook)\n"
    )
    result = await shared.run(hook + "armed.append(1)")
    assert (result.outcome, result.state) == ("ok", "kept"), result.output.text()
    code = "x += 1\ntry: sys.audit('mine')\nexcept RuntimeError: pass\nprint(x, seen > 0)"
    result = await shared.run(code)
    assert (result.outcome, result.output.text(), result.state) == ("ok", "42 True\n", "kept")
    result = await shared.run("compile('1', '', 'eval')")
    assert result.outcome == ("error" if event in ("compile", "") else "ok")
    assert_clean(result)
    await shared.reset()


async def test_an_audit_hook_sees_the_code_s_own_frame(shared: AsyncSandbox) -> None:
    code = (
        "import sys\ndef hook(event, _):\n"
        "    if event == 'mine': print(sys._getframe(1).f_lineno, sys._getframe(1).f_code.co_name)\n"
        "sys.addaudithook(hook)\nsys.audit('mine')"
    )
    assert await text_of(shared, code) == "5 <module>\n"
    await shared.reset()


@pytest.mark.parametrize("method", ["__repr__", "_repr_html_", "_repr_mimebundle_", "__del__", "write", "flush"])
async def test_stacks_that_objects_print_are_theirs(shared: AsyncSandbox, method: str) -> None:
    code = (
        "import sys, traceback\nclass Mine:\n    def write(self, text): sys.__stdout__.write(text)\n"
        "    def flush(self): pass\n"
        f"    def {method}(self, *given, **named):\n"
        "        traceback.print_stack(file=sys.__stdout__)\n"
        "        return sys.__stdout__.write(*given) if 'write' == '" + method + "' else 'text'\n"
    )
    use = "sys.stdout = Mine(); print(1)" if method in ("write", "flush") else "Mine()"
    first = assert_clean(await shared.run(code + use)) if method not in ("flush", "__del__") else ""
    if not first:
        await shared.run(code + use)
    assert_clean(await shared.run("sys.stdout = sys.__stdout__\n1")) if method != "__del__" else None


SLOW = """
import os, sys, time
class Slow:
    def write(self, text): self.flush()
    def flush(self):
        while os.path.exists("/tmp/hang"):
            {wait}
sys.stdout = sys.stderr = Slow()
"""
WAITS = {
    "sleep": "time.sleep(100)",
    "and ignore interrupts": "try: time.sleep(100)\n            except BaseException: pass",
}


@pytest.mark.parametrize("wait", WAITS)
async def test_streams_that_hang_lose_no_variables(shared: AsyncSandbox, wait: str) -> None:
    """Those of the copy hang as well."""
    await shared.reset()
    await text_of(shared, "precious = 42")
    await text_of(shared, SLOW.format(wait=WAITS[wait]))
    for code in ("open('/tmp/hang', 'w').close()", "precious", "print(precious)", "1 / 0"):
        result = await shared.run(code, timeout=1)
        assert result.outcome in ("timeout", "ok", "error") and result.state != "lost", (code, result)
    await shared.run("os.remove('/tmp/hang'); sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__", timeout=10)
    assert await text_of(shared, "precious") == "42\n"


# -- forks


@pytest.mark.parametrize(("when", "tries"), [("after_in_child", 1), ("before", 1)])
async def test_a_fork_hook_that_hangs_delays_one_call_and_not_each(shared: AsyncSandbox, when: str, tries: int) -> None:
    await shared.reset()
    code = (
        "import os, time\nprecious = 42\ndef count():\n    if os.path.exists('/tmp/hang'): os.write(counter, b'x')\n"
        "def hook():\n    if os.path.exists('/tmp/hang'): time.sleep(1000)\ncounter = os.open('/tmp/forks', 0o102)\n"
        f"os.register_at_fork({when}=hook)\nos.register_at_fork(before=count)"
    )
    await text_of(shared, code)
    await text_of(shared, "open('/tmp/hang', 'w').close()")
    told = [(await shared.run(f"y{number} = precious")).unprotected for number in range(6)]
    assert await text_of(shared, "print(os.path.getsize('/tmp/forks'))") == f"{tries}\n"
    assert told.count("hooks") == 1, told
    assert await text_of(shared, "print(precious, 'y5' in globals())") == "42 True\n"
    await shared.reset()
