"""What code raises: how it is printed, as Python prints it, and what a report says of it."""

from __future__ import annotations

import builtins
import contextlib
import errno
import itertools
import linecache
import os
import socket
import sys
import traceback
import types

from mcp_agentrun.wire.messages import MOST_CAUSES, PIDS, WRITABLE

from . import linux
from .silence import silence

__builtins__ = dict(vars(builtins))  # of the functions below: user code may change the real ones

TYPE_CHECKING = False  # importing `typing` takes 2 ms, for which a first answer would wait
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

CLIP = 4096
"""Characters of any text in a report; all of it is in the output."""

NOT_FLUSHED = 120
"""What Python exits with where a standard stream could not be flushed."""

source: tuple[int, None, list[str], str] = (0, None, [], "")
"""Of the run: what `linecache` has of it, unless user code empties that."""

_INTERRUPTED = 130
_NO_COLUMNS = 0x80 | 13 << 3  # of an entry in a table of lines, for one instruction
_REPEATS = 3  # of a frame, before they are counted
_MISSING = object()
_NUMBERS = ((MemoryError, errno.ENOMEM), (socket.gaierror, errno.ENETUNREACH))
_FOLDER = os.path.dirname(__file__) + "/"

# User code may replace any of these where they come from; the runner goes on with its own.
_suppress = contextlib.suppress
_excepthook = sys.__excepthook__

# A class of the user's may have any of these of its own.
_trace_of: Any = vars(BaseException)["__traceback__"].__get__
_cause_of: Any = vars(BaseException)["__cause__"].__get__
_context_of: Any = vars(BaseException)["__context__"].__get__
_arguments_of: Any = vars(BaseException)["args"].__get__
_errno_of: Any = vars(OSError)["errno"].__get__
_path_of: Any = vars(OSError)["filename"].__get__
_Group: Any = getattr(builtins, "BaseExceptionGroup", None)  # since Python 3.11
_members_of: Any = getattr(getattr(_Group, "exceptions", None), "__get__", None)
_line_of: Any = vars(SyntaxError)["lineno"].__get__


def end_with(error: BaseException, call: Callable[..., object]) -> int:
    """Say of *error*, which has ended a run, what Python says at its own end; returns what it would exit with.

    :param call: calls a hook of the user's, with arguments, so that it sees nothing of the runner.
    """
    if issubclass(type(error), SystemExit):
        return _exit(error)
    return _print_exception(error, _INTERRUPTED if type(error) is KeyboardInterrupt else 1, call)


def flush(call: Callable[..., object]) -> BaseException | None:
    """Flush the standard streams as Python does at its end; returns why the first one could not be.

    :param call: see `end_with`.
    """
    found: BaseException | None = None
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name, None)
        try:
            if stream is not None and not getattr(stream, "closed", False):
                call(stream.flush)
        except BaseException as error:
            error = BaseException.with_traceback(error, _without_ours(_trace_of(error)))
            if found is None:
                found = error
            if name == "stdout":
                _write_unraisable(error, "Exception ignored on flushing sys.stdout", None)
    return found


def without_columns(code: types.CodeType) -> types.CodeType:
    """*code* as that of a module, all on its first line, of which tracebacks then point at no part."""
    if sys.version_info < (3, 11):
        return code
    units = len(code.co_code) // 2
    entries = (bytes((_NO_COLUMNS | min(8, units - at) - 1, 0)) for at in range(0, units, 8))
    whole: dict[str, Any] = {"co_linetable": b"".join(entries), "co_name": "<module>", "co_qualname": "<module>"}
    return code.replace(**whole)


def _exit(error: Any) -> int:
    try:
        code: Any = error.code
    except BaseException:
        code = error
    if code is None:
        return 0
    if issubclass(type(code), int):
        code = int.__index__(code)  # a class of the user's may have operators of its own
        return code & 0xFF if -(1 << 63) <= code < 1 << 63 else 0xFF
    stream = getattr(sys, "stderr", None)
    if stream is None:
        with _suppress(Exception):
            os.write(2, f"{code!s}\n".encode("utf-8", "backslashreplace"))
        return 1
    with _suppress(Exception):
        stream.flush()
        stream.write(str(code))
    try:
        stream.write("\n")
    except Exception:
        with _suppress(OSError):
            os.write(2, b"\n")
    return 1


def _without_ours(trace: types.TracebackType | None) -> types.TracebackType | None:
    """*trace* without the frames that are ours, wherever they are, and those of libraries that these call."""
    first = trace if trace is not None and _is_ours(trace) else None
    while first is not None and not first.tb_frame.f_code.co_filename.startswith("<run-"):
        first = first.tb_next
    trace = first or trace
    while trace is not None:
        name = trace.tb_frame.f_code.co_filename
        if not _is_ours(trace) and not name.endswith(("/asyncio/base_events.py", "/asyncio/runners.py")):
            break
        trace = trace.tb_next
    entry = trace
    while entry is not None:
        while entry.tb_next is not None and _is_ours(entry.tb_next):
            entry.tb_next = entry.tb_next.tb_next
        entry = entry.tb_next
    return trace


def _is_ours(entry: types.TracebackType) -> bool:
    return entry.tb_frame.f_code.co_filename.startswith(_FOLDER)


def hide_from_warnings(warnings: Any) -> None:
    """Let warnings of what happens while code of ours runs, as that a coroutine was never awaited, have the place that
    Python gives them at its own end.
    """
    original: Any = warnings._showwarnmsg

    def show(message: Any) -> None:
        if isinstance(message.filename, str) and message.filename.startswith(_FOLDER):
            message.filename, message.lineno = "sys", 1
        original(message)

    warnings._showwarnmsg = show


def _add_line(error: SyntaxError) -> None:
    """Add the line in question: the compiler looks for it in a file, which there is none of."""
    if error.text is None and isinstance(error.lineno, int) and isinstance(error.filename, str):
        with _suppress(Exception):
            error.text = linecache.cache[error.filename][2][error.lineno - 1]  # pyright: ignore


def unraisable(unraisable: Any) -> None:
    """What Python's own hook prints, which finds the lines of files only."""
    entries: list[traceback.FrameSummary] = []
    with _suppress(Exception):
        entries = list(traceback.extract_tb(unraisable.exc_traceback))
    if any(entry.filename.startswith("<run-") for entry in entries):
        _write_unraisable(unraisable.exc_value, unraisable.err_msg, unraisable.object)
    else:
        _unraisable_of_python(unraisable)


_unraisable_of_python = sys.unraisablehook


def _write_unraisable(error: BaseException, message: str | None, where: Any) -> None:
    text = f"{message or 'Exception ignored in'}:"
    if where is not None:
        try:
            text += f" {where!r}"
        except Exception:
            text += " <object repr() failed>"
    limit = getattr(sys, "tracebacklimit", None)  # of the last ones, for C
    entries = traceback.extract_tb(error.__traceback__, limit=-limit if isinstance(limit, int) else None)
    lines = [text + "\n"]
    if entries:
        lines.append("Traceback (most recent call last):\n")
    for (file, line, function), same in itertools.groupby(entries, _place_of):
        times = list(same)
        for entry in times[:_REPEATS]:
            lines.append(f'  File "{file}", line {line}, in {function}\n')
            if entry.line:
                lines.append(f"    {entry.line}\n")
        if (more := len(times) - _REPEATS) > 0:
            lines.append(f"  [Previous line repeated {more} more time{'s' if more > 1 else ''}]\n")
    kind = type(error)
    module: object = getattr(kind, "__module__", None)
    if not isinstance(module, str):
        lines.append("<unknown>")
    elif module not in ("builtins", "__main__"):
        lines.append(f"{module}.")
    try:
        lines.append(f"{kind.__qualname__}: {error!s}\n")
    except Exception:
        lines.append(f"{kind.__qualname__}: <exception str() failed>\n")
    _say("".join(lines))


def _say(text: str) -> None:
    with _suppress(Exception):
        sys.stderr.write(text)
        sys.stderr.flush()


def _place_of(entry: traceback.FrameSummary) -> tuple[str, int | None, str]:
    return entry.filename, entry.lineno, entry.name


def _print_exception(error: BaseException, exit_code: int, call: Callable[..., object]) -> int:
    """Print *error* as Python does, without the frames that are ours; returns the exit code."""
    trace = _without_ours(_trace_of(error))
    error = BaseException.with_traceback(error, trace)
    if issubclass(type(error), SyntaxError):
        with _suppress(Exception):
            _add_line(error)  # pyright: ignore[reportArgumentType]
    sys.__dict__.update(last_exc=error, last_type=type(error), last_value=error, last_traceback=trace)
    with _suppress(Exception):
        linecache.cache.setdefault(source[3], source)
    hook: Any = getattr(sys, "excepthook", _MISSING)
    if hook is _MISSING:
        _say("sys.excepthook is missing\n")
        hook = _excepthook
    second: BaseException | None = None
    try:
        if not callable(hook):
            hook()
        call(hook, type(error), error, trace)
    except BaseException as raised:
        second = raised
    if second is None:
        return exit_code
    if issubclass(type(second), SystemExit):
        return _exit(second)
    second = BaseException.with_traceback(second, _without_ours(_trace_of(second)))
    _say("Error in sys.excepthook:\n")
    traceback.print_exception(second)
    _say("\nOriginal exception was:\n")
    traceback.print_exception(error)
    return exit_code


def describe(error: BaseException, filename: str) -> dict[str, Any]:
    """What *error* is, in plain values, however hostile its class; its line in *filename*, the code of this run.

    What its text prints, when it is made once more for this, is lost.
    """
    line: int | None = None
    message = "<unprintable>"
    causes: list[dict[str, Any]] = []
    with _suppress(BaseException), silence():
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
    """*error* and the exceptions that it came from, was raised while handling, wraps or gathers, in that order."""
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
    """What there is to know of *error* without calling anything of its class's."""
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
    """The errno that *error* has or stands for: it tells which limit of the sandbox was hit."""
    for kind, number in _NUMBERS:
        if issubclass(type(error), kind):
            return number
    if issubclass(type(error), RuntimeError) and _is_text_alone(_arguments_of(error), "can't start new thread"):
        return errno.EAGAIN
    number = _errno_of(error) if issubclass(type(error), OSError) else None
    return number if type(number) is int and 0 < number < 4096 else None


def _is_text_alone(arguments: tuple[object, ...], text: str) -> bool:
    """Whether *arguments* are *text*, without asking any that could be of a class of the user's."""
    return len(arguments) == 1 and type(arguments[0]) is str and arguments[0] == text


def _full(causes: list[dict[str, Any]]) -> list[str]:
    """What has no room left. A descriptor that has nothing to read just now says the same as a process too many."""
    full = [folder for folder in WRITABLE if _is_full(folder)]
    if any(cause["errno"] == errno.EAGAIN for cause in causes) and linux.no_more_processes():
        full.append(PIDS)
    return full


def _is_full(folder: str) -> bool:
    with _suppress(OSError):
        state = os.statvfs(folder)
        return state.f_bavail == 0 or state.f_favail == 0
    return False


def _text(make: Any) -> str:
    try:
        return str.__getitem__(make(), slice(CLIP))
    except BaseException:
        return "<unprintable>"
