"""What is returned beside text: values, pictures, files, resources, progress."""

from __future__ import annotations

import base64
import functools
import os
import time
import tracemalloc
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import anyio
import pytest
from mcp import Client
from mcp.client.stdio import stdio_client
from mcp.shared.exceptions import MCPError
from mcp.types import (
    BlobResourceContents,
    ImageContent,
    LoggingLevel,
    LoggingMessageNotificationParams,
    RequestParamsMeta,
    ResourceLink,
    ResourceListChangedNotification,
    TextResourceContents,
)

from mcp_agentrun.errors import FileError, UnavailableError
from mcp_agentrun.sandbox import AsyncSandbox, ReadFile, Result
from mcp_agentrun.sandbox.pictures import parse_png
from mcp_agentrun.server.mcp.out_folder import OutFolder
from mcp_agentrun.settings import Settings
from tests.support.clients import OpenClient, client_text, facts_of, run, server_parameters
from tests.support.sandboxes import sandbox_with_numbers, text_of

pytestmark = pytest.mark.anyio

OBJECT = """
class Rich:
    def __repr__(self): return '<Rich>'
    def _repr_{form}_(self): return {value}
"""


# -- values


async def test_a_value_is_silenced_by_a_semicolon(shared: AsyncSandbox) -> None:
    assert await text_of(shared, "5;") == ""
    assert await text_of(shared, "'é日' ; # not shown") == ""
    assert await text_of(shared, "(5\n);") == ""
    assert await text_of(shared, "x = 5") == ""
    assert await text_of(shared, "5 # ;") == "5\n"


async def test_a_frame_is_a_compact_table_with_its_shape_where_it_is_cut(shared: AsyncSandbox) -> None:
    await text_of(shared, "import pandas as pd\ndf = pd.DataFrame({'a': range(100_000), 'b': 'x'})")
    lines = (await text_of(shared, "df")).splitlines()
    assert len(lines) == 14
    assert lines[-1] == "[100000 rows x 2 columns]"
    assert (
        (await text_of(shared, "df.head(2)"))
        == await text_of(shared, "print(df.head(2))")
        == "   a  b\n0  0  x\n1  1  x\n"
    )
    assert len((await text_of(shared, "pd.set_option('display.max_rows', 4); df")).splitlines()) == 8
    await text_of(shared, "pd.reset_option('display.max_rows')")


async def test_display_shows_as_a_last_expression_does(shared: AsyncSandbox) -> None:
    await text_of(shared, OBJECT.format(form="markdown", value="'# Title'"))
    assert await text_of(shared, "display(1, Rich())\nRich()") == "1\n# Title\n# Title\n"
    await text_of(shared, OBJECT.format(form="html", value="1 / 0"))
    assert await text_of(shared, "Rich()") == "<Rich>\n"
    await text_of(shared, OBJECT.format(form="latex", value="'$x$'"))
    assert await text_of(shared, "Rich()") == "<Rich>\n"
    assert await text_of(shared, "del Rich.__repr__\nRich()") == "$x$\n"


@pytest.mark.parametrize(("form", "suffix"), [("html", "html"), ("svg", "svg")])
async def test_documents_become_files(shared: AsyncSandbox, form: str, suffix: str) -> None:
    await text_of(shared, OBJECT.format(form=form, value="'<p>héllo</p>'"))
    result = await shared.run("Rich()")
    (file,) = result.files
    assert file.path.startswith("output/run-") and file.path.endswith(suffix)
    assert await shared.files.read(file.path) == "<p>héllo</p>".encode()


async def test_code_does_not_wait_while_output_is_collected(shared: AsyncSandbox) -> None:
    assert int(await text_of(shared, "import fcntl; fcntl.fcntl(1, fcntl.F_GETPIPE_SZ)")) >= 1 << 18


async def test_top_level_await_and_its_tasks_go_on(shared: AsyncSandbox) -> None:
    assert await text_of(shared, "import asyncio\nasync def f(): return 5\nawait f()") == "5\n"
    await text_of(shared, "t = asyncio.create_task(asyncio.sleep(0.01, 'late'))\nawait asyncio.sleep(0)")
    assert await text_of(shared, "x = await t\nx") == "'late'\n"
    result = await shared.run("async def g(): raise ValueError('inside')\nawait g()")
    lines = result.output.text().splitlines()
    assert [line for line in lines if "File" in line and "<run-" not in line] == []
    assert lines[-1] == "ValueError: inside"
    late = await shared.run("y = 1\nawait asyncio.sleep(60)", timeout=3)
    assert (late.outcome, late.state) == ("timeout", "kept")
    assert await text_of(shared, "await f() + y") == "6\n"


async def test_sources_of_earlier_runs(shared: AsyncSandbox) -> None:
    await text_of(shared, "class Early:\n    x = 1  # here\n\ndef early():\n    raise KeyError('k')\n")
    assert await text_of(shared, "import inspect; print(inspect.getsource(Early))") == (
        "class Early:\n    x = 1  # here\n\n"
    )
    assert "    raise KeyError('k')\n" in (await shared.run("early()")).output.text()


async def test_spawned_processes_find_what_earlier_runs_have_defined(shared: AsyncSandbox) -> None:
    await text_of(shared, "print('once')\ndef double(x): return 2 * x\nTEN = 10")
    code = "import multiprocessing as m\nwith m.get_context('spawn').Pool(1) as p: print(p.map(double, [TEN]))"
    guarded = "if __name__ == '__main__':\n    " + code.replace("\n", "\n    ")
    assert await text_of(shared, guarded) == "[20]\n"


async def test_warnings_of_each_run_are_its_own(shared: AsyncSandbox) -> None:
    code = "import warnings\nwarnings.warn('again')"
    assert (await text_of(shared, code)).endswith("UserWarning: again\n  warnings.warn('again')\n")
    assert (await text_of(shared, code)).endswith("UserWarning: again\n  warnings.warn('again')\n")


# -- pictures


async def test_each_open_figure_comes_back_once(shared: AsyncSandbox) -> None:
    code = "import matplotlib.pyplot as plt\nfor i in range(2):\n    plt.figure(); plt.plot([i, 1])\nplt.show()"
    result = await shared.run(code)
    assert result.output.text() == ""
    assert len(result.images) == 2
    assert all(parse_png(picture.data) == picture for picture in result.images)
    assert (await shared.run("x = 1")).images == ()
    assert len((await shared.run("fig, ax = plt.subplots()\ndisplay(fig)")).images) == 1
    assert len((await shared.run("fig")).images) == 1


async def test_a_large_figure_is_scaled_down_and_kept_whole(shared: AsyncSandbox) -> None:
    result = await shared.run("import matplotlib.pyplot as plt\nplt.figure(figsize=(30, 15)); plt.plot([1])\nNone")
    (picture,), (file,) = result.images, result.files
    assert picture.width <= 1200
    whole = parse_png(await shared.files.read(file.path))
    assert whole is not None and whole.width > 2000


@pytest.mark.parametrize("inches", [120, 500, 700])
async def test_a_figure_that_is_too_large_to_be_drawn_is_drawn_smaller(shared: AsyncSandbox, inches: int) -> None:
    code = f"import matplotlib.pyplot as plt\nplt.figure(figsize=({inches}, {inches})); plt.plot([1])\nNone"
    result = await shared.run(code)
    (picture,) = result.images
    assert 200 < picture.width <= 1200


async def test_a_figure_that_can_not_be_drawn_says_so(shared: AsyncSandbox) -> None:
    result = await shared.run("import matplotlib.pyplot as plt\nplt.figure(figsize=(9000, 9)); plt.plot([1])\nNone")
    assert result.output.text() == "ValueError: 9000 x 9 inches are too many (a figure could not be drawn)\n"


async def test_a_figure_that_takes_too_long_is_not_drawn_again(shared: AsyncSandbox) -> None:
    slow = "import time, matplotlib.pyplot as plt\nplt.plot([1])\nplt.gcf().draw = lambda *_: time.sleep(60)\nNone"
    late = await shared.run(slow, timeout=5)
    assert (late.outcome, late.state) == ("timeout", "kept")
    assert (await shared.run("print('after')")).output.text() == "after\n"


async def test_drawing_takes_no_stream_away_from_a_thread(shared: AsyncSandbox) -> None:
    code = (
        "import contextlib, io, threading, matplotlib.pyplot as plt\n"
        "begun, inside, leave = threading.Event(), threading.Event(), threading.Event()\n"
        "def other():\n"
        "    begun.wait(30)\n"
        "    with contextlib.redirect_stdout(io.StringIO()):\n"
        "        inside.set()\n"
        "        leave.wait(30)\n"
        "thread = threading.Thread(target=other)\nthread.start()\n"
        "figure = plt.figure()\nplt.plot([1])\ndraw = figure.draw\n"
        "def slow(*given):\n    begun.set(); inside.wait(30); draw(*given)\n"
        "figure.draw = slow\nNone"
    )
    assert len((await shared.run(code)).images) == 1
    await shared.run("leave.set(); thread.join()")
    assert await text_of(shared, "print('heard')") == "heard\n"


async def test_pictures_for_which_an_answer_has_no_room_are_kept_as_files(shared: AsyncSandbox) -> None:
    code = "import matplotlib.pyplot as plt\nfor i in range(20): plt.figure(figsize=(1, 1)); plt.plot([i])\nNone"
    result = await shared.run(code)
    assert (len(result.images), len(result.files)) == (16, 4)
    noise = "import os\nfrom PIL.Image import frombytes\n"
    noise += "for _ in range(4): display(frombytes('L', (500, 500), os.urandom(250_000)))"
    result = await shared.run(noise)
    assert (len(result.images), len(result.files)) == (2, 2)
    whole = parse_png(await shared.files.read(result.files[0].path))
    assert whole is not None and whole.width == 500


async def test_a_value_that_can_not_be_shown_fails_where_it_stands(shared: AsyncSandbox) -> None:
    code = "class Bad:\n    def __repr__(self): raise KeyError('no')\n"
    result = await shared.run(f"{code}\nBad()")
    printed = result.output.text()
    assert [line for line in printed.splitlines() if "File" in line] == [
        f'  File "<run-{result.number}>", line 4, in <module>',
        f'  File "<run-{result.number}>", line 2, in __repr__',
    ]
    assert printed.endswith("KeyError: 'no'\n")
    result = await shared.run("2 ** 10 ** 7")
    assert result.output.text().splitlines()[:2] == [
        "Traceback (most recent call last):",
        f'  File "<run-{result.number}>", line 1, in <module>',
    ]
    assert result.error is not None and result.error.line == 1
    assert await text_of(shared, "import sys; sys.last_traceback.tb_frame.f_back") == ""


async def test_japanese_labels_render_without_a_warning(shared: AsyncSandbox) -> None:
    result = await shared.run("import matplotlib.pyplot as plt\nplt.title('日本語のグラフ')\nNone")
    assert result.output.text() == ""
    assert len(result.images) == 1


async def test_images(shared: AsyncSandbox) -> None:
    result = await shared.run("from PIL import Image\nImage.new('RGB', (30, 20), 'red')")
    assert [(picture.width, picture.height) for picture in result.images] == [(30, 20)]
    await text_of(shared, OBJECT.format(form="png", value="b'not a picture'"))
    lying = await shared.run("Rich()")
    assert (lying.output.text(), lying.images) == ("<Rich>\n", ())


async def test_a_figure_that_fails_is_no_failure_of_the_run(shared: AsyncSandbox) -> None:
    result = await shared.run("import matplotlib.pyplot as plt\nplt.title('$\\\\bad{$')\nx = 7;")
    assert result.outcome == "ok"
    assert "a figure could not be drawn" in result.output.text()
    assert await text_of(shared, "x") == "7\n"


async def test_what_a_run_does_to_files_is_listed(shared: AsyncSandbox) -> None:
    await shared.reset()
    result = await shared.run(
        "import os\nos.makedirs('d/e')\nfor p in ('a.txt', 'd/e/é.csv'): open(p, 'w').write('1');"
    )
    assert [(file.path, file.size, file.change) for file in result.files] == [
        ("a.txt", 1, "created"),
        ("d/e/é.csv", 1, "created"),
    ]
    assert (await shared.run("x = open('a.txt').read()")).files == ()
    same_size = await shared.run("open('d/e/é.csv', 'w').write('2');")
    assert [(file.path, file.change) for file in same_size.files] == [("d/e/é.csv", "changed")]
    kept_open = await shared.run("f = open('b', 'w'); f.write('x'); f.flush();")
    assert [file.path for file in kept_open.files] == ["b"]
    assert [file.path for file in (await shared.run("f.write('yz'); f.flush();")).files] == ["b"]
    assert [file.path for file in (await shared.run("os.rename('a.txt', 'c.txt'); os.remove('b')")).files] == ["c.txt"]
    assert [file.path for file in await shared.files.list()] == ["c.txt", "d/e/é.csv"]
    await shared.reset(keep_files=True)
    assert (await shared.run("1")).files == ()
    many = await shared.run("for i in range(500): open(f'n{i}', 'w').close()")
    assert (len(many.files), many.more_files) == (200, 300)
    await shared.reset()
    assert (await shared.run("1")).files == ()
    assert await shared.files.list() == []


@pytest.mark.parametrize(
    ("make", "path", "reason"),
    [
        ("pass", "nothing", "no such file"),
        ("pass", "../etc/passwd", "relative to /workspace"),
        ("pass", "/etc/passwd", "relative to /workspace"),
        ("pass", "a/../../etc/passwd", "relative to /workspace"),
        ("os.symlink('/etc/passwd', 'link')", "link", "symbolic link"),
        ("os.symlink('/etc', 'folder')", "folder/passwd", "symbolic link"),
        ("os.mkfifo('fifo')", "fifo", "not a regular file"),
        ("os.mkdir('dir')", "dir", "it is a folder"),
        ("open('hole', 'wb').truncate(1 << 20)", "hole", "sparse"),
        ("open('big', 'wb').write(bytes(5000))", "big", "5000 bytes, and 4096 are allowed"),
        ("open('secret', 'w').write('x'); os.chmod('secret', 0)", "secret", "permission was denied"),
        ("import socket; socket.socket(socket.AF_UNIX).bind('socket')", "socket", "not a regular file"),
    ],
)
async def test_what_is_no_plain_file_is_refused(shared: AsyncSandbox, make: str, path: str, reason: str) -> None:
    await text_of(shared, f"import os\n{make};")
    with pytest.raises(FileError, match=reason):
        await shared.files.read(path, limit=4096)
    assert await text_of(shared, "1 + 1") == "2\n"


async def test_large_and_odd_files_come_whole(shared: AsyncSandbox) -> None:
    code = "data = bytes(range(256)) * 20_000\nopen('big', 'wb').write(data)\nopen(b'\\xff', 'wb').write(b'odd');"
    await text_of(shared, code)
    assert await shared.files.read("big") == bytes(range(256)) * 20_000
    assert await shared.files.read(os.fsdecode(b"\xff")) == b"odd"


async def test_a_hostile_tree_does_not_hold_up_the_answer(shared: AsyncSandbox) -> None:
    await shared.reset()
    deep = "import os\nfor _ in range(2000):\n    os.mkdir('d'); os.chdir('d')\nos.chdir('/workspace')"
    wide = "for i in range(10_000): os.mkdir(f'w{i}')"
    for code in (deep, wide):
        assert (await shared.run(code)).outcome == "ok"
    assert await text_of(shared, "1 + 1") == "2\n"
    await shared.reset()


@pytest.mark.not_on("kubernetes", reason="nodes do not have the folders of the server's machine")
async def test_data_is_seen_and_stays_as_it_is(runner_image: str, tmp_path: Path) -> None:
    async with sandbox_with_numbers(tmp_path, preload=()) as sandbox:
        assert await text_of(sandbox, "open('numbers/a.csv').read()") == "'x\\n1\\n'\n"
        for write in ("open('numbers/a.csv', 'a')", "open('numbers/b', 'w')", "os.remove('numbers/a.csv')"):
            result = await sandbox.run("import os\n" + write)
            assert result.error is not None and result.error.errno == 30, result.output.text()
        await sandbox.reset()
        assert (await sandbox.run("print(open('numbers/a.csv').read())")).files == ()
        assert await sandbox.files.read("numbers/a.csv") == b"x\n1\n"


async def copied(sandbox: AsyncSandbox, code: str, out: OutFolder) -> list[str]:
    """What is said of the copies of the files that *code* has written."""
    notes: list[str] = []

    async def copy(result: Result, read: ReadFile) -> None:
        notes.extend(await out.copy(read, None, result.files))

    await sandbox.run(code, then=copy)
    return notes


def _names_by_text(folder: Path) -> dict[str, str]:
    return {path.read_text(): path.name for path in folder.iterdir()}


async def test_names_that_are_changed_on_the_way_out_stay_apart_and_are_told(
    shared: AsyncSandbox, tmp_path: Path
) -> None:
    code = "for n in ('CON', '_CON', 'a:b?.txt', 'a_b_.txt', 'A.txt'): open(n, 'w').write(n)"
    (note,) = await copied(shared, code, OutFolder(Settings(out=str(tmp_path))))
    names = _names_by_text(tmp_path)
    assert sorted(names) == ["A.txt", "CON", "_CON", "a:b?.txt", "a_b_.txt"]
    assert note.startswith("The user has a copy of these 5 files, ")
    assert f"'CON' as '{names['CON']}'" in note and f"'a:b?.txt' as '{names['a:b?.txt']}'" in note
    assert (names["_CON"], names["A.txt"]) == ("_CON", "A.txt")
    await shared.reset()


async def test_no_link_in_the_folder_for_copies_is_followed(shared: AsyncSandbox, tmp_path: Path) -> None:
    elsewhere, out = tmp_path / "elsewhere", tmp_path / "out"
    elsewhere.mkdir()
    out.mkdir()
    (elsewhere / "file").write_text("mine")
    (out / "link").symlink_to(elsewhere)
    (out / "file").symlink_to(elsewhere / "file")
    code = "import os; os.makedirs('link/w'); open('link/w/x', 'w').write('x'); open('file', 'w').write('x')"
    notes = await copied(shared, code, OutFolder(Settings(out=str(out))))
    assert notes[0] == "The user has a copy of it." and "a link is in the way" in notes[1]
    assert _names_by_text(elsewhere) == {"mine": "file"}
    assert (out / "file").read_text() == "x" and not (out / "file").is_symlink()
    await shared.reset()


@pytest.mark.parametrize(("mode", "links"), [("legacy", True), ("2026-07-28", True), ("2026-07-28", False)])
async def test_files_pictures_and_resources(runner_image: str, mode: str, links: bool, tmp_path: Path) -> None:
    out, has_changed = tmp_path / "out", anyio.Event()

    async def on_message(message: object) -> None:
        if isinstance(message, ResourceListChangedNotification):
            has_changed.set()

    parameters = server_parameters("--out", str(out), *(("--resource-links",) if links else ()))
    async with Client(stdio_client(parameters), mode=mode, message_handler=on_message) as client:
        plot = await run(client, "import matplotlib.pyplot as plt\nplt.plot([1])\nopen('t.txt', 'w').write('héllo');")
        _, image, *linked = plot.content
        assert isinstance(image, ImageContent) and image.mime_type == "image/png"
        assert parse_png(base64.b64decode(image.data)) is not None
        assert [link.uri for link in linked if isinstance(link, ResourceLink)] == ["agentrun://own/files/t.txt"][:links]
        assert len(linked) == links
        assert "[agentrun] Created: 't.txt' (6 B, text/plain)." in client_text(plot)
        assert facts_of(plot)["files"][0]["path"] == "t.txt"
        assert (out / "t.txt").read_text("utf-8") == "héllo"
        await run(client, "open('d.bin', 'wb').write(b'\\0\\xff');")
        assert [str(item.uri) for item in (await client.list_resources()).resources] == [
            "agentrun://own/files/d.bin",
            "agentrun://own/files/t.txt",
        ]
        assert len((await client.list_resource_templates()).resource_templates) == 2
        (text,) = (await client.read_resource("agentrun://own/files/t.txt")).contents
        assert isinstance(text, TextResourceContents) and text.text == "héllo"
        (blob,) = (await client.read_resource("agentrun://own/files/d.bin")).contents
        assert isinstance(blob, BlobResourceContents) and base64.b64decode(blob.blob) == b"\0\xff"
        for path in ("own/files/../../etc/passwd", "nobody/files/t.txt", "own/runs/1/output"):
            with pytest.raises(MCPError):
                await client.read_resource("agentrun://" + path)
        long = await run(client, "print('x' * 100_000)")
        uri = client_text(long).rpartition("read at ")[2].rstrip(".")
        (whole,) = (await client.read_resource(uri)).contents
        assert isinstance(whole, TextResourceContents) and len(whole.text) == 100_001
        if mode == "legacy":  # a client with a handshake is promised that it is told when the list changes
            resources = client.server_capabilities.resources
            assert resources is not None and resources.list_changed
            with anyio.fail_after(30):
                await has_changed.wait()


async def test_out_gets_plain_files_only(open_client: OpenClient, tmp_path: Path) -> None:
    out, target = tmp_path / "out", tmp_path / "target"
    out.mkdir()
    target.write_text("untouched")
    (out / "link").symlink_to(target)
    async with open_client("--out", str(out), "--out-size", "10k") as client:
        await run(client, "open('link', 'w').write('new'); open('CON', 'w').write('x'); open('a:b', 'w').write('y');")
        full = await run(client, "open('big', 'wb').write(bytes(20_000));")
        assert "size limit of the user's folder is reached" in client_text(full)
        sparse = await run(client, "open('hole', 'wb').truncate(5000);")
        assert "sparse" in client_text(sparse)
        odd = await run(client, "import os; os.symlink('/etc/passwd', 'sym'); os.mkfifo('pipe')")
        assert facts_of(odd)["files"] == []
    assert target.read_text() == "untouched"
    assert {path.name.partition("~")[0] for path in out.iterdir()} == {"link", "_CON", "a_b"}
    assert not (out / "link").is_symlink()


def _sizes(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_size for path in folder.iterdir() if path.is_file()}


async def test_what_could_not_be_written_takes_nothing_of_what_out_may_get(
    shared: AsyncSandbox, tmp_path: Path
) -> None:
    await shared.reset()
    (tmp_path / "f").mkdir()
    code = "for name in 'f', 'g': open(name, 'wb').write(bytes(1000));"
    notes = await copied(shared, code, OutFolder(Settings(out=str(tmp_path), out_size=1500)))
    assert notes[0] == "The user has a copy of it."
    assert "'f' was not copied to the user's folder: " in notes[1]
    assert _sizes(tmp_path) == {"g": 1000}


async def test_a_copy_is_of_the_files_as_the_run_has_left_them(shared: AsyncSandbox, tmp_path: Path) -> None:
    """Another call waits meanwhile, and so many do that none more is accepted."""
    await shared.reset()
    out = OutFolder(Settings(out=str(tmp_path)))
    held, released = anyio.Event(), anyio.Event()

    async def copy(result: Result, read: ReadFile) -> None:
        held.set()
        await released.wait()
        assert await out.copy(read, None, result.files) == ["The user has a copy of it."]

    async def write(text: str) -> None:
        await shared.run(f"open('f', 'w').write('{text}' * 3_000_000);", then=copy if text == "a" else None)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(write, "a")
        await held.wait()
        for _ in range(Settings().limits.queue):
            tasks.start_soon(write, "b")
        await anyio.wait_all_tasks_blocked()
        with pytest.raises(UnavailableError, match="busy"):
            await shared.run("1")
        released.set()
    assert _sizes(tmp_path) == {"f": 3_000_000}
    assert set((tmp_path / "f").read_bytes()) == {ord("a")}


async def test_a_copy_takes_no_more_memory_than_a_part_of_it(shared: AsyncSandbox, tmp_path: Path) -> None:
    await shared.reset()
    tracemalloc.start()
    try:
        code = "open('f', 'wb').write(bytes(60 << 20));"
        assert await copied(shared, code, OutFolder(Settings(out=str(tmp_path)))) == ["The user has a copy of it."]
        assert tracemalloc.get_traced_memory()[1] < 20 << 20
    finally:
        tracemalloc.stop()
    assert _sizes(tmp_path) == {"f": 60 << 20}


async def test_what_is_not_copied_whole_leaves_nothing(shared: AsyncSandbox, tmp_path: Path) -> None:
    """Cancelled in the middle, and of a container that goes; the run's outcome is known all the same."""
    await shared.reset()
    out = OutFolder(Settings(out=str(tmp_path), out_size=5 << 20))
    scope = anyio.CancelScope()
    write = "open('f', 'wb').write(bytes(4 << 20));"

    async def cancelled(result: Result, read: ReadFile) -> None:
        async def some(path: str, limit: int) -> AsyncIterator[bytes]:
            async for part in read(path, limit):
                yield part
                scope.cancel()

        await out.copy(some, None, result.files)

    with scope:
        await shared.run(write, then=cancelled)
    assert scope.cancelled_caught and _sizes(tmp_path) == {}

    async def lost(result: Result, read: ReadFile) -> None:
        async def some(path: str, limit: int) -> AsyncIterator[bytes]:
            async for part in read(path, limit):
                yield part
                shared.container.abandon(shared.container.starts)

        (note,) = await out.copy(some, None, result.files)
        assert note == "Not copied to the user's folder: its container is gone."

    assert (await shared.run(write, then=lost)).outcome == "ok"
    assert _sizes(tmp_path) == {}
    assert (await shared.run("1")).replaced
    assert await copied(shared, write, out) == ["The user has a copy of it."]  # all of out_size is there still


async def test_copies_are_for_whom_the_umask_says(shared: AsyncSandbox, tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        await copied(shared, "open('f', 'w').write('x');", OutFolder(Settings(out=str(tmp_path))))
    finally:
        os.umask(before)
    assert (tmp_path / "f").stat().st_mode & 0o777 == 0o600


async def test_progress_tells_the_latest_line_and_does_not_flood(open_client: OpenClient) -> None:
    async with open_client() as client:
        await run(client, "import time")
        heard: list[str] = []

        async def on_progress(progress: float, total: float | None, message: str | None) -> None:
            heard.append(message or "")

        code = (
            "for i in range(200):\n    print(f'\\r\\x1b[31m{i} of 200\\x1b[0m', end='', flush=True); time.sleep(0.005)"
        )
        started = time.monotonic()
        result = await client.call_tool("run_python", {"code": code}, progress_callback=on_progress)
        assert client_text(result) == "\x1b[31m199 of 200\x1b[0m"
        assert 1 <= len(heard) <= 3 + 4 * (time.monotonic() - started)
        assert all(" of 200 (" in message and "\x1b" not in message for message in heard)
        heard.clear()
        seen = anyio.Event()

        async def on_first(progress: float, total: float | None, message: str | None) -> None:
            heard.append(message or "")
            seen.set()

        async with anyio.create_task_group() as tasks:
            call = functools.partial(client.call_tool, progress_callback=on_first)
            tasks.start_soon(call, "run_python", {"code": "print('early', flush=True); time.sleep(100)"})
            with anyio.fail_after(25):  # before its time limit
                await seen.wait()
            tasks.cancel_scope.cancel()
        assert heard[0].startswith("early (")


@pytest.mark.filterwarnings("ignore::mcp.shared.exceptions.MCPDeprecationWarning")
@pytest.mark.parametrize("mode", ["legacy", "2026-07-28"])
async def test_logs_are_sent_only_where_they_are_asked_for(runner_image: str, mode: str) -> None:
    logged: list[LoggingMessageNotificationParams] = []

    async def on_log(params: LoggingMessageNotificationParams) -> None:
        logged.append(params)

    levels: dict[LoggingLevel | None, bool] = {None: False, "debug": True, "warning": False, "info": True}
    parameters = server_parameters("--safety", "off")
    async with Client(stdio_client(parameters), mode=mode, logging_callback=on_log) as client:
        for level, is_told in levels.items():
            logged.clear()
            meta: dict[str, Any] = {}
            if mode != "legacy" and level is not None:
                meta["io.modelcontextprotocol/logLevel"] = level
            elif level is not None:
                await client.set_logging_level(level)  # pyright: ignore[reportDeprecated]
            code = "import time\nfor i in range(100):\n    print(f'\\x1b[1m{i}', flush=True); time.sleep(0.005)\n"
            code += f"time.sleep({2 * is_told})"
            started = time.monotonic()
            answer = await client.call_tool("run_python", {"code": code}, meta=cast("RequestParamsMeta", meta))
            took = time.monotonic() - started
            assert len(client_text(answer).splitlines()) == 100
            assert bool(logged) is is_told, level
            assert len(logged) <= 3 + 4 * took
            assert all((message.level, message.logger) == ("info", "run_python") for message in logged)
            text = "".join(str(message.data) for message in logged)
            assert "\x1b" not in text
            assert text.split() == [str(i) for i in range(len(text.split()))]
