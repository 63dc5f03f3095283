"""Reading from a workspace over the stream. What comes back is hostile."""

from __future__ import annotations

import re
from collections.abc import Generator
from contextlib import contextmanager

import anyio

from ..engine.link import Link
from ..errors import FileError, SandboxLostError
from ..wire.messages import FILE_PATH, LONGEST_PATH, PART_LIMIT, FileData, FilePart, ReadFile

__all__ = ["FileReader", "exchange", "is_safe_path"]

_READ_SECONDS = 60.0

_FILE_PATH = re.compile(FILE_PATH)


def is_safe_path(path: str) -> bool:
    """Whether *path* stays below the folder that it is relative to."""
    return len(path) <= LONGEST_PATH and _FILE_PATH.fullmatch(path) is not None


class FileReader:
    """Reads the file *path* in parts, until `is_complete`.

    :param limit: most bytes that it may have.
    """

    def __init__(self, link: Link, path: str, limit: int) -> None:
        self._link = link
        self._path = path
        self._limit = limit
        self._offset = 0
        self._stamp: str | None = None
        self.is_complete = False

    async def read(self) -> bytes:
        """The next part.

        :raises FileError: it can't be read whole, or has too many bytes.
        :raises SandboxLostError: the link is broken, or the container does not follow the protocol.
        """
        if not is_safe_path(self._path):
            raise self._error("its path must be relative to /workspace, without .. in it")
        await self._link.send(ReadFile(path=self._path, offset=self._offset, length=PART_LIMIT))
        about = await self._link.expect(FilePart)
        if about.error is not None:
            raise self._error(about.error[:200])
        part = await self._part(about.length) if about.length else b""
        if about.size > self._limit:
            raise self._error(f"it has {about.size} bytes, and {self._limit} are allowed")
        if self._stamp not in (None, about.stamp):
            raise self._error("it changes while it is being read")
        self._stamp = about.stamp
        part = part[: max(0, about.size - self._offset)]
        self._offset += len(part)
        self.is_complete = self._offset >= about.size
        if not self.is_complete and not part:
            raise self._error("it became shorter while it was being read")
        return part

    async def _part(self, length: int) -> bytes:
        part = await self._link.expect(FileData)
        if len(part.data) != length:
            self._link.abandon("the container sent a part of a file of another length than announced")
            raise SandboxLostError(self._link.reason)
        return part.data

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
    except TimeoutError:
        link.abandon("the container did not answer in time")
        raise SandboxLostError(link.reason) from None
