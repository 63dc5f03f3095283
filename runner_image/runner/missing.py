"""Which modules that code imports can't be found where it will look for them.

PID 1 decides this: it only lists folders, imports nothing, and asks once for each name.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterable

WORKSPACE = "/workspace"
IMAGE = "{}/lib/python{}.{}/site-packages".format(os.path.dirname(os.path.dirname(sys.executable)), *sys.version_info)
"""PID 1 runs without `site`, which would know."""

_MOST = 50
_LONGEST = 100


class Modules:
    """Known modules, and those that were requested already."""

    def __init__(self) -> None:
        self._image: frozenset[str] | None = None
        self._packages: tuple[str | None, frozenset[str]] = (None, frozenset())
        self._asked: set[str] = set()

    def forget(self) -> None:
        """Forget which names were requested, because a new session may ask again."""
        self._asked.clear()

    def missing(self, names: Iterable[str], packages: str | None) -> list[str]:
        """Those of *names*, top-level modules, that are neither Python's own nor in the image, the session's folder of
        *packages* or its workspace, and that have not been asked for yet.
        """
        unknown = [name for name in names if name not in sys.stdlib_module_names and name not in self._asked]
        if not unknown:
            return []
        if self._image is None:
            self._image = _modules_in(IMAGE) | {"__main__"}
        if packages != self._packages[0]:
            self._packages = (packages, _modules_in(packages) if packages else frozenset())
        found = [
            name
            for name in dict.fromkeys(unknown)
            if name not in self._image
            and name not in self._packages[1]
            and len(name) <= _LONGEST
            and not _is_in_workspace(name)
        ][:_MOST]
        self._asked.update(found)
        return found


def distributions() -> list[tuple[str, str]]:
    """Name and version of what the image carries, by the folders that installers leave."""
    found: list[tuple[str, str]] = []
    for entry in os.listdir(IMAGE):
        name, dash, version = entry.removesuffix(".dist-info").rpartition("-")
        if dash and entry.endswith(".dist-info"):
            found.append((name, version))
    return found


def _modules_in(folder: str) -> frozenset[str]:
    """Return names that may be importable from *folder*, possibly too many."""
    with contextlib.suppress(OSError):
        return frozenset(entry.partition(".")[0] for entry in os.listdir(folder))
    return frozenset()


def _is_in_workspace(name: str) -> bool:
    try:
        return any(os.path.lexists(f"{WORKSPACE}/{name}{ending}") for ending in ("", ".py", ".pyc", ".so"))
    except ValueError:  # a NUL or a lone surrogate: no module's name
        return True
