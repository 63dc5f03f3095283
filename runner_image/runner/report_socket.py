"""The socket on which workers report that they have executed their code and wait for more."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable

from mcp_agentrun.wire.codec import ProtocolError
from mcp_agentrun.wire.messages import Message

from . import wipe
from .events import Events
from .forking import REPORT_LIMIT
from .sockets import Peer

_CALLERS = 16


class ReportSocket:
    """Listens at *path*, in a folder with nothing else in it.

    :param on_call: given the pid of a caller, as the kernel reports the sender of the first bytes; the connection; and
        what was received, or None if that is malformed. Returns whether the connection is to be kept.
    """

    def __init__(self, events: Events, path: str, on_call: Callable[[int, Peer, list[Message] | None], bool]) -> None:
        self._events = events
        self._path = path
        self._on_call = on_call
        self._listener: socket.socket | None = None
        self._inode: int | None = None
        self._callers: list[Peer] = []  # connections that have not sent anything yet

    def listen(self) -> None:
        """Listen at a new socket."""
        self._events.close(self._listener)
        with contextlib.suppress(OSError):
            wipe.empty(os.path.dirname(self._path))
        self._listener = listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        with contextlib.suppress(OSError):
            listener.bind(self._path)
            listener.listen(16)
            self._inode = _inode(self._path)
            self._events.watch(listener, lambda: self._on_connect(listener))

    def check(self) -> None:
        """Listen again if user code has removed or replaced the socket."""
        if _inode(self._path) != self._inode:
            self.listen()

    def _on_connect(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            connection, _ = listener.accept()
            caller = Peer(connection, limit=REPORT_LIMIT, credentials=True)
            self._callers.append(caller)
            self._events.watch(caller, lambda: self._on_readable(caller))
            self._on_readable(caller)  # the report follows the connection at once
            if len(self._callers) > _CALLERS:
                self._events.close(self._callers.pop(0))

    def _on_readable(self, caller: Peer) -> None:
        received: list[Message] | None = None
        with contextlib.suppress(ProtocolError):
            received = caller.receive()
        if caller.sender_pid is None and not caller.closed:
            return
        self._callers.remove(caller)
        if caller.closed or caller.sender_pid is None or not self._on_call(caller.sender_pid, caller, received):
            self._events.close(caller)


def _inode(path: str) -> int | None:
    try:
        return os.lstat(path).st_ino
    except OSError:
        return None
