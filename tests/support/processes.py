"""Code that looks at the processes of a sandbox, each of which may end meanwhile."""

from __future__ import annotations

__all__ = ["COMMAND_LINES"]

COMMAND_LINES = """
import os
def command_lines():
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            found.append(open(f"/proc/{pid}/cmdline", "rb").read())
        except OSError:
            pass
    return found
"""
