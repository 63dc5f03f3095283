"""The system calls that a container may make: an allow-list in groups, with a reason for each.

It replaces the engine's default profile. Other calls fail with EPERM, or with ENOSYS if libc has a fallback for them.
No architectures are listed, so that the filter covers only the native system calls and refuses all others (32-bit calls
on amd64 through ``int 0x80``, x32), which the conditions on arguments depend on. Names that an architecture does not
have are ignored.
"""

from __future__ import annotations

import errno
import functools
import json
from dataclasses import dataclass, field
from typing import Any

__all__ = ["ALLOWED", "FALLBACKS", "ArgumentCondition", "SyscallGroup", "profile", "profile_json"]


@dataclass(frozen=True)
class ArgumentCondition:
    """A condition on one argument. *op* is libseccomp's comparison operator without its prefix."""

    index: int
    op: str
    value: int
    mask_result: int = 0
    """For ``MASKED_EQ``: what the argument masked with *value* must be."""


@dataclass(frozen=True)
class SyscallGroup:
    """System calls that are allowed for one reason, if all *conditions* are met."""

    name: str
    reason: str
    calls: tuple[str, ...]
    conditions: tuple[ArgumentCondition, ...] = field(default=())


def _calls(text: str) -> tuple[str, ...]:
    return tuple(text.split())


_NAMESPACE_FLAGS = 0x7E020000 | 0x00000080  # CLONE_NEW{CGROUP,UTS,IPC,USER,PID,NET,NS,TIME}
_AF_UNIX, _AF_INET, _AF_INET6 = 1, 2, 10
_ANY, _TCP, _UDP = 0, 6, 17

_PID_BITS = 31  # the kernel ignores the others: 1 << 32 | 1 is PID 1, too

ALLOWED: tuple[SyscallGroup, ...] = (
    SyscallGroup(
        "files",
        "Reading and writing files. Mounts and limits confine the file systems.",
        _calls(
            """
            access chdir chmod chown close close_range copy_file_range creat dup dup2 dup3 faccessat faccessat2
            fadvise64 fallocate fchdir fchmod fchmodat fchmodat2 fchown fchownat fcntl fdatasync fgetxattr
            flistxattr flock fremovexattr fsetxattr fstat fstatfs fsync ftruncate futimesat getcwd getdents
            getdents64 getxattr getxattrat lchown lgetxattr link linkat listxattr listxattrat llistxattr
            lremovexattr lseek lsetxattr lstat mkdir mkdirat newfstatat open openat openat2 pread64 preadv preadv2
            pwrite64 pwritev pwritev2 read readahead readlink readlinkat readv removexattr removexattrat rename
            renameat renameat2 rmdir sendfile setxattr setxattrat splice stat statfs statx symlink symlinkat sync
            sync_file_range syncfs tee truncate umask unlink unlinkat utime utimensat utimes vmsplice write writev
            cachestat
            """
        ),
    ),
    SyscallGroup(
        "special files",
        "mknod creates FIFOs and sockets; devices need a capability that no process here has.",
        _calls("mknod mknodat"),
    ),
    SyscallGroup(
        "waiting for descriptors",
        "Event loops. pselect is what gVisor calls pselect6.",
        _calls(
            """
            epoll_create epoll_create1 epoll_ctl epoll_pwait epoll_pwait2 epoll_wait eventfd eventfd2
            inotify_add_watch inotify_init inotify_init1 inotify_rm_watch pipe pipe2 poll ppoll pselect pselect6
            select signalfd signalfd4 timerfd_create timerfd_gettime timerfd_settime
            """
        ),
    ),
    SyscallGroup(
        "memory",
        "Every allocator. Arrow, PyTorch and JIT compilers need memfd_create, which allows nothing that anonymous "
        "executable memory does not, and counts against the memory limit.",
        _calls(
            """
            brk madvise mincore mlock mlock2 mlockall mmap mprotect mremap msync munlock munlockall munmap
            memfd_create pkey_alloc pkey_free pkey_mprotect map_shadow_stack mseal process_mrelease
            """
        ),
    ),
    SyscallGroup(
        "processes",
        "Starting programs, waiting for them and ending.",
        _calls("execve execveat exit exit_group fork vfork wait4 waitid waitpid"),
    ),
    SyscallGroup(
        "clone",
        "Threads and forks, but no new namespaces, in which user code would have all capabilities.",
        _calls("clone"),
        (ArgumentCondition(0, "MASKED_EQ", _NAMESPACE_FLAGS),),
    ),
    SyscallGroup(
        "identity",
        "Reading one's ids, and switching between them; others need a capability.",
        _calls(
            """
            getegid geteuid getgid getgroups getpgid getpgrp getpid getppid getresgid getresuid getsid gettid getuid
            setfsgid setfsuid setgid setgroups setpgid setregid setresgid setresuid setreuid setsid setuid capget
            capset
            """
        ),
    ),
    SyscallGroup(
        "signals",
        "Handling and sending them. The kernel protects PID 1 and other namespaces.",
        _calls(
            """
            alarm kill pause pidfd_open pidfd_send_signal restart_syscall rt_sigaction rt_sigpending rt_sigprocmask
            rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_tgsigqueueinfo sigaltstack tgkill tkill
            """
        ),
    ),
    SyscallGroup(
        "threads",
        "Locks and the per-thread data of libc.",
        _calls(
            """
            arch_prctl futex futex_requeue futex_wait futex_waitv futex_wake get_robust_list membarrier rseq
            set_robust_list set_tid_address
            """
        ),
    ),
    SyscallGroup(
        "time",
        "Reading clocks, sleeping and timers, but not setting a clock.",
        _calls(
            """
            clock_getres clock_gettime clock_nanosleep getitimer gettimeofday nanosleep setitimer time timer_create
            timer_delete timer_getoverrun timer_gettime timer_settime times
            """
        ),
    ),
    SyscallGroup(
        "sockets",
        "Using sockets. The next groups say which can be created.",
        _calls(
            """
            accept accept4 bind connect getpeername getsockname getsockopt listen recvfrom recvmmsg recvmsg sendmmsg
            sendmsg sendto setsockopt shutdown
            """
        ),
    ),
    SyscallGroup(
        "local sockets",
        "AF_UNIX, for processes of the sandbox.",
        _calls("socket socketpair"),
        (ArgumentCondition(0, "EQ", _AF_UNIX),),
    ),
    *(
        SyscallGroup(
            f"internet sockets, family {family}, protocol {protocol}",
            "AF_INET and AF_INET6, TCP and UDP, for loopback at least. Other protocols (ICMP, SCTP, DCCP, MPTCP) and "
            "netlink, packet, vsock, alg and bluetooth sockets expose kernel code or bypass the network namespace.",
            _calls("socket"),
            (ArgumentCondition(0, "EQ", family), ArgumentCondition(2, "EQ", protocol)),
        )
        for family in (_AF_INET, _AF_INET6)
        for protocol in (_ANY, _TCP, _UDP)
    ),
    SyscallGroup(
        "own limits and priority",
        "For the caller only: PID 1 has the same uid, and these calls could kill or starve it.",
        _calls("prlimit64 sched_setattr sched_setparam sched_setscheduler"),
        (ArgumentCondition(0, "EQ", 0),),
    ),
    *(
        SyscallGroup(
            f"processors, for a thread whose id has {condition}",
            "Libraries pin threads that they start by their ids, which a filter can't tell from other ids. One "
            "condition for each bit allows every id except that of PID 1. Other processes of the runner reset their "
            "affinity before they run code.",
            _calls("sched_setaffinity"),
            (ArgumentCondition(0, "MASKED_EQ", mask, wanted),),
        )
        for condition, mask, wanted in (
            ("an even number", 1, 0),
            *((f"bit {bit}", 1 << bit, 1 << bit) for bit in range(1, _PID_BITS)),
        )
    ),
    SyscallGroup(
        "own nice value",
        "which = process and who = the caller; setting it by user would affect PID 1.",
        _calls("setpriority"),
        (ArgumentCondition(0, "EQ", 0), ArgumentCondition(1, "EQ", 0)),
    ),
    SyscallGroup(
        "own input and output priority",
        "As above; here IOPRIO_WHO_PROCESS is 1.",
        _calls("ioprio_set"),
        (ArgumentCondition(0, "EQ", 1), ArgumentCondition(1, "EQ", 0)),
    ),
    SyscallGroup(
        "limits and scheduling, read",
        "Reading them is harmless.",
        _calls(
            """
            getcpu getpriority getrlimit getrusage ioprio_get sched_get_priority_max sched_get_priority_min
            sched_getaffinity sched_getattr sched_getparam sched_getscheduler sched_rr_get_interval sched_yield
            setrlimit get_mempolicy
            """
        ),
    ),
    SyscallGroup(
        "process settings",
        "prctl changes attributes of a process; those that weaken restrictions need a capability. A process may "
        "restrict itself further.",
        _calls("prctl seccomp landlock_add_rule landlock_create_ruleset landlock_restrict_self"),
    ),
    SyscallGroup(
        "descriptor settings",
        "Requests to drivers. Simulating input to a terminal is possible, but no other user reads one here.",
        _calls("ioctl"),
    ),
    SyscallGroup(
        "personality, read",
        "Reading the execution domain. Changing it could disable address randomisation or select other system calls.",
        _calls("personality"),
        (ArgumentCondition(0, "EQ", 0xFFFFFFFF),),
    ),
    SyscallGroup(
        "personality, default",
        "The default domain, which start-up code sets.",
        _calls("personality"),
        (ArgumentCondition(0, "EQ", 0),),
    ),
    SyscallGroup(
        "system information",
        "Name, load and randomness.",
        _calls("getrandom sysinfo uname"),
    ),
)

FALLBACKS: SyscallGroup = SyscallGroup(
    "fallbacks",
    "libc and runtimes try these first and have a fallback. clone3 passes its flags in memory, where a filter can't "
    "see them.",
    _calls(
        "clone3 io_uring_setup io_uring_enter io_uring_register set_mempolicy mbind migrate_pages move_pages "
        "set_mempolicy_home_node"
    ),
)
"""Calls that fail with ENOSYS instead of EPERM."""


@functools.cache
def profile() -> dict[str, Any]:
    """Return the profile in the format of Docker and Podman."""
    allowed = [_entry(group, "SCMP_ACT_ALLOW") for group in ALLOWED]
    return {
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": errno.EPERM,
        "syscalls": [*allowed, {**_entry(FALLBACKS, "SCMP_ACT_ERRNO"), "errnoRet": errno.ENOSYS}],
    }


def _entry(group: SyscallGroup, action: str) -> dict[str, Any]:
    return {
        "names": sorted(group.calls),
        "action": action,
        "comment": group.name,
        "args": [
            {"index": each.index, "op": f"SCMP_CMP_{each.op}", "value": each.value, "valueTwo": each.mask_result}
            for each in group.conditions
        ],
    }


@functools.cache
def profile_json(*, gvisor: bool = False) -> str:
    """Return the profile as the engine's API expects it.

    :param gvisor: for gVisor, whose filter only returns EPERM. clone3 is allowed there: it does not exist, and threads
        can only start if it fails with ENOSYS.
    """
    chosen = profile()
    if gvisor:
        clone3 = SyscallGroup("clone3, missing", "See above.", ("clone3",))
        others = [{**entry, "names": [n for n in entry["names"] if n != "clone3"]} for entry in chosen["syscalls"]]
        chosen = {**chosen, "syscalls": [*others, _entry(clone3, "SCMP_ACT_ALLOW")]}
    return json.dumps(chosen, separators=(",", ":"))
