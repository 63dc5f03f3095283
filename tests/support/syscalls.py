"""Code that makes system calls by number, for attacks in a sandbox."""

from __future__ import annotations

__all__ = ["SYSCALLS"]

SYSCALLS = r"""
import ctypes, errno, json, os, platform, signal, socket, sys
libc = ctypes.CDLL(None, use_errno=True)
AMD64 = platform.machine() == "x86_64"
def number(amd64, arm64): return amd64 if AMD64 else arm64
def call(nr, *args):
    ctypes.set_errno(0)
    result = libc.syscall(ctypes.c_long(nr), *[ctypes.c_long(a) for a in (*args, 0, 0, 0, 0, 0, 0)[:6]])
    return errno.errorcode.get(ctypes.get_errno(), "?") if result < 0 else "ok"
"""
"""``call`` returns "ok" or the error's name; ``number`` chooses a call's number by architecture."""
