"""Standard output, standard input and Ctrl-C of commands that run code."""

from __future__ import annotations

import asyncio
import codecs
import errno
import os
import re
import signal
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import BinaryIO

import anyio
import anyio.to_thread

from ..background import background_tasks, log_errors
from ..process_exit import INTERRUPTED, exit_at_once
from ..spoofing import ESCAPES
from .terminal import note

__all__ = ["Stdout", "TerminalFilter", "interruptible", "read_stdin"]

_READ = 1 << 16
_HARMLESS = re.compile(r"\x1b\[[0-9;:]*[ABCDGKm]")
"""Colours, and what progress bars move the cursor with."""

_UNFINISHED = re.compile(r"\x1b(?:\[[0-?]{0,60}[ -/]{0,4})?\Z")
_CONTROLS = re.compile("[\x00-\x06\x0e-\x1a\x1c-\x1f\x7f-\x9f]")


class TerminalFilter:
    """Remove escape sequences that do more than show text: that set the title, write to the clipboard, or make the
    terminal type an answer.
    """

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._pending = ""

    def feed(self, data: bytes, *, final: bool = False) -> bytes:
        """Return the part of *data* that can be shown now."""
        text = self._pending + self._decoder.decode(data, final)
        unfinished = None if final else _UNFINISHED.search(text)
        self._pending = unfinished[0] if unfinished else ""
        text = text[: len(text) - len(self._pending)]
        if not text.isprintable():
            text = ESCAPES.sub(lambda found: found[0] if _HARMLESS.fullmatch(found[0]) else "", text)
            text = _CONTROLS.sub("", text)
        return text.encode("utf-8", "replace")


class Stdout:
    """Standard output. It gets exactly what the program writes, unless it is a terminal: see `TerminalFilter`.

    Awaiting `write` waits for the reader, but does not block the event loop.

    :param on_closed: awaited once nothing more can be written.
    """

    def __init__(self, on_closed: Callable[[], Awaitable[object]]) -> None:
        self._stream: BinaryIO = sys.stdout.buffer
        self._filter = TerminalFilter() if self._stream.isatty() else None
        self._on_closed = on_closed
        self.is_closed = False
        self.has_failed = False
        """Whether output is lost, though the reader wanted it: the disk is full, for instance."""

    async def write(self, data: bytes) -> None:
        """Write *data*, the next part of the output."""
        await self._write(data if self._filter is None else self._filter.feed(data))

    async def finish(self) -> None:
        """Write what is still held back, at the end of the output."""
        if self._filter is not None:
            await self._write(self._filter.feed(b"", final=True))

    async def _write(self, data: bytes) -> None:
        if self.is_closed or not data:
            return
        try:
            await anyio.to_thread.run_sync(self._write_now, data)
        except OSError as error:
            self.is_closed = True
            # A reader has closed the pipe, as `head` does when it has read enough; Windows reports EINVAL.
            self.has_failed = not isinstance(error, BrokenPipeError) and error.errno != errno.EINVAL
            if self.has_failed:
                note(f"the output can't be written: {error.strerror}")
            await self._on_closed()

    def _write_now(self, data: bytes) -> None:
        self._stream.write(data)
        self._stream.flush()


async def read_stdin() -> AsyncIterator[bytes]:
    """Iterate over standard input as it arrives. At most one part is read ahead. A terminal is empty for a process in
    the background.
    """
    if hasattr(signal, "SIGTTIN"):  # in the background, a read from the terminal fails instead of stopping the process
        signal.signal(signal.SIGTTIN, signal.SIG_IGN)
    try:
        while data := await anyio.to_thread.run_sync(os.read, sys.stdin.fileno(), _READ, abandon_on_cancel=True):
            yield data
    except OSError as error:
        if error.errno != errno.EIO:
            raise


@asynccontextmanager
async def interruptible(interrupt: Callable[[], Awaitable[object]], *, exits: bool = True) -> AsyncGenerator[None]:
    """While the context lasts, Ctrl-C calls *interrupt*. If *exits*, a second Ctrl-C ends the process, and with it the
    container.
    """
    loop = asyncio.get_running_loop()
    pressed = anyio.Event()

    def on_signal(*_: object) -> None:
        nonlocal on_next
        on_next()
        if exits:
            on_next = partial(exit_at_once, INTERRUPTED)

    on_next: Callable[[], object] = partial(loop.call_soon_threadsafe, pressed.set)

    async def wait() -> None:
        await pressed.wait()
        await interrupt()

    previous = signal.signal(signal.SIGINT, on_signal)
    try:
        async with background_tasks() as tasks:
            tasks.start_soon(log_errors, wait)
            yield
    finally:
        signal.signal(signal.SIGINT, previous)
