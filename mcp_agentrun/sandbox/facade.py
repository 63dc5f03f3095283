"""The public API as coroutines: sandboxes, and the runtime that they share. `mcp_agentrun.blocking` has its twin."""

from __future__ import annotations

import codecs
import inspect
import itertools
import os
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import Any

import anyio
import anyio.lowlevel

from ..engine import Engine, Report
from ..engine.link import Link
from ..engine.network import NetworkSettings
from ..engine.registry import create_engine
from ..errors import InvalidRequestError, SandboxLostError
from ..host_resources import HostResources
from ..packages.installer import Cache, Installed, Installer
from ..packages.policy import parse_requirements
from ..settings import Settings
from .call_queue import CallQueue
from .container import SandboxContainer
from .execution import Execution, OnBytes, UnreportedState
from .files import FileReader, Files
from .result import Result, State
from .script import Script

__all__ = ["AsyncRuntime", "AsyncSandbox", "OnOutput", "ReadFile"]

OnOutput = Callable[[str], "Awaitable[None] | None"]
"""Called, and awaited if it returns an awaitable, with what code writes to stdout and stderr, as it is written."""

ReadFile = Callable[[str, int], AsyncIterator[bytes]]
"""The parts of the file of that path, if it has at most so many bytes; raises `FileError` and `SandboxLostError`."""

Then = Callable[[Result, ReadFile], Awaitable[None]]


class AsyncRuntime:
    """What sandboxes share: the container engine, the image, and the installer with its cache. Use as a context::

        async with AsyncRuntime(memory="2g") as runtime:
            async with runtime.sandbox() as one, runtime.sandbox() as other:
                await one.run("x = 1")

    :param settings: all settings, such as `load` returns them. Without them the defaults hold, and what the environment
        and the user's file say is ignored.
    :param engine: where containers live, or the name of it; it is closed at the end.
    :param package_network: index, proxies and certificates with which packages are fetched; by default this machine's.
    :param host_resources: the folders and rules that the settings name; by default as they are now.
    :param options: single settings, in place of *settings*.
    :raises SettingsError: a setting is unknown or invalid.
    """

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        engine: Engine | str | None = None,
        package_network: NetworkSettings | None = None,
        host_resources: HostResources | None = None,
        **options: Any,
    ) -> None:
        if isinstance(engine, str):
            engine, options = None, {**options, "engine": engine}
        if settings is not None and options:
            raise TypeError("give either settings or single options")
        self.settings = settings or Settings(**options)
        self.host = host_resources or HostResources.from_settings(self.settings)
        self.engine = engine or create_engine(self.settings)
        package_network = package_network or NetworkSettings.from_environment(os.environ)
        self.installer = Installer(self.engine, self.settings, package_network)
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> AsyncRuntime:
        self._stack.push_async_callback(self.engine.aclose)
        await self._stack.enter_async_context(self.installer)
        return self

    async def __aexit__(self, *exc_info: Any) -> bool | None:
        return await self._stack.__aexit__(*exc_info)

    def sandbox(self) -> AsyncSandbox:
        """A new sandbox, to be used as a context. It must end before the runtime does."""
        return AsyncSandbox(runtime=self)

    async def build(self, report: Report | None = None, *, refresh: bool = False) -> str:
        """Build the runner image, unless it is there, and return its name. Sandboxes do this by themselves.

        :param report: called with what is being done.
        :param refresh: build it anew, on the newest base, for its security updates.
        :raises ImageError: it can't be built; what there was is still there.
        """
        return await self.engine.ensure_image(report or (lambda _: None), refresh=refresh)

    async def cache(self, *, clear: bool = False) -> Cache:
        """What the cache of downloaded packages holds, after clearing it if *clear*.

        :raises UnavailableError: the installer could not be started.
        """
        return await self.installer.cache(clear=clear)


class AsyncSandbox:
    """A private, living Python in a container of its own. Use as a context::

        async with AsyncSandbox() as sandbox:
            await sandbox.run("x = 41")
            print((await sandbox.run("x + 1")).text)  # 42

    The container is started in the background at once. It is replaced when it is lost, which the next result says.
    Calls queue; each sees what the ones before it have left. Runs on asyncio and on trio.

    :param settings: all settings; only without *runtime*.
    :param runtime: what it shares with other sandboxes; by default it has one of its own.
    :param options: single settings, such as ``memory="2g"``; only without *runtime*.
    :raises SettingsError: a setting is unknown or invalid.
    """

    def __init__(
        self, settings: Settings | None = None, *, runtime: AsyncRuntime | None = None, **options: Any
    ) -> None:
        if runtime is not None and (settings is not None or options):
            raise TypeError("a sandbox has the settings of its runtime: give either settings or a runtime")
        self._own_runtime = AsyncRuntime(settings, **options) if runtime is None else None
        runtime = runtime or self._own_runtime
        assert runtime is not None
        self._settings = runtime.settings
        self._container = SandboxContainer(runtime.engine, runtime.installer, runtime.settings, runtime.host)
        self._packages = self._container.packages
        self._numbers = itertools.count(1)
        self._queue = CallQueue(self._settings.limits.queue)
        self._unreported = UnreportedState()
        self._stack = AsyncExitStack()
        self._running: Execution | None = None

    async def __aenter__(self) -> AsyncSandbox:
        if self._own_runtime is not None:
            await self._stack.enter_async_context(self._own_runtime)
        await self._stack.enter_async_context(self._container.running())
        return self

    async def __aexit__(self, *exc_info: Any) -> bool | None:
        return await self._stack.__aexit__(*exc_info)

    @property
    def id(self) -> str:
        """Its name, unguessable."""
        return self._container.id

    @property
    def principal(self) -> str:
        """Whose sandbox it is: installations take turns fairly among principals."""
        return self._packages.principal

    @principal.setter
    def principal(self, name: str) -> None:
        self._packages.principal = name

    @property
    def stage(self) -> str:
        """What is being done to start the container, in a few words."""
        return self._container.stage

    @property
    def is_ready(self) -> bool:
        """Whether code can run now: the container is there, with what the operator wants every sandbox to have."""
        return self._container.is_ready

    @property
    def state(self) -> State:
        """Whether the container is still the one that the last call saw: ``kept`` or ``lost``."""
        return self._container.state

    @property
    def starts(self) -> int:
        """Number of containers so far."""
        return self._container.manager.starts

    def lost(self, start: int) -> None:
        """Declare container number *start* lost, if it is still the current one. The next call gets a new one, and its
        result says so.
        """
        self._container.manager.mark_lost(start, "its container is gone")

    async def ready(self) -> None:
        """Wait until the container can run code.

        :raises UnavailableError: it can't be started.
        """
        await self._container.manager.connect()
        await self._container.preinstall()

    async def warm(self) -> None:
        """Wait until the data packages are imported, and pay what a first run costs more than others. Whoever runs
        code then finds the sandbox as new.

        :raises UnavailableError: the engine failed.
        """
        await self.ready()
        await self.run("".join(f"import {name}\n" for name in self._settings.image.preload))
        await self.reset()
        self._numbers = itertools.count(1)

    async def run(
        self,
        code: str,
        *,
        timeout: float | None = None,
        on_output: OnOutput | None = None,
        on_bytes: OnBytes | None = None,
        report: Report | None = None,
        then: Then | None = None,
        stream: bool = False,
        script: Script | None = None,
    ) -> Result:
        """Execute *code* in the sandbox's living namespace.

        A failure of the code is a result, not an exception. Cancelling the call interrupts the code and keeps the
        session; so does an exception that a callback raises, which is passed on.

        :param timeout: seconds that the code may run, not counting the wait for its turn; the setting ``timeout`` if
            None, never more than ``max_timeout``.
        :param on_output: called with the output as text while it is being written.
        :param on_bytes: awaited with the same output, undecoded.
        :param report: called with what the installer is doing, where the code imports what must be installed first.
        :param stream: pass all output to *on_output* and *on_bytes*, however much it is, and not only the first
            ``output_keep`` bytes. The code waits until they return.
        :param script: run the code as ``python`` would run it as a program.
        :param then: awaited with the result before any other call gets its turn; it can read the files that the run
            has left, as they are.
        :raises InvalidRequestError: *code* or *timeout* can't be accepted; nothing was run.
        :raises UnavailableError: the engine failed, the queue is full, or the container was lost in the middle.
        """
        timeout = _checked_timeout(timeout, self._settings)
        code = code.removeprefix("\ufeff")  # as at the start of a file
        _check_code(code, self._settings.limits.code_limit)
        async with self._my_turn(report) as link, _decoded(on_output, on_bytes) as receive:
            self._unreported.is_replaced |= self._container.acknowledge_replacement()
            run = Execution(
                link,
                self._packages,
                self._settings,
                self._unreported,
                number=next(self._numbers),
                timeout=timeout,
                on_output=receive,
                stream=stream,
                report=report,
            )
            self._running = run
            try:
                result = await run.run(code, script)
            finally:
                self._running = None
            if then is not None:
                try:
                    await then(result, lambda path, limit: FileReader(path, limit).parts(link))
                except BaseException:
                    self._unreported.add(result.since, result.state)
                    raise
            return self._unreported.report(result, self._packages.pop_missing_packages())

    async def interrupt(self) -> None:
        """Interrupt the current run as Ctrl-C does in a terminal. It ends with ``cancelled``, after a second at most.
        Nothing happens if there is no run.

        :raises UnavailableError: the container was lost.
        """
        if self._running is not None:
            await self._running.interrupt()

    async def install(self, *requirements: str, report: Report | None = None) -> Installed:
        """Install packages for this sandbox. Its variables stay.

        :param requirements: what to install, in the form of PEP 508, such as ``"pandas>=2"``.
        :param report: called with what the installer is doing.
        :raises InvalidRequestError: something is not a requirement by name.
        :raises InstallError: the packages can't be resolved or fetched; nothing has changed.
        :raises UnavailableError: the engine failed.
        """
        policy = self._packages.policy
        wanted = parse_requirements(requirements, urls=policy.urls)
        policy.check_requested(wanted)
        async with self._my_turn(report):
            installed = await self._packages.install(wanted, report)
            return replace(installed, missing_packages=self._packages.pop_missing_packages())

    @property
    def files(self) -> Files:
        """The files of the workspace: write, read, list and remove them."""
        return Files(self._turn_with_link, self._container.manager.connect, size=self._settings.limits.workspace_size)

    async def reset(self, *, keep_packages: bool = False, keep_files: bool = False) -> None:
        """Forget all variables; files and installed packages too, unless kept.

        :raises UnavailableError: the engine failed.
        :raises SandboxLostError: files that were to be kept are gone.
        """
        async with self._queue.turn():
            link = await self._container.connect()
            if self._container.acknowledge_replacement() and keep_files:
                raise SandboxLostError(
                    "The sandbox was lost since the last call and has been replaced; its variables and files are gone."
                )
            no_preload = self._packages.before_reset(keep=keep_packages).no_preload
            was_reset = await self._container.reset(link, keep_files=keep_files, no_preload=no_preload)
            self._packages.set_loaded_modules(frozenset())
            self._unreported = UnreportedState()
            try:
                await anyio.lowlevel.checkpoint_if_cancelled()
                if not was_reset:
                    # A new container is as good as a reset, unless files were to stay.
                    await self._container.manager.connect()
                    self._container.acknowledge_replacement()
            except anyio.get_cancelled_exc_class():
                self._unreported.add("lost")  # nobody is told now that it was done
                self._unreported.is_replaced = not keep_files
                raise
            if not was_reset and keep_files:
                raise SandboxLostError("The sandbox could not be reset and was replaced; its files are gone.")
            self._packages.after_reset(keep=keep_packages)

    @asynccontextmanager
    async def _my_turn(self, report: Report | None) -> AsyncGenerator[Link]:
        """The turn, and a container with all the packages that the session should have."""
        async with self._queue.turn():
            link = await self._container.connect()
            await self._container.preinstall()
            await self._packages.restore(report)
            yield link

    @asynccontextmanager
    async def _turn_with_link(self) -> AsyncGenerator[Link]:
        async with self._queue.turn():
            yield await self._container.manager.connect()


@asynccontextmanager
async def _decoded(on_output: OnOutput | None, on_bytes: OnBytes | None) -> AsyncGenerator[OnBytes | None]:
    """A receiver of bytes that calls *on_output* with text; characters that are cut between two parts stay whole."""
    if on_output is None:
        yield on_bytes
        return
    decoder = codecs.getincrementaldecoder("utf-8")("replace")

    async def receive(data: bytes, final: bool = False) -> None:
        if on_bytes is not None and data:
            await on_bytes(data)
        if (text := decoder.decode(data, final)) and inspect.isawaitable(called := on_output(text)):
            await called

    yield receive
    await receive(b"", final=True)


def _checked_timeout(timeout: float | None, settings: Settings) -> float:
    if timeout is None:
        return settings.limits.timeout
    if not timeout > 0:
        raise InvalidRequestError("timeout must be a positive number of seconds", argument="timeout")
    if timeout > settings.limits.max_timeout:
        raise InvalidRequestError(
            f"timeout is {timeout:g} s, but this server allows at most {settings.limits.max_timeout:g} s",
            argument="timeout",
            limit=settings.limits.max_timeout,
        )
    return timeout


def _check_code(code: str, limit: int) -> None:
    if len(code) > limit or len(code.encode("utf-8", "replace")) > limit:
        raise InvalidRequestError(
            f"the code exceeds the limit of {limit} bytes; split it over several calls, or write data to a file in "
            "parts",
            argument="code",
            limit=limit,
        )
    if "\0" in code:
        raise InvalidRequestError(
            f"the code contains a NUL character at position {code.index(chr(0))}; remove it", argument="code"
        )
    for position, character in enumerate(code) if not code.isascii() else ():
        if "\ud800" <= character <= "\udfff":
            raise InvalidRequestError(
                f"the code contains a lone surrogate (U+{ord(character):04X}) at position {position}, which is not "
                "valid Unicode text; write it as an escape sequence",
                argument="code",
            )
