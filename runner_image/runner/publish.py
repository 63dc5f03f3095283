"""Publish what uv has installed to a session, as files that belong to PID 1 and that nobody can write to.

uv installs links to its unpacked wheels. PID 1 becomes the owner of each file that is linked to, and links it into the
session's folder, so the bytes of a package are stored once. The account's processes have ended before, so nothing
changes meanwhile. One of them may have passed a descriptor to a process of another user, which is checked.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import stat
from collections.abc import Callable, Collection
from pathlib import Path

from mcp_agentrun.packages.pins import PinError, validated
from runner.accounts import OWNER, Account, Usage

__all__ = ["PublishError", "Publisher"]

_DIST_INFO = ".dist-info"


class PublishError(Exception):
    """uv produced something that sessions must not see."""


class Publisher:
    """Copies the installation in folder *site*, made under *account*, to a new folder.

    :param without: names directly in *site* that are left out.
    :param check: called with the bytes and the number of entries so far; what it raises ends the copy.
    :raises PublishError: *site* is a link, which could lead PID 1 to files that the account can't read, or others can
        write there.
    """

    def __init__(
        self,
        account: Account,
        site: Path,
        *,
        without: Collection[str] = (),
        check: Callable[[int, int], None] = lambda _size, _entries: None,
    ) -> None:
        self._account = account
        self._without = {".lock", *without}
        self._site = str(site)
        self._check = check
        self._usage = Usage()
        self._trusted: dict[str, str] = {}
        """The name of the archive by folder, for folders that are known to lie in it with no link on the way."""
        self._archives: dict[str, str] = {}  # archive by canonical name of the distribution
        self._tops: dict[str, set[str]] = {}  # names directly in *site*, by archive
        for folder in (site.parent, site):
            self._check_folder(os.lstat(folder))

    def publish(self, target: Path) -> None:
        """Create *target*, completely or not at all.

        :raises PublishError: something is neither a plain file nor a link to a file of an unpacked wheel.
        :raises OSError: the volume failed.
        """
        try:
            self._copy_folder(self._site, str(target), top="")
        except BaseException:
            shutil.rmtree(target, ignore_errors=True)
            raise

    def modules_of(self, name: str) -> list[str]:
        """The top-level modules of the published distribution *name*."""
        tops = self._tops.get(self._archives.get(name, ""), ())
        return sorted({module for top in tops if (module := top.partition(".")[0]).isidentifier()})

    def _copy_folder(self, source: str, target: str, top: str) -> None:
        os.mkdir(target, 0o755)
        with os.scandir(source) as entries:
            for entry in entries:
                if source == self._site:
                    if entry.name in self._without:
                        continue
                    top = entry.name
                path = f"{target}/{entry.name}"
                if entry.is_dir(follow_symlinks=False):
                    self._usage.add(self._check_folder(entry.stat(follow_symlinks=False)))
                    self._copy_folder(entry.path, path, top)
                elif entry.is_symlink():
                    self._usage.add(self._link(os.readlink(entry.path), path, top))
                else:
                    self._usage.add(_copy_file(entry.path, path))
        self._check(self._usage.size, self._usage.entries)

    def _link(self, source: str, target: str, top: str) -> os.stat_result:
        folder, _, name = source.rpartition("/")
        archive = self._trusted.get(folder) or self._trust(folder)
        state = os.lstat(source)
        if name in ("", ".", "..") or not stat.S_ISREG(state.st_mode) or state.st_uid not in (self._account.uid, OWNER):
            raise PublishError("it links to something that is not one of its files")
        if state.st_uid != OWNER:
            self._take_over(source, state)
        try:
            os.link(source, target)
        except OSError as error:
            if error.errno != errno.EMLINK:
                raise
            _copy_file(source, target)
        self._tops[archive].add(top)
        if name == "METADATA" and top.endswith(_DIST_INFO):
            self._note_distribution(top, archive)
        return state

    def _take_over(self, source: str, state: os.stat_result) -> None:
        file = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            os.fchown(file, OWNER, OWNER)
            os.fchmod(file, 0o555 if state.st_mode & stat.S_IXUSR else 0o444)
            fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_RDLCK)  # refused if anybody has a descriptor for writing
        except OSError as error:
            os.fchown(file, self._account.uid, state.st_gid)
            if error.errno != errno.EAGAIN:
                raise
            raise PublishError("one of its files is still open for writing") from None
        finally:
            os.close(file)

    def _trust(self, folder: str) -> str:
        """Check that no link leads out of *folder*; returns the name of the archive that it lies in."""
        archives = str(self._account.archives)
        parent, _, name = folder.rpartition("/")
        if not folder.startswith(archives + "/") or name in ("", ".", ".."):
            raise PublishError("it links to something outside of its wheel")
        if parent != archives:
            archive = self._trusted.get(parent) or self._trust(parent)
        else:
            archive = name
            for each in (self._account.cache, archives):
                self._check_folder(os.lstat(each))
        self._check_folder(os.lstat(folder))
        self._trusted[folder] = archive
        self._tops.setdefault(archive, set())
        return archive

    def _check_folder(self, state: os.stat_result) -> os.stat_result:
        """:raises PublishError: it is a link, or others than the account can write to it."""
        if not stat.S_ISDIR(state.st_mode):
            raise PublishError("a link leads to one of its folders")
        if state.st_uid != self._account.uid or state.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise PublishError("somebody else can write to one of its folders")
        return state

    def _note_distribution(self, dist_info: str, archive: str) -> None:
        name, _, version = dist_info.removesuffix(_DIST_INFO).rpartition("-")
        with contextlib.suppress(PinError):
            self._archives.update(dict.fromkeys(validated({name: version}), archive))


def _copy_file(source: str, target: str) -> os.stat_result:
    reading = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(reading, "rb") as file:
        state = os.fstat(reading)
        if not stat.S_ISREG(state.st_mode):
            raise PublishError("it has something that is neither a file nor a folder")
        with open(target, "xb", opener=lambda path, flags: os.open(path, flags, 0o755 & ~0o022)) as copy:
            shutil.copyfileobj(file, copy)
            os.fchmod(copy.fileno(), 0o555 if state.st_mode & stat.S_IXUSR else 0o444)
    return state
