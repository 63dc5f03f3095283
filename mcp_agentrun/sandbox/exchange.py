"""One run on the wire: from its `RUN` frame to its result. What comes back is hostile."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any, TypeGuard

import anyio

from ..engine import Report
from ..engine.link import Link
from ..errors import ProtocolError, SandboxLostError
from ..packages.installer import PATIENCE_SECONDS
from ..safety import Finding
from ..settings import Settings
from ..wire.codec import FrameError, Kind, decode_json
from ..wire.reports import STATES, is_result
from .causes import explain
from .files import checked_files
from .packages import Provided, SessionPackages
from .pictures import Pictures
from .result import Cause, FileChange, Output, Result, RunError, State

__all__ = ["Exchange", "OnBytes", "Unreported", "worst"]

OnBytes = Callable[[bytes], Awaitable[None]]

_OVERHEAD_SECONDS = 45.0
"""Longest time between a run's deadline and its result: warming, the grace after an interrupt, sweeping, restoring."""

_CANCEL_SECONDS = 10.0
_LATE_KEPT = 1 << 16
_TAIL_KEPT = 1 << 16
_MOST_NAMES = 50


def worst(*states: State) -> State:
    """The worst of what happened to a session's variables."""
    return max(states, key=STATES.index)


@dataclass
class Unreported:
    """What happened to the session and no result has said yet."""

    state: State = "kept"
    is_replaced: bool = False
    """The container was replaced: files are gone too."""
    unprotected: str | None = None
    """The reason that the last result gave for there being no checkpoint."""

    def add(self, *states: State) -> None:
        """Remember these *states*, of runs whose results nobody received."""
        self.state = worst(self.state, *states)

    def report(self, result: Result) -> Result:
        """*result* with what is remembered, which is forgotten."""
        is_news = result.unprotected != self.unprotected or result.state == "lost"
        reported = replace(
            result,
            since=worst(self.state, result.since),
            replaced=self.is_replaced,
            unprotected=result.unprotected if is_news else None,
        )
        self.state, self.is_replaced, self.unprotected = "kept", False, result.unprotected
        return reported


class Exchange:
    """A run: its frame is sent, and frames are received up to its result. Whatever is raised meanwhile, the next run
    finds the stream in order.

    :param number: of the run.
    :param timeout: seconds that the code may run.
    :param on_output: awaited with what the code writes, while it is being written.
    :param report: told what the installer is doing.
    """

    def __init__(
        self,
        link: Link,
        packages: SessionPackages,
        settings: Settings,
        unreported: Unreported,
        *,
        number: int,
        timeout: float,
        on_output: OnBytes | None = None,
        report: Report | None = None,
    ) -> None:
        self._link = link
        self._packages = packages
        self._settings = settings
        self._unreported = unreported
        self._number = number
        self._timeout = timeout
        self._on_output = on_output
        self._report = report
        self._scope: anyio.CancelScope | None = None
        self._start_over()

    def _start_over(self) -> None:
        self._head, self._late, self._tail = bytearray(), bytearray(), b""
        self._pictures = Pictures()
        self._provided: Provided | None = None

    async def run(self, code: str) -> Result:
        """Run *code*.

        :raises SandboxLostError: the container was lost, or broke the protocol.
        """
        placement = self._packages.placement
        try:
            await self._link.send(
                Kind.RUN,
                run=self._number,
                code=code,
                timeout=self._timeout,
                path=placement.path,
                bare=placement.bare,
            )
            return await self._result_in_time()
        except SandboxLostError as error:
            if self._link.is_alive:  # it is *on_output* that has raised it
                raise
            raise SandboxLostError(
                f"The sandbox was lost during this call ({error}). Variables and files are gone; the next call "
                "gets a new sandbox."
            ) from error

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
        """Interrupt the run and receive its result, so that the next run finds the stream in order."""
        self._scope, self._on_output = None, None
        self._start_over()
        with anyio.move_on_after(_CANCEL_SECONDS) as scope:
            try:
                await self._link.send(Kind.CANCEL, run=self._number)
                result = await self._received()
                self._unreported.add(result.since, result.state)
            except SandboxLostError:
                return
        if scope.cancelled_caught:
            self._link.abandon("a cancelled run did not end")

    async def _received(self) -> Result:
        while True:
            kind, payload = await self._link.receive()
            if kind is Kind.RESULT:
                return self._parsed(payload)
            if kind is Kind.MISSING and self._provided is None:
                self._provided = Provided()
                if self._scope is not None:  # for a cancelled run nothing is installed any more
                    self._provided = await self._provide(self._scope, payload)
            elif not await self._keep(kind, payload):
                self._link.abandon(f"the container sent an unexpected {kind.name} frame")
                raise SandboxLostError(self._link.reason)

    async def _keep(self, kind: Kind, payload: bytes) -> bool:
        """Keep a part of the run's output; return whether it is one and not more than was announced."""
        if kind is Kind.OUTPUT and len(self._head) + len(payload) <= self._settings.limits.output_keep:
            self._head += payload
            if self._on_output is not None:
                await self._on_output(payload)
        elif kind is Kind.OUTPUT_TAIL and len(payload) <= _TAIL_KEPT:
            self._tail = payload
        elif kind is Kind.LATE and len(self._late) + len(payload) <= _LATE_KEPT:
            self._late += payload
        else:
            return kind in (Kind.ITEM, Kind.ITEM_DATA) and self._pictures.add(kind, payload)
        return True

    async def _provide(self, scope: anyio.CancelScope, payload: bytes) -> Provided:
        """Install the modules that the run imports but that are missing, as far as policy allows. The run waits, and
        its deadline is postponed.
        """
        try:
            fields = decode_json(payload)
            names = [name for name in fields["names"][:_MOST_NAMES] if isinstance(name, str) and name.isidentifier()]
            asked = [str(item) for item in fields["requirements"][:_MOST_NAMES]]
            if fields["run"] != self._number:
                raise ValueError
        except (FrameError, KeyError, TypeError, ValueError):
            self._link.abandon("the container sent a malformed question")
            raise SandboxLostError(self._link.reason) from None
        begun = anyio.current_time()
        scope.deadline = float("inf")  # the installer has a limit of its own
        patience = min(self._timeout, PATIENCE_SECONDS)
        provided = await self._packages.provide(names, asked, self._report, patience=patience)
        placement = self._packages.placement
        await self._link.send(Kind.PROCEED, run=self._number, path=placement.path, bare=placement.bare)
        scope.deadline = begun + self._timeout + _OVERHEAD_SECONDS + (anyio.current_time() - begun)
        return provided

    def _parsed(self, payload: bytes) -> Result:
        try:
            fields = decode_json(payload)
            if not is_result(fields, self._number) or fields["written"] < len(self._head) + len(self._tail):
                raise ProtocolError("a result that is not this run's")
            if fields["imported"] is not None or fields["state"] == "lost":
                self._packages.note_interpreter(frozenset(fields["imported"] or ()))
            return self._result(fields, None if fields["error"] is None else _error(fields["error"]))
        except (FrameError, ProtocolError, KeyError, TypeError, ValueError, OverflowError) as error:
            self._link.abandon("the container sent a malformed result")
            raise SandboxLostError(self._link.reason) from error

    def _result(self, fields: dict[str, Any], error: RunError | None) -> Result:
        provided = self._provided or Provided()
        output = Output(bytes(self._head), self._tail, int(fields["written"]))
        return Result(
            outcome=fields["outcome"],
            output=output,
            duration=float(fields["duration"]),
            value=fields["value"],
            error=error,
            exit_code=fields["exit_code"],
            state=fields["state"],
            since=fields["since"],
            unprotected=fields["unprotected"],
            late=Output(bytes(self._late), b"", len(self._late)),
            timeout=self._timeout,
            number=self._number,
            files=tuple(FileChange(*file) for file in checked_files(fields["files"], str)),
            more_files=int(fields["more_files"]),
            ended=fields["ended"],
            pictures=self._pictures.valid(),
            findings=tuple(_finding(*finding) for finding in fields["findings"]),
            installed=provided.installed,
            advice=explain(
                fields["outcome"],
                error,
                output.head + output.tail,
                self._settings,
                self._packages.adviser(provided.problem),
            ),
        )


def _error(fields: dict[str, Any]) -> RunError:
    causes = tuple(Cause(**cause) for cause in fields["causes"])
    return RunError(fields["type"], fields["message"], fields["line"], causes, tuple(fields["full"]))


def _finding(rule: Any, line: Any, column: Any, reason: Any, remedy: Any) -> Finding:
    if not (_is_text(rule) and _is_text(reason) and _is_text(remedy)):
        raise TypeError("a finding is made of text")
    return Finding(rule, int(line), int(column), reason, remedy)


def _is_text(value: object) -> TypeGuard[str]:
    return isinstance(value, str)
