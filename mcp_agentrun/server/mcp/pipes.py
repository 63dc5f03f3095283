"""stdin and stdout for the SDK's stdio transport, awaited by the event loop.

The SDK itself uses threads: three switches for each call, which take a quarter of a millisecond, and a reader that
can't be interrupted.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import select
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from types import TracebackType
from typing import cast

import anyio
from mcp.server.stdio import stdio_server
from mcp.shared.message import SessionMessage
from mcp.types import INVALID_REQUEST, PARSE_ERROR, JSONRPCNotification, jsonrpc_message_adapter
from pydantic import ValidationError

from .sdk import MessageReader, MessageWriter

__all__ = ["claim_stdio"]

logger = logging.getLogger(__name__)

PATIENCE_SECONDS = 30.0
"""Longest time a client may read nothing while it has sent more or has closed its own end."""

MOST_WAITING = 16
"""Number of messages waiting to be written at which no more requests are read."""

LONGEST_LINE = 4 << 20
"""Longest request, in bytes."""

_READ = 1 << 16
_PIECE = getattr(select, "PIPE_BUF", 512)
"""Number of bytes that a writable pipe accepts without blocking."""


class _LineWriter:
    """Writes text to a descriptor without changing whether it blocks.

    :param on_gone: called, perhaps more than once, when nobody reads any more. What is written then is lost.
    :param requests: the descriptor from which the same client's requests are read.
    """

    def __init__(
        self, descriptor: int, on_gone: Callable[[], object] = lambda: None, *, requests: int | None = None
    ) -> None:
        self._descriptor = descriptor
        self._on_gone = on_gone
        self._turn = anyio.Lock(fast_acquire=True)
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLOUT)
        self._requests = select.poll()
        if requests is not None:
            self._requests.register(requests, select.POLLIN)
        self._written = anyio.Event()
        self.waiting = 0
        """Number of messages that wait to be written."""

    async def write(self, text: str) -> None:
        data = memoryview(text.encode())
        async with self._turn:
            while data:
                try:
                    await self._until_writable()
                    data = data[os.write(self._descriptor, data[:_PIECE]) :]
                except (BrokenPipeError, ConnectionResetError):
                    self._on_gone()
                    return
        self._written.set()
        self._written = anyio.Event()

    async def _until_writable(self) -> None:
        """Wait until the descriptor is writable.

        :raises BrokenPipeError: the client reads nothing although it has sent more or has closed its own end.
        """
        while not self._poll.poll(0):
            with anyio.move_on_after(PATIENCE_SECONDS):
                await anyio.wait_writable(self._descriptor)
                return
            if self._requests.poll(0):
                logger.warning("the client does not read its answers and is treated as disconnected")
                raise BrokenPipeError

    async def caught_up(self) -> None:
        """Wait until fewer than `MOST_WAITING` messages wait to be written."""
        while self.waiting >= MOST_WAITING:
            await self._written.wait()

    async def flush(self) -> None:
        """Do nothing: `write` does not buffer."""


class _LineReader:
    """Reads lines from a descriptor without changing whether it blocks, because other processes may share its file.

    The SDK drops invalid messages silently, and their sender would wait forever: here they are answered with an error.
    """

    def __init__(self, descriptor: int, answers: _LineWriter) -> None:
        self._descriptor = descriptor
        self._answers = answers
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLIN)

    async def __aiter__(self) -> AsyncIterator[str]:
        async for line in self._lines():
            error = _error(line)
            await self._answers.caught_up()
            if error is None:
                yield line
            else:
                await self._answers.write(error)

    async def _lines(self) -> AsyncIterator[str]:
        kept = bytearray()
        while True:
            if not self._poll.poll(0):  # a regular file is always readable and can't be awaited
                await anyio.wait_readable(self._descriptor)
            data = os.read(self._descriptor, _READ)
            if not data:
                break
            *lines, rest = data.split(b"\n")
            for line in lines:
                yield (kept + line).decode("utf-8", "replace")
                kept.clear()
            kept += rest[: LONGEST_LINE + 1 - len(kept)]  # a longer line is answered with an error anyway
        if kept:
            yield kept.decode("utf-8", "replace")


def _error(line: str) -> str | None:
    """Return the answer to a *line* that is not a valid JSON-RPC message, or None if it is valid or blank."""
    if not line.strip():
        return None
    if len(line) > LONGEST_LINE // 4 and len(line.encode("utf-8", "replace")) > LONGEST_LINE:
        return _refusal(None, INVALID_REQUEST, f"The request is longer than {LONGEST_LINE >> 20} MiB.")
    try:
        message = jsonrpc_message_adapter.validate_json(line, by_name=False)
        if not (isinstance(message, JSONRPCNotification) and '"id"' in line and "id" in json.loads(line)):
            return None
        code, text = INVALID_REQUEST, "The id of a request must be a string or an integer."  # the SDK drops others
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        if first["type"] == "json_invalid":
            code, text = PARSE_ERROR, _unreadable(line, first["msg"].removeprefix("Invalid JSON: "))
        else:
            code, text = INVALID_REQUEST, _no_message(line)
    return _refusal(_id_of(line), code, text)


def _refusal(id_: str | int | None, code: int, text: str) -> str:
    return json.dumps({"jsonrpc": "2.0", "id": id_, "error": {"code": code, "message": text}}) + "\n"


def _unreadable(line: str, reason: str) -> str:
    if reason.startswith("recursion limit"):
        return f"The request has too many nested lists and objects ({reason})."
    with contextlib.suppress(ValueError, RecursionError):
        json.loads(line)  # which accepts lone surrogates
        reason = f"a lone surrogate is not valid Unicode ({reason})"
    return f"The request is not valid JSON: {reason}."


def _no_message(line: str) -> str:
    if line.lstrip().startswith("["):
        return "The request is a list and not a JSON-RPC 2.0 message; send each message in a separate line."
    return (
        "The request is not a JSON-RPC 2.0 message: an object with `jsonrpc`, `method`, `params` (an object), and `id` "
        "if an answer is expected."
    )


_TOKENS = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"?|[\[\]{}]', re.DOTALL)
"""Strings and brackets. An unterminated string is one token, so that it is scanned only once."""


def _id_of(line: str) -> str | int | None:
    """Return the id of the request in *line*, however deeply its parameters are nested.

    Return None if it has none, or if it is a response, whose id belongs to a request of the server.
    """
    depth = end = 0
    outermost: list[str] = []
    for token in _TOKENS.finditer(line):
        if token[0] in ("[", "{"):
            depth += 1
            if depth == 2:
                outermost += line[end : token.start()], "null"
        elif token[0] in ("]", "}"):
            depth -= 1
            if depth == 1:
                end = token.end()
    try:
        found: dict[str, object] = json.loads("".join(outermost) + line[end:])
        number = None if "result" in found or "error" in found else found["id"]
    except (ValueError, RecursionError, KeyError, TypeError):
        return None
    if isinstance(number, str):
        return number if number.isprintable() else None
    return number if isinstance(number, int) and not isinstance(number, bool) else None


class _CountingStream:
    """The SDK's stream of outgoing messages, which counts those that wait in it."""

    def __init__(self, stream: MessageWriter, text: _LineWriter) -> None:
        self._stream = stream
        self._text = text

    async def send(self, item: SessionMessage, /) -> None:
        self._text.waiting += 1
        try:
            await self._stream.send(item)
        finally:
            self._text.waiting -= 1

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def __aenter__(self) -> _CountingStream:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        await self.aclose()


@asynccontextmanager
async def claim_stdio(on_gone: Callable[[], object]) -> AsyncGenerator[tuple[MessageReader, MessageWriter]]:
    """Reserve stdin and stdout for MCP as long as the process lives. Yield streams of incoming and outgoing messages.

    Other code that reads from stdin finds it empty, and what it prints to stdout goes to stderr.

    :param on_gone: called when nobody reads stdout any more.
    """
    requests, replies = _diverted()
    answers = _LineWriter(replies, on_gone, requests=requests)
    stdin, stdout = cast("anyio.AsyncFile[str]", _LineReader(requests, answers)), cast("anyio.AsyncFile[str]", answers)
    async with stdio_server(stdin, stdout) as (read, write):
        yield read, _CountingStream(write, answers)


def _diverted() -> tuple[int, int]:
    """Return new descriptors for stdin and stdout, and redirect the old ones."""
    found = os.dup(0), os.dup(1)
    with open(os.devnull) as nothing:
        os.dup2(nothing.fileno(), 0)
    os.dup2(2, 1)
    return found
