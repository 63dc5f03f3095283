"""What this process may do, what others may do to it, and as which user it runs."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Collection

from ..prelude import __builtins__

_PR_SET_DUMPABLE = 4
_PR_SET_NAME = 15
_PR_SET_KEEPCAPS = 8
_CAPABILITY_VERSION = 0x20080522
CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_KILL, CAP_SETGID, CAP_SETUID = 0, 1, 2, 5, 6, 7
_libc = ctypes.CDLL(None, use_errno=True)


def set_dumpable(dumpable: bool) -> None:
    """Set whether this process is accessible to its own uid: a non-dumpable one can't be traced, nor its memory,
    descriptors or environment read through ``/proc``. Forked children inherit it.
    """
    if _libc.prctl(_PR_SET_DUMPABLE, int(dumpable), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_DUMPABLE)")


def set_name(name: str) -> None:
    """Set the name of this process, as shown by ``ps``."""
    _libc.prctl(_PR_SET_NAME, name.encode()[:15], 0, 0, 0)


def become(uid: int, gid: int, capabilities: Collection[int]) -> None:
    """Change from root to another user, who keeps those of *capabilities* that this process has. A program that it
    executes inherits none.

    :raises OSError: this process is not root.
    """
    if _libc.prctl(_PR_SET_KEEPCAPS, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_KEEPCAPS)")
    os.setgroups([])
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION, 0)
    sets = (ctypes.c_uint32 * 6)()  # effective, permitted and inheritable, twice 32 bits each
    if _libc.capget(header, sets) != 0:
        raise OSError(ctypes.get_errno(), "capget")
    kept = sets[1] & sum(1 << number for number in capabilities)
    if _libc.capset(header, (ctypes.c_uint32 * 6)(kept, kept, 0, 0, 0, 0)) != 0:
        raise OSError(ctypes.get_errno(), "capset")
