"""Reading from a workspace over the stream. What comes back is hostile."""

from __future__ import annotations

import re
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, cast

import anyio

from ..engine.link import Link
from ..errors import FileError, ProtocolError, SandboxLostError
from ..wire.codec import FrameError, Kind

__all__ = ["FileReader", "checked_files", "exchange", "is_safe_path"]

_READ_SECONDS = 60.0
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


class FileReader:
    """Reads the file *path* in parts, until `is_complete`.

    :param limit: most bytes that it may have.
    """

    def __init__(self, link: Link, path: str, limit: int) -> None:
        self._link = link
        self._path = path
        self._limit = limit
        self._offset = 0
        self._stamp: object = None
        self.is_complete = False

    async def read(self) -> bytes:
        """The next part.

        :raises FileError: it can't be read whole, or has too many bytes.
        :raises ProtocolError: the container broke the protocol.
        """
        if not is_safe_path(self._path):
            raise self._error("its path must be relative to /workspace, without .. in it")
        await self._link.send(Kind.READ, path=self._path, offset=self._offset, length=_CHUNK)
        about = await self._link.expect(Kind.FILE)
        if "error" in about:
            raise self._error(str(about["error"])[:200])
        size, length = int(about["size"]), int(about["length"])
        part = await self._part(length) if length else b""
        if size > self._limit:
            raise self._error(f"it has {size} bytes, and {self._limit} are allowed")
        if self._stamp not in (None, about["stamp"]):
            raise self._error("it changes while it is being read")
        self._stamp = about["stamp"]
        part = part[: max(0, size - self._offset)]
        self._offset += len(part)
        self.is_complete = self._offset >= size
        if not self.is_complete and not part:
            raise self._error("it became shorter while it was being read")
        return part

    async def _part(self, length: int) -> bytes:
        kind, part = await self._link.receive()
        if kind is not Kind.FILE_DATA or len(part) != length or length > _CHUNK:
            raise ProtocolError("a part of a file that is none")
        return part

    def _error(self, why: str) -> FileError:
        return FileError(f"{self._path[:200]!a} can't be read: {why}")


@contextmanager
def exchange(link: Link) -> Generator[None]:
    """A question and its answer, which is awaited even after cancellation: the next call finds the stream in order.

    :raises SandboxLostError: the container did not answer in time, or the answer is malformed.
    """
    try:
        with anyio.CancelScope(shield=True), anyio.fail_after(_READ_SECONDS):
            yield
    except FileError:
        raise
    except (FrameError, ProtocolError, KeyError, TypeError, ValueError, OverflowError) as error:
        link.abandon("the container sent a malformed answer")
        raise SandboxLostError(link.reason) from error
    except TimeoutError:
        link.abandon("the container did not answer in time")
        raise SandboxLostError(link.reason) from None
