"""One run of code: send it, and receive messages up to its result. All that the container sends is hostile."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterable, Awaitable, Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial

import anyio

from ..background import background_tasks, log_errors
from ..engine import Report
from ..engine.link import Link
from ..errors import SandboxLostError
from ..packages.installer import PATIENCE_SECONDS
from ..safety import Finding
from ..settings import Settings
from ..wire import messages
from .advice import advice_for
from .packages import AutoInstall, SessionPackages
from .pictures import Pictures
from .result import Cause, FileChange, Output, Result, RunError, State
from .script import Script

__all__ = ["Execution", "OnBytes", "PartialOutput", "UnreportedState", "worst_state"]

logger = logging.getLogger(__name__)

OnBytes = Callable[[bytes], Awaitable[None]]

_OVERHEAD_SECONDS = 45.0
"""Longest time between a run's deadline and its result: warming, the grace after an interrupt, sweeping, restoring."""

_CANCEL_SECONDS = 10.0
_LATE_KEPT = 1 << 16
_TAIL_KEPT = 1 << 16
_STATES: tuple[State, ...] = ("kept", "restored", "lost")


def worst_state(*states: State) -> State:
    """Return the worst of *states*."""
    return max(states, key=_STATES.index)


@dataclass
class UnreportedState:
    """What happened to the session since the last result, for the next one."""

    state: State = "kept"
    is_replaced: bool = False
    """The container was replaced, so that files are gone too."""
    unprotected: str | None = None
    """Why there is no checkpoint, as the last result said."""

    def add(self, *states: State) -> None:
        """Add *states* of runs whose results the caller did not receive."""
        self.state = worst_state(self.state, *states)

    def report(self, result: Result, missing_packages: str | None) -> Result:
        """Return *result* with the unreported state, which is reset, and with *missing_packages*."""
        before = self.state, self.is_replaced, self.unprotected
        self.state, self.is_replaced, self.unprotected = "kept", False, result.unprotected
        if before == ("kept", False, None) and result.unprotected is None and missing_packages is None:
            return result
        is_news = result.unprotected != before[2] or result.state == "lost"
        return replace(
            result,
            since=worst_state(before[0], result.since),
            replaced=before[1],
            unprotected=result.unprotected if is_news else None,
            missing_packages=missing_packages,
        )


class PartialOutput:
    """The output of a run so far: its beginning, and the end of what exceeds that.

    :param keep: size of the beginning in bytes.
    """

    def __init__(self, keep: int) -> None:
        self._keep = keep
        self._head = bytearray()
        self.tail = b""
        self.written = 0
        """Number of bytes that were added."""

    def add(self, data: bytes) -> bool:
        """Add what the run has written. Return whether all of it belongs to the beginning."""
        left = self._keep - len(self._head)
        self._head += data[:left]
        self.written += len(data)
        if len(data) > left:
            self.tail = (self.tail + data[left:])[-_TAIL_KEPT:]
        return len(data) <= left

    def output(self) -> Output:
        """Return it as it is now."""
        return Output(bytes(self._head), self.tail, self.written)


class Execution:
    """One execution of code in a container. If it raises an error, the link can still be used for the next one.

    :param unreported: receives the states of a cancelled run.
    :param number: number of the run.
    :param timeout: time limit of the code in seconds.
    :param on_output: awaited with the output while it is being written.
    :param stream: pass all output to *on_output*, not only what is kept.
    :param report: called with what the installer is doing.
    """

    def __init__(
        self,
        link: Link,
        packages: SessionPackages,
        settings: Settings,
        unreported: UnreportedState,
        *,
        number: int,
        timeout: float,
        on_output: OnBytes | None = None,
        stream: bool = False,
        report: Report | None = None,
    ) -> None:
        self._link = link
        self._packages = packages
        self._settings = settings
        self._unreported = unreported
        self._number = number
        self._timeout = timeout
        self._on_output = on_output
        self._stream = stream
        self._report = report
        self._has_stdin = False
        self._scope: anyio.CancelScope | None = None
        self._installing = anyio.CancelScope()
        self._start_over()

    def _start_over(self) -> None:
        self.output = PartialOutput(self._settings.limits.output_keep)
        self._late = bytearray()
        self._input_taken = anyio.Event()
        self._pictures = Pictures()
        self._provided: AutoInstall | None = None

    async def run(self, code: str, script: Script | None = None) -> Result:
        """Run *code*, or run it as a program if *script* is given.

        :raises SandboxLostError: the container was lost, or broke the protocol.
        """
        location = self._packages.location
        try:
            await self._link.send(
                messages.Run(
                    run=self._number,
                    code=code,
                    timeout=self._timeout,
                    path=location.path,
                    no_preload=location.no_preload,
                    stream=self._stream,
                    script=script and script.message(),
                )
            )
            if script is None or script.stdin is None:
                return await self._result_in_time()
            self._has_stdin = True
            async with background_tasks() as tasks:
                tasks.start_soon(log_errors, partial(self._feed, script.stdin))
                return await self._result_in_time()
        except SandboxLostError as error:
            if self._link.is_alive:  # *on_output* raised it
                raise
            raise SandboxLostError(
                f"The sandbox was lost during this call ({error}). Variables and files are gone; the next call "
                "gets a new sandbox."
            ) from error

    async def interrupt(self) -> None:
        """Interrupt the run, or the installation that it waits for. Its result still follows."""
        await self._link.send(messages.Cancel(run=self._number))
        self._installing.cancel()

    async def _feed(self, stdin: bytes | AsyncIterable[bytes]) -> None:
        """Send *stdin* to the run, as fast as the run reads it. If it can't be read, it ends."""
        try:
            if isinstance(stdin, bytes):
                await self._send_input(stdin)
            else:
                async for data in stdin:
                    await self._send_input(data)
        except SandboxLostError:
            raise
        except Exception as error:
            logger.warning("standard input could not be read: %s", type(error).__name__)
        await self._link.send(messages.Input(data=b""))

    async def _send_input(self, data: bytes) -> None:
        left = memoryview(data)
        while left:
            self._input_taken = anyio.Event()
            await self._link.send(messages.Input(data=bytes(left[: messages.INPUT_LIMIT])))
            await self._input_taken.wait()
            left = left[messages.INPUT_LIMIT :]

    async def _result_in_time(self) -> Result:
        with anyio.move_on_after(self._timeout + _OVERHEAD_SECONDS) as self._scope:
            try:
                return await self._received()
            except BaseException:
                if self._scope.cancel_called:
                    self._link.abandon("it stopped answering")
                with anyio.CancelScope(shield=True):
                    await self._cancel()
                raise
        raise SandboxLostError(self._link.reason)

    async def _cancel(self) -> None:
        """Interrupt the run and receive its result, so that the link can be used for the next one."""
        self._scope, self._on_output = None, None
        self._start_over()
        with anyio.move_on_after(_CANCEL_SECONDS) as scope:
            try:
                await self.interrupt()
                result = await self._received()
                self._unreported.add(result.since, result.state)
            except SandboxLostError:
                return
        if scope.cancelled_caught:
            self._link.abandon("a cancelled run did not end")

    async def _received(self) -> Result:
        while True:
            message = await self._link.receive()
            if isinstance(message, messages.RunResult):
                return self._result(message)
            if isinstance(message, messages.MissingPackages) and self._provided is None:
                self._provided = AutoInstall()
                if self._scope is not None:  # nothing is installed for a cancelled run
                    self._provided = await self._provide(message)
            elif not await self._keep(message):
                self._link.fail(f"the container sent an unexpected {type(message).__name__} message")

    async def _keep(self, message: messages.Message) -> bool:
        """Process a part of the run's output. Return False if the container may not send it."""
        match message:
            case messages.OutputChunk(data=data) if self.output.add(data) or self._stream:
                if self._on_output is not None:
                    with self._paused():
                        await self._on_output(data)
            case messages.InputTaken() if self._has_stdin:
                self._input_taken.set()
            case messages.OutputTail(data=data):
                self.output.tail = data
            case messages.LateOutput(data=data) if len(self._late) + len(data) <= _LATE_KEPT:
                self._late += data
            case messages.Picture() | messages.PictureData():
                return self._pictures.add(message)
            case _:
                return False
        return True

    async def _provide(self, missing: messages.MissingPackages) -> AutoInstall:
        """Install the modules that the run imports but that are missing, as far as policy allows. The run waits, and
        its deadline is postponed.
        """
        if missing.run != self._number:
            self._link.fail("the container requested packages for another run")
        names = [name for name in missing.names if name.isidentifier()]
        patience = min(self._timeout, PATIENCE_SECONDS)
        provided = AutoInstall()
        with self._paused(), self._installing:  # the installer has a limit of its own
            provided = await self._packages.install_missing(
                names, missing.requirements, self._report, patience=patience
            )
        if not self._installing.cancelled_caught:
            location = self._packages.location
            proceed = messages.Proceed(run=self._number, path=location.path, no_preload=location.no_preload)
            await self._link.send(proceed)
        return provided

    @contextmanager
    def _paused(self) -> Generator[None]:
        """Suspend the time limit for the container's answers, because something else is awaited."""
        scope = self._scope
        if scope is None:
            yield
            return
        left, scope.deadline = scope.deadline - anyio.current_time(), float("inf")
        try:
            yield
        finally:
            scope.deadline = anyio.current_time() + left

    def _result(self, ended: messages.RunResult) -> Result:
        kept = self.output.output()
        if ended.run != self._number or ended.written < len(kept.head) + len(kept.tail):
            self._link.fail("the container sent the result of another run")
        if ended.imported is not None or ended.state == "lost":
            self._packages.set_loaded_modules(frozenset(ended.imported or ()))
        provided = self._provided or AutoInstall()
        error = None if ended.error is None else _error(ended.error)
        advise = partial(self._packages.advise, problem=provided.problem)
        end = kept.head[-_TAIL_KEPT:] + kept.tail
        return Result(
            outcome=ended.outcome,
            output=replace(kept, written=ended.written),
            duration=ended.duration,
            cpu_time=ended.cpu_time,
            peak_memory=ended.peak_memory,
            value=ended.value,
            error=error,
            exit_code=ended.exit_code,
            state=ended.state,
            since=ended.since,
            unprotected=ended.unprotected,
            late=Output(bytes(self._late), b"", len(self._late)),
            timeout=self._timeout,
            limits=self._settings.limits,
            number=self._number,
            files=tuple(FileChange(**vars(file)) for file in ended.files),
            more_files=ended.more_files,
            ended=ended.ended,
            images=self._pictures.valid(),
            findings=tuple(Finding(**vars(finding)) for finding in ended.findings),
            installed=provided.installed,
            advice=advice_for(ended.outcome, error, end, self._settings, advise),
        )


def _error(error: messages.RunError) -> RunError:
    causes = tuple(Cause(**vars(cause)) for cause in error.causes)
    return RunError(error.type, error.message, error.line, causes, error.full)
