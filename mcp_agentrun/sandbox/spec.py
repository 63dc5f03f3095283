"""The specification of a sandbox's container: limits, folders and user."""

from __future__ import annotations

import random
from collections.abc import Mapping

from ..engine import ContainerSpec
from ..host_folder import HostFolder
from ..settings import Settings
from ..wire.messages import WRITABLE

__all__ = ["give_back_uid", "runner_spec", "take_uid", "user_pids"]

_RUNNER_PIDS = 8
"""Number of processes that the runner needs beside a worker, e.g. for checkpoints."""

_MANY_UIDS = 1000

_uids_in_use: set[int] = set()


def take_uid(first: int, last: int) -> int:
    """Reserve a random user id from *first* to *last* that no other sandbox of this process uses, if there is one."""
    free = [uid for uid in random.sample(range(first, last + 1), min(256, last + 1 - first)) if uid not in _uids_in_use]
    uid = free[0] if free else random.randint(first, last)  # noqa: S311
    _uids_in_use.add(uid)
    return uid


def give_back_uid(uid: int) -> None:
    """Release *uid* for other sandboxes."""
    _uids_in_use.discard(uid)


def user_pids(settings: Settings) -> int:
    """Return how many processes and threads user code may have, so that the runner can still make checkpoints, or -1
    for no limit. The kernel counts them by user id, so this requires a different one for each sandbox.
    """
    first, last = settings.engine.uid_range
    if last - first < _MANY_UIDS:
        return -1
    return settings.limits.pids - min(_RUNNER_PIDS, settings.limits.pids // 4)


def runner_spec(
    settings: Settings, image: str, sandbox: str, uid: int, data: Mapping[str, HostFolder] | None = None
) -> ContainerSpec:
    """Return the specification of a sandbox's container, with the restrictions of *settings*.

    :param data: folders of this machine to mount, by path in the container.
    """
    threads = str(max(1, round(settings.limits.cpus)))
    sizes = {
        "/workspace": settings.limits.workspace_size,
        "/tmp": settings.limits.tmp_size,  # noqa: S108
        "/dev/shm": settings.limits.shm_size,  # noqa: S108
    }

    def tmpfs(size: int, mode: int, inodes: int) -> str:
        return f"rw,noexec,nosuid,nodev,size={size},nr_inodes={inodes},mode={mode:04o},uid={uid},gid={uid}"

    return ContainerSpec(
        image=image,
        role="runner",
        sandbox=sandbox,
        user=f"{uid}:{uid}",
        memory=settings.limits.memory,
        cpus=settings.limits.cpus,
        pids=settings.limits.pids,
        open_files=settings.limits.open_files,
        file_size=settings.limits.workspace_size,
        tmpfs={
            **{folder: tmpfs(sizes[folder], mode, settings.limits.inodes) for folder, mode in WRITABLE.items()},
            "/run/agentrun": tmpfs(1 << 16, 0o700, 16),
        },
        environment={
            "HOME": "/tmp/home",  # noqa: S108
            "USER": "sandbox",
            "LOGNAME": "sandbox",
            "LANG": "C.UTF-8",
            "MPLBACKEND": "agg",
            "PYTHONUNBUFFERED": "1",  # keeps the output of programs in order, also at a timeout
            **dict.fromkeys(
                ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_MAX_THREADS"), threads
            ),
        },
        network=settings.access.network,
        runtime=settings.engine.runtime,
        accept_unlimited=settings.engine.accept_weak,
        data=data or {},
    )
