"""Dropping what user code prints while the runner calls it for its own purposes."""

from __future__ import annotations

import contextlib
import sys
from _thread import get_ident

from .prelude import TYPE_CHECKING, __builtins__

if TYPE_CHECKING:
    from collections.abc import Generator
    from typing import Any


class _Muffled:
    """A standard stream that drops what one thread writes until it is lifted. Another thread may keep it, believing it
    to be the stream itself: from then on, it behaves like that.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._thread: int | None = get_ident()

    def write(self, text: str) -> int:
        return len(text) if get_ident() == self._thread else self._stream.write(text)

    def lift(self) -> None:
        self._thread = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def silence() -> Generator[None]:
    """Drop what this thread prints. Other threads are not affected."""
    muffled: dict[str, _Muffled] = {}
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name, None)
        if stream is not None:
            muffled[name] = _Muffled(stream)
    try:
        for name, stream in muffled.items():
            setattr(sys, name, stream)
        yield
    finally:
        for stream in muffled.values():
            stream.lift()
        for name, stream in muffled.items():
            if getattr(sys, name, None) is stream:
                setattr(sys, name, stream._stream)  # pyright: ignore[reportPrivateUsage]
