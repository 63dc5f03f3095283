"""One epoll, and what to call when a file can be read or written."""

from __future__ import annotations

import contextlib
import select
from collections.abc import Callable

from .prelude import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Protocol

    class HasFileno(Protocol):
        def fileno(self) -> int: ...


class Events:
    """The supervisor's only source of events.

    A callback may be called once too often, for a descriptor that was closed and given out anew in the same round:
    its descriptor must not block.
    """

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._callbacks: dict[int, tuple[int, Callable[[], object]]] = {}

    def watch(self, file: int | HasFileno, callback: Callable[[], object], *, write: bool = False) -> None:
        """Call *callback* whenever *file* can be read, or, with *write*, be written; and no earlier callback of it."""
        descriptor = file if isinstance(file, int) else file.fileno()
        mask = select.EPOLLOUT if write else select.EPOLLIN
        known = self._callbacks.get(descriptor)
        if known is None:
            self._epoll.register(descriptor, mask)
        elif known[0] != mask:
            self._epoll.modify(descriptor, mask)
        self._callbacks[descriptor] = mask, callback

    def forget(self, file: int | HasFileno) -> None:
        """Watch *file* no more. To be called before it is closed."""
        descriptor = file if isinstance(file, int) else file.fileno()
        if self._callbacks.pop(descriptor, None) is not None:
            with contextlib.suppress(OSError):
                self._epoll.unregister(descriptor)

    def wait(self, seconds: float) -> None:
        """Wait for events, at most *seconds*, and call what they are for."""
        for descriptor, _ in self._epoll.poll(seconds):
            if descriptor in self._callbacks:
                self._callbacks[descriptor][1]()
