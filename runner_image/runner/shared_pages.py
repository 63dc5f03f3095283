"""Memory that a process shares with its forks, until one of them writes to it and gets a copy of the page.

What was imported is used by every run and changed by none. Nevertheless CPython would write to it: to count references,
to collect garbage, and to make objects in the gaps between the others.
"""

from __future__ import annotations

import ctypes
import gc
import sys
import types
from collections import deque
from collections.abc import Iterable
from itertools import compress, filterfalse, repeat

from .prelude import Any

_POOL, _POOL_HEADER = 1 << 14, 48  # bytes, of CPython's allocator
_SIZES = range(48, 513, 16)  # bytes of objects in a pool, which holds those of one size
_EMPTY = sys.getsizeof(b"")

_IMMORTAL = 1 << 31  # references from which on CPython 3.12 and later does not count them
_AT_ONCE = 2000  # objects

_memory: Any = (ctypes.c_uint32 * (1 << 46)).from_address(0)  # an object's count of references is its first word
_fillers: list[bytes] = []


def freeze() -> None:
    """Keep CPython from writing to the objects that exist."""
    gc.collect()
    gc.unfreeze()  # what PID 1 has frozen, or it would not be found
    _make_immortal()
    _fill_pools()
    gc.freeze()


def _make_immortal() -> None:
    """Make all objects immortal that the garbage collector knows, and what they consist of.

    Does nothing if `None` is not immortal or has its count elsewhere.
    """
    count_of_none = _memory[id(None) // 4]
    if count_of_none < _IMMORTAL:
        return
    remaining = gc.get_objects()
    while remaining:
        objects = remaining[-_AT_ONCE:]
        del remaining[-_AT_ONCE:]
        places = map((4).__rfloordiv__, map(id, objects))
        written: Iterable[None] = map(_memory.__setitem__, places, repeat(count_of_none))
        deque(written, maxlen=0)
        referents = gc.get_referents(*objects)
        mortal = compress(referents, map(_IMMORTAL.__gt__, map(sys.getrefcount, referents)))
        # Those that the collector knows are among the first ones. It can't look into code.
        remaining += filterfalse(gc.is_tracked, mortal)
        remaining += [each.co_consts for each in objects if isinstance(each, types.CodeType)]


def _fill_pools() -> None:
    """Make objects of each size until one is the first in a new pool."""
    for size in _SIZES:
        _fillers.append(bytes(size - _EMPTY))
        while id(_fillers[-1]) % _POOL != _POOL_HEADER:
            _fillers.append(bytes(size - _EMPTY))
