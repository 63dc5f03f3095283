"""stdin and stdout for the SDK's stdio transport, awaited by the event loop itself.

The SDK's own go through threads, three changes of thread for each call: that is a quarter of a millisecond, and a
reader that nothing can interrupt.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
from collections.abc import AsyncIterator
from typing import cast

import anyio
from mcp.types import PARSE_ERROR
from pydantic_core import from_json

__all__ = ["claim"]

_READ = 1 << 16
_PIECE = getattr(select, "PIPE_BUF", 512)
"""Bytes that a pipe which can be written to takes without blocking."""


class _Text:
    """Text that leaves by a descriptor, which stays as blocking as it is."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._turn = anyio.Lock(fast_acquire=True)
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLOUT)

    async def write(self, text: str) -> None:
        data = memoryview(text.encode())
        async with self._turn:
            while data:
                if not self._poll.poll(0):
                    await anyio.wait_writable(self._descriptor)
                data = data[os.write(self._descriptor, data[:_PIECE]) :]

    async def flush(self) -> None:
        """There is nothing that `write` holds back."""


class _Lines:
    """The lines that arrive at a descriptor. It stays as blocking as it is: others may share its file.

    The SDK drops what is no JSON without a word, and its sender waits for ever: here it is answered by *answers*.
    """

    def __init__(self, descriptor: int, answers: _Text) -> None:
        self._descriptor = descriptor
        self._answers = answers
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLIN)

    async def __aiter__(self) -> AsyncIterator[str]:
        async for line in self._lines():
            error = _error(line)
            if error is None:
                yield line
            else:
                await self._answers.write(error)

    async def _lines(self) -> AsyncIterator[str]:
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


def _error(line: str) -> str | None:
    """The answer to a *line* that is no JSON, such as one with half a surrogate pair; None if it is some, or empty."""
    try:
        if line.strip():
            from_json(line)
    except ValueError as error:
        number, reason = None, str(error)
        with contextlib.suppress(ValueError, AttributeError):
            number = json.loads(line).get("id")  # which takes half a pair
            reason = f"a lone surrogate is no Unicode text ({error})"
        problem = {"code": PARSE_ERROR, "message": f"The request is not valid JSON: {reason}."}
        return json.dumps({"jsonrpc": "2.0", "id": number, "error": problem}) + "\n"
    return None


def claim() -> tuple[anyio.AsyncFile[str], anyio.AsyncFile[str]]:
    """Take stdin and stdout for the protocol alone, for as long as the process lives: what else reads finds nothing,
    and what else prints goes to stderr.

    :returns: what `mcp.server.stdio.stdio_server` takes.
    """
    answers = _Text(os.dup(1))
    streams = _Lines(os.dup(0), answers), answers
    with open(os.devnull) as nothing:
        os.dup2(nothing.fileno(), 0)
    os.dup2(2, 1)
    return cast("tuple[anyio.AsyncFile[str], anyio.AsyncFile[str]]", streams)
