"""What identifies kernel and folders, for the server to compare."""

from __future__ import annotations

import os


def boot_id() -> str | None:
    """The running kernel's id of its boot; None if it has none."""
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            return file.read().strip()
    except OSError:
        return None


def file_identity(path: str) -> tuple[int, int] | None:
    """Device and inode of the file at *path*; None if there is none."""
    try:
        status = os.stat(path, follow_symlinks=False)
    except OSError:
        return None
    return status.st_dev, status.st_ino
