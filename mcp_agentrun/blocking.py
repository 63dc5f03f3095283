"""The public API without coroutines: thin twins of `AsyncRuntime` and `AsyncSandbox`, whose event loop has a thread."""

from __future__ import annotations

import builtins
import os
import secrets
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from contextlib import ExitStack
from pathlib import Path
from threading import Thread
from typing import IO, Any, Protocol, TypeVar

import anyio
from anyio.from_thread import BlockingPortal

from .packages.installer import Installed
from .sandbox import AsyncRuntime, AsyncSandbox, FileInfo, OnOutput, Result
from .settings import Settings

__all__ = ["Runtime", "Sandbox", "SandboxFiles"]

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


class Runtime:
    """What sandboxes share: the container engine, the image, and the installer with its cache::

        with Runtime(memory="2g") as runtime:
            with runtime.sandbox() as one, runtime.sandbox() as other:
                one.run("x = 1")

    Safe to use from several threads. The parameters are those of `AsyncRuntime`.

    :raises SettingsError: a setting is unknown or invalid.
    """

    def __init__(self, settings: Settings | None = None, **options: Any) -> None:
        self._runtime = AsyncRuntime(settings, **options)
        self._stack = ExitStack()
        self._portal: BlockingPortal | None = None

    def __enter__(self) -> Runtime:
        self.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def start(self) -> None:
        """Start its thread, for those who can't use `with`: `close` is theirs to call."""
        if self._portal is None:
            self._portal = _start_portal(self._stack)
            self._stack.enter_context(self._portal.wrap_async_context_manager(self._runtime))

    def close(self) -> None:
        """End it; sandboxes must have been closed before."""
        self._portal = None
        self._stack.close()

    def sandbox(self) -> Sandbox:
        """A new sandbox, to be used as a context. It must end before the runtime does."""
        return Sandbox(runtime=self)


class Sandbox:
    """A private, living Python in a container of its own::

        with Sandbox(memory="2g") as sandbox:
            sandbox.run("x = 41")
            print(sandbox.run("x + 1").text)  # 42

    Safe to use from several threads: calls queue. The parameters are those of `AsyncSandbox`.

    :raises SettingsError: a setting is unknown or invalid.
    """

    def __init__(self, settings: Settings | None = None, *, runtime: Runtime | None = None, **options: Any) -> None:
        if runtime is not None and (settings is not None or options):
            raise TypeError("a sandbox has the settings of its runtime: give either settings or a runtime")
        self._own_runtime = Runtime(settings, **options) if runtime is None else None
        self._runtime = runtime or self._own_runtime
        self._stack = ExitStack()
        self._portal: BlockingPortal | None = None
        self._sandbox: AsyncSandbox | None = None

    def __enter__(self) -> Sandbox:
        self.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def start(self) -> None:
        """Start the container in the background, for those who can't use `with`: `close` is theirs to call."""
        if self._sandbox is not None:
            return
        if self._own_runtime is not None:
            self._stack.enter_context(self._own_runtime)
        assert self._runtime is not None
        portal = self._runtime._portal  # pyright: ignore[reportPrivateUsage]
        if portal is None:
            raise RuntimeError("the runtime must be started before its sandboxes")
        self._portal = portal
        sandbox = AsyncSandbox(runtime=self._runtime._runtime)  # pyright: ignore[reportPrivateUsage]
        self._sandbox = self._stack.enter_context(portal.wrap_async_context_manager(sandbox))

    def close(self) -> None:
        """Destroy the container and what the sandbox has installed."""
        self._sandbox = None
        self._stack.close()

    def run(self, code: str, *, timeout: float | None = None, on_output: OnOutput | None = None) -> Result:
        """Execute *code* in the sandbox's living namespace. A failure of the code is a result, not an exception.

        :param timeout: seconds that the code may run; the setting ``timeout`` if None, never more than ``max_timeout``.
        :param on_output: called with the output as text while it is being written, in the thread of the event loop.
        :raises InvalidRequestError: *code* or *timeout* can't be accepted; nothing was run.
        :raises UnavailableError: the engine failed, the queue is full, or the container was lost in the middle.
        """
        return self._call(lambda sandbox: sandbox.run(code, timeout=timeout, on_output=on_output))

    def install(self, *requirements: str) -> Installed:
        """Install packages for this sandbox; see `AsyncSandbox.install`."""
        return self._call(lambda sandbox: sandbox.install(*requirements))

    def reset(self, *, keep_packages: bool = False, keep_files: bool = False) -> None:
        """Forget all variables; files and installed packages too, unless kept."""
        self._call(lambda sandbox: sandbox.reset(keep_packages=keep_packages, keep_files=keep_files))

    @property
    def files(self) -> SandboxFiles:
        """The files of the workspace: write, read, list and remove them."""
        return SandboxFiles(self._call)

    def _call(self, method: Callable[[AsyncSandbox], Coroutine[Any, Any, _T]]) -> _T:
        sandbox, portal = self._sandbox, self._portal
        if sandbox is None or portal is None:
            raise RuntimeError("a sandbox is used inside `with`, or between `start` and `close`")
        future = portal.start_task_soon(method, sandbox)
        try:
            return future.result()
        except BaseException:  # such as KeyboardInterrupt: the call is cancelled, which keeps the session
            future.cancel()
            raise


class _Call(Protocol):
    def __call__(self, method: Callable[[AsyncSandbox], Coroutine[Any, Any, _T]], /) -> _T: ...


class SandboxFiles:
    """The files in a sandbox's workspace::

        sandbox.files.write("data/in.csv", b"x,y\\n1,2\\n")
        sandbox.files.read("out.csv")
        [file.path for file in sandbox.files.list()]

    Paths are relative to ``/workspace``. This is the twin of `mcp_agentrun.sandbox.Files`: every method raises
    `FileError` for what is wrong with the file, and `UnavailableError` if the engine failed.
    """

    def __init__(self, call: _Call) -> None:
        self._call = call

    def write(self, path: str, data: bytes | bytearray | memoryview | os.PathLike[str] | IO[bytes]) -> FileInfo:
        """Create or replace the file *path*, and create the folders that it is in.

        :param data: the content, the path of a local file, or a file open for reading bytes. Large files are streamed.
        """
        return self._call(lambda sandbox: sandbox.files.write(path, data))

    def read(self, path: str, *, limit: int | None = None) -> bytes:
        """The content of the file *path*.

        :param limit: largest size accepted, in bytes; the size of the workspace if None.
        """
        return self._call(lambda sandbox: sandbox.files.read(path, limit=limit))

    def save(self, path: str, target: str | os.PathLike[str]) -> int:
        """Copy the file *path* to the local file *target*, in parts, and return its size in bytes. *target* is replaced
        once all is there.
        """
        place = Path(target)

        async def copy(sandbox: AsyncSandbox) -> int:
            size = 0
            partial = place.with_name(f".{place.name}.{secrets.token_hex(4)}")
            try:
                async with await anyio.open_file(partial, "xb") as local:
                    async for part in sandbox.files.stream(path):
                        size += await local.write(part)
                partial.replace(place)
            finally:
                partial.unlink(missing_ok=True)
            return size

        return self._call(copy)

    def list(self, folder: str = ".") -> builtins.list[FileInfo]:
        """All files in *folder* and the folders below it, sorted by path."""
        return self._call(lambda sandbox: sandbox.files.list(folder))

    def remove(self, path: str) -> None:
        """Remove the file *path*."""
        self._call(lambda sandbox: sandbox.files.remove(path))
