"""Reading, writing, listing and removing files of the workspace for the server. User code is hostile.

Nothing here waits for user code, and no link is followed (see `runner.paths`).
"""

from __future__ import annotations

import contextlib
import os
import stat

from mcp_agentrun.wire import messages
from mcp_agentrun.wire.codec import ProtocolError
from mcp_agentrun.wire.messages import PART_LIMIT

from .changes import DEPTH, PARTIAL, PATH_LENGTH, WORKSPACE, Changes, Scan, file_state
from .linux.memory import Memory
from .paths import RefusedError, parent_of, reason_of, require_file, split, state_of, walk
from .sockets import HostStream

MEMORY_FULL = 0.95  # share of the memory limit above which nothing more is written
_LISTED = 500  # files in one answer, which fit into a frame even with the longest names

_READ_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Files:
    """Answers the server's requests about files.

    :param changes: notified of what is written and removed here, which is no change of a run's.
    """

    def __init__(self, host: HostStream, changes: Changes, memory: Memory) -> None:
        self._host = host
        self._changes = changes
        self._memory = memory
        self._upload: Upload | None = None

    def handle(self, request: messages.Message) -> None:
        """Answer one *request*.

        :raises ProtocolError: it is not about files, or unexpected.
        """
        match request:
            case messages.WriteData() | messages.WriteFile() | messages.WriteEnd():
                self._host.send(self._write(request))
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

    def _write(self, request: messages.WriteFile | messages.WriteData | messages.WriteEnd) -> messages.Written:
        """Take one step of writing a file. If one fails, nothing of the file remains."""
        try:
            return messages.Written(changed=self._take_step(request))
        except (OSError, RefusedError) as error:
            upload, self._upload = self._upload, None
            if upload is not None:
                upload.abandon()
            return messages.Written(error=reason_of(error))

    def _take_step(self, request: messages.WriteFile | messages.WriteData | messages.WriteEnd) -> int:
        """See `_write`. Returns the time of the file's last change, and 0 before its end."""
        upload = self._upload
        if (upload is None) is not isinstance(request, messages.WriteFile):
            raise ProtocolError("a file is being written already" if upload else "no file is being written")
        if isinstance(request, messages.WriteFile):
            self._upload = Upload(request.path)
            return 0
        assert upload is not None
        if isinstance(request, messages.WriteData):
            if self._memory.exceeds(MEMORY_FULL):
                raise RefusedError("memory")
            upload.write(request.data)
            return 0
        state = upload.commit() if request.keep else None
        if state is None:
            upload.abandon()
        else:
            self._changes.exclude(upload.path, state)
        self._upload = None
        return 0 if state is None else state[2]

    def _remove(self, path: str) -> str | None:
        try:
            with parent_of(split(path)) as (folder, name):
                if stat.S_ISDIR(state_of(name, folder).st_mode):
                    raise RefusedError("folder")
                os.unlink(name, dir_fd=folder)
        except (OSError, RefusedError) as error:
            return reason_of(error)
        self._changes.exclude(os.fsencode(path), None)
        return None


class Upload:
    """A file that is being written: a temporary one in the folder of *path*, which is renamed when it is complete.

    :raises RefusedError, OSError: it can't be written there; nothing was changed.
    """

    def __init__(self, path: str) -> None:
        parts = split(path)
        self.path = b"/".join(parts)
        if len(parts) > DEPTH or len(self.path) > PATH_LENGTH:
            raise RefusedError("name")  # it could not be listed
        self._folders, self._name = parts[:-1], parts[-1]
        self._temporary = PARTIAL + os.urandom(8).hex().encode()
        self._created: list[int] = []  # number of parts in the path of each folder that was created for it
        self._folder = self._file = -1
        try:
            self._folder = walk(self._folders, self._create)
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
        """Rename the file to its final name; returns its state, as `file_state` does."""
        self._require_replaceable()
        try:
            os.rename(self._temporary, self._name, src_dir_fd=self._folder, dst_dir_fd=self._folder)
        except FileNotFoundError:
            raise RefusedError("changed") from None
        state = file_state(os.fstat(self._file))
        self._close()
        return state

    def abandon(self) -> None:
        """Remove it, and the folders that were created for it."""
        if self._file >= 0:
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, 0)  # code may have moved it away
            with contextlib.suppress(OSError):
                os.unlink(self._temporary, dir_fd=self._folder)
        self._close()
        for length in reversed(self._created):
            with contextlib.suppress(OSError, RefusedError), parent_of(self._folders[:length]) as (parent, name):
                os.rmdir(name, dir_fd=parent)

    def _create(self, name: bytes, parent: int, depth: int) -> None:
        with contextlib.suppress(FileExistsError):
            os.mkdir(name, dir_fd=parent)
            self._created.append(depth)

    def _require_replaceable(self) -> None:
        """Check that a file can take its place.

        :raises RefusedError: it can't.
        """
        if os.fstat(self._folder).st_dev != os.stat(WORKSPACE, follow_symlinks=False).st_dev:
            raise RefusedError("read_only")
        with contextlib.suppress(FileNotFoundError):
            require_file(state_of(self._name, self._folder))

    def _close(self) -> None:
        for descriptor in (self._file, self._folder):
            if descriptor >= 0:
                os.close(descriptor)
        self._file = self._folder = -1


def read(path: str, offset: int, length: int) -> tuple[messages.FilePart, bytes]:
    """Read a part of a file."""
    try:
        with parent_of(split(path)) as (folder, name):
            # Only a regular file is opened: opening a device or a pipe can have effects.
            require_file(state_of(name, folder))
            descriptor = os.open(name, _READ_FILE, dir_fd=folder)
        try:
            state = os.fstat(descriptor)
            require_file(state)
            if state.st_blocks * 512 < state.st_size and state.st_dev == os.stat(WORKSPACE).st_dev:
                raise RefusedError("sparse")
            data = os.pread(descriptor, min(length, PART_LIMIT), offset)
        finally:
            os.close(descriptor)
    except (OSError, RefusedError) as error:
        return messages.FilePart(error=reason_of(error)), b""
    stamp = f"{state.st_ino}-{state.st_mtime_ns}"
    return messages.FilePart(size=state.st_size, stamp=stamp, length=len(data)), data


def list_files(folder: str, after: str) -> messages.FileList:
    """The first files below *folder*, empty for the workspace, whose paths sort after *after*."""
    try:
        parts = split(folder) if folder else []
        prefix = b"".join(part + b"/" for part in parts)
        scan = Scan(walk(parts), prefix)
    except (OSError, RefusedError) as error:
        return messages.FileList(error=reason_of(error))
    first = os.fsencode(after)
    paths = sorted(path for path in scan.files if path > first)
    files = tuple(
        messages.FileEntry(path=os.fsdecode(path), size=scan.files[path][1], changed=scan.files[path][2])
        for path in paths[:_LISTED]
    )
    return messages.FileList(files=files, more=len(paths) - len(files), is_cut=scan.is_cut)
