"""Hiding the runner from user code that looks at its own stack: the frames below it, and the recursion they use up.

Both are words in the state of the thread, which CPython 3.13 has no call for. Where each lies is found by looking for
what must be there, and nothing is changed where that is not found exactly once, or under any other version: user code
then sees a few frames of the runner, and that is all.
"""

from __future__ import annotations

import ctypes
import functools
import sys
import types
from _weakref import ref  # of which the rest of `weakref` is not needed, and takes a first worker time
from collections.abc import Callable, Iterable
from sys import byteorder

from .prelude import TYPE_CHECKING, __builtins__

if TYPE_CHECKING:
    from typing import Any

_FRAME = 24  # offset in a frame object of the address of the interpreter's own frame
_PREVIOUS, _OBJECT = 8, 48  # offsets in that one of the addresses of its caller's, and of the frame object
_WORDS = 32  # of a thread's state that are looked at
_IS_KNOWN = (
    sys.version_info[:2] == (3, 13) and sys.implementation.name == "cpython" and ctypes.sizeof(ctypes.c_void_p) == 8
)

_write: Any = ctypes.PYFUNCTYPE(None, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t)(("memmove", ctypes.CDLL(None)))
_read = ctypes.c_uint64.from_address
_getframe = sys._getframe  # pyright: ignore[reportPrivateUsage]
_partial: Any = functools.partial
_call: Any = _partial.__call__  # one of C


def alone(
    frame: types.FrameType, function: Callable[..., Any], *arguments: Any, before: Iterable[functools.partial[Any]] = ()
) -> tuple[list[Any], Iterable[Any]]:
    """How to call *function*, which is C, as if *frame* and all below it did not exist: not for ``f_back``, tracebacks,
    warnings, signal handlers and `faulthandler`.

    *frame*, the caller, has to do it, with the two values that are returned: ``calls.pop()(*hide)``. To evaluate the
    arguments, of which there are none, takes the frames away. They are back when the callable goes: after the call, and
    before an exception reaches *frame*, when tracing looks for a frame.

    :param before: what else to call before *function*, already hidden.
    """
    call: Any = _partial(function, *arguments)
    place, own = _place(), _inner(_getframe())
    if place is None or _word(own + _PREVIOUS) != _inner(frame) or _read(place).value != own:
        return [call], filter(None, map(_call, before))
    restore = _partial(next, map(_write, (place,), (_inner(frame).to_bytes(8, byteorder),), (8,)))
    hide = _partial(_write, place, bytes(8), 8)
    return [ref(call, restore), call], filter(None, map(_call, (hide, *before)))


@functools.cache
def _place() -> int | None:
    """Address of the word in the main thread's state that holds the frame being executed, if it is found."""
    if not _IS_KNOWN:
        return None
    get_state = ctypes.pythonapi.PyThreadState_Get
    get_state.restype = ctypes.c_void_p
    state = int(get_state())

    def once_more() -> set[int]:  # from another frame, to exclude words that only happen to be equal
        return _places(state, _getframe())

    found = _places(state, _getframe()) & once_more()
    return found.pop() if len(found) == 1 else None


def _places(state: int, caller: types.FrameType) -> set[int]:
    """Where in the thread's *state* the frame of this very call is pointed to."""
    own = _inner(_getframe())  # in no variable: a frame that holds itself would outlive the call, and all below it too
    words: list[int] = list((ctypes.c_uint64 * _WORDS).from_address(state))  # by C: a call would be another frame
    if not own or own not in words:  # then it is no address to look at
        return set()
    if _word(own + _OBJECT) != id(_getframe()) or _word(own + _PREVIOUS) != _inner(caller):
        return set()
    return {state + 8 * at for at, word in enumerate(words) if word == own}


def _inner(frame: types.FrameType) -> int:
    return _word(id(frame) + _FRAME)


def _word(address: int) -> int:
    return _read(address).value


def depth() -> int:
    """How many Python frames lie below the user's code: the caller's and all below it."""
    count, frame = 0, _getframe(1)
    while frame is not None:
        count, frame = count + 1, frame.f_back
    return count


def discount(frames: int) -> None:
    """Let the recursion limit count from the user's first frame, as it does in a script.

    The thread's state has the limit and, just before it, what remains of it: found by setting limits that nothing else
    equals, and left alone where that finds no such pair.
    """
    if not _IS_KNOWN:
        return
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
