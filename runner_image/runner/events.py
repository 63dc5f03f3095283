"""One epoll, and what to call when a file can be read or written."""

from __future__ import annotations

import contextlib
import select
import socket
from collections.abc import Callable

from .sockets import Peer


class Events:
    """The supervisor's only source of events.

    A callback may be called once too often, for a descriptor that was closed and reused in the same round: its
    descriptor must not block.
    """

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._callbacks: dict[int, tuple[int, Callable[[], object]]] = {}

    def watch(self, file: int | socket.socket | Peer, callback: Callable[[], object], *, write: bool = False) -> None:
        """Call *callback* whenever *file* can be read or, with *write*, written to. It replaces an earlier callback."""
        descriptor = file if isinstance(file, int) else file.fileno()
        mask = select.EPOLLOUT if write else select.EPOLLIN
        known = self._callbacks.get(descriptor)
        if known is None:
            self._epoll.register(descriptor, mask)
        elif known[0] != mask:
            self._epoll.modify(descriptor, mask)
        self._callbacks[descriptor] = mask, callback

    def forget(self, file: int | socket.socket | Peer) -> None:
        """Stop watching *file*, which must still be open."""
        descriptor = file if isinstance(file, int) else file.fileno()
        if self._callbacks.pop(descriptor, None) is not None:
            with contextlib.suppress(OSError):
                self._epoll.unregister(descriptor)

    def close(self, connection: socket.socket | Peer | None) -> None:
        """Stop watching *connection* and close it, unless it is None or closed already."""
        if connection is not None and connection.fileno() >= 0:
            self.forget(connection)
            connection.close()

    def wait(self, seconds: float) -> None:
        """Wait for events, at most *seconds*, and call their callbacks."""
        for descriptor, _ in self._epoll.poll(seconds):
            if descriptor in self._callbacks:
                self._callbacks[descriptor][1]()
