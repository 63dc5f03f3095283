"""Forks that Python does not offer: of siblings, and of helpers that get nothing of their parent's."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import sys
from collections.abc import Callable

from ..prelude import __builtins__
from .process_table import thread_count

_PR_GET_TID_ADDRESS = 40
_MADV_COLLAPSE = 25
_HUGE = 2 << 20
_CLONE_PARENT = 0x00008000
_CLONE_CHILD_CLEARTID = 0x00200000
_CLONE_CHILD_SETTID = 0x01000000
_SYS_CLONE = {"x86_64": 56, "aarch64": 220}.get(os.uname().machine)
_getpid, _getppid = os.getpid, os.getppid  # user code may replace them
_libc = ctypes.CDLL(None, use_errno=True)
_syscall_with_gil = ctypes.PyDLL(None, use_errno=True).syscall


def fork_sibling() -> int:
    """Fork a child of this process's *parent*; returns 0 in the child, and not 0 here.

    A process with one thread clones with ``CLONE_PARENT``, which copies the page tables once. That skips libc's
    ``pthread_atfork`` handlers, without which a library that keeps threads (OpenBLAS) would hang in the child:
    one with more threads forks twice instead, and the orphan goes to PID 1.

    :raises OSError: no more processes or memory.
    """
    if _SYS_CLONE is None or thread_count() > 1:
        return _fork_twice()
    # glibc keeps the thread id in user space, at the address that it registered with the kernel: a clone must have
    # it written there, as fork() does, or pthread_kill() in the child aims at its parent.
    tid_address = ctypes.c_void_p()
    flags = _CLONE_PARENT | signal.SIGCHLD
    if _libc.prctl(_PR_GET_TID_ADDRESS, ctypes.byref(tid_address), 0, 0, 0) == 0 and tid_address.value:
        flags |= _CLONE_CHILD_SETTID | _CLONE_CHILD_CLEARTID
    address = tid_address.value or 0
    maker = _getpid()
    ctypes.pythonapi.PyOS_BeforeFork()
    # The last two arguments of clone() stand in opposite order on x86_64 and aarch64.
    if os.uname().machine == "x86_64":
        pid = _syscall_with_gil(_SYS_CLONE, ctypes.c_long(flags), None, None, ctypes.c_void_p(address), None)
    else:
        pid = _syscall_with_gil(_SYS_CLONE, ctypes.c_long(flags), None, None, None, ctypes.c_void_p(address))
    if pid == 0:
        ctypes.pythonapi.PyOS_AfterFork_Child()
        if _getppid() == maker:  # gVisor makes it a child all the same
            _leave_to_init()
        return 0
    ctypes.pythonapi.PyOS_AfterFork_Parent()
    if pid < 0:
        raise OSError(ctypes.get_errno(), "clone")
    return _made(pid)


def _fork_twice() -> int:
    pid = os.fork()
    if pid == 0:
        _leave_to_init()
        return 0
    return _made(pid)


def _leave_to_init() -> None:
    """Go on in a child, which PID 1 gets as this process ends."""
    try:
        if os.fork() == 0:
            return
    except OSError as error:
        os._exit(error.errno or 1)
    os._exit(0)


def _made(pid: int) -> int:
    """Reap *pid* if it is a child of this process, which only forks and ends.

    :raises OSError: its fork has failed.
    """
    try:
        _, status = os.waitpid(pid, 0)
    except ChildProcessError:  # a sibling; or SIGCHLD is ignored, and the supervisor finds out whether it lives
        return pid
    if code := os.waitstatus_to_exitcode(status):
        raise OSError(max(code, 1), "fork")
    return pid


def start_helper(serve: Callable[[socket.socket], object]) -> tuple[int, socket.socket]:
    """Fork a helper from PID 1, which inherits nothing but one end of a connection, over which *serve* serves.

    :returns: its pid and PID 1's end.
    :raises OSError: no more processes.
    """
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid:
        theirs.close()
        return pid, ours
    try:
        ours.close()
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        nowhere = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1):
            os.dup2(nowhere, descriptor)
        keep = theirs.fileno()
        os.closerange(3, keep)
        os.closerange(keep + 1, 1 << 16)
        serve(theirs)
    except BaseException as error:
        sys.stderr.write(f"runner: {error!r}\n")
    finally:
        os._exit(1)


def use_huge_pages() -> None:
    """Move what this process has allocated so far to huge pages, where the kernel can: a fork copies an entry for each
    page, and takes half the time with fewer of them.
    """
    resident = (ctypes.c_ubyte * (_HUGE // os.sysconf("SC_PAGE_SIZE")))()
    with open("/proc/self/maps") as maps:
        for line in maps:
            words = line.split()
            first, last = (int(address, 16) for address in words[0].split("-"))
            is_heap = words[1] == "rw-p" and (len(words) == 5 or words[5] == "[heap]")
            for start in range(-(-first // _HUGE) * _HUGE, last // _HUGE * _HUGE if is_heap else 0, _HUGE):
                place = ctypes.c_void_p(start), ctypes.c_size_t(_HUGE)
                _libc.mincore(*place, resident)
                if sum(resident) > len(resident) * 3 / 4:  # what is still missing would be allocated
                    _libc.madvise(*place, _MADV_COLLAPSE)
