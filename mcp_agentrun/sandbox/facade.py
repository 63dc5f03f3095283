"""The public API as coroutines: sandboxes, and the runtime that they share. `mcp_agentrun.blocking` has its twin."""

from __future__ import annotations

import math
import os
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeVar, cast

from ..background import background_tasks, log_errors
from ..engine import Engine, Report
from ..engine.network import NetworkSettings
from ..engine.registry import create_engine
from ..host_resources import HostResources
from ..packages.installer import Cache, Installer
from ..settings import Settings
from .capacity import Capacity
from .container import SandboxContainer
from .open_sandbox import OpenSandbox
from .opening import Opener, OpenOnce
from .pool import WarmPool

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from ..settings.options import AllOptions, Options

__all__ = ["AsyncRuntime", "AsyncSandbox", "shared_or_own"]

_Runtime = TypeVar("_Runtime")


def _settings(settings: Settings | None, options: Options, engine: object, runtime: str | None) -> Settings:
    given: dict[str, Any] = {**options}
    if isinstance(engine, str):
        given["engine"] = engine
    if runtime is not None:
        given["runtime"] = runtime
    if settings is not None and given:
        raise TypeError("give either settings or single options")
    return settings or Settings(**cast("AllOptions", given))


def shared_or_own(
    make: Callable[..., _Runtime],
    runtime: _Runtime | str | None,
    settings: Settings | None,
    engine: Engine | str | None,
    options: Options,
) -> _Runtime:
    """Return the *runtime* that a sandbox is given, or *make* one of its own. A string names the OCI runtime of that.

    :raises TypeError: settings are given for a runtime that has its own.
    """
    if runtime is None or isinstance(runtime, str):
        return make(settings, engine=engine, runtime=runtime, **options)
    if settings is not None or engine is not None or options:
        raise TypeError("a sandbox has the settings of its runtime: give either settings or a runtime")
    return runtime


class AsyncRuntime(OpenOnce):
    """What sandboxes share: the container engine, the image, the installer with its cache, and sandboxes that are kept
    ready. Use as a context::

        async with AsyncRuntime(memory="2g", pool=2) as runtime:
            async with runtime.sandbox() as one, runtime.sandbox() as other:
                await one.run("x = 1")

    :param settings: all settings, such as those that `load_settings` returns. Without them the defaults hold; the
        environment and the user's file are ignored.
    :param engine: where containers live, or the name of an engine; it is closed at the end.
    :param runtime: the OCI runtime, such as ``runsc``.
    :param pool: number of sandboxes that are kept ready, with the data packages imported, so that `sandbox` has one at
        once. Up to ``pool_max``, as many are kept as were opened in the last 30 seconds.
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
        runtime: str | None = None,
        pool: int = 0,
        package_network: NetworkSettings | None = None,
        host_resources: HostResources | None = None,
        **options: Unpack[Options],
    ) -> None:
        self.settings = _settings(settings, options, engine, runtime)
        self._host = host_resources or HostResources.from_settings(self.settings)
        self.engine = create_engine(self.settings) if engine is None or isinstance(engine, str) else engine
        package_network = package_network or NetworkSettings.from_environment(os.environ)
        self.installer = Installer(self.engine, self.settings, package_network)
        self._opener = Opener(self.container)
        if pool < 0:
            raise self.settings.error("pool", "must be 0 or more")
        self._pool = WarmPool(self._opener.open, Capacity(math.inf), pool, self.settings.serve.pool_max)

    async def _open(self, stack: AsyncExitStack) -> None:
        stack.push_async_callback(self.engine.aclose)
        await stack.enter_async_context(self.installer)
        if self._pool.maximum:
            await stack.enter_async_context(self._opener.running())
            tasks = await stack.enter_async_context(background_tasks())
            tasks.start_soon(log_errors, self._pool.run)

    @property
    def spares(self) -> int:
        """Number of sandboxes that are ready in the pool."""
        return self._pool.size

    def sandbox(self) -> AsyncSandbox:
        """A new sandbox, to be used as a context. It must end before the runtime does."""
        return AsyncSandbox(runtime=self)

    def container(self, settings: Settings | None = None) -> SandboxContainer:
        """A container for a sandbox, which is not running yet.

        :param settings: those of the runtime, if wanted with lower limits.
        """
        return SandboxContainer(self.engine, self.installer, settings or self.settings, self._host)

    @asynccontextmanager
    async def running_container(self) -> AsyncGenerator[SandboxContainer]:
        """A container for a sandbox, from the pool if one is ready there. Nothing of it is left at the end."""
        self._require_own()
        opened = self._pool.take() if self._pool.maximum else None
        if opened is None:
            container = self.container()
            async with container.running():
                yield container
        else:
            async with opened.until_closed():
                yield opened.container

    async def build(self, report: Report | None = None, *, refresh: bool = False) -> str:
        """Build the runner image, unless it is there, and return its name. Sandboxes do this by themselves.

        :param report: called with what is being done.
        :param refresh: build it anew, on the newest base, for its security updates.
        :raises ImageError: it can't be built; what there was is still there.
        """
        self._require_own()
        return await self.engine.ensure_image(report or (lambda _: None), refresh=refresh)

    async def cache(self, *, clear: bool = False) -> Cache:
        """What the cache of downloaded packages holds, after clearing it if *clear*.

        :raises UnavailableError: the installer could not be started.
        """
        self._require_own()
        return await self.installer.cache(clear=clear)


class AsyncSandbox(OpenOnce, OpenSandbox):
    """A private, living Python in a container of its own. Use as a context::

        async with AsyncSandbox() as sandbox:
            await sandbox.run("x = 41")
            print((await sandbox.run("x + 1")).text)  # 42

    The container is started in the background at once. It is replaced when it is lost, which the next result says.
    Calls queue; each sees what the ones before it have left. Runs on asyncio and on trio.

    :param settings: all settings; only without *runtime*.
    :param runtime: what it shares with other sandboxes; by default it has one of its own. A string names the OCI
        runtime of that one, such as ``runsc``.
    :param engine: see `AsyncRuntime`; only without *runtime*, as *options*.
    :param options: single settings, such as ``memory="2g"``.
    :raises SettingsError: a setting is unknown or invalid.
    """

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        runtime: AsyncRuntime | str | None = None,
        engine: Engine | str | None = None,
        **options: Unpack[Options],
    ) -> None:
        self._runtime = shared_or_own(AsyncRuntime, runtime, settings, engine, options)
        self._owns_runtime = self._runtime is not runtime
        OpenSandbox.__init__(self, self._runtime.container())

    async def _open(self, stack: AsyncExitStack) -> None:
        if self._owns_runtime:
            await stack.enter_async_context(self._runtime)
        container = await stack.enter_async_context(self._runtime.running_container())
        OpenSandbox.__init__(self, container)  # as new
