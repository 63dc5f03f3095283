"""Stateless calls: which sandbox they get, and whose places these take."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import anyio
import pytest

from mcp_agentrun.errors import CapacityError
from mcp_agentrun.sessions import NEW, Caller, manager
from mcp_agentrun.settings import Settings
from mcp_agentrun.wire import messages
from mcp_agentrun.wire.messages import Message
from tests.support.fake_engine import Answer, FakeEngine, honest_runner, open_sessions
from tests.support.virtual_time import virtual_time

pytestmark = pytest.mark.anyio

SETTINGS: dict[str, Any] = {"pool": 0, "reserve": 1}


async def test_a_sandbox_is_reset_and_used_again_by_the_same_principal_only() -> None:
    resets = 0

    def runner(message: Message) -> Sequence[Answer]:
        nonlocal resets
        resets += isinstance(message, messages.Reset)
        return honest_runner(message)

    async with open_sessions(Settings(**SETTINGS), FakeEngine(runners=[runner])) as sessions:
        used: list[str] = []
        for principal in ("alice", "alice", "bob", "alice"):
            async with sessions.fresh(principal) as sandbox:
                await sandbox.run("1")
                used.append(sandbox.id)
            await anyio.wait_all_tasks_blocked()
            assert resets == len(used)
        assert used[0] == used[1] == used[3] != used[2]


async def test_where_the_reset_fails_the_next_call_gets_another_sandbox() -> None:
    engine = FakeEngine()
    async with open_sessions(Settings(**SETTINGS), engine) as sessions:
        async with sessions.fresh("alice") as sandbox:
            first = sandbox.id

            async def failing(**_: object) -> None:
                raise CapacityError("no")

            sandbox.container.reset = failing
        async with sessions.fresh("alice") as sandbox:
            assert sandbox.id != first
        await anyio.wait_all_tasks_blocked()
        assert sessions.count == 1


async def test_calls_beyond_the_quota_wait_in_turn() -> None:
    served: list[int] = []
    async with open_sessions(Settings(**SETTINGS, max_sandboxes=1)) as sessions:

        async def call(number: int) -> None:
            async with sessions.fresh("alice"):
                served.append(number)

        async with anyio.create_task_group() as tasks, sessions.fresh("alice"):
            for number in range(4):
                tasks.start_soon(call, number)
                await anyio.wait_all_tasks_blocked()
            assert not served
        assert served == [0, 1, 2, 3]
        assert not sessions.refused


async def test_the_number_of_calls_that_wait_is_limited() -> None:
    async with open_sessions(Settings(**SETTINGS, max_sandboxes=1, queue=2)) as sessions:

        async def call() -> None:
            async with sessions.fresh("alice"):
                pass

        async with anyio.create_task_group() as tasks, sessions.fresh("alice"):
            for _ in range(3):  # the first has its turn, and waits for a sandbox
                tasks.start_soon(call)
            await anyio.wait_all_tasks_blocked()
            with pytest.raises(CapacityError, match="other calls are waiting") as refused:
                await call()
            assert refused.value.reason == "queue"
            async with sessions.fresh("bob"):
                pass


@pytest.mark.parametrize("pool", [0, 1])
async def test_a_call_that_waits_notices_capacity_that_becomes_free(pool: int) -> None:
    async with open_sessions(Settings(pool=pool, reserve=1, max_total=2)) as sessions:
        async with sessions.lease(Caller("own", "bob"), None):
            pass
        async with sessions.fresh("alice"), anyio.create_task_group() as tasks:
            served = anyio.Event()

            async def call() -> None:
                async with sessions.fresh("alice"):
                    served.set()

            tasks.start_soon(call)
            await anyio.wait_all_tasks_blocked()
            assert not served.is_set()
            sessions.disconnect("own")
            with anyio.fail_after(20):
                await served.wait()


@virtual_time
async def test_a_call_that_waits_too_long_is_refused() -> None:
    async with open_sessions(Settings(**SETTINGS, max_sandboxes=1)) as sessions, sessions.fresh("alice"):
        began = anyio.current_time()
        with pytest.raises(CapacityError, match="You already have 1 sandbox") as refused:
            async with sessions.fresh("alice"):
                pass
        assert refused.value.reason == "quota"
        assert anyio.current_time() - began == pytest.approx(manager.WAIT_SECONDS)
        async with sessions.fresh("bob"):
            pass


async def test_an_idle_sandbox_gives_way_to_the_quota_and_the_capacity() -> None:
    async with open_sessions(Settings(**SETTINGS, max_sandboxes=1, max_total=1)) as sessions:
        async with sessions.fresh("alice"):
            pass
        await anyio.wait_all_tasks_blocked()
        assert sessions.count == 1
        with anyio.fail_after(50):
            async with sessions.lease(Caller(None, "bob"), NEW):
                assert sessions.count == 1
    async with open_sessions(Settings(**SETTINGS, max_sandboxes=1)) as sessions:
        async with sessions.fresh("alice"):
            pass
        await anyio.wait_all_tasks_blocked()
        async with sessions.lease(Caller(None, "alice"), NEW):
            assert sessions.count == 1


async def test_a_sandbox_of_a_handle_that_is_closed_lets_a_stateless_call_in() -> None:
    async with open_sessions(Settings(**SETTINGS, max_sandboxes=1)) as sessions:
        served = anyio.Event()

        async def call() -> None:
            async with sessions.fresh("alice"):
                served.set()

        async with anyio.create_task_group() as tasks:
            async with sessions.lease(Caller("own", "alice"), None):
                tasks.start_soon(call)
                await anyio.wait_all_tasks_blocked()
                assert not served.is_set()
            sessions.disconnect("own")


@virtual_time
async def test_idle_sandboxes_expire() -> None:
    async with open_sessions(Settings(**SETTINGS, idle_ttl=60)) as sessions:
        async with sessions.fresh("alice"):
            pass
        await anyio.sleep(130)
        assert sessions.count == 0
        assert not sessions._store._expired, "no client can ask for it"  # pyright: ignore[reportPrivateUsage]
        async with sessions.fresh("alice"):
            assert sessions.count == 1


async def test_a_call_that_is_cancelled_leaves_its_place() -> None:
    async with open_sessions(Settings(**SETTINGS, max_sandboxes=1)) as sessions:
        async with sessions.fresh("alice"):
            with anyio.move_on_after(0):
                async with sessions.fresh("alice"):
                    raise AssertionError
        with anyio.CancelScope() as scope:
            async with sessions.fresh("alice"):
                scope.cancel()
                await anyio.sleep_forever()
        with anyio.fail_after(50):
            async with sessions.fresh("alice"):
                pass
