"""The session's packages: on the path of its interpreter, and which of them it has imported."""

from __future__ import annotations

import importlib
import os
import sys
from contextlib import suppress
from os import listdir

from mcp_agentrun.wire.messages import LONGEST_NAME, MOST_NAMES

from .prelude import TYPE_CHECKING, __builtins__

if TYPE_CHECKING:
    from typing import Any

_modules: dict[Any, Any] = sys.modules


class SessionPackages:
    """The folder of the session's packages, and the modules of the session's and the image's packages."""

    def __init__(self) -> None:
        self._path: str | None = None
        self._own: frozenset[str] = frozenset()  # modules of the session's packages
        self._image = modules_at(next((path for path in sys.path if path.endswith("site-packages")), None))
        self._imported: list[str] = []
        self._modules_seen = 0

    def use(self, path: str | None) -> bool:
        """Put the folder *path* between the standard library and the image's packages; returns whether it is new."""
        if path == self._path:
            return False
        self._modules_seen = 0
        self._own = modules_at(path)
        before, self._path = self._path, path
        if before in sys.path:
            sys.path.remove(before)
        if path is not None:
            entries: list[Any] = sys.path
            images = (at for at, each in enumerate(entries) if isinstance(each, str) and each.endswith("site-packages"))
            sys.path.insert(next(images, len(sys.path)), path)
        _set_first("PYTHONPATH", before, path)
        _set_first("PATH", before and f"{before}/bin", path and f"{path}/bin")
        with suppress(Exception):  # finders can be the user's
            importlib.invalidate_caches()
        return True

    def has(self, module: str) -> bool:
        """Whether *module* can be imported from the session's packages."""
        return module in self._own

    def imported(self) -> list[str]:
        """The top-level modules of the session's and the image's packages that have been imported."""
        if len(_modules) != self._modules_seen:
            self._modules_seen = len(_modules)
            tops = {_top_level(name) for name in [*_modules] if type(name) is str}
            found = [name for name in tops & (self._own | self._image) if len(name) <= LONGEST_NAME]
            self._imported = found[:MOST_NAMES]
        return self._imported


def modules_at(folder: str | None) -> frozenset[str]:
    """Names that may be importable from *folder*, possibly too many."""
    with suppress(OSError):
        return frozenset([_top_level(entry) for entry in listdir(folder)] if folder is not None else ())
    return frozenset()


def _top_level(entry: str) -> str:
    return entry.partition(".")[0]


def _set_first(variable: str, before: str | None, now: str | None) -> None:
    """Replace the folder *before* with *now*, as the first one, in a path *variable* for child processes."""
    with suppress(Exception):
        folders = [each for each in os.environ.get(variable, "").split(":") if each and each != before]
        os.environ[variable] = ":".join([*([now] if now else []), *folders])
        if not os.environ[variable]:
            del os.environ[variable]
