"""Files go into a sandbox and come out of it, whatever user code does to the folders meanwhile."""

from __future__ import annotations

import hashlib
import os
from collections.abc import AsyncIterator, Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path

import anyio
import psutil
import pytest
from docker import APIClient

from mcp_agentrun.errors import FileError, FileReason, SandboxLostError
from mcp_agentrun.sandbox import AsyncSandbox, FileInfo
from mcp_agentrun.settings import Settings
from tests.support.containers import container_of
from tests.support.engines import needs_folder_limits, needs_inode_limit
from tests.support.sandboxes import begin, open_sandbox, sandbox_with_numbers, text_of

pytestmark = pytest.mark.anyio

MIB = 1 << 20
BYTE = os.fsdecode(b"\xff")
EVERYTHING = "import os; sorted(os.path.join(f, n) for f, ds, ns in os.walk('.') for n in ds + ns)"


async def chunks(count: int, size: int = MIB, after_each: Callable[[], object] = lambda: None) -> AsyncIterator[bytes]:
    for number in range(count):
        yield number.to_bytes(4, "big") * (size // 4)
        after_each()


async def test_files_go_in_and_come_out(shared: AsyncSandbox) -> None:
    await shared.reset()
    files = shared.files
    before = datetime.now(timezone.utc) - timedelta(seconds=5)
    info = await files.write("a/b/data.csv", b"x\n1\n")
    assert (info.path, info.size) == ("a/b/data.csv", 4)
    assert before < info.modified < datetime.now(timezone.utc) + timedelta(seconds=5)
    assert await text_of(shared, "print(open('a/b/data.csv').read(), end='')") == "x\n1\n"
    stat = "import os\ns = os.stat('a/b/data.csv'); oct(s.st_mode), s.st_uid == os.getuid()"
    assert await text_of(shared, stat) == "('0o100644', True)\n"
    assert await text_of(shared, "open('a/b/data.csv', 'a').write('2\\n'); os.rename('a/b', 'a/c')") == ""
    assert await files.read("a/c/data.csv") == b"x\n1\n2\n"
    assert [part async for part in files.stream("/workspace/a/c/data.csv")] == [b"x\n1\n2\n"]
    await files.write("z é\n.txt", b"")
    assert [(file.path, file.size) for file in await files.list()] == [("a/c/data.csv", 6), ("z é\n.txt", 0)]
    assert [file.path for file in await files.list("a/c")] == ["a/c/data.csv"]
    await files.remove("a/c/data.csv")
    assert await text_of(shared, EVERYTHING) == "['./a', './a/c', './z é\\n.txt']\n"


async def test_only_what_code_does_is_reported_as_its_change(shared: AsyncSandbox) -> None:
    await shared.reset()
    files = shared.files
    for path in ("a", "b", "new/c", "new/d"):
        await files.write(path, b"1")
    assert (await shared.run("1")).files == ()
    result = await shared.run("open('a', 'w').write('2'); open('new/e', 'w').write('2')")
    assert [(file.path, file.change) for file in result.files] == [("a", "changed"), ("new/e", "created")]
    await files.write("a", b"3")
    await files.remove("b")
    assert (await shared.run("1")).files == ()
    assert [(file.path, file.change) for file in (await shared.run("open('b', 'w').close()")).files] == [
        ("b", "created")
    ]


async def test_a_file_is_replaced_at_once_or_not_at_all(shared: AsyncSandbox) -> None:
    await shared.reset()
    files = shared.files
    await files.write("a", b"old")
    await text_of(shared, "held = open('a')")
    begun = anyio.Event()

    async def endless() -> AsyncIterator[bytes]:
        yield bytes(MIB)
        begun.set()
        await anyio.sleep_forever()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(files.write, "a", endless())
        await begun.wait()
        assert [(file.path, file.size) for file in await files.list()] == [("a", 3)]
        tasks.cancel_scope.cancel()
    assert await text_of(shared, f"print(open('a').read()); {EVERYTHING}") == "old\n['./a']\n"
    await files.write("a", b"new")
    assert await text_of(shared, "held.read() + open('a').read()") == "'oldnew'\n"


async def test_200_mb_in_and_out_in_constant_memory(runner_image: str) -> None:
    sent, process, most = hashlib.sha256(), psutil.Process(), 0

    async def source() -> AsyncIterator[bytes]:
        nonlocal most
        async for chunk in chunks(200, 1_000_000):
            sent.update(chunk)
            most = max(most, process.memory_info().rss)
            yield chunk

    async with open_sandbox() as sandbox:
        await text_of(sandbox, "kept = 6")
        before = process.memory_info().rss
        assert (await sandbox.files.write("big", source())).size == 200_000_000
        code = "import hashlib; hashlib.file_digest(open('big', 'rb'), 'sha256').hexdigest()"
        assert await text_of(sandbox, code) == f"{sent.hexdigest()!r}\n"
        received = hashlib.sha256()
        async for part in sandbox.files.stream("big"):
            received.update(part)
            most = max(most, process.memory_info().rss)
        assert received.digest() == sent.digest()
        assert most - before < 64 * MIB
        result = await sandbox.run("kept * 7")
        assert (result.output.text(), result.state, result.since) == ("42\n", "kept", "kept")


@pytest.fixture(scope="module")
async def small(runner_image: str, anyio_backend: str) -> AsyncIterator[AsyncSandbox]:
    async with open_sandbox(Settings(safety="off", workspace_size=8 * MIB, inodes=64)) as sandbox:
        yield sandbox


@needs_folder_limits
async def test_a_full_workspace_keeps_what_it_has(small: AsyncSandbox) -> None:
    files = small.files
    await files.write("old", b"x" * (5 * MIB))
    await text_of(small, "kept = 6")
    for path in ("old", "new", "deep/er/new"):
        with pytest.raises(FileError, match="full") as error:
            await files.write(path, chunks(6))
        assert (error.value.reason, error.value.limit) == ("full", 8 * MIB)
    assert await text_of(
        small, f"print(os.path.getsize('old'))\n{EVERYTHING}".replace("print", "import os; print")
    ) == (f"{5 * MIB}\n['./old']\n")
    await files.remove("old")
    assert (await files.write("deep/er/new", chunks(7))).size == 7 * MIB
    assert await text_of(small, "kept") == "6\n"
    await small.reset()


@needs_inode_limit
async def test_a_workspace_without_inodes_keeps_what_it_has(small: AsyncSandbox) -> None:
    assert "OSError" in (await small.run("for i in range(100): open(f'f{i:03}', 'w').write('x')")).output.text()
    files = small.files
    count = len(await files.list())
    for path in ("new", "deep/er/new", "f000"):
        with pytest.raises(FileError) as error:
            await files.write(path, b"y")
        assert error.value.reason == "full"
    await files.remove("f001")
    with pytest.raises(FileError):
        await files.write("deep/er/new", b"y")
    assert await text_of(small, "import os; len(os.listdir())") == f"{count - 1}\n"
    await files.write("f000", b"y")
    assert await files.read("f000") == b"y"
    await small.reset()


async def test_memory_that_runs_out_costs_the_file_alone(runner_image: str) -> None:
    settings = Settings(
        safety="off", memory=384 * MIB, workspace_size=200 * MIB, tmp_size=8 * MIB, shm_size=8 * MIB, preload=()
    )
    async with open_sandbox(settings) as sandbox:
        await text_of(sandbox, f"import os\nkept = bytearray(os.urandom({MIB})) * 220")
        with pytest.raises(FileError) as error:
            await sandbox.files.write("a/b", chunks(200))
        assert error.value.reason == "memory"
        result = await sandbox.run(f"del kept[1:]; len(kept)\n{EVERYTHING}")
        assert (result.output.text(), result.state, result.since) == ("[]\n", "kept", "kept")
        await sandbox.files.write("a/b", chunks(100))


@pytest.mark.parametrize(
    ("make", "path", "write", "read", "remove"),
    [
        ("pass", "missing", None, "missing", "missing"),
        ("pass", "missing/file", None, "missing", "missing"),
        ("os.mkdir('d')", "d", "folder", "folder", "folder"),
        ("open('f', 'w').close()", "f/g", "not_a_folder", "not_a_folder", "not_a_folder"),
        ("os.symlink('/tmp/x', 'l')", "l", "link", "link", None),
        ("os.symlink('/tmp', 'l')", "l/x", "link", "link", "link"),
        ("os.mkdir('d'); os.symlink('d', 'l')", "l/e/x", "link", "link", "link"),
        ("os.mkfifo('p')", "p", "not_a_file", "not_a_file", None),
        ("os.mkdir('d'); os.chmod('d', 0)", "d/x", "denied", "denied", "denied"),
        ("pass", "n" * 256, "name", "name", "name"),
        ("pass", "d/" * 32 + "x", "name", "missing", "missing"),
    ],
)
async def test_each_refusal_has_its_reason(
    shared: AsyncSandbox,
    make: str,
    path: str,
    write: FileReason | None,
    read: FileReason | None,
    remove: FileReason | None,
) -> None:
    files = shared.files
    for call, reason in (
        (lambda: files.write(path, b"new"), write),
        (lambda: files.read(path), read),
        (lambda: files.remove(path), remove),
    ):
        await shared.reset()
        before = await text_of(shared, f"import os\n{make}\n{EVERYTHING}")
        if reason is None:
            await call()
            continue
        with pytest.raises(FileError) as error:
            await call()
        assert (error.value.reason, error.value.path) == (reason, path)
        assert await text_of(shared, f"{EVERYTHING}") == before
        assert await text_of(shared, "os.path.exists('/tmp/x')") == "False\n"


async def test_a_name_that_is_no_utf_8_can_be_listed_read_and_removed(shared: AsyncSandbox) -> None:
    await shared.reset()
    files = shared.files
    await text_of(shared, "open(b'\\xff', 'wb').write(b'odd');")
    with pytest.raises(FileError) as error:
        await files.write(BYTE, b"new")
    assert error.value.reason == "name"
    assert [file.path for file in await files.list()] == [BYTE]
    assert await files.read(BYTE) == b"odd"
    await files.remove(BYTE)
    assert await files.list() == []


async def test_lists_are_complete_or_refused(runner_image: str) -> None:
    async with open_sandbox(Settings(safety="off", inodes=40_000)) as sandbox:
        files = sandbox.files
        await text_of(sandbox, "import os\nos.mkdir('d')\nfor i in range(1201): open(f'd/{i:05}', 'w').close()")
        await text_of(sandbox, "os.mkdir('.git'); open('.git/x', 'w').close()")
        assert [file.path for file in await files.list()] == [f"d/{number:05}" for number in range(1201)]
        assert len(await files.list("d")) == 1201
        assert [file.path for file in await files.list(".git")] == [".git/x"]
        page = await files.page(after="d/01198")
        assert ([file.path for file in page.files], page.more, page.is_cut) == (["d/01199", "d/01200"], 0, False)
        for folder, reason in (("missing", "missing"), ("d/00001", "not_a_folder")):
            with pytest.raises(FileError) as error:
                await files.list(folder)
            assert error.value.reason == reason
        await text_of(sandbox, "for i in range(20_000): open(f'd/{i:05}', 'w').close()")
        await text_of(sandbox, "open('one more', 'w').close()")
        with pytest.raises(FileError) as error:
            await files.list()
        assert (error.value.reason, error.value.limit) == ("too_many", 20_000)


async def test_a_write_waits_for_its_turn_and_a_list_does_not(shared: AsyncSandbox) -> None:
    await shared.reset()
    written: list[FileInfo] = []

    async def write() -> None:
        written.append(await shared.files.write("b", b"x"))

    async with anyio.create_task_group() as tasks:
        run = await begin(tasks, shared, "while True: pass", first="open('a', 'w').close()")
        tasks.start_soon(write)
        await anyio.wait_all_tasks_blocked()
        found = await shared.files.list()
        assert ([file.path for file in found], written) == (["a"], [])
        run.cancel()
    assert [file.path for file in written] == ["b"]


async def test_other_calls_come_between_the_parts_of_a_stream(shared: AsyncSandbox) -> None:
    await shared.reset()
    files = shared.files
    await files.write("a", chunks(3))
    sizes: list[int] = []
    async for part in files.stream("a"):
        sizes.append(len(part))
        await shared.run("1")
    assert sizes == [MIB] * 3
    stream = files.stream("a")
    await anext(stream)
    await shared.run("open('a', 'r+').write('changed')")
    with pytest.raises(FileError) as error:
        await anext(stream)
    assert error.value.reason == "changed"


@pytest.mark.not_on("kubernetes", reason="nodes do not have the folders of the server's machine")
async def test_data_folders_are_read_only(runner_image: str, tmp_path: Path) -> None:
    async with sandbox_with_numbers(tmp_path, safety="off") as sandbox:
        files = sandbox.files
        for path in ("numbers/a.csv", "numbers/b", "numbers/new/b"):
            with pytest.raises(FileError, match="read-only") as error:
                await files.write(path, b"new")
            assert error.value.reason == "read_only"
        with pytest.raises(FileError) as error:
            await files.remove("numbers/a.csv")
        assert error.value.reason == "read_only"
        with pytest.raises(FileError) as error:
            await files.write("numbers", b"new")
        assert error.value.reason == "folder"
        assert await files.list() == []
        assert [file.path for file in await files.list("numbers")] == ["numbers/a.csv"]
        assert await files.read("numbers/a.csv") == b"x\n1\n"


# What is aside goes before each round: two folders with files in them could not be exchanged any more.
SWAP_FOLDERS = """
import os, shutil, threading
stop = threading.Event()
def swap():
    while not stop.is_set():
        shutil.rmtree('aside', ignore_errors=True)
        for step in (
            lambda: os.mkdir('d'), lambda: os.rename('d', 'aside'), lambda: os.symlink('/tmp/out', 'd'),
            lambda: os.unlink('d'), lambda: os.rename('aside', 'd'),
        ):
            try:
                step()
            except OSError:
                pass
"""
TAMPER = """
import os, threading
stop = threading.Event()
def swap():
    turns = (
        os.unlink, lambda path: os.rename(path, 'stolen'), lambda path: (os.unlink(path), os.mkdir(path)),
        lambda path: (os.unlink(path), os.symlink('/tmp/out/x', path)),
    )
    number = 0
    os.makedirs('d', exist_ok=True)
    while not stop.is_set():
        for name in os.listdir('d'):
            number += 1
            try:
                if os.path.isdir('d/' + name) and not os.path.islink('d/' + name):
                    os.rmdir('d/' + name)
                else:
                    turns[number % len(turns)]('d/' + name)
            except OSError:
                pass
"""
START = "os.makedirs('/tmp/out')\nthread = threading.Thread(target=swap, daemon=True)\nthread.start()"


@pytest.mark.timeout(400)
@pytest.mark.parametrize("attack", [SWAP_FOLDERS, TAMPER], ids=["folders", "files"])
async def test_folders_that_code_exchanges_meanwhile_lead_nowhere(shared: AsyncSandbox, attack: str) -> None:
    await shared.reset()
    files = shared.files
    await text_of(shared, attack + START)
    reasons: list[str] = []
    for number in range(4000):
        if number >= 400 and len(set(reasons)) > 2:  # on a busy machine it takes longer until the attack hits
            break
        path = f"d/{number % 3}"
        for call in (files.remove(path), files.write(path, chunks(2, 4096))):
            try:
                await call
                reasons.append("")
            except FileError as error:
                reasons.append(error.reason)
    assert set(reasons) <= {"", "link", "missing", "changed", "folder", "not_a_folder"}
    assert len(set(reasons)) > 2, "the attack has hit"
    found = await text_of(shared, "stop.set(); thread.join(); os.listdir('/tmp/out')")
    assert found == "[]\n", "nothing has come out of the workspace"
    partial = "[n for n in sum((d + f for _, d, f in os.walk('.')), []) if 'partial' in n and os.path.isfile(n)]"
    assert await text_of(shared, partial) == "[]\n"
    result = await shared.run("1")
    assert (result.state, result.since, result.replaced) == ("kept", "kept", False)


async def test_a_container_that_ends_meanwhile_is_reported(runner_image: str, api: APIClient) -> None:
    async with open_sandbox() as sandbox:
        await text_of(sandbox, "1")
        container = container_of(api, sandbox)
        with pytest.raises(SandboxLostError):
            await sandbox.files.write("a", chunks(100, after_each=lambda: api.kill(container)))
        assert (await sandbox.run("1")).replaced
        await sandbox.files.write("a", b"x")
