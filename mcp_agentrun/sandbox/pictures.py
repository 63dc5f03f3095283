"""Images from a container, untrusted until validated as PNG."""

from __future__ import annotations

import struct
import zlib

from ..wire import messages
from ..wire.messages import PICTURE_LIMIT
from .result import Image

__all__ = ["Pictures", "parse_png"]

_MOST = 16
_PIXELS = 4096
_SIGNATURE = b"\x89PNG\r\n\x1a\n"


class Pictures:
    """Assembles the pictures of one run from their parts."""

    def __init__(self) -> None:
        self._all: list[bytearray] = []
        self._missing = 0
        self._total = 0

    def add(self, part: messages.Picture | messages.PictureData) -> bool:
        """Add the beginning or a part of a picture. Return False if the runner may not send it."""
        if isinstance(part, messages.Picture):
            if self._missing or len(self._all) >= _MOST or part.size > PICTURE_LIMIT - self._total:
                return False
            self._total += part.size
            self._missing = part.size
            self._all.append(bytearray())
            return True
        if not 0 < len(part.data) <= self._missing:
            return False
        self._missing -= len(part.data)
        self._all[-1] += part.data
        return True

    def valid(self) -> tuple[Image, ...]:
        """Return the complete and valid pictures."""
        whole = self._all[:-1] if self._missing else self._all
        return tuple(picture for data in whole if (picture := parse_png(bytes(data))) is not None)


def parse_png(data: bytes) -> Image | None:
    """Return *data* as an image, or None if it is not a PNG of a reasonable size. Signature, dimensions, and the
    lengths and checksums of all chunks are checked, but not the compressed data.
    """
    if not data.startswith(_SIGNATURE):
        return None
    at, width, height = len(_SIGNATURE), 0, 0
    while at + 12 <= len(data):
        length, name = struct.unpack_from(">I4s", data, at)
        end = at + 12 + length
        if end > len(data) or zlib.crc32(data[at + 4 : end - 4]) != int.from_bytes(data[end - 4 : end], "big"):
            return None
        if not width:
            if name != b"IHDR" or length != 13:
                return None
            width, height = struct.unpack_from(">II", data, at + 8)
            if not (0 < width <= _PIXELS and 0 < height <= _PIXELS):
                return None
        if name == b"IEND":
            return Image(data, width, height) if end == len(data) else None
        at = end
    return None
