"""Programs on the wire: standard input in parts, output beyond what is kept, interrupts. The runner is a script."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

import anyio
import pytest

from mcp_agentrun import Script
from mcp_agentrun.errors import SandboxLostError
from mcp_agentrun.settings import Settings
from mcp_agentrun.wire import messages
from mcp_agentrun.wire.messages import Message
from tests.support.fake_engine import Answer, FakeEngine, honest_installer, honest_runner, result
from tests.support.sandboxes import sandbox_on

pytestmark = pytest.mark.anyio

KEEP = 1000
SETTINGS = Settings(output_keep=KEEP, output_show=500)


async def read(*parts: bytes, error: Exception | None = None) -> AsyncIterator[bytes]:
    for part in parts:
        yield part
    if error is not None:
        raise error


class Runner:
    """Reads all of its input, and then ends; prints *printed* in parts of 400 bytes."""

    def __init__(self, printed: bytes = b"", *, waits_for_interrupt: bool = False) -> None:
        self.printed = printed
        self.waits_for_interrupt = waits_for_interrupt
        self.run: messages.Run | None = None
        self.inputs: list[bytes] = []

    def __call__(self, message: Message) -> Sequence[Answer]:
        match message:
            case messages.Run():
                self.run = message
                has_stdin = message.script is not None and message.script.has_stdin
                parts = [self.printed[at : at + 400] for at in range(0, len(self.printed), 400)]
                output = [messages.OutputChunk(data=part) for part in parts]
                return output if has_stdin or self.waits_for_interrupt else [*output, self.end()]
            case messages.Input(data=data):
                self.inputs.append(data)
                return [messages.InputTaken()] if data else [self.end()]
            case messages.Cancel():
                return [messages.OutputChunk(data=b"bye"), self.end(outcome="cancelled", exit_code=130, written=8)]
            case _:
                return honest_runner(message)

    def end(self, **changes: object) -> Answer:
        assert self.run is not None
        return result(self.run.run, **{"written": len(self.printed), **changes})


async def test_what_the_container_is_told_of_a_script(anyio_backend: str) -> None:
    runner = Runner()
    engine = FakeEngine([honest_installer], [runner])
    async with engine.running(), sandbox_on(engine, SETTINGS) as sandbox:
        await sandbox.run("1")
        assert runner.run is not None
        assert (runner.run.stream, runner.run.script) == (False, None)
        await sandbox.run("1", stream=True, script=Script("/workspace/a.py", ["a.py", "two words"]))
        assert runner.run.stream
        assert runner.run.script == messages.Script(
            filename="/workspace/a.py", argv=("a.py", "two words"), is_file=True, has_stdin=False
        )


@pytest.mark.parametrize("error", [None, OSError("gone")])
async def test_input_is_sent_in_parts_and_ends(anyio_backend: str, error: Exception | None) -> None:
    runner = Runner()
    engine = FakeEngine([honest_installer], [runner])
    large = bytes(range(256)) * 600
    async with engine.running(), sandbox_on(engine, SETTINGS) as sandbox:
        await sandbox.run("1", script=Script(stdin=read(b"", b"one", large, error=error)))
    assert b"".join(runner.inputs) == b"one" + large
    assert list(map(len, runner.inputs)) == [3, 65536, 65536, 600 * 256 - 2 * 65536, 0]


async def test_streamed_output_is_passed_on_whole_and_kept_in_part(anyio_backend: str) -> None:
    printed = bytes(range(256)) * 1000
    heard: list[bytes] = []

    async def on_bytes(data: bytes) -> None:
        heard.append(data)

    engine = FakeEngine([honest_installer], [Runner(printed)])
    async with engine.running(), sandbox_on(engine, SETTINGS) as sandbox:
        ended = await sandbox.run("1", on_bytes=on_bytes, stream=True)
        assert b"".join(heard) == printed
        assert (ended.output.head, ended.output.tail) == (printed[:KEEP], printed[-65536:])
        assert ended.output.written == len(printed)
        with pytest.raises(SandboxLostError):
            await sandbox.run("1", on_bytes=on_bytes)  # which has not asked for that much


async def test_an_interrupted_run_still_has_its_output_and_result(anyio_backend: str) -> None:
    engine = FakeEngine([honest_installer], [Runner(b"begun", waits_for_interrupt=True)])

    async def on_bytes(data: bytes) -> None:
        if data == b"begun":
            await sandbox.interrupt()

    async with engine.running(), sandbox_on(engine, SETTINGS) as sandbox:
        await sandbox.interrupt()  # of nothing
        ended = await sandbox.run("1", on_bytes=on_bytes)
    assert (ended.outcome, ended.exit_code) == ("cancelled", 130)


async def test_an_interrupt_ends_the_installation_that_a_run_waits_for(anyio_backend: str) -> None:
    resolving = anyio.Event()

    def installer(message: Message) -> Sequence[Answer]:
        if isinstance(message, messages.Install):
            resolving.set()
            return []  # it takes as long as it likes
        return honest_installer(message)

    def runner(message: Message) -> Sequence[Answer]:
        match message:
            case messages.Run(run=run):
                return [messages.MissingPackages(run=run, names=("lightgbm",), requirements=())]
            case messages.Cancel(run=run):
                return [result(run, outcome="cancelled")]
            case _:
                return honest_runner(message)

    engine = FakeEngine([installer], [runner])
    async with engine.running(), sandbox_on(engine, Settings(auto_install="known")) as sandbox:
        with anyio.fail_after(20):
            async with anyio.create_task_group() as tasks:

                async def interrupt() -> None:
                    await resolving.wait()
                    await sandbox.interrupt()

                tasks.start_soon(interrupt)
                ended = await sandbox.run("import lightgbm")
                assert (ended.outcome, ended.installed) == ("cancelled", None)
