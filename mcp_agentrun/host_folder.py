"""A folder of this machine that sandboxes may see, held to what it was when the server started."""

from __future__ import annotations

import logging
import os
import stat
import time
from dataclasses import dataclass
from pathlib import Path

from .errors import EngineError

__all__ = ["HostFolder"]

logger = logging.getLogger(__name__)

SEARCH_SECONDS = 5.0
"""Longest search for sockets and FIFOs before a container is created."""

_WRITE, _READ_OR_WRITE, _ENTER = 0o2, 0o6, 0o1


@dataclass(frozen=True)
class HostFolder:
    """A folder, identified by device and inode: its path may come to mean another one."""

    path: Path
    device: int
    inode: int

    @classmethod
    def pin(cls, path: Path) -> HostFolder:
        """The folder at *path*, of which links are followed now and never again.

        :raises OSError: there is no folder.
        """
        path = path.resolve()
        status = path.lstat()
        if not stat.S_ISDIR(status.st_mode):
            raise NotADirectoryError(str(path))
        return cls(path, status.st_dev, status.st_ino)

    @property
    def identity(self) -> tuple[int, int]:
        """Device and inode, as any process of this machine's kernel sees them."""
        return self.device, self.inode

    @property
    def is_unchanged(self) -> bool:
        """Whether the path still leads to this folder."""
        try:
            status = self.path.lstat()
        except OSError:
            return False
        return (status.st_dev, status.st_ino) == self.identity

    def require_safe(self, uid: int) -> None:
        """Refuse to show the folder to user *uid* if it was replaced, or has something in it that reading does not
        leave alone: a socket or FIFO, which a read-only mount does not protect.

        :raises EngineError: it does; the message names what was found.
        """
        if not self.is_unchanged:
            raise EngineError(
                f"The folder {self.path.name!a} of `data` was moved or replaced after the server had started, and is "
                "not shown. Put it back, or restart the server."
            )
        found = self._special_file(uid)
        if found is not None:
            raise EngineError(
                f"The folder {self.path.name!a} of `data` has a socket, FIFO or device that code could use, "
                f"{str(found)[:200]!a}: it is not shown. Remove that, or take away the permissions of others "
                "(chmod o-rwx), and call again."
            )

    def _special_file(self, uid: int) -> Path | None:
        """Path, within the folder, of a file that is neither regular, folder nor link, and that *uid* may use."""
        deadline = time.monotonic() + SEARCH_SECONDS
        folders, is_whole = [self.path], True
        while folders:
            if time.monotonic() > deadline:
                is_whole = False
                break
            try:
                with os.scandir(folders.pop()) as entries:
                    for entry in entries:
                        if entry.is_symlink() or entry.is_file(follow_symlinks=False):
                            continue
                        status = entry.stat(follow_symlinks=False)
                        if stat.S_ISDIR(status.st_mode):
                            if _may(uid, status, _ENTER):
                                folders.append(Path(entry.path))
                        elif _may(uid, status, _WRITE if stat.S_ISSOCK(status.st_mode) else _READ_OR_WRITE):
                            return Path(entry.path).relative_to(self.path)
            except FileNotFoundError:
                continue
            except OSError:
                is_whole = False
        if not is_whole:
            logger.warning("data: not all of %s could be searched for sockets and FIFOs", self.path)
        return None


def _may(uid: int, status: os.stat_result, wanted: int) -> bool:
    """Whether user and group *uid* have one of the permissions *wanted* (bits of others)."""
    mode = status.st_mode
    granted = mode | (mode >> 6 if status.st_uid == uid else 0) | (mode >> 3 if status.st_gid == uid else 0)
    return bool(granted & wanted)
