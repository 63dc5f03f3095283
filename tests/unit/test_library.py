"""The public API on an engine without containers, at the edges that a real one rarely reaches."""

from __future__ import annotations

from collections.abc import Sequence

import anyio
import anyio.lowlevel
import pytest

from mcp_agentrun import AsyncRuntime, AsyncSandbox, SandboxLostError, UnavailableError
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
