"""Reading, writing, listing and removing files of the workspace for the server. User code is hostile.

Nothing here waits for user code. Each folder of a path is opened from within the one before and no link is followed,
so that code which exchanges folders for links meanwhile can't lead anything elsewhere.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Generator, Sequence

from mcp_agentrun.wire import messages
from mcp_agentrun.wire.codec import ProtocolError
from mcp_agentrun.wire.messages import PART_LIMIT

from .changes import DEPTH, OPEN_FOLDER, PARTIAL, PATH_LENGTH, WORKSPACE, Changes, Scan, file_state

TYPE_CHECKING = False  # importing `typing` takes 2 ms, for which a first answer would wait
if TYPE_CHECKING:
    from .linux import Memory
    from .sockets import HostStream

MEMORY_FULL = 0.95
"""Share of the memory limit above which nothing more is written, or the kernel would end a process to make space."""

_LISTED = 500
"""Files in one answer: they fit into a frame, whatever their names."""

_READ_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

_REASONS = {
    errno.ENOENT: "missing",
    errno.ENAMETOOLONG: "name",
    errno.ELOOP: "link",
    errno.EISDIR: "folder",
    errno.ENOTDIR: "not_a_folder",
    errno.EACCES: "denied",
    errno.EPERM: "denied",
    errno.EROFS: "read_only",
    errno.ENOSPC: "full",
    errno.EDQUOT: "full",
    errno.EFBIG: "full",
    errno.EAGAIN: "busy",
    errno.EBUSY: "busy",
    errno.ENOMEM: "memory",
}


class RefusedError(Exception):
    """A request can't be carried out; the message is the reason's code."""


class Files:
    """Answers the server's requests about files.

    :param changes: is informed of what is written and removed, since no run has changed it.
    """

    def __init__(self, host: HostStream, changes: Changes, memory: Memory) -> None:
        self._host = host
        self._changes = changes
        self._memory = memory
        self._upload: Upload | None = None

    def handle(self, request: messages.Message) -> None:
        """Answer one *request*.

        :raises ProtocolError: it is not about files, or out of turn.
        """
        match request:
            case messages.WriteData(data=data):
                self._answer_writing(lambda: self._write(data))
            case messages.WriteFile(path=path):
                self._answer_writing(lambda: self._begin(path))
            case messages.WriteEnd(keep=keep):
                self._answer_writing(lambda: self._end(keep=keep))
            case messages.ReadFile():
                part, data = read(request.path, request.offset, request.length)
                self._host.send(part)
                if data:
                    self._host.send(messages.FileData(data=data))
            case messages.ListFiles():
                self._host.send(list_files(request.folder, request.after))
            case messages.RemoveFile():
                self._host.send(messages.Removed(error=self._remove(request.path)))
            case _:
                raise ProtocolError(f"unexpected {type(request).__name__} message")

    def _answer_writing(self, step: Callable[[], int]) -> None:
        """Carry out a *step* of writing a file. Where one fails, nothing of the file stays."""
        try:
            self._host.send(messages.Written(changed=step()))
        except (OSError, RefusedError) as error:
            upload, self._upload = self._upload, None
            if upload is not None:
                upload.abandon()
            self._host.send(messages.Written(error=_reason(error)))

    def _begin(self, path: str) -> int:
        if self._upload is not None:
            raise ProtocolError("a file is being written already")
        self._upload = Upload(path)
        return 0

    def _write(self, data: bytes) -> int:
        if self._memory.share() > MEMORY_FULL:
            raise RefusedError("memory")
        self._current.write(data)
        return 0

    def _end(self, *, keep: bool) -> int:
        upload = self._current
        if keep:
            state = upload.commit()
            self._changes.exclude(upload.path, state)
        else:
            upload.abandon()
            state = 0, 0, 0
        self._upload = None
        return state[2]

    @property
    def _current(self) -> Upload:
        if self._upload is None:
            raise ProtocolError("no file is being written")
        return self._upload

    def _remove(self, path: str) -> str | None:
        try:
            with _parent(path) as (folder, name):
                if stat.S_ISDIR(_state(name, folder).st_mode):
                    raise RefusedError("folder")
                os.unlink(name, dir_fd=folder)
        except (OSError, RefusedError) as error:
            return _reason(error)
        self._changes.exclude(os.fsencode(path), None)
        return None


class Upload:
    """A file that is being written: a temporary one beside *path*, which takes its place when it is complete.

    :raises RefusedError, OSError: it can't be written there; nothing has changed.
    """

    def __init__(self, path: str) -> None:
        parts = _split(path)
        self.path = b"/".join(parts)
        if len(parts) > DEPTH or len(self.path) > PATH_LENGTH:
            raise RefusedError("name")  # it could not be listed
        self._folders, self._name = parts[:-1], parts[-1]
        self._temporary = PARTIAL + os.urandom(8).hex().encode()
        self._created: list[int] = []
        """How long the paths of the folders are that were created for it, in parts."""
        self._folder = self._file = -1
        try:
            self._folder = _walk(self._folders, self._create)
            self._require_replaceable()
            self._file = os.open(self._temporary, _NEW_FILE, 0o666, dir_fd=self._folder)
        except BaseException:
            self.abandon()
            raise

    def write(self, data: bytes) -> None:
        """Append *data*."""
        left = memoryview(data)
        while left:
            left = left[os.write(self._file, left) :]

    def commit(self) -> tuple[int, int, int]:
        """Put the file in its place; returns its state, as `file_state` does."""
        self._require_replaceable()
        try:
            os.rename(self._temporary, self._name, src_dir_fd=self._folder, dst_dir_fd=self._folder)
        except FileNotFoundError:
            raise RefusedError("changed") from None
        state = file_state(os.fstat(self._file))
        self._close()
        return state

    def abandon(self) -> None:
        """Remove all of it, the folders that were created for it included."""
        if self._file >= 0:
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, 0)  # code may have moved it away
            with contextlib.suppress(OSError):
                os.unlink(self._temporary, dir_fd=self._folder)
        self._close()
        for length in reversed(self._created):
            with contextlib.suppress(OSError, RefusedError), _parent_of(self._folders[:length]) as (parent, name):
                os.rmdir(name, dir_fd=parent)

    def _create(self, name: bytes, parent: int, depth: int) -> None:
        with contextlib.suppress(FileExistsError):
            os.mkdir(name, dir_fd=parent)
            self._created.append(depth)

    def _require_replaceable(self) -> None:
        """
        :raises RefusedError: what is there can't be replaced by a file.
        """
        if os.fstat(self._folder).st_dev != os.stat(WORKSPACE, follow_symlinks=False).st_dev:
            raise RefusedError("read_only")
        with contextlib.suppress(FileNotFoundError):
            _require_file(_state(self._name, self._folder))

    def _close(self) -> None:
        for descriptor in (self._file, self._folder):
            if descriptor >= 0:
                os.close(descriptor)
        self._file = self._folder = -1


def read(path: str, offset: int, length: int) -> tuple[messages.FilePart, bytes]:
    """A part of a file, and what the file is; or the ``error``."""
    try:
        with _parent(path) as (folder, name):
            # Not opened before it is known to be a file: opening a device or a pipe can do something.
            _require_file(_state(name, folder))
            descriptor = os.open(name, _READ_FILE, dir_fd=folder)
        try:
            state = os.fstat(descriptor)
            _require_file(state)
            if state.st_blocks * 512 < state.st_size and state.st_dev == os.stat(WORKSPACE).st_dev:
                raise RefusedError("sparse")
            data = os.pread(descriptor, min(length, PART_LIMIT), offset)
        finally:
            os.close(descriptor)
    except (OSError, RefusedError) as error:
        return messages.FilePart(error=_reason(error)), b""
    stamp = f"{state.st_ino}-{state.st_mtime_ns}"
    return messages.FilePart(size=state.st_size, stamp=stamp, length=len(data)), data


def list_files(folder: str, after: str) -> messages.FileList:
    """The first files below *folder*, empty for the workspace, whose paths come after *after*."""
    try:
        parts = _split(folder) if folder else []
        prefix = b"".join(part + b"/" for part in parts)
        scan = Scan(_walk(parts), prefix)
    except (OSError, RefusedError) as error:
        return messages.FileList(error=_reason(error))
    first = os.fsencode(after)
    paths = sorted(path for path in scan.files if path > first)
    files = tuple(
        messages.FileEntry(path=os.fsdecode(path), size=scan.files[path][1], changed=scan.files[path][2])
        for path in paths[:_LISTED]
    )
    return messages.FileList(files=files, more=len(paths) - len(files), is_cut=scan.is_cut)


def _split(path: str) -> list[bytes]:
    """The parts of *path*, which is relative to the workspace.

    :raises RefusedError: it is not.
    """
    try:
        encoded = os.fsencode(path)
    except UnicodeEncodeError:
        raise RefusedError("name") from None
    parts = encoded.split(b"/")
    if len(encoded) > 4096 or b"\0" in encoded or any(part in (b"", b".", b"..") for part in parts):
        raise RefusedError("name")
    return parts


@contextlib.contextmanager
def _parent(path: str) -> Generator[tuple[int, bytes]]:
    """Descriptor of the folder that *path* is in, and the name there."""
    with _parent_of(_split(path)) as found:
        yield found


@contextlib.contextmanager
def _parent_of(parts: Sequence[bytes]) -> Generator[tuple[int, bytes]]:
    folder = _walk(parts[:-1])
    try:
        yield folder, parts[-1]
    finally:
        os.close(folder)


def _walk(parts: Sequence[bytes], create: Callable[[bytes, int, int], object] | None = None) -> int:
    """Open the folder *parts*, each from within the one before.

    :param create: called for one that is missing, with its name, a descriptor of its parent, and its depth.
    """
    folder = os.open(WORKSPACE, OPEN_FOLDER)
    try:
        for depth, part in enumerate(parts, 1):
            try:
                inner = os.open(part, OPEN_FOLDER, dir_fd=folder)
            except FileNotFoundError:
                if create is None:
                    raise
                create(part, folder, depth)
                inner = os.open(part, OPEN_FOLDER, dir_fd=folder)
            except NotADirectoryError:
                raise RefusedError("link" if stat.S_ISLNK(_state(part, folder).st_mode) else "not_a_folder") from None
            os.close(folder)
            folder = inner
    except BaseException:
        os.close(folder)
        raise
    return folder


def _state(name: bytes, folder: int) -> os.stat_result:
    return os.stat(name, dir_fd=folder, follow_symlinks=False)


def _require_file(state: os.stat_result) -> None:
    """
    :raises RefusedError: *state* is not that of a regular file.
    """
    if not stat.S_ISREG(state.st_mode):
        is_link, is_folder = stat.S_ISLNK(state.st_mode), stat.S_ISDIR(state.st_mode)
        raise RefusedError("link" if is_link else "folder" if is_folder else "not_a_file")


def _reason(error: OSError | RefusedError) -> str:
    """Code of the reason for *error*."""
    return str(error) if isinstance(error, RefusedError) else _REASONS.get(error.errno or 0, "failed")
