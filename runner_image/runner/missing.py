"""Which modules that code imports are missing.

PID 1 decides this: it only lists folders, imports nothing, and reports each name once.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable

from mcp_agentrun.wire.messages import LONGEST_NAME

from .session_packages import modules_at

WORKSPACE = "/workspace"
IMAGE = "{}/lib/python{}.{}/site-packages".format(os.path.dirname(os.path.dirname(sys.executable)), *sys.version_info)
"""PID 1 runs without `site`, which would know."""

_MOST = 50


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
        """Those of *names*, top-level modules, that are not in the standard library, the image, the session's folder of
        *packages* or its workspace, and that have not been requested yet.
        """
        unknown = [name for name in names if name not in sys.stdlib_module_names and name not in self._asked]
        if not unknown:
            return []
        if self._image is None:
            self._image = modules_at(IMAGE) | {"__main__"}
        if packages != self._packages[0]:
            self._packages = (packages, modules_at(packages))
        known = self._image | self._packages[1]
        new = (name for name in dict.fromkeys(unknown) if name not in known and len(name) <= LONGEST_NAME)
        found = [name for name in new if not _is_in_workspace(name)][:_MOST]
        self._asked.update(found)
        return found


def distributions() -> list[tuple[str, str]]:
    """Name and version of the image's packages."""
    found: list[tuple[str, str]] = []
    for entry in os.listdir(IMAGE):
        name, dash, version = entry.removesuffix(".dist-info").rpartition("-")
        if dash and entry.endswith(".dist-info"):
            found.append((name, version))
    return found


def _is_in_workspace(name: str) -> bool:
    try:
        return any(os.path.lexists(f"{WORKSPACE}/{name}{ending}") for ending in ("", ".py", ".pyc", ".so"))
    except ValueError:  # a NUL or a lone surrogate, which no module has in its name
        return True
