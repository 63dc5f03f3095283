"""Which files the workspace has, and which were created or changed. User code is hostile.

Folders are read without following links, and the number of entries is limited.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import stat
import struct

from mcp_agentrun.wire.messages import FileChange

from .prelude import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

WORKSPACE = b"/workspace"
LISTED = 200  # changed files that a result names
DEPTH = 32  # folders below each other that are read
PATH_LENGTH = 1024  # bytes of a path, above which a file is ignored
ENTRIES = 20_000  # most files that are read
PARTIAL = b".mcp-agentrun-partial-"  # prefix of files that the supervisor is writing

OPEN_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

_CACHES = frozenset(
    (
        *(b"__pycache__", b".pytest_cache", b".mypy_cache", b".ruff_cache", b".hypothesis", b".ipynb_checkpoints"),
        *(b".cache", b".eggs", b".git", b".nox", b".tox", b".venv", b"node_modules", b".pytype", b".numba_cache"),
        *(b".virtual_documents", b".jupyter", b".ipython"),
    )
)
"""Folders of tools, whose files are not results."""

_WATCHED = 512

# MODIFY, CLOSE_WRITE, MOVED_FROM, MOVED_TO, CREATE and DELETE; of folders only, and no links
_EVENTS = 0x2 | 0x8 | 0x40 | 0x80 | 0x100 | 0x200 | 0x01000000 | 0x02000000
_NONBLOCK_CLOEXEC = 0o4000 | 0o2000000


class Scan:
    """The files below a folder: inode, size and time of the last change of each, by path.

    :param folder: descriptor of the folder, which is closed.
    :param prefix: what comes before each path: empty, or the folder's path and a slash.
    :param visit: called with the descriptor of each folder.
    """

    def __init__(self, folder: int, prefix: bytes = b"", visit: Callable[[int], object] = lambda _: None) -> None:
        self.files: dict[bytes, tuple[int, int, int]] = {}
        self.is_cut = False  # there are more files than are read
        self._visit = visit
        self._device = os.fstat(folder).st_dev
        self._read(folder, prefix, 0)

    def _read(self, folder: int, prefix: bytes, depth: int) -> None:
        try:
            self._visit(folder)
            folders = self._read_entries(folder, prefix)
            for name in folders if depth < DEPTH else ():
                with contextlib.suppress(OSError):
                    inner = os.open(name, OPEN_FOLDER, dir_fd=folder)
                    self._read(inner, prefix + name + b"/", depth + 1)
        finally:
            os.close(folder)

    def _read_entries(self, folder: int, prefix: bytes) -> list[bytes]:
        """Add the files of *folder*; returns the folders in it."""
        folders: list[bytes] = []
        with os.scandir(folder) as entries:
            for entry in entries:
                if len(self.files) >= ENTRIES:
                    self.is_cut = True
                    break
                name = os.fsencode(entry.name)
                with contextlib.suppress(OSError):
                    state = entry.stat(follow_symlinks=False)
                    if state.st_dev != self._device or len(prefix) + len(name) > PATH_LENGTH:
                        continue  # a folder of the host's, shown here
                    if stat.S_ISDIR(state.st_mode) and name not in _CACHES:
                        folders.append(name)
                    elif stat.S_ISREG(state.st_mode) and not name.startswith(PARTIAL):
                        self.files[prefix + name] = file_state(state)
        return folders


def file_state(state: os.stat_result) -> tuple[int, int, int]:
    """What changes with a file: inode, size, and time of the last change in nanoseconds."""
    return state.st_ino, state.st_size, state.st_ctime_ns


class Changes:
    """Changes of the workspace's files. If there are none, one read of an inotify descriptor shows it."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._watch: int = self._libc.inotify_init1(_NONBLOCK_CLOEXEC)
        self._watched: dict[int, int] = {}  # by inode of a folder, its watch
        self._is_blind = False  # whether some folders are not watched
        self._seen = self._scan()

    def take(self) -> tuple[tuple[FileChange, ...], int]:
        """The files that were created or changed since the last call, and how many more there are."""
        if not self._drain() and not self._is_blind:
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
        """Forget all changes until now."""
        self._drain()
        self._seen = self._scan()

    def exclude(self, path: bytes, state: tuple[int, int, int] | None) -> None:
        """Forget changes of the file at *path*, which is now in *state*, or None if it was removed."""
        if state is None:
            self._seen.pop(path, None)
        else:
            self._seen[path] = state

    def _drain(self) -> bool:
        """Consume pending events. Return whether there were any."""
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

    def _scan(self) -> dict[bytes, tuple[int, int, int]]:
        """Read the state of every file, and watch every folder."""
        self._is_blind = self._watch < 0
        try:
            return Scan(os.open(WORKSPACE, OPEN_FOLDER), visit=self._watch_folder).files
        except OSError:
            return {}

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
