"""stdin and stdout for the SDK's stdio transport, awaited by the event loop itself.

The SDK's own go through threads, three changes of thread for each call: that is a quarter of a millisecond, and a
reader that nothing can interrupt.
"""

from __future__ import annotations

import os
import select
from collections.abc import AsyncIterator
from typing import cast

import anyio

__all__ = ["claim"]

_READ = 1 << 16
_PIECE = getattr(select, "PIPE_BUF", 512)
"""Bytes that a pipe which can be written to takes without blocking."""


class _Lines:
    """The lines that arrive at a descriptor. It stays as blocking as it is: others may share its file."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLIN)

    async def __aiter__(self) -> AsyncIterator[str]:
        kept = bytearray()
        while True:
            if not self._poll.poll(0):  # a plain file can always be read, and can't be waited for
                await anyio.wait_readable(self._descriptor)
            data = os.read(self._descriptor, _READ)
            if not data:
                break
            *lines, rest = data.split(b"\n")
            for line in lines:
                yield (kept + line).decode("utf-8", "replace")
                kept.clear()
            kept += rest
        if kept:
            yield kept.decode("utf-8", "replace")


class _Text:
    """Text that leaves by a descriptor, which stays as blocking as it is."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLOUT)

    async def write(self, text: str) -> None:
        data = memoryview(text.encode())
        while data:
            if not self._poll.poll(0):
                await anyio.wait_writable(self._descriptor)
            data = data[os.write(self._descriptor, data[:_PIECE]) :]

    async def flush(self) -> None:
        """There is nothing that `write` holds back."""


def claim() -> tuple[anyio.AsyncFile[str], anyio.AsyncFile[str]]:
    """Take stdin and stdout for the protocol alone, for as long as the process lives: what else reads finds nothing,
    and what else prints goes to stderr.

    :returns: what `mcp.server.stdio.stdio_server` takes.
    """
    streams = _Lines(os.dup(0)), _Text(os.dup(1))
    with open(os.devnull) as nothing:
        os.dup2(nothing.fileno(), 0)
    os.dup2(2, 1)
    return cast("tuple[anyio.AsyncFile[str], anyio.AsyncFile[str]]", streams)
