"""A folder of this machine that sandboxes can read, identified so that it can't be replaced unnoticed."""

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
"""Time limit for the search for sockets and FIFOs before a container is created."""

_WRITE, _READ_OR_WRITE, _ENTER = 0o2, 0o6, 0o1


@dataclass(frozen=True)
class HostFolder:
    """A folder, identified by device and inode, because its path may later lead to another one."""

    path: Path
    device: int
    inode: int

    @classmethod
    def pin(cls, path: Path) -> HostFolder:
        """Identify the folder at *path*. Symbolic links are resolved now, and not followed later.

        :raises OSError: there is no folder.
        """
        path = Path(os.path.realpath(path))
        status = path.lstat()
        if not stat.S_ISDIR(status.st_mode):
            raise NotADirectoryError(str(path))
        return cls(path, status.st_dev, status.st_ino)

    @property
    def identity(self) -> tuple[int, int]:
        """Device and inode, which are the same for all processes of this machine's kernel."""
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
        """Check that user *uid* can only read from the folder. A read-only mount does not protect sockets and FIFOs.

        :raises EngineError: it was replaced, or contains a socket, FIFO or device that the user may use.
        """
        if not self.is_unchanged:
            raise EngineError(
                f"The folder {self.path.name!a} of `data` was moved or replaced after the server had started, so it "
                "is not mounted. Put it back, or restart the server."
            )
        found = self._special_file(uid)
        if found is not None:
            raise EngineError(
                f"The folder {self.path.name!a} of `data` has a socket, FIFO or device that code could use, "
                f"{str(found)[:200]!a}, so it is not mounted. Remove that, or the permissions of others "
                "(chmod o-rwx), and call again."
            )

    def _special_file(self, uid: int) -> Path | None:
        """Return the path of a file other than a regular file, folder or link that *uid* may use, or None."""
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
    """Return whether user and group *uid* have one of the permissions *wanted* (as bits for others)."""
    mode = status.st_mode
    granted = mode | (mode >> 6 if status.st_uid == uid else 0) | (mode >> 3 if status.st_gid == uid else 0)
    return bool(granted & wanted)
