"""A runner that lies: a false message means a lost sandbox and a sentence, never the end of a server or another's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import anyio
import pytest

from mcp_agentrun.engine.network import NetworkSettings
from mcp_agentrun.errors import AgentRunError
from mcp_agentrun.packages.installer import Installer
from mcp_agentrun.sandbox import AsyncRuntime, OpenSandbox
from mcp_agentrun.sessions import Caller, SessionManager
from mcp_agentrun.settings import Settings
from mcp_agentrun.wire import messages
from mcp_agentrun.wire.codec import encode_frame
from mcp_agentrun.wire.messages import Message, Pong
from tests.support.fake_engine import Answer, FakeEngine, honest_installer, honest_runner, result
from tests.support.samples import message_classes, sample
from tests.support.sandboxes import sandbox_on

pytestmark = pytest.mark.anyio

WRITING = (messages.WriteFile, messages.WriteData, messages.WriteEnd)
ASKED = (
    *(messages.SupervisorHello, messages.Run, messages.Reset, messages.ListFiles, messages.ReadFile),
    *(*WRITING, messages.RemoveFile),
)
"""What a runner answers."""


def faults() -> Iterator[tuple[type[Message], Answer]]:
    """Answers that no honest runner sends, each with what it is the answer to. What is wrong in a single message is
    the business of `test_messages`.
    """
    for asked in ASKED:
        yield from ((asked, sample(cls)) for cls in message_classes() if cls is not Pong)
        yield asked, encode_frame(255, b"")
        yield asked, encode_frame(messages.RunResult.kind, b"{}")
    yield messages.Run, result(2)
    yield messages.Run, result(1, written=-1)
    yield messages.Run, messages.MissingPackages(run=2, names=(), requirements=())
    yield messages.Run, messages.PictureData(data=b"x")
    yield messages.ReadFile, messages.FilePart(size=7, stamp="1", length=7)
    yield from ((asked, messages.Written(error="no reason")) for asked in WRITING)
    yield messages.RemoveFile, messages.Removed(error="no reason")


async def test_a_false_message_costs_one_sandbox_at_most(anyio_backend: str) -> None:
    """One client's runner lies once; another one's session goes on in the same container."""
    lies = iter([*faults()])
    now: list[tuple[type[Message], Answer]] = []

    def lie(message: Message) -> Sequence[Answer]:
        if now and type(message) is now[0][0]:
            return [now.pop()[1], *honest_runner(message)]
        return honest_runner(message)

    engine = FakeEngine([honest_installer], [honest_runner, lie])
    settings = Settings(max_sandboxes=4)
    async with (
        engine.running(),
        SessionManager(AsyncRuntime(settings, engine=engine, package_network=NetworkSettings())) as sessions,
        sessions.lease(Caller("other"), None) as other,
    ):
        await other.sandbox.run("1")
        async with sessions.lease(Caller("lied to"), None) as lied_to:
            for fault in lies:
                now[:] = [fault]
                with anyio.fail_after(20):
                    await use(lied_to.sandbox, fault[0])
                    now.clear()
                    assert (await answer(lied_to.sandbox)).outcome == "ok", fault
        assert (await other.sandbox.run("1")).outcome == "ok"
        assert other.sandbox.container.starts == 1
        assert engine.started["runner"] > 100, "most of them are noticed"


async def use(sandbox: OpenSandbox, asked: type[Message]) -> None:
    """Ask the container for what it is to lie about. All that may come of it is an answer or an error of ours."""
    try:
        if asked is messages.SupervisorHello:
            sandbox.container.abandon(sandbox.container.starts)
        if asked is messages.ListFiles:
            await sandbox.files.page()
        elif asked is messages.ReadFile:
            await sandbox.files.read("a")
        elif asked in WRITING:
            await sandbox.files.write("a", b"x")
        elif asked is messages.RemoveFile:
            await sandbox.files.remove("a")
        elif asked is messages.Reset:
            await sandbox.reset()
        else:
            await sandbox.run("1")
    except AgentRunError:
        pass


async def answer(sandbox: OpenSandbox) -> Any:
    """The result of a run: by the second or third try, where the lie was still on its way."""
    for _ in range(2):
        try:
            return await sandbox.run("1")
        except AgentRunError:
            pass
    return await sandbox.run("1")


async def test_a_reset_ends_what_was_said_of_the_session_before(anyio_backend: str) -> None:
    def unprotected(message: Message) -> Sequence[Answer]:
        if not isinstance(message, messages.Run):
            return honest_runner(message)
        return [result(message.run, unprotected="threads")]

    engine = FakeEngine(runners=[unprotected])
    async with engine.running(), sandbox_on(engine, Settings()) as sandbox:
        assert [(await sandbox.run("1")).unprotected for _ in range(2)] == ["threads", None]
        await sandbox.reset()
        assert (await sandbox.run("1")).unprotected == "threads"


class Defective(FakeEngine):
    """Raises what no engine should, whatever it is asked in the background."""

    def __init__(self) -> None:
        super().__init__([honest_installer])
        self.asked = {"sandboxes": anyio.Event(), "memory": anyio.Event()}

    async def list_sandboxes(self) -> Sequence[str]:
        self.asked["sandboxes"].set()
        raise KeyError("sandboxes")

    async def free_memory(self) -> int | None:
        if self.asked["memory"].is_set():
            return None
        self.asked["memory"].set()
        raise KeyError("memory")


async def test_a_defect_in_a_background_task_ends_nothing_else(
    anyio_backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mcp_agentrun.sessions.reconcile.RECONCILE_SECONDS", 0.01)
    monkeypatch.setattr("mcp_agentrun.sandbox.pool._RETRY_SECONDS", 0.01)
    tried = anyio.Event()

    async def preinstalled(_installer: Installer, _sandbox: str, _report: object = None) -> None:
        if not tried.is_set():
            tried.set()
            raise KeyError("preinstalled")

    monkeypatch.setattr(Installer, "preinstalled", preinstalled)
    engine = Defective()
    settings = Settings(preinstall=("x",), pool=1)
    with anyio.fail_after(20):
        async with (
            engine.running(),
            SessionManager(
                AsyncRuntime(settings, engine=engine, package_network=NetworkSettings()), is_shared=True
            ) as sessions,
        ):
            for event in (*engine.asked.values(), tried):
                await event.wait()
            await anyio.wait_all_tasks_blocked()
            async with sessions.lease(Caller("one"), None) as lease:
                assert (await lease.sandbox.run("1")).outcome == "ok"


async def test_few_user_ids_are_enough_to_start() -> None:
    """Then sandboxes may share one, so their processes are not limited by user."""
    engine = FakeEngine()
    async with engine.running(), sandbox_on(engine, Settings(uid_range=(20000, 20009))) as sandbox:
        assert (await sandbox.run("1")).outcome == "ok"
