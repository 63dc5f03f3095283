"""The contents of the seccomp profile."""

from __future__ import annotations

import json
from collections import Counter

from mcp_agentrun.engine.docker.seccomp import ALLOWED, FALLBACKS, profile
from tests.support import CHECKOUT

FORBIDDEN = """
    acct add_key adjtimex bpf chroot clock_adjtime clock_settime clone3 delete_module fanotify_init fanotify_mark
    finit_module fsconfig fsmount fsopen fspick get_kernel_syms init_module io_setup io_uring_enter io_uring_register
    io_uring_setup ioperm iopl kcmp kexec_file_load kexec_load keyctl lookup_dcookie mbind memfd_secret migrate_pages
    modify_ldt mount mount_setattr move_mount move_pages mq_open mq_unlink msgget name_to_handle_at nfsservctl
    open_by_handle_at open_tree perf_event_open pidfd_getfd pivot_root process_madvise process_vm_readv
    process_vm_writev ptrace quotactl quotactl_fd reboot request_key semget set_mempolicy setdomainname sethostname
    setns settimeofday shmat shmget swapoff swapon syslog umount2 unshare uselib userfaultfd vhangup
"""


def test_groups_are_reasoned_and_distinct() -> None:
    assert all(group.reason.endswith(".") and group.calls for group in (*ALLOWED, FALLBACKS))
    plain = Counter(call for group in ALLOWED for call in group.calls if not group.conditions)
    assert [call for call, count in plain.items() if count > 1] == []
    ruled = {call for group in ALLOWED for call in group.calls if group.conditions}
    assert not ruled & set(plain), "a call allowed without a rule makes its rules void"


def test_nothing_forbidden_is_allowed() -> None:
    assert not set(FORBIDDEN.split()) & {call for group in ALLOWED for call in group.calls}


def test_no_argument_has_two_conditions() -> None:
    # Engines turn two conditions on one argument into alternatives.
    for group in ALLOWED:
        assert len({each.index for each in group.conditions}) == len(group.conditions)


def test_only_the_native_table_is_open() -> None:
    assert not {"architectures", "archMap"} & set(profile())


def test_the_profile_for_nodes_is_the_same() -> None:
    assert json.loads((CHECKOUT / "deploy" / "kubernetes" / "seccomp.json").read_text()) == profile()
