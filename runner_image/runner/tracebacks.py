"""Printing what user code raises as Python prints it, without the runner's frames.

Modules are imported at the start: later, a file of that name in the workspace would be imported in their place.
"""

from __future__ import annotations

import linecache
import os
import sys
import traceback
import types
from contextlib import suppress
from itertools import groupby

from .prelude import TYPE_CHECKING, __builtins__

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

NOT_FLUSHED = 120  # what Python exits with where a standard stream could not be flushed

source: tuple[int, None, list[str], str] = (0, None, [], "")
"""The entry of the current run in `linecache`, which user code may empty."""

_INTERRUPTED = 130
_REPEATS = 3  # of a frame, before they are counted
_MISSING = object()
_FOLDER = os.path.dirname(__file__) + "/"

_excepthook = sys.__excepthook__

_trace_of: Any = vars(BaseException)["__traceback__"].__get__  # a class of the user's may have one of its own


def end_with(error: BaseException, call: Callable[..., object]) -> int:
    """Print *error*, which has ended a run, as Python does at its end; returns Python's exit code.

    :param call: calls user code without frames of the runner.
    """
    if issubclass(type(error), SystemExit):
        return _exit(error)
    return _print_exception(error, _INTERRUPTED if type(error) is KeyboardInterrupt else 1, call)


def flush(call: Callable[..., object]) -> BaseException | None:
    """Flush the standard streams as Python does at its end; returns the first error, if any.

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
                _print_unraisable(error, "Exception ignored on flushing sys.stdout", None)
    return found


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
        with suppress(Exception):
            os.write(2, f"{code!s}\n".encode("utf-8", "backslashreplace"))
        return 1
    with suppress(Exception):
        stream.flush()
        stream.write(str(code))
    try:
        stream.write("\n")
    except Exception:
        with suppress(OSError):
            os.write(2, b"\n")
    return 1


def _without_ours(trace: types.TracebackType | None) -> types.TracebackType | None:
    """*trace* without the frames of the runner, and of libraries between these."""
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
    """Give warnings of the runner's code, such as unawaited coroutines, the place that Python gives them at its end."""
    original: Any = warnings._showwarnmsg

    def show(message: Any) -> None:
        if isinstance(message.filename, str) and message.filename.startswith(_FOLDER):
            message.filename, message.lineno = "sys", 1
        original(message)

    warnings._showwarnmsg = show


def _add_line(error: SyntaxError) -> None:
    """Add the line of code, which the compiler looks for in a file."""
    if error.text is None and isinstance(error.lineno, int) and isinstance(error.filename, str):
        with suppress(Exception):
            error.text = linecache.cache[error.filename][2][error.lineno - 1]  # pyright: ignore


def unraisable(unraisable: Any) -> None:
    """Print what Python's `sys.unraisablehook` prints, but find the lines of runs as well."""
    entries: list[traceback.FrameSummary] = []
    with suppress(Exception):
        entries = list(traceback.extract_tb(unraisable.exc_traceback))
    if any(entry.filename.startswith("<run-") for entry in entries):
        _print_unraisable(unraisable.exc_value, unraisable.err_msg, unraisable.object)
    else:
        _unraisable_of_python(unraisable)


_unraisable_of_python = sys.unraisablehook


def _print_unraisable(error: BaseException, message: str | None, where: Any) -> None:
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
    for (file, line, function), same in groupby(entries, lambda entry: (entry.filename, entry.lineno, entry.name)):
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
    _write("".join(lines))


def _write(text: str) -> None:
    with suppress(Exception):
        sys.stderr.write(text)
        sys.stderr.flush()


def _print_exception(error: BaseException, exit_code: int, call: Callable[..., object]) -> int:
    """Print *error* as Python does, without the runner's frames; returns the exit code."""
    trace = _without_ours(_trace_of(error))
    error = BaseException.with_traceback(error, trace)
    if issubclass(type(error), SyntaxError):
        with suppress(Exception):
            _add_line(error)  # pyright: ignore[reportArgumentType]
    sys.__dict__.update(last_exc=error, last_type=type(error), last_value=error, last_traceback=trace)
    with suppress(Exception):
        linecache.cache.setdefault(source[3], source)
    hook: Any = getattr(sys, "excepthook", _MISSING)
    if hook is _MISSING:
        _write("sys.excepthook is missing\n")
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
    _write("Error in sys.excepthook:\n")
    traceback.print_exception(second)
    _write("\nOriginal exception was:\n")
    traceback.print_exception(error)
    return exit_code
