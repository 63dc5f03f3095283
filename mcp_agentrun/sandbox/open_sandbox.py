"""What can be done with a sandbox that is open: the methods that all interfaces share."""

from __future__ import annotations

import itertools
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

from ..engine import Report
from ..engine.link import Link
from ..packages.installer import Installed
from ..packages.policy import parse_requirements
from .arguments import OnOutput, checked_code, checked_timeout, decoded
from .call_queue import CallQueue
from .container import SandboxContainer
from .execution import Execution, OnBytes, PartialOutput
from .files import FileReader, Files
from .observer import InstallDone, Observation, ResetDone, RunDone, observed
from .result import Result, State
from .script import Script

__all__ = ["OpenSandbox", "ReadFile"]

ReadFile = Callable[[str, int], AsyncIterator[bytes]]
"""The parts of the file of that path, if it has at most so many bytes; raises `FileError` and `SandboxLostError`."""

OnStart = Callable[[PartialOutput], object]
"""Receives the output of the run, which grows while the code runs."""

Then = Callable[[Result, ReadFile], Awaitable[None]]


class OpenSandbox:
    """A private, living Python in a container that is open, and is kept open by whoever made this.

    Calls queue; each sees what the ones before it have left.
    """

    def __init__(self, container: SandboxContainer) -> None:
        self.container = container
        self._numbers = itertools.count(1)
        self._queue = CallQueue(container.settings.limits.queue)
        self._running: Execution | None = None

    @property
    def id(self) -> str:
        """Its name, unguessable. It has it from the time when it is opened."""
        return self.container.id

    @property
    def stage(self) -> str:
        """What is being done to start the container, in a few words."""
        return self.container.stage

    @property
    def is_ready(self) -> bool:
        """Whether code can run now: the container is there, with what the operator wants every sandbox to have."""
        return self.container.is_ready

    @property
    def state(self) -> State:
        """Whether the container is still the one that the last call used: ``kept`` or ``lost``."""
        return self.container.state

    async def ready(self) -> None:
        """Wait until the container can run code.

        :raises UnavailableError: it can't be started.
        """
        await self.container.ready()

    def check_run(self, code: str, timeout: float | None = None) -> None:
        """Require that `run` accepts a call now.

        :raises InvalidRequestError: *code* or *timeout* can't be accepted.
        :raises BusyError: the queue is full.
        """
        checked_timeout(timeout, self.container.settings)
        checked_code(code, self.container.settings)
        self._queue.require_place()

    async def run(
        self,
        code: str,
        *,
        timeout: float | None = None,
        on_output: OnOutput | None = None,
        on_bytes: OnBytes | None = None,
        report: Report | None = None,
        on_start: OnStart | None = None,
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
        :param on_start: called when the code is about to run: its turn has come, and the container is ready.
        :param stream: pass all output to *on_output* and *on_bytes*, however much it is, and not only the first
            ``output_keep`` bytes. The code waits until they return.
        :param script: run the code as ``python`` would run it as a program.
        :param then: awaited with the result before any other call gets its turn; it can read the files that the run
            has left, as they are.
        :raises InvalidRequestError: *code* or *timeout* can't be accepted; nothing was run.
        :raises UnavailableError: the engine failed, the queue is full, or the container was lost in the middle.
        """
        container = self.container
        result: Result | None = None
        with observed(container.observer, lambda timing: RunDone(self.id, timing, code, result)) as observation:
            timeout = checked_timeout(timeout, container.settings)
            code = checked_code(code, container.settings)
            async with self._queue.turn(observation.has_turn), decoded(on_output, on_bytes) as receive:
                link = await container.prepared(report)
                unreported = container.unreported
                unreported.is_replaced |= container.was_replaced()
                self._running = run = Execution(
                    link,
                    container.packages,
                    container.settings,
                    unreported,
                    number=next(self._numbers),
                    timeout=timeout,
                    on_output=receive,
                    stream=stream,
                    report=report,
                )
                try:
                    if on_start is not None:
                        on_start(run.output)
                    result = await run.run(code, script)
                finally:
                    self._running = None
                if then is not None:
                    try:
                        await then(result, lambda path, limit: FileReader(path, limit).parts(link))
                    except BaseException:
                        unreported.add(result.since, result.state)
                        raise
                return unreported.report(result, container.packages.pop_missing_packages())

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
        packages = self.container.packages
        installed: Installed | None = None
        with observed(
            self.container.observer,
            lambda timing: InstallDone(self.id, timing, requirements, "request", installed),
        ) as observation:
            wanted = parse_requirements(requirements, urls=packages.policy.urls)
            packages.policy.check_requested(wanted)
            async with self._queue.turn(observation.has_turn):
                await self.container.prepared(report)
                installed = await packages.install(wanted, report)
                return replace(installed, missing_packages=packages.pop_missing_packages())

    @property
    def files(self) -> Files:
        """The files of the workspace: write, read, list and remove them."""
        size = self.container.settings.limits.workspace_size
        return Files(
            self._turn_with_link,
            self.container.manager.connect,
            size=size,
            sandbox=self.id,
            observer=self.container.observer,
        )

    async def reset(self, *, keep_packages: bool = False, keep_files: bool = False) -> None:
        """Forget all variables; files and installed packages too, unless kept.

        :raises UnavailableError: the engine failed.
        :raises SandboxLostError: files that were to be kept are gone.
        """
        with observed(
            self.container.observer, lambda timing: ResetDone(self.id, timing, keep_packages, keep_files)
        ) as observation:
            async with self._queue.turn(observation.has_turn):
                await self.container.reset(keep_packages=keep_packages, keep_files=keep_files)

    @asynccontextmanager
    async def _turn_with_link(self, observation: Observation) -> AsyncGenerator[Link]:
        async with self._queue.turn(observation.has_turn):
            yield await self.container.connect()
