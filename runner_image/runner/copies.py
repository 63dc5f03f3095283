"""Copies of packages for a sandbox's Pod that shares no volume with the installer's.

The server starts a process in each, with ``pods/exec``: one writes an archive of a folder to its standard output, the
other unpacks it beside the sandbox, which sees it read-only. Files that are in earlier folders as well become links to
those, and are neither sent nor stored again. The archive is not trusted.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import sys
import tarfile
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import NoReturn

from mcp_agentrun.wire.messages import FILE_PATH
from runner.accounts import OWNER, VOLUME, measure
from runner.linux.privileges import become

__all__ = ["main", "receive", "send"]

_NEW = "new"
"""What an archive calls its folder."""

_BLOCK = 4096


class _RefusedError(Exception):
    """The archive has something that the sandbox must not get, or too much of it."""


def send(folder: str, *held: str) -> None:
    """Write an archive of *folder* to standard output.

    :param held: folders that the receiver has. Like *folder*, they are paths below the volume.
    :raises FileNotFoundError: *folder* does not exist.
    """
    with tarfile.open(fileobj=sys.stdout.buffer, mode="w|") as archive:
        known = vars(archive)["inodes"]  # what `add` makes links to
        for path in _walk(*held):
            state = os.lstat(VOLUME / path)
            known[state.st_ino, state.st_dev] = path
        if not (VOLUME / folder).is_dir():
            raise FileNotFoundError(errno.ENOENT, folder)
        for path in _walk(folder):
            if path != folder:
                archive.add(VOLUME / path, _NEW + path.removeprefix(folder), recursive=False)
                _forget_members(archive)


def _walk(*folders: str) -> Iterator[str]:
    """Paths below the volume of everything in *folders*, parents first."""
    for folder in folders:
        for at, _, files in os.walk(VOLUME / folder):
            below = os.path.relpath(at, VOLUME)
            yield below
            yield from (f"{below}/{name}" for name in files)


def receive(folder: str, size: str, files: str, *held: str) -> None:
    """Unpack the archive from standard input as *folder*, completely or not at all. Remove all others, except *held*.

    :param size: bytes that all folders may have.
    :param files: files and folders that the archive may have.
    """
    new = VOLUME / f"{_NEW}-{os.getpid()}"  # a process of a cancelled call may still be there
    _remove_except(held)
    budget = int(size) - measure(VOLUME)[0]
    new.mkdir(mode=0o755)
    try:
        with tarfile.open(fileobj=sys.stdin.buffer, mode="r|") as archive:
            _unpack(archive, new, budget, int(files))
        (VOLUME / folder).parent.mkdir(parents=True, exist_ok=True)
        new.rename(VOLUME / folder)
    finally:
        shutil.rmtree(new, ignore_errors=True)


def _remove_except(held: Collection[str]) -> None:
    for path in (*VOLUME.glob(f"{_NEW}-*"), *VOLUME.glob("sandboxes/*/*")):
        if str(path.relative_to(VOLUME)) not in held:
            shutil.rmtree(path, ignore_errors=True)


def _unpack(archive: tarfile.TarFile, new: Path, budget: int, most: int) -> None:
    """:raises _RefusedError: it has more than *budget* bytes or *most* members, or an unsafe one.
    :raises FileExistsError: it has a name twice.
    """
    for number, member in enumerate(archive, 1):
        _forget_members(archive)
        budget -= 0 if member.islnk() else -(-max(member.size, 1) // _BLOCK) * _BLOCK
        if budget < 0 or number > most:
            raise _RefusedError("limit")
        if not member.name.startswith(_NEW + "/"):
            raise _RefusedError("malformed")
        path = _checked(member.name, new)
        if member.isdir():
            path.mkdir(mode=0o755)
        elif member.islnk():
            os.link(_checked(member.linkname, new), path, follow_symlinks=False)
        elif member.type == tarfile.REGTYPE and (content := archive.extractfile(member)) is not None:
            with path.open("xb") as file:
                shutil.copyfileobj(content, file)
                os.fchmod(file.fileno(), 0o555 if member.mode & 0o100 else 0o444)
        else:  # links by name, and all else that nobody needs
            raise _RefusedError("malformed")


def _forget_members(archive: tarfile.TarFile) -> None:
    """Free the memory of those that were read or written, which an archive keeps otherwise."""
    vars(archive)["members"].clear()


def _checked(name: str, new: Path) -> Path:
    """The path of a member called *name*: one in *new*, or in an earlier folder.

    :raises _RefusedError: it could lead out of the volume.
    """
    if not re.fullmatch(FILE_PATH, name):
        raise _RefusedError("malformed")
    return new / name.removeprefix(f"{_NEW}/") if name.startswith(f"{_NEW}/") else VOLUME / name


def main(role: str, *arguments: str) -> NoReturn:
    """Carry out *role*. If that fails, write the code of the reason to standard error."""
    roles: dict[str, Callable[..., None]] = {"send": send, "receive": receive}
    try:
        if role == "send":
            become(OWNER, OWNER, ())
        roles[role](*arguments)
    except _RefusedError as error:
        code = str(error)
    except FileNotFoundError:
        code = "gone"
    except OSError as error:
        code = "full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "failed"
    except (tarfile.TarError, ValueError):
        code = "malformed"
    else:
        sys.exit(0)
    sys.stderr.write(code)
    sys.exit(1)
