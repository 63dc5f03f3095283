"""Processes: code that looks at those of a sandbox, each of which may end meanwhile, and those of this machine."""

from __future__ import annotations

import time

import psutil

__all__ = ["COMMAND_LINES", "wait_for_process"]

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


def wait_for_process(command: list[str]) -> None:
    """Wait until this machine, whose kernel an engine's containers share, has a process with this command line."""
    deadline = time.monotonic() + 100
    while all(process.info["cmdline"] != command for process in psutil.process_iter(["cmdline"])):
        assert time.monotonic() < deadline
        time.sleep(0.05)
