"""The process that made a container, and whether it is still alive."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys

import psutil
import pytest

from mcp_agentrun.engine.owner import Owner


@pytest.mark.anyio
async def test_a_dead_owner_is_told_from_a_living_one() -> None:
    owner = Owner.current()
    assert Owner.from_label(owner.to_label()) == owner
    assert not owner.has_ended()
    reused = Owner(owner.host, owner.boot, owner.namespace, os.getpid(), owner.began - 100)
    assert reused.has_ended()
    assert not Owner(owner.host, "another boot", owner.namespace, 1 << 22, 0.0).has_ended()
    assert not Owner(owner.host, owner.boot, "another namespace", 1 << 22, 0.0).has_ended()
    child = psutil.Popen(["sleep", "100"])
    other = Owner.of(child.pid)
    assert not other.has_ended()
    child.kill()
    assert other.has_ended() or child.wait() is None or other.has_ended()
    child.wait()
    assert other.has_ended()
    assert Owner.from_label("{}") is None


@pytest.mark.skipif(sys.platform == "win32", reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_a_forked_process_is_not_its_parent() -> None:
    parent = Owner.current()
    with multiprocessing.get_context("fork").Pool(1) as pool:
        child, pid = pool.apply(_current_owner)
    assert parent == Owner.current() != child
    assert child.pid == pid


def _current_owner() -> tuple[Owner, int]:
    return Owner.current(), os.getpid()


HIDDEN = """
import os, subprocess
from mcp_agentrun.engine.owner import Owner

living, dead = processes = [subprocess.Popen(["sleep", "100"]) for _ in range(2)]
owners = [Owner.of(process.pid) for process in processes]
dead.kill()
dead.wait()
Owner.current()
os.setgid(65534)
os.setuid(65534)
print(os.path.exists(f"/proc/{living.pid}"), *(owner.has_ended() for owner in owners))
"""


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="needs root, to hide processes")
def test_a_living_owner_that_is_hidden_is_not_taken_for_dead() -> None:
    # In a pid namespace of its own, since older kernels hide processes in all of one's mounts of /proc.
    script = 'mount -t proc -o hidepid=2 proc /proc && exec "$0" -c "$1"'
    said = subprocess.run(
        ["unshare", "--mount", "--pid", "--fork", "sh", "-c", script, sys.executable, HIDDEN],
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout == "False False True\n"
