"""The installer: one container for all sandboxes of a server, which has the network and never runs user code."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any
from urllib.parse import unquote, urlsplit

import anyio
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from ..background import background_tasks, contained
from ..engine import ContainerSpec, Engine, Report
from ..engine.link import Keeper
from ..engine.network import NetworkSettings, redact
from ..errors import InstallError, InvalidRequestError, SandboxLostError, SettingsError, UnavailableError
from ..settings import Settings
from ..wire import messages
from .exchange import Exchange, Request
from .known import INSTEAD
from .pins import requirement_line
from .policy import Constraints, Policy, Rule, parse_requirements
from .turns import Turns
from .wheelhouse import WheelhouseCopy

__all__ = ["Cache", "Installed", "Installer", "policy_of"]

logger = logging.getLogger(__name__)

INSTALLER_UID = 10002
"""Owns the package volume and everything installed; no sandbox ever runs under it."""

PATIENCE_SECONDS = 45.0
"""How long an installation waits for its turn."""

_PLACES = 3
"""Installations at a time: as many as the installer has users to run uv as."""

_FORGET_SECONDS = 20.0
_CACHE_SECONDS = 180.0
_MEMORY = 1 << 30
_CAPABILITIES = ("CHOWN", "DAC_READ_SEARCH", "KILL", "SETGID", "SETUID")


@dataclass(frozen=True)
class Installed:
    """The result of an installation."""

    folder: str
    """Where the sandbox finds its packages, below the package volume; empty if the image has all that was asked."""
    packages: tuple[tuple[str, str], ...]
    """Name and version of all that is installed; what `Sandbox.install` answers has only what is new of it."""
    satisfied: tuple[tuple[str, str], ...]
    """Name and version of what was needed and is there already."""
    skipped: tuple[str, ...] = ()
    """Names of what was asked for and is not needed, because its marker does not apply."""
    removed: tuple[tuple[str, str], ...] = ()
    """Name and version of what the sandbox had and does not need any more."""
    changed: tuple[tuple[str, str, str], ...] = ()
    """Name, earlier and new version of what the sandbox had in another version."""
    replaced: tuple[str, ...] = ()
    """Names of what the image has in another version."""
    modules: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    """Top-level modules by name of what the sandbox had, or the image has, in another version."""
    stale: tuple[str, ...] = ()
    """Names of what has changed and has been imported before: that version stays in use until a reset."""
    waiting: tuple[str, ...] = ()
    """Names of what the interpreter has loaded in another version of the image's: until a reset, the session goes on
    with what it had, and nothing of this installation can be imported."""
    notes: tuple[str, ...] = ()
    """What holds back something that is not in its newest version, in sentences."""
    lacking: str | None = None
    """Packages the sandbox should have but could not install, and why. Reported once."""


@dataclass(frozen=True)
class Cache:
    """What the cache of downloaded packages holds."""

    size: int
    packages: tuple[tuple[str, float], ...]
    """Name, and when it was last used, in seconds since the epoch."""
    is_busy: bool = False
    """Whether a part could not be cleared, because an installation was using it."""


def policy_of(settings: Settings) -> Policy:
    """The operator's rules.

    :raises SettingsError: one of them can't be understood, or the constraints file can't be read.
    """
    constraints = Constraints()
    if settings.packages.constraints is not None:
        try:
            constraints = Constraints.parse(settings.packages.constraints.read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise settings.error("packages_constraints", f"the file can't be read: {error}") from None
    try:
        if settings.packages.preinstall:
            parse_requirements(settings.packages.preinstall, urls=settings.packages.urls)
    except InvalidRequestError as error:
        raise settings.error("preinstall", error) from None
    if settings.packages.wheelhouse is not None and not settings.packages.wheelhouse.is_dir():
        raise settings.error("wheelhouse", f"there is no folder {settings.packages.wheelhouse}")
    return Policy(
        allow=_rules(settings, "packages_allow", settings.packages.allow),
        deny=_rules(settings, "packages_deny", settings.packages.deny),
        most=settings.packages.most,
        urls=settings.packages.urls,
        constraints=constraints,
        require_hashes=settings.packages.require_hashes,
    )


def _rules(settings: Settings, name: str, texts: Iterable[str]) -> tuple[Rule, ...]:
    try:
        return tuple(map(Rule.parse, texts))
    except SettingsError as error:
        raise settings.error(name, error) from None


class Installer:
    """Installs packages for sandboxes, each into a folder of its own. Use as an async context manager.

    The container is started when first needed and ends with the manager. Several installations run at a time.

    :param network: index, proxies and certificates with which packages are fetched.
    :raises SettingsError: the settings about packages can't be understood.
    """

    def __init__(self, engine: Engine, settings: Settings, network: NetworkSettings) -> None:
        self._engine = engine
        self._settings = settings
        self._network = network
        self.policy = policy_of(settings)
        self._turns = Turns(_PLACES)
        self._connecting = anyio.Lock()
        self._sharing = anyio.Lock()
        self._shared_id = secrets.token_hex(16)
        self._shared: Installed | None = None
        self._copy: WheelhouseCopy | None = None
        self._stack = AsyncExitStack()
        self._served: set[str] = set()
        """Ids of the sandboxes that have something installed."""
        self._unwanted: set[str] = set()
        """Ids of those whose packages are still to be removed."""
        self._held: set[str] = set()
        """Ids of those whose packages the installer at the other end keeps from being removed by others."""
        self._exchange: Exchange | None = None
        self._keeper: Keeper | None = None
        self._tasks: anyio.abc.TaskGroup | None = None

    async def __aenter__(self) -> Installer:
        self._tasks = await self._stack.enter_async_context(background_tasks())
        return self

    async def __aexit__(self, *exc_info: Any) -> bool | None:
        if self._shared is not None and self._shared.folder:
            self._unwanted.add(self._shared_id)
        with anyio.CancelScope(shield=True), anyio.move_on_after(_FORGET_SECONDS):
            await self._remove_unwanted()
        try:
            return await self._stack.__aexit__(*exc_info)
        finally:
            self._tasks = None

    async def install(
        self,
        sandbox: str,
        requirements: Sequence[str],
        *,
        before: Mapping[str, str] = MappingProxyType({}),
        report: Report | None = None,
        principal: str = "",
        patience: float = PATIENCE_SECONDS,
    ) -> Installed:
        """Resolve *requirements* together and make them available to *sandbox*, in a new folder: nothing that is in
        use is replaced. Cancelling stops the installer's work and leaves what was there.

        :param before: what the sandbox has, version by name; it stays in these versions as far as that is possible.
        :param principal: for whom; where several wait, the one with the fewest installations under way is next.
        :param patience: how long to wait for a turn, in seconds.
        :raises InvalidRequestError: the policy refuses what is asked for.
        :raises InstallError: they can't be resolved or fetched, in the resolver's own words.
        :raises UnavailableError: the installer could not be started, is busy, or was lost.
        """
        self.policy.judge_asked(self._asked(requirements))
        try:
            async with self._turns.turn(principal, patience):
                return await self._install(sandbox, requirements, report or (lambda _: None), before=before)
        except TimeoutError:
            raise UnavailableError("The installer is busy. Call again in a minute.") from None

    async def preinstalled(self, report: Report | None = None) -> Installed | None:
        """Return the packages that every sandbox has (`preinstall`), installed on first use.

        :raises InstallError: it can't be resolved or fetched.
        :raises UnavailableError: the installer could not be started, or was lost.
        """
        wanted = self._settings.packages.preinstall
        if wanted and not await self._has_shared():
            async with self._sharing:
                if not await self._has_shared():
                    self._shared = await self._install(self._shared_id, wanted, report or (lambda _: None))
        return self._shared

    async def _has_shared(self) -> bool:
        return self._shared is not None and (not self._shared.folder or await self.holds(self._shared_id))

    async def holds(self, sandbox: str) -> bool:
        """Whether what was installed for *sandbox* is certainly or, where no installer can be asked, probably there.

        Another server's installer may have removed it while there was neither a container of the sandbox's nor an
        installer of ours, both of which go with the engine.
        """
        try:
            await self._living()
        except UnavailableError as error:
            logger.warning("packages of a sandbox can't be looked for: %s", error)
            return True
        return sandbox in self._held

    async def _living(self) -> Exchange:
        """The exchange with the living installer, and what that one holds noted."""
        if self._tasks is None:
            raise RuntimeError("an Installer is used inside `async with`")
        if self._keeper is None:
            self._keeper = Keeper(self._engine, self._tasks, self._prepare, self._hello, messages.InstallerReady)
        link = await self._keeper.connected()
        if self._exchange is None or self._exchange.link is not link:
            assert isinstance(link.greeting, messages.InstallerReady)
            self._held = self._served.intersection(link.greeting.held)
            self._exchange = Exchange(link)
            self._tasks.start_soon(contained, self._exchange.serve)
        return self._exchange

    async def cache(self, *, clear: bool = False) -> Cache:
        """What the cache holds, after removing it all if *clear*.

        :raises UnavailableError: the installer could not be started, does not answer, or was lost.
        """
        exchange = await self._connected()
        try:
            with exchange.request() as request:
                await request.send(messages.DescribeCache(request=request.number, clear=clear))
                answer = await request.expect(messages.Cache, within=_CACHE_SECONDS)
            return Cache(answer.size, answer.packages, answer.busy > 0)
        except SandboxLostError as error:
            raise self._lost(error) from error

    def _asked(self, requirements: Iterable[str]) -> list[str]:
        """Those that the operator has not asked for himself."""
        return [text for text in requirements if text not in self._settings.packages.preinstall]

    async def _install(
        self,
        sandbox: str,
        requirements: Sequence[str],
        tell: Report,
        *,
        before: Mapping[str, str] = MappingProxyType({}),
    ) -> Installed:
        tell("starting the installer")
        self._served.add(sandbox)
        exchange = await self._connected()
        limit = self._settings.packages.install_timeout
        try:
            with anyio.fail_after(limit):
                await self._provide_wheelhouse(exchange, tell)
                with exchange.request() as request:
                    await self._begin(request, sandbox, requirements, before)
                    try:
                        done = await self._outcome(request, tell, sandbox, requirements)
                    except BaseException:
                        with anyio.CancelScope(shield=True):
                            await self._stop(request, sandbox)
                        raise
        except TimeoutError:
            raise InstallError(f"The installation took longer than {limit:g} s and was stopped.") from None
        except SandboxLostError as error:
            raise self._lost(error) from error
        installed = self._installed(done, requirements)
        if installed.folder:
            self._held.add(sandbox)
        return installed

    async def _begin(
        self, request: Request, sandbox: str, requirements: Sequence[str], before: Mapping[str, str]
    ) -> None:
        sources = messages.Sources(
            index_url=self._network.index_url,
            extra_index_urls=tuple(self._network.extra_index_urls),
            proxies=dict(self._network.proxies),
        )
        await request.send(
            messages.Install(
                request=request.number,
                sandbox=sandbox,
                requirements=tuple(requirements),
                constraints=self.policy.limits(),
                before=dict(before),
                is_open=self.policy.is_open,
                sources=sources,
            )
        )

    def forget(self, sandbox: str) -> None:
        """Have removed what was installed for *sandbox*: now, or when the installer is next started, but before
        anything else is installed for it.
        """
        if sandbox not in self._served:
            return
        self._served.discard(sandbox)
        self._held.discard(sandbox)
        self._unwanted.add(sandbox)
        if self._tasks is not None:
            self._tasks.start_soon(contained, self._remove_unwanted)

    async def _remove_unwanted(self) -> None:
        try:
            if self._unwanted and self._keeper is not None and self._keeper.is_ready:
                await self._connected()
        except UnavailableError as error:
            logger.warning("packages of a sandbox are left for the next installer to remove: %s", error)

    async def _connected(self) -> Exchange:
        """The exchange with the installer, once that one has removed what nobody wants any more."""
        async with self._connecting:
            exchange = await self._living()
            try:
                for sandbox in tuple(self._unwanted):
                    with exchange.request() as request:
                        await request.send(messages.Forget(request=request.number, sandbox=sandbox))
                        answer = await request.expect(messages.Forgotten, within=_FORGET_SECONDS)
                        if answer.sandbox != sandbox:
                            request.fail("it removed the packages of another sandbox")
                    self._unwanted.discard(sandbox)
            except SandboxLostError as error:
                raise self._lost(error) from error
            return exchange

    @staticmethod
    def _lost(reason: object) -> UnavailableError:
        return UnavailableError(f"The installer was lost ({reason}). Call again.")

    async def _hello(self) -> messages.InstallerHello:
        limits = messages.Limits(
            offline=self._settings.packages.offline,
            exclude_newer=self._settings.packages.exclude_newer,
            build=self._settings.packages.build,
            download=self._settings.packages.download,
            size=self._settings.packages.size,
            files=self._settings.packages.files,
            cache_size=self._settings.packages.cache_size,
        )
        return messages.InstallerHello(
            version=messages.VERSION,
            ca_bundle=(self._network.ca_bundle or b"").decode("utf-8", "replace"),
            limits=limits,
            living=tuple(await self._engine.sandboxes()),
            served=tuple(self._served),
        )

    async def _prepare(self, report: Report) -> ContainerSpec:
        image = await self._engine.ensure_image(report)
        own = f"noexec,nosuid,nodev,mode=0711,uid={INSTALLER_UID},gid={INSTALLER_UID}"
        return ContainerSpec(
            image=image,
            role="installer",
            sandbox="",
            user="0:0",
            capabilities=_CAPABILITIES,
            memory=_MEMORY,
            cpus=max(1.0, self._settings.limits.cpus),
            pids=512,
            open_files=4096,
            file_size=self._settings.packages.size,
            tmpfs={"/tmp": f"rw,size=256m,nr_inodes=1m,{own}", "/dev/shm": f"rw,size=4k,nr_inodes=2,{own}"},  # noqa: S108
            network="none" if self._settings.packages.offline else "bridge",
            packages_writable=True,
        )

    async def _outcome(
        self, request: Request, tell: Report, sandbox: str, requirements: Sequence[str] = ()
    ) -> messages.InstallDone:
        while True:
            answer = await request.receive()
            if isinstance(answer, messages.InstallDone):
                if answer.sandbox != sandbox or answer.folder.split("/")[1:2] not in ([], [sandbox]):
                    request.fail("it installed for another sandbox")
                return answer
            if isinstance(answer, messages.Resolved):
                await self._approve(request, answer.pins, requirements)
            elif isinstance(answer, messages.InstallProgress):
                tell(self._without_secrets(answer.text))
            else:
                request.fail("it sent an answer to another question")

    async def _approve(self, request: Request, pins: Mapping[str, str], requirements: Sequence[str]) -> None:
        refusal = self.policy.judge_resolved(self._asked(requirements), pins)
        hashes = {
            requirement_line(name, version): self.policy.constraints.hashes_of(name, version)
            for name, version in pins.items()
        }
        await request.send(messages.Approved(request=request.number, refusal=refusal, hashes=hashes))

    async def _provide_wheelhouse(self, exchange: Exchange, tell: Report) -> None:
        """Wait until the installer has a copy of the operator's wheelhouse.

        :raises InstallError: the folder can't be read.
        """
        folder = self._settings.packages.wheelhouse
        if folder is None or self._tasks is None:
            return
        if self._copy is None or self._copy.exchange is not exchange:
            self._copy = WheelhouseCopy(exchange, folder)
            self._tasks.start_soon(contained, self._copy.make)
        await self._copy.wait(tell)

    def _installed(self, done: messages.InstallDone, requirements: Iterable[str] = ()) -> Installed:
        if done.error is not None:
            names = {canonicalize_name(Requirement(text).name) for text in requirements if "wheels" in done.error}
            instead = (f" Instead of {name!r}, use {INSTEAD[name]}." for name in sorted(names & INSTEAD.keys()))
            raise InstallError(self._without_secrets(done.error) + "".join(instead))
        return Installed(
            done.folder,
            done.packages,
            done.satisfied,
            replaced=done.replaced,
            modules=done.modules,
            notes=tuple(map(self._without_secrets, done.notes)),
        )

    def _without_secrets(self, text: str) -> str:
        """*text* without the user names and passwords with which packages are fetched, in a URL or out of it."""
        text = redact(text)
        for url in (self._network.index_url or "", *self._network.extra_index_urls, *self._network.proxies.values()):
            parts = urlsplit(url) if "://" in url else urlsplit("//" + url)
            for secret in filter(None, (parts.password, parts.username if parts.password is None else None)):
                for form in {secret, unquote(secret)}:
                    text = text.replace(form, "***") if len(form) > 3 else text
        return text

    async def _stop(self, request: Request, sandbox: str) -> None:
        """Stop an installation and take its answer, so that none is left to be taken for another's. Where the
        installer is lost, there is none.
        """
        with anyio.move_on_after(_FORGET_SECONDS) as scope:
            try:
                await request.send(messages.InstallCancel(request=request.number))
                await self._outcome(request, lambda _: None, sandbox)
            except SandboxLostError:
                return
        if scope.cancelled_caught:
            request.abandon("a stopped installation did not end")
