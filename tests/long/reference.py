"""What examples and notebooks are compared with, in a container of the same image: plain Python, or a Jupyter kernel.

Reads ``{"cells": [...], "kernel": bool, "timeout": seconds}`` from stdin, and writes one object per cell to stdout. It
is matplotlib's backend in plain Python, too: one that counts the figures that a window would show.
"""

from __future__ import annotations

import atexit
import json
import os
import queue
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

COUNT = Path("/tmp/figures")
FOLDER = Path("/workspace")
SETTINGS = """
import pandas as _pandas
def _table(frame, printer, cycle):
    with _pandas.option_context("display.width", 120, "display.max_rows", 20, "display.max_columns", 20):
        printer.text(repr(frame))
get_ipython().display_formatter.formatters["text/plain"].for_type(_pandas.DataFrame, _table)
_pandas.set_option("display.max_columns", 0)
"""
"""A table that is displayed has as many rows and columns as in a sandbox, and one that is printed as in Python."""

if "matplotlib" in sys.modules:  # imported by it as a backend
    from matplotlib._pylab_helpers import Gcf
    from matplotlib.backend_bases import FigureManagerBase
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    _shown: dict[int, Any] = {}

    def _show() -> None:
        for manager in Gcf.get_all_fig_managers():
            figure = manager.canvas.figure
            if len(figure.get_children()) > 1:  # its background is one
                figure.canvas.draw()
                _shown[id(figure)] = figure

    class FigureManager(FigureManagerBase):
        """Notes what is shown."""

        @classmethod
        def pyplot_show(cls, *, block: bool | None = None) -> None:
            _show()

    class FigureCanvas(FigureCanvasAgg):
        """Draws as ours does."""

        manager_class = FigureManager  # pyright: ignore[reportAssignmentType]

    @atexit.register
    def _count() -> None:
        _show()
        COUNT.write_text(str(len(_shown)))


def plain(code: str, timeout: float) -> dict[str, Any]:
    """What ``python example.py`` writes, to one pipe."""
    file = FOLDER / "example.py"
    file.write_text(code, "utf-8")
    COUNT.write_text("0")
    environment = {**os.environ, "MPLBACKEND": "module://reference", "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, str(file)]
    try:
        done = subprocess.run(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired as expired:
        return {"text": (expired.stdout or b"").decode(errors="replace"), "error": "timeout", "pictures": 0}
    text = done.stdout.decode(errors="replace")
    error = None
    if done.returncode == -signal.SIGKILL:
        error = "memory_limit"
    elif done.returncode:
        _, traceback, rest = text.rpartition("Traceback (most recent call last)")
        named = re.search(r"(?m)^([A-Za-z_][\w.]*)(?::|$)", rest)  # the lines of the stack are indented
        error = named[1] if named and traceback else "SystemExit"
    return {"text": text, "error": error, "pictures": int(COUNT.read_text())}


def in_kernel(cells: list[str], timeout: float, seconds: float) -> list[dict[str, Any]]:
    """What a Jupyter kernel answers to *cells*, one after the other; the last ones not at all after *seconds*."""
    from jupyter_client.manager import start_new_kernel

    os.environ.pop("MPLBACKEND", None)
    manager, client = start_new_kernel()
    client.execute_interactive(SETTINGS, timeout=60, output_hook=lambda _: None)
    found: list[dict[str, Any]] = []
    end = time.monotonic() + seconds
    for cell in cells:
        if time.monotonic() > end:
            break
        result: dict[str, Any] = {"text": "", "error": None, "pictures": 0}
        failure: list[str] = []

        def hear(message: dict[str, Any], result: dict[str, Any] = result, failure: list[str] = failure) -> None:
            content = message["content"]
            data = content.get("data", {})
            if message["msg_type"] == "stream":
                result["text"] += content["text"]
            elif message["msg_type"] == "error":
                result["error"] = content["ename"]
                failure.append(f"{content['ename']}: {content['evalue']}\n")
            elif "image/png" in data or "image/jpeg" in data:
                result["pictures"] += 1
            elif "text/plain" in data:
                result["text"] += data["text/plain"] + "\n"

        try:
            client.execute_interactive(cell, timeout=timeout, allow_stdin=False, output_hook=hear)
        except TimeoutError:
            result["error"] = _end_of_cell(manager, client)
        result["text"] += "".join(failure)  # figures that are open come after it
        found.append(result)
        if result["error"] == "memory_limit":
            break
    manager.shutdown_kernel(now=True)
    return found


def _end_of_cell(manager: Any, client: Any) -> str:
    """Interrupt a cell whose time is up; returns what it has died of."""
    if not manager.is_alive():
        return "memory_limit"
    manager.interrupt_kernel()
    try:
        client.get_shell_msg(timeout=10)
    except queue.Empty:
        manager.restart_kernel(now=True)
    return "timeout"


def main() -> None:
    asked = json.load(sys.stdin)
    os.chdir(FOLDER)
    if asked["kernel"]:
        found = in_kernel(asked["cells"], asked["timeout"], asked["seconds"])
    else:
        found = [plain(asked["cells"][0], asked["timeout"])]
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
