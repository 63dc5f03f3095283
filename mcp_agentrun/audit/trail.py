"""The files of the audit trail, and the thread that writes them."""

from __future__ import annotations

import logging
import os
import re
import threading
import time
from collections import deque
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path
from stat import S_ISREG
from typing import TYPE_CHECKING, Any

from ..sandbox import Event
from ..settings import Settings
from .records import Record, dropped, record_of

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Trail", "trail_files"]

logger = logging.getLogger(__name__)

_WAITING_BYTES = 8 << 20
_CLOSE_SECONDS = 5.0
_DAY = 86400
_STAMP = re.compile(r"\.\d{8}T\d{12}-\d+")
"""What the name of a full file ends in: when it was full, and the process that has replaced it."""


class Trail:
    """Writes records to a file, in a thread of its own. Use as a context: at its end, all have been written.

    `logging.handlers` does not serve here: its listener can't be stopped while its queue is full, no handler rotates by
    size and by age, and all leave a torn line when the disk is full.

    :raises SettingsError: the file can't be written.
    """

    def __init__(self, settings: Settings, path: Path) -> None:
        self._with_code = settings.audit.code
        try:
            self._file = _RotatedFile(path, settings.audit.size, settings.audit.age * _DAY)
        except OSError as error:
            raise settings.error("audit_file", f"{path} can't be written: {error.strerror}") from None
        self._waiting: deque[bytes] = deque()
        self._waiting_bytes = self._dropped = 0
        self._is_closing = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._write_all, name="audit", daemon=True)

    @classmethod
    def of(cls, settings: Settings) -> Trail | None:
        """Return the trail that *settings* name, if any.

        :raises SettingsError: its file can't be written.
        """
        return None if settings.audit.file is None else cls(settings, settings.audit.file)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: Any) -> None:
        with self._changed:
            self._is_closing = True
            self._changed.notify()
        self._thread.join(_CLOSE_SECONDS)

    def record(self, principal: str, event: Event) -> None:
        """Record *event*. This neither blocks nor raises an error."""
        try:
            self.add(record_of(principal, event, with_code=self._with_code))
        except Exception:
            logger.exception("audit: a call could not be recorded")

    def omit(self) -> None:
        """Count a line that is not worth its place."""
        with self._changed:
            self._dropped += 1

    def add(self, record: Record) -> None:
        """Have *record* written. If too much waits to be written, it is only counted."""
        line = record.line()
        with self._changed:
            if self._waiting_bytes + len(line) > _WAITING_BYTES:
                self._dropped += 1
                return
            self._waiting.append(line)
            self._waiting_bytes += len(line)
            self._changed.notify()

    def _write_all(self) -> None:
        is_failing = False
        while True:
            line, lost = self._next()
            try:
                if lost:
                    self._file.write(dropped(lost).line())
                    lost = 0
                if line is not None:
                    self._file.write(line)
                is_failing = False
            except OSError as error:
                with self._changed:
                    self._dropped += lost + (line is not None)
                if not is_failing:  # reported once, until it can be written again
                    logger.error("audit: %s can't be written, lines are lost: %s", self._file.path, error.strerror)
                is_failing = True
            if line is None:
                return

    def _next(self) -> tuple[bytes | None, int]:
        """Wait for the next line, and return it, or None at the end, and how many could not be written before."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._is_closing)
            line = self._waiting.popleft() if self._waiting else None
            self._waiting_bytes -= len(line or b"")
            lost, self._dropped = self._dropped, 0
            return line, lost


class _RotatedFile:
    """A file that is renamed when it is full, and each day. Several processes can write to it.

    :param size: in bytes.
    :param age: seconds after which what was renamed is deleted.
    :raises OSError: it can't be written.
    """

    def __init__(self, path: Path, size: int, age: float) -> None:
        self.path = path
        self._size = size
        self._age = age
        self._descriptor = -1
        path.parent.mkdir(parents=True, exist_ok=True)
        self._open()
        self._delete_old()

    def write(self, line: bytes) -> None:
        """Append *line*, or nothing.

        :raises OSError: it can't be written.
        """
        about = self._current()
        if S_ISREG(about.st_mode) and about.st_size:
            is_full = about.st_size + len(line) > self._size
            if is_full or about.st_mtime // _DAY != time.time() // _DAY:
                about = self._rotate()
        written = os.write(self._descriptor, line)
        try:
            while written < len(line):  # which says why it is not all
                written += os.write(self._descriptor, line[written:])
        except OSError:
            with suppress(OSError):
                if os.fstat(self._descriptor).st_size == about.st_size + written:  # no other process has gone on
                    os.ftruncate(self._descriptor, about.st_size)
            raise

    def _current(self) -> os.stat_result:
        """Return the status of the file, which is opened anew if something has renamed or removed it."""
        about = os.fstat(self._descriptor)
        try:
            is_same = os.path.samestat(about, self.path.stat())
        except FileNotFoundError:
            is_same = False
        return about if is_same else self._open()

    def _open(self) -> os.stat_result:
        opened = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = opened
        about = os.fstat(opened)
        if S_ISREG(about.st_mode) and about.st_mode & 0o077:
            self.path.chmod(0o600)
        return about

    def _rotate(self) -> os.stat_result:
        stamp = datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%S%f")
        if os.name == "nt":  # which does not rename an open file
            os.close(self._descriptor)
            self._descriptor = -1
        with suppress(OSError):  # then the file goes on
            self.path.rename(self.path.with_name(f"{self.path.name}.{stamp}-{os.getpid()}"))
        about = self._open()
        self._delete_old()
        return about

    def _delete_old(self) -> None:
        oldest = time.time() - self._age
        for path in trail_files(self.path):
            with suppress(OSError):
                if path != self.path and path.stat().st_mtime < oldest:
                    path.unlink()


def trail_files(path: Path) -> list[Path]:
    """Return the files of the trail at *path*, the oldest first.

    :raises OSError: its folder can't be read.
    """
    full = [
        each
        for each in path.parent.iterdir()
        if each.name.startswith(path.name) and _STAMP.fullmatch(each.name.removeprefix(path.name))
    ]
    return [*sorted(full), *([path] if path.exists() else [])]
