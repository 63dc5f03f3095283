"""Calling user code so that it sees nothing of the runner: neither its frames nor what it does."""

from __future__ import annotations

import sys
import types
from _operator import is_
from functools import partial
from sys import getprofile, gettrace, setprofile, settrace

from . import interpreter_frames
from .prelude import TYPE_CHECKING, __builtins__

if TYPE_CHECKING:
    from typing import Any

_monitoring: Any = getattr(sys, "monitoring", None)  # since Python 3.12
_TOOLS = range(6 if _monitoring is not None else 0)
_get_tool: Any = getattr(_monitoring, "get_tool", None)
_get_events: Any = getattr(_monitoring, "get_events", None)
_set_events: Any = getattr(_monitoring, "set_events", None)
_getframe = sys._getframe  # pyright: ignore[reportPrivateUsage]
_IGNORING: tuple[Any, ...] = (is_, (), {}, None)  # state of a `partial` that does nothing with two arguments
_NO_COLUMNS = 0x80 | 13 << 3  # of an entry in a table of lines, for one instruction


def _without_columns(code: types.CodeType) -> types.CodeType:
    """*code* as that of a module, all on its first line and without columns that tracebacks would point at."""
    if sys.version_info < (3, 11):
        return code
    units = len(code.co_code) // 2
    entries = (bytes((_NO_COLUMNS | min(8, units - at) - 1, 0)) for at in range(0, units, 8))
    whole: dict[str, Any] = {"co_linetable": b"".join(entries), "co_name": "<module>", "co_qualname": "<module>"}
    return code.replace(**whole)


_CALL = _without_columns(compile("call(*values)", "", "eval"))


class UserCalls:
    """Calls user code. Its tracing, profiling and audit hooks are active only during these calls.

    :param namespace: that of ``__main__``.
    """

    def __init__(self, namespace: dict[str, Any]) -> None:
        self._namespace = namespace
        self._tracing: list[partial[Any]] = []  # resume the tracing and profiling that are suspended
        self._hooks: list[tuple[Any, Any]] = []
        """Audit hooks of user code: what Python calls for each, and the hook itself."""
        self._add_hook = sys.addaudithook
        sys.addaudithook = self._add_audit_hook

    def alone(self, function: Any, *arguments: Any, traced: bool = False) -> Any:
        """Call *function* without frames of the runner below it. Tracing and profiling that it starts are suspended
        until the next call that is *traced*.
        """
        before: list[partial[Any]] = []
        if traced:
            before, self._tracing = self._tracing, []
        for call, hook in self._hooks:
            state: tuple[Any, ...] = (_skip_first_exec, (call, hook), {}, None) if function is eval else _calling(hook)
            before.append(partial(call.__setstate__, state))
        calls, hide = interpreter_frames.alone(_getframe(), function, *arguments, before=before)
        try:
            return calls.pop()(*hide)
        finally:
            for call, _ in self._hooks:
                call.__setstate__(_IGNORING)
            # Nothing written in Python may be called before tracing is off.
            trace, profile = gettrace(), getprofile()
            if trace is not None:
                settrace(None)
                self._tracing.append(partial(settrace, trace))
            if profile is not None:
                setprofile(None)
                self._tracing.append(partial(setprofile, profile))
            for tool in _TOOLS:
                if _get_tool(tool) is not None and (events := _get_events(tool)):
                    _set_events(tool, 0)
                    self._tracing.append(partial(_set_events, tool, events))

    def at_line(self, filename: str, line: int, function: Any, *values: object) -> Any:
        """Call *function* with *values* as if code of that line did, so that tracebacks and warnings have a place."""
        code = _CALL.replace(co_filename=filename, co_firstlineno=line)
        return self.alone(eval, code, self._namespace, {"call": function, "values": values})

    def _add_audit_hook(self, hook: Any) -> None:
        """Add an audit hook that sees what user code does, and nothing that the runner does."""
        call: Any = partial(hook)
        if hasattr(hook, "__cantrace__"):
            call.__cantrace__ = hook.__cantrace__
        self._add_hook(call)
        self._hooks.append((call, hook))


def _skip_first_exec(call: Any, hook: Any, event: str, arguments: Any) -> None:
    """Pass events on to an audit *hook*, except for the first one if it reports that the runner executes user code."""
    call.__setstate__(_calling(hook))
    if event != "exec":
        hook(event, arguments)


def _calling(hook: Any) -> tuple[Any, ...]:
    """The state of a `partial` that calls *hook*."""
    return hook, (), {}, None
