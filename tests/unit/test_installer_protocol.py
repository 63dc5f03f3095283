"""An installer that lies: a false answer means a lost installer, never another session's answer or the server's end."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from mcp_agentrun.engine.network import NetworkSettings
from mcp_agentrun.errors import InstallError, SandboxLostError, UnavailableError
from mcp_agentrun.packages.installer import Installer
from mcp_agentrun.packages.pins import PinError, parse_pins
from mcp_agentrun.packages.turns import Turns
from mcp_agentrun.sandbox import AsyncRuntime
from mcp_agentrun.sessions import Caller, Sessions
from mcp_agentrun.settings import Settings
from mcp_agentrun.wire.codec import Kind
from tests.support.fake_engine import (
    FOLDER,
    INSTALLED_FOR,
    ME,
    OTHER,
    WRONG,
    Answer,
    FakeEngine,
    Script,
    done,
    honest_installer,
    honest_runner,
)
from tests.support.local_index import make_wheel

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def installer_of(*scripts: Script, **settings: Any) -> AsyncGenerator[tuple[Installer, FakeEngine]]:
    engine = FakeEngine(scripts)
    INSTALLED_FOR.clear()
    async with engine.running(), Installer(engine, Settings(**settings), NetworkSettings()) as installer:
        yield installer, engine


GOOD: dict[Kind, dict[str, Any]] = {
    Kind.INSTALL_PROGRESS: {"text": "resolving"},
    Kind.RESOLVED: {"pins": {"x": "1.0"}},
    Kind.INSTALL_DONE: done(0)[1],
    Kind.FORGOTTEN: {"sandbox": ME},
    Kind.CACHED: {"size": 1, "packages": [], "busy": 0},
    Kind.WHEELS: {"wanted": False},
}
HOSTILE_PINS = (
    {"x": "1.0\n -e /packages"},
    {"x": "1.0 --hash=sha256:00"},
    {"x": "@ file:///etc"},
    {"x": "@ https://example.org/a b"},
    {"x y": "1.0"},
    {"-r": "1.0"},
    {"X": "1.0"},
    {"x": "1.0.0-"},
    {"x": ""},
    {"x\n-e .": "1.0"},
    {"x": "9" * 5000},
)


def test_a_version_with_too_many_digits_is_refused() -> None:
    with pytest.raises(PinError):
        parse_pins("x==" + "9" * 5000)


def faults() -> list[Answer]:
    found: list[Answer] = []
    for kind, good in GOOD.items():
        fields = {**good, "request": 1}
        found += [(kind, {key: fields[key] for key in fields if key != name}) for name in fields]
        found += [(kind, {**fields, name: wrong}) for name in fields for wrong in WRONG if not _passes(name, wrong)]
        found += [(kind, {}), (kind, {**fields, "more": 1}), (kind, {**fields, "request": 99})]
    found += [(Kind.RESOLVED, {"request": 1, "pins": pins}) for pins in HOSTILE_PINS]
    found += [done(1, packages=list(map(list, pins.items()))) for pins in HOSTILE_PINS]
    folders = (f"{OTHER}/{FOLDER}", f"{ME}/../{OTHER}/{FOLDER}", f"{ME}/{FOLDER}\n", f"{ME}/1", "../etc")
    found += [done(1, folder=f"sandboxes/{folder}") for folder in folders]
    found += [done(1, OTHER), done(1, folder="/etc"), done(2), done(2, OTHER)]
    found += [(kind, {}) for kind in Kind if kind not in GOOD and kind is not Kind.PONG]
    return found


def _passes(name: str, value: object) -> bool:
    """Whether *value* is a right one, or the end of an installation that has failed or has nothing to add."""
    if name in ("notes", "replaced") and value in ([], [""], ["x"]):
        return True
    allowed = {"text": str, "error": (str, type(None)), "size": int, "busy": int, "wanted": bool}
    empty = {"pins": ({},), "packages": ([],), "satisfied": ([],), "modules": ({},), "folder": ("",)}
    is_number = isinstance(value, bool) and allowed.get(name) is int
    return (name in allowed and isinstance(value, allowed[name]) and not is_number) or value in empty.get(name, ())


async def test_a_false_answer_means_a_lost_installer(anyio_backend: str) -> None:
    for kind, fields in faults():
        with anyio.fail_after(20):
            await lie_once(kind, fields)


async def lie_once(kind: Kind, fields: dict[str, Any] | bytes) -> None:
    def lie(asked: Kind, given: dict[str, Any]) -> Sequence[Answer]:
        return [(kind, fields)] if asked is Kind.INSTALL else honest_installer(asked, given)

    async with installer_of(lie, honest_installer) as (installer, engine):
        with pytest.raises(UnavailableError):
            await installer.install(ME, ["x"])
        assert (await installer.install(ME, ["x"])).folder == f"sandboxes/{ME}/{FOLDER}"
        assert engine.started["installer"] == 2


async def test_no_answer_ends_a_server_or_its_other_sandboxes(anyio_backend: str) -> None:
    """With `preinstall`, a sandbox asks for an installation in the background."""
    for kind, fields in ((Kind.INSTALL_DONE, {}), (Kind.INSTALL_DONE, b"x"), (Kind.RESOLVED, {}), (Kind.READY, {})):

        def lie(
            asked: Kind, given: dict[str, Any], kind: Kind = kind, fields: dict[str, Any] | bytes = fields
        ) -> Sequence[Answer]:
            return [(kind, fields)] if asked is Kind.INSTALL else honest_installer(asked, given)

        engine = FakeEngine([lie, honest_installer], [honest_runner])
        settings = Settings(preinstall=("x",))
        with anyio.fail_after(20):
            async with (
                engine.running(),
                Sessions(AsyncRuntime(settings, engine=engine, package_network=NetworkSettings())) as sessions,
            ):
                async with sessions.lease(Caller("one"), None) as one, sessions.lease(Caller("two"), None) as two:
                    results = [await each.sandbox.run("1") for each in (one, two, one, two)]
                assert [result.outcome for result in results] == ["ok"] * 4
                assert any("could not be installed" in (result.lacking or "") for result in results)


async def test_a_cancelled_call_leaves_the_copy_of_the_wheelhouse_alone(anyio_backend: str, tmp_path: Path) -> None:
    make_wheel(tmp_path, "housed")
    copied: list[str] = []

    def slow(asked: Kind, given: dict[str, Any]) -> Sequence[Answer]:
        if asked is Kind.WHEEL:
            copied.append(given["name"])
        return honest_installer(asked, given)

    async with installer_of(slow, wheelhouse=tmp_path) as (installer, engine):
        with anyio.fail_after(20):
            with anyio.CancelScope() as scope:

                def cancel(text: str) -> None:
                    if text.startswith("copying"):
                        scope.cancel()

                await installer.install(ME, ["x"], report=cancel)
            assert scope.cancelled_caught and not INSTALLED_FOR
            assert (await installer.install(ME, ["x"])).folder == f"sandboxes/{ME}/{FOLDER}"
        assert engine.started["installer"] == 1 and copied == ["housed-1.0-py3-none-any.whl", ""]


@pytest.mark.parametrize("silent", [Kind.WHEELS, Kind.FORGET, Kind.CACHE])
async def test_every_exchange_has_a_deadline(
    anyio_backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, silent: Kind
) -> None:
    monkeypatch.setattr("mcp_agentrun.packages.wheelhouse._ANSWER_SECONDS", 0.1)
    monkeypatch.setattr("mcp_agentrun.packages.installer._FORGET_SECONDS", 0.1)
    monkeypatch.setattr("mcp_agentrun.packages.installer._CACHE_SECONDS", 0.1)

    def hang(asked: Kind, given: dict[str, Any]) -> Sequence[Answer]:
        return [] if asked is silent else honest_installer(asked, given)

    async with installer_of(hang, honest_installer, wheelhouse=tmp_path) as (installer, engine):
        with anyio.fail_after(20):
            with contextlib.suppress(UnavailableError):
                await installer.install(ME, ["x"])
                installer.forget(ME)
                await installer.cache()
            assert (await installer.install(ME, ["x"])).folder == f"sandboxes/{ME}/{FOLDER}"
            await installer.cache()
        assert engine.started["installer"] == 2


async def test_a_late_or_second_answer_is_nobody_else_s(anyio_backend: str) -> None:
    """An answer is sent twice: the second one comes while another session waits for its own."""

    def twice(asked: Kind, given: dict[str, Any]) -> Sequence[Answer]:
        said = honest_installer(asked, given)
        return [*said, *said] if asked is Kind.APPROVED else said

    async with installer_of(twice, honest_installer) as (installer, _):
        assert (await installer.install(ME, ["x"])).folder == f"sandboxes/{ME}/{FOLDER}"
        with anyio.fail_after(20):
            with contextlib.suppress(UnavailableError):
                assert (await installer.install(OTHER, ["x"])).folder == f"sandboxes/{OTHER}/{FOLDER}"
            assert (await installer.install(OTHER, ["x"])).folder == f"sandboxes/{OTHER}/{FOLDER}"


async def test_answers_in_another_order_reach_who_has_asked(anyio_backend: str) -> None:
    held: list[Answer] = []

    def backwards(asked: Kind, given: dict[str, Any]) -> Sequence[Answer]:
        if asked is Kind.APPROVED:
            held.extend(honest_installer(asked, given))
            return held[::-1] if len(held) == 2 else []
        return honest_installer(asked, given)

    found: dict[str, str] = {}
    async with installer_of(backwards) as (installer, _):

        async def install(sandbox: str) -> None:
            found[sandbox] = (await installer.install(sandbox, ["x"])).folder

        with anyio.fail_after(20):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(install, ME)
                tasks.start_soon(install, OTHER)
    assert found == {ME: f"sandboxes/{ME}/{FOLDER}", OTHER: f"sandboxes/{OTHER}/{FOLDER}"}


async def test_an_installer_that_says_nothing_is_given_up(anyio_backend: str) -> None:
    def silent(asked: Kind, given: dict[str, Any]) -> Sequence[Answer]:
        return [] if asked is Kind.INSTALL else honest_installer(asked, given)

    async with installer_of(silent, install_timeout=0.1) as (installer, _):
        with anyio.fail_after(20), pytest.raises(InstallError, match="longer than"):
            await installer.install(ME, ["x"])


async def test_cancelling_an_installation_that_waits_for_the_wheelhouse_stops_no_other(
    anyio_backend: str, tmp_path: Path
) -> None:
    """The one that copies the wheelhouse goes on: of the other, the installer has not heard."""
    (tmp_path / "x-1.0-py3-none-any.whl").write_bytes(b"x")
    is_asked = anyio.Event()
    asked: list[int] = []

    def slow(kind: Kind, fields: dict[str, Any]) -> Sequence[Answer]:
        if kind is Kind.WHEELS:
            asked.append(fields["request"])
            is_asked.set()
            return []
        if kind is Kind.PING:  # this fake's way to say that the wheelhouse is not wanted, when the test wants it to
            return [(Kind.WHEELS, {"request": asked.pop(), "wanted": False})] if asked else []
        return [] if kind is Kind.INSTALL_CANCEL else honest_installer(kind, fields)

    found: list[str] = []
    async with installer_of(slow, wheelhouse=tmp_path) as (installer, engine):

        async def install() -> None:
            found.append((await installer.install(ME, ["x"])).folder)

        with anyio.fail_after(10):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(install)
                async with anyio.create_task_group() as others:
                    others.start_soon(installer.install, OTHER, ["x"])
                    await is_asked.wait()
                    await anyio.wait_all_tasks_blocked()
                    others.cancel_scope.cancel()
                link = await installer._keeper.connected()  # pyright: ignore
                await link.send(Kind.PING)
    assert found == [f"sandboxes/{ME}/{FOLDER}"]
    assert engine.started["installer"] == 1


async def test_cancelling_while_an_installation_is_stopped_leaves_the_installer_alone(anyio_backend: str) -> None:
    """Its answer comes later, and is still taken for what it is."""
    is_stopping = anyio.Event()
    late: list[Answer] = []

    def hesitant(kind: Kind, fields: dict[str, Any]) -> Sequence[Answer]:
        if kind is Kind.INSTALL:
            return [] if fields["sandbox"] == ME else honest_installer(kind, fields)
        if kind is Kind.INSTALL_CANCEL:
            late.extend(honest_installer(kind, fields))
            is_stopping.set()
            return []
        if kind is Kind.PING:
            return [late.pop()] if late else []
        return honest_installer(kind, fields)

    async with installer_of(hesitant, install_timeout=0.1) as (installer, engine):
        with anyio.fail_after(10):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(installer.install, ME, ["x"])
                await is_stopping.wait()
                tasks.cancel_scope.cancel()
                with anyio.CancelScope(shield=True):
                    link = await installer._keeper.connected()  # pyright: ignore
                    await link.send(Kind.PING)
            assert (await installer.install(OTHER, ["x"])).folder == f"sandboxes/{OTHER}/{FOLDER}"
    assert engine.started["installer"] == 1


async def test_a_request_to_a_lost_installer_fails_at_once(anyio_backend: str) -> None:
    async with installer_of(honest_installer) as (installer, _):
        await installer.install(ME, ["x"])
        exchange = await installer._living()  # pyright: ignore
        exchange.link.abandon("lost")
        await anyio.wait_all_tasks_blocked()
        with anyio.fail_after(10), pytest.raises(SandboxLostError, match="lost"), exchange.request() as request:
            await request.receive()


async def test_turns_are_shared_among_principals() -> None:
    turns = Turns(3)
    order: list[str] = []
    release = {name: anyio.Event() for name in ("a1", "a2", "a3", "a4", "b1", "c1")}

    async def hold(name: str) -> None:
        async with turns.turn(name[0], patience=30):
            order.append(name)
            await release[name].wait()

    async with anyio.create_task_group() as tasks:
        for name in release:
            tasks.start_soon(hold, name)
            await anyio.wait_all_tasks_blocked()
        assert order == ["a1", "a2", "b1"], "nobody takes every place"
        release["a1"].set()
        await anyio.wait_all_tasks_blocked()
        assert order[3] == "c1", "who has none is before who has one"
        with pytest.raises(TimeoutError):
            async with turns.turn("d", patience=0):
                pass
        for event in release.values():
            event.set()
    assert sorted(order) == sorted(release)
