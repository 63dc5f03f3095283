"""What belongs to the process that started it, and is of no use in a process that was forked from that one."""

from __future__ import annotations

import os

__all__ = ["is_inherited", "require_own"]


def is_inherited(pid: int | None) -> bool:
    """Return whether *pid* is another process: that in which something was started, or None if it is not started.

    An event loop's thread does not survive a fork, and sockets are shared with the parent.
    """
    return pid is not None and pid != os.getpid()


def require_own(pid: int | None, kind: str) -> None:
    """Require that a *kind* of object, which was started in the process *pid*, is not inherited.

    :raises RuntimeError: it is.
    """
    if is_inherited(pid):
        raise RuntimeError(f"this {kind} was made in another process; make one in this process")
