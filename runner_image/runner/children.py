"""Child processes of user code: those that have ended between runs, and those that `multiprocessing` spawns."""

from __future__ import annotations

import _ast as ast  # the nodes alone: what is around them takes long to import, and a first answer waits
import gc
import importlib
import marshal
import os
import sys
from contextlib import suppress

from .prelude import TYPE_CHECKING, __builtins__

if TYPE_CHECKING:
    import types
    from collections.abc import Collection
    from typing import Any

    from .main_module import MainModule

_SOURCES = 200  # runs whose definitions a spawned process gets
_HELPERS = (
    ("resource_tracker", "_resource_tracker", "_pid", "_fd"),
    ("forkserver", "_forkserver", "_forkserver_pid", "_forkserver_alive_fd"),
)

_compile_tree: Any = compile


class SpawnedProcesses:
    """Gives processes that `multiprocessing` spawns the definitions of earlier runs, since ``__main__`` has no file.

    :param main: the session's ``__main__``.
    """

    def __init__(self, main: MainModule) -> None:
        self._main = main
        self._sources: list[tuple[str, str]] = []

    def note(self, filename: str, code: str) -> None:
        """Record that the run *filename* executes *code*."""
        self._sources.append((filename, code))
        del self._sources[:-_SOURCES]
        spawn = sys.modules.get("multiprocessing.spawn")
        if (spawn is None and "multiprocessing" in code) or "ProcessPool" in code:
            spawn = importlib.import_module("multiprocessing.spawn")
        if spawn is not None and not hasattr(spawn, "_agentrun"):
            spawn.__dict__["_agentrun"] = original = spawn.__dict__["get_preparation_data"]

            def prepare(name: str) -> dict[str, Any]:
                return self._with_main(original(name))

            spawn.__dict__["get_preparation_data"] = prepare

    def _with_main(self, data: dict[str, Any]) -> dict[str, Any]:
        """The preparation *data* of a spawned process, with a file that has the definitions of ``__main__``."""
        if "init_main_from_name" not in data and self._main.is_script:
            path = f"/tmp/.agentrun-{os.getpid()}.py"
            magic: bytes = importlib.import_module("importlib.util").MAGIC_NUMBER
            with open(path, "wb") as file:
                file.write(magic + bytes(12) + marshal.dumps(_definitions(self._sources)))
            data["init_main_from_path"] = path
        return data


def note_ended(ended: dict[int, int], spared: Collection[int]) -> None:
    """Set the exit codes of children that *ended* between two runs, by pid, in the objects of `subprocess` and
    `multiprocessing`. The runner has reaped them, so user code would take them for successful or alive.

    :param spared: descriptors that must stay open, even if a helper process of `multiprocessing` claims them.
    """
    if not ended:
        return
    with suppress(BaseException):  # all of this is in the hands of user code
        for helper, pid, descriptor in _helpers():
            if helper[pid] in ended:  # `multiprocessing` starts it again when needed
                if helper[descriptor] not in spared:
                    with suppress(OSError):
                        os.close(helper[descriptor])
                helper[pid] = helper[descriptor] = None
    kinds: list[type[Any]] = []
    for name in ("subprocess", "multiprocessing.popen_fork"):
        with suppress(BaseException):
            kinds.append(sys.modules[name].__dict__["Popen"])
    with suppress(BaseException):
        for thing in gc.get_objects() if kinds else ():
            if issubclass(type(thing), tuple(kinds)) and thing.__dict__.get("returncode", 0) is None:
                code = ended.get(thing.__dict__.get("pid"))
                if code is not None:
                    thing.__dict__["returncode"] = code


def helper_pids() -> set[int]:
    """Pids of the helper processes of `multiprocessing`, which don't count as left running."""
    return {helper[pid] for helper, pid, _ in _helpers()}


def _helpers() -> list[tuple[dict[str, Any], str, str]]:
    """For each helper process, the dictionary that describes it, and the keys of its pid and descriptor."""
    found: list[tuple[dict[str, Any], str, str]] = []
    for module, thing, pid, descriptor in _HELPERS:
        with suppress(BaseException):
            helper = sys.modules[f"multiprocessing.{module}"].__dict__[thing].__dict__
            if type(helper[pid]) is int and type(helper[descriptor]) is int:
                found.append((helper, pid, descriptor))
    return found


def _definitions(sources: list[tuple[str, str]]) -> types.CodeType:
    """What a spawned process executes first: the last of *sources*, preceded by the definitions in the earlier ones,
    each with its filename and lines for tracebacks.
    """
    whole: Any = importlib.import_module("ast")
    kept = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    *earlier, (filename, code) = sources
    parts: list[bytes] = []
    for name, source in earlier:
        with suppress(Exception):  # it was not valid Python
            tree = whole.parse(source, name)
            tree.body = [
                statement
                for statement in tree.body
                if isinstance(statement, kept)
                or (isinstance(statement, ast.Assign) and all(map(_is_constant, whole.walk(statement.value))))
            ]
            parts.append(marshal.dumps(_compile_tree(tree, name, "exec", dont_inherit=True)))
    lines = {name: (len(source), None, source.splitlines(keepends=True), name) for name, source in sources}
    before = [f"__file__ = {filename!r}", f"__import__('linecache').cache.update({lines!r})"]
    before += [f"exec(__import__('marshal').loads({part!r}))" for part in parts]
    tree = whole.parse(code, filename)
    first = next((at for at, statement in enumerate(tree.body) if not _must_be_first(statement)), len(tree.body))
    for statement in reversed(before):
        (node,) = whole.parse(statement).body
        tree.body.insert(first, node)
    return _compile_tree(tree, filename, "exec", dont_inherit=True)


def _must_be_first(statement: ast.stmt) -> bool:
    """Whether nothing may come before *statement*."""
    if isinstance(statement, ast.Expr):
        return isinstance(statement.value, ast.Constant)
    return isinstance(statement, ast.ImportFrom) and statement.module == "__future__"


def _is_constant(part: ast.AST) -> bool:
    kinds = (ast.Constant, ast.Tuple, ast.List, ast.Dict, ast.Set, ast.BinOp, ast.UnaryOp)
    return isinstance(part, (*kinds, ast.expr_context, ast.operator, ast.unaryop))
