"""The library, as a developer of an agent uses it: with and without coroutines, on asyncio and on trio."""

from __future__ import annotations

import os
import re
import shutil
import stat
import threading
import time
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any, cast

import anyio
import pytest

import mcp_agentrun
from mcp_agentrun import (
    AsyncRuntime,
    AsyncSandbox,
    BusyError,
    FileError,
    Files,
    InvalidRequestError,
    Runtime,
    Sandbox,
    SandboxFiles,
    Script,
    Settings,
    SettingsError,
    UnavailableError,
)
from tests.support.sandboxes import begin

pytestmark = pytest.mark.usefixtures("runner_image")


def test_a_sandbox_in_a_few_lines() -> None:
    with Sandbox(memory="600m", safety="off") as sandbox:
        assert sandbox.run("x = 41").text == ""
        result = sandbox.run("x + 1")
        assert (result.text, result.outcome, result.exit_code, result.state) == ("42\n", "ok", 0, "kept")
        assert result.error is None and result.duration > 0

        failed = sandbox.run("def f():\n    return 1 / 0\nf()")
        assert failed.outcome == "error" and failed.error is not None
        assert (failed.error.type, failed.error.message, failed.error.line) == (
            "ZeroDivisionError",
            "division by zero",
            2,
        )
        assert "Traceback" in failed.text

        assert sandbox.run("while True: pass", timeout=0.5).outcome == "timeout"
        assert sandbox.run("x").text == "41\n"
        sandbox.reset()
        assert sandbox.run("x").outcome == "error"


def test_output_is_passed_on_as_text_while_it_is_written() -> None:
    with Sandbox(safety="off") as sandbox:
        parts: list[str] = []
        code = "import sys\nfor b in 'aé€🐍\\n'.encode(): sys.stdout.buffer.write(bytes([b])); sys.stdout.flush()"
        result = sandbox.run(code, on_output=parts.append)
        assert "".join(parts) == result.text == "aé€🐍\n"

        def refuse(_: str) -> None:
            raise KeyError("not wanted")

        with pytest.raises(KeyError, match="not wanted"):
            sandbox.run("y = 1\nprint(y, flush=True)\nimport time; time.sleep(60)", on_output=refuse)
        assert sandbox.run("y").text == "1\n"  # the run was interrupted, and the session lives


def test_many_threads_use_one_sandbox_and_several_of_one_runtime() -> None:
    with Runtime(Settings(safety="off", queue=32)) as runtime, runtime.sandbox() as one, runtime.sandbox() as other:
        other.run("total = -1")
        one.run("total = 0")
        with ThreadPoolExecutor(8) as threads:
            list(threads.map(one.run, ["total += 1"] * 24))
        assert (one.run("total").text, other.run("total").text) == ("24\n", "-1\n")


def test_the_queue_is_bounded_and_errors_carry_what_they_are_about() -> None:
    with Sandbox(safety="off", queue=1, max_timeout=60) as sandbox:
        begun = threading.Event()
        with ThreadPoolExecutor(3) as threads:
            code = "print('begun', flush=True)\nimport time; time.sleep(60)"
            first = threads.submit(sandbox.run, code, timeout=60, on_output=lambda _: begun.set())
            assert begun.wait(30)
            others = [threads.submit(sandbox.run, "1") for _ in range(2)]
            (refused,), (waiting,) = wait(others, timeout=30, return_when=FIRST_COMPLETED)
            with pytest.raises(BusyError) as busy:
                refused.result()
            assert busy.value.limit == 1
            sandbox.interrupt()
            assert first.result().outcome == "cancelled" and waiting.result().outcome == "ok"
        with pytest.raises(InvalidRequestError) as invalid:
            sandbox.run("1", timeout=61)
        assert (invalid.value.argument, invalid.value.limit) == ("timeout", 60)


def test_wrong_use_is_an_error_that_says_what_to_do() -> None:
    with pytest.raises(SettingsError, match="did you mean 'memory'"):
        Sandbox(memroy="2g")  # pyright: ignore[reportCallIssue]
    with pytest.raises(SettingsError, match="kubernets"):
        Sandbox(engine="kubernets")
    with pytest.raises(RuntimeError, match="with"):
        Sandbox().run("1")
    with Runtime() as runtime, pytest.raises(TypeError, match="runtime"):
        Sandbox(runtime=runtime, memory="2g")


def test_arguments_of_a_wrong_type_cost_nothing() -> None:
    wrong: Any = [b"1", 1, None]
    with Sandbox(safety="off") as sandbox:
        sandbox.run("x = 1")
        for code in wrong:
            with pytest.raises(TypeError, match="code must be a string"):
                sandbox.run(code)
        for timeout in cast("Any", (True, "5", b"")):
            with pytest.raises(TypeError, match="timeout must be a number"):
                sandbox.run("1", timeout=timeout)
        for requirements in cast("Any", (5, None, ["requests"])):
            with pytest.raises(TypeError, match="requirement must be a string"):
                sandbox.install("numpy", requirements)
        for options in cast("Any", ({"stream": "yes"}, {"script": Script("a", cast("Any", [1]))})):
            with pytest.raises(InvalidRequestError, match="can't be accepted"):
                sandbox.run("1", **options)
        with pytest.raises(InvalidRequestError, match="can't be accepted"):
            sandbox.reset(keep_files=cast("Any", "no"))
        for argv in (["a"] * 10_001, ["a" * 200_000], ["a" * 100_000] * 100):
            with pytest.raises(InvalidRequestError, match="can't be accepted"):
                sandbox.run("1", script=Script("a.py", argv))
        for after in cast("Any", (5, "\ud800")):
            with pytest.raises(InvalidRequestError, match="can't be accepted"):
                sandbox.files.page(after=after)
        for path in cast("Any", (Path("x"), None, b"x")):
            with pytest.raises(TypeError, match="named by a string"):
                sandbox.files.read(path)
            with pytest.raises(TypeError, match="named by a string"):
                sandbox.files.write(path, b"")
        with pytest.raises(TypeError, match="encode the string"):
            Script(stdin=cast("Any", "text"))
        with pytest.raises(TypeError, match="encode a string"):
            sandbox.files.write("a.txt", cast("Any", "text"))
        assert sandbox.run("x").text == "1\n"


def test_a_sandbox_without_with() -> None:
    sandbox = Sandbox(safety="off")
    sandbox.start()
    sandbox.start()
    assert sandbox.run("1").text == "1\n"
    sandbox.close()
    sandbox.close()
    sandbox.start()  # another container
    assert sandbox.run("2").text == "2\n"
    sandbox.close()


async def fail_inside(pool: int) -> None:
    async with AsyncRuntime(safety="off", pool=pool) as runtime, runtime.sandbox() as sandbox:
        await sandbox.ready()
        raise KeyError


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_coroutines_on_either_event_loop(backend: str) -> None:
    async def use() -> None:
        async with AsyncRuntime(safety="off") as runtime, runtime.sandbox() as one, runtime.sandbox() as other:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(one.run, "x = 'one'")
                tasks.start_soon(other.run, "x = 'other'")
            assert ((await one.run("x")).text, (await other.run("x")).text) == ("'one'\n", "'other'\n")
            parts: list[str] = []

            async def receive(text: str) -> None:
                parts.append(text)

            await one.run("print('a', flush=True); print('b')", on_output=receive)
            assert "".join(parts) == "a\nb\n"
            async with anyio.create_task_group() as tasks:
                (await begin(tasks, one, "time.sleep(60)", first="import time; y = 1")).cancel()
            assert (await one.run("y")).text == "1\n"
            await one.reset()
            assert (await one.run("x")).outcome == "error"
        async with AsyncSandbox(safety="off") as sandbox:
            assert (await sandbox.run("6 * 7")).text == "42\n"

        for pool in range(2):
            with pytest.raises(KeyError):  # as it is, in no group
                await fail_inside(pool)

    anyio.run(use, backend=backend)


def test_everything_named_is_there() -> None:
    assert mcp_agentrun.__all__ == sorted(mcp_agentrun.__all__)
    assert all(getattr(mcp_agentrun, name) for name in mcp_agentrun.__all__)
    with pytest.raises(AttributeError):
        mcp_agentrun.nothing  # noqa: B018


def test_files_go_in_and_out(tmp_path: Path) -> None:
    with Sandbox(safety="off") as sandbox:
        sandbox.files.write("data/in.csv", b"x,y\n1,2\n")
        result = sandbox.run("import shutil; shutil.copy('data/in.csv', 'out.csv'); open('empty', 'w').close()")
        assert [(file.path, file.change) for file in result.files] == [("empty", "created"), ("out.csv", "created")]
        assert sandbox.files.read("out.csv") == b"x,y\n1,2\n"
        assert sandbox.files.save("out.csv", tmp_path / "copy.csv") == 8
        sandbox.files.write("copy.csv", tmp_path / "copy.csv")
        assert [file.path for file in sandbox.files.list()] == ["copy.csv", "data/in.csv", "empty", "out.csv"]
        sandbox.files.remove("out.csv")
        with pytest.raises(FileError) as missing:
            sandbox.files.read("out.csv")
        assert (missing.value.reason, missing.value.path) == ("missing", "out.csv")
        with pytest.raises(FileError):
            sandbox.files.save("out.csv", tmp_path / "copy.csv")
        assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("copy.csv", b"x,y\n1,2\n")]
        sandbox.reset(keep_files=True)
        assert sandbox.files.read("copy.csv") == b"x,y\n1,2\n"


def test_a_runtime_closes_its_sandboxes_and_calls_that_wait_for_them() -> None:
    runtime = Runtime(safety="off")
    runtime.start()
    sandbox = runtime.sandbox()
    sandbox.start()
    assert sandbox.run("1").text == "1\n"
    begun = threading.Event()
    with ThreadPoolExecutor(3) as threads:
        code = "print('begun', flush=True)\nimport time; time.sleep(60)"
        runs = [threads.submit(sandbox.run, code, on_output=lambda _: begun.set()) for _ in range(3)]
        assert begun.wait(30)
        queue = sandbox._twin._queue._lock  # pyright: ignore[reportPrivateUsage]
        while queue.statistics().tasks_waiting < 2:
            time.sleep(0.01)  # it tells nobody
        runtime.close()
        errors = [run.exception() for run in runs]
    assert all(isinstance(error, UnavailableError) for error in errors), errors
    assert (sandbox.stage, runtime.open_sandboxes) == ("closed", set())
    sandbox.close()
    with pytest.raises(RuntimeError, match="with"):
        sandbox.run("1")


def test_callbacks_can_neither_wait_for_their_own_loop_nor_end_it() -> None:
    with Sandbox(safety="off") as sandbox:
        for method in (sandbox.interrupt, sandbox.close, lambda: sandbox.run("1")):
            with pytest.raises(RuntimeError, match="event loop"):
                sandbox.run("x = 1\nprint(x)", on_output=lambda _, method=method: method() and None)
        for ending in (KeyboardInterrupt, SystemExit):

            def end(_: str, ending: type[BaseException] = ending) -> None:
                raise ending

            with pytest.raises(ending):
                sandbox.run("print(x)", on_output=end)
        assert sandbox.run("x").text == "1\n"


def test_the_twin_has_the_methods_of_what_it_is_a_twin_of() -> None:
    for twin, original in ((Runtime, AsyncRuntime), (Sandbox, AsyncSandbox), (SandboxFiles, Files)):
        of_servers = {"check_run", "container", "engine", "installer", "running_container"}
        assert not (set(_public(original)) - of_servers - set(_public(twin))), twin


def _public(kind: type) -> list[str]:
    return [name for name in dir(kind) if not name.startswith("_")]


def test_the_twin_does_what_coroutines_do(tmp_path: Path) -> None:
    with Sandbox(safety="off") as sandbox:
        sandbox.ready()
        assert (sandbox.is_ready, sandbox.stage, sandbox.state, len(sandbox.id)) == (True, "ready", "kept", 32)
        script = Script("job.py", ["job.py", "an argument"], stdin=b"typed\n" * 100_000)
        parts: list[str] = []
        code = "import sys\nfor line in sys.stdin: print(sys.argv[1], line, end='')"
        assert sandbox.run(code, script=script, stream=True, on_output=parts.append).exit_code == 0
        assert "".join(parts) == "an argument typed\n" * 100_000

        result = sandbox.run("open('a.bin', 'wb').write(bytes(3 << 20))")
        (made,) = result.files
        assert (made.path, made.change, made.size) == ("a.bin", "created", 3 << 20)
        assert b"".join(sandbox.files.stream(made)) == sandbox.files.read(made) == bytes(3 << 20)
        assert sandbox.files.save(made, tmp_path / "a.bin") == 3 << 20 == (tmp_path / "a.bin").stat().st_size
        assert [file.path for file in sandbox.files.page().files] == ["a.bin"]
        sandbox.files.remove(made)
        assert sandbox.files.list() == []

        begun = threading.Event()
        with ThreadPoolExecutor(1) as thread:
            code = "print('begun', flush=True)\nimport time; time.sleep(60)"
            run = thread.submit(sandbox.run, code, on_output=lambda _: begun.set())
            assert begun.wait(30)
            sandbox.interrupt()
            assert run.result().outcome == "cancelled"
    assert (sandbox.is_ready, sandbox.stage, sandbox.state) == (False, "closed", "lost")


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
async def test_a_twin_can_be_made_where_an_event_loop_runs(anyio_backend: str) -> None:
    with Sandbox(safety="off") as sandbox:
        assert sandbox.run("1").text == "1\n"


def test_threads_that_start_and_close_together_share_one_container() -> None:
    sandbox = Sandbox(safety="off")
    with ThreadPoolExecutor(4) as threads:
        for started in [threads.submit(sandbox.start) for _ in range(4)]:
            started.result()
        runs = [threads.submit(sandbox.run, "1") for _ in range(4)]
        assert {run.result().number for run in runs} == {1, 2, 3, 4}
        for closed in [threads.submit(sandbox.close) for _ in range(4)]:
            closed.result()
    assert sandbox.stage == "closed"


def test_a_runtime_keeps_sandboxes_ready() -> None:
    runtime = Runtime(safety="off", pool=1, pool_max=1, preload="json")
    seen: list[str] = []
    for _ in range(2):  # started again after it was closed
        with runtime:
            wait_for_spare(runtime)
            with runtime.sandbox() as sandbox:
                assert sandbox.is_ready, "from the pool"
                result = sandbox.run("'x' in globals()\nx = 1")
                assert (result.number, result.state, result.replaced) == (1, "kept", False)
                seen.append(sandbox.id)
    assert len(set(seen)) == 2
    with pytest.raises(SettingsError, match="pool: must be 0 or more"):
        Runtime(pool=-1)


def wait_for_spare(runtime: Runtime) -> None:
    async def spare() -> None:
        with anyio.fail_after(60):
            while not runtime.spares:
                await anyio.sleep(0.02)

    runtime.portal.call(spare)


def test_a_runtime_that_fails_to_start_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = Runtime(safety="off")

    async def fail(_: object) -> None:
        raise OSError("no installer")

    before = set(threading.enumerate())
    monkeypatch.setattr(type(runtime.twin.installer), "__aenter__", fail)
    with pytest.raises(OSError, match="no installer"):
        runtime.start()
    assert set(threading.enumerate()) <= before
    monkeypatch.undo()
    with pytest.raises(RuntimeError, match="with"):
        runtime.build()


PAGE = Path(mcp_agentrun.__file__).parents[1] / "docs" / "python.md"


@pytest.mark.parametrize("block", re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL))
def test_the_examples_of_the_page_work(
    block: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    exec(compile(block, str(PAGE), "exec"), {"__name__": "page"})
    assert capsys.readouterr().out in ("", "0\n1\n2\n")


def test_saving_a_file_keeps_what_is_no_file_and_its_mode(tmp_path: Path) -> None:
    target, link, pipe = tmp_path / ("n" * 255), tmp_path / "link", tmp_path / "pipe"
    target.write_bytes(b"old")
    target.chmod(0o600)
    link.symlink_to(target)
    os.mkfifo(pipe)
    with Sandbox(safety="off") as sandbox:
        sandbox.files.write("a", b"new")
        assert sandbox.files.save("a", link) == 3
        for place in (pipe, tmp_path):
            with pytest.raises(FileExistsError, match="Not a regular file"):
                sandbox.files.save("a", place)
        with pytest.raises(FileError):
            sandbox.files.save("missing", target)
    assert (target.read_bytes(), stat.S_IMODE(target.stat().st_mode), link.is_symlink(), pipe.is_fifo()) == (
        b"new",
        0o600,
        True,
        True,
    )
    assert len(list(tmp_path.iterdir())) == 3


def test_all_files_are_saved_below_the_folder(runner_image: str, tmp_path: Path) -> None:
    folder, elsewhere = tmp_path / "made" / "out", tmp_path / "elsewhere"
    with Sandbox() as sandbox:
        for name in ("a.txt", "d/e.txt", "..\\up.txt", "d/empty"):
            sandbox.files.write(name, b"" if name == "d/empty" else name.encode())
        sandbox.run("import os; os.symlink('/etc/passwd', 'link')")
        saved = sandbox.files.save_all(folder)
        assert [path.relative_to(folder).as_posix() for path in saved if ".." not in path.name] == [
            "a.txt",
            "d/e.txt",
            "d/empty",
        ]
        (renamed,) = (path for path in saved if ".." in path.name)
        assert renamed.parent == folder and "\\" not in renamed.name and renamed.read_bytes() == b"..\\up.txt"
        assert {path for path in folder.rglob("*") if path.is_file()} == set(saved)
        assert sandbox.files.save_all(tmp_path / "part", "d") == [tmp_path / "part/d/e.txt", tmp_path / "part/d/empty"]
        shutil.rmtree(folder / "d")
        elsewhere.mkdir()
        (folder / "d").symlink_to(elsewhere)
        with pytest.raises(OSError, match="a link is in the way"):
            sandbox.files.save_all(folder)
    assert list(elsewhere.iterdir()) == []
