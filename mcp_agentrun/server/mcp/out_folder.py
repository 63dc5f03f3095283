"""Copies of the files of runs in a folder of the user."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

from ...errors import AgentRunError, FileError
from ...sandbox import FileChange, ReadFile, Result, safe_path, save_copy
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
            name = safe_path(file.path)
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

        async def taken() -> AsyncIterator[bytes]:
            nonlocal size, reserved
            async for part in parts:
                size += len(part)
                if size > reserved:  # the file has grown
                    self._take(size - reserved)
                    reserved = size
                yield part

        try:
            await save_copy(taken(), self._folder, name)
        except BaseException:
            size = 0
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
