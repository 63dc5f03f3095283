"""Finding files of the workspace by path. User code is hostile: no link is followed.

Each folder of a path is opened from within the one before, so code that replaces folders by links meanwhile can't lead
anything elsewhere.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Generator, Sequence

from .changes import OPEN_FOLDER, WORKSPACE

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
    """A request was refused. The message is the code of the reason."""


def split(path: str) -> list[bytes]:
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
def parent_of(parts: Sequence[bytes]) -> Generator[tuple[int, bytes]]:
    """Descriptor of the folder that the path *parts* is in, and the name there."""
    folder = walk(parts[:-1])
    try:
        yield folder, parts[-1]
    finally:
        os.close(folder)


def walk(parts: Sequence[bytes], create: Callable[[bytes, int, int], object] | None = None) -> int:
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
                raise RefusedError("link" if stat.S_ISLNK(state_of(part, folder).st_mode) else "not_a_folder") from None
            os.close(folder)
            folder = inner
    except BaseException:
        os.close(folder)
        raise
    return folder


def state_of(name: bytes, folder: int) -> os.stat_result:
    return os.stat(name, dir_fd=folder, follow_symlinks=False)


def require_file(state: os.stat_result) -> None:
    """Check that *state* is that of a regular file.

    :raises RefusedError: it is not.
    """
    if not stat.S_ISREG(state.st_mode):
        is_link, is_folder = stat.S_ISLNK(state.st_mode), stat.S_ISDIR(state.st_mode)
        raise RefusedError("link" if is_link else "folder" if is_folder else "not_a_file")


def reason_of(error: OSError | RefusedError) -> str:
    """Code of the reason for *error*."""
    return str(error) if isinstance(error, RefusedError) else _REASONS.get(error.errno or 0, "failed")
