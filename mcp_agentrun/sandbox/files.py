"""The files of a sandbox's workspace. All that the container sends is hostile."""

from __future__ import annotations

import builtins
import os
import re
import secrets
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable, Generator
from contextlib import AbstractAsyncContextManager, aclosing, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from errno import EEXIST
from pathlib import Path
from stat import S_IMODE, S_ISREG
from typing import IO

import anyio
import anyio.lowlevel

from ..engine.link import Link
from ..errors import FileError, FileReason, SandboxLostError
from ..wire import messages
from ..wire.messages import FILE_PATH, LONGEST_PATH, PART_LIMIT
from .copies import safe_path, save_copy
from .observer import FileDone, FileOperation, Observation, Observer, observed
from .result import FileChange

__all__ = [
    "FileInfo",
    "FileName",
    "FilePage",
    "FileReader",
    "FileSource",
    "FileStat",
    "Files",
    "OnlyIf",
    "is_safe_path",
    "shielded_request",
]

FileSource = bytes | bytearray | memoryview | os.PathLike[str] | IO[bytes] | AsyncIterable[bytes]
"""Source of a file's content: bytes, the path of a local file, an open file, or an asynchronous iterable of parts."""

_MOST_FILES = 20_000
_ANSWER_SECONDS = 60.0
_FILE_PATH = re.compile(FILE_PATH)
_SURROGATE = re.compile("[\ud800-\udfff]")

_MESSAGES: dict[FileReason, str] = {
    "missing": "there is no such file or folder",
    "outside": "its path must be relative to /workspace, without '..'",
    "name": "its path is not valid",
    "link": "a component of its path is a symbolic link",
    "folder": "it is a folder",
    "not_a_folder": "a component of its path is not a folder",
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
    """A file of the workspace::

    sum(file.size for file in sandbox.files.list())
    """

    path: str
    """Relative to the workspace. Bytes of its name that are not UTF-8 are lone surrogates, as in `os.fsdecode`."""
    size: int
    """In bytes."""
    modified: datetime
    """When its content or attributes were last changed, in UTC."""


@dataclass(frozen=True)
class FileStat:
    """What a file of the workspace is at one time::

    before = await sandbox.files.stat("log.txt")
    has_changed = await sandbox.files.stat("log.txt") != before
    """

    size: int
    """In bytes."""
    stamp: str
    """Differs when the file has changed. It comes from the container, where code can choose it."""


FileName = str | FileInfo | FileChange
"""A path relative to the workspace, or a file of `Files.list` or `Result.files`."""


OnlyIf = Callable[[FileStat | None], bool]


@dataclass(frozen=True)
class FilePage:
    """A part of a list of files. The next part begins after the last of them::

    page = sandbox.files.page()
    while page.more:
        page = sandbox.files.page(after=page.files[-1].path)
    """

    files: list[FileInfo]
    more: int
    """Number of files after these."""
    is_cut: bool
    """Whether there are too many files to list all of them."""


class Files:
    """The files in a sandbox's workspace::

        await sandbox.files.write("data/in.csv", b"x,y\\n1,2\\n")
        await sandbox.files.read("out.csv")
        [file.path for file in await sandbox.files.list()]

    Paths are relative to ``/workspace``; the prefix ``/workspace/`` is accepted. Symbolic links are
    never followed. All methods raise `FileError` if the file can't be accessed, and `UnavailableError` if the
    engine failed; then nothing has changed.

    :param turn: waits in the sandbox's queue and yields the link.
    :param connect: returns the link without waiting, even during a run.
    :param size: size of the workspace in bytes.
    :param sandbox: id of the sandbox.
    :param observer: receives what is done.
    """

    def __init__(
        self,
        turn: Callable[[Observation], AbstractAsyncContextManager[Link]],
        connect: Callable[[], Awaitable[Link]],
        *,
        size: int,
        sandbox: str,
        observer: Observer | None,
    ) -> None:
        self._turn = turn
        self._connect = connect
        self._size = size
        self._sandbox = sandbox
        self._observer = observer

    @contextmanager
    def _observed(self, operation: FileOperation, path: FileName) -> Generator[_FileUse]:
        use = _FileUse(path)
        with observed(
            self._observer, lambda timing: FileDone(self._sandbox, timing, operation, use.name, use.size)
        ) as use.observation:
            yield use

    async def write(self, path: FileName, data: FileSource, *, only_if: OnlyIf | None = None) -> FileInfo:
        """Create the file *path* from *data*, or replace it, and create the folders that it is in.

        Large data is streamed: neither side ever holds all of it in memory. The file appears, or is replaced, once it
        is complete. If anything goes wrong before that, cancellation included, nothing has changed. Replacing a file
        takes space for both versions. The call waits for its turn, and other calls wait until *data* has ended.

        :param data: the content: bytes, the path of a local file, a file open for reading bytes, or an asynchronous
            iterable of bytes.
        :param only_if: whether to do so, given what is there when its turn has come; None if nothing is. If not, the
            reason is ``changed``.
        :raises FileError: with the reason ``full``, ``too_large``, ``memory``, ``link``, ``folder``, ``read_only``,
            ``name`` or ``outside``, among others.
        :raises OSError: a local file can't be read.
        :raises UnavailableError: the engine failed.
        """
        with self._observed("write", path) as use:
            path = _path_of(path)
            name = _relative(path, "written")
            if not name or _SURROGATE.search(name):
                raise _error("name" if name else "folder", path, "written")
            if isinstance(data, (bytes, bytearray, memoryview)) and memoryview(data).nbytes > self._size:
                raise _error("too_large", path, "written", limit=self._size)
            async with aclosing(_parts(data)) as parts, self._turn(use.observation) as link:
                await self._require(only_if, link, path, "written")
                written = await _Upload(link, name, self._size, path).write(parts)
            use.size = written.size
            return written

    async def read(self, path: FileName, *, limit: int | None = None) -> bytes:
        """The content of the file *path*. The call waits for its turn.

        :param limit: largest size accepted, in bytes; the size of the workspace if None.
        :raises FileError: with the reason ``missing``, ``too_large``, ``link``, ``folder``, ``changed`` or ``outside``,
            among others.
        :raises UnavailableError: the engine failed.
        """
        with self._observed("read", path) as use:
            reader = FileReader(_path_of(path), self._size if limit is None else limit)
            async with self._turn(use.observation) as link:
                data = b"".join([part async for part in reader.parts(link)])
            use.size = len(data)
            return data

    async def stat(self, path: FileName) -> FileStat:
        """The size of the file *path*, and what identifies its content. The call waits for its turn.

        :raises FileError: as `read`.
        :raises UnavailableError: the engine failed.
        """
        with self._observed("stat", path) as use:
            reader = FileReader(_path_of(path), self._size)
            async with self._turn(use.observation) as link:
                return await reader.stat(link)

    async def stream(self, path: FileName, *, start: int = 0, of: FileStat | None = None) -> AsyncGenerator[bytes]:
        """The content of the file *path* in parts of at most 1 MiB. Each part waits for its turn, so that other calls
        can come between; a file that they change ends the iteration with a `FileError`.

        :param start: how many bytes to leave out at the beginning.
        :param of: what `stat` has returned, for a `FileError` if the file has changed since.
        :raises FileError: as `read`.
        :raises UnavailableError: the engine failed.
        """
        with self._observed("read", path) as use:
            reader = FileReader(_path_of(path), self._size, start=start, of=of)
            use.size = 0
            while not reader.is_complete:
                async with self._turn(use.observation) as link:
                    part = await reader.read(link)
                use.size += len(part)
                yield part

    async def save(self, path: FileName, target: str | os.PathLike[str]) -> int:
        """Copy the file *path* to the local file *target*, in parts, and return its size in bytes. *target* is created
        or replaced once all is there; a symbolic link stays, and what it leads to is replaced.

        :raises FileError: as `read`.
        :raises OSError: *target* can't be written, or is no regular file.
        :raises UnavailableError: the engine failed.
        """
        place, mode = _place_of(target)
        partial = place.with_name(f".mcp-agentrun-{secrets.token_hex(8)}")
        size = 0
        try:
            async with await anyio.open_file(partial, "xb") as local:
                async for part in self.stream(path):
                    size += await local.write(part)
            if mode is not None:
                partial.chmod(mode)
            partial.replace(place)
        finally:
            partial.unlink(missing_ok=True)
        return size

    async def save_all(self, target: str | os.PathLike[str], folder: str = ".") -> builtins.list[Path]:
        """Copy the files that `list` returns to the local folder *target*, which is created, and return their paths.

        Files of the same names are replaced. Names that some systems don't accept are changed, and no symbolic link
        below *target* is followed. What was copied before an error stays.

        :raises FileError: as `list` and `read`.
        :raises OSError: a file can't be written, or a symbolic link is in the way.
        :raises UnavailableError: the engine failed.
        """
        saved: list[Path] = []
        left = self._size  # code can fill the workspace again while it is copied
        for file in await self.list(folder):
            async with aclosing(self.stream(file)) as parts:
                saved.append(await save_copy(parts, Path(target), safe_path(file.path)))
            left -= saved[-1].lstat().st_size
            if left < 0:
                raise _error("too_large", file.path, "saved", limit=self._size)
        return saved

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
        with self._observed("list", folder):
            name = _relative(folder, "listed")
            link = await self._connect()
            with shielded_request(link):
                found = await link.request(messages.ListFiles(folder=name, after=after), messages.FileList)
            _raise_error(link, found.error, folder, "listed")
        files = [FileInfo(file.path, file.size, _time(file.changed)) for file in found.files]
        return FilePage(files, found.more, found.is_cut)

    async def remove(self, path: FileName, *, only_if: OnlyIf | None = None) -> None:
        """Remove the file *path*, or the symbolic link that is there, but not what it leads to. The call waits for its
        turn.

        :param only_if: as for `write`.
        :raises FileError: with the reason ``missing``, ``folder``, ``read_only``, ``link`` or ``outside``, among
            others.
        :raises UnavailableError: the engine failed.
        """
        with self._observed("remove", path) as use:
            path = _path_of(path)
            name = _relative(path, "removed")
            if not name:
                raise _error("folder", path, "removed")
            async with self._turn(use.observation) as link:
                await self._require(only_if, link, path, "removed")
                with shielded_request(link):
                    await link.send(messages.RemoveFile(path=name))
                    answer = await link.expect(messages.Removed)
                _raise_error(link, answer.error, path, "removed")

    async def _require(self, only_if: OnlyIf | None, link: Link, path: str, done: str) -> None:
        """Require *only_if* of what is there. The caller has the turn."""
        if only_if is None:
            return
        found: FileStat | None = None
        try:
            found = await FileReader(path, self._size).stat(link)
        except FileError as error:
            if error.reason != "missing":
                raise
        if not only_if(found):
            raise _error("changed", path, done, "it is not what the request expects")


class _FileUse:
    """What an observer learns of a call, as far as it is known."""

    observation: Observation

    def __init__(self, path: FileName) -> None:
        self.name = path if isinstance(path, str) else str(getattr(path, "path", ""))
        self.size: int | None = None


class _Upload:
    """Writes one file; the caller has the turn. Each part is acknowledged before the next one is sent, so
    that neither side has to buffer more.
    """

    def __init__(self, link: Link, path: str, limit: int, given: str) -> None:
        self._link = link
        self._path = path
        self._given = given
        """The path in errors."""
        self._limit = limit
        self._size = 0
        self._is_open = False
        """Whether the container has begun to write the file."""

    async def write(self, parts: AsyncIterator[bytes]) -> FileInfo:
        try:
            await self._request(messages.WriteFile(path=self._path))
            async for part in parts:
                await anyio.lowlevel.checkpoint_if_cancelled()
                self._size += len(part)
                if self._size > self._limit:
                    raise _error("too_large", self._given, "written", limit=self._limit)
                await self._request(messages.WriteData(data=part))
            await anyio.lowlevel.checkpoint_if_cancelled()
            written = await self._request(messages.WriteEnd(keep=True))
            return FileInfo(self._path, self._size, _time(written.changed))
        except BaseException:
            if self._is_open:
                with suppress(SandboxLostError, FileError):
                    await self._request(messages.WriteEnd(keep=False))
            raise

    async def _request(self, request: messages.WriteFile | messages.WriteData | messages.WriteEnd) -> messages.Written:
        """Send one request and wait for its answer."""
        self._is_open = False  # after an error, the container discards the file itself
        with shielded_request(self._link):
            await self._link.send(request)
            answer = await self._link.expect(messages.Written)
        _raise_error(self._link, answer.error, self._given, "written", limit=self._limit)
        self._is_open = not isinstance(request, messages.WriteEnd)
        return answer


class FileReader:
    """Reads the file *path* in parts, until `is_complete`.

    :param limit: largest size accepted, in bytes.
    :param start: how many bytes to leave out at the beginning.
    :param of: the file that is expected.
    :raises FileError: the path is not valid.
    """

    def __init__(self, path: str, limit: int, *, start: int = 0, of: FileStat | None = None) -> None:
        self._given = path
        self._path = _relative(path, "read")
        self._limit = limit
        self._offset = start
        self._stamp = None if of is None else of.stamp
        self.is_complete = False
        if not self._path:
            raise _error("folder", path, "read")

    async def parts(self, link: Link) -> AsyncGenerator[bytes]:
        """Yield all parts. The caller has the turn."""
        while not self.is_complete:
            yield await self.read(link)

    async def read(self, link: Link) -> bytes:
        """Return the next part. The caller has the turn.

        :raises FileError: the file can't be read, has changed, or is too large.
        :raises SandboxLostError: the container was lost or broke the protocol.
        """
        about, part = await self._request(link, PART_LIMIT)
        part = part[: max(0, about.size - self._offset)]
        self._offset += len(part)
        self.is_complete = self._offset >= about.size
        if self._stamp not in (None, about.stamp) or not (self.is_complete or part):
            raise _error("changed", self._given, "read")
        self._stamp = about.stamp
        return part

    async def stat(self, link: Link) -> FileStat:
        """Return what the file is now. The caller has the turn.

        :raises FileError: as `read`.
        :raises SandboxLostError: as `read`.
        """
        about, _ = await self._request(link, 0)
        return FileStat(about.size, about.stamp)

    async def _request(self, link: Link, length: int) -> tuple[messages.FilePart, bytes]:
        with shielded_request(link):
            await link.send(messages.ReadFile(path=self._path, offset=self._offset, length=length))
            about = await link.expect(messages.FilePart)
            part = await self._part(link, about.length) if about.length and about.error is None else b""
        _raise_error(link, about.error, self._given, "read")
        if about.size > self._limit:
            why = f"it has {about.size} bytes, and {self._limit} are allowed"
            raise _error("too_large", self._given, "read", why, limit=self._limit)
        return about, part

    @staticmethod
    async def _part(link: Link, length: int) -> bytes:
        part = await link.expect(messages.FileData)
        if len(part.data) != length:
            link.fail("the container sent a part of a file that is not as long as announced")
        return part.data


def is_safe_path(path: str) -> bool:
    """Return whether *path* is valid and stays below the folder that it is relative to."""
    return len(path) <= LONGEST_PATH and _FILE_PATH.fullmatch(path) is not None


@contextmanager
def shielded_request(link: Link) -> Generator[None]:
    """Shield a request from cancellation until its answer is received, so that the link can be used for the next one.

    :raises SandboxLostError: the answer takes too long.
    """
    try:
        with anyio.CancelScope(shield=True), anyio.fail_after(_ANSWER_SECONDS):
            yield
    except TimeoutError:
        link.fail("the container did not answer in time")


async def _parts(data: FileSource) -> AsyncGenerator[bytes]:
    """Yield the content of *data* in parts of `PART_LIMIT` bytes. Only the last one may be smaller."""
    async with aclosing(_chunks(data)) as chunks:
        part = bytearray()
        async for chunk in chunks:
            left = memoryview(chunk).cast("B")
            while left:
                taken = left[: PART_LIMIT - len(part)]
                part += taken
                left = left[len(taken) :]
                if len(part) == PART_LIMIT:
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
            while chunk := await file.read(PART_LIMIT):
                yield chunk
    elif callable(getattr(data, "read", None)):
        opened = anyio.wrap_file(data)
        while chunk := await opened.read(PART_LIMIT):
            yield chunk
    else:
        raise TypeError(
            "expected bytes (encode a string), a pathlib.Path of a local file, an open file or an asynchronous "
            f"iterable, got {type(data).__name__}"
        )


def _path_of(name: FileName) -> str:
    if isinstance(name, str):
        return name
    if isinstance(name, (FileInfo, FileChange)):  # pyright: ignore[reportUnnecessaryIsInstance]
        return name.path
    raise TypeError(f"a file of the workspace is named by a string, not {type(name).__name__}")


def _place_of(target: str | os.PathLike[str]) -> tuple[Path, int | None]:
    """Return where *target* leads to, and the permissions of the file that is there.

    :raises FileExistsError: something else than a regular file is there.
    """
    place = Path(os.path.realpath(target))
    if not place.exists():
        return place, None
    mode = place.stat().st_mode
    if not S_ISREG(mode):
        raise FileExistsError(EEXIST, "Not a regular file", str(target))
    return place, S_IMODE(mode)


def _relative(path: str, done: str) -> str:
    """Return *path* relative to the workspace; empty for the workspace itself.

    :param done: what should be done with the file, as a participle for the error message.
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


def _raise_error(link: Link, reason: str | None, path: str, done: str, *, limit: int | None = None) -> None:
    """Raise the error for the container's *reason*, or nothing if it is None.

    :raises FileError: there is a reason.
    :raises SandboxLostError: the reason is unknown.
    """
    if reason is not None:
        if reason not in _MESSAGES:
            link.fail("the container sent a malformed answer")
        raise _error(reason, path, done, limit=limit if reason == "full" else None)


def _error(reason: FileReason, path: str, done: str, why: str | None = None, *, limit: int | None = None) -> FileError:
    if why is None:
        why = _MESSAGES[reason] if limit is None else f"{_MESSAGES[reason]} (limit: {limit})"
    return FileError(f"{path[:200]!a} can't be {done}: {why}", path=path, reason=reason, limit=limit)


def _time(nanoseconds: int) -> datetime:
    return datetime.fromtimestamp(nanoseconds / 1e9, timezone.utc)
