"""Results for users of the library: of an installation, and of a look at the cache."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["Cache", "Installed"]


@dataclass(frozen=True)
class Installed:
    """The result of an installation, as `Sandbox.install` returns it::

        installed = sandbox.install("requests>=2")
        installed.packages  # (("certifi", "2026.1.1"), ..., ("requests", "2.33.0"), ...)

    Names are normalised: lower case with hyphens. The *image* contains the packages of a new sandbox.
    """

    folder: str
    """Folder with the sandbox's packages, below the package volume; empty if the image has all of them."""
    packages: tuple[tuple[str, str], ...]
    """Name and version of each package that was installed, dependencies included. `Sandbox.install` leaves out those
    that the sandbox already had in that version."""
    satisfied: tuple[tuple[str, str], ...]
    """Name and version of each requested package that was already installed."""
    skipped: tuple[str, ...] = ()
    """Names of requested packages whose environment markers do not apply."""
    removed: tuple[tuple[str, str], ...] = ()
    """Name and version of each package that was removed, because nothing requires it any more."""
    changed: tuple[tuple[str, str, str], ...] = ()
    """Name, previous version and new version of each package that was upgraded or downgraded."""
    replaced: tuple[str, ...] = ()
    """Names of the image's packages that the sandbox now has in another version."""
    modules: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    """Top-level modules by package name, of packages in `changed` and `replaced`."""
    stale: tuple[str, ...] = ()
    """Names of packages in `changed` that were already imported: the old version stays in use until a reset."""
    needs_reset: tuple[str, ...] = ()
    """Names of the image's packages that were already imported in another version. If there are any, the installation
    takes effect only after a reset that keeps packages."""
    notes: tuple[str, ...] = ()
    """Why packages are not in their newest versions, a sentence each."""
    missing_packages: str | None = None
    """Packages that the sandbox should have but could not install, and why; None if there are none. Reported once."""

    @property
    def needs(self) -> Mapping[str, str]:
        """What packages in `packages` need for their main purpose and no sandbox has, such as a browser, by name."""
        from .known import UNMET_NEEDS

        return {name: UNMET_NEEDS[name] for name, _ in self.packages if name in UNMET_NEEDS}


@dataclass(frozen=True)
class Cache:
    """The cache of downloaded packages, which all sandboxes of an engine share::

    with Runtime() as runtime:
        runtime.cache(clear=True).size
    """

    size: int
    """Size on disk, in bytes."""
    packages: tuple[tuple[str, float], ...]
    """Name of each cached package, and when it was last used, in seconds since the epoch."""
    is_busy: bool = False
    """Whether part of the cache could not be cleared, because an installation was using it."""
