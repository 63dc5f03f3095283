"""One name for each thing: that under which it is defined, whatever name it was reached by."""

from __future__ import annotations

import string

__all__ = ["CONSTANTS", "REENTRY", "canonical"]

REENTRY = frozenset(
    """
    os sys subprocess builtins ctypes importlib posix nt socket shutil pty runpy
""".split()
)
"""Modules that other modules carry in their namespaces, and that matter wherever they are met."""

_SAME_MODULE = {
    "posix": "os",
    "nt": "os",
    "posixpath": "os.path",
    "ntpath": "os.path",
    "_socket": "socket",
    "_io": "io",
    "__builtin__": "builtins",
    "_pickle": "pickle",
    "cPickle": "pickle",
    "_thread": "threading",
    "_operator": "operator",
    "_codecs": "codecs",
    "_frozen_importlib_external": "importlib",
}
_SAME_NAME = {
    "io.open": "builtins.open",
    "os.path.os": "os",
    "os.path.genericpath": "os.path",
    "builtins.__builtins__": "builtins",
    "socket._socket": "socket",
    "socket.SocketType": "socket.socket",
    "importlib.__import__": "builtins.__import__",
    "enum.bltns": "builtins",
    "os.environb": "os.environ",
    "pickle._loads": "pickle.loads",
    "pickle._load": "pickle.load",
    "pickle._Unpickler": "pickle.Unpickler",
}
CONSTANTS = {
    "os.sep": "/",
    "os.path.sep": "/",
    "os.curdir": ".",
    "os.path.curdir": ".",
    "os.pardir": "..",
    "os.path.pardir": "..",
    "os.extsep": ".",
    "os.pathsep": ":",
    "os.devnull": "/dev/null",
    "site.USER_SITE": "~/.local/lib/python3/site-packages",
    "site.USER_BASE": "~/.local",
    "sys.prefix": "/usr",
    "sys.base_prefix": "/usr",
    "sys.exec_prefix": "/usr",
    **{
        f"string.{name}": getattr(string, name)
        for name in ("ascii_letters", "ascii_lowercase", "ascii_uppercase", "digits", "hexdigits", "punctuation",
                     "printable", "whitespace", "octdigits")
    },
}  # fmt: skip
"""Names that stand for texts."""


def canonical(path: str) -> str:
    """*path*, a dotted name, as the name that the same thing has where it is defined.

    A module that is reached through another one's namespace (``shutil.os``, ``random._os``) is that module.
    """
    parts = path.split(".")
    for index in range(len(parts) - 1, 0, -1):
        bare = parts[index].lstrip("_")
        if bare in REENTRY and (bare != parts[index] or parts[index] in REENTRY):
            if parts[index - 1] != bare:  # the class `socket.socket` is not its module
                parts = [bare, *parts[index + 1 :]]
                break
    if parts[0] in _SAME_MODULE:
        parts[0] = _SAME_MODULE[parts[0]]
    path = ".".join(parts)
    if path in _SAME_NAME:
        return _SAME_NAME[path]
    if len(parts) > 2 and (first := ".".join(parts[:2])) in _SAME_NAME:
        return canonical(".".join((_SAME_NAME[first], *parts[2:])))
    return path
