"""Frames: how messages are delimited in a byte stream.

A frame is a five-byte header, big-endian ``uint32`` payload length and ``uint8`` kind, and the payload.

Standard library only, because the runner image has a copy. Both sides treat their input as hostile: lengths are checked
before any payload is buffered.
"""

from __future__ import annotations

import builtins
import struct
from collections.abc import Iterator

__builtins__ = dict(vars(builtins))  # for the functions below: in a worker, user code can change the original ones

__all__ = ["MAX_FRAME", "Frame", "FrameDecoder", "ProtocolError", "encode_frame"]

MAX_FRAME = 4 * 1024 * 1024
"""Largest payload in bytes. Senders split bulk data into much smaller parts."""

_HEADER = struct.Struct(">IB")
_COMPACT_AT = 1 << 16


class ProtocolError(Exception):
    """The peer sent invalid data. The stream can't be used any more."""


Frame = tuple[int, bytes]
"""Kind and payload."""


def encode_frame(kind: int, payload: bytes) -> bytes:
    """Return the bytes of one frame.

    :raises ProtocolError: the payload is larger than `MAX_FRAME`.
    """
    if len(payload) > MAX_FRAME:
        raise ProtocolError(f"a frame of {len(payload)} bytes exceeds {MAX_FRAME}")
    return _HEADER.pack(len(payload), kind) + payload


class FrameDecoder:
    """Splits a byte stream, whose parts may end anywhere, into frames.

    :param limit: largest payload accepted, in bytes.
    """

    def __init__(self, *, limit: int = MAX_FRAME) -> None:
        self._limit = limit
        self._buffer = bytearray()
        self._start = 0

    def feed(self, data: bytes | bytearray | memoryview) -> None:
        """Add bytes that were read from the stream."""
        self._buffer += data

    @property
    def pending(self) -> int:
        """Number of buffered bytes."""
        return len(self._buffer) - self._start

    def __iter__(self) -> Iterator[Frame]:
        """Yield all frames that are complete.

        :raises ProtocolError: a header announces too large a payload. It is checked before the payload is buffered.
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
