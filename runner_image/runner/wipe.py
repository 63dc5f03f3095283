"""Empty and initialise the writable folders of a session."""

from __future__ import annotations

import contextlib
import functools
import itertools
import os

HOME_TEMPLATE = "/opt/agentrun/home"  # settings and caches of libraries, which are copied to HOME


def empty(folder: str, mode: int = 0o700) -> None:
    """Remove everything in *folder*, however deep, wide or oddly named, but not *folder* itself, which gets *mode*, nor
    what is mounted in it.

    Nested folders are moved up before they are removed: no path grows long, no descriptor stays open.
    """
    top = os.fsencode(folder)
    with contextlib.suppress(PermissionError):  # in a Pod it belongs to root, and has a mode that can't be changed
        os.chmod(top, mode)
    device = os.lstat(top).st_dev
    numbers = itertools.count()
    while True:
        with os.scandir(top) as scan:
            entries = [entry for entry in scan if entry.stat(follow_symlinks=False).st_dev == device]
        if not entries:
            return
        for entry in entries:
            if not entry.is_dir(follow_symlinks=False):
                os.unlink(entry.path)
                continue
            os.chmod(entry.path, 0o700)
            with os.scandir(entry.path) as scan:
                children = list(scan)
            for child in children:
                if child.is_dir(follow_symlinks=False):
                    os.chmod(child.path, 0o700)  # a folder that can't be written to can't be moved
                while True:
                    with contextlib.suppress(FileExistsError, NotADirectoryError, IsADirectoryError):
                        target = os.path.join(top, b".%d" % next(numbers))
                        if not os.path.lexists(target):
                            os.rename(child.path, target)
                            break
            os.rmdir(entry.path)


def fill_home(home: str) -> None:
    """Copy the home template to *home*."""
    os.makedirs(home, exist_ok=True)
    for path, content in _template():
        target = os.path.join(home, path)
        if content is None:
            os.makedirs(target, exist_ok=True)
        else:
            with open(target, "wb", buffering=0) as copy:
                copy.write(content)


@functools.cache
def _template() -> list[tuple[str, bytes | None]]:
    """Relative paths of the home template's folders, with None, and of the files in them, with their content."""
    found: list[tuple[str, bytes | None]] = []
    for folder, _, names in os.walk(HOME_TEMPLATE):
        inside = os.path.relpath(folder, HOME_TEMPLATE)
        found.append((inside, None))
        for name in names:
            with open(os.path.join(folder, name), "rb") as file:
                found.append((os.path.join(inside, name), file.read()))
    return found
