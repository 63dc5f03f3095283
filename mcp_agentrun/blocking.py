"""The public API without coroutines: thin twins of `AsyncRuntime` and `AsyncSandbox`, whose event loop has a thread."""

from __future__ import annotations

import builtins
import os
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from threading import Lock, Thread, current_thread
from typing import IO, TYPE_CHECKING, Any, ParamSpec, Protocol, TypeVar, cast

import anyio
from anyio.from_thread import BlockingPortal

from .engine import Engine, Report
from .engine.network import NetworkSettings
from .host_resources import HostResources
from .own_process import is_inherited, require_own
from .packages.installer import Cache, Installed
from .sandbox import (
    AsyncRuntime,
    AsyncSandbox,
    FileInfo,
    FileName,
    FilePage,
    FileStat,
    OnlyIf,
    OnOutput,
    Result,
    Script,
    State,
)
from .sandbox.facade import shared_or_own
from .settings import Settings

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from .settings.options import Options

__all__ = ["Runtime", "Sandbox", "SandboxFiles"]

_P = ParamSpec("_P")
_T = TypeVar("_T")


def _start_portal(stack: ExitStack) -> BlockingPortal:
    """Start an event loop in a thread of its own, which ends with *stack*; return the way into it.

    Unlike `anyio.from_thread.start_blocking_portal`, it does not keep the process from ending where nobody closes it.
    """
    ready: Future[BlockingPortal] = Future()

    async def serve() -> None:
        async with BlockingPortal() as portal:
            ready.set_result(portal)
            await portal.sleep_until_stopped()

    def run() -> None:
        try:
            anyio.run(serve)
        except BaseException as error:
            if ready.done():
                raise
            ready.set_exception(error)

    thread = Thread(target=run, name="mcp-agentrun", daemon=True)
    thread.start()
    portal = ready.result()
    stack.callback(thread.join)
    stack.callback(portal.call, portal.stop, True)
    return portal


def _elsewhere(make: Callable[[], _T]) -> _T:
    """What *make* returns in a thread without an event loop: in this one there may be a loop, to which locks and events
    that are made here would belong.
    """
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(make).result()


def _require_other_thread(thread: Thread | None) -> None:
    """Refuse calls in the event loop's *thread*, which would wait for themselves.

    :raises RuntimeError: this is that thread.
    """
    if thread is current_thread():
        raise RuntimeError("`on_output` and `report` run in the event loop's thread, and can't call what waits for it")


class Runtime:
    """What sandboxes share: the container engine, the image, the installer with its cache, and sandboxes that are kept
    ready::

        with Runtime(memory="2g", pool=2) as runtime:
            with runtime.sandbox() as one, runtime.sandbox() as other:
                one.run("x = 1")

    Safe to use from several threads. The parameters are those of `AsyncRuntime`.

    :raises SettingsError: a setting is unknown or invalid.
    """

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        engine: Engine | str | None = None,
        runtime: str | None = None,
        pool: int = 0,
        package_network: NetworkSettings | None = None,
        host_resources: HostResources | None = None,
        **options: Unpack[Options],
    ) -> None:
        self.twin = _elsewhere(
            lambda: AsyncRuntime(
                settings,
                engine=engine,
                runtime=runtime,
                pool=pool,
                package_network=package_network,
                host_resources=host_resources,
                **options,
            )
        )
        """The same with coroutines, for use in its event loop only."""
        self.thread: Thread | None = None
        """The thread of its event loop, in which callbacks are called."""
        self.open_sandboxes: set[Sandbox] = set()
        self._lock = Lock()
        self._stack = ExitStack()
        self._portal: BlockingPortal | None = None
        self._pid: int | None = None
        """The process in which it was started."""

    def __enter__(self) -> Runtime:
        self.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def start(self) -> None:
        """Start its event loop, where `with` can't be used. `close` must be called then.

        :raises RuntimeError: it was started in a process from which this one was forked.
        """
        require_own(self._pid, "Runtime")
        self._pid = os.getpid()  # before the lock, which a forked process would find locked forever
        with self._lock, ExitStack() as stack:
            if self._portal is None:
                portal = _start_portal(stack)
                stack.enter_context(portal.wrap_async_context_manager(self.twin))
                self.thread = portal.call(current_thread)
                self._stack, self._portal = stack.pop_all(), portal

    def close(self) -> None:
        """Close its sandboxes, and end it. Nothing happens in a forked process: it belongs to the parent."""
        if is_inherited(self._pid):
            return
        _require_other_thread(self.thread)
        with self._lock:
            for sandbox in tuple(self.open_sandboxes):
                sandbox.close()
            self._portal = None
            self._stack.close()

    @property
    def settings(self) -> Settings:
        """The settings of all its sandboxes."""
        return self.twin.settings

    @property
    def spares(self) -> int:
        """Number of sandboxes that are ready in the pool."""
        return self.twin.spares

    @property
    def portal(self) -> BlockingPortal:
        """The way into its event loop.

        :raises RuntimeError: it is not started, or in another process.
        """
        require_own(self._pid, "Runtime")
        if self._portal is None:
            raise RuntimeError("a runtime is used inside `with`, or between `start` and `close`")
        return self._portal

    def sandbox(self) -> Sandbox:
        """A new sandbox, to be used as a context. It ends with the runtime at the latest."""
        return Sandbox(runtime=self)

    def build(self, report: Report | None = None, *, refresh: bool = False) -> str:
        """Build the runner image, unless it is there, and return its name; see `AsyncRuntime.build`."""
        return self.wait_for(self.twin.build, report, refresh=refresh)

    def cache(self, *, clear: bool = False) -> Cache:
        """What the cache of downloaded packages holds, after clearing it if *clear*; see `AsyncRuntime.cache`."""
        return self.wait_for(self.twin.cache, clear=clear)

    def wait_for(self, method: Callable[_P, Coroutine[Any, Any, _T]], *arguments: _P.args, **options: _P.kwargs) -> _T:
        """Call *method* in the event loop, and return its result. Whatever ends the wait, such as Ctrl-C, cancels it.

        :raises RuntimeError: the runtime is not started, or this is a callback in the event loop's thread.
        """
        portal = self.portal
        _require_other_thread(self.thread)
        future = portal.start_task_soon(_without_exit, lambda: method(*arguments, **options))
        try:
            result, ending = future.result()
        except BaseException:
            future.cancel()
            raise
        if ending is not None:
            raise ending
        return cast("_T", result)


class Sandbox:
    """A private, living Python in a container of its own::

        with Sandbox(memory="2g") as sandbox:
            sandbox.run("x = 41")
            print(sandbox.run("x + 1").text)  # 42

    Safe to use from several threads: calls queue. The parameters are those of `AsyncSandbox`.

    :raises SettingsError: a setting is unknown or invalid.
    """

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        runtime: Runtime | str | None = None,
        engine: Engine | str | None = None,
        **options: Unpack[Options],
    ) -> None:
        self._runtime = shared_or_own(Runtime, runtime, settings, engine, options)
        self._owns_runtime = self._runtime is not runtime
        self._twin = _elsewhere(self._runtime.twin.sandbox)
        self._lock = Lock()
        self._stack = ExitStack()
        self._is_open = False
        self._pid: int | None = None

    def __enter__(self) -> Sandbox:
        self.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def start(self) -> None:
        """Start the container in the background, where `with` can't be used. `close` must be called then.

        :raises RuntimeError: it was started in a process from which this one was forked.
        """
        require_own(self._pid, "Sandbox")
        self._pid = os.getpid()
        with self._lock, ExitStack() as stack:
            if not self._is_open:
                if self._owns_runtime:
                    stack.enter_context(self._runtime)
                stack.enter_context(self._runtime.portal.wrap_async_context_manager(self._twin))
                if not self._owns_runtime:
                    self._runtime.open_sandboxes.add(self)
                    stack.callback(self._runtime.open_sandboxes.discard, self)
                self._stack, self._is_open = stack.pop_all(), True

    def close(self) -> None:
        """Destroy the container and what the sandbox has installed. Calls of other threads fail. Nothing happens in a
        forked process: the container belongs to the parent.
        """
        if is_inherited(self._pid):
            return
        _require_other_thread(self._runtime.thread)
        with self._lock:
            self._is_open = False
            self._stack.close()

    @property
    def id(self) -> str:
        """Its name, unguessable. It has it from the time when it is started."""
        return self._twin.id

    @property
    def stage(self) -> str:
        """What is being done to start the container, in a few words."""
        return self._twin.stage

    @property
    def is_ready(self) -> bool:
        """Whether code can run now."""
        return self._twin.is_ready

    @property
    def state(self) -> State:
        """Whether the container is still the one that the last call used: ``kept`` or ``lost``."""
        return self._twin.state

    def ready(self) -> None:
        """Wait until the container can run code.

        :raises UnavailableError: it can't be started.
        """
        self._call(lambda sandbox: sandbox.ready())

    def run(
        self,
        code: str,
        *,
        timeout: float | None = None,
        on_output: OnOutput | None = None,
        report: Report | None = None,
        stream: bool = False,
        script: Script | None = None,
    ) -> Result:
        """Execute *code* in the sandbox's living namespace. A failure of the code is a result, not an exception.

        :param timeout: seconds that the code may run; the setting ``timeout`` if None, never more than ``max_timeout``.
        :param on_output: called with the output as text while it is being written, in the thread of the event loop.
        :param report: called with what the installer is doing, in the same thread.
        :param stream: pass all output to *on_output*, however much it is; the code waits until it returns.
        :param script: run the code as ``python`` would run it as a program.
        :raises InvalidRequestError: *code* or *timeout* can't be accepted; nothing was run.
        :raises UnavailableError: the engine failed, the queue is full, or the container was lost in the middle.
        """
        return self._call(
            lambda sandbox: sandbox.run(
                code, timeout=timeout, on_output=on_output, report=report, stream=stream, script=script
            )
        )

    def interrupt(self) -> None:
        """Interrupt the current run of another thread, as Ctrl-C does in a terminal; see `AsyncSandbox.interrupt`."""
        self._call(lambda sandbox: sandbox.interrupt())

    def install(self, *requirements: str, report: Report | None = None) -> Installed:
        """Install packages for this sandbox; see `AsyncSandbox.install`."""
        return self._call(lambda sandbox: sandbox.install(*requirements, report=report))

    def reset(self, *, keep_packages: bool = False, keep_files: bool = False) -> None:
        """Forget all variables; files and installed packages too, unless kept.

        :raises UnavailableError: the engine failed.
        :raises SandboxLostError: files that were to be kept are gone.
        """
        self._call(lambda sandbox: sandbox.reset(keep_packages=keep_packages, keep_files=keep_files))

    @property
    def files(self) -> SandboxFiles:
        """The files of the workspace: write, read, save, list and remove them."""
        return SandboxFiles(self._call)

    def _call(self, method: Callable[[AsyncSandbox], Coroutine[Any, Any, _T]]) -> _T:
        require_own(self._pid, "Sandbox")
        if not self._is_open:
            raise RuntimeError("a sandbox is used inside `with`, or between `start` and `close`")
        return self._runtime.wait_for(method, self._twin)


async def _without_exit(call: Callable[[], Coroutine[Any, Any, _T]]) -> tuple[_T | None, BaseException | None]:
    """Await *call*, and return its result. Also return what a callback raised to end the process: it would end the
    event loop, and with it other calls and sandboxes.
    """
    try:
        return await call(), None
    except (KeyboardInterrupt, SystemExit) as error:
        return None, error


class _Call(Protocol):
    def __call__(self, method: Callable[[AsyncSandbox], Coroutine[Any, Any, _T]], /) -> _T: ...


class SandboxFiles:
    """The files in a sandbox's workspace::

        sandbox.files.write("data/in.csv", b"x,y\\n1,2\\n")
        sandbox.files.read("out.csv")
        [file.path for file in sandbox.files.list()]
        sandbox.files.save(result.files[0], "plot.pdf")

    Paths are relative to ``/workspace``. This is the twin of `Files`: every method raises `FileError` for what is wrong
    with the file, and `UnavailableError` if the engine failed.
    """

    def __init__(self, call: _Call) -> None:
        self._call = call

    def write(
        self,
        path: FileName,
        data: bytes | bytearray | memoryview | os.PathLike[str] | IO[bytes],
        *,
        only_if: OnlyIf | None = None,
    ) -> FileInfo:
        """Create or replace the file *path*, and create the folders that it is in.

        :param data: the content, the path of a local file, or a file open for reading bytes. Large files are streamed.
        :param only_if: as for `Files.write`. It is called in the thread of the event loop.
        """
        return self._call(lambda sandbox: sandbox.files.write(path, data, only_if=only_if))

    def read(self, path: FileName, *, limit: int | None = None) -> bytes:
        """The content of the file *path*.

        :param limit: largest size accepted, in bytes; the size of the workspace if None.
        """
        return self._call(lambda sandbox: sandbox.files.read(path, limit=limit))

    def stat(self, path: FileName) -> FileStat:
        """The size of the file *path*, and what identifies its content; see `Files.stat`."""
        return self._call(lambda sandbox: sandbox.files.stat(path))

    def stream(self, path: FileName, *, start: int = 0, of: FileStat | None = None) -> Iterator[bytes]:
        """The content of the file *path* in parts of at most 1 MiB; see `Files.stream`."""

        async def next_part(_: AsyncSandbox) -> bytes | None:
            return await anext(parts, None)

        async def begin(sandbox: AsyncSandbox) -> AsyncIterator[bytes]:
            return sandbox.files.stream(path, start=start, of=of)

        parts = self._call(begin)
        while (part := self._call(next_part)) is not None:
            yield part

    def save(self, path: FileName, target: str | os.PathLike[str]) -> int:
        """Copy the file *path* to the local file *target*, in parts, and return its size in bytes. *target* is created
        or replaced once all is there.

        :raises OSError: *target* can't be written.
        """
        return self._call(lambda sandbox: sandbox.files.save(path, target))

    def save_all(self, target: str | os.PathLike[str], folder: str = ".") -> builtins.list[Path]:
        """Copy the files that `list` returns to the local folder *target*, which is created, and return their paths.
        No name or link leads out of *target*; see `Files.save_all`.

        :raises OSError: a file can't be written, or a symbolic link is in the way.
        """
        return self._call(lambda sandbox: sandbox.files.save_all(target, folder))

    def list(self, folder: str = ".") -> builtins.list[FileInfo]:
        """All files in *folder* and the folders below it, sorted by path."""
        return self._call(lambda sandbox: sandbox.files.list(folder))

    def page(self, folder: str = ".", *, after: str = "") -> FilePage:
        """A part of that list: the first files after *after*; see `Files.page`."""
        return self._call(lambda sandbox: sandbox.files.page(folder, after=after))

    def remove(self, path: FileName, *, only_if: OnlyIf | None = None) -> None:
        """Remove the file *path*.

        :param only_if: as for `write`.
        """
        self._call(lambda sandbox: sandbox.files.remove(path, only_if=only_if))
