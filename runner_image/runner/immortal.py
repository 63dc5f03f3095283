"""Objects that live as long as the process, whose references CPython does not count.

A count is written whenever an object is used. In a fork, that copies the page that the object is in.
"""

from __future__ import annotations

import ctypes
import gc
import sys
import types
from collections import deque
from collections.abc import Iterable
from itertools import repeat

from .prelude import Any

_LEAST = 1 << 31  # from this count on, CPython 3.12 and later take an object as immortal
_AT_ONCE = 2000  # objects

_count_of_none = ctypes.c_uint32.from_address(id(None))
_write: Any = ctypes.PYFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)(("memmove", ctypes.CDLL(None)))


def make_immortal() -> None:
    """Make all objects immortal that the garbage collector knows, and what they consist of.

    Does nothing if `None` is not immortal or has its count elsewhere.
    """
    if _count_of_none.value < _LEAST:
        return
    remaining = gc.get_objects()
    while remaining:
        objects = _mortal(remaining[-_AT_ONCE:])
        del remaining[-_AT_ONCE:]
        written: Iterable[None] = map(_write, map(id, objects), repeat(ctypes.addressof(_count_of_none)), repeat(4))
        deque(written, maxlen=0)
        # Those that the collector knows are among the first ones.
        remaining += [each for each in _mortal(gc.get_referents(*objects)) if not gc.is_tracked(each)]
        # The collector can't look into code.
        remaining += [each.co_consts for each in objects if isinstance(each, types.CodeType)]


def _mortal(objects: Iterable[object]) -> list[object]:
    return [each for each in objects if sys.getrefcount(each) < _LEAST]
