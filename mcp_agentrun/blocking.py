"""The public API without coroutines: thin twins of `AsyncRuntime` and `AsyncSandbox`, whose event loop has a thread."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from typing import Any, TypeVar

from anyio.from_thread import BlockingPortal, start_blocking_portal

from .packages.installer import Installed
from .sandbox import AsyncRuntime, AsyncSandbox, OnOutput, Result
from .settings import Settings

__all__ = ["Runtime", "Sandbox"]

_T = TypeVar("_T")


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
            self._portal = self._stack.enter_context(start_blocking_portal())
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

    def _call(self, method: Callable[[AsyncSandbox], Awaitable[_T]]) -> _T:
        sandbox, portal = self._sandbox, self._portal
        if sandbox is None or portal is None:
            raise RuntimeError("a sandbox is used inside `with`, or between `start` and `close`")
        future = portal.start_task_soon(method, sandbox)
        try:
            return future.result()
        except BaseException:  # such as KeyboardInterrupt: the call is cancelled, which keeps the session
            future.cancel()
            raise
