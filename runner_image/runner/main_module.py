"""The module ``__main__`` of a session, which looks to the code like that of a script."""

from __future__ import annotations

import builtins
import collections
import importlib
import linecache
import os
import sys
import types
from contextlib import suppress

from mcp_agentrun.wire.messages import Script

from . import tracebacks
from .prelude import Any, __builtins__

_Loader: Any = type(importlib.__spec__.loader)  # that of files  # pyright: ignore[reportUnknownVariableType]


class MainModule:
    """``__main__``, which replaces the runner's own."""

    def __init__(self) -> None:
        module = types.ModuleType("__main__")
        self.namespace = module.__dict__
        self._filename: str | None = None
        self._loader = _Loader("__main__", "")
        # As in a script, in that order.
        self.namespace.update(
            __loader__=self._loader, __annotations__={}, __builtins__=builtins, __file__=None, __cached__=None
        )
        sys.modules["__main__"] = module
        self._argv = sys.argv = [""]
        self._classes: dict[str, str] = {}  # by name of a class that a run has defined, the run's filename
        self._getfile_of_python: Any = None

    @property
    def is_script(self) -> bool:
        """Whether ``__file__`` was set by `set_source`, and not by user code."""
        return self.namespace.get("__file__") in (self._filename, None)

    def set_source(self, code: str, filename: str, lines: list[str], script: Script | None = None) -> None:
        """Let tracebacks, `inspect` and the code itself find what is run, as they find a script's file. ``sys.argv`` or
        ``__file__`` that user code has replaced is kept, unless a *script* is run.
        """

        def get_source(_name: str) -> str:
            return code

        with suppress(Exception):
            tracebacks.source = (len(code), None, _with_newline(lines), filename)
            linecache.cache[filename] = tracebacks.source
        if script is not None or getattr(sys, "argv", None) == self._argv:
            self._argv = sys.argv = [filename] if script is None else [*script.argv]
            sys.orig_argv = [sys.executable, "-u", *self._argv]
        if script is not None and not script.is_file:
            self.namespace.pop("__file__", None)
            self._filename = None
        elif script is not None or self.namespace.get("__file__") == self._filename:
            self.namespace["__file__"] = self._filename = filename
        self.namespace["__doc__"] = None
        self._loader.path = filename
        self._loader.get_source = get_source
        sys.__dict__.pop("__warningregistry__", None)
        self.namespace.pop("__warningregistry__", None)  # or a warning of an earlier run would silence this one's
        if self._getfile_of_python is None and self._classes:
            self._change_inspect(code)

    def note_class(self, name: str, filename: str) -> None:
        """Let `inspect` find the class *name*, which the run *filename* defines."""
        self._classes[name] = filename

    def _change_inspect(self, code: str) -> None:
        """Patch `inspect`, if it is imported, to find the classes that runs have defined."""
        if "inspect" in code:
            with suppress(Exception):
                importlib.import_module("inspect")
        inspect = sys.modules.get("inspect")
        if inspect is not None and hasattr(inspect, "getfile"):
            self._getfile_of_python = inspect.__dict__["getfile"]
            inspect.__dict__["getfile"] = self._getfile

    def _getfile(self, object: Any) -> Any:
        """`inspect.getfile`, with the classes that runs have defined."""
        if isinstance(object, type) and object.__module__ == "__main__":
            name = object.__qualname__.partition(".")[0]
            if name in self._classes:
                return self._classes[name]
        return self._getfile_of_python(object)


def pretend_plain_start() -> None:
    """Make `sys` describe an interpreter that was started by ``python -u script.py``. `subprocess` and
    `multiprocessing` start others in the same way, although the runner itself is isolated from the environment.
    """
    if not sys.flags.isolated:  # the zygote has done so
        return
    sys.dont_write_bytecode = bool(os.environ.get("PYTHONDONTWRITEBYTECODE"))
    flags: Any = sys.flags
    kind_of_python: Any = type(flags)  # pyright: ignore[reportUnknownVariableType]
    names: tuple[str, ...] = kind_of_python.__match_args__
    kind: Any = collections.namedtuple("flags", names, module="sys")  # pyright: ignore[reportUntypedNamedTuple]
    show = kind.__repr__

    def represent(self: object) -> str:
        return f"sys.{show(self)}"

    kind.__repr__ = represent
    kind.gil = getattr(flags, "gil", 1)
    for name in ("n_fields", "n_sequence_fields", "n_unnamed_fields"):
        setattr(kind, name, getattr(flags, name))
    plain: dict[str, int] = dict.fromkeys(("isolated", "no_user_site", "no_site", "ignore_environment"), 0)
    plain |= {"safe_path": False, "dont_write_bytecode": int(sys.dont_write_bytecode)}
    sys.flags = kind(*(plain.get(name, getattr(flags, name)) for name in names))


def _with_newline(lines: list[str]) -> list[str]:
    """*lines* as `linecache` has those of a file."""
    return lines if not lines or lines[-1].endswith("\n") else [*lines[:-1], lines[-1] + "\n"]
