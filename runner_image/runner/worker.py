"""The worker: a forked process in which user code runs, in one living namespace.

It takes turns: it connects to the supervisor, reports how the last run ended, receives the next one together with
its standard descriptors, and *closes the connection before user code starts*. So code finds descriptors 0, 1 and 2
and nothing else, and may close them all.
"""

from __future__ import annotations

import builtins
import contextlib
import contextvars
import errno
import io
import os
import signal
import socket
import struct
import sys
import time

from mcp_agentrun.wire.messages import (
    Checkpoint,
    Execute,
    Forked,
    Message,
    MessageDecoder,
    RunReport,
    Started,
    encode,
)

from . import linux

__builtins__ = dict(vars(builtins))  # of the functions below: user code may change the real ones

TYPE_CHECKING = False  # importing `typing` takes 2 ms, for which a first answer would wait
if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any, NoReturn

_CONNECT_SECONDS = 5.0
_COMING = 2  # descriptors with each run
_ROOM = 16  # for these, and for what the kernel adds about their sender
_CREDENTIALS = struct.Struct("3i")
_INTERRUPTED = 130
_VICTIM = 500  # so that the kernel, out of memory, takes the worker and not its copy

# User code may replace any of these where they come from; the runner goes on with its own.
_getpid = os.getpid
_exit = os._exit
_signal = signal.signal
_dup = os.dup
_close = os.close
_waitid = os.waitid
_monotonic = time.monotonic
_sleep = time.sleep
_Socket = socket.socket
_receive_fds = socket.recv_fds
_python_threads = sys._current_frames  # pyright: ignore[reportPrivateUsage]


def main(birth: socket.socket, turn_path: str) -> NoReturn:
    """Serve runs until the supervisor ends.

    :param birth: the connection of the first turn; the later ones are made at *turn_path*.
    """
    linux.set_name("worker")
    birth.sendall(encode(Started()))
    # These take a first worker longer than all else, while its code is on the way.
    import random

    from .children import helper_pids, note_ended
    from .session import Session

    session = Session()
    context = contextvars.Context()  # one for all runs, without what packages have set in ours
    pid = _getpid()
    is_open = is_copy = False
    stdin = sys.stdin
    knows_peers = _peer(birth) == 1  # gVisor names the caller itself
    connection = birth
    while True:
        request, descriptors = _receive(connection)
        # What the last run left running has been killed, and is nobody else's child.
        note_ended(dict(linux.reap()), {connection.fileno(), *descriptors})
        if type(request) is Checkpoint:
            copy = _Socket(fileno=descriptors[0])
            error = _fork_copy(random)
            if _getpid() == pid:
                copy.close()
                connection.sendall(encode(Forked(error=error)))
            else:
                connection.close()
                connection, pid, is_open, is_copy = copy, _getpid(), False, True
                connection.sendall(encode(Started()))
            continue
        connection.close()
        if not is_open:
            is_open = True
            linux.set_dumpable(True)  # or user code could not open its own /proc/self/fd
            linux.prefer_as_victim(_VICTIM)
            if not is_copy:  # which has what its maker had
                linux.leave_room()
                linux.use_all_processors()
        _adopt_standard_streams(descriptors)
        assert type(request) is Execute
        # That of the first run was made for the supervisor's, which can't be sought; a program's has nothing buffered.
        if sys.stdin is stdin or request.script is not None:
            _open_stream(0, "stdin", "surrogateescape")
        result = context.run(session.run, request.run, request.code, request.path, request.script)
        if _getpid() != pid:  # user code forked, and the child has fallen through to here
            _end_child(result)
        report = session.items.frames() + encode(RunReport(run=request.run, left=_has_left(helper_pids()), **result))
        connection = _take_turn(turn_path, 1 if knows_peers else None)
        _make_room(connection)
        connection.sendall(report)


def _end_child(result: dict[str, Any]) -> NoReturn:
    if result["exit_code"] == _INTERRUPTED and result["error"]["type"] == "KeyboardInterrupt":
        _signal(signal.SIGINT, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        os.kill(_getpid(), signal.SIGINT)  # as Python ends, for its parent to see
    _exit(result["exit_code"])


def _has_left(helpers: set[int]) -> bool:
    """Whether there are children other than *helpers*."""
    try:
        _waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    try:
        return not helpers or not linux.children() <= helpers
    except OSError:
        return True


def _fork_copy(random: ModuleType) -> str | None:
    """Fork a frozen copy of this process, a child of the supervisor's like this one, and with the state of *random*.

    :returns: why there is none, or, in the copy and where all is well, None.
    """
    pid = _getpid()
    state = random.getstate()
    _signal(signal.SIGINT, signal.default_int_handler)  # by which a hook is ended that hangs
    room = linux.take_room()
    try:
        linux.fork_sibling()
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, "EAGAIN")
    except BaseException:  # of what user code has put in the place of something that a fork needs
        return "hooks"
    finally:
        linux.set_room(room)
        _signal(signal.SIGINT, signal.SIG_IGN)
    if _getpid() != pid:
        random.setstate(state)  # the module has itself seeded anew in every fork
        linux.prefer_as_victim(0)  # before it becomes non-dumpable, and the file is root's
        linux.set_dumpable(False)
        return None
    # Libraries that care about forks have ended their native threads before this one. Those that are left may have
    # held a lock just then, for which the copy would wait for ever.
    return "threads" if linux.thread_count() > len(_python_threads()) else None


def _peer(connection: socket.socket) -> int:
    """Pid of the process at the other end, reported by the kernel."""
    return _CREDENTIALS.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))[0]


def _take_turn(turn_path: str, listener: int | None) -> socket.socket:
    deadline = _monotonic() + _CONNECT_SECONDS
    while True:
        try:
            connection = _Socket(socket.AF_UNIX, socket.SOCK_STREAM)
        except OSError as error:
            if error.errno != errno.EMFILE or _monotonic() > deadline:
                raise
            os.closerange(0, 3)  # user code holds all that it may: these make room, and come back with the next run
            continue
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)  # what is sent says from whom, accepted or not
        try:
            connection.connect(turn_path)
            if listener is not None and _peer(connection) != listener:
                raise ConnectionRefusedError
        except OSError:  # user code has removed or replaced the socket: the supervisor puts it back
            connection.close()
            if _monotonic() > deadline:
                raise
            _sleep(0.02)
        else:
            return connection


def _make_room(connection: socket.socket) -> None:
    """Close descriptors of user code if there is no space for those of the next run."""
    spare: list[int] = []
    try:
        for _ in range(_COMING):
            spare.append(_dup(connection.fileno()))
    except OSError:
        for standard in range(3):  # they come back with the next run
            if standard != connection.fileno():
                with contextlib.suppress(OSError):
                    _close(standard)
    for each in spare:
        _close(each)


def _receive(connection: socket.socket) -> tuple[Message, list[int]]:
    decoder = MessageDecoder()
    descriptors: list[int] = []
    while True:
        data, received, _, _ = _receive_fds(connection, 1 << 16, _ROOM)
        if not data:
            _exit(0)
        descriptors += received
        decoder.feed(data)
        for message in decoder:
            return message, descriptors


def _adopt_standard_streams(descriptors: list[int]) -> None:
    """Make *descriptors*, one to read and one to write, 0, 1 and 2 again, whatever the last run did to those, and
    reopen streams that it closed.
    """
    nowhere, pipe = descriptors
    for target, source in enumerate((nowhere, pipe, pipe)):  # in this order: they are above 0, and may be 1 and 2
        os.dup2(source, target)
        os.set_inheritable(target, True)
    for source in descriptors:
        if source > 2:
            os.close(source)
    for target, (name, errors) in enumerate(
        (("stdin", "surrogateescape"), ("stdout", "surrogateescape"), ("stderr", "backslashreplace"))
    ):
        stream = getattr(sys, name, None)
        if stream is None or getattr(stream, "closed", False) is True:
            _open_stream(target, name, errors)


def _open_stream(target: int, name: str, errors: str) -> None:
    """Make the standard stream *name* of descriptor *target*, as ``python -u`` does."""
    raw: Any = io.FileIO(target, "r" if target == 0 else "w", closefd=False)
    raw.name = f"<{name}>"
    binary: Any = io.BufferedReader(raw) if target == 0 else raw
    stream: Any = io.TextIOWrapper(binary, "utf-8", errors, write_through=target != 0)
    stream.mode = "r" if target == 0 else "w"
    setattr(sys, name, stream)
    setattr(sys, f"__{name}__", stream)
