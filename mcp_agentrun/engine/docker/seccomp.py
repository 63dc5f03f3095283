"""Which system calls a container may make: an allow-list, by group, with the reason for each.

It replaces the engine's default profile. What is not named fails with EPERM; calls that libc tries first and has a
fallback for fail with ENOSYS, so that the fallback is taken. Architectures are not named either: the filter then
covers the native system-call table alone, and every other one (32-bit calls on amd64 through ``int 0x80``, x32) is
refused whole, which the argument rules depend on. Names that an architecture does not have are ignored there.
"""

from __future__ import annotations

import errno
import functools
import json
from dataclasses import dataclass, field
from typing import Any

__all__ = ["ALLOWED", "FALLBACKS", "Group", "Rule", "profile", "profile_json"]


@dataclass(frozen=True)
class Rule:
    """A condition on one argument: *op* is libseccomp's, without its prefix."""

    index: int
    op: str
    value: int
    mask_result: int = 0
    """For ``MASKED_EQ``: what the argument must be once masked with *value*."""


@dataclass(frozen=True)
class Group:
    """System calls that are allowed for one reason; all *rules* must hold for a call to be allowed."""

    name: str
    reason: str
    calls: tuple[str, ...]
    rules: tuple[Rule, ...] = field(default=())


def _calls(text: str) -> tuple[str, ...]:
    return tuple(text.split())


_NAMESPACE_FLAGS = 0x7E020000 | 0x00000080  # CLONE_NEW{CGROUP,UTS,IPC,USER,PID,NET,NS,TIME}
_AF_UNIX, _AF_INET, _AF_INET6 = 1, 2, 10
_ANY, _TCP, _UDP = 0, 6, 17

_PID_BITS = 31  # the kernel looks at no more: 1 << 32 | 1 is PID 1, too

ALLOWED: tuple[Group, ...] = (
    Group(
        "files",
        "Reading and writing files, on file systems that the container's mounts and limits confine.",
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
    Group(
        "special files",
        "FIFOs and sockets are made with mknod, as mkfifo() does; devices need a capability that nothing here has.",
        _calls("mknod mknodat"),
    ),
    Group(
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
    Group(
        "memory",
        "Every allocator. memfd_create is among them because Arrow, PyTorch and JIT compilers need it: it gives no way "
        "to run code that anonymous executable memory does not give too, and what it holds counts against the limit.",
        _calls(
            """
            brk madvise mincore mlock mlock2 mlockall mmap mprotect mremap msync munlock munlockall munmap
            memfd_create pkey_alloc pkey_free pkey_mprotect map_shadow_stack mseal process_mrelease
            """
        ),
    ),
    Group(
        "processes",
        "Starting programs, waiting for them and ending.",
        _calls("execve execveat exit exit_group fork vfork wait4 waitid waitpid"),
    ),
    Group(
        "clone",
        "Threads and forks, but no new namespaces: within one of its own user code would hold every capability.",
        _calls("clone"),
        (Rule(0, "MASKED_EQ", _NAMESPACE_FLAGS),),
    ),
    Group(
        "identity",
        "Asking who one is, and changes among ids that one has; others need a capability.",
        _calls(
            """
            getegid geteuid getgid getgroups getpgid getpgrp getpid getppid getresgid getresuid getsid gettid getuid
            setfsgid setfsuid setgid setgroups setpgid setregid setresgid setresuid setreuid setsid setuid capget
            capset
            """
        ),
    ),
    Group(
        "signals",
        "Handling and sending them: the kernel keeps PID 1, and other namespaces, out of reach.",
        _calls(
            """
            alarm kill pause pidfd_open pidfd_send_signal restart_syscall rt_sigaction rt_sigpending rt_sigprocmask
            rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_tgsigqueueinfo sigaltstack tgkill tkill
            """
        ),
    ),
    Group(
        "threads",
        "Locks and what libc keeps for each thread.",
        _calls(
            """
            arch_prctl futex futex_requeue futex_wait futex_waitv futex_wake get_robust_list membarrier rseq
            set_robust_list set_tid_address
            """
        ),
    ),
    Group(
        "time",
        "Reading clocks, sleeping and timers; setting a clock is not among them.",
        _calls(
            """
            clock_getres clock_gettime clock_nanosleep getitimer gettimeofday nanosleep setitimer time timer_create
            timer_delete timer_getoverrun timer_gettime timer_settime times
            """
        ),
    ),
    Group(
        "sockets",
        "Use of sockets; which ones may be made is said below.",
        _calls(
            """
            accept accept4 bind connect getpeername getsockname getsockopt listen recvfrom recvmmsg recvmsg sendmmsg
            sendmsg sendto setsockopt shutdown
            """
        ),
    ),
    Group(
        "local sockets",
        "AF_UNIX, for processes of the sandbox.",
        _calls("socket socketpair"),
        (Rule(0, "EQ", _AF_UNIX),),
    ),
    *(
        Group(
            f"internet sockets, family {family}, protocol {protocol}",
            "AF_INET and AF_INET6, TCP and UDP: loopback at least. Other protocols (ICMP, SCTP, DCCP, MPTCP) and "
            "netlink, packet, vsock, alg and bluetooth sockets lead into kernel code or past the network namespace.",
            _calls("socket"),
            (Rule(0, "EQ", family), Rule(2, "EQ", protocol)),
        )
        for family in (_AF_INET, _AF_INET6)
        for protocol in (_ANY, _TCP, _UDP)
    ),
    Group(
        "own limits and priority",
        "For oneself only: aimed at PID 1, which has the same uid, these calls would kill or starve it.",
        _calls("prlimit64 sched_setattr sched_setparam sched_setscheduler"),
        (Rule(0, "EQ", 0),),
    ),
    *(
        Group(
            f"processors, for a thread whose id has {condition}",
            "Libraries pin threads that they start, by their ids, which no filter can know for the caller's own. PID 1 "
            "stays out of reach: a condition on each bit lets pass any id but 1. What else of the runner's is pinned "
            "lets go of that before it is of use.",
            _calls("sched_setaffinity"),
            (Rule(0, "MASKED_EQ", mask, wanted),),
        )
        for condition, mask, wanted in (
            ("an even number", 1, 0),
            *((f"bit {bit}", 1 << bit, 1 << bit) for bit in range(1, _PID_BITS)),
        )
    ),
    Group(
        "own nice value",
        "which = process and who = oneself; by user, PID 1 would be meant too.",
        _calls("setpriority"),
        (Rule(0, "EQ", 0), Rule(1, "EQ", 0)),
    ),
    Group(
        "own input and output priority",
        "As above; here IOPRIO_WHO_PROCESS is 1.",
        _calls("ioprio_set"),
        (Rule(0, "EQ", 1), Rule(1, "EQ", 0)),
    ),
    Group(
        "limits and scheduling, asked",
        "Reading them harms nobody.",
        _calls(
            """
            getcpu getpriority getrlimit getrusage ioprio_get sched_get_priority_max sched_get_priority_min
            sched_getaffinity sched_getattr sched_getparam sched_getscheduler sched_rr_get_interval sched_yield
            setrlimit get_mempolicy
            """
        ),
    ),
    Group(
        "process settings",
        "prctl names and marks a process; what it could loosen needs a capability. A process may confine itself "
        "further.",
        _calls("prctl seccomp landlock_add_rule landlock_create_ruleset landlock_restrict_self"),
    ),
    Group(
        "descriptor settings",
        "Requests to drivers. Typing into a terminal is among them: there is none here that anybody else reads.",
        _calls("ioctl"),
    ),
    Group(
        "personality, asked",
        "Reading the execution domain; changing it can switch off address randomisation or select another table.",
        _calls("personality"),
        (Rule(0, "EQ", 0xFFFFFFFF),),
    ),
    Group(
        "personality, usual", "The default domain, set by start-up code.", _calls("personality"), (Rule(0, "EQ", 0),)
    ),
    Group(
        "system information",
        "Name, load and randomness.",
        _calls("getrandom sysinfo uname"),
    ),
)

FALLBACKS: Group = Group(
    "fallbacks",
    "libc and runtimes try these first, and take another way where they do not exist: clone3 passes its flags in "
    "memory, where no filter sees them.",
    _calls(
        "clone3 io_uring_setup io_uring_enter io_uring_register set_mempolicy mbind migrate_pages move_pages "
        "set_mempolicy_home_node"
    ),
)
"""Fail with ENOSYS in place of EPERM."""


@functools.cache
def profile() -> dict[str, Any]:
    """The profile, in the format that Docker and Podman read."""
    allowed = [_entry(group, "SCMP_ACT_ALLOW") for group in ALLOWED]
    return {
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": errno.EPERM,
        "syscalls": [*allowed, {**_entry(FALLBACKS, "SCMP_ACT_ERRNO"), "errnoRet": errno.ENOSYS}],
    }


def _entry(group: Group, action: str) -> dict[str, Any]:
    return {
        "names": sorted(group.calls),
        "action": action,
        "comment": group.name,
        "args": [
            {"index": rule.index, "op": f"SCMP_CMP_{rule.op}", "value": rule.value, "valueTwo": rule.mask_result}
            for rule in group.rules
        ],
    }


@functools.cache
def profile_json(*, gvisor: bool = False) -> str:
    """The profile as the engine's API takes it.

    :param gvisor: for gVisor, which refuses with EPERM only. It has no clone3 itself, and says ENOSYS if it is asked:
        without that word, no thread could start.
    """
    chosen = profile()
    if gvisor:
        clone3 = Group("clone3, asked", "See above.", ("clone3",))
        others = [{**entry, "names": [n for n in entry["names"] if n != "clone3"]} for entry in chosen["syscalls"]]
        chosen = {**chosen, "syscalls": [*others, _entry(clone3, "SCMP_ACT_ALLOW")]}
    return json.dumps(chosen, separators=(",", ":"))
