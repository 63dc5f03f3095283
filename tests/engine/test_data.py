"""Folders of the host that sandboxes see: what reading does not leave alone, and folders that are exchanged."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import anyio
import anyio.to_thread
import pytest
from anyio.abc import ByteStream
from docker import APIClient
from mcp import Client
from mcp.client.stdio import stdio_client

from mcp_agentrun.engine.docker.engine import DockerEngine
from mcp_agentrun.errors import EngineError, SandboxLostError
from mcp_agentrun.host_folder import HostFolder
from mcp_agentrun.host_resources import HostResources
from mcp_agentrun.sandbox import AsyncSandbox
from mcp_agentrun.settings import Settings
from tests.support.clients import run, server_parameters, text_of
from tests.support.containers import container_of
from tests.support.sandboxes import open_sandbox

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(os.name == "nt", reason="sockets and FIFOs of POSIX"),
    pytest.mark.not_on("kubernetes", reason="nodes do not have the folders of the server's machine"),
]


@pytest.fixture
def numbers(runner_image: str, tmp_path: Path) -> Path:
    """A folder that anybody may read and write, as are those above it."""
    folder = tmp_path / "numbers"
    (folder / "deep" / "er").mkdir(parents=True)
    (folder / "a.csv").write_text("1\n")
    for path in (tmp_path, folder, folder / "deep", folder / "deep" / "er", folder / "a.csv"):
        path.chmod(0o777)
    return folder


def checked(folder: Path) -> Settings:
    return Settings(safety="off", data=(str(folder),), preload=())


@contextmanager
def special(path: Path, kind: str, mode: int) -> Generator[None]:
    """A socket that listens, or a FIFO, with these permissions."""
    if kind == "fifo":
        os.mkfifo(path)
        path.chmod(mode)
        yield
        return
    with socket.socket(socket.AF_UNIX) as listening, working_in(path.parent):
        listening.bind(path.name)  # a full path may be too long for a socket
        listening.listen()
        path.chmod(mode)
        yield


@contextmanager
def working_in(folder: Path) -> Generator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


async def seen(sandbox: AsyncSandbox) -> str:
    result = await sandbox.run("print(open('numbers/a.csv').read(), end='')")
    assert result.outcome == "ok", result.output.text()
    return result.output.text()


@pytest.mark.parametrize(
    ("name", "kind", "mode"),
    [
        ("s", "socket", 0o777),
        ("s", "socket", 0o722),
        ("deep/er/.s", "socket", 0o666),
        ("two\nlines", "socket", 0o777),
        ("f", "fifo", 0o666),
        ("f", "fifo", 0o644),
        ("deep/f", "fifo", 0o622),
    ],
)
async def test_a_folder_is_not_shown_with_what_code_could_use_in_it(
    numbers: Path, name: str, kind: str, mode: int
) -> None:
    async with open_sandbox(checked(numbers)) as sandbox:
        with special(numbers / name, kind, mode):
            with pytest.raises(EngineError, match="socket, FIFO or device") as raised:
                await sandbox.run("open('/workspace/ran', 'w')")
            assert "\n" not in str(raised.value)
            assert ascii(name) in str(raised.value)
            (numbers / name).chmod(0o700)
            assert await seen(sandbox) == "1\n"  # what was wrong is put right without a restart
            assert (await sandbox.run("import os; os.path.exists('ran')")).output.text() == "False\n"


REACH = """
import errno, os, socket
found = []
for path in ("numbers/s", "numbers/closed/s"):
    try:
        socket.socket(socket.AF_UNIX).connect(path)
        found.append(path)
    except OSError as error:
        assert error.errno == errno.EACCES, error
for path in ("numbers/f", "numbers/closed/f"):
    for flags in (os.O_RDONLY, os.O_WRONLY, os.O_RDWR):
        try:
            os.open(path, flags | os.O_NONBLOCK)
            found.append(path)
        except OSError as error:
            assert error.errno in (errno.EACCES, errno.EROFS), error
print(found)
"""


async def test_what_code_can_not_reach_is_no_reason_to_refuse(numbers: Path) -> None:
    closed = numbers / "closed"
    closed.mkdir()
    (numbers / "link").symlink_to("/dev/null")
    with ExitStack() as stack:
        for path, kind, mode in (
            (numbers / "s", "socket", 0o755),
            (numbers / "f", "fifo", 0o600),
            (closed / "s", "socket", 0o777),
            (closed / "f", "fifo", 0o666),
        ):
            stack.enter_context(special(path, kind, mode))
        closed.chmod(0o700)
        async with open_sandbox(checked(numbers)) as sandbox:
            assert (await sandbox.run(REACH)).output.text() == "[]\n"


async def test_files_can_not_be_locked_for_writing(numbers: Path) -> None:
    code = """
import fcntl
file = open("numbers/a.csv")
for command in (fcntl.F_SETLK, fcntl.F_OFD_SETLK):
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        print(error.errno)
try:
    fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_RDLCK)
except OSError as error:
    print(error.errno)
"""
    async with open_sandbox(checked(numbers)) as sandbox:
        assert (await sandbox.run(code)).output.text() == "9\n9\n13\n"  # EBADF, and EACCES for a lease


def by_link(folder: Path, target: Path) -> None:
    folder.rename(folder.with_name("moved"))
    folder.symlink_to(target)


def by_link_above(folder: Path, target: Path) -> None:
    folder.parent.rename(folder.parent.with_name(f"{folder.parent.name}-moved"))
    (target / folder.name).mkdir(exist_ok=True)
    folder.parent.symlink_to(target)


def by_folder(folder: Path, _target: Path) -> None:
    folder.rename(folder.with_name("moved"))
    folder.mkdir()


def by_nothing(folder: Path, _target: Path) -> None:
    folder.rename(folder.with_name("moved"))


EXCHANGES = [by_link, by_link_above, by_folder, by_nothing]


@pytest.fixture
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("secrets")
    folder.chmod(0o777)
    (folder / "a.csv").write_text("secret\n")
    return folder


@pytest.mark.parametrize("exchange", EXCHANGES)
async def test_a_folder_that_was_exchanged_is_not_shown(
    numbers: Path, secrets: Path, exchange: Callable[[Path, Path], None]
) -> None:
    settings = checked(numbers)
    host = HostResources.from_settings(settings)
    exchange(numbers, secrets)
    async with open_sandbox(settings, host=host) as sandbox:
        with pytest.raises(EngineError, match="moved or replaced"):
            await sandbox.run("1")


async def test_a_folder_is_held_to_for_each_container(numbers: Path, secrets: Path, api: APIClient) -> None:
    async with open_sandbox(checked(numbers)) as sandbox:
        assert await seen(sandbox) == "1\n"
        by_link(numbers, secrets)
        assert await seen(sandbox) == "1\n"  # a mount holds the folder, wherever that goes
        container = await anyio.to_thread.run_sync(container_of, api, sandbox)
        await anyio.to_thread.run_sync(api.kill, container)
        with pytest.raises(EngineError, match="moved or replaced"):
            await run_after_loss(sandbox)
        put_back(numbers)
        assert await seen(sandbox) == "1\n"


async def run_after_loss(sandbox: AsyncSandbox) -> None:
    with suppress(SandboxLostError):  # the loss of the container may be noticed in a call
        await sandbox.run("1")
    await sandbox.run("1")


def put_back(folder: Path) -> None:
    folder.unlink()
    folder.with_name("moved").rename(folder)


@pytest.mark.parametrize("exchange", [by_link, by_link_above, by_folder])
async def test_a_folder_that_is_exchanged_as_the_engine_mounts_it_is_not_shown(
    numbers: Path, secrets: Path, exchange: Callable[[Path, Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    original = DockerEngine.open_stream

    async def open_stream(self: DockerEngine, container: str) -> ByteStream:
        exchange(numbers, secrets)
        monkeypatch.setattr(DockerEngine, "open_stream", original)
        return await original(self, container)

    monkeypatch.setattr(DockerEngine, "open_stream", open_stream)
    async with open_sandbox(checked(numbers)) as sandbox:
        with pytest.raises(EngineError, match="mounted another folder than that of `data` at '/workspace/numbers'"):
            await sandbox.run("1")


async def test_a_link_is_followed_once(numbers: Path, secrets: Path) -> None:
    link = numbers.with_name("link")
    link.symlink_to(numbers)
    settings = checked(link)
    host = HostResources.from_settings(settings)
    link.unlink()
    link.symlink_to(secrets)
    async with open_sandbox(settings, host=host) as sandbox:
        assert await seen(sandbox) == "1\n"


async def test_a_search_without_an_end_is_given_up_and_logged(
    numbers: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("mcp_agentrun.host_folder.SEARCH_SECONDS", -1.0)
    HostFolder.pin(numbers).require_safe(20000)
    assert "could be searched" in caplog.text


def test_permissions_of_the_sandboxs_own_user_count(numbers: Path) -> None:
    status = numbers.lstat()
    os.mkfifo(numbers / "f", 0o600)
    assert stat.S_ISFIFO((numbers / "f").lstat().st_mode)
    HostFolder.pin(numbers).require_safe(status.st_uid + 1)
    with pytest.raises(EngineError, match="'f'"):
        HostFolder.pin(numbers).require_safe(status.st_uid)


async def test_the_server_says_at_its_start_what_code_can_do(numbers: Path, tmp_path: Path) -> None:
    with (tmp_path / "log").open("w+") as log:
        async with Client(stdio_client(server_parameters("--data", str(numbers)), errlog=log)) as client:
            assert text_of(await run(client, "open('numbers/a.csv').read()")) == "'1\\n'\n"
        log.seek(0)
        assert f"code in the sandboxes can read {numbers}" in log.read()
