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
from mcp_agentrun.packages.fair_limiter import FairLimiter
from mcp_agentrun.packages.installer import Installer
from mcp_agentrun.packages.pins import PinError, parse_pins
from mcp_agentrun.sandbox import AsyncRuntime
from mcp_agentrun.sessions import Caller, SessionManager
from mcp_agentrun.settings import Settings
from mcp_agentrun.wire import messages
from mcp_agentrun.wire.codec import encode_frame
from mcp_agentrun.wire.messages import Message
from tests.support.fake_engine import (
    FOLDER,
    INSTALLED_FOR,
    ME,
    OTHER,
    Answer,
    FakeEngine,
    Script,
    done,
    honest_installer,
    honest_runner,
)
from tests.support.local_index import make_wheel
from tests.support.samples import message_classes, sample
from tests.support.virtual_time import virtual_time

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def installer_of(*scripts: Script, **settings: Any) -> AsyncGenerator[tuple[Installer, FakeEngine]]:
    engine = FakeEngine(scripts)
    INSTALLED_FOR.clear()
    async with engine.running(), Installer(engine, Settings(**settings), NetworkSettings()) as installer:
        yield installer, engine


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
    """Answers that no honest installer sends. What is wrong in a single message is the business of `test_messages`."""
    fine = (messages.Pong, messages.InstallProgress)
    found: list[Answer] = [sample(cls) for cls in message_classes() if cls not in fine]
    found += [messages.Resolved(request=1, pins=pins) for pins in HOSTILE_PINS]
    found += [done(1, packages=tuple(pins.items())) for pins in HOSTILE_PINS]
    folders = (f"{OTHER}/{FOLDER}", f"{ME}/../{OTHER}/{FOLDER}", f"{ME}/{FOLDER}\n", f"{ME}/1", "../etc")
    found += [done(1, folder=f"sandboxes/{folder}") for folder in folders]
    found += [done(1, OTHER), done(1, folder="/etc"), done(2), done(2, OTHER)]
    found += [messages.InstallProgress(request=99, text=""), encode_frame(255, b""), encode_frame(62, b"{}")]
    return found


async def test_a_false_answer_means_a_lost_installer(anyio_backend: str) -> None:
    for fault in faults():
        with anyio.fail_after(20):
            await lie_once(fault)


async def lie_once(answer: Answer) -> None:
    def lie(message: Message) -> Sequence[Answer]:
        return [answer] if isinstance(message, messages.Install) else honest_installer(message)

    async with installer_of(lie, honest_installer) as (installer, engine):
        with pytest.raises(UnavailableError):
            await installer.install(ME, ["x"])
        assert (await installer.install(ME, ["x"])).folder == f"sandboxes/{ME}/{FOLDER}"
        assert engine.started["installer"] == 2


async def test_no_answer_ends_a_server_or_its_other_sandboxes(anyio_backend: str) -> None:
    """With `preinstall`, a sandbox asks for an installation in the background."""
    for answer in (encode_frame(32, b"{}"), encode_frame(32, b"x"), encode_frame(62, b"{}"), messages.Started()):

        def lie(message: Message, answer: Answer = answer) -> Sequence[Answer]:
            return [answer] if isinstance(message, messages.Install) else honest_installer(message)

        engine = FakeEngine([lie, honest_installer], [honest_runner])
        settings = Settings(preinstall=("x",))
        with anyio.fail_after(20):
            async with (
                engine.running(),
                SessionManager(AsyncRuntime(settings, engine=engine, package_network=NetworkSettings())) as sessions,
            ):
                async with sessions.lease(Caller("one"), None) as one, sessions.lease(Caller("two"), None) as two:
                    results = [await each.sandbox.run("1") for each in (one, two, one, two)]
                assert [result.outcome for result in results] == ["ok"] * 4
                assert any("could not be installed" in (result.missing_packages or "") for result in results)


async def test_a_cancelled_call_leaves_the_copy_of_the_wheelhouse_alone(anyio_backend: str, tmp_path: Path) -> None:
    make_wheel(tmp_path, "housed")
    copied: list[str] = []

    def slow(message: Message) -> Sequence[Answer]:
        if isinstance(message, messages.Wheel):
            copied.append(message.name)
        return honest_installer(message)

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


@pytest.mark.parametrize("silent", [messages.OpenWheelhouse, messages.RemovePackages, messages.DescribeCache])
async def test_every_exchange_has_a_deadline(
    anyio_backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, silent: type[Message]
) -> None:
    monkeypatch.setattr("mcp_agentrun.packages.wheelhouse._ANSWER_SECONDS", 0.1)
    monkeypatch.setattr("mcp_agentrun.packages.folders.REMOVE_SECONDS", 0.1)
    monkeypatch.setattr("mcp_agentrun.packages.installer._CACHE_SECONDS", 0.1)

    def hang(message: Message) -> Sequence[Answer]:
        return [] if isinstance(message, silent) else honest_installer(message)

    async with installer_of(hang, honest_installer, wheelhouse=tmp_path) as (installer, engine):
        with anyio.fail_after(20):
            with contextlib.suppress(UnavailableError):
                await installer.install(ME, ["x"])
                installer.remove_packages(ME)
                await installer.cache()
            monkeypatch.undo()  # an honest one may take its time
            assert (await installer.install(ME, ["x"])).folder == f"sandboxes/{ME}/{FOLDER}"
            await installer.cache()
        assert engine.started["installer"] == 2


async def test_what_is_removed_at_the_end_is_not_reported_as_left(
    anyio_backend: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A removal that was begun just before waits for the one at the end, after which there is nothing to remove."""
    async with installer_of(honest_installer) as (installer, engine):
        await installer.install(ME, ["x"])
        installer.remove_packages(ME)
    assert caplog.messages == []
    assert engine.started["installer"] == 1


async def test_a_late_or_second_answer_is_nobody_else_s(anyio_backend: str) -> None:
    """An answer is sent twice: the second one comes while another session waits for its own."""

    def twice(message: Message) -> Sequence[Answer]:
        answers = honest_installer(message)
        return [*answers, *answers] if isinstance(message, messages.Approved) else answers

    async with installer_of(twice, honest_installer) as (installer, _):
        assert (await installer.install(ME, ["x"])).folder == f"sandboxes/{ME}/{FOLDER}"
        with anyio.fail_after(20):
            with contextlib.suppress(UnavailableError):
                assert (await installer.install(OTHER, ["x"])).folder == f"sandboxes/{OTHER}/{FOLDER}"
            assert (await installer.install(OTHER, ["x"])).folder == f"sandboxes/{OTHER}/{FOLDER}"


async def test_answers_in_another_order_reach_who_has_asked(anyio_backend: str) -> None:
    held: list[Answer] = []

    def backwards(message: Message) -> Sequence[Answer]:
        if isinstance(message, messages.Approved):
            held.extend(honest_installer(message))
            return held[::-1] if len(held) == 2 else []
        return honest_installer(message)

    found: dict[str, str] = {}
    async with installer_of(backwards) as (installer, _):

        async def install(sandbox: str) -> None:
            found[sandbox] = (await installer.install(sandbox, ["x"])).folder

        with anyio.fail_after(20):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(install, ME)
                tasks.start_soon(install, OTHER)
    assert found == {ME: f"sandboxes/{ME}/{FOLDER}", OTHER: f"sandboxes/{OTHER}/{FOLDER}"}


@virtual_time
async def test_an_installer_that_says_nothing_is_given_up() -> None:
    def silent(message: Message) -> Sequence[Answer]:
        return [] if isinstance(message, messages.Install) else honest_installer(message)

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

    def slow(message: Message) -> Sequence[Answer]:
        match message:
            case messages.OpenWheelhouse():
                asked.append(message.request)
                is_asked.set()
                return []
            case messages.Ping():  # this fake's way to say that the wheelhouse is not wanted, when the test wants it to
                return [messages.Wheelhouse(request=asked.pop(), wanted=False)] if asked else []
            case messages.InstallCancel():
                return []
            case _:
                return honest_installer(message)

    found: list[str] = []
    async with installer_of(slow, wheelhouse=tmp_path) as (installer, engine):

        async def install() -> None:
            found.append((await installer.install(ME, ["x"])).folder)

        with anyio.fail_after(60):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(install)
                async with anyio.create_task_group() as others:
                    others.start_soon(installer.install, OTHER, ["x"])
                    await is_asked.wait()
                    await anyio.wait_all_tasks_blocked()
                    others.cancel_scope.cancel()
                link = await installer._connected().manager.connect()  # pyright: ignore
                await link.send(messages.Ping())
    assert found == [f"sandboxes/{ME}/{FOLDER}"]
    assert engine.started["installer"] == 1


@virtual_time
async def test_cancelling_while_an_installation_is_stopped_leaves_the_installer_alone() -> None:
    """Its answer comes later, and is still taken for what it is."""
    is_stopping = anyio.Event()
    late: list[Answer] = []

    def hesitant(message: Message) -> Sequence[Answer]:
        match message:
            case messages.Install(sandbox=sandbox):
                return [] if sandbox == ME else honest_installer(message)
            case messages.InstallCancel():
                late.extend(honest_installer(message))
                is_stopping.set()
                return []
            case messages.Ping():
                return [late.pop()] if late else []
            case _:
                return honest_installer(message)

    async with installer_of(hesitant, install_timeout=0.1) as (installer, engine):
        with anyio.fail_after(60):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(installer.install, ME, ["x"])
                await is_stopping.wait()
                tasks.cancel_scope.cancel()
                with anyio.CancelScope(shield=True):
                    link = await installer._connected().manager.connect()  # pyright: ignore
                    await link.send(messages.Ping())
            assert (await installer.install(OTHER, ["x"])).folder == f"sandboxes/{OTHER}/{FOLDER}"
    assert engine.started["installer"] == 1


async def test_a_request_to_a_lost_installer_fails_at_once(anyio_backend: str) -> None:
    async with installer_of(honest_installer) as (installer, _):
        await installer.install(ME, ["x"])
        multiplexer = await installer._connected().connect()  # pyright: ignore
        multiplexer.link.abandon("lost")
        await anyio.wait_all_tasks_blocked()
        with anyio.fail_after(60), pytest.raises(SandboxLostError, match="lost"), multiplexer.request() as request:
            await request.receive()


async def test_slots_are_shared_among_principals() -> None:
    limiter = FairLimiter(3)
    order: list[str] = []
    release = {name: anyio.Event() for name in ("a1", "a2", "a3", "a4", "b1", "c1")}

    async def hold(name: str) -> None:
        async with limiter.slot(name[0], patience=30):
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
            async with limiter.slot("d", patience=0):
                pass
        for event in release.values():
            event.set()
    assert sorted(order) == sorted(release)
