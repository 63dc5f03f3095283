"""The attached stdin and stdout of a container as a byte stream, over any transport of the engine's API."""

from __future__ import annotations

import contextlib
import os
import queue
import socket
import struct
import threading
from collections.abc import Callable
from typing import Any

import anyio
import anyio.from_thread
import anyio.lowlevel
import anyio.to_thread
from anyio.abc import ByteStream

__all__ = ["AttachStream", "PumpedStream", "SelectedStream", "open_transport"]

_HEADER = struct.Struct(">BxxxL")
_STDERR = 2
_STDERR_KEPT = 4096
_READ = 1 << 16


def open_transport(connection: Any) -> ByteStream:
    """Make a byte stream from the *connection* that the docker SDK returns for an attach, and take ownership of it.

    The event loop waits for sockets; for other transports (TLS, ssh channels, Windows pipes) two threads do.
    """
    raw: object = getattr(connection, "_sock", connection)
    if type(raw) is socket.socket:
        duplicate = socket.socket(fileno=os.dup(raw.fileno()))
        for owner in (getattr(connection, "_response", None), connection, raw):
            if owner is not None:
                owner.close()
        duplicate.setblocking(False)
        return SelectedStream(duplicate)
    return PumpedStream(connection)


class SelectedStream(ByteStream):
    """A connected socket. Unlike anyio's streams it waits only if it has to, which saves three passes of the event loop
    in each call.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection

    async def receive(self, max_bytes: int = _READ) -> bytes:
        while True:
            try:
                data = self._socket.recv(max_bytes)
            except BlockingIOError:
                await anyio.wait_readable(self._socket)
            except OSError as error:
                raise self._error() from error
            else:
                if not data:
                    raise anyio.EndOfStream
                return data

    async def send(self, item: bytes) -> None:
        left = memoryview(item)
        while left:
            try:
                left = left[self._socket.send(left) :]
            except BlockingIOError:
                await anyio.wait_writable(self._socket)
            except OSError as error:
                raise self._error() from error

    def _error(self) -> Exception:
        return anyio.ClosedResourceError() if self._socket.fileno() < 0 else anyio.BrokenResourceError()

    async def send_eof(self) -> None:
        self._socket.shutdown(socket.SHUT_WR)

    async def aclose(self) -> None:
        if self._socket.fileno() >= 0:
            anyio.notify_closing(self._socket)
            with contextlib.suppress(OSError):  # the engine has closed it
                self._socket.shutdown(socket.SHUT_RDWR)  # a process that was forked meanwhile has it open too
            self._socket.close()


class PumpedStream(ByteStream):
    """Two threads that move bytes between a blocking connection and the event loop."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._token = anyio.lowlevel.current_token()
        self._sending: queue.SimpleQueue[tuple[bytes, anyio.Event] | None] = queue.SimpleQueue()
        self._put, self._received = anyio.create_memory_object_stream[bytes](0)
        self._left = b""
        self._unsent: set[anyio.Event] = set()
        self._is_closed = False
        self._broken: BaseException | None = None
        for target in (self._read, self._write):
            threading.Thread(target=target, name="mcp-agentrun attach", daemon=True).start()

    def _read(self) -> None:
        receive = getattr(self._connection, "recv", None) or self._connection.read
        with contextlib.suppress(Exception):  # broken or closed
            while data := receive(_READ):
                anyio.from_thread.run(self._put.send, data, token=self._token)
        with contextlib.suppress(Exception):
            anyio.from_thread.run_sync(self._put.close, token=self._token)

    def _write(self) -> None:
        send = getattr(self._connection, "sendall", None) or self._connection.write
        while (item := self._sending.get()) is not None:
            data, sent = item
            try:
                send(data)
            except Exception as error:
                self._broken = error
            with contextlib.suppress(Exception):
                anyio.from_thread.run_sync(sent.set, token=self._token)

    async def receive(self, max_bytes: int = _READ) -> bytes:
        data = self._left or await self._received.receive()
        self._left = data[max_bytes:]
        return data[:max_bytes]

    async def send(self, item: bytes) -> None:
        if self._is_closed:
            raise anyio.ClosedResourceError
        sent = anyio.Event()
        self._unsent.add(sent)
        self._sending.put((item, sent))
        try:
            await sent.wait()
        finally:
            self._unsent.discard(sent)
        if self._is_closed:
            raise anyio.ClosedResourceError
        if self._broken is not None:
            raise anyio.BrokenResourceError from self._broken

    async def send_eof(self) -> None:
        raise NotImplementedError

    async def aclose(self) -> None:
        self._is_closed = True
        self._sending.put(None)
        for sent in self._unsent:
            sent.set()
        self._put.close()
        self._received.close()
        # With a limiter of its own: a connection that hangs must not block other threads.
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(self._close, limiter=anyio.CapacityLimiter(1))

    def _close(self) -> None:
        with contextlib.suppress(Exception):
            self._connection.shutdown(socket.SHUT_RDWR)
        with contextlib.suppress(Exception):
            self._connection.close()


class AttachStream(ByteStream):
    """Reverses the engine's multiplexing: stdout is the stream, and the end of stderr is kept for diagnosis.

    The container's writes may arrive split or joined in any way.
    """

    def __init__(self, transport: ByteStream, *, on_close: Callable[[], object] = lambda: None) -> None:
        self._transport = transport
        self._on_close = on_close
        self._buffer = bytearray()
        self._remaining = 0
        self._source = 0
        self._stderr = b""

    @property
    def diagnostics(self) -> str:
        """The end of what the container's first process wrote to stderr."""
        return self._stderr.decode("utf-8", "backslashreplace")

    async def receive(self, max_bytes: int = _READ) -> bytes:
        while True:
            if data := self._next_piece(max_bytes):
                return data
            self._buffer += await self._transport.receive(_READ)

    def _next_piece(self, most: int) -> bytes:
        while self._buffer:
            if self._remaining == 0:
                if len(self._buffer) < _HEADER.size:
                    return b""
                self._source, self._remaining = _HEADER.unpack_from(self._buffer)
                del self._buffer[: _HEADER.size]
                continue
            is_output = self._source != _STDERR
            size = min(self._remaining, most) if is_output else self._remaining
            piece = bytes(self._buffer[:size])
            del self._buffer[:size]
            self._remaining -= len(piece)
            if is_output:
                return piece
            self._stderr = (self._stderr + piece)[-_STDERR_KEPT:]
        return b""

    async def send(self, item: bytes) -> None:
        await self._transport.send(item)

    async def send_eof(self) -> None:
        raise NotImplementedError

    async def aclose(self) -> None:
        try:
            await self._transport.aclose()
        finally:
            self._on_close()
