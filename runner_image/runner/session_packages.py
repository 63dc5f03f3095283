"""The session's packages: on the path of its interpreter, and which of them it has imported."""

from __future__ import annotations

import importlib
import os
import sys
from contextlib import suppress

from mcp_agentrun.wire.messages import LONGEST_NAME, MOST_NAMES

from .prelude import TYPE_CHECKING, __builtins__

if TYPE_CHECKING:
    from typing import Any

# User code may replace any of these where they come from; the runner goes on with its own.
_listdir, _modules = os.listdir, sys.modules


class SessionPackages:
    """See the module."""

    def __init__(self) -> None:
        self._path: str | None = None
        self._own: frozenset[str] = frozenset()  # names that can be imported from the session's packages
        self._image = _modules_at(next((path for path in sys.path if path.endswith("site-packages")), None))
        """Names that can be imported from the image's packages."""
        self._imported: list[str] = []
        self._modules_seen = 0

    def use(self, path: str | None) -> bool:
        """Put the folder *path* between the standard library and the image's packages; returns whether it is new."""
        if path == self._path:
            return False
        self._modules_seen = 0
        self._own = _modules_at(path)
        before, self._path = self._path, path
        if before in sys.path:
            sys.path.remove(before)
        if path is not None:
            entries = enumerate(_objects(sys.path))
            images = (at for at, entry in entries if isinstance(entry, str) and entry.endswith("site-packages"))
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
            tops = {_top_level(name) for name in _objects(_modules) if type(name) is str}
            found = [name for name in tops & (self._own | self._image) if len(name) <= LONGEST_NAME]
            self._imported = found[:MOST_NAMES]
        return self._imported


def _modules_at(folder: str | None) -> frozenset[str]:
    """Return names that may be importable from *folder*, possibly too many."""
    with suppress(OSError):
        return frozenset([_top_level(entry) for entry in _listdir(folder)] if folder is not None else ())
    return frozenset()


def _top_level(entry: str) -> str:
    return entry.partition(".")[0]


def _set_first(variable: str, before: str | None, now: str | None) -> None:
    """Put the folder *now* before all others in a path *variable* of child processes, in the place of *before*."""
    with suppress(Exception):
        folders = [each for each in os.environ.get(variable, "").split(":") if each and each != before]
        os.environ[variable] = ":".join([*([now] if now else []), *folders])
        if not os.environ[variable]:
            del os.environ[variable]


def _objects(things: Any) -> list[Any]:
    return [*things]
