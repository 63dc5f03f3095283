"""The process that owns a container, recorded so that others can tell whether it has ended."""

from __future__ import annotations

import functools
import json
import os
import platform
import sys
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import psutil

__all__ = ["Owner"]

_START_TOLERANCE = 1.5  # seconds: the boot time that start times count from is itself adjusted with the clock


@dataclass(frozen=True)
class Owner:
    """A process, identified uniquely across hosts and boots."""

    host: str
    boot: str
    """Id of the host's current boot."""
    namespace: str
    """Id of the pid namespace; empty on systems without them."""
    pid: int
    began: float
    """Start time. On Linux in clock ticks since boot, which do not depend on the clock; elsewhere in seconds since the
    epoch."""

    @classmethod
    @functools.cache
    def current(cls) -> Owner:
        """Return this process."""
        return cls.of(os.getpid())

    @classmethod
    def of(cls, pid: int) -> Owner:
        """Return the process *pid* of this pid namespace, which must exist."""
        import psutil

        return cls(_host_id(), _boot_id(), _pid_namespace(), pid, _started(psutil.Process(pid)))

    @classmethod
    def from_label(cls, label: str) -> Owner | None:
        """Parse a container's *label*. Return None if it is malformed or of another release."""
        try:
            fields = json.loads(label)
            return cls(
                str(fields["host"]),
                str(fields["boot"]),
                str(fields["namespace"]),
                int(fields["pid"]),
                float(fields["began"]),
            )
        except (ValueError, KeyError, TypeError, OverflowError):
            return None

    def to_label(self) -> str:
        return json.dumps(asdict(self), separators=(",", ":"))

    @property
    def is_local(self) -> bool:
        """Whether it has the same host, boot and pid namespace as this process, so that its pid means the same."""
        here = Owner.current()
        return (self.host, self.boot, self.namespace) == (here.host, here.boot, here.namespace)

    def has_ended(self) -> bool:
        """Return whether it has certainly ended, which can be known only on the same host, boot and pid namespace."""
        if not self.is_local:
            return False
        import psutil

        try:
            process = psutil.Process(self.pid)
            return abs(_started(process) - self.began) > _START_TOLERANCE or (process.status() == psutil.STATUS_ZOMBIE)
        except psutil.NoSuchProcess:
            return not _may_live(self.pid)
        except (psutil.Error, ValueError, OverflowError):
            return False


if hasattr(os, "register_at_fork"):  # otherwise a forked process would take itself for its parent
    os.register_at_fork(after_in_child=Owner.current.cache_clear)


def _may_live(pid: int) -> bool:
    """Return whether there may be a process *pid*. ``/proc`` can hide those of other users."""
    if sys.platform == "win32":  # where nothing is hidden, and signal 0 is a real signal
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True


def _started(process: psutil.Process) -> float:
    if sys.platform == "linux":
        try:
            stat = Path(f"/proc/{process.pid}/stat").read_bytes()
            return float(stat.rpartition(b")")[2].split()[19])
        except (OSError, IndexError):
            pass  # the process has ended, or there is no /proc
    return process.create_time()


def _host_id() -> str:
    for path in ("/etc/machine-id", "/var/lib/dbus/machine-id"):
        try:
            if identity := Path(path).read_text().strip():
                return identity
        except OSError:
            continue
    return f"{platform.node()}-{uuid.getnode():012x}"


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        import psutil

        return str(round(psutil.boot_time() / 60))


def _pid_namespace() -> str:
    return os.readlink("/proc/self/ns/pid") if sys.platform == "linux" else ""
