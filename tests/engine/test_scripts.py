"""Code as a program: what `Script` and `stream` do in a real sandbox."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator

import anyio
import pytest

from mcp_agentrun import AsyncSandbox, Script

FILE = Script("/workspace/tool.py", ("tool.py", "--name", "two words"))


async def parts(*data: bytes) -> AsyncIterator[bytes]:
    for each in data:
        yield each


async def test_a_script_has_arguments_and_a_file(shared: AsyncSandbox) -> None:
    code = "import sys\nprint(sys.argv, __file__, __name__, sys.path[0])\n1 + 1\n"
    result = await shared.run(code, script=FILE)
    assert result.text == "['tool.py', '--name', 'two words'] /workspace/tool.py __main__ /workspace\n"
    assert (await shared.run(code.replace("__file__", "'__file__' in globals()"), script=Script())).text == (
        "['-c'] False __main__ /workspace\n"
    )


async def test_a_script_is_plain_python(shared: AsyncSandbox) -> None:
    for code in ("!ls", "import asyncio\nawait asyncio.sleep(0)"):
        result = await shared.run(code, script=Script())
        assert result.error is not None
        assert result.error.type == "SyntaxError"


async def test_tracebacks_name_the_script(shared: AsyncSandbox) -> None:
    result = await shared.run("def f():\n    return 1 / 0\nf()", script=FILE)
    assert result.text == (
        "Traceback (most recent call last):\n"
        '  File "/workspace/tool.py", line 3, in <module>\n    f()\n    ~^^\n'
        '  File "/workspace/tool.py", line 2, in f\n    return 1 / 0\n           ~~^~~\n'
        "ZeroDivisionError: division by zero\n"
    )
    assert result.exit_code == 1


async def test_cells_after_a_script_are_cells_again(shared: AsyncSandbox) -> None:
    await shared.run("x = 20", script=FILE)
    result = await shared.run("import sys; print(sys.argv, __file__)\nx + 1")
    assert result.text == f"['<run-{result.number}>'] <run-{result.number}>\n21\n"


async def test_the_end_of_a_session_is_that_of_python(shared: AsyncSandbox) -> None:
    code = (
        "import atexit, concurrent.futures, threading, time, zipfile\n"
        "executor, has_printed = concurrent.futures.ThreadPoolExecutor(), threading.Event()\n"
        "executor.submit(lambda: (has_printed.wait(), print('job')))\n"
        "threading.Thread(target=lambda: (time.sleep(0.1), print('thread'), has_printed.set())).start()\n"
        "atexit.register(print, 'atexit')\n"
        "class Last:\n    def __del__(self): print(helper())\n"
        "last = Last()\n"
        "text = open('text', 'w')\ntext.write('buffered')\n"
        "archive = zipfile.ZipFile('archive.zip', 'w')\narchive.writestr('name', '')\n"
        "def helper(): return 'finalizer'\n"
        "raise SystemExit(3)"
    )
    result = await shared.run(code, script=Script(ends_session=True))
    assert (result.text, result.exit_code) == ("thread\njob\natexit\nfinalizer\n", 3)
    assert await shared.files.read("text") == b"buffered"
    await shared.reset(keep_files=True)
    assert (await shared.run("import zipfile; zipfile.ZipFile('archive.zip').namelist()")).text == "['name']\n"


async def test_a_script_reads_its_input_as_it_comes(shared: AsyncSandbox) -> None:
    send, receive = anyio.create_memory_object_stream[bytes](1)
    heard = b""

    async def on_bytes(data: bytes) -> None:
        nonlocal heard
        heard += data
        if heard.endswith(b"name? "):
            await send.send("Zoë\n".encode())
        elif heard.endswith(b"again? "):
            await send.aclose()

    code = "print('hello', input('name? '))\ntry:\n    input('again? ')\nexcept EOFError:\n    print('end')"
    with receive:
        result = await shared.run(code, script=Script(stdin=receive), on_bytes=on_bytes)
    assert result.text == "name? hello Zoë\nagain? end\n"


async def test_large_input_arrives_whole(shared: AsyncSandbox) -> None:
    data = bytes(range(256)) * 4096 * 5
    code = "import hashlib, sys; print(hashlib.sha256(sys.stdin.buffer.read()).hexdigest())"
    result = await shared.run(code, script=Script(stdin=parts(data, data[:77_777], b"x")))
    assert result.text.strip() == hashlib.sha256(data + data[:77_777] + b"x").hexdigest()


@pytest.mark.parametrize("code", ["pass", "import os; os.close(0)", "import os; os._exit(3)", "1 / 0"])
async def test_input_that_is_not_read_holds_up_nothing(shared: AsyncSandbox, code: str) -> None:
    await shared.run(code, script=Script(stdin=parts(*[bytes(1 << 20)] * 3)))
    assert (await shared.run("import sys; sys.stdin.read()", script=Script(stdin=parts(b"abc")))).outcome == "ok"
    assert (await shared.run("input()", script=Script())).error is not None
    assert (await shared.run("print(open(0).read())")).text == "\n"


async def test_all_output_is_streamed(shared: AsyncSandbox) -> None:
    size = 0

    async def on_bytes(data: bytes) -> None:
        nonlocal size
        size += len(data)

    result = await shared.run(
        "for n in range(30):\n    print('x' * (1 << 20))\nprint('end')", on_bytes=on_bytes, stream=True
    )
    assert size == result.output.written == 30 * ((1 << 20) + 1) + 4
    assert len(result.output.head) == 8 << 20
    assert result.output.tail.endswith(b"x\nend\n")
    assert len(result.output.tail) == 1 << 16


async def test_an_interrupted_run_goes_on_to_its_end(shared: AsyncSandbox) -> None:
    heard = b""

    async def on_bytes(data: bytes) -> None:
        nonlocal heard
        heard += data
        if heard == b"begun\n":  # which may come in two parts
            await shared.interrupt()

    code = "import time\ntry:\n    print('begun')\n    time.sleep(60)\nexcept KeyboardInterrupt: print('tidied up')"
    result = await shared.run(code, on_bytes=on_bytes)
    assert (result.outcome, result.exit_code, result.text) == ("cancelled", 130, "begun\ntidied up\n")
    await shared.interrupt()
    assert (await shared.run("1")).outcome == "ok"
