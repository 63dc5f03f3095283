"""Namespaces of modules where they are used as mappings: ``vars(os)``, ``os.__dict__``, ``sys.modules``.

They stay references, such as ``os.__dict__`` and ``os.__dict__.items()``. A member of a module of which the name is not
known is ``os.?``; a module that is not known is ``?``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from .canonical import canonical
from .paths import HOLE
from .values import Value, Values

__all__ = ["ANY", "holder", "looked_up", "lookup", "member", "members"]

ANY = "?"
"""Stands for a name that is not known."""

_MAPPING = re.compile(
    r"(?P<holder>.+?)(?:\.(?:__dict__|__builtins__|f_builtins|__globals__|f_globals))+(?P<view>(?:\.(?:copy|items|values|keys)\(\))*)"
    r"|(?P<modules>sys\.modules)(?P<views>(?:\.(?:copy|items|values|keys)\(\))*)"
)
_LOOKUPS = ("get", "pop", "setdefault", "__getitem__")

_TELLING = {
    **dict.fromkeys(
        ("system", "popen", "fork", "forkpty", "execv", "execve", "execvp", "execvpe", "execl", "execle", "execlp",
         "spawnv", "spawnve", "spawnl", "spawnlp", "spawnvp", "posix_spawn", "posix_spawnp"), "os"),
    **dict.fromkeys(("Popen", "check_output", "check_call", "getoutput", "getstatusoutput"), "subprocess"),
    **dict.fromkeys(("exec", "eval", "__import__"), "builtins"),
    **dict.fromkeys(("CDLL", "PyDLL"), "ctypes"),
}  # fmt: skip
"""Names that say of which module they are, whatever module they are looked for in."""


def holder(path: str) -> str | None:
    """The module whose namespace, or a view of it, the reference *path* is; `ANY` for the one of all modules."""
    if "__" not in path and "sys.modules" not in path and ".f_" not in path:
        return None
    match = _MAPPING.fullmatch(path)
    if match is None:
        return None
    return ANY if match["modules"] else match["holder"]


def member(path: str, name: str) -> str:
    """The canonical name of attribute *name* of *path*."""
    if path == ANY and name in _TELLING:
        return f"{_TELLING[name]}.{name}"
    return canonical(f"{path}.{name}")


def looked_up(module: str, keys: Iterable[Value]) -> Values:
    """What stands under *keys* in the namespace of *module*, as `holder` gave it."""
    texts = [key.value for key in keys if key.kind == "text"]
    found = [
        Value("ref", canonical(text) if module == ANY else canonical(f"{module}.{text}"))
        for text in texts
        if HOLE not in text
    ]
    if len(found) < len(texts) or not texts:
        found.append(Value("ref", ANY if module == ANY else f"{module}.{ANY}"))
    return tuple(found)


def lookup(path: str) -> str | None:
    """The module in whose namespace something is looked up by calling *path*."""
    mapping, _, method = path.rpartition(".")
    return holder(mapping) if method in _LOOKUPS else None


def members(path: str) -> Values:
    """What going through the reference *path* may give."""
    module = holder(path)
    if module is None:
        if path == "sys.path":
            return (Value("text", "/usr/lib/python3/site-packages"),)
        return (Value("ref", path + "[]"),)
    name, item = Value("text", HOLE), Value("ref", ANY if module == ANY else f"{module}.{ANY}")
    if path.endswith(".items()"):
        return (Value("seq", ((name,), (item,))),)
    return (item,) if path.endswith(".values()") else (name,)
