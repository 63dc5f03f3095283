"""The few Linux calls that Python does not offer: process attributes, sibling forks, cgroup counters."""

from __future__ import annotations

import builtins
import contextlib
import ctypes
import os
import resource
import signal
import socket
import sys
import time
from collections.abc import Callable, Collection, Iterator

__builtins__ = dict(vars(builtins))  # of the functions below: user code may change the real ones

_PR_SET_DUMPABLE = 4
_PR_SET_NAME = 15
_PR_GET_TID_ADDRESS = 40
_PROCESS_CLOCK = 2
_MADV_COLLAPSE = 25
_HUGE = 2 << 20
_CLONE_PARENT = 0x00008000
_CLONE_CHILD_CLEARTID = 0x00200000
_CLONE_CHILD_SETTID = 0x01000000
_SYS_CLONE = {"x86_64": 56, "aarch64": 220}.get(os.uname().machine)

_getpid, _getppid = os.getpid, os.getppid  # user code may replace them
_libc = ctypes.CDLL(None, use_errno=True)
_syscall_with_gil = ctypes.PyDLL(None, use_errno=True).syscall


def set_dumpable(dumpable: bool) -> None:
    """Open or close this process to its own uid: a non-dumpable one can't be traced, nor its memory,
    descriptors or environment read through ``/proc``. Forked children inherit it.
    """
    if _libc.prctl(_PR_SET_DUMPABLE, int(dumpable), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_DUMPABLE)")


def set_name(name: str) -> None:
    """Name this process, as ``ps`` shows it."""
    _libc.prctl(_PR_SET_NAME, name.encode()[:15], 0, 0, 0)


def use_huge_pages() -> None:
    """Move what this process has allocated so far to huge pages, where the kernel can: a fork copies an entry for each
    page, and takes half the time with fewer of them.
    """
    with open("/proc/self/maps") as maps:
        for line in maps:
            words = line.split()
            first, last = (int(address, 16) for address in words[0].split("-"))
            is_heap = words[1] == "rw-p" and (len(words) == 5 or words[5] == "[heap]")
            start, end = -(-first // _HUGE) * _HUGE, last // _HUGE * _HUGE
            if is_heap and start < end:
                _libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), _MADV_COLLAPSE)


def thread_count() -> int:
    """Threads of this process, native ones included."""
    with open("/proc/self/stat", "rb") as stat:
        return int(stat.read().rpartition(b")")[2].split()[17])


def children() -> set[int]:
    """Pids of the children of this process, ended ones included."""
    found: set[int] = set()
    for thread in os.listdir("/proc/self/task"):
        with open(f"/proc/self/task/{thread}/children", "rb") as listed:
            found.update(map(int, listed.read().split()))
    return found


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
    except ChildProcessError:  # a sibling; or SIGCHLD is ignored: whoever needs the process will hear from it, or not
        return pid
    if code := os.waitstatus_to_exitcode(status):
        raise OSError(max(code, 1), "fork")
    return pid


def processes() -> list[int]:
    """Every pid of this pid namespace."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


class Memory:
    """The container's memory accounts, cgroup v1 and v2 alike, from files that stay open."""

    def __init__(self) -> None:
        v2 = os.path.exists("/sys/fs/cgroup/memory.current")
        folder = "/sys/fs/cgroup/" if v2 else "/sys/fs/cgroup/memory/memory."
        names = (
            ("memory.current", "memory.max", "memory.stat", "memory.events")
            if v2
            else ("usage_in_bytes", "limit_in_bytes", "stat", "oom_control")
        )
        self._files: list[int] = []
        with contextlib.suppress(OSError):
            self._files = [os.open(folder + name, os.O_RDONLY | os.O_CLOEXEC) for name in names]
        self._anonymous = b"anon" if v2 else b"rss"

    def oom_kills(self) -> int:
        """How many processes of this container the kernel has killed for want of memory."""
        return self._fields(3).get(b"oom_kill", 0)

    def anonymous(self) -> int:
        """Bytes of all processes together, shared ones counted once, files and tmpfs not counted."""
        return self._fields(2).get(self._anonymous, 0)

    def share(self) -> float:
        """How much of the limit is in use by what the kernel can't simply drop; 0 where there is no limit."""
        usage, limit = self._read(0), self._read(1)
        if not limit.strip().isdigit():
            return 0.0
        stat = self._fields(2)
        droppable = stat.get(b"inactive_file", 0) + stat.get(b"active_file", 0)
        return (int(usage) - droppable) / int(limit)

    def _read(self, number: int) -> bytes:
        try:
            return os.pread(self._files[number], 8192, 0)
        except (OSError, IndexError):
            return b""

    def _fields(self, number: int) -> dict[bytes, int]:
        lines = (line.split() for line in self._read(number).splitlines())
        return {words[0]: int(words[1]) for words in lines if len(words) == 2}


_refusals = [0]
"""Processes and threads that the container had been refused, when `no_more_processes` was last asked."""


_processors = os.sched_getaffinity(0)


def use_all_processors() -> None:
    """Undo what user code may have done to this process: no filter can forbid it to pin others than PID 1."""
    with contextlib.suppress(OSError):
        os.sched_setaffinity(0, _processors)


user_processes = [-1]
"""Processes and threads of the container, from which on user code gets no more; -1 where there is no such limit."""

_ROUGHLY = 2  # have just ended
_NPROC = resource.RLIMIT_NPROC
_getrlimit = resource.getrlimit
_setrlimit = resource.setrlimit


def leave_room() -> None:
    """Have this process, and those that it starts, leave the runner room for its own: see `user_processes`."""
    most = _getrlimit(_NPROC)[1]
    if user_processes[0] > 0:
        own = user_processes[0] if most < 0 else min(user_processes[0], most)
        _setrlimit(_NPROC, (own, most))


def take_room() -> tuple[int, int]:
    """Let this process take the room that `leave_room` leaves; returns what `set_room` takes to end that."""
    before = _getrlimit(_NPROC)
    _setrlimit(_NPROC, (before[1], before[1]))
    return before


def set_room(limits: tuple[int, int]) -> None:
    _setrlimit(_NPROC, limits)


def no_more_processes() -> bool:
    """Whether the container has been refused a process or thread since this was last asked, by the kernel's count, or
    has so many that user code gets no more.
    """
    with contextlib.suppress(OSError, ValueError):
        if 0 <= _getrlimit(_NPROC)[0] <= _processes() + _ROUGHLY:
            return True
    before = _refusals[0]
    for path in ("/sys/fs/cgroup/pids.events", "/sys/fs/cgroup/pids/pids.events"):
        with contextlib.suppress(OSError, ValueError, IndexError), open(path, "rb") as events:
            _refusals[0] = int(events.read().split()[1])
            break
    return _refusals[0] > before


def _processes() -> int:
    """Processes and threads of the container."""
    for path in ("/sys/fs/cgroup/pids.current", "/sys/fs/cgroup/pids/pids.current"):
        with contextlib.suppress(OSError), open(path, "rb") as count:
            return int(count.read())
    return 0


def anonymous_memory(pid: int | None) -> int:
    """Bytes of process *pid*, what it shares with its forks included; 0 where there is none."""
    with contextlib.suppress(OSError, ValueError), open(f"/proc/{pid}/status", "rb") as status:
        for line in status:
            if line.startswith(b"RssAnon:"):
                return int(line.split()[1]) << 10
    return 0


def prefer_as_victim(score: int) -> None:
    """How gladly the kernel should end this process when memory is out: 0 like any other, 1000 before all others.

    A hint: user code can set its own back.
    """
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write(str(score))


def start_helper(serve: Callable[[socket.socket], object]) -> tuple[int, socket.socket]:
    """Fork a helper from PID 1, with nothing of PID 1's but one end of a connection, over which *serve* serves.

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


def reap() -> Iterator[tuple[int, int]]:
    """Every ended child, orphans of others included, as ``(pid, exit code)``, negative for a signal."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        yield pid, os.waitstatus_to_exitcode(status)


def sweep(keep: Collection[int], *, seconds: float = 5.0) -> list[tuple[int, int]]:
    """End every process but PID 1 and *keep*, however fast they fork, and reap those that are ours.

    Strays are first stopped, in passes over ``/proc`` until one finds nobody new, so that nothing can fork away
    from the kill that follows.

    :param seconds: when to give up, for processes that the kernel can't end yet.
    :returns: ended children, as `reap` gives them; among them may be kept ones that ended by themselves.
    """
    spared = {1, *keep}
    stopped: set[int] = set()
    ended: list[tuple[int, int]] = []
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        strays = [pid for pid in processes() if pid not in spared and pid not in stopped]
        if not strays:
            break
        for pid in strays:
            stopped.add(pid)
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGSTOP)
    while stopped and time.monotonic() < deadline:
        for pid in stopped:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        ended += reap()
        stopped = {pid for pid in stopped if is_alive(pid)}
        if stopped:
            time.sleep(0.0005)  # SIGKILL has no event to wait for where the stray is not our child
    return ended


def boot_id() -> str | None:
    """The running kernel's id of its boot; None where it has none."""
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            return file.read().strip()
    except OSError:
        return None


def identity(path: str) -> tuple[int, int] | None:
    """Device and inode of the file at *path*; None where there is none."""
    try:
        status = os.stat(path, follow_symlinks=False)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def is_alive(pid: int) -> bool:
    """Whether *pid* still executes; a zombie, whose parent has to reap it, does not."""
    return _state(pid) not in (b"", b"Z", b"X")


def is_stopped(pid: int) -> bool:
    """Whether somebody has stopped *pid*."""
    return _state(pid) == b"T"


def is_runnable(pid: int) -> bool:
    """Whether *pid* waits for nothing but a processor, or the kernel for something on its behalf."""
    return _state(pid) in (b"R", b"D")


def cpu_seconds(pid: int) -> float:
    """Processor time that *pid* has used; 0 if it has gone."""
    try:
        return time.clock_gettime((~pid << 3) | _PROCESS_CLOCK)  # so Linux numbers the clocks of other processes
    except OSError:  # other kernels don't
        with contextlib.suppress(IndexError):
            return sum(map(int, _stat(pid)[11:13])) / os.sysconf("SC_CLK_TCK")
    return 0.0


def _state(pid: int) -> bytes:
    return (_stat(pid) or [b""])[0]


def _stat(pid: int) -> list[bytes]:
    """What the kernel says of *pid*, from its state on; nothing of one that is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:
            return stat.read().rpartition(b")")[2].split()
    except OSError:
        return []


CAP_CHOWN, CAP_DAC_READ_SEARCH, CAP_KILL, CAP_SETGID, CAP_SETUID = 0, 2, 5, 6, 7
_PR_SET_KEEPCAPS = 8
_CAPABILITY_VERSION = 0x20080522


def become(uid: int, gid: int, capabilities: Collection[int]) -> None:
    """Change from root to another user, who keeps *capabilities*, none of which a program that it executes inherits.

    :raises OSError: this process is not root, or lacks one of them.
    """
    if _libc.prctl(_PR_SET_KEEPCAPS, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_KEEPCAPS)")
    os.setgroups([])
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    kept = sum(1 << number for number in capabilities)
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION, 0)
    sets = (ctypes.c_uint32 * 6)(kept, kept, 0, 0, 0, 0)  # effective, permitted and inheritable, twice 32 bits each
    if _libc.capset(header, sets) != 0:
        raise OSError(ctypes.get_errno(), "capset")
