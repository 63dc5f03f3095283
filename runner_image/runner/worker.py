"""The worker: a forked process in which user code runs, in one living namespace.

It connects to the supervisor, reports how the last run ended, receives the next one together with its standard
descriptors, and *closes the connection before user code starts*. So code finds descriptors 0, 1 and 2 and nothing else,
and may close them all.
"""

from __future__ import annotations

import contextvars
import errno
import io
import os
import signal
import socket
import struct
import sys
from contextlib import suppress
from os import _exit, close, dup, getpid, waitid
from signal import signal as set_handler
from socket import MSG_PEEK, recv_fds
from time import monotonic, sleep

from mcp_agentrun.wire.messages import Checkpoint, Execute, Forked, Message, MessageDecoder, RunReport, Started, encode

from .linux import forks, limits, memory, privileges, process_table
from .prelude import Any, NoReturn, __builtins__

_CONNECT_SECONDS = 5.0
_DESCRIPTORS = 2  # sent with each run
_MOST_DESCRIPTORS = 16  # these, and space for what the kernel adds about their sender
_CREDENTIALS = struct.Struct("3i")
_STREAMS = ("stdin", "stdout", "stderr")
_INTERRUPTED = 130
_OOM_SCORE = 500  # so that the kernel, out of memory, takes the worker and not its copy
_Socket = socket.socket
_STARTED, _FORKED = encode(Started()), encode(Forked(error=None))
_python_threads = sys._current_frames  # pyright: ignore[reportPrivateUsage]


def main(connection: _Socket, report_path: str) -> NoReturn:
    """Serve runs until the supervisor ends.

    :param connection: the first connection to the supervisor; the later ones are made at *report_path*.
    """
    privileges.set_name("worker")
    connection.sendall(_STARTED)
    # These take a first worker the longest time, while its code is on the way.
    import random

    from .children import helper_pids, note_ended
    from .session import Session

    session = Session()
    context = contextvars.Context()  # one for all runs, without what packages have set in the default one
    pid = getpid()
    is_open = is_checkpoint = False
    stdin = sys.stdin
    listener = 1 if _peer(connection) == 1 else None  # gVisor reports the caller itself
    while True:
        request, descriptors = _receive(connection)
        # What the last run left running has been killed, and nobody else would reap it.
        note_ended(dict(process_table.reap()), {connection.fileno(), *descriptors})
        if type(request) is Checkpoint:
            copy = _Socket(fileno=descriptors[0])
            state = random.getstate()
            error = _fork_copy()
            if getpid() == pid:
                del state
                copy.close()
                connection.sendall(_FORKED if error is None else encode(Forked(error=error)))
                continue
            connection.close()
            connection, pid, is_open, is_checkpoint = copy, getpid(), False, True
            connection.sendall(_STARTED)
            # Most copies are never used. What they do before they are, only copies pages.
            connection.recv(1, MSG_PEEK)
            random.setstate(state)  # the module reseeds itself in each fork
            continue
        connection.close()
        if not is_open:
            is_open = True
            privileges.set_dumpable(True)  # or user code could not open /proc/self/fd
            memory.set_oom_score(_OOM_SCORE)
            if not is_checkpoint:  # which has inherited these
                limits.limit_user_processes()
                limits.use_all_processors()
        _adopt_standard_streams(descriptors)
        assert type(request) is Execute
        # The first one was opened on the supervisor's stdin, which can't seek; a program's must have nothing buffered.
        if sys.stdin is stdin or request.script is not None:
            _open_stream(0)
        result = context.run(session.run, request.run, request.code, request.path, request.script)
        if getpid() != pid:  # a child that user code has forked arrives here as well
            _end_child(result)
        report = session.display.frames() + encode(RunReport(run=request.run, left=_has_left(helper_pids()), **result))
        connection = _connect(report_path, listener)
        _free_descriptors(connection)
        connection.sendall(report)


def _end_child(result: dict[str, Any]) -> NoReturn:
    if result["exit_code"] == _INTERRUPTED and result["error"]["type"] == "KeyboardInterrupt":
        set_handler(signal.SIGINT, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        os.kill(getpid(), signal.SIGINT)  # as Python ends, which its parent can see
    _exit(result["exit_code"])


def _has_left(helpers: set[int]) -> bool:
    """Whether there are children other than *helpers*."""
    try:
        waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    try:
        return not helpers or not process_table.children() <= helpers
    except OSError:
        return True


def _fork_copy() -> str | None:
    """Fork a frozen copy of this process, which is a child of the supervisor as well.

    :returns: why there is none; None in the copy, and if it was made.
    """
    pid = getpid()
    set_handler(signal.SIGINT, signal.default_int_handler)  # with which a hook that hangs is interrupted
    previous_limit = limits.lift_process_limit()
    try:
        forks.fork_sibling()
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, "EAGAIN")
    except BaseException:  # user code has replaced something that a fork needs
        return "hooks"
    finally:
        limits.set_process_limit(previous_limit)
        set_handler(signal.SIGINT, signal.SIG_IGN)
    if getpid() != pid:
        memory.set_oom_score(0)  # before it becomes non-dumpable, and the file is root's
        privileges.set_dumpable(False)
        return None
    # Libraries that handle forks have ended their native threads. One that is left may have held a lock at that moment,
    # for which the copy would wait forever.
    return "threads" if process_table.thread_count() > len(_python_threads()) else None


def _peer(connection: _Socket) -> int:
    """Pid of the process at the other end, reported by the kernel."""
    return _CREDENTIALS.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))[0]


def _connect(report_path: str, listener: int | None) -> _Socket:
    deadline = monotonic() + _CONNECT_SECONDS
    while True:
        try:
            connection = _Socket(socket.AF_UNIX, socket.SOCK_STREAM)
        except OSError as error:
            if error.errno != errno.EMFILE or monotonic() > deadline:
                raise
            os.closerange(0, 3)  # user code has all descriptors that it may have: these are replaced for the next run
            continue
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)  # so that the kernel reports the sender
        try:
            connection.connect(report_path)
            if listener is not None and _peer(connection) != listener:
                raise ConnectionRefusedError
        except OSError:  # user code has removed or replaced the socket: the supervisor restores it
            connection.close()
            if monotonic() > deadline:
                raise
            sleep(0.02)
        else:
            return connection


def _free_descriptors(connection: _Socket) -> None:
    """Close the standard descriptors if there is no space for those of the next run, which replace them."""
    spare: list[int] = []
    try:
        for _ in range(_DESCRIPTORS):
            spare.append(dup(connection.fileno()))
    except OSError:
        for standard in range(3):
            if standard != connection.fileno():
                with suppress(OSError):
                    close(standard)
    for each in spare:
        close(each)


def _receive(connection: _Socket) -> tuple[Message, list[int]]:
    decoder = MessageDecoder()
    descriptors: list[int] = []
    while True:
        data, received, _, _ = recv_fds(connection, 1 << 16, _MOST_DESCRIPTORS)
        if not data:
            _exit(0)
        descriptors += received
        decoder.feed(data)
        for message in decoder:
            return message, descriptors


def _adopt_standard_streams(descriptors: list[int]) -> None:
    """Make *descriptors*, a readable and a writable one, 0, 1 and 2 again, and reopen streams that were closed."""
    readable, pipe = descriptors
    for target, source in enumerate((readable, pipe, pipe)):  # in this order: they are above 0, and may be 1 and 2
        os.dup2(source, target)
        os.set_inheritable(target, True)
    for source in descriptors:
        if source > 2:
            close(source)
    for target, name in enumerate(_STREAMS):
        stream = getattr(sys, name, None)
        if stream is None or getattr(stream, "closed", False) is True:
            _open_stream(target)


def _open_stream(target: int) -> None:
    """Make the standard stream of descriptor *target*, as ``python -u`` does."""
    name = _STREAMS[target]
    errors = "backslashreplace" if name == "stderr" else "surrogateescape"
    raw: Any = io.FileIO(target, "r" if target == 0 else "w", closefd=False)
    raw.name = f"<{name}>"
    binary: Any = io.BufferedReader(raw) if target == 0 else raw
    stream: Any = io.TextIOWrapper(binary, "utf-8", errors, write_through=target != 0)
    stream.mode = "r" if target == 0 else "w"
    setattr(sys, name, stream)
    setattr(sys, f"__{name}__", stream)
