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
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from itertools import repeat

from .prelude import Any

_ARENA, _POOL, _POOL_HEADER = 1 << 20, 1 << 14, 48  # bytes, of CPython's allocator
_SIZES = range(48, 513, 16)  # bytes of objects in a pool, which holds those of one size
_IN_ARENA = 1900  # objects of the largest size, at most
_EMPTY = sys.getsizeof(b"")
_GAPS = 64  # between the libraries of a new interpreter, at most

_IMMORTAL = 1 << 31  # references from which on CPython 3.12 and later does not count them
_AT_ONCE = 2000  # objects

_count_of_none = ctypes.c_uint32.from_address(id(None))
_write: Any = ctypes.PYFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)(("memmove", ctypes.CDLL(None)))
_fillers: list[bytes] = []


@contextmanager
def adjacent_arenas(count: int) -> Generator[None]:
    """Have the objects made meanwhile in up to *count* adjacent arenas, which can become huge pages.

    Otherwise CPython gets its arenas one by one, and the kernel places them in the gaps between libraries.
    """
    import mmap

    gaps = [mmap.mmap(-1, _ARENA) for _ in range(_GAPS)]
    objects: list[Any] = [None] * (count * _IN_ARENA)  # at once: it must not grow between the arenas
    for index in range(len(objects)):
        objects[index] = bytes(_SIZES[-1] - _EMPTY)
    for gap in gaps:
        gap.close()
    keep = objects[::_IN_ARENA]
    objects.clear()
    yield
    keep.clear()


def freeze() -> None:
    """Keep CPython from writing to the objects that exist."""
    gc.collect()
    _make_immortal()
    _fill_pools()
    gc.freeze()


def _make_immortal() -> None:
    """Make all objects immortal that the garbage collector knows, and what they consist of.

    Does nothing if `None` is not immortal or has its count elsewhere.
    """
    if _count_of_none.value < _IMMORTAL:
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
    return [each for each in objects if sys.getrefcount(each) < _IMMORTAL]


def _fill_pools() -> None:
    """Make objects of each size until one is the first in a new pool."""
    for size in _SIZES:
        _fillers.append(bytes(size - _EMPTY))
        while id(_fillers[-1]) % _POOL != _POOL_HEADER:
            _fillers.append(bytes(size - _EMPTY))
