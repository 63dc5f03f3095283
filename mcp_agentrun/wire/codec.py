"""Frames: how messages are delimited in a byte stream.

A frame is a five-byte header, big-endian ``uint32`` payload length and ``uint8`` kind, and the payload.

Standard library only, as the runner's image has a copy. Both ends treat what they read as hostile: lengths are checked
before a byte of payload is kept.
"""

from __future__ import annotations

import builtins
import struct
from collections.abc import Iterator

__builtins__ = dict(vars(builtins))  # of the functions below: in a worker, user code may change the real ones

__all__ = ["MAX_FRAME", "Frame", "FrameDecoder", "ProtocolError", "encode_frame"]

MAX_FRAME = 4 * 1024 * 1024
"""Largest payload in bytes. Bulk data is split by its sender; nothing legitimate comes near."""

_HEADER = struct.Struct(">IB")
_COMPACT_AT = 1 << 16


class ProtocolError(Exception):
    """A peer sent bytes that are not valid messages. The stream can't be used any further."""


Frame = tuple[int, bytes]
"""Kind and payload."""


def encode_frame(kind: int, payload: bytes) -> bytes:
    """The bytes of one frame.

    :raises ProtocolError: the payload is larger than `MAX_FRAME`.
    """
    if len(payload) > MAX_FRAME:
        raise ProtocolError(f"a frame of {len(payload)} bytes exceeds {MAX_FRAME}")
    return _HEADER.pack(len(payload), kind) + payload


class FrameDecoder:
    """Turns a byte stream, cut anywhere, back into frames.

    :param limit: largest payload accepted, in bytes.
    """

    def __init__(self, *, limit: int = MAX_FRAME) -> None:
        self._limit = limit
        self._buffer = bytearray()
        self._start = 0

    def feed(self, data: bytes | bytearray | memoryview) -> None:
        """Append bytes that were read from the stream."""
        self._buffer += data

    @property
    def pending(self) -> int:
        """Bytes fed that no complete frame has used yet."""
        return len(self._buffer) - self._start

    def __iter__(self) -> Iterator[Frame]:
        """Every complete frame among the bytes fed so far.

        :raises ProtocolError: a header announces too large a payload. It is checked as soon as it is complete,
            so that no more than the limit is ever buffered for one frame.
        """
        while self.pending >= _HEADER.size:
            length, kind = _HEADER.unpack_from(self._buffer, self._start)
            if length > self._limit:
                raise ProtocolError(f"a frame of {length} bytes exceeds {self._limit}")
            end = self._start + _HEADER.size + length
            if end > len(self._buffer):
                return
            payload = bytes(memoryview(self._buffer)[self._start + _HEADER.size : end])
            self._start = end
            if self._start == len(self._buffer):
                self._buffer.clear()
                self._start = 0
            elif self._start > _COMPACT_AT:
                del self._buffer[: self._start]
                self._start = 0
            yield kind, payload
