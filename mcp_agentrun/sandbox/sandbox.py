"""The life of one sandbox: run, install, reset, close."""

from __future__ import annotations

import itertools
import logging
import re
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Generator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import replace
from typing import Any

import anyio
import anyio.lowlevel
from packaging.utils import canonicalize_name

from ..background import contained
from ..engine import PACKAGES, ContainerSpec, Engine, Report
from ..engine.link import Keeper, Link
from ..errors import (
    AgentRunError,
    InstallError,
    InvalidRequestError,
    ProtocolError,
    SandboxLostError,
    UnavailableError,
)
from ..packages.installer import PATIENCE_SECONDS, Installed, Installer
from ..packages.known import WELL_KNOWN
from ..packages.names import distribution_of
from ..packages.policy import combine, is_satisfied, parse_requirements
from ..safety import Finding
from ..settings import Settings
from ..wire.codec import FrameError, Kind, decode_json
from ..wire.reports import STATES, is_result
from .causes import Advise, Lacking, explain
from .files import FileReader, Files, checked_files
from .pictures import Pictures
from .result import KEEPING_RESET, Cause, FileChange, Output, Result, RunError, State
from .spec import give_back_uid, runner_spec, take_uid, user_pids

__all__ = ["ReadFile", "Sandbox"]

logger = logging.getLogger(__name__)

_OVERHEAD_SECONDS = 45.0
"""Longest time between a run's deadline and its result: warming, the grace after an interrupt, sweeping, restoring."""

_RESET_SECONDS = 60.0
_CANCEL_SECONDS = 10.0
_LATE_KEPT = 1 << 16
_TAIL_KEPT = 1 << 16
_MOST_NAMES = 50

OnOutput = Callable[[bytes], Awaitable[None]]
ReadFile = Callable[[str, int], AsyncIterator[bytes]]
"""The parts of the file of that path, if it has at most so many bytes; raises `FileError` and `SandboxLostError`."""
Then = Callable[[Result, ReadFile], Awaitable[None]]


class Sandbox:
    """A private, living Python in a container of its own. Use as an async context manager::

        async with Sandbox(engine, settings) as sandbox:
            await sandbox.run("x = 41")
            print((await sandbox.run("x + 1")).output.text())  # 42

    The container is started in the background at once. It is replaced when it is lost, which the next result says.
    Calls queue; each sees what the ones before it have left.

    :param installer: fetches packages; shared by the sandboxes of one engine. Without it `install` is refused.
    """

    def __init__(self, engine: Engine, settings: Settings, *, installer: Installer | None = None) -> None:
        self.id = secrets.token_hex(16)
        self.principal = ""
        """Whose it is: installations are shared out fairly among principals."""
        self._engine = engine
        self._settings = settings
        self._uid = take_uid(*settings.uid_range)
        self._installer = installer
        self._installed: Installed | None = None
        """The sandbox's own packages; None where it has no more than what all sandboxes share."""
        self._next: Installed | None = None
        """Those that it has from the next reset on, if others."""
        self._base: Installed | None = None
        self._has_base = installer is None or not settings.preinstall
        self._basing = anyio.Lock()
        self._lacking: str | None = None
        """What it lacks of what it should have, and why, until that has been told."""
        self._imported: frozenset[str] = frozenset()
        """Top-level modules of its packages and the image's that its interpreter has loaded, by the last report."""
        self._requirements: tuple[str, ...] = ()
        self._numbers = itertools.count(1)
        self._turn = anyio.Lock(fast_acquire=True)
        self._waiting = 0
        self._seen_starts = 0
        self._owed: State = "kept"
        self._owed_replaced = False
        self._unprotected: str | None = None
        self._stack = AsyncExitStack()
        self._keeper: Keeper | None = None

    async def __aenter__(self) -> Sandbox:
        tasks = await self._stack.enter_async_context(anyio.create_task_group())
        self._stack.callback(tasks.cancel_scope.cancel)
        self._keeper = Keeper(self._engine, tasks, self._prepare, self._hello, afterwards=self._engine.sweep)
        self._keeper.begin()
        tasks.start_soon(contained, self._preinstall)
        return self

    async def _hello(self) -> dict[str, Any]:
        return {
            "data": [f"/workspace/{folder.path.name}" for folder in self._settings.data_folders],
            "preload": list(self._settings.preload),
            "output_keep": self._settings.output_keep,
            "checkpoints": self._settings.checkpoints,
            "installs": self._installer is not None,
            "user_pids": user_pids(self._settings),
            "auto_install": self._installer is not None and self._settings.auto_install != "off",
            "safety": self._settings.safety_options(),
        }

    async def __aexit__(self, *exc_info: Any) -> bool | None:
        try:
            return await self._stack.__aexit__(*exc_info)
        finally:
            give_back_uid(self._uid)
            if self._installer is not None:
                self._installer.forget(self.id)

    @property
    def stage(self) -> str:
        """What the start of the container is at, for whoever waits."""
        return self._living.stage

    @property
    def is_ready(self) -> bool:
        """Whether code can run now: in its container, with what the operator wants every sandbox to have."""
        return self._living.is_ready and self._has_base

    @property
    def state(self) -> State:
        """Whether the container is still the one that the last call saw: ``kept`` or ``lost``."""
        is_same = self._seen_starts == self._living.starts and self._living.is_ready
        return "kept" if is_same or self._seen_starts == 0 else "lost"

    @property
    def starts(self) -> int:
        """How many containers it has had so far."""
        return self._living.starts

    def lost(self, start: int) -> None:
        """Take container number *start* for lost, if it is still the one that lives. The next call gets a new one, and
        is told.
        """
        self._living.abandon(start, "its container is gone")

    async def ready(self) -> None:
        """Wait until the container can run code.

        :raises UnavailableError: it can't be started.
        """
        await self._living.connected()
        await self._preinstall()

    async def warm(self) -> None:
        """Wait until the data packages are imported, and bear what a first run costs more than others. Whoever runs
        code then finds the sandbox as it was made.

        :raises UnavailableError: the engine failed.
        """
        await self.ready()
        await self.run("".join(f"import {name}\n" for name in self._settings.preload))
        await self.reset()
        self._numbers = itertools.count(1)

    async def run(
        self,
        code: str,
        *,
        timeout: float | None = None,
        on_output: OnOutput | None = None,
        report: Report | None = None,
        then: Then | None = None,
    ) -> Result:
        """Execute *code* in the sandbox's living namespace.

        A failure of the code is a result, not an exception. Cancelling the call interrupts the code and keeps the
        session; so does an exception that *on_output* or *report* raises, which is passed on.

        :param timeout: seconds that the code may run, not counting the wait for its turn; the setting ``timeout`` if
            None, never more than ``max_timeout``.
        :param on_output: given what the code writes while it is being written.
        :param report: told what the installer is doing, where the code imports what has to be installed first.
        :param then: awaited with the result before any other call gets its turn; it can read the files that the run
            has left, as they are.
        :raises InvalidRequestError: *code* or *timeout* can't be accepted; nothing was run.
        :raises UnavailableError: the engine failed, the queue is full, or the container was lost in the middle.
        """
        timeout = self._checked_timeout(timeout)
        code = code.removeprefix("\ufeff")  # as at the start of a file
        self._check_code(code)
        async with self._my_turn():
            link = await self._living.connected()
            if not self._has_base:
                await self._preinstall()
            if self._now is not None:
                await self._regain(report)
            self._owed_replaced |= self._note_starts()
            if self._next is not None and not self._awaited(self._next):  # the interpreter has been replaced
                self._installed, self._next = self._next, None
            number = next(self._numbers)
            try:
                await link.send(Kind.RUN, run=number, code=code, timeout=timeout, **self._placed)
                result = await self._exchanged(link, number, timeout, on_output, report)
            except SandboxLostError as error:
                if link.is_alive:  # it is *on_output* that has raised it
                    raise
                raise SandboxLostError(
                    f"The sandbox was lost during this call ({error}). Variables and files are gone; the next call "
                    "gets a new sandbox."
                ) from error
            if then is not None:
                try:
                    await then(result, lambda path, limit: FileReader(path, limit).parts(link))
                except BaseException:
                    self._owed = _worst(self._owed, result.since, result.state)
                    raise
            return self._with_owed(result)

    async def _exchanged(
        self, link: Link, number: int, timeout: float, on_output: OnOutput | None, report: Report | None
    ) -> Result:
        """The result of run *number*, which has been sent. Whatever is raised meanwhile, the next run finds the stream
        in order.
        """
        with anyio.move_on_after(timeout + _OVERHEAD_SECONDS) as scope:
            try:
                return await self._result(link, number, timeout, on_output, scope, report)
            except BaseException:
                if scope.cancel_called:
                    link.abandon("it stopped answering")
                with anyio.CancelScope(shield=True):
                    await self._cancel(link, number)
                raise
        raise SandboxLostError(link.reason)

    def _with_owed(self, result: Result) -> Result:
        """*result*, and what had become of the session in runs whose results nobody was given."""
        replaced, self._owed_replaced = self._owed_replaced, False
        owed, self._owed = self._owed, "kept"
        return replace(result, replaced=replaced, since=_worst(owed, result.since), lacking=self._tell_lacking())

    def _tell_lacking(self) -> str | None:
        lacking, self._lacking = self._lacking, None
        return lacking

    async def install(self, requirements: str | Sequence[str], *, report: Report | None = None) -> Installed:
        """Install packages, by PEP 508 requirement, for this sandbox. Its variables stay.

        :param report: told what the installer is doing.
        :raises InvalidRequestError: something is not a requirement by name.
        :raises InstallError: the packages can't be resolved or fetched; nothing has changed.
        :raises UnavailableError: the engine failed.
        """
        if self._installer is None:
            raise UnavailableError("This sandbox was opened without an installer.")
        wanted = parse_requirements(requirements, urls=self._installer.policy.urls)
        self._installer.policy.judge_asked(wanted)
        async with self._my_turn():
            link = await self._living.connected()
            await self._preinstall()
            if self._now is not None:
                await self._regain(report)
            return replace(await self._install_missing(link, wanted, report), lacking=self._tell_lacking())

    async def _install_missing(
        self, link: Link, wanted: Sequence[str], report: Report | None, *, patience: float = PATIENCE_SECONDS
    ) -> Installed:
        """Install *wanted*, unless all of it is there; the caller has the turn."""
        have = {**_image_of(link), **self._versions}
        if all(item in self._requirements or is_satisfied(item, have) for item in wanted):
            names = {canonicalize_name(re.split(r"[^\w.-]", item)[0]) for item in wanted}
            there = tuple((name, have[name]) for name in sorted(names) if name in have)
            return Installed("", (), there, waiting=self._awaited(self._next) if self._next is not None else ())
        return await self._install(wanted, report, patience=patience)

    async def _install(
        self, wanted: Sequence[str], report: Report | None, *, patience: float = PATIENCE_SECONDS
    ) -> Installed:
        """Install *wanted* together with what there is; the caller has the turn."""
        assert self._installer is not None
        shared = self._settings.preinstall if self._base is not None else ()
        everything = combine(self._requirements or shared, wanted)
        image = _image_of(await self._living.connected())
        before = self._versions
        imported = self._loaded
        with _reporting(report) as tell:
            installed = await self._installer.install(
                self.id, everything, before=before, report=tell, principal=self.principal, patience=patience
            )
            self._requirements = everything
            waiting = self._awaited(installed)
            if waiting:
                self._next = installed
            else:
                self._installed, self._next = installed, None
        had = {**{name: image[name] for name in installed.replaced if name in image}, **before}
        changed = tuple(
            (name, had[name], version) for name, version in installed.packages if had.get(name, version) != version
        )
        new = tuple((name, version) for name, version in installed.packages if before.get(name) != version)
        kept = tuple(item for item in installed.packages if item not in new)
        asked = {canonicalize_name(re.split(r"[^\w.-]", item)[0]) for item in wanted}
        there = (item for item in (*installed.satisfied, *kept) if item[0] in asked)
        has = {name for name, _ in (*installed.packages, *installed.satisfied)}
        removed = tuple((name, version) for name, version in before.items() if name not in has)
        stale = tuple(name for name, _, _ in changed if imported.intersection(installed.modules.get(name, ())))
        return replace(
            installed,
            packages=new,
            satisfied=tuple(sorted(there)),
            skipped=tuple(sorted(asked - has)),
            removed=removed,
            changed=changed,
            stale=() if waiting else stale,
            waiting=waiting,
        )

    def _awaited(self, installed: Installed) -> tuple[str, ...]:
        """Names of the image's packages that would be another version with *installed*, while the interpreter has
        loaded the one that it has now.
        """
        now = self._now or Installed("", (), ())
        before, after = dict(now.packages), dict(installed.packages)
        modules = {**now.modules, **installed.modules}
        return tuple(
            name
            for name in sorted({*now.replaced, *installed.replaced})
            if before.get(name) != after.get(name) and self._loaded.intersection(modules.get(name, ()))
        )

    async def _preinstall(self) -> None:
        """Have what the operator wants every sandbox to have."""
        async with self._basing:
            if self._has_base or self._installer is None:
                return
            try:
                self._base = await self._installer.preinstalled(self._living.tell)
            except AgentRunError as error:
                self._lack(f"{self._should_come_with()} could not be installed: {error}")
            self._has_base = True

    async def _regain(self, report: Report | None) -> None:
        """Have installed again what has been removed meanwhile. What can't be had again is told."""
        assert self._installer is not None
        if self._installed is not None and self._installed.folder and not await self._installer.holds(self.id):
            try:
                await self._install((), report)
                if self._next is not None:  # what it had is gone, so that there is nothing to go on with
                    self._installed, self._next = self._next, None
            except (InstallError, InvalidRequestError, UnavailableError) as error:
                names = ", ".join(self._requirements)
                self._lack(f"The installed packages are gone, and {names} could not be installed again: {error}")
                self._installed, self._next, self._requirements = None, None, ()
        if self._installed is None and self._base is not None:
            try:
                with _reporting(report) as tell:
                    self._base = await self._installer.preinstalled(tell)
            except (InstallError, UnavailableError) as error:
                self._base = None
                self._lack(f"{self._should_come_with()} is gone and could not be installed again: {error}")

    def _should_come_with(self) -> str:
        return f"Of the packages that this server's sandboxes should come with, {', '.join(self._settings.preinstall)}"

    def _lack(self, what: str) -> None:
        logger.warning("%s", what)
        self._lacking = f"{self._lacking} {what}" if self._lacking else what

    @property
    def _now(self) -> Installed | None:
        return self._installed or self._base

    @property
    def _versions(self) -> dict[str, str]:
        """Version by name of its packages, with those that wait for a reset."""
        latest = self._next or self._now
        return dict(latest.packages if latest is not None else ())

    @property
    def _loaded(self) -> frozenset[str]:
        """Top-level modules that the living interpreter has loaded."""
        return self._imported if self._seen_starts == self._living.starts else frozenset()

    @property
    def _placed(self) -> dict[str, Any]:
        """Where the sandbox finds its packages, and whether some of them replace the image's."""
        if self._now is None or not self._now.folder:
            return {"path": None, "bare": False}
        return {"path": f"{PACKAGES}/{self._now.folder}", "bare": bool(self._now.replaced)}

    async def files(self) -> tuple[list[FileChange], int]:
        """The files in the workspace, and how many there are beyond those that are listed. Waits for no other call.

        :raises UnavailableError: the engine failed.
        """
        page = await self._files.page()
        return [FileChange(file.path, file.size, "") for file in page.files], page.more

    async def read_file(self, path: str, *, limit: int | None = None) -> bytes:
        """What is in a file of the workspace.

        :param path: relative to the workspace.
        :param limit: largest size accepted, in bytes; the setting ``workspace_size`` if None.
        :raises FileError: it is missing, too large, or not a plain file.
        :raises UnavailableError: the engine failed.
        """
        return await self._files.read(path, limit=limit)

    @property
    def _files(self) -> Files:
        return Files(self._my_link, self._living.connected, size=self._settings.workspace_size)

    @asynccontextmanager
    async def _my_link(self) -> AsyncGenerator[Link]:
        async with self._my_turn():
            yield await self._living.connected()

    async def reset(self, *, keep_packages: bool = False, keep_files: bool = False) -> None:
        """Forget all variables; files and installed packages too, unless kept.

        :raises UnavailableError: the engine failed.
        """
        async with self._my_turn():
            link = await self._living.connected()
            if self._note_starts() and keep_files:
                raise SandboxLostError(
                    "The sandbox was lost since the last call and has been replaced; its variables and files are gone."
                )
            if keep_packages and self._next is not None:
                self._installed, self._next = self._next, None
            kept = self._now if keep_packages else self._base
            bare = kept is not None and bool(kept.replaced)
            was_reset = await self._was_reset(link, keep_files=keep_files, bare=bare)
            self._imported = frozenset()
            self._owed, self._owed_replaced, self._unprotected = "kept", False, None
            try:
                await anyio.lowlevel.checkpoint_if_cancelled()
                if not was_reset:
                    # A new container is as good as a reset, unless files were to stay.
                    await self._living.connected()
                    self._note_starts()
            except anyio.get_cancelled_exc_class():
                self._owed = _worst(self._owed, "lost")  # nobody is told now that it was done
                self._owed_replaced |= not keep_files
                raise
            if not was_reset and keep_files:
                raise SandboxLostError("The sandbox could not be reset and was replaced; its files are gone.")
            if not keep_packages and self._requirements and self._installer is not None:
                self._installed, self._next, self._requirements = None, None, ()
                self._installer.forget(self.id)

    @staticmethod
    async def _was_reset(link: Link, *, keep_files: bool, bare: bool) -> bool:
        """Have the container reset; where that fails, it is given up. Once begun, it is not cancelled, which would cost
        the files.
        """
        try:
            with anyio.CancelScope(shield=True), anyio.fail_after(_RESET_SECONDS):
                await link.send(Kind.RESET, keep_files=keep_files, bare=bare)
                await link.expect(Kind.RESET_DONE)
        except (SandboxLostError, TimeoutError):
            link.abandon("it could not be reset")
            return False
        return True

    @property
    def _living(self) -> Keeper:
        if self._keeper is None:
            raise RuntimeError("a Sandbox is used inside `async with`")
        return self._keeper

    def _note_starts(self) -> bool:
        """Whether the container is another one than at the last call."""
        seen, self._seen_starts = self._seen_starts, self._living.starts
        if seen != self._seen_starts:
            self._imported = frozenset()
        return 0 < seen < self._seen_starts

    @asynccontextmanager
    async def _my_turn(self):
        if self._turn.locked() and self._waiting >= self._settings.queue:
            raise UnavailableError(
                f"The sandbox is busy: {self._waiting} calls are waiting for it already. Call again later."
            )
        try:
            self._turn.acquire_nowait()
        except anyio.WouldBlock:
            self._waiting += 1
            try:
                await self._turn.acquire()
            finally:
                self._waiting -= 1
        try:
            yield
        finally:
            self._turn.release()

    def _checked_timeout(self, timeout: float | None) -> float:
        if timeout is None:
            return self._settings.timeout
        if not timeout > 0:
            raise InvalidRequestError("timeout must be a positive number of seconds")
        if timeout > self._settings.max_timeout:
            raise InvalidRequestError(
                f"timeout is {timeout:g} s, but this server allows at most {self._settings.max_timeout:g} s"
            )
        return timeout

    def _check_code(self, code: str) -> None:
        if len(code) > self._settings.code_limit or len(code.encode("utf-8", "replace")) > self._settings.code_limit:
            raise InvalidRequestError(
                f"the code exceeds the limit of {self._settings.code_limit} bytes; split it over several calls, or "
                "write data to a file in parts"
            )
        if "\0" in code:
            raise InvalidRequestError(f"the code contains a NUL character at position {code.index(chr(0))}; remove it")
        for position, character in enumerate(code) if not code.isascii() else ():
            if "\ud800" <= character <= "\udfff":
                raise InvalidRequestError(
                    f"the code contains a lone surrogate (U+{ord(character):04X}) at position {position}, which is not "
                    "valid Unicode text; write it as an escape sequence"
                )

    async def _prepare(self, report: Report) -> ContainerSpec:
        image = await self._engine.ensure_image(report)
        return runner_spec(self._settings, image, self.id, self._uid)

    async def _result(
        self,
        link: Link,
        number: int,
        timeout: float,
        on_output: OnOutput | None,
        scope: anyio.CancelScope | None,
        report: Report | None = None,
    ) -> Result:
        """Take the frames of run *number*, to its result.

        :param scope: whose deadline is put off while packages are installed; None for a run that was cancelled, for
            which nothing is installed any more.
        """
        head, late, tail = bytearray(), bytearray(), b""
        pictures = Pictures()
        asked = False
        installed: Installed | None = None
        problem: str | None = None
        while True:
            kind, payload = await link.receive()
            if kind is Kind.OUTPUT and len(head) + len(payload) <= self._settings.output_keep:
                head += payload
                if on_output is not None:
                    await on_output(payload)
            elif kind is Kind.OUTPUT_TAIL and len(payload) <= _TAIL_KEPT:
                tail = payload
            elif kind is Kind.LATE and len(late) + len(payload) <= _LATE_KEPT:
                late += payload
            elif kind in (Kind.ITEM, Kind.ITEM_DATA) and pictures.add(kind, payload):
                pass
            elif kind is Kind.MISSING and self._installer is not None and not asked:
                asked = True
                if scope is None:
                    continue
                begun = anyio.current_time()
                scope.deadline = float("inf")  # the installer has a limit of its own
                patience = min(timeout, PATIENCE_SECONDS)
                installed, problem = await self._provide(link, number, payload, report, patience)
                scope.deadline = begun + timeout + _OVERHEAD_SECONDS + (anyio.current_time() - begun)
            elif kind is Kind.RESULT:
                break
            else:
                link.abandon(f"the container sent an unexpected {kind.name} frame")
                raise SandboxLostError(link.reason)
        try:
            fields = decode_json(payload)
            if not is_result(fields, number) or fields["written"] < len(head) + len(tail):
                raise ProtocolError("a result that is not this run's")
            error = fields["error"]
            unprotected = fields["unprotected"]
            if fields["imported"] is not None or fields["state"] == "lost":
                self._imported = frozenset(fields["imported"] or ())
            is_news = unprotected != self._unprotected or fields["state"] == "lost"
            self._unprotected = unprotected
            run_error = None if error is None else _error(error)
            return Result(
                outcome=fields["outcome"],
                output=Output(bytes(head), tail, int(fields["written"])),
                duration=float(fields["duration"]),
                value=fields["value"],
                error=run_error,
                exit_code=fields["exit_code"],
                state=fields["state"],
                since=fields["since"],
                unprotected=unprotected if is_news else None,
                late=Output(bytes(late), b"", len(late)),
                timeout=timeout,
                number=number,
                files=tuple(FileChange(*file) for file in checked_files(fields["files"], str)),
                more_files=int(fields["more_files"]),
                ended=fields["ended"],
                pictures=pictures.valid(),
                findings=tuple(_finding(*finding) for finding in fields["findings"]),
                installed=installed,
                advice=explain(
                    fields["outcome"], run_error, bytes(head) + tail, self._settings, self._adviser(link, problem)
                ),
            )
        except (FrameError, ProtocolError, KeyError, TypeError, ValueError, OverflowError) as error:
            link.abandon("the container sent a malformed result")
            raise SandboxLostError(link.reason) from error

    def _adviser(self, link: Link, problem: str | None) -> Advise | None:
        """What says how to have what code lacks; *problem* is why it could not be installed for the code's imports."""
        if self._installer is None:
            return None
        policy = self._installer.policy
        have = {**_image_of(link), **self._versions}
        waiting = dict(self._next.packages if self._next is not None else ())

        def advise(name: str, kind: Lacking) -> str | None:
            distribution = distribution_of(name)
            if distribution in waiting:
                return f"{name!r} is installed, and can be imported after {KEEPING_RESET}."
            if kind == "module":
                return problem or policy.advice(name)
            if distribution in have or (kind == "perhaps" and distribution not in WELL_KNOWN):
                return None
            return policy.advice(name, "package")

        return advise

    async def _provide(
        self, link: Link, number: int, payload: bytes, report: Report | None, patience: float
    ) -> tuple[Installed | None, str | None]:
        """Install the modules that run *number* imports but that are missing, as far as policy allows. The run waits,
        for its turn to install no longer than *patience* seconds.
        """
        installed, problem = None, None
        try:
            fields = decode_json(payload)
            names = [name for name in fields["names"][:_MOST_NAMES] if isinstance(name, str) and name.isidentifier()]
            asked = [str(item) for item in fields["requirements"][:_MOST_NAMES]]
            if fields["run"] != number:
                raise ValueError
        except (FrameError, KeyError, TypeError, ValueError):
            link.abandon("the container sent a malformed question")
            raise SandboxLostError(link.reason) from None
        assert self._installer is not None
        if asked:  # by `pip install` in the code: what is asked for by name is judged as `install_package` does
            try:
                parsed = parse_requirements(asked, urls=self._installer.policy.urls)
                self._installer.policy.judge_asked(parsed)
                installed = await self._install_missing(link, parsed, report, patience=patience)
            except (InstallError, InvalidRequestError, UnavailableError) as error:
                self._lack(f"{', '.join(asked)} could not be installed: {error}")
        wanted = self._installer.policy.automatic(names, self._settings.auto_install)
        have = {**_image_of(link), **self._versions}
        wanted = tuple(name for name in wanted if name not in have)
        if wanted:
            try:
                more = await self._install(wanted, report, patience=patience)
                before = installed.packages if installed is not None else ()
                installed = replace(more, packages=(*before, *more.packages))
            except (InstallError, InvalidRequestError, UnavailableError) as error:
                problem = f"{', '.join(wanted)} could not be installed: {error}"
        await link.send(Kind.PROCEED, run=number, **self._placed)
        return installed, problem

    async def _cancel(self, link: Link, number: int) -> None:
        """Interrupt run *number* and take its result, so that the next run finds the stream in order."""
        with anyio.move_on_after(_CANCEL_SECONDS) as scope:
            try:
                await link.send(Kind.CANCEL, run=number)
                result = await self._result(link, number, 0.0, None, None)
                self._owed = _worst(self._owed, result.since, result.state)
            except SandboxLostError:
                return
        if scope.cancelled_caught:
            link.abandon("a cancelled run did not end")


def _error(fields: dict[str, Any]) -> RunError:
    causes = tuple(Cause(**cause) for cause in fields["causes"])
    return RunError(fields["type"], fields["message"], fields["line"], causes, tuple(fields["full"]))


def _worst(*states: State) -> State:
    return max(states, key=STATES.index)


@contextmanager
def _reporting(report: Report | None) -> Generator[Report]:
    """A *report* for what is shared with other sandboxes: what it raises is raised at the end."""
    problems: list[Exception] = []

    def tell(stage: str) -> None:
        if report is not None and not problems:
            try:
                report(stage)
            except Exception as error:
                problems.append(error)

    yield tell
    if problems:
        raise problems[0]


def _image_of(link: Link) -> dict[str, str]:
    """Version by name of the distributions that the container says its image has."""
    given = link.greeting.get("distributions")
    try:
        return {canonicalize_name(str(name)): str(version) for name, version in given}  # pyright: ignore
    except (TypeError, ValueError):
        return {}


def _finding(rule: Any, line: Any, column: Any, reason: Any, remedy: Any) -> Finding:
    if not all(isinstance(text, str) for text in (rule, reason, remedy)):
        raise TypeError("a finding is made of text")
    return Finding(rule, int(line), int(column), reason, remedy)
