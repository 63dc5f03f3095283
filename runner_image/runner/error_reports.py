"""Describing the exception that ended a run, whose class may be hostile."""

from __future__ import annotations

import builtins
import errno
import os
import socket
import sys
from _thread import get_ident
from contextlib import contextmanager, suppress

from mcp_agentrun.wire.messages import MOST_CAUSES, PIDS, WRITABLE

from . import linux
from .prelude import TYPE_CHECKING, __builtins__

if TYPE_CHECKING:
    from collections.abc import Generator
    from typing import Any

CLIP = 4096  # characters of any string in a report; all of it is in the output

_NUMBERS = ((MemoryError, errno.ENOMEM), (socket.gaierror, errno.ENETUNREACH))

# The class may override any of these.
_trace_of: Any = vars(BaseException)["__traceback__"].__get__
_cause_of: Any = vars(BaseException)["__cause__"].__get__
_context_of: Any = vars(BaseException)["__context__"].__get__
_arguments_of: Any = vars(BaseException)["args"].__get__
_errno_of: Any = vars(OSError)["errno"].__get__
_path_of: Any = vars(OSError)["filename"].__get__
_Group: Any = getattr(builtins, "BaseExceptionGroup", None)  # since Python 3.11
_members_of: Any = getattr(getattr(_Group, "exceptions", None), "__get__", None)
_line_of: Any = vars(SyntaxError)["lineno"].__get__


def describe(error: BaseException, filename: str) -> dict[str, Any]:
    """The fields of a `RunError` for *error*. Its `__str__` is called once more, and what that prints is discarded."""
    line: int | None = None
    message = "<unprintable>"
    causes: list[dict[str, Any]] = []
    with suppress(BaseException), _discarded_output():
        frame = _trace_of(error)
        while frame is not None:
            if frame.tb_frame.f_code.co_filename == filename:
                line = frame.tb_lineno
            frame = frame.tb_next
        if line is None and issubclass(type(error), SyntaxError) and type(at := _line_of(error)) is int:
            line = at
        message = _text(lambda: str(error))
        causes = [_cause(each) for each in _behind(error)]
        causes[0]["text"] = message
    return {"type": _type(error), "message": message, "line": line, "causes": causes, "full": _full(causes)}


def _behind(error: BaseException) -> list[BaseException]:
    """*error*, and its causes, contexts, wrapped exceptions and members of groups, in that order."""
    found: list[BaseException] = []
    pending: list[Any] = [error]
    while pending and len(found) < MOST_CAUSES:
        each = pending.pop(0)
        if issubclass(type(each), BaseException) and not any(each is other for other in found):
            found.append(each)
            wrapped = _arguments_of(each)[:MOST_CAUSES]
            if _Group is not None and issubclass(type(each), _Group):
                wrapped = _members_of(each)[:MOST_CAUSES]
            pending[:0] = [_cause_of(each), _context_of(each), *wrapped]
    return found


def _cause(error: BaseException) -> dict[str, Any]:
    """The fields of a `Cause` for *error*, found without calling methods of its class."""
    parts = [part if type(part) is str else str(part) for part in _arguments_of(error)[:3] if type(part) in (str, int)]
    path: Any = _path_of(error) if issubclass(type(error), OSError) else None
    function: str | None = None
    entry = _trace_of(error)
    while entry is not None:
        function, entry = entry.tb_frame.f_code.co_name, entry.tb_next
    return {
        "type": _type(error),
        "text": " ".join(parts)[:CLIP],
        "errno": _number(error),
        "path": None if path is None else _text(lambda: os.fsdecode(path)),
        "function": function and function[:CLIP],
    }


def _type(error: BaseException) -> str:
    return _text(lambda: type.__dict__["__name__"].__get__(type(error)))


def _number(error: BaseException) -> int | None:
    """The errno that *error* has or corresponds to, which shows the limit that was reached."""
    for kind, number in _NUMBERS:
        if issubclass(type(error), kind):
            return number
    if issubclass(type(error), RuntimeError) and _is_only(_arguments_of(error), "can't start new thread"):
        return errno.EAGAIN
    number = _errno_of(error) if issubclass(type(error), OSError) else None
    return number if type(number) is int and 0 < number < 4096 else None


def _is_only(arguments: tuple[object, ...], text: str) -> bool:
    """Whether *arguments* are *text*, without comparing objects of user classes."""
    return len(arguments) == 1 and type(arguments[0]) is str and arguments[0] == text


def _full(causes: list[dict[str, Any]]) -> list[str]:
    """What is full: folders, or `PIDS`. EAGAIN alone may just mean that a descriptor has no data yet."""
    full = [folder for folder in WRITABLE if _is_full(folder)]
    if any(cause["errno"] == errno.EAGAIN for cause in causes) and linux.is_process_limit_reached():
        full.append(PIDS)
    return full


def _is_full(folder: str) -> bool:
    with suppress(OSError):
        state = os.statvfs(folder)
        return state.f_bavail == 0 or state.f_favail == 0
    return False


def _text(make: Any) -> str:
    try:
        return str.__getitem__(make(), slice(CLIP))
    except BaseException:
        return "<unprintable>"


class _Discarding:
    """A standard stream that discards what one thread writes, until `stop` is called. Other threads may keep it, so it
    then behaves like the stream itself.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._thread: int | None = get_ident()

    def write(self, text: str) -> int:
        return len(text) if get_ident() == self._thread else self._stream.write(text)

    def stop(self) -> None:
        self._thread = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def _discarded_output() -> Generator[None]:
    """Discard what this thread prints. Other threads are not affected."""
    replaced: dict[str, _Discarding] = {}
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name, None)
        if stream is not None:
            replaced[name] = _Discarding(stream)
    try:
        for name, stream in replaced.items():
            setattr(sys, name, stream)
        yield
    finally:
        for stream in replaced.values():
            stream.stop()
        for name, stream in replaced.items():
            if getattr(sys, name, None) is stream:
                setattr(sys, name, stream._stream)  # pyright: ignore[reportPrivateUsage]
