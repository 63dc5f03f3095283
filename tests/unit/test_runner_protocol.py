"""A runner that lies: a false frame means a lost sandbox and a sentence, never the end of a server or of another's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import anyio
import pytest

from mcp_agentrun.engine.network import NetworkSettings
from mcp_agentrun.errors import AgentRunError
from mcp_agentrun.packages.installer import Installer
from mcp_agentrun.sandbox import AsyncRuntime, AsyncSandbox
from mcp_agentrun.sessions.registry import Caller, Sessions
from mcp_agentrun.settings import Settings
from mcp_agentrun.wire.codec import MAX_FRAME, Kind
from tests.support.fake_engine import READY, RESULT, WRONG, Answer, FakeEngine, honest_installer, honest_runner
from tests.support.sandboxes import sandbox_on

pytestmark = pytest.mark.anyio

CAUSE: dict[str, Any] = {"type": "E", "text": "m", "errno": 1, "path": "p", "function": "f"}
ERROR: dict[str, Any] = {"type": "E", "message": "m", "line": 1, "causes": [CAUSE], "full": []}
GOOD: dict[Kind, dict[str, Any]] = {
    Kind.READY: READY,
    Kind.RESULT: {**RESULT, "error": ERROR, "outcome": "error"},
    Kind.MISSING: {"run": 1, "names": ["x"], "requirements": ["y"]},
    Kind.ITEM: {"type": "image/png", "size": 7},
    Kind.FILES: {"files": [["a", 1, 1]], "more": 0, "is_cut": False},
    Kind.FILE: {"size": 7, "stamp": "1", "length": 7},
    Kind.WRITTEN: {"error": None, "changed": 1},
    Kind.REMOVED: {"error": None},
    Kind.RESET_DONE: {},
}
ASKED = {
    Kind.READY: Kind.HELLO,
    Kind.FILES: Kind.LIST,
    Kind.FILE: Kind.READ,
    Kind.WRITTEN: Kind.WRITE_END,
    Kind.REMOVED: Kind.REMOVE,
    Kind.RESET_DONE: Kind.RESET,
}
"""What each is an answer to; a run's is to a run."""

HUGE = (b"[" * MAX_FRAME, b"0" * MAX_FRAME, b'{"run":' + b"1" * (MAX_FRAME - 8) + b"}", b"\xff" * MAX_FRAME)


def faults() -> Iterator[tuple[Kind, Answer]]:
    """Frames that no honest runner sends, each with what it is the answer to."""
    for kind, good in GOOD.items():
        asked = ASKED.get(kind, Kind.RUN)
        for name in good:
            yield asked, (kind, {key: good[key] for key in good if key != name})
            yield from ((asked, (kind, {**good, name: wrong})) for wrong in WRONG)
        yield from ((asked, (kind, payload)) for payload in (b"", b"null", b"[]", b"{", *HUGE))
    for name in ERROR:
        yield Kind.RUN, (Kind.RESULT, {**RESULT, "error": {key: ERROR[key] for key in ERROR if key != name}})
        yield from ((Kind.RUN, (Kind.RESULT, {**RESULT, "error": {**ERROR, name: wrong}})) for wrong in WRONG)
    for name in CAUSE:
        causes = [{key: CAUSE[key] for key in CAUSE if key != name}, *({**CAUSE, name: wrong} for wrong in WRONG)]
        yield from ((Kind.RUN, (Kind.RESULT, {**RESULT, "error": {**ERROR, "causes": [cause]}})) for cause in causes)
    for kind in Kind:
        yield from ((asked, (kind, b"x")) for asked in (Kind.RUN, *ASKED.values(), Kind.WRITE, Kind.WRITE_DATA))


async def test_a_false_frame_costs_one_sandbox_at_most(anyio_backend: str) -> None:
    """One client's runner lies once; another one's session goes on in the same container."""
    lies = iter([*faults()])
    now: list[tuple[Kind, Answer]] = []

    def lie(asked: Kind, given: dict[str, Any]) -> Sequence[Answer]:
        if now and asked is now[0][0]:
            return [now.pop()[1], *honest_runner(asked, given)]
        return honest_runner(asked, given)

    engine = FakeEngine([honest_installer], [honest_runner, lie])
    settings = Settings(max_sandboxes=4)
    async with (
        engine.running(),
        Sessions(AsyncRuntime(settings, engine=engine, package_network=NetworkSettings())) as sessions,
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
        assert other.sandbox.starts == 1
        assert engine.started["runner"] > 100, "most of them are noticed"


async def use(sandbox: AsyncSandbox, asked: Kind) -> None:
    """Ask the container for what it is to lie about. All that may come of it is an answer or an error of ours."""
    try:
        if asked is Kind.HELLO:
            sandbox.lost(sandbox.starts)
        if asked is Kind.LIST:
            await sandbox.files.page()
        elif asked is Kind.READ:
            await sandbox.files.read("a")
        elif asked in (Kind.WRITE, Kind.WRITE_DATA, Kind.WRITE_END):
            await sandbox.files.write("a", b"x")
        elif asked is Kind.REMOVE:
            await sandbox.files.remove("a")
        elif asked is Kind.RESET:
            await sandbox.reset()
        else:
            await sandbox.run("1")
    except AgentRunError:
        pass


async def answer(sandbox: AsyncSandbox) -> Any:
    """The result of a run: by the second or third try, where the lie was still on its way."""
    for _ in range(2):
        try:
            return await sandbox.run("1")
        except AgentRunError:
            pass
    return await sandbox.run("1")


async def test_a_reset_ends_what_was_said_of_the_session_before(anyio_backend: str) -> None:
    def unprotected(asked: Kind, given: dict[str, Any]) -> Sequence[Answer]:
        if asked is not Kind.RUN:
            return honest_runner(asked, given)
        return [(Kind.RESULT, {**RESULT, "run": given["run"], "unprotected": "threads"})]

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

    async def sandboxes(self) -> Sequence[str]:
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
    monkeypatch.setattr("mcp_agentrun.sessions.registry.RECONCILE_SECONDS", 0.01)
    monkeypatch.setattr("mcp_agentrun.sessions.pool._RETRY_SECONDS", 0.01)
    tried = anyio.Event()

    async def preinstalled(_installer: Installer, _report: object = None) -> None:
        if not tried.is_set():
            tried.set()
            raise KeyError("preinstalled")

    monkeypatch.setattr(Installer, "preinstalled", preinstalled)
    engine = Defective()
    settings = Settings(preinstall=("x",), pool=1)
    with anyio.fail_after(20):
        async with (
            engine.running(),
            Sessions(
                AsyncRuntime(settings, engine=engine, package_network=NetworkSettings()), is_shared=True
            ) as sessions,
        ):
            for event in (*engine.asked.values(), tried):
                await event.wait()
            await anyio.wait_all_tasks_blocked()
            async with sessions.lease(Caller("one"), None) as lease:
                assert (await lease.sandbox.run("1")).outcome == "ok"
