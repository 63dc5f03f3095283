"""The end of a program, as Python ends it."""

from __future__ import annotations

import atexit
import gc
import sys
import types

from .prelude import Any, __builtins__
from .user_calls import UserCalls

_USED_BY_FINALIZERS: tuple[Any, ...] = (type, types.FunctionType, types.ModuleType)
_run_exit_functions: Any = atexit._run_exitfuncs  # pyright: ignore[reportPrivateUsage]


def wait_for_threads(calls: UserCalls) -> None:
    """Wait for all threads but daemons, and for what executors still have to do. None may be started afterwards."""
    threading: Any = sys.modules.get("threading")
    shutdown = getattr(threading, "_shutdown", None)
    if shutdown is not None:
        calls.alone(shutdown)


def finalize(calls: UserCalls, namespace: dict[str, Any]) -> None:
    """Call the functions that are registered with `atexit`, and finalize the variables, which closes files.

    Functions, classes and modules come last: finalizers of other objects use them.
    """
    calls.alone(_run_exit_functions)
    for kept in (_USED_BY_FINALIZERS, ()):
        for name in [name for name in namespace if not name.startswith("__")]:
            if not isinstance(namespace.get(name), kept):
                calls.alone(namespace.__setitem__, name, None)
    calls.alone(gc.collect)
