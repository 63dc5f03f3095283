"""Copies of the files of runs in a folder of the user."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import anyio
import anyio.to_thread

from ...errors import AgentRunError, FileError
from ...sandbox import FileChange, ReadFile, Result
from ...settings import Settings
from ...spoofing import quoted

__all__ = ["OutFolder", "RunCopies"]


def _for_model(copied: int) -> str:
    return f"The user has a copy of {'it' if copied == 1 else f'these {copied} files'}"


class OutFolder:
    """The user's folder that gets a copy of each file that a run creates or changes.

    :param describe: says that so many files were copied.
    :raises SettingsError: the folder can't be created.
    """

    def __init__(self, settings: Settings, describe: Callable[[int], str] = _for_model) -> None:
        assert settings.access.out is not None
        try:
            self._folder = Path(settings.access.out).expanduser()
            self._folder.mkdir(parents=True, exist_ok=True)
        except (OSError, RuntimeError) as error:  # RuntimeError if there is no home folder
            raise settings.error("out", f"the folder {settings.access.out} can't be created: {error}") from None
        self._left = settings.access.out_size
        self._describe = describe

    async def copy(self, read: ReadFile, folder: str | None, files: Sequence[FileChange]) -> list[str]:
        """Copy *files* into *folder*, or the top of the user's folder. Return notes about that."""
        copied, notes, renamed = 0, list[str](), list[str]()
        for file in files:
            name = "/".join(map(_safe_name, file.path.split("/")))
            try:
                self._take(file.size)
                parts = read(file.path, file.size + self._left)
                await self._copy(parts, f"{folder}/{name}" if folder else name, file.size)
                copied += 1
                if name != file.path:
                    renamed.append(f"{quoted(file.path)} as {quoted(name)}")
            except _FolderFullError:
                notes.append(f"{quoted(file.path)} was not copied: the size limit of the user's folder is reached.")
            except AgentRunError as error:
                notes.append(f"Not copied to the user's folder: {error}.")
                if not isinstance(error, FileError):  # the other files can't be read either
                    break
            except OSError as error:
                notes.append(f"{quoted(file.path)} was not copied to the user's folder: {error.strerror}.")
        if copied:
            names = f", {', '.join(renamed)}" if renamed else ""
            notes.insert(0, f"{self._describe(copied)}{names}.")
        return notes

    def _take(self, size: int) -> None:
        if size > self._left:
            raise _FolderFullError
        self._left -= size

    async def _copy(self, parts: AsyncIterator[bytes], name: str, reserved: int) -> None:
        """Write a file from *parts*. Of the *reserved* bytes, those that are not written become available again."""
        size = 0
        copy: _Copy | None = None
        try:
            async for part in parts:
                size += len(part)
                if size > reserved:  # the file has grown
                    self._take(size - reserved)
                    reserved = size
                copy = copy or await anyio.to_thread.run_sync(_Copy, self._folder, name)
                await anyio.to_thread.run_sync(copy.write, part)
            if copy is not None:
                await anyio.to_thread.run_sync(copy.finish)
        except BaseException:
            size = 0
            if copy is not None:
                copy.discard()
            raise
        finally:
            self._left += reserved - size


class RunCopies:
    """Copies the files of one run, while no other call changes them. Pass it to `Sandbox.run` as *then*."""

    def __init__(self, out: OutFolder | None, folder: str | None) -> None:
        self._out = out
        self._folder = folder
        self.notes: list[str] = []
        """Notes for the model."""

    async def __call__(self, result: Result, read: ReadFile) -> None:
        if self._out is not None and result.files:
            self.notes += await self._out.copy(read, self._folder, result.files)


class _FolderFullError(Exception):
    """The size limit of the user's folder is reached."""


_RESERVED = re.compile(r"(?:con|prn|aux|nul|com\d|lpt\d)(?:\.|$)", re.IGNORECASE)

_NAME_BYTES = 255
_MADE = re.compile(r"~[0-9a-f]{8}(?:\.[^.]*)?$")
"""Matches the end of names that `_safe_name` makes. The tilde keeps it from matching names that end in a date."""


def _safe_name(name: str) -> str:
    """Return a file name that is valid on every system, and different for different *names*."""
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
