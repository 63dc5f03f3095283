"""The installer: one container for all sandboxes of a server, which has the network and never runs user code."""

from __future__ import annotations

import base64
import hashlib
import logging
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import unquote, urlsplit

import anyio

from ..engine import ContainerSpec, Engine, Report
from ..engine.link import Keeper, Link
from ..engine.network import NetworkSettings, redact
from ..errors import InstallError, InvalidRequestError, SandboxLostError, SettingsError, UnavailableError
from ..protocol import FrameError, Kind, decode_json
from ..settings import Settings
from .policy import Constraints, Policy, Rule, parse_requirements

__all__ = ["Cache", "Installed", "Installer", "policy_of"]

logger = logging.getLogger(__name__)

INSTALLER_UID = 10002
"""Owns the package volume; no sandbox ever runs under it."""

_FORGET_SECONDS = 20.0
_MEMORY = 1 << 30
_CHUNK = 2 << 20
_WHEELS = (".whl", ".tar.gz", ".zip")


@dataclass(frozen=True)
class Installed:
    """What an installation came to."""

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
    modules: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    """Top-level modules by name of what the sandbox had in another version."""
    stale: tuple[str, ...] = ()
    """Names of what has changed and has been imported before: that version stays in use until a reset."""
    lacking: str | None = None
    """What the sandbox lacks of what it should have, and why: in sentences, told once."""


@dataclass(frozen=True)
class Cache:
    """What the cache of downloaded packages holds."""

    size: int
    packages: tuple[tuple[str, float], ...]
    """Name, and when it was last used, in seconds since the epoch."""


def policy_of(settings: Settings) -> Policy:
    """The operator's rules.

    :raises SettingsError: one of them can't be understood, or the constraints file can't be read.
    """
    constraints = Constraints()
    if settings.packages_constraints is not None:
        try:
            constraints = Constraints.parse(settings.packages_constraints.read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise SettingsError(f"packages_constraints: the file can't be read: {error}") from None
    try:
        if settings.preinstall:
            parse_requirements(settings.preinstall, urls=settings.packages_urls)
    except InvalidRequestError as error:
        raise SettingsError(f"preinstall: {error}") from None
    if settings.wheelhouse is not None and not settings.wheelhouse.is_dir():
        raise SettingsError(f"wheelhouse: there is no folder {settings.wheelhouse}")
    return Policy(
        allow=tuple(Rule.parse(text) for text in settings.packages_allow),
        deny=tuple(Rule.parse(text) for text in settings.packages_deny),
        most=settings.packages_most,
        urls=settings.packages_urls,
        constraints=constraints,
        require_hashes=settings.packages_require_hashes,
    )


class Installer:
    """Installs packages for sandboxes, each into a folder of its own. Use as an async context manager.

    The container is started when first needed and ends with the manager.

    :param network: index, proxies and certificates with which packages are fetched.
    :raises SettingsError: the settings about packages can't be understood.
    """

    def __init__(self, engine: Engine, settings: Settings, network: NetworkSettings) -> None:
        self._engine = engine
        self._settings = settings
        self._network = network
        self.policy = policy_of(settings)
        self._turn = anyio.Lock()
        self._shared_id = secrets.token_hex(16)
        self._shared: Installed | None = None
        self._with_wheelhouse: Link | None = None
        self._stack = AsyncExitStack()
        self._served: set[str] = set()
        """Ids of the sandboxes that have something installed."""
        self._unwanted: set[str] = set()
        """Ids of those whose packages are still to be removed, by whoever has the next turn."""
        self._held: set[str] = set()
        """Ids of those whose packages the installer at the other end of `_link` keeps from being removed by others."""
        self._link: Link | None = None
        self._keeper: Keeper | None = None
        self._tasks: anyio.abc.TaskGroup | None = None

    async def __aenter__(self) -> Installer:
        self._tasks = await self._stack.enter_async_context(anyio.create_task_group())
        self._stack.callback(self._tasks.cancel_scope.cancel)
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
    ) -> Installed:
        """Resolve *requirements* together and make them available to *sandbox*, in a new folder: nothing that is in
        use is replaced. Cancelling stops the installer's work and leaves what was there.

        :param before: what the sandbox has, version by name; it stays in these versions as far as that is possible.
        :raises InvalidRequestError: the policy refuses what is asked for.
        :raises InstallError: they can't be resolved or fetched, in the resolver's own words.
        :raises UnavailableError: the installer could not be started, or was lost.
        """
        self.policy.judge_asked(self._asked(requirements))
        tell: Report = report or (lambda _: None)
        async with self._turn:
            return await self._install(sandbox, requirements, tell, before=before)

    async def preinstalled(self, report: Report | None = None) -> Installed | None:
        """What the operator wants every sandbox to have, in one folder for all; installed when first asked for.

        :raises InstallError: it can't be resolved or fetched.
        :raises UnavailableError: the installer could not be started, or was lost.
        """
        wanted = self._settings.preinstall
        if wanted and not await self._has_shared():
            async with self._turn:
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

    async def _living(self) -> Link:
        """The stream to the installer, and what that one holds noted; only who has the turn may use it."""
        link = await (await self._started()).connected()
        if link is not self._link:
            held = link.greeting.get("held")
            self._link, self._held = link, self._served.intersection(held if isinstance(held, list) else ())  # pyright: ignore
        return link

    async def cache(self, *, clear: bool = False) -> Cache:
        """What the cache holds, after removing it all if *clear*.

        :raises UnavailableError: the installer could not be started, or was lost.
        """
        async with self._turn:
            link = await self._connected()
            await link.send(Kind.CACHE, clear=clear)
            fields = await link.expect(Kind.CACHED)
            return Cache(int(fields["size"]), tuple((str(name), float(used)) for name, used in fields["packages"]))

    def _asked(self, requirements: Iterable[str]) -> list[str]:
        """Those that the operator has not asked for himself."""
        return [text for text in requirements if text not in self._settings.preinstall]

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
        link = await self._connected()
        try:
            with anyio.fail_after(self._settings.install_timeout):
                if self._settings.wheelhouse is not None and link is not self._with_wheelhouse:
                    await self._send_wheelhouse(link, self._settings.wheelhouse, tell)
                    self._with_wheelhouse = link
                await link.send(
                    Kind.INSTALL,
                    sandbox=sandbox,
                    requirements=list(requirements),
                    constraints=list(self.policy.limits()),
                    before=dict(before),
                    is_open=self.policy.is_open and not self._settings.packages_build,
                )
                installed = self._installed(await self._outcome(link, tell, requirements))
                if installed.folder:
                    self._held.add(sandbox)
                return installed
        except TimeoutError:
            await self._stop(link)
            raise InstallError(
                f"The installation did not end within {self._settings.install_timeout:g} s and was stopped."
            ) from None
        except SandboxLostError as error:
            raise self._lost(error) from error
        except OSError as error:  # in the middle of its copy, perhaps
            link.abandon("the wheelhouse can't be read")
            raise InstallError(f"This server's wheelhouse can't be read ({error.strerror}).") from error
        except anyio.get_cancelled_exc_class():
            with anyio.CancelScope(shield=True):
                await self._stop(link)
            raise

    def forget(self, sandbox: str) -> None:
        """Have removed what was installed for *sandbox*: as soon as the installer is free, but before it installs
        anything else, or when it is next started.
        """
        if sandbox not in self._served:
            return
        self._served.discard(sandbox)
        self._held.discard(sandbox)
        self._unwanted.add(sandbox)
        if self._tasks is not None:
            self._tasks.start_soon(self._remove_unwanted)

    async def _remove_unwanted(self) -> None:
        try:
            async with self._turn:
                if self._unwanted and self._keeper is not None and self._keeper.is_ready:
                    await self._connected()
        except UnavailableError as error:
            logger.warning("packages of a sandbox are left for the next installer to remove: %s", error)

    async def _connected(self) -> Link:
        """The stream to the installer, once it has removed what nobody wants any more; the caller has the turn."""
        link = await self._living()
        try:
            # The answer is waited for even where nobody wants it any more: who comes next finds the stream in order.
            with anyio.CancelScope(shield=True), anyio.fail_after(_FORGET_SECONDS):
                for sandbox in tuple(self._unwanted):
                    await link.send(Kind.FORGET, sandbox=sandbox)
                    await link.expect(Kind.FORGOTTEN)
                    self._unwanted.discard(sandbox)
        except TimeoutError:
            link.abandon("it did not remove packages in time")
            raise self._lost(link.reason) from None
        except SandboxLostError as error:
            raise self._lost(error) from error
        return link

    @staticmethod
    def _lost(reason: object) -> UnavailableError:
        return UnavailableError(f"The installer was lost ({reason}). Call again.")

    async def _started(self) -> Keeper:
        if self._tasks is None:
            raise RuntimeError("an Installer is used inside `async with`")
        if self._keeper is None:
            self._keeper = Keeper(self._engine, self._tasks, self._prepare, self._hello)
        return self._keeper

    async def _hello(self) -> dict[str, Any]:
        return {
            "index_url": self._network.index_url,
            "extra_index_urls": list(self._network.extra_index_urls),
            "proxies": dict(self._network.proxies),
            "ca_bundle": (self._network.ca_bundle or b"").decode("utf-8", "replace"),
            "options": {
                "offline": self._settings.offline,
                "exclude_newer": self._settings.packages_exclude_newer,
                "build": self._settings.packages_build,
                "download": self._settings.packages_download,
                "size": self._settings.packages_size,
                "cache_size": self._settings.cache_size,
            },
            "living": list(await self._engine.sandboxes()),
            "served": list(self._served),
        }

    async def _prepare(self, report: Report) -> ContainerSpec:
        image = await self._engine.ensure_image(report)
        return ContainerSpec(
            image=image,
            role="installer",
            sandbox="",
            user=f"{INSTALLER_UID}:{INSTALLER_UID}",
            memory=_MEMORY,
            cpus=max(1.0, self._settings.cpus),
            pids=256,
            open_files=4096,
            file_size=self._settings.packages_size,
            tmpfs={"/tmp": "rw,noexec,nosuid,nodev,size=256m,nr_inodes=65536,mode=1777"},  # noqa: S108
            network="none" if self._settings.offline else "bridge",
            packages_writable=True,
        )

    async def _outcome(self, link: Link, tell: Report, requirements: Sequence[str] = ()) -> dict[str, Any]:
        try:
            while True:
                kind, payload = await link.receive()
                fields = decode_json(payload)
                if kind is Kind.INSTALL_DONE:
                    return fields
                if kind is Kind.RESOLVED:
                    await self._approve(link, fields, requirements)
                else:
                    tell(self._without_secrets(str(fields.get("text", ""))))
        except (FrameError, KeyError, TypeError, ValueError, AttributeError) as error:
            link.abandon("the installer sent a malformed answer")
            raise SandboxLostError(link.reason) from error

    async def _approve(self, link: Link, fields: dict[str, Any], requirements: Sequence[str]) -> None:
        pins = {str(name): str(version) for name, version in fields["pins"].items()}
        refusal = self.policy.judge_resolved(self._asked(requirements), pins)
        hashes = {
            f"{name}=={version}": self.policy.constraints.hashes_of(name, version) for name, version in pins.items()
        }
        await link.send(Kind.APPROVED, refusal=refusal, hashes=hashes)

    async def _send_wheelhouse(self, link: Link, folder: Path, tell: Report) -> None:
        """Give the installer a copy of *folder*: over the stream, so that the engine may be on another machine."""
        files = await anyio.to_thread.run_sync(_wheels_in, folder)
        listing = "\n".join(f"{path.name} {size} {changed}" for path, size, changed in files)
        digest = hashlib.sha256(listing.encode("utf-8", "surrogateescape")).hexdigest()
        await link.send(Kind.WHEELS, digest=digest)
        if not (await link.expect(Kind.WHEELS))["wanted"]:
            return
        for path, _, _ in files:
            tell(f"copying {path.name} from the wheelhouse")
            chunks = _chunks(path)
            while chunk := await anyio.to_thread.run_sync(next, chunks, b""):
                await link.send(Kind.WHEEL, name=path.name, data=base64.b64encode(chunk).decode())
        await link.send(Kind.WHEEL, name="", data="")
        await link.expect(Kind.WHEELS)

    def _installed(self, fields: dict[str, Any]) -> Installed:
        if fields["error"] is not None:
            raise InstallError(self._without_secrets(fields["error"]))
        return Installed(
            fields["folder"],
            tuple((name, version) for name, version in fields["packages"]),
            tuple((name, version) for name, version in fields["satisfied"]),
            modules={str(name): tuple(map(str, modules)) for name, modules in fields["modules"].items()},
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

    async def _stop(self, link: Link) -> None:
        """Stop the current installation and take its answer, so that the next one finds the stream in order."""
        with anyio.move_on_after(_FORGET_SECONDS) as scope:
            try:
                await link.send(Kind.INSTALL_CANCEL)
                await self._outcome(link, lambda _: None)
            except SandboxLostError:
                return
        if scope.cancelled_caught:
            link.abandon("a stopped installation did not end")


def _wheels_in(folder: Path) -> list[tuple[Path, int, int]]:
    """The files to install from, their sizes and when they were changed."""
    files = sorted(path for path in folder.iterdir() if path.name.endswith(_WHEELS) and path.is_file())
    return [(path, (state := path.stat()).st_size, state.st_mtime_ns) for path in files]


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            yield chunk
