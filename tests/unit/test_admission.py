"""Room for sandboxes: who waits, who is refused at once, and who is held up by nobody."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import anyio
import pytest
from mcp.types import CallToolResult

from mcp_agentrun.errors import InvalidRequestError, NotReadyError, UnavailableError
from mcp_agentrun.sandbox.opening import SANDBOX_MEMORY
from mcp_agentrun.server.mcp import calls
from mcp_agentrun.server.mcp.calls import Call, Service, ignore_call
from mcp_agentrun.sessions import NEW, Caller, manager
from mcp_agentrun.settings import SandboxLimits, Settings
from tests.support.fake_engine import FakeEngine, open_sessions
from tests.support.virtual_time import virtual_time

pytestmark = pytest.mark.anyio


async def test_the_queue_for_room_is_bounded_and_served_in_turn() -> None:
    served: list[str] = []
    callers = {name: Caller(name, name) for name in ("first", "second", "third", "late")}

    async with open_sessions(Settings(pool=0, max_total=1, queue=2, reserve=1)) as sessions:

        async def call(name: str) -> None:
            async with sessions.lease(callers[name], None):
                served.append(name)
            sessions.disconnect(callers[name].connection)

        async with sessions.lease(callers["first"], None), anyio.create_task_group() as tasks:
            for name in ("second", "third"):
                tasks.start_soon(call, name)
                await anyio.wait_all_tasks_blocked()
            with anyio.fail_after(50), pytest.raises(UnavailableError, match="other calls are waiting"):
                await call("late")
            async with sessions.lease(callers["first"], None):
                pass  # who has a sandbox is not held up by those who wait
            sessions.disconnect(callers["first"].connection)
    assert served == ["second", "third"]


@virtual_time
async def test_calls_of_one_client_wait_for_room_together() -> None:
    waited: list[float] = []
    async with open_sessions(Settings(pool=0, max_total=1, reserve=1)) as sessions:
        began = anyio.current_time()

        async def call(delay: float) -> None:
            await anyio.sleep(delay)
            with pytest.raises(UnavailableError, match="none became free"):
                async with sessions.lease(Caller("b", "b"), None):
                    pass
            waited.append(anyio.current_time() - began)

        async with sessions.lease(Caller("a", "a"), None), anyio.create_task_group() as tasks:
            for delay in (*[0] * 8, 10):
                tasks.start_soon(call, delay)
    # Not one after the other; and what a call has waited for the one before it counts.
    assert waited == pytest.approx([manager.WAIT_SECONDS] * 8 + [10 + manager.WAIT_SECONDS], abs=0.1)


async def test_who_waits_counts_against_the_share_of_the_principal() -> None:
    holder, greedy = Caller("holder", "holder"), Caller(None, "greedy")

    async with open_sessions(Settings(pool=0, max_total=1, max_sandboxes=1, reserve=1)) as sessions:

        async def call() -> None:
            async with sessions.lease(greedy, NEW):
                pass

        async with sessions.lease(holder, None), anyio.create_task_group() as tasks:
            tasks.start_soon(call)
            await anyio.wait_all_tasks_blocked()
            with anyio.fail_after(50), pytest.raises(UnavailableError, match="You already have 1 sandbox,"):
                await call()
            tasks.cancel_scope.cancel()


async def test_who_has_waited_for_room_waits_the_less_for_the_sandbox() -> None:
    caller = Caller("one")

    engine = FakeEngine()
    engine.has_image = anyio.Event()
    async with open_sessions(Settings(pool=0, reserve=1), engine) as sessions:
        context: Any = SimpleNamespace(meta={}, session=SimpleNamespace(_connection=SimpleNamespace(state={})))
        call = Call(Service(sessions, lambda _: caller, ignore_call, None), context, "run_python", "running")
        call.progress.started -= calls.READY_SECONDS

        async def act() -> CallToolResult:
            async with call.lease(None):
                raise AssertionError

        with anyio.fail_after(calls.READY_SECONDS / 2):
            answer = await calls.answer(call, act)
    assert answer.is_error
    assert "not ready yet: looking for the container engine" in str(answer.content)


async def test_calls_of_one_connection_at_once_share_its_sandbox() -> None:
    caller = Caller("one")
    found: set[int] = set()

    async with open_sessions(Settings(pool=0, max_total=1, reserve=1)) as sessions:

        async def call() -> None:
            async with sessions.lease(caller, None) as lease:
                found.add(id(lease.sandbox))

        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(call)
        assert sessions.count == 1
    assert len(found) == 1


async def test_sandboxes_that_are_begun_at_once_are_not_promised_the_same_memory() -> None:
    served: list[str] = []
    # Room for two fresh sandboxes above the reserve, and not for three.
    engine = FakeEngine(free=(512 << 20) + 3 * SANDBOX_MEMORY - 1)

    async with open_sessions(Settings(pool=0, reserve=512 << 20), engine) as sessions:
        refused: list[str] = []

        async def call(name: str) -> None:
            try:
                async with sessions.lease(Caller(name, name), None) as lease:
                    await lease.sandbox.ready()
                    served.append(name)
            except UnavailableError as error:
                refused.append(str(error))

        async with anyio.create_task_group() as tasks:
            for name in ("first", "second", "third"):
                tasks.start_soon(call, name)
        assert len(served) == 2
        assert ["too little memory" in text for text in refused] == [True]
        await call("fourth")  # the measure shows by now what the others have taken
        assert served[-1] == "fourth"


async def test_the_pool_counts_against_the_ceiling_and_gives_way() -> None:
    engine = FakeEngine()
    async with open_sessions(Settings(pool=2, pool_max=2, max_total=2, reserve=1), engine) as sessions:
        with anyio.fail_after(60):
            while sessions.spares < 2:
                await anyio.sleep(0.02)  # it tells nobody
        served: list[str] = []

        async def call(name: str) -> None:
            async with sessions.lease(Caller(name, name), None) as lease:
                await lease.sandbox.run("1")
                served.append(name)

        await call("first")
        await call("second")
        assert len(await engine.list_sandboxes()) == 2
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(call, "third")
            await anyio.wait_all_tasks_blocked()
            assert sessions.count == 2
            sessions.disconnect("first")
        assert served == ["first", "second", "third"]
        assert len(await engine.list_sandboxes()) <= 2


async def test_a_sandbox_with_lower_limits_is_a_new_one_also_where_only_ready_ones_have_capacity() -> None:
    engine = FakeEngine()
    alice = Caller(None, "alice")
    limits = SandboxLimits(memory=512 << 20, max_timeout=5)
    async with open_sessions(Settings(pool=1, max_total=1, reserve=1), engine) as sessions:
        with anyio.fail_after(60):
            while not sessions.spares:
                await anyio.sleep(0.02)  # it tells nobody
            for wanted, memory in (
                (limits, 512 << 20),
                (None, 1 << 30),
                (SandboxLimits(), 1 << 30),
                (limits, 512 << 20),
            ):
                async with sessions.lease(alice, NEW, limits=wanted) as lease:
                    result = await lease.sandbox.run("1")
                    [container] = engine.containers.values()
                    assert (container.memory, result.limits.memory) == (memory, memory)
                    [described] = sessions.describe(alice)
                    assert described.limits.memory == memory
                    if wanted is limits:
                        assert result.timeout == 5
                        with pytest.raises(InvalidRequestError, match="at most 5 s"):
                            await lease.sandbox.run("1", timeout=6)
                    sessions.close(alice, lease.handle or "")
                while not sessions.spares:
                    await anyio.sleep(0.02)
        assert sessions.pool_use[0] == 4
        with pytest.raises(
            InvalidRequestError, match="memory is 4294967296, but this server allows at most 1073741824"
        ):
            async with sessions.lease(alice, NEW, limits=SandboxLimits(memory=4 << 30)):
                raise AssertionError
        assert sessions.spares == 1


async def test_who_waits_gets_what_was_begun_for_the_pool() -> None:
    async with open_sessions(Settings(pool=1, max_total=1, reserve=1)) as sessions:
        with anyio.fail_after(60):
            async with sessions.lease(Caller("one"), None) as lease:
                assert (await lease.sandbox.run("1")).outcome == "ok"
        assert (sessions.count, sessions.spares) == (1, 0)


async def test_who_gives_up_waiting_leaves_the_place_to_others() -> None:
    async with open_sessions(Settings(pool=0, max_total=1, reserve=1)) as sessions:

        async def call(name: str) -> None:
            async with sessions.lease(Caller(name, name), None):
                pass

        await call("first")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(call, "impatient")
            await anyio.wait_all_tasks_blocked()
            tasks.start_soon(call, "patient")
            await anyio.wait_all_tasks_blocked()
            # Both at once: the place comes to a caller that has just been cancelled.
            sessions.disconnect("first")
            tasks.cancel_scope.cancel()
        with anyio.fail_after(30):
            await call("last")


async def test_a_call_that_waits_for_room_is_one_under_way() -> None:
    async with open_sessions(Settings(pool=0, max_total=1, reserve=1)) as sessions:
        happened: list[str] = []

        async def call(name: str) -> None:
            async with sessions.lease(Caller(name, name), None):
                happened.append(name)

        async def drain() -> None:
            await sessions.idle()
            happened.append("idle")

        await call("first")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(call, "second")
            await anyio.wait_all_tasks_blocked()
            tasks.start_soon(drain)
            await anyio.wait_all_tasks_blocked()
            sessions.disconnect("first")
        assert happened == ["first", "second", "idle"]


async def test_a_sandbox_whose_handle_nobody_has_been_told_is_closed() -> None:
    async with open_sessions(Settings(pool=0, max_total=1, reserve=1)) as sessions:
        with anyio.CancelScope() as scope:
            async with sessions.lease(Caller(None, "one"), NEW):
                assert sessions.count == 1
                scope.cancel()
                await anyio.sleep_forever()
        assert sessions.count == 0
        with anyio.fail_after(30):
            async with sessions.lease(Caller(None, "one"), NEW) as lease:
                await lease.sandbox.ready()


async def test_a_sandbox_of_a_call_that_failed_is_closed_unless_its_handle_is_told() -> None:
    caller = Caller(None, "one")
    async with open_sessions(Settings(pool=0, max_sandboxes=1, reserve=1)) as sessions:
        for _ in range(2):
            with pytest.raises(InvalidRequestError):
                async with sessions.lease(caller, NEW) as lease:
                    await lease.sandbox.run("1", timeout=-1)
            assert sessions.count == 0
        with pytest.raises(NotReadyError) as told:
            async with sessions.lease(caller, None) as lease:
                raise NotReadyError(str(lease.handle), stage="starting")
        handle = str(told.value)
        for _ in range(2):
            with pytest.raises(InvalidRequestError):
                async with sessions.lease(caller, handle) as lease:
                    await lease.sandbox.run("\0")
        assert sessions.count == 1


@virtual_time
@pytest.mark.parametrize("way", ["reading", "listing"])
async def test_a_sandbox_does_not_expire_while_its_files_are_read(way: str) -> None:
    read, idle = Caller("read"), Caller("idle")
    async with open_sessions(Settings(pool=0, idle_ttl=1, reserve=1)) as sessions:
        for caller in (read, idle):
            async with sessions.lease(caller, None):
                pass
        with sessions.reading(read, None) if way == "reading" else sessions.listing(read):
            with anyio.fail_after(30):
                while sessions.count > 1:  # until the other one, which was last used later, has expired
                    await anyio.sleep(0.02)
            assert sessions.count == 1
            (session,) = sessions._store  # pyright: ignore[reportPrivateUsage]
            used = session.used_at
        is_later = session.used_at > used
        assert is_later == (way == "reading")
        with sessions.reading(idle, None) as gone, sessions.reading(Caller("read", "another"), "handle") as unknown:
            assert (gone, unknown) == (None, None)


async def test_a_reading_is_waited_for_and_others_sandboxes_are_not_read() -> None:
    one = Caller(None, "one")
    async with open_sessions(Settings(pool=0, reserve=1)) as sessions:
        async with sessions.lease(one, NEW) as lease:
            handle = lease.handle
        for stranger in (Caller(None, "two"), Caller("connection", "two"), Caller(None)):
            with sessions.reading(stranger, handle) as found, sessions.listing(stranger) as listed:
                assert (found, listed) == (None, {})
        happened: list[str] = []

        async def wait() -> None:
            await sessions.idle()
            happened.append("idle")

        async with anyio.create_task_group() as tasks:
            with sessions.reading(one, handle) as found:
                assert found is lease.sandbox
                tasks.start_soon(wait)
                await anyio.wait_all_tasks_blocked()
                happened.append("read")
        assert happened == ["read", "idle"]
