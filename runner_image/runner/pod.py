"""The stream of a container in a Kubernetes Pod.

What PID 1 writes to its standard output is kept in log files of the node; what a process writes that the engine has
added with ``pods/exec`` is not. So the server adds one process, the *relay*, which passes its own standard streams to
PID 1 and then only keeps them open. No data goes through it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import socket
import struct
import time
from resource import RLIMIT_CORE, RLIMIT_FSIZE, RLIMIT_MEMLOCK, RLIMIT_MSGQUEUE, RLIMIT_NOFILE, RLIMIT_NPROC, setrlimit

from .linux import privileges
from .prelude import NoReturn

_PATH = "/run/agentrun/relay"
_PACKAGES = "/packages"
_WAIT_SECONDS = 120.0  # for the relay, and for the socket that it connects to
_RETRY_SECONDS = 0.01
_STREAMS = 3
_UCRED = struct.Struct("3i")

relay_pids: set[int] = set()
"""The relay, which must not be taken for a process of user code."""

_connections: list[socket.socket] = []


def set_limits(open_files: int, file_size: int, processes: int) -> None:
    """Limit this process and its children as an engine with limits of its own would.

    :param processes: processes and threads of this user id; 0 for no limit.
    """
    for limit, most in (
        *(((RLIMIT_NPROC, processes),) if processes else ()),
        (RLIMIT_NOFILE, open_files),
        (RLIMIT_FSIZE, file_size),
        (RLIMIT_CORE, 0),
        (RLIMIT_MSGQUEUE, 0),
        (RLIMIT_MEMLOCK, 1 << 16),
    ):
        setrlimit(limit, (most, most))


def forget_cluster() -> None:
    """Remove the addresses of the cluster's API, which every Pod gets, from the environment of user code."""
    for name in [name for name in os.environ if name.startswith("KUBERNETES_")]:
        del os.environ[name]


def accept_streams() -> None:
    """Wait for the relay, and make its standard streams those of this process.

    Only a process that the engine has added has no parent in the Pod's pid namespace. There is no second relay: the
    socket is gone when the first has connected, which is before there is any user code.

    From then on, the folder for packages is locked. A container beside this one ends when it can have the lock.

    :raises OSError: none came.
    """
    with contextlib.suppress(OSError):  # of a file system without locks
        fcntl.flock(os.open(_PACKAGES, os.O_RDONLY), fcntl.LOCK_SH)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(_PATH)
        listener.listen(1)
        listener.settimeout(_WAIT_SECONDS)
        while not relay_pids:
            connection, _ = listener.accept()
            connection.settimeout(_WAIT_SECONDS)
            pid = _UCRED.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))[0]
            streams = socket.recv_fds(connection, 1, _STREAMS)[1] if _parent(pid) == 0 else []
            if len(streams) == _STREAMS:
                for number, stream in enumerate(streams):
                    os.dup2(stream, number)
                relay_pids.add(pid)
                _connections.append(connection)  # the relay ends when this is closed
            else:
                connection.close()
            for stream in streams:
                os.close(stream)
    os.unlink(_PATH)
    if os.geteuid() == 0:  # an installer's Pod has processes of other users
        os.chmod(os.path.dirname(_PATH), 0o700)


def _parent(pid: int) -> int | None:
    """Pid of the parent of *pid*, 0 if that is outside this pid namespace, None if *pid* is gone."""
    with contextlib.suppress(OSError), open(f"/proc/{pid}/stat", "rb") as file:
        return int(file.read().rpartition(b")")[2].split()[1])
    return None


def relay() -> NoReturn:
    """Pass the standard streams of this process to PID 1, and keep them open until that ends."""
    privileges.set_dumpable(False)  # or user code could open them through /proc
    privileges.set_name("relay")
    for number in (signal.SIGHUP, signal.SIGPIPE, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        _connect(connection)
        socket.send_fds(connection, [b"\0"], range(_STREAMS))
        connection.recv(1)
    os._exit(0)


def _connect(connection: socket.socket) -> None:
    """:raises OSError: PID 1 does not listen."""
    deadline = time.monotonic() + _WAIT_SECONDS
    while True:
        try:
            return connection.connect(_PATH)
        except OSError:  # PID 1 is still starting
            if time.monotonic() > deadline:
                raise
            time.sleep(_RETRY_SECONDS)
