"""The packages of a session: those it has, those that take effect at the next reset, and those that are missing."""

from __future__ import annotations

import logging
import re
from collections.abc import Awaitable, Callable, Collection, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import anyio
from packaging.utils import canonicalize_name

from ..engine import PACKAGES, Report
from ..errors import AgentRunError, InstallError, InvalidRequestError, UnavailableError
from ..packages.installer import PATIENCE_SECONDS, Installed, Installer
from ..packages.known import WELL_KNOWN
from ..packages.names import distribution_of
from ..packages.policy import combine, is_satisfied, parse_requirements
from ..settings import Settings
from .advice import NameKind
from .observer import InstallDone, Observer, observed
from .result import KEEPING_RESET

__all__ = ["AutoInstall", "PackageLocation", "SessionPackages"]

logger = logging.getLogger(__name__)

_NOTHING = Installed("", (), ())


@dataclass(frozen=True)
class PackageLocation:
    """Where the interpreter finds the session's packages."""

    path: str | None
    """A folder in the container. None if the session has only the image's packages."""
    no_preload: bool
    """Whether they replace packages of the image, so that workers must not import these in advance."""


@dataclass(frozen=True)
class AutoInstall:
    """The result of installing what code imports."""

    installed: Installed | None = None
    problem: str | None = None
    """Why something could not be installed, if so."""


class SessionPackages:
    """The packages of one session. Only the call that has the turn may use the methods, except `preinstall`.

    :param sandbox: id of the sandbox.
    """

    def __init__(self, installer: Installer, settings: Settings, sandbox: str) -> None:
        self.policy = installer.policy
        self.principal = ""
        """The client, for fair scheduling of installations among clients."""
        self.observer: Observer | None = None
        """Receives what is done in the sandbox; installations that no caller has requested are reported here."""
        self.image: Mapping[str, str] = {}
        """Version by name of the image's distributions."""
        self.loaded_modules: Collection[str] = frozenset()
        """Top-level modules of the session's and the image's packages that the interpreter has loaded."""
        self._installer = installer
        self._settings = settings
        self._sandbox = sandbox
        self._own: Installed | None = None
        """Packages of this session. None if it has only those that all sandboxes share."""
        self._pending: Installed | None = None
        """Packages that replace `_own` at the next reset, if any."""
        self._shared: Installed | None = None
        self._sharing = anyio.Lock()
        self._requirements: tuple[str, ...] = ()
        self._unreported: list[str] = []
        self.is_preinstalled = not settings.packages.preinstall

    @property
    def location(self) -> PackageLocation:
        """Where the interpreter finds them now."""
        active = self._active
        if active is None or not active.folder:
            return PackageLocation(None, no_preload=False)
        return PackageLocation(f"{PACKAGES}/{active.folder}", no_preload=bool(active.replaced))

    def pop_missing_packages(self) -> str | None:
        """Return sentences about packages that should be there but could not be installed, and forget them."""
        problems, self._unreported = self._unreported, []
        return " ".join(problems) or None

    async def preinstall(self, report: Report) -> None:
        """Install the packages of the setting ``preinstall``, unless that was tried before."""
        async with self._sharing:
            if not self.is_preinstalled:
                try:
                    self._shared = await self._installer.preinstalled(self._sandbox, report)
                except AgentRunError as error:
                    self._record_problem(f"{self._preinstalled_names()} could not be installed: {error}")
                self.is_preinstalled = True

    async def install(
        self, wanted: Sequence[str], report: Report | None, *, patience: float = PATIENCE_SECONDS
    ) -> Installed:
        """Install *wanted*, unless all of it is installed.

        :param patience: longest wait for the installer, in seconds.
        """
        have = self._versions_with_image()
        if not all(item in self._requirements or is_satisfied(item, have) for item in wanted):
            return await self._install(wanted, report, patience)
        there = tuple((name, have[name]) for name in sorted(_names_of(wanted)) if name in have)
        return replace(_NOTHING, satisfied=there, needs_reset=self._needing_reset(self._pending or self._active))

    async def restore(self, report: Report | None) -> None:
        """Reinstall packages that were removed from the volume. Those that can't be reinstalled are recorded."""
        if self._own is not None and self._own.folder:
            try:
                if not await self._has_packages(self._own.folder):
                    await self._observed(
                        "restore", self._requirements, partial(self._install, (), report, PATIENCE_SECONDS)
                    )
                    self._activate_pending()  # the previous packages do not exist any more
            except (InstallError, InvalidRequestError, UnavailableError) as error:
                names = ", ".join(self._requirements)
                self._record_problem(f"The installed packages are gone, and {names} could not be reinstalled: {error}")
                self._own, self._pending, self._requirements = None, None, ()
        if self._own is None and self._shared is not None:
            try:
                with _deferring_errors(report) as tell:
                    self._shared = await self._installer.preinstalled(self._sandbox, tell)
            except (InstallError, UnavailableError) as error:
                self._shared = None
                self._record_problem(f"{self._preinstalled_names()} is gone and could not be reinstalled: {error}")

    async def _has_packages(self, folder: str) -> bool:
        """Return whether *folder* exists. If the engine fails, which is recorded, the next call asks again.

        :raises InstallError: the sandbox can't have so much.
        """
        try:
            return await self._installer.has_packages(self._sandbox, folder)
        except UnavailableError as error:
            self._record_problem(str(error))
            return True

    async def install_missing(
        self, modules: Iterable[str], requirements: Sequence[str], report: Report | None, *, patience: float
    ) -> AutoInstall:
        """Install what code needs, as far as policy allows: the *modules* that it imports, and the *requirements* of
        its ``pip install`` commands.
        """
        installed, problem = None, None
        if requirements:
            try:
                install = partial(self._install_requested, requirements, report, patience)
                installed = await self._observed("code", requirements, install)
            except (InstallError, InvalidRequestError, UnavailableError) as error:
                self._record_problem(f"{', '.join(requirements)} could not be installed: {error}")
        have = self._versions_with_image()
        wanted = self.policy.auto_installable(list(modules), self._settings.packages.auto_install)
        wanted = tuple(name for name in wanted if name not in have)
        if wanted:
            try:
                more = await self._observed("code", wanted, partial(self._install, wanted, report, patience))
                before = installed.packages if installed is not None else ()
                installed = replace(more, packages=(*before, *more.packages))
            except (InstallError, InvalidRequestError, UnavailableError) as error:
                problem = f"{', '.join(wanted)} could not be installed: {error}"
        return AutoInstall(installed, problem)

    def advise(self, name: str, kind: NameKind, *, problem: str | None) -> str | None:
        """Return how to install something that code needs, or None if it is installed or unknown.

        :param problem: why it could not be installed automatically.
        """
        distribution = distribution_of(name)
        if self._pending is not None and distribution in dict(self._pending.packages):
            return f"{name!r} is installed, and can be imported after {KEEPING_RESET}."
        if kind == "module":
            return problem or self.policy.advice(name)
        is_there = distribution in self._versions_with_image()
        if is_there or (kind == "perhaps" and distribution not in WELL_KNOWN):
            return None
        return self.policy.advice(name, "package")

    def set_loaded_modules(self, loaded: Collection[str]) -> None:
        """Set the modules that the interpreter has loaded. Pending packages take effect if these permit it."""
        self.loaded_modules = loaded
        if self._pending is not None and not self._needing_reset(self._pending):
            self._activate_pending()

    def before_reset(self, *, keep: bool) -> PackageLocation:
        """Return where the interpreter will find the packages after a reset."""
        if keep:
            self._activate_pending()
            return self.location
        shared = self._shared
        return PackageLocation(None, no_preload=shared is not None and bool(shared.replaced))

    def after_reset(self, *, keep: bool) -> None:
        """The interpreter was reset. Remove the session's own packages, unless they are to be kept."""
        if not keep and self._requirements:
            self._own, self._pending, self._requirements = None, None, ()
            self._installer.remove_packages(self._sandbox)

    def close(self) -> None:
        """Remove the session's packages."""
        self._installer.remove_packages(self._sandbox)

    async def _observed(
        self,
        cause: Literal["code", "restore"],
        requirements: Sequence[str],
        install: Callable[[], Awaitable[Installed]],
    ) -> Installed:
        installed: Installed | None = None
        with observed(
            self.observer,
            lambda timing: InstallDone(self._sandbox, timing, tuple(requirements), cause, installed),
        ):
            installed = await install()
            return installed

    async def _install_requested(
        self, requirements: Sequence[str], report: Report | None, patience: float
    ) -> Installed:
        """Install what code asks for by ``pip install``."""
        parsed = parse_requirements(requirements, urls=self.policy.urls)
        self.policy.check_requested(parsed)
        return await self.install(parsed, report, patience=patience)

    async def _install(self, wanted: Sequence[str], report: Report | None, patience: float) -> Installed:
        """Install *wanted* together with the installed packages. Return what changed."""
        everything = combine(self._requirements or (self._settings.packages.preinstall if self._shared else ()), wanted)
        before = dict(self._latest.packages)
        loaded = self.loaded_modules
        with _deferring_errors(report) as tell:
            installed = await self._installer.install(
                self._sandbox, everything, before=before, report=tell, principal=self.principal, patience=patience
            )
            self._requirements = everything
            needs_reset = self._needing_reset(installed)
            if needs_reset:
                self._pending = installed
            else:
                self._own, self._pending = installed, None
        had = {**{name: self.image[name] for name in installed.replaced if name in self.image}, **before}
        return _difference(installed, had, before, _names_of(wanted), loaded=loaded, needs_reset=needs_reset)

    def _needing_reset(self, installed: Installed | None) -> tuple[str, ...]:
        """Return names of the image's packages of which *installed* has another version than the loaded one."""
        now, then = self._active or _NOTHING, installed or _NOTHING
        before, after = dict(now.packages), dict(then.packages)
        modules = {**now.modules, **then.modules}
        return tuple(
            name
            for name in sorted({*now.replaced, *then.replaced})
            if before.get(name) != after.get(name)
            and not frozenset(modules.get(name, ())).isdisjoint(self.loaded_modules)
        )

    def _activate_pending(self) -> None:
        if self._pending is not None:
            self._own, self._pending = self._pending, None

    def _preinstalled_names(self) -> str:
        names = ", ".join(self._settings.packages.preinstall)
        return f"Of the packages that this server's sandboxes should come with, {names}"

    def _record_problem(self, problem: str) -> None:
        logger.warning("%s", problem)
        self._unreported.append(problem)

    @property
    def _active(self) -> Installed | None:
        return self._own or self._shared

    @property
    def _latest(self) -> Installed:
        """The packages after the next reset."""
        return self._pending or self._active or _NOTHING

    def _versions_with_image(self) -> dict[str, str]:
        return {**self.image, **dict(self._latest.packages)}


def _difference(
    installed: Installed,
    had: Mapping[str, str],
    before: Mapping[str, str],
    asked: set[str],
    *,
    loaded: Collection[str],
    needs_reset: tuple[str, ...],
) -> Installed:
    """Return *installed* reduced to what it changed.

    :param had: version by name of the earlier packages, including the image's that were replaced.
    :param before: the same without the image's.
    """
    changed = tuple(
        (name, had[name], version) for name, version in installed.packages if had.get(name, version) != version
    )
    new = tuple((name, version) for name, version in installed.packages if before.get(name) != version)
    kept = tuple(item for item in installed.packages if item not in new)
    there = (item for item in (*installed.satisfied, *kept) if item[0] in asked)
    has = {name for name, _ in (*installed.packages, *installed.satisfied)}
    removed = tuple((name, version) for name, version in before.items() if name not in has)
    stale = tuple(name for name, _, _ in changed if not set(installed.modules.get(name, ())).isdisjoint(loaded))
    return replace(
        installed,
        packages=new,
        satisfied=tuple(sorted(there)),
        skipped=tuple(sorted(asked - has)),
        removed=removed,
        changed=changed,
        stale=() if needs_reset else stale,
        needs_reset=needs_reset,
    )


def _names_of(requirements: Iterable[str]) -> set[str]:
    return {canonicalize_name(re.split(r"[^\w.-]", item)[0]) for item in requirements}


@contextmanager
def _deferring_errors(report: Report | None) -> Generator[Report]:
    """Yield a report for work that other sandboxes share. Errors that *report* raises are raised at the end."""
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
