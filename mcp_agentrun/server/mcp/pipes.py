"""stdin and stdout for the SDK's stdio transport, awaited by the event loop itself.

The SDK's own go through threads, three changes of thread for each call: that is a quarter of a millisecond, and a
reader that nothing can interrupt.
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
from mcp.shared._stream_protocols import ReadStream, WriteStream
from mcp.shared.message import SessionMessage
from mcp.types import INVALID_REQUEST, PARSE_ERROR, JSONRPCNotification, jsonrpc_message_adapter
from pydantic import ValidationError

__all__ = ["claimed"]

logger = logging.getLogger(__name__)

PATIENCE_SECONDS = 30.0
"""How long a client may take nothing of what is written to it, while it has sent more or closed its own end."""

MOST_WAITING = 16
"""Messages that may wait to be written; with so many, no request is read."""

LONGEST_LINE = 4 << 20
"""Bytes of a request."""

_READ = 1 << 16
_PIECE = getattr(select, "PIPE_BUF", 512)
"""Bytes that a pipe which can be written to takes without blocking."""


class _Text:
    """Text that leaves by a descriptor, which stays as blocking as it is.

    :param on_gone: told, perhaps more than once, that nobody reads there any more. What is written then is lost.
    :param requests: the descriptor at which the same client sends.
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
        """Messages that wait to be written."""

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
        """:raises BrokenPipeError: the client reads nothing, although it has sent more, or has closed its own end."""
        while not self._poll.poll(0):
            with anyio.move_on_after(PATIENCE_SECONDS):
                await anyio.wait_writable(self._descriptor)
                return
            if self._requests.poll(0):
                logger.warning("the client does not read what it is answered, and is taken for gone")
                raise BrokenPipeError

    async def caught_up(self) -> None:
        """Wait until so few messages wait to be written that another request may be read."""
        while self.waiting >= MOST_WAITING:
            await self._written.wait()

    async def flush(self) -> None:
        """There is nothing that `write` holds back."""


class _Lines:
    """The lines that arrive at a descriptor. It stays as blocking as it is: others may share its file.

    The SDK drops what is no message without a word, and its sender waits for ever: here it is answered by *answers*.
    """

    def __init__(self, descriptor: int, answers: _Text) -> None:
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
            if not self._poll.poll(0):  # a plain file can always be read, and can't be waited for
                await anyio.wait_readable(self._descriptor)
            data = os.read(self._descriptor, _READ)
            if not data:
                break
            *lines, rest = data.split(b"\n")
            for line in lines:
                yield (kept + line).decode("utf-8", "replace")
                kept.clear()
            kept += rest[: LONGEST_LINE + 1 - len(kept)]  # beyond, it is answered with an error in any case
        if kept:
            yield kept.decode("utf-8", "replace")


def _error(line: str) -> str | None:
    """The answer to a *line* that is no message of JSON-RPC, or can't be read; None if it is one, or empty."""
    if not line.strip():
        return None
    if len(line) > LONGEST_LINE // 4 and len(line.encode("utf-8", "replace")) > LONGEST_LINE:
        return _refusal(None, INVALID_REQUEST, f"The request is longer than {LONGEST_LINE >> 20} MiB.")
    try:
        message = jsonrpc_message_adapter.validate_json(line, by_name=False)
        if not (isinstance(message, JSONRPCNotification) and '"id"' in line and "id" in json.loads(line)):
            return None
        code, text = INVALID_REQUEST, "The id of a request is a text or a whole number."  # the SDK drops any other
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
        return f"The request has too many lists and objects inside of each other ({reason})."
    with contextlib.suppress(ValueError, RecursionError):
        json.loads(line)  # which takes half a pair
        reason = f"a lone surrogate is no Unicode text ({reason})"
    return f"The request is not valid JSON: {reason}."


def _no_message(line: str) -> str:
    if line.lstrip().startswith("["):
        return "The request is no message of JSON-RPC 2.0 but a list; send each message in a line of its own."
    return (
        "The request is no message of JSON-RPC 2.0, which is an object with `jsonrpc`, `method`, `params` that are an "
        "object, and, where an answer is expected, `id`."
    )


_TOKENS = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"?|[\[\]{}]', re.DOTALL)
"""Texts, and what nests. A text without an end is one, so that it is not looked through again from each quote."""


def _id_of(line: str) -> str | int | None:
    """Id of the request in *line*, however deep what it asks is nested; None where it has none, or is an answer, whose
    id is that of a request of ours.
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


class _Counted:
    """The SDK's stream of what is to be written, with a count of what waits in it."""

    def __init__(self, stream: WriteStream[SessionMessage], text: _Text) -> None:
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

    async def __aenter__(self) -> _Counted:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        await self.aclose()


@asynccontextmanager
async def claimed(
    on_gone: Callable[[], object],
) -> AsyncGenerator[tuple[ReadStream[SessionMessage | Exception], WriteStream[SessionMessage]]]:
    """Take stdin and stdout for the protocol alone, for as long as the process lives: what else reads finds nothing,
    and what else prints goes to stderr. Yields the messages that come, and what takes those that go.

    :param on_gone: told that nobody reads stdout any more.
    """
    requests, replies = _diverted()
    answers = _Text(replies, on_gone, requests=requests)
    stdin, stdout = cast("anyio.AsyncFile[str]", _Lines(requests, answers)), cast("anyio.AsyncFile[str]", answers)
    async with stdio_server(stdin, stdout) as (read, write):
        yield read, _Counted(write, answers)


def _diverted() -> tuple[int, int]:
    """Descriptors of what stdin and stdout have been until now."""
    found = os.dup(0), os.dup(1)
    with open(os.devnull) as nothing:
        os.dup2(nothing.fileno(), 0)
    os.dup2(2, 1)
    return found
