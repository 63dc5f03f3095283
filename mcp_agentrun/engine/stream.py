"""The container's attached stdin and stdout as one byte stream, over whatever carries the engine's API."""

from __future__ import annotations

import contextlib
import os
import queue
import socket
import struct
import threading
from typing import Any

import anyio
import anyio.from_thread
import anyio.lowlevel
import anyio.to_thread
from anyio.abc import ByteStream, SocketStream, UNIXSocketStream

__all__ = ["AttachStream", "PumpedStream", "open_transport"]

_HEADER = struct.Struct(">BxxxL")
_STDERR = 2
_STDERR_KEPT = 4096
_READ = 1 << 16


async def open_transport(connection: Any) -> ByteStream:
    """A byte stream over what the docker SDK returns for an attach: awaited where the event loop can await it,
    pumped by two threads elsewhere (TLS, ssh channels, Windows pipes). Takes ownership of *connection*.
    """
    raw: object = getattr(connection, "_sock", connection)
    if type(raw) is socket.socket:
        duplicate = socket.socket(fileno=os.dup(raw.fileno()))
        for owner in (getattr(connection, "_response", None), connection, raw):
            if owner is not None:
                owner.close()
        duplicate.setblocking(False)
        if duplicate.family == getattr(socket, "AF_UNIX", None):
            return await UNIXSocketStream.from_socket(duplicate)
        return await SocketStream.from_socket(duplicate)
    return PumpedStream(connection)


class PumpedStream(ByteStream):
    """Two threads that move bytes between a blocking connection and the event loop."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._token = anyio.lowlevel.current_token()
        self._sending: queue.SimpleQueue[tuple[bytes, anyio.Event] | None] = queue.SimpleQueue()
        self._put, self._received = anyio.create_memory_object_stream[bytes](0)
        self._broken: BaseException | None = None
        for target in (self._read, self._write):
            threading.Thread(target=target, name="mcp-agentrun attach", daemon=True).start()

    def _read(self) -> None:
        receive = getattr(self._connection, "recv", None) or self._connection.read
        with contextlib.suppress(Exception):  # broken or closed: either way the stream has ended
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
        return await self._received.receive()

    async def send(self, item: bytes) -> None:
        sent = anyio.Event()
        self._sending.put((item, sent))
        await sent.wait()
        if self._broken is not None:
            raise anyio.BrokenResourceError from self._broken

    async def send_eof(self) -> None:
        raise NotImplementedError

    async def aclose(self) -> None:
        self._sending.put(None)
        self._received.close()
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(self._close)

    def _close(self) -> None:
        with contextlib.suppress(Exception):
            self._connection.shutdown(socket.SHUT_RDWR)
        with contextlib.suppress(Exception):
            self._connection.close()


class AttachStream(ByteStream):
    """Undoes the engine's multiplexing: stdout is the stream, the end of stderr is kept for diagnosis.

    One write of the container may arrive in several pieces and several writes in one, cut anywhere.
    """

    def __init__(self, transport: ByteStream) -> None:
        self._transport = transport
        self._buffer = bytearray()
        self._remaining = 0
        self._source = 0
        self._stderr = b""

    @property
    def diagnostics(self) -> str:
        """The last words of the container's PID 1."""
        return self._stderr.decode("utf-8", "backslashreplace")

    async def receive(self, max_bytes: int = _READ) -> bytes:
        while True:
            if data := self._next_piece():
                return data
            self._buffer += await self._transport.receive(_READ)

    def _next_piece(self) -> bytes:
        while self._buffer:
            if self._remaining == 0:
                if len(self._buffer) < _HEADER.size:
                    return b""
                self._source, self._remaining = _HEADER.unpack_from(self._buffer)
                del self._buffer[: _HEADER.size]
                continue
            piece = bytes(self._buffer[: self._remaining])
            del self._buffer[: self._remaining]
            self._remaining -= len(piece)
            if self._source != _STDERR:
                return piece
            self._stderr = (self._stderr + piece)[-_STDERR_KEPT:]
        return b""

    async def send(self, item: bytes) -> None:
        await self._transport.send(item)

    async def send_eof(self) -> None:
        raise NotImplementedError

    async def aclose(self) -> None:
        await self._transport.aclose()
