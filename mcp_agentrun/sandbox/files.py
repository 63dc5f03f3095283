"""The files of a sandbox's workspace. What its container sends is hostile."""

from __future__ import annotations

import builtins
import os
import re
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable, Generator
from contextlib import AbstractAsyncContextManager, aclosing, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import IO, Any, cast

import anyio
import anyio.lowlevel

from ..engine.link import Link
from ..errors import FileError, FileReason, ProtocolError, SandboxLostError
from ..wire.codec import FrameError, Kind

__all__ = ["FileInfo", "FilePage", "FileReader", "FileSource", "Files", "checked_files", "exchange", "is_safe_path"]

FileSource = bytes | bytearray | memoryview | os.PathLike[str] | IO[bytes] | AsyncIterable[bytes]
"""What a file can be written from: its content, the path of a local file, an open file, or its parts."""

_CHUNK = 1 << 20
_MOST = 1000
_MOST_FILES = 20_000
_ANSWER_SECONDS = 60.0
_NOT_BYTES = re.compile("[\ud800-\udc7f\udd00-\udfff]")
"""Surrogates that stand for no byte of a file's name."""

_SURROGATE = re.compile("[\ud800-\udfff]")

_MESSAGES: dict[FileReason, str] = {
    "missing": "there is no such file or folder",
    "outside": "its path must be relative to /workspace, without '..'",
    "name": "its path is not valid",
    "link": "a part of its path is a symbolic link",
    "folder": "it is a folder",
    "not_a_folder": "a part of its path is not a folder",
    "not_a_file": "it is not a regular file",
    "denied": "permission was denied",
    "read_only": "its folder is read-only",
    "full": "the workspace is full",
    "memory": "the sandbox is out of memory",
    "too_large": "it is too large",
    "too_many": "there are too many files",
    "sparse": "it is sparse: parts of it were never written",
    "busy": "it is in use",
    "changed": "it was changed at the same time",
    "failed": "the operation failed",
}


@dataclass(frozen=True)
class FileInfo:
    """A file of the workspace."""

    path: str
    """Relative to the workspace. Bytes of its name that are not UTF-8 are lone surrogates, as in `os.fsdecode`."""
    size: int
    """In bytes."""
    modified: datetime
    """When its content or attributes were last changed, in UTC."""


@dataclass(frozen=True)
class FilePage:
    """A part of a list of files."""

    files: list[FileInfo]
    more: int
    """Files that come after these."""
    is_cut: bool
    """There are too many files for all of them to be listed."""


class Files:
    """The files in a sandbox's workspace::

        await sandbox.files.write("data/in.csv", b"x,y\\n1,2\\n")
        await sandbox.files.read("out.csv")
        [file.path for file in await sandbox.files.list()]

    Paths are relative to ``/workspace``; one that begins with ``/workspace/`` is accepted as well. Symbolic links are
    never followed. Every method raises `FileError` for what is wrong with the file, and `UnavailableError` if the
    engine failed; then nothing has changed.

    :param turn: enters the sandbox's queue and gives its link.
    :param connect: gives the link at once, even during a run.
    :param size: size of the workspace in bytes.
    """

    def __init__(
        self,
        turn: Callable[[], AbstractAsyncContextManager[Link]],
        connect: Callable[[], Awaitable[Link]],
        *,
        size: int,
    ) -> None:
        self._turn = turn
        self._connect = connect
        self._size = size

    async def write(self, path: str, data: FileSource) -> FileInfo:
        """Create the file *path* from *data*, or replace it, and create the folders that it is in.

        Large data is streamed: neither side ever holds all of it in memory. The file appears, or is replaced, once it
        is complete. If anything goes wrong before that, cancellation included, nothing has changed. Replacing a file
        takes space for both versions. The call waits for its turn, and other calls wait until *data* has ended.

        :param data: the content: bytes, the path of a local file, a file open for reading bytes, or an asynchronous
            iterable of bytes.
        :raises FileError: with the reason ``full``, ``too_large``, ``memory``, ``link``, ``folder``, ``read_only``,
            ``name`` or ``outside``, among others.
        :raises OSError: a local file can't be read.
        :raises UnavailableError: the engine failed.
        """
        name = _relative(path, "written")
        if not name or _SURROGATE.search(name):
            raise _error("name" if name else "folder", path, "written")
        if isinstance(data, (bytes, bytearray, memoryview)) and memoryview(data).nbytes > self._size:
            raise _error("too_large", path, "written", limit=self._size)
        async with aclosing(_parts(data)) as parts, self._turn() as link:
            return await _Upload(link, name, self._size).write(parts)

    async def read(self, path: str, *, limit: int | None = None) -> bytes:
        """The content of the file *path*. The call waits for its turn.

        :param limit: largest size accepted, in bytes; the size of the workspace if None.
        :raises FileError: with the reason ``missing``, ``too_large``, ``link``, ``folder``, ``changed`` or ``outside``,
            among others.
        :raises UnavailableError: the engine failed.
        """
        reader = FileReader(path, self._size if limit is None else limit)
        async with self._turn() as link:
            return b"".join([part async for part in reader.parts(link)])

    async def stream(self, path: str) -> AsyncIterator[bytes]:
        """The content of the file *path* in parts of at most 1 MiB. Each part waits for its turn, so that other calls
        can come between; a file that they change ends the iteration with a `FileError`.

        :raises FileError: as `read`.
        :raises UnavailableError: the engine failed.
        """
        reader = FileReader(path, self._size)
        while not reader.is_complete:
            async with self._turn() as link:
                part = await reader.read(link)
            yield part

    async def list(self, folder: str = ".") -> builtins.list[FileInfo]:
        """All files in *folder* and the folders below it, sorted by path. The call does not wait for its turn: it can
        be made during a run.

        Left out are what is not a regular file, and the files in folders that tools keep for themselves, such as
        ``.git`` and ``__pycache__``, and in folders of the host's. Name one of these as *folder* to list what is in it.

        :raises FileError: with the reason ``missing``, ``link``, ``not_a_folder``, ``too_many`` or ``outside``, among
            others.
        :raises UnavailableError: the engine failed.
        """
        page = await self.page(folder)
        found = page.files
        while page.more and page.files:
            if page.is_cut or len(found) > _MOST_FILES:
                raise _error("too_many", folder, "listed", limit=_MOST_FILES)
            page = await self.page(folder, after=found[-1].path)
            found += page.files
        return found

    async def page(self, folder: str = ".", *, after: str = "") -> FilePage:
        """The first files of `list` whose paths come after *after*, at most 500.

        :raises FileError: as `list`, but for ``too_many``.
        :raises UnavailableError: the engine failed.
        """
        name = _relative(folder, "listed")
        link = await self._connect()
        with exchange(link):
            fields = await link.ask(Kind.LIST, folder=name, after=after)
            _raise_error(fields, folder, "listed")
            files = [
                FileInfo(path, size, _time(changed)) for path, size, changed in checked_files(fields["files"], int)
            ]
            return FilePage(files, int(fields["more"]), bool(fields["is_cut"]))

    async def remove(self, path: str) -> None:
        """Remove the file *path*, or the symbolic link that is there, but not what it leads to. The call waits for its
        turn.

        :raises FileError: with the reason ``missing``, ``folder``, ``read_only``, ``link`` or ``outside``, among
            others.
        :raises UnavailableError: the engine failed.
        """
        name = _relative(path, "removed")
        if not name:
            raise _error("folder", path, "removed")
        async with self._turn() as link:
            with exchange(link):
                await link.send(Kind.REMOVE, path=name)
                _raise_error(await link.expect(Kind.REMOVED), path, "removed")


class _Upload:
    """The exchange that writes one file; the caller has the turn. At most one part is on its way at a time, so that a
    slow side holds up the other instead of filling its memory.
    """

    def __init__(self, link: Link, path: str, limit: int) -> None:
        self._link = link
        self._path = path
        self._limit = limit
        self._size = 0
        self._is_open = False
        """The container has a part of the file."""

    async def write(self, parts: AsyncIterator[bytes]) -> FileInfo:
        try:
            await self._request(Kind.WRITE, path=self._path)
            async for part in parts:
                await anyio.lowlevel.checkpoint_if_cancelled()
                self._size += len(part)
                if self._size > self._limit:
                    raise _error("too_large", self._path, "written", limit=self._limit)
                await self._request(Kind.WRITE_DATA, part)
            await anyio.lowlevel.checkpoint_if_cancelled()
            return FileInfo(self._path, self._size, await self._request(Kind.WRITE_END, keep=True))
        except BaseException:
            if self._is_open:
                with suppress(SandboxLostError, FileError):
                    await self._request(Kind.WRITE_END, keep=False)
            raise

    async def _request(self, kind: Kind, data: bytes | None = None, **fields: object) -> datetime:
        """Send one request and wait for its answer; returns when the file was changed, after the last one."""
        self._is_open = False  # whatever goes wrong in the container, it discards the file
        with exchange(self._link):
            if data is None:
                await self._link.send(kind, **fields)
            else:
                await self._link.send_data(kind, data)
            answer = await self._link.expect(Kind.WRITTEN)
            _raise_error(answer, self._path, "written", limit=self._limit)
            self._is_open = kind is not Kind.WRITE_END
            return _time(answer["changed"])


class FileReader:
    """Reads the file *path* in parts, until `is_complete`.

    :param limit: largest size accepted, in bytes.
    :raises FileError: the path is not valid.
    """

    def __init__(self, path: str, limit: int) -> None:
        self._path = _relative(path, "read")
        self._limit = limit
        self._offset = 0
        self._stamp: str | None = None
        self.is_complete = False
        if not self._path:
            raise _error("folder", path, "read")

    async def parts(self, link: Link) -> AsyncGenerator[bytes]:
        """All parts; the caller has the turn."""
        while not self.is_complete:
            yield await self.read(link)

    async def read(self, link: Link) -> bytes:
        """The next part; the caller has the turn.

        :raises FileError: the file can't be read whole, or is too large.
        :raises SandboxLostError: the container was lost or broke the protocol.
        """
        with exchange(link):
            await link.send(Kind.READ, path=self._path, offset=self._offset, length=_CHUNK)
            about = await link.expect(Kind.FILE)
            _raise_error(about, self._path, "read")
            size, length, stamp = int(about["size"]), int(about["length"]), str(about["stamp"])
            part = await self._part(link, length) if length else b""
        if size > self._limit:
            why = f"it has {size} bytes, and {self._limit} are allowed"
            raise _error("too_large", self._path, "read", why, limit=self._limit)
        part = part[: max(0, size - self._offset)]
        self._offset += len(part)
        self.is_complete = self._offset >= size
        if self._stamp not in (None, stamp) or not (self.is_complete or part):
            raise _error("changed", self._path, "read")
        self._stamp = stamp
        return part

    @staticmethod
    async def _part(link: Link, length: int) -> bytes:
        kind, part = await link.receive()
        if kind is not Kind.FILE_DATA or len(part) != length or length > _CHUNK:
            raise ProtocolError("malformed part of a file")
        return part


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
        raise ProtocolError("malformed file list")
    checked: list[tuple[str, int, Any]] = []
    for item in files:  # pyright: ignore[reportUnknownVariableType]
        path, size, other = cast("tuple[Any, Any, Any]", item)
        if not is_safe_path(path) or not isinstance(size, int) or size < 0 or not isinstance(other, third):
            raise ProtocolError("malformed file in a list")
        checked.append((path, size, other))  # pyright: ignore[reportUnknownArgumentType]
    return checked


@contextmanager
def exchange(link: Link) -> Generator[None]:
    """A request and its answer, which is waited for even if the call is cancelled: the next call finds the stream in
    order.

    :raises SandboxLostError: the answer is malformed or takes too long.
    """
    try:
        with anyio.CancelScope(shield=True), anyio.fail_after(_ANSWER_SECONDS):
            yield
    except FileError:
        raise
    except (FrameError, ProtocolError, KeyError, TypeError, ValueError, OverflowError) as error:
        link.abandon("the container sent a malformed answer")
        raise SandboxLostError(link.reason) from error
    except TimeoutError:
        link.abandon("the container did not answer in time")
        raise SandboxLostError(link.reason) from None


async def _parts(data: FileSource) -> AsyncGenerator[bytes]:
    """The content of *data* in parts of `_CHUNK` bytes; the last one may be smaller."""
    async with aclosing(_chunks(data)) as chunks:
        part = bytearray()
        async for chunk in chunks:
            left = memoryview(chunk).cast("B")
            while left:
                taken = left[: _CHUNK - len(part)]
                part += taken
                left = left[len(taken) :]
                if len(part) == _CHUNK:
                    yield bytes(part)
                    part.clear()
        if part:
            yield bytes(part)


async def _chunks(data: FileSource) -> AsyncGenerator[bytes | bytearray | memoryview]:
    if isinstance(data, (bytes, bytearray, memoryview)):
        yield data
    elif isinstance(data, AsyncIterable):
        async for chunk in data:
            yield chunk
    elif isinstance(data, os.PathLike):
        async with await anyio.open_file(data, "rb") as file:
            while chunk := await file.read(_CHUNK):
                yield chunk
    elif callable(getattr(data, "read", None)):
        opened = anyio.wrap_file(data)
        while chunk := await opened.read(_CHUNK):
            yield chunk
    else:
        raise TypeError(f"expected bytes, a path, an open file or an asynchronous iterable, got {type(data).__name__}")


def _relative(path: str, done: str) -> str:
    """*path* relative to the workspace, and empty for the workspace itself.

    :param done: what was to be done with the file, for the error's message.
    :raises FileError: it is not a path in the workspace.
    """
    whole = f"{path}/".removeprefix("/workspace/").removesuffix("/")
    parts = [part for part in whole.split("/") if part != "."]
    if ".." in parts or whole.startswith("/"):
        raise _error("outside", path, done)
    name = "/".join(parts)
    if name and not is_safe_path(name):
        raise _error("name", path, done)
    return name


def _raise_error(answer: dict[str, Any], path: str, done: str, *, limit: int | None = None) -> None:
    """Check that the container's *answer* is not an error.

    :raises FileError: it is.
    :raises ProtocolError: its reason does not exist.
    """
    reason = answer.get("error")
    if reason is not None:
        if reason not in _MESSAGES:
            raise ProtocolError("unknown reason")
        raise _error(reason, path, done, limit=limit if reason == "full" else None)


def _error(reason: FileReason, path: str, done: str, why: str | None = None, *, limit: int | None = None) -> FileError:
    if why is None:
        why = _MESSAGES[reason] if limit is None else f"{_MESSAGES[reason]} (limit: {limit})"
    return FileError(f"{path[:200]!a} can't be {done}: {why}", path=path, reason=reason, limit=limit)


def _time(nanoseconds: Any) -> datetime:
    if type(nanoseconds) is not int or not 0 <= nanoseconds < 1 << 62:
        raise TypeError("malformed time")
    return datetime.fromtimestamp(nanoseconds / 1e9, timezone.utc)
