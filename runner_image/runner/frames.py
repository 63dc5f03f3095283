"""Keeps the runner out of what user code can see of its own stack: frames below it, and recursion that they use up.

Both are in CPython's own structures, whose layout is checked before anything is changed: where it isn't as expected,
nothing is, and user code sees a few frames of ours.
"""

from __future__ import annotations

import ctypes
import sys
import types
from typing import Any

# struct _PyInterpreterFrame of CPython 3.13, and where a frame object points to it
_FRAME = 24
_PREVIOUS, _GLOBALS, _OBJECT, _OWNER = 8, 24, 48, 70
_OF_C_STACK = b"\3"
_KNOWN = (
    sys.version_info[:2] == (3, 13) and sys.implementation.name == "cpython" and ctypes.sizeof(ctypes.c_void_p) == 8
)

_memmove: Any = ctypes.memmove
_ZERO = bytes(8)
_NOTHING: Any = (_memmove, (), (), ())
_read = ctypes.c_uint64.from_address


def hidden(frame: types.FrameType) -> tuple[Any, Any]:
    """How to hide *frame* and all below it, from ``f_back``, tracebacks and warnings, and how to show them again.

    Each is the arguments of a ``list(map(...))``, to be called by *frame* itself, just before and just after a call of
    C: one call each, since an interrupt could come between two. A hidden frame must neither return nor raise.
    """
    if not _KNOWN:
        return _NOTHING, _NOTHING
    inner = _read(id(frame) + _FRAME).value
    if _read(inner + _OBJECT).value != id(frame) or _read(inner + _GLOBALS).value != id(frame.f_globals):
        return _NOTHING, _NOTHING
    previous, owner = ctypes.string_at(inner + _PREVIOUS, 8), ctypes.string_at(inner + _OWNER, 1)
    if owner != b"\0":
        return _NOTHING, _NOTHING
    places, sizes = (inner + _PREVIOUS, inner + _OWNER), (8, 1)
    return (_memmove, places, (_ZERO, _OF_C_STACK), sizes), (_memmove, places, (previous, owner), sizes)


def depth() -> int:
    """How many Python frames lie below the user's code: the caller's and all below it."""
    count, frame = 0, sys._getframe(1)  # pyright: ignore[reportPrivateUsage]
    while frame is not None:
        count, frame = count + 1, frame.f_back
    return count


def discount(frames: int) -> None:
    """Let the recursion limit count from the user's first frame, as it does in a script.

    The thread's state has the limit and, just before it, what remains of it: found by setting limits that nothing else
    equals, and left alone where that finds no such pair.
    """
    limit = sys.getrecursionlimit()
    get_state = ctypes.pythonapi.PyThreadState_Get
    get_state.restype = ctypes.c_void_p
    state = ctypes.cast(get_state(), ctypes.POINTER(ctypes.c_int * 64)).contents
    places: set[int] = set(range(1, 64))
    for trial in (43_211, 51_907):
        sys.setrecursionlimit(trial)
        places &= {place for place in places if state[place] == trial and 0 < trial - state[place - 1] < 200}
    sys.setrecursionlimit(limit)
    if len(places) == 1:
        state[places.pop() - 1] += frames
