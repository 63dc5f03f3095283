"""Non-blocking connections of the supervisor that carry messages."""

from __future__ import annotations

import array
import itertools
import os
import socket
import struct
from collections import deque
from collections.abc import Sequence

from mcp_agentrun.wire.messages import Message, MessageDecoder, encode

_UCRED = struct.Struct("3i")
_READ = 1 << 16
_BATCH = 64


class Peer:
    """One end of an exchange of messages with a process that may be hostile, dead, or not reading.

    Nothing here blocks. End of file and errors set `closed`.

    :param limit: largest payload accepted from the peer, in bytes.
    :param credentials: learn `sender_pid`. Without it the kernel discards whatever else a peer sends along.
    """

    def __init__(self, connection: socket.socket, *, limit: int, credentials: bool = False) -> None:
        connection.setblocking(False)
        self._ancillary = 0
        if credentials:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
            self._ancillary = socket.CMSG_SPACE(_UCRED.size)
        self.socket = connection
        self.closed = False
        self.sender_pid: int | None = None  # pid of the sender of the last bytes, reported by the kernel
        self._decoder = MessageDecoder(limit=limit)
        self._unsent = b""

    def fileno(self) -> int:
        return self.socket.fileno()

    def receive(self) -> list[Message]:
        """The messages that have arrived.

        :raises ProtocolError: the peer does not speak the protocol.
        """
        try:
            data, ancillary, _, _ = self.socket.recvmsg(_READ, self._ancillary)
        except BlockingIOError:
            return []
        except OSError:
            data, ancillary = b"", []
        for level, kind, payload in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_CREDENTIALS:
                self.sender_pid = _UCRED.unpack(payload[: _UCRED.size])[0]
            elif level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                for descriptor in array.array("i", payload[: len(payload) // 4 * 4]):
                    os.close(descriptor)  # nobody was asked for any
        if not data:
            self.closed = True
            return []
        self._decoder.feed(data)
        return list(self._decoder)

    def send(self, message: Message, descriptors: Sequence[int] = ()) -> None:
        """Queue *message*; *descriptors* travel with its first byte."""
        if descriptors and self._unsent:
            raise RuntimeError("descriptors must travel with a message's first byte")
        frame = encode(message)
        if descriptors:
            try:
                sent = socket.send_fds(self.socket, [frame], list(descriptors))
            except OSError:
                self.closed = True
                return
            self._unsent = frame[sent:]
        else:
            self._unsent += frame
        self.flush()

    def flush(self) -> None:
        """Send as much as the socket accepts."""
        if not self._unsent:
            return
        try:
            self._unsent = self._unsent[self.socket.send(self._unsent) :]
        except BlockingIOError:
            pass
        except OSError:
            self.closed = True
            self._unsent = b""

    @property
    def has_unsent(self) -> bool:
        return bool(self._unsent)

    def close(self) -> None:
        self.closed = True
        self.socket.close()


class HostStream:
    """The container's stdin and stdout: the one stream to the server.

    Writes are queued, so that no deadline of the supervisor waits for a reader that has stopped. While the stream is
    `congested`, output is not read.
    """

    _CONGESTED = 1 << 20

    def __init__(self) -> None:
        self.readable_fd, self.writable_fd = 0, 1
        os.set_blocking(self.readable_fd, False)
        os.set_blocking(self.writable_fd, False)
        self._decoder = MessageDecoder()
        self._queue: deque[memoryview] = deque()
        self._queued = 0
        self.ended = False

    @property
    def congested(self) -> bool:
        return self._queued >= self._CONGESTED

    @property
    def has_unsent(self) -> bool:
        return bool(self._queue)

    def receive(self) -> list[Message]:
        """The messages that have arrived; `ended` is set at end of file.

        :raises ProtocolError: the server does not speak the protocol.
        """
        try:
            data = os.read(self.readable_fd, _READ)
        except BlockingIOError:
            return []
        except OSError:
            data = b""
        if not data:
            self.ended = True
            return []
        self._decoder.feed(data)
        return list(self._decoder)

    def send(self, message: Message) -> None:
        """Queue *message*. `flush` writes all that has gathered at once, since each write costs the engine the same."""
        frame = encode(message)
        self._queue.append(memoryview(frame))
        self._queued += len(frame)

    def flush(self) -> None:
        """Write as much as the stream accepts."""
        while self._queue:
            try:
                written = os.writev(self.writable_fd, list(itertools.islice(self._queue, _BATCH)))
            except BlockingIOError:
                return
            except OSError:
                self.ended = True
                self._queue.clear()
                self._queued = 0
                return
            self._queued -= written
            while self._queue and written >= len(self._queue[0]):
                written -= len(self._queue.popleft())
            if written:
                self._queue[0] = self._queue[0][written:]
