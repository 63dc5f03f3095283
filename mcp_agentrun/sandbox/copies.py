"""Copies of a sandbox's files in a folder of this machine. Their names are hostile input."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import anyio.to_thread

__all__ = ["safe_path", "save_copy"]

_RESERVED = re.compile(r"(?:con|prn|aux|nul|com\d|lpt\d)(?:\.|$)", re.IGNORECASE)

_NAME_BYTES = 255
_MADE = re.compile(r"~[0-9a-f]{8}(?:\.[^.]*)?$")
"""Matches the end of names that `_safe_name` makes. The tilde keeps it from matching names that end in a date."""


def safe_path(path: str) -> str:
    """Return a relative path that is valid on every system, and different for different *paths*."""
    return "/".join(map(_safe_name, path.split("/")))


def _safe_name(name: str) -> str:
    safe = re.sub(r'[\x00-\x1f\x7f<>:"|?*\\/]', "_", name.encode("utf-8", "replace").decode())
    safe = safe[:-1] + "_" if safe[-1:] in (".", " ") else safe
    safe = "_" + safe if _RESERVED.match(safe) else safe
    if safe == name and _MADE.search(name) is None:
        return name
    digest = hashlib.blake2b(name.encode("utf-8", "surrogateescape"), digest_size=4).hexdigest()
    stem, dot, suffix = safe.rpartition(".")
    if not stem or len(suffix.encode()) > _NAME_BYTES // 2:
        stem, dot, suffix = safe, "", ""
    end = f"~{digest}{dot}{suffix}"
    return stem.encode()[: _NAME_BYTES - len(end.encode())].decode("utf-8", "ignore") + end


async def save_copy(parts: AsyncIterator[bytes], folder: Path, name: str) -> Path:
    """Write *parts* to the file *name* below *folder*, and return its path. If something fails, nothing is left.

    :param name: a path that `safe_path` has returned.
    :raises OSError: the file can't be written, or a symbolic link is in the way.
    """
    copy: _Copy | None = None
    try:
        async for part in parts:
            copy = copy or await anyio.to_thread.run_sync(_Copy, folder, name)
            await anyio.to_thread.run_sync(copy.write, part)
        if copy is not None:
            await anyio.to_thread.run_sync(copy.finish)
    except BaseException:
        if copy is not None:
            copy.discard()
        raise
    return folder / name


class _Copy:
    """A file below *folder* that has a temporary name until it is finished.

    No symbolic link is followed: one in place of the file is replaced, one in place of a folder is an error.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self._target = folder / name
        for parent in reversed(self._target.relative_to(folder).parents):
            if parent != Path() and (folder / parent).is_symlink():
                raise OSError(errno.ELOOP, "a link is in the way")
        self._target.parent.mkdir(parents=True, exist_ok=True)
        self._path = self._target.with_name(f".agentrun-{secrets.token_hex(8)}")
        self._file = self._path.open("xb", buffering=0)  # permissions as the user's umask sets them

    def write(self, data: bytes) -> None:
        left = memoryview(data)
        while left:
            left = left[self._file.write(left) :]

    def finish(self) -> None:
        self._file.close()
        os.replace(self._path, self._target)

    def discard(self) -> None:
        with contextlib.suppress(OSError):
            self._file.close()
        with contextlib.suppress(OSError):
            os.unlink(self._path)
