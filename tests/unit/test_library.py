"""The public API on an engine without containers, at the edges that a real one rarely reaches."""

from __future__ import annotations

from collections.abc import Sequence

import anyio
import anyio.lowlevel
import pytest

from mcp_agentrun import AsyncRuntime, AsyncSandbox, FileError, SandboxLostError, UnavailableError
from mcp_agentrun.wire import messages
from mcp_agentrun.wire.messages import Message
from tests.support.fake_engine import Answer, FakeEngine, honest_runner

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])]


class SlowToDestroy(FakeEngine):
    """An engine that takes its time to destroy a container, so that other tasks run meanwhile."""

    async def destroy(self, container: str) -> None:
        for _ in range(50):
            await anyio.lowlevel.checkpoint()
        await super().destroy(container)


@pytest.mark.parametrize("engine_type", [FakeEngine, SlowToDestroy])
async def test_calls_that_wait_when_a_sandbox_is_closed_fail(engine_type: type[FakeEngine]) -> None:
    begun = anyio.Event()

    def busy_runner(message: Message) -> Sequence[Answer]:
        if isinstance(message, messages.Run):
            begun.set()
            return []
        return honest_runner(message)

    errors: list[UnavailableError] = []

    async def run(sandbox: AsyncSandbox) -> None:
        with pytest.raises(UnavailableError, match="closed") as raised:
            await sandbox.run("1")
        errors.append(raised.value)

    engine = engine_type(runners=[busy_runner])
    async with engine.running(), anyio.create_task_group() as calls, AsyncRuntime(engine=engine) as runtime:
        async with runtime.sandbox() as sandbox:
            for _ in range(3):
                calls.start_soon(run, sandbox)
            await begun.wait()
        assert (sandbox.stage, sandbox.is_ready, sandbox.state) == ("closed", False, "lost")
    assert [type(error) for error in errors] == [SandboxLostError, UnavailableError, UnavailableError]
    assert (engine.started["runner"], engine.containers) == (1, {})


async def test_a_container_that_is_lost_after_files_were_written_is_reported() -> None:
    engine = FakeEngine()
    async with engine.running(), AsyncRuntime(engine=engine) as runtime:
        for use in ("run", "reset"):
            async with runtime.sandbox() as sandbox:
                await sandbox.files.write("data.csv", b"x")
                await lose_all(engine, sandbox)
                assert sandbox.state == "lost"
                if use == "run":
                    assert (await sandbox.run("1")).replaced
                else:
                    with pytest.raises(SandboxLostError, match="files are gone"):
                        await sandbox.reset(keep_files=True)


async def lose_all(engine: FakeEngine, sandbox: AsyncSandbox) -> None:
    for container in list(engine.containers):
        engine.lose(container)
    while sandbox.is_ready:
        await anyio.lowlevel.checkpoint()


async def test_a_container_that_is_lost_before_it_was_used_is_not_reported() -> None:
    engine = FakeEngine()
    async with engine.running(), AsyncRuntime(engine=engine) as runtime, runtime.sandbox() as sandbox:
        await sandbox.ready()
        await lose_all(engine, sandbox)
        assert not (await sandbox.run("1")).replaced


async def test_a_closed_runtime_has_no_spares() -> None:
    engine = FakeEngine()
    async with engine.running():
        async with AsyncRuntime(engine=engine, pool=1) as runtime:
            with anyio.fail_after(30):
                while not runtime.spares:
                    await anyio.lowlevel.checkpoint()
        assert (runtime.spares, engine.containers) == (0, {})


async def test_without_a_pool_a_sandbox_starts_when_it_is_opened() -> None:
    engine = FakeEngine()
    engine.has_image = anyio.Event()
    async with engine.running(), AsyncRuntime(engine=engine) as runtime, runtime.sandbox() as sandbox:
        assert not sandbox.is_ready
        engine.has_image.set()
        await sandbox.ready()
        assert sandbox.is_ready


async def test_errors_name_a_file_as_the_caller_did() -> None:
    def refusing_runner(message: Message) -> Sequence[Answer]:
        match message:
            case messages.ReadFile():
                return [messages.FilePart(error="missing")]
            case messages.WriteFile():
                return [messages.Written(error="link")]
            case messages.RemoveFile():
                return [messages.Removed(error="missing")]
            case _:
                return honest_runner(message)

    engine = FakeEngine(runners=[refusing_runner])
    async with engine.running(), AsyncRuntime(engine=engine) as runtime, runtime.sandbox() as sandbox:
        path = "/workspace/a/./b"
        for call in (sandbox.files.read(path), sandbox.files.write(path, b""), sandbox.files.remove(path)):
            with pytest.raises(FileError) as raised:
                await call
            assert raised.value.path == path and path in str(raised.value)


async def test_what_is_open_cannot_be_opened_again() -> None:
    engine = FakeEngine()
    async with engine.running(), AsyncRuntime(engine=engine) as runtime, runtime.sandbox() as sandbox:
        for context in (runtime, sandbox):
            with pytest.raises(RuntimeError, match="is open already"):
                await context.__aenter__()
        assert (await sandbox.run("1")).outcome == "ok"
    assert engine.containers == {}
