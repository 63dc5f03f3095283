"""Progress on stderr: one line that changes on a terminal, plain lines elsewhere."""

from __future__ import annotations

import os
import re
import shutil
import sys
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

import anyio
import click

from ..background import background_tasks
from ..spoofing import sanitize

__all__ = ["Progress", "showing_progress"]

_STEP = re.compile(r":? *(?:step (\d+)/(\d+)|(\d+) of (\d+)( MiB))")
_POLL_SECONDS = 0.2
_QUIET_SECONDS = 1.0
"""Time after which progress is shown."""

_BAR = 20


class Progress:
    """Show stages on stderr: on a terminal in one line that changes, with a bar if steps are counted; elsewhere in one
    line each. Use as a context.
    """

    def __init__(self) -> None:
        self._is_live = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
        self._begun = time.monotonic()
        self._is_shown = False
        self._step = (0, 0, "")

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._clear()

    def __call__(self, stage: str) -> None:
        """Show *stage*, such as ``building the image: step 3/14``."""
        stage = sanitize(stage)
        if not self._is_live:
            click.echo(stage, err=True)
            return
        if found := _STEP.search(stage):
            self._step = int(found[1] or found[3]), int(found[2] or found[4]), found[5] or ""
            stage = stage.replace(found[0], "")
        self._clear()
        sys.stderr.write(self._line(stage))
        sys.stderr.flush()
        self._is_shown = True

    def _line(self, stage: str) -> str:
        done, steps, unit = self._step
        passed = int(time.monotonic() - self._begun)
        head = f"{passed // 60}:{passed % 60:02} "
        if steps:
            filled = _BAR * min(done, steps) // steps
            head += f"[{'#' * filled}{'.' * (_BAR - filled)}] {done}/{steps}{unit} "
        columns = shutil.get_terminal_size().columns - 1
        return (head + stage)[:columns]

    def _clear(self) -> None:
        if self._is_shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
            self._is_shown = False


@asynccontextmanager
async def showing_progress(stage: Callable[[], str]) -> AsyncGenerator[Callable[[str], None]]:
    """While the context lasts, show on a terminal what *stage* returns, or what the yielded function was last called
    with, once a second has passed. Elsewhere, show nothing.
    """
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    with Progress() as progress:

        async def poll() -> None:
            await anyio.sleep(_QUIET_SECONDS)
            while True:
                if (text := reported or stage()) != "ready":
                    progress(text)
                await anyio.sleep(_POLL_SECONDS)

        reported = ""

        def report(text: str) -> None:
            nonlocal reported
            reported = text

        async with background_tasks() as tasks:
            tasks.start_soon(poll)
            yield report
