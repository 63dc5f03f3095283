"""The workspace as the supervisor sees it: what has changed in it, and reading from it. User code is hostile.

No call here waits for anybody: folders are looked at without following links, files opened without waiting, and what
is read or listed at a time is limited.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import stat
import struct

from mcp_agentrun.wire.messages import PART_LIMIT, FileChange, FileEntry, FileList, FilePart

WORKSPACE = b"/workspace"
LISTED = 200
"""Changed files that a result names."""

_CACHES = frozenset(
    (
        *(b"__pycache__", b".pytest_cache", b".mypy_cache", b".ruff_cache", b".hypothesis", b".ipynb_checkpoints"),
        *(b".cache", b".eggs", b".git", b".nox", b".tox", b".venv", b"node_modules", b".pytype", b".numba_cache"),
        *(b".virtual_documents", b".jupyter", b".ipython"),
    )
)
"""Folders that tools keep for themselves: what is in them is no result."""

_ENTRIES = 20_000
_DEPTH = 32
_PATH = 1024
_WATCHED = 512

# MODIFY, CLOSE_WRITE, MOVED_FROM, MOVED_TO, CREATE and DELETE; of folders only, and no links
_EVENTS = 0x2 | 0x8 | 0x40 | 0x80 | 0x100 | 0x200 | 0x01000000 | 0x02000000
_NONBLOCK_CLOEXEC = 0o4000 | 0o2000000
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC

_Seen = dict[bytes, tuple[int, int, int]]


class Workspace:
    """What files there are, by path, and what has been done to them since the last look.

    A look at a workspace in which nothing has happened is one read of an inotify descriptor.
    """

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._watch: int = self._libc.inotify_init1(_NONBLOCK_CLOEXEC)
        self._watched: dict[int, int] = {}
        """By inode of a folder, its watch."""
        self._is_blind = False
        """There are folders that are not watched."""
        self._cut = False
        self._seen = self._scan()

    def changes(self) -> tuple[tuple[FileChange, ...], int]:
        """What has been created or changed since the last call, and how many more there are."""
        if not self._has_happened():
            return (), 0
        before, self._seen = self._seen, self._scan()
        found = [path for path, state in sorted(self._seen.items()) if before.get(path) != state]
        changes = (
            FileChange(
                path=os.fsdecode(path), size=self._seen[path][1], change="changed" if path in before else "created"
            )
            for path in found[:LISTED]
        )
        return tuple(changes), max(0, len(found) - LISTED)

    def forget(self) -> None:
        """Take what there is now for what has always been there."""
        self._drain()
        self._seen = self._scan()

    def list(self) -> FileList:
        """The files that there are. They still count as changes."""
        found = sorted(self._scan().items())
        files = (FileEntry(path=os.fsdecode(path), size=state[1], changed=state[2]) for path, state in found[:LISTED])
        return FileList(files=tuple(files), more=max(0, len(found) - LISTED) + self._cut)

    def read(self, path: str, offset: int, length: int) -> tuple[FilePart, bytes]:
        """A part of a file, and what the file is or why it can't be read."""
        try:
            descriptor, of_workspace = self._open(os.fsencode(path))
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            number = getattr(error, "errno", 0) or 0
            return FilePart(error=_REASONS.get(number, reason or "it can't be opened")), b""
        try:
            state = os.fstat(descriptor)
            if not stat.S_ISREG(state.st_mode):
                return FilePart(error="it is not a regular file"), b""
            if of_workspace and state.st_blocks * 512 < state.st_size:
                return FilePart(error="it is sparse: parts of it were never written"), b""
            data = os.pread(descriptor, min(length, PART_LIMIT), offset)
        except OSError as error:
            return FilePart(error=error.strerror or "it can't be read"), b""
        finally:
            os.close(descriptor)
        stamp = f"{state.st_ino}-{state.st_mtime_ns}"
        return FilePart(size=state.st_size, stamp=stamp, length=len(data)), data

    @staticmethod
    def _open(path: bytes) -> tuple[int, bool]:
        """Open *path*, each part of it beneath the last and none of them a link; and whether it is of the workspace
        itself rather than of a folder mounted into it.
        """
        parts = path.split(b"/")
        if not path or len(path) > 4096 or b"\0" in path or any(part in (b"", b".", b"..") for part in parts):
            raise ValueError("its path must be relative to /workspace, without .. in it")
        folder = os.open(WORKSPACE, _FOLDER)
        device = os.fstat(folder).st_dev
        try:
            for part in parts[:-1]:
                inner = os.open(part, _FOLDER, dir_fd=folder)
                os.close(folder)
                folder = inner
            # Not opened before it is known to be a file: opening a device or a pipe can do something.
            state = os.stat(parts[-1], dir_fd=folder, follow_symlinks=False)
            if stat.S_ISLNK(state.st_mode):
                raise ValueError("it is a symbolic link")
            if not stat.S_ISREG(state.st_mode):
                raise ValueError("it is not a regular file")
            return os.open(parts[-1], _FILE, dir_fd=folder), state.st_dev == device
        finally:
            os.close(folder)

    # -- looking

    def _has_happened(self) -> bool:
        return self._drain() or self._is_blind

    def _drain(self) -> bool:
        """Take the events that there are; whether there were any."""
        found = False
        for _ in range(64):
            try:
                events = os.read(self._watch, 1 << 16)
            except OSError:
                return found
            found = True
            at = 0
            while at + 16 <= len(events):
                watch, mask, _, length = struct.unpack_from("iIII", events, at)
                if mask & 0x8000:  # IN_IGNORED: the folder is gone
                    self._watched = {inode: known for inode, known in self._watched.items() if known != watch}
                at += 16 + length
        return found

    def _scan(self) -> _Seen:
        """Look at every file, and watch every folder."""
        self._is_blind = self._watch < 0
        self._cut = False
        seen: _Seen = {}
        with contextlib.suppress(OSError):
            top = os.open(WORKSPACE, _FOLDER)
            self._look(top, b"", os.fstat(top).st_dev, 0, seen)
        return seen

    def _look(self, folder: int, prefix: bytes, device: int, depth: int, seen: _Seen) -> None:
        """Add the files beneath the open *folder*, which is closed."""
        folders: list[bytes] = []
        try:
            self._watch_folder(folder)
            with os.scandir(folder) as entries:
                for entry in entries:
                    if len(seen) >= _ENTRIES:
                        self._cut = True
                        break
                    name = os.fsencode(entry.name)
                    with contextlib.suppress(OSError):
                        state = entry.stat(follow_symlinks=False)
                        if state.st_dev != device or len(prefix) + len(name) > _PATH:
                            continue  # a folder of the host's, shown here
                        if stat.S_ISREG(state.st_mode):
                            seen[prefix + name] = state.st_ino, state.st_size, state.st_ctime_ns
                        elif stat.S_ISDIR(state.st_mode) and name not in _CACHES:
                            folders.append(name)
            for name in folders if depth < _DEPTH else ():
                with contextlib.suppress(OSError):
                    inner = os.open(name, _FOLDER, dir_fd=folder)
                    self._look(inner, prefix + name + b"/", device, depth + 1, seen)
        finally:
            os.close(folder)

    def _watch_folder(self, folder: int) -> None:
        inode = os.fstat(folder).st_ino
        if inode in self._watched or self._watch < 0:
            return
        if len(self._watched) >= _WATCHED:
            self._is_blind = True
            return
        watch = self._libc.inotify_add_watch(self._watch, b"/proc/self/fd/%d/." % folder, _EVENTS)
        if watch < 0:
            self._is_blind = True
        else:
            self._watched[inode] = watch


_REASONS = {
    2: "there is no such file",
    13: "it may not be read",
    20: "a part of its path is not a folder",
    40: "a part of its path is a symbolic link",
    11: "it is in use",
}
