"""Reading from a workspace over the stream. What comes back is hostile."""

from __future__ import annotations

import re
from typing import Any, cast

from ..engine.link import Link
from ..errors import FileError, ProtocolError
from ..protocol import Kind

__all__ = ["checked_files", "is_safe_path", "read_chunks"]

_CHUNK = 1 << 20
_MOST = 1000
_NOT_BYTES = re.compile("[\ud800-\udc7f\udd00-\udfff]")
"""Surrogates that stand for no byte of a file's name."""


def is_safe_path(path: object) -> bool:
    """Whether *path* stays below the folder that it is relative to."""
    return (
        isinstance(path, str)
        and 0 < len(path) <= 4096
        and "\0" not in path
        and not _NOT_BYTES.search(path)
        and all(part not in ("", ".", "..") for part in path.split("/"))
    )


def checked_files(files: Any, third: type) -> list[tuple[str, int, Any]]:
    """*files*, if they are a list of path, size and a *third* field.

    :raises ProtocolError: they aren't.
    """
    if not isinstance(files, list) or len(files) > _MOST:  # pyright: ignore[reportUnknownArgumentType]
        raise ProtocolError("a list of files that is none")
    checked: list[tuple[str, int, Any]] = []
    for item in files:  # pyright: ignore[reportUnknownVariableType]
        path, size, other = cast("tuple[Any, Any, Any]", item)
        if not is_safe_path(path) or not isinstance(size, int) or size < 0 or not isinstance(other, third):
            raise ProtocolError("a file that is none")
        checked.append((path, size, other))  # pyright: ignore[reportUnknownArgumentType]
    return checked


async def read_chunks(link: Link, path: str, limit: int) -> bytes:
    """The bytes of the file *path*.

    :raises FileError: it can't be read whole, or has more than *limit* bytes.
    """
    if not is_safe_path(path):
        raise FileError(f"{path[:200]!a} can't be read: its path must be relative to /workspace, without .. in it")
    data, stamp = bytearray(), None
    while True:
        await link.send(Kind.READ, path=path, offset=len(data), length=_CHUNK)
        about = await link.expect(Kind.FILE)
        if "error" in about:
            raise FileError(f"{path[:200]!a} can't be read: {str(about['error'])[:200]}")
        size, length = int(about["size"]), int(about["length"])
        if size > limit:
            # What is on its way is taken, so that the stream stays in order.
            if length:
                await link.receive()
            raise FileError(f"{path[:200]!a} can't be read: it has {size} bytes, and {limit} are allowed")
        if length:
            kind, part = await link.receive()
            if kind is not Kind.FILE_DATA or len(part) != length or length > _CHUNK:
                raise ProtocolError("a part of a file that is none")
            data += part
        if stamp not in (None, about["stamp"]):
            raise FileError(f"{path[:200]!a} can't be read: it changes while it is being read")
        stamp = about["stamp"]
        if len(data) >= size:
            return bytes(data[:size])
        if not length:
            raise FileError(f"{path[:200]!a} can't be read: it became shorter while it was being read")
