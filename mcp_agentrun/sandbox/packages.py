"""The packages of one sandbox's session: what it has, what takes effect at the next reset, and what it is missing."""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import anyio
from packaging.utils import canonicalize_name

from ..engine import PACKAGES, Report
from ..errors import AgentRunError, InstallError, InvalidRequestError, UnavailableError
from ..packages.installer import PATIENCE_SECONDS, Installed, Installer
from ..packages.known import WELL_KNOWN
from ..packages.names import distribution_of
from ..packages.policy import combine, is_satisfied, parse_requirements
from ..settings import Settings
from .causes import NameKind
from .result import KEEPING_RESET

__all__ = ["AutoInstall", "PackageLocation", "SessionPackages"]

logger = logging.getLogger(__name__)

_NOTHING = Installed("", (), ())


@dataclass(frozen=True)
class PackageLocation:
    """Where the interpreter finds the session's packages."""

    path: str | None
    """A folder of the container; None for the image's packages alone."""
    no_preload: bool
    """Whether some of them replace packages of the image, which must not be preloaded then."""


@dataclass(frozen=True)
class AutoInstall:
    """What was installed because code imports it."""

    installed: Installed | None = None
    problem: str | None = None
    """Why something could not be installed."""


class SessionPackages:
    """What a session has installed. All methods but `preinstall` and `state` are called by whoever has the turn.

    :param sandbox: id of the sandbox.
    """

    def __init__(self, installer: Installer, settings: Settings, sandbox: str) -> None:
        self.policy = installer.policy
        self.principal = ""
        """For whom packages are installed: installations take turns fairly among principals."""
        self.image: Mapping[str, str] = {}
        """Version by name of the distributions of the image."""
        self.loaded_modules: Collection[str] = frozenset()
        """Top-level modules, of the session's packages and the image's, that the living interpreter has loaded."""
        self._installer = installer
        self._settings = settings
        self._sandbox = sandbox
        self._own: Installed | None = None
        """None where the session has no more than what all sandboxes share."""
        self._pending: Installed | None = None
        """What it has from the next reset on, if that differs."""
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
        """Packages it should have but could not install, and why: as sentences, each reported once."""
        problems, self._unreported = self._unreported, []
        return " ".join(problems) or None

    async def preinstall(self, report: Report) -> None:
        """Install what the operator wants every sandbox to have, if that has not been tried yet."""
        async with self._sharing:
            if not self.is_preinstalled:
                try:
                    self._shared = await self._installer.preinstalled(report)
                except AgentRunError as error:
                    self._record_problem(f"{self._preinstalled_names()} could not be installed: {error}")
                self.is_preinstalled = True

    async def install(
        self, wanted: Sequence[str], report: Report | None, *, patience: float = PATIENCE_SECONDS
    ) -> Installed:
        """Install *wanted*, unless all of it is there.

        :param patience: longest time to wait for the installer's turn, in seconds.
        """
        have = self._versions_with_image()
        if not all(item in self._requirements or is_satisfied(item, have) for item in wanted):
            return await self._install(wanted, report, patience)
        there = tuple((name, have[name]) for name in sorted(_names_of(wanted)) if name in have)
        return replace(_NOTHING, satisfied=there, needs_reset=self._needing_reset(self._pending or self._active))

    async def restore(self, report: Report | None) -> None:
        """Install again what has been removed from the volume. What can't be had again is reported."""
        if self._own is not None and self._own.folder and not await self._installer.has_packages(self._sandbox):
            try:
                await self._install((), report, PATIENCE_SECONDS)
                self._activate_pending()  # there is nothing to go on with: what it had is gone
            except (InstallError, InvalidRequestError, UnavailableError) as error:
                names = ", ".join(self._requirements)
                self._record_problem(f"The installed packages are gone, and {names} could not be reinstalled: {error}")
                self._own, self._pending, self._requirements = None, None, ()
        if self._own is None and self._shared is not None:
            try:
                with _deferring_errors(report) as tell:
                    self._shared = await self._installer.preinstalled(tell)
            except (InstallError, UnavailableError) as error:
                self._shared = None
                self._record_problem(f"{self._preinstalled_names()} is gone and could not be reinstalled: {error}")

    async def install_missing(
        self, modules: Iterable[str], requirements: Sequence[str], report: Report | None, *, patience: float
    ) -> AutoInstall:
        """Install what code needs to run, as far as policy allows: *modules* that it imports, and *requirements* that
        it asks for as `pip install` does.
        """
        installed, problem = None, None
        if requirements:
            try:
                parsed = parse_requirements(requirements, urls=self.policy.urls)
                self.policy.check_requested(parsed)
                installed = await self.install(parsed, report, patience=patience)
            except (InstallError, InvalidRequestError, UnavailableError) as error:
                self._record_problem(f"{', '.join(requirements)} could not be installed: {error}")
        have = self._versions_with_image()
        wanted = self.policy.auto_installable(list(modules), self._settings.packages.auto_install)
        wanted = tuple(name for name in wanted if name not in have)
        if wanted:
            try:
                more = await self._install(wanted, report, patience)
                before = installed.packages if installed is not None else ()
                installed = replace(more, packages=(*before, *more.packages))
            except (InstallError, InvalidRequestError, UnavailableError) as error:
                problem = f"{', '.join(wanted)} could not be installed: {error}"
        return AutoInstall(installed, problem)

    def advise(self, name: str, kind: NameKind, *, problem: str | None) -> str | None:
        """How to get what code is missing; None if it is there, or if nothing is known of it.

        :param problem: why it could not be installed for the code's imports.
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
        """The interpreter has loaded these modules. What was waiting for another interpreter takes effect if it can."""
        self.loaded_modules = loaded
        if self._pending is not None and not self._needing_reset(self._pending):
            self._activate_pending()

    def before_reset(self, *, keep: bool) -> PackageLocation:
        """Where the interpreter that a reset starts will find them."""
        if keep:
            self._activate_pending()
            return self.location
        shared = self._shared
        return PackageLocation(None, no_preload=shared is not None and bool(shared.replaced))

    def after_reset(self, *, keep: bool) -> None:
        """The interpreter has been replaced; unless kept, the session's own packages are removed."""
        if not keep and self._requirements:
            self._own, self._pending, self._requirements = None, None, ()
            self._installer.remove_packages(self._sandbox)

    def close(self) -> None:
        """Remove them: the sandbox has been closed."""
        self._installer.remove_packages(self._sandbox)

    async def _install(self, wanted: Sequence[str], report: Report | None, patience: float) -> Installed:
        """Install *wanted* together with what there is; return what that changed."""
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
        """Names of the image's packages that *installed* has in another version than the one that is loaded."""
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
        """What it has, or will have after a reset."""
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
    """*installed*, with only what it changed.

    :param had: versions by name of what was there, the image's replaced packages included; *before*: without those.
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
    """A report for work that other sandboxes share: what *report* raises is raised at the end."""
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
