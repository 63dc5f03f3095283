"""Patches for third-party modules, applied when they are imported.

The loader of such a module gets a method of the runner's for one call. `sys.meta_path` stays as it is, and tracebacks
leave the method out, like the rest of the import system.
"""

from __future__ import annotations

import sys
from contextlib import suppress

from .prelude import TYPE_CHECKING, __builtins__

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    Patch = Callable[[Any], None]


def patch_on_import(patches: Mapping[str, Patch]) -> None:
    """Call each of *patches* with the module of that name: now, or when it is imported."""
    for name, patch in patches.items():
        module = sys.modules.get(name)
        if module is not None:
            with suppress(Exception):  # another version may lack what is patched
                patch(module)
    finder: Any = next(each for each in sys.meta_path if getattr(each, "__name__", "") == "PathFinder")
    find = finder.find_spec
    file_of_python = find.__func__.__code__.co_filename

    def find_spec(name: str, path: Any = None, target: Any = None) -> Any:
        spec = find(name, path, target)
        if name in patches and spec is not None and spec.loader is not None:
            spec.loader.exec_module = _patching(spec.loader, patches[name], file_of_python)
        return spec

    find_spec.__code__ = find_spec.__code__.replace(co_filename=file_of_python)
    finder.find_spec = find_spec


def _patching(loader: Any, patch: Patch, filename: str) -> Callable[[Any], None]:
    """How *loader* executes a module the next time: as usual, and then *patch* is called."""

    def exec_module(module: Any) -> None:
        del loader.exec_module
        loader.exec_module(module)
        with suppress(Exception):
            patch(module)

    exec_module.__code__ = exec_module.__code__.replace(co_filename=filename)
    return exec_module
