"""What code raises: how it is printed, as Python prints it, and what a report says of it."""

from __future__ import annotations

import _ast as ast
import contextlib
import errno
import linecache
import os
import socket
import sys
import traceback
import types

from . import frames, linux

TYPE_CHECKING = False  # importing `typing` takes 2 ms, for which a first answer would wait
if TYPE_CHECKING:
    from typing import Any

CLIP = 4096
"""Characters of any text in a report; all of it is in the output."""

_WRITABLE = ("/workspace", "/tmp", "/dev/shm")
_FOLDER = os.path.dirname(__file__) + "/"

# User code may replace any of these where they come from; the runner goes on with its own.
_compile: Any = compile
_eval = eval
_getframe = sys._getframe  # pyright: ignore[reportPrivateUsage]
_excepthook = sys.__excepthook__


def begin_at(error: BaseException, expression: ast.expr, filename: str, namespace: dict[str, Any]) -> None:
    """Let the traceback of *error*, which showing the value of *expression* has raised, begin there, as in a REPL."""
    with contextlib.suppress(Exception):
        place = {name: getattr(expression, name) for name in ("lineno", "col_offset", "end_lineno", "end_col_offset")}
        call = ast.Call(ast.Name("frame", ast.Load(), **place), [], [], **place)
        code = _compile(ast.Expression(call), filename, "eval")
        calls, hide = frames.alone(_getframe(), _eval, code, namespace, {"frame": _getframe})
        frame = calls.pop()(*hide)
        trace = types.TracebackType(_without_ours(error.__traceback__), frame, frame.f_lasti, expression.lineno)
        BaseException.with_traceback(error, trace)


def exit_code_of(error: SystemExit) -> int:
    """What ``python`` would exit with, printing what it would print."""
    code: object = error.code
    if code is None:
        return 0
    if isinstance(code, int):
        return code & 0xFF if -(1 << 63) <= code < 1 << 63 else 0xFF
    with contextlib.suppress(Exception):
        sys.stderr.write(f"{code}\n")
    return 1


def _without_ours(trace: types.TracebackType | None) -> types.TracebackType | None:
    """*trace* without the frames that are ours, wherever they are, and those of the event loop below the user's."""
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


def _add_line(error: SyntaxError) -> None:
    """Add the line in question: the compiler looks for it in a file, which there is none of."""
    if error.text is None and isinstance(error.lineno, int) and isinstance(error.filename, str):
        with contextlib.suppress(Exception):
            error.text = linecache.cache[error.filename][2][error.lineno - 1]  # pyright: ignore


def unraisable(unraisable: Any) -> None:
    """What Python's own hook prints, which finds the lines of files only."""
    trace = unraisable.exc_traceback
    entries: list[traceback.FrameSummary] = list(traceback.extract_tb(trace))
    if not any(entry.filename.startswith("<run-") for entry in entries):
        _unraisable_of_python(unraisable)
        return
    what = ""
    if unraisable.object is not None:
        try:
            what = f" {unraisable.object!r}"
        except Exception:
            what = " <object repr() failed>"
    lines = [f"{unraisable.err_msg or 'Exception ignored in'}:{what}\n", "Traceback (most recent call last):\n"]
    for entry in entries:
        lines.append(f'  File "{entry.filename}", line {entry.lineno}, in {entry.name}\n')
        if entry.line:
            lines.append(f"    {entry.line}\n")
    lines += traceback.format_exception_only(unraisable.exc_type, unraisable.exc_value)
    sys.stderr.write("".join(lines))


_unraisable_of_python = sys.unraisablehook


def print_exception(error: BaseException, exit_code: int) -> int:
    """Print *error* as Python does, without the frames that are ours; returns the exit code."""
    trace = _without_ours(error.__traceback__)
    error = error.with_traceback(trace)
    if isinstance(error, SyntaxError):
        _add_line(error)
    sys.__dict__.update(last_exc=error, last_type=type(error), last_value=error, last_traceback=trace)
    hook = getattr(sys, "excepthook", None)
    if hook is None:
        sys.stderr.write("sys.excepthook is missing\n")
        hook = _excepthook
    try:
        hook(type(error), error, trace)
    except SystemExit as exit_:
        return exit_code_of(exit_)
    except BaseException as second:
        second = second.with_traceback(_without_ours(second.__traceback__))
        second.__context__ = None
        sys.stderr.write("Error in sys.excepthook:\n")
        traceback.print_exception(second)
        sys.stderr.write("\nOriginal exception was:\n")
        traceback.print_exception(error)
    return exit_code


def describe(error: BaseException, filename: str | None = None) -> dict[str, Any]:
    """What *error* is, in plain values, however hostile its class; its line in *filename*, the code of this run."""
    line: int | None = None
    frame = error.__traceback__
    while frame is not None:
        if frame.tb_frame.f_code.co_filename == filename:
            line = frame.tb_lineno
        frame = frame.tb_next
    if line is None and isinstance(error, SyntaxError) and isinstance(error.lineno, int):
        line = error.lineno
    number = _system_error(error)
    return {
        "type": _text(lambda: type.__dict__["__name__"].__get__(type(error))),
        "message": _text(lambda: str(error)),
        "line": line,
        "errno": number,
        "full": _full(number),
    }


def _system_error(error: BaseException | None) -> int | None:
    """The errno behind *error*, or behind one that it came from: it tells which limit of the sandbox was hit."""
    for _ in range(10):
        if error is None:
            break
        if isinstance(error, MemoryError):
            return errno.ENOMEM
        if isinstance(error, RuntimeError) and error.args == ("can't start new thread",):
            return errno.EAGAIN
        if isinstance(error, socket.gaierror):
            return errno.ENETUNREACH
        if isinstance(error, OSError) and isinstance(error.errno, int) and 0 < error.errno < 4096:
            return error.errno
        error = error.__cause__ or error.__context__
    return None


def _full(number: int | None) -> list[str]:
    """What has no room left, where that may be behind errno *number*."""
    if number == errno.EAGAIN and linux.no_more_processes():  # and not a descriptor that has nothing to read just now
        return ["pids"]
    return [folder for folder in _WRITABLE if _is_full(folder)] if number == errno.ENOSPC else []


def _is_full(folder: str) -> bool:
    with contextlib.suppress(OSError):
        state = os.statvfs(folder)
        return state.f_bavail == 0 or state.f_favail == 0
    return False


def _text(make: Any) -> str:
    try:
        return str.__getitem__(make(), slice(CLIP))
    except BaseException:
        return "<unprintable>"
