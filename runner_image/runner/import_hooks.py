"""Patches for third-party modules, applied when they are imported.

The loader of such a module gets a method of the runner's for one call. `sys.meta_path` stays as it is, and tracebacks
treat the method as a part of the import system, whose frames Python leaves out.
"""

from __future__ import annotations

import contextlib
import sys

from .prelude import TYPE_CHECKING, __builtins__

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    Change = Callable[[Any], None]

_suppress = contextlib.suppress


def change_when_imported(changes: Mapping[str, Change]) -> None:
    """Call each of *changes* with the module of that name: now, or whenever it is imported."""
    for name, change in changes.items():
        module = sys.modules.get(name)
        if module is not None:
            with _suppress(Exception):  # of a version that has not what is to be changed
                change(module)
    finder: Any = next(each for each in sys.meta_path if getattr(each, "__name__", "") == "PathFinder")
    find = finder.find_spec
    file_of_python = find.__func__.__code__.co_filename

    def find_spec(name: str, path: Any = None, target: Any = None) -> Any:
        spec = find(name, path, target)
        if name in changes and spec is not None and spec.loader is not None:
            spec.loader.exec_module = _changing(spec.loader, changes[name], file_of_python)
        return spec

    find_spec.__code__ = find_spec.__code__.replace(co_filename=file_of_python)
    finder.find_spec = find_spec


def _changing(loader: Any, change: Change, filename: str) -> Callable[[Any], None]:
    """How *loader* executes a module the next time: as ever, and then *change* is made."""

    def exec_module(module: Any) -> None:
        del loader.exec_module
        loader.exec_module(module)
        with _suppress(Exception):
            change(module)

    exec_module.__code__ = exec_module.__code__.replace(co_filename=filename)
    return exec_module
