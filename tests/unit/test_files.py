"""What `Files` makes of paths, of sources, and of containers that answer as no honest one does."""

from __future__ import annotations

import io
import json
import os
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

import anyio
import pytest

from mcp_agentrun.errors import FileError, FileReason, SandboxLostError
from mcp_agentrun.sandbox import AsyncSandbox
from mcp_agentrun.sandbox.files import FileSource
from mcp_agentrun.settings import Settings
from mcp_agentrun.wire import messages
from mcp_agentrun.wire.codec import encode_frame
from mcp_agentrun.wire.messages import Message
from tests.support.fake_engine import Answer, FakeEngine, honest_runner
from tests.support.sandboxes import sandbox_on

pytestmark = pytest.mark.anyio

MIB = 1 << 20
BYTE = os.fsdecode(b"\xff")


WRITING = (messages.WriteFile, messages.WriteData, messages.WriteEnd)
ABOUT_FILES = (*WRITING, messages.RemoveFile, messages.ReadFile, messages.ListFiles)


class Recorder:
    """A runner that keeps the requests about files that it gets; *answers* replace its own."""

    def __init__(self, answers: Mapping[type[Message], Answer] = MappingProxyType({})) -> None:
        self.requests: list[Message] = []
        self._answers = answers

    def __call__(self, message: Message) -> Sequence[Answer]:
        if isinstance(message, ABOUT_FILES):
            self.requests.append(message)
        return [self._answers[type(message)]] if type(message) in self._answers else honest_runner(message)

    @property
    def kinds(self) -> list[type[Message]]:
        return [type(message) for message in self.requests]


@asynccontextmanager
async def sandbox_of(runner: Recorder, **settings: Any) -> AsyncGenerator[AsyncSandbox]:
    engine = FakeEngine(runners=[runner])
    async with engine.running(), sandbox_on(engine, Settings(**settings)) as sandbox:
        yield sandbox


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("../a", "outside"),
        ("a/../../b", "outside"),
        ("/etc/passwd", "outside"),
        ("/", "outside"),
        ("/workspace/../etc", "outside"),
        ("", "folder"),
        (".", "folder"),
        ("/workspace", "folder"),
        ("a//b", "name"),
        ("a/", "name"),
        ("a\0b", "name"),
        ("\ud800", "name"),
        (BYTE, "name"),
        ("a" * 5000, "name"),
    ],
)
async def test_paths_that_are_not_in_the_workspace_never_leave_the_host(
    anyio_backend: str, path: str, reason: FileReason
) -> None:
    runner = Recorder()
    async with sandbox_of(runner) as sandbox:
        files = sandbox.files
        with pytest.raises(FileError) as error:
            await files.write(path, b"x")
        assert (error.value.path, error.value.reason) == (path, reason)
        if path != BYTE:  # which a file's name may be that the code has made
            for call in (files.read, files.remove):
                with pytest.raises(FileError) as error:
                    await call(path)
                assert error.value.reason == reason
        if reason != "folder" and path != BYTE:
            with pytest.raises(FileError):
                await files.list(path)
    assert runner.requests == []


async def test_a_path_may_name_the_workspace(anyio_backend: str) -> None:
    runner = Recorder()
    async with sandbox_of(runner) as sandbox:
        for path in ("a/b", "./a/b", "/workspace/a/b", "a/./b"):
            await sandbox.files.write(path, b"")
        for folder in (".", "", "/workspace", "./"):
            await sandbox.files.list(folder)
    assert {each.path for each in runner.requests if isinstance(each, messages.WriteFile)} == {"a/b"}
    assert {each.folder for each in runner.requests if isinstance(each, messages.ListFiles)} == {""}


async def chunks(*sizes: int) -> AsyncIterator[bytes]:
    for size in sizes:
        yield bytes(size)


@pytest.mark.parametrize("size", [0, 1, MIB, 2 * MIB + 1])
async def test_sources_come_in_parts_of_one_mebibyte(anyio_backend: str, tmp_path: Path, size: int) -> None:
    local = tmp_path / "local"
    local.write_bytes(bytes(size))
    sources: list[FileSource] = [
        bytes(size),
        bytearray(size),
        memoryview(bytes(size)),
        local,
        io.BytesIO(bytes(size)),
        chunks(*[1000] * (size // 1000), size % 1000),
        chunks(size),
    ]
    for source in sources:
        runner = Recorder()
        async with sandbox_of(runner) as sandbox:
            info = await sandbox.files.write("a", source)
        assert info.size == size
        parts = -(-size // MIB)
        assert runner.kinds == [messages.WriteFile, *[messages.WriteData] * parts, messages.WriteEnd]
        assert runner.requests[-1] == messages.WriteEnd(keep=True)


@pytest.mark.parametrize("source", ["text", 5, None, io.StringIO("text")])
async def test_what_is_no_source_is_discarded(anyio_backend: str, source: Any) -> None:
    runner = Recorder()
    async with sandbox_of(runner) as sandbox:
        with pytest.raises(TypeError):
            await sandbox.files.write("a", source)
    assert runner.requests[-1] == messages.WriteEnd(keep=False)


async def test_a_source_that_fails_is_discarded(anyio_backend: str, tmp_path: Path) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"x" * MIB
        raise LookupError

    runner = Recorder()
    async with sandbox_of(runner) as sandbox:
        for source, error in ((broken(), LookupError), (tmp_path / "missing", FileNotFoundError)):
            with pytest.raises(error):
                await sandbox.files.write("a", source)
            assert runner.requests[-1] == messages.WriteEnd(keep=False)
        assert (await sandbox.run("1")).outcome == "ok"


async def test_a_cancelled_write_is_discarded(anyio_backend: str) -> None:
    runner = Recorder()
    async with sandbox_of(runner) as sandbox, anyio.create_task_group() as tasks:
        await sandbox.run("1")
        begun = anyio.Event()

        async def endless() -> AsyncIterator[bytes]:
            while True:
                yield bytes(MIB)
                begun.set()

        tasks.start_soon(sandbox.files.write, "a", endless())
        await begun.wait()
        tasks.cancel_scope.cancel()
    assert runner.requests[-1] == messages.WriteEnd(keep=False)


async def test_more_than_the_workspace_holds_is_refused_on_the_host(anyio_backend: str) -> None:
    runner = Recorder()
    async with sandbox_of(runner, workspace_size=2 * MIB) as sandbox:
        with pytest.raises(FileError) as error:
            await sandbox.files.write("a", bytes(2 * MIB + 1))
        assert (error.value.reason, error.value.limit, runner.requests) == ("too_large", 2 * MIB, [])
        with pytest.raises(FileError) as error:
            await sandbox.files.write("a", chunks(*[MIB] * 3))
        assert (error.value.reason, error.value.limit) == ("too_large", 2 * MIB)
    assert runner.kinds == [messages.WriteFile, messages.WriteData, messages.WriteData, messages.WriteEnd]


@pytest.mark.parametrize("step", WRITING)
async def test_the_container_s_reason_is_the_error_s(anyio_backend: str, step: type[Message]) -> None:
    runner = Recorder({step: messages.Written(error="full")})
    async with sandbox_of(runner, workspace_size=2 * MIB) as sandbox:
        with pytest.raises(FileError, match="'a' can't be written: the workspace is full") as error:
            await sandbox.files.write("a", b"x")
        assert (error.value.path, error.value.reason, error.value.limit) == ("a", "full", 2 * MIB)
        assert runner.kinds[-1] is step, "it has discarded the file itself"
        assert (await sandbox.run("1")).state == "kept"


@pytest.mark.parametrize("reason", ["no such reason", "outside\n", [], {}, 7, True])
async def test_a_reason_that_does_not_exist_ends_the_container(anyio_backend: str, reason: Any) -> None:
    answer = encode_frame(messages.Removed.kind, json.dumps({"error": reason}).encode())
    runner = Recorder({messages.RemoveFile: answer})
    async with sandbox_of(runner) as sandbox:
        with pytest.raises(SandboxLostError, match="malformed"):
            await sandbox.files.remove("a")


async def test_a_list_without_an_end_is_not_followed(anyio_backend: str) -> None:
    page = tuple(messages.FileEntry(path=f"f{number:04}", size=1, changed=1) for number in range(1000))
    endless = Recorder({messages.ListFiles: messages.FileList(files=page, more=1)})
    cut = Recorder({messages.ListFiles: messages.FileList(files=page, more=1, is_cut=True)})
    empty = Recorder({messages.ListFiles: messages.FileList(more=1)})
    for runner in (endless, cut):
        async with sandbox_of(runner) as sandbox:
            with pytest.raises(FileError) as error:
                await sandbox.files.list()
            assert (error.value.reason, error.value.limit) == ("too_many", 20_000)
    async with sandbox_of(empty) as sandbox:
        assert await sandbox.files.list() == []


@pytest.mark.parametrize("time", [-1, 1.5, True, None, "1", 1 << 70])
async def test_times_that_are_none_end_the_container(anyio_backend: str, time: Any) -> None:
    answer = encode_frame(messages.Written.kind, json.dumps({"error": None, "changed": time}).encode())
    runner = Recorder({messages.WriteEnd: answer})
    async with sandbox_of(runner) as sandbox:
        with pytest.raises(SandboxLostError, match="malformed"):
            await sandbox.files.write("a", b"")
