"""The worker: a forked process in which user code runs, in one living namespace.

It takes turns: it connects to the supervisor, reports how the last run ended, receives the next one together with
its standard descriptors, and *closes the connection before user code starts*. So code finds descriptors 0, 1 and 2
and nothing else, and may close them all.
"""

from __future__ import annotations

import ast
import builtins
import contextlib
import errno
import importlib
import io
import linecache
import os
import random
import signal
import socket
import struct
import sys
import time
import traceback
import types
from typing import Any, NoReturn

from mcp_agentrun.protocol import FrameDecoder, Kind, decode_json, encode_json

from . import linux

WORKSPACE = "/workspace"
_WRITABLE = (WORKSPACE, "/tmp", "/dev/shm")
_ALL_SIGNALS = signal.valid_signals() - {signal.SIGINT}
_CLIP = 4096  # characters of any text in a report; all of it is in the output
_CONNECT_SECONDS = 5.0
_ROOM = 16  # for two descriptors, and for what the kernel adds about their sender
_CREDENTIALS = struct.Struct("3i")
_VICTIM = 500  # so that the kernel, out of memory, takes the worker and not its copy

# User code may replace any of these where they come from; the runner goes on with its own.
_getpid = os.getpid
_exit = os._exit
_monotonic = time.monotonic
_sleep = time.sleep
_print = print
_Socket = socket.socket
_receive_fds = socket.recv_fds
_PLAIN = frozenset((bool, int, float, complex, str, bytes))
_python_threads = sys._current_frames  # pyright: ignore[reportPrivateUsage]


def main(birth: socket.socket, turn_path: str) -> NoReturn:
    """Serve runs until the supervisor goes.

    :param birth: the connection of the first turn; the later ones are made at *turn_path*.
    """
    linux.set_name("worker")
    session = Session()
    pid = _getpid()
    is_open = False
    knows_peers = _peer(birth) == 1  # gVisor names the caller itself
    connection, report = birth, encode_json(Kind.READY)
    while True:
        connection.sendall(report)
        kind, payload, descriptors = _receive(connection)
        for _ in linux.reap():  # what the last run left running has been killed, and is nobody else's child
            pass
        if kind is Kind.CHECKPOINT:
            copy = _Socket(fileno=descriptors[0])
            error = _fork_copy()
            if _getpid() == pid:
                copy.close()
                report = encode_json(Kind.FORKED, error=error)
            else:
                connection.close()
                connection, pid, report = copy, _getpid(), encode_json(Kind.READY)
                is_open = False
            continue
        connection.close()
        if not is_open:
            is_open = True
            linux.set_dumpable(True)  # or user code could not open its own /proc/self/fd
            linux.prefer_as_victim(_VICTIM)
        _adopt_standard_streams(descriptors)
        run = decode_json(payload)
        result = session.run(run["run"], run["code"], run["path"])
        if _getpid() != pid:  # user code forked, and the child has fallen through to here
            _exit(result["exit_code"])
        report = encode_json(Kind.RESULT, run=run["run"], **result)
        connection = _take_turn(turn_path, 1 if knows_peers else None)


def _fork_copy() -> str | None:
    """Fork a frozen copy of this process, a child of the supervisor's like this one.

    :returns: why there is none, or, in the copy and where all is well, None.
    """
    pid = _getpid()
    state = random.getstate()
    try:
        linux.fork_sibling()
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, "EAGAIN")
    if _getpid() != pid:
        random.setstate(state)  # the module has itself seeded anew in every fork
        linux.prefer_as_victim(0)  # before it becomes non-dumpable, and the file is root's
        linux.set_dumpable(False)
        return None
    # Libraries that care about forks have ended their native threads before this one. Those that are left may have
    # held a lock just then, for which the copy would wait for ever.
    return "threads" if linux.thread_count() > len(_python_threads()) else None


def _peer(connection: socket.socket) -> int:
    """Pid of whoever made the other end, or listens there, as the kernel says."""
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


def _receive(connection: socket.socket) -> tuple[Kind, bytes, list[int]]:
    decoder = FrameDecoder()
    descriptors: list[int] = []
    while True:
        data, received, _, _ = _receive_fds(connection, 1 << 16, _ROOM)
        if not data:
            _exit(0)
        descriptors += received
        decoder.feed(data)
        for kind, payload in decoder:
            return kind, payload, descriptors


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
            raw = io.FileIO(target, "r" if target == 0 else "w", closefd=False)
            binary = io.BufferedReader(raw) if target == 0 else raw
            stream = io.TextIOWrapper(binary, "utf-8", errors, write_through=target != 0)  # pyright: ignore
            setattr(sys, name, stream)
            setattr(sys, f"__{name}__", stream)


class Session:
    """The namespace that lives from run to run, and the execution of one run in it."""

    def __init__(self) -> None:
        self._main = types.ModuleType("__main__")
        self._main.__dict__["__builtins__"] = builtins
        sys.modules["__main__"] = self._main
        for name in [name for name in sys.modules if name.partition(".")[0] in ("runner", "mcp_agentrun")]:
            del sys.modules[name]  # a module of the session's own may have that name
        sys.path[0] = WORKSPACE
        sys.argv = [""]
        os.chdir(WORKSPACE)
        random.seed()
        numpy_random = sys.modules.get("numpy.random")
        if numpy_random is not None:
            numpy_random.seed()  # or every worker of one zygote would draw the same numbers
        sys.displayhook = sys.__displayhook__ = self._display
        self._interrupt_handler: Any = signal.default_int_handler
        self._blocked: set[int] = set()
        self._packages: str | None = None
        self._value: str | None = None
        self._changed = True

    def run(self, number: int, code: str, packages: str | None) -> dict[str, Any]:
        """Execute *code*; what it prints, and the traceback of what it raises, go where Python sends them.

        :returns: the report: ``ok``, ``exit_code``, ``value`` (text of the last expression's value, or None),
            ``error`` (``type``, ``message``, ``line``; or None) and ``changed``, false where the session is certainly
            as it was before.
        """
        self._value = None
        self._changed = True
        self._use_packages(packages)
        report: dict[str, Any] = {"ok": True, "exit_code": 0, "error": None}
        try:
            try:
                # Only from here to the handler's reset may an interrupt raise.
                signal.signal(signal.SIGINT, self._interrupt_handler)
                signal.pthread_sigmask(signal.SIG_SETMASK, self._blocked)
                try:
                    self._execute(code, f"<run-{number}>")
                except SystemExit as exit_:
                    report["exit_code"] = _exit_code(exit_)
                    report["ok"] = report["exit_code"] == 0
                    if not report["ok"]:
                        report["error"] = _describe(exit_)
                except BaseException as error:
                    report.update(ok=False, exit_code=1, error=_describe(error))
                    _print_exception(error)
                for stream in (sys.stdout, sys.stderr):
                    with contextlib.suppress(Exception):
                        stream.flush()
            finally:
                # Handlers of the user's for other signals wait for the next run as well.
                self._blocked = signal.pthread_sigmask(signal.SIG_BLOCK, _ALL_SIGNALS)
                self._interrupt_handler = signal.getsignal(signal.SIGINT)
                signal.signal(signal.SIGINT, signal.SIG_IGN)
        except BaseException as error:  # an interrupt that came while the run was being wound up
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            report.update(ok=False, exit_code=1, error=_describe(error))
        report["value"] = self._value
        report["changed"] = self._changed or not report["ok"] or len(_python_threads()) > 1
        return report

    def _execute(self, code: str, filename: str) -> None:
        lines = io.StringIO(code, newline=None).readlines()
        linecache.cache[filename] = (len(code), None, lines, filename)
        namespace = self._main.__dict__
        tree: Any = compile(code, filename, "exec", ast.PyCF_ONLY_AST, dont_inherit=True)
        self._changed = not self._only_prints(tree)
        last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, filename, "exec", dont_inherit=True), namespace)
        if isinstance(last, ast.Expr):
            value = eval(compile(ast.Expression(last.value), filename, "eval", dont_inherit=True), namespace)
            sys.displayhook(value)

    def _only_prints(self, tree: ast.Module) -> bool:
        """Whether *tree* does nothing but print constants and variables of built-in types, so that no variable can
        have another value afterwards.
        """
        namespace = self._main.__dict__
        if (
            "print" in namespace
            or namespace.get("__builtins__") is not builtins
            or builtins.__dict__.get("print") is not _print
            or type(sys.stdout) is not io.TextIOWrapper
        ):
            return False
        for statement in tree.body:
            match statement:
                case ast.Expr(ast.Call(ast.Name("print"), arguments, [])):
                    for argument in arguments:
                        match argument:
                            case ast.Constant():
                                pass
                            case ast.Name(name) if type(namespace.get(name)) in _PLAIN:
                                pass
                            case _:
                                return False
                case _:
                    return False
        return True

    def _display(self, value: object) -> None:
        """Write a last expression's value as the interactive interpreter does, and keep it as ``_``."""
        if value is None:
            return
        builtins.__dict__["_"] = None
        text = repr(value)
        sys.stdout.write(text + "\n")
        self._value = text[:_CLIP]
        builtins.__dict__["_"] = value

    def _use_packages(self, path: str | None) -> None:
        """Put the session's packages on the path, between the standard library and the image's packages."""
        if path == self._packages:
            return
        if self._packages in sys.path:
            sys.path.remove(self._packages)
        self._packages = path
        if path is not None:
            place = next((i for i, entry in enumerate(sys.path) if entry.endswith("site-packages")), len(sys.path))
            sys.path.insert(place, path)
        importlib.invalidate_caches()


def _exit_code(error: SystemExit) -> int:
    """What ``python`` would exit with, printing what it would print."""
    code: object = error.code
    if code is None:
        return 0
    if isinstance(code, int):
        return code & 0xFF if -(1 << 63) <= code < 1 << 63 else 0xFF
    with contextlib.suppress(Exception):
        sys.stderr.write(f"{code}\n")
    return 1


def _print_exception(error: BaseException) -> None:
    """Print *error* as Python does, without the frames that are ours."""
    frames = error.__traceback__
    while frames is not None and frames.tb_frame.f_code.co_filename == __file__:
        frames = frames.tb_next
    error = error.with_traceback(frames)
    if sys.excepthook is sys.__excepthook__:
        traceback.print_exception(error)
        return
    try:
        sys.excepthook(type(error), error, frames)
    except BaseException as second:
        sys.stderr.write("Error in sys.excepthook:\n")
        traceback.print_exception(second)
        sys.stderr.write("\nOriginal exception was:\n")
        traceback.print_exception(error)


def _describe(error: BaseException) -> dict[str, Any]:
    """What *error* is, in plain values, however hostile its class."""
    line: int | None = None
    frame = error.__traceback__
    while frame is not None:
        if frame.tb_frame.f_code.co_filename.startswith("<run-"):
            line = frame.tb_lineno
        frame = frame.tb_next
    if line is None and isinstance(error, SyntaxError) and isinstance(error.lineno, int):
        line = error.lineno
    number = _system_error(error)
    return {
        "type": _text(lambda: type.__dict__["__name__"].__get__(type(error))),
        "message": _text(lambda: str(error)),
        "line": line,
        "errno": number,
        "full": [folder for folder in _WRITABLE if _is_full(folder)] if number == errno.ENOSPC else [],
    }


def _system_error(error: BaseException | None) -> int | None:
    """The errno behind *error*, or behind one that it came from: it tells which limit of the sandbox was hit."""
    for _ in range(10):
        if error is None:
            break
        if isinstance(error, MemoryError):
            return errno.ENOMEM
        if isinstance(error, RuntimeError) and error.args == ("can't start new thread",):
            return errno.EAGAIN
        if isinstance(error, socket.gaierror):
            return errno.ENETUNREACH
        if isinstance(error, OSError) and isinstance(error.errno, int) and 0 < error.errno < 4096:
            return error.errno
        error = error.__cause__ or error.__context__
    return None


def _is_full(folder: str) -> bool:
    with contextlib.suppress(OSError):
        state = os.statvfs(folder)
        return state.f_bavail == 0 or state.f_favail == 0
    return False


def _text(make: Any) -> str:
    try:
        return str.__getitem__(make(), slice(_CLIP))
    except BaseException:
        return "<unprintable>"
