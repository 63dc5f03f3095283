"""Pictures of a run: saved to files, or shown in terminals that support it."""

from __future__ import annotations

import base64
import itertools
from collections.abc import Iterable, Mapping
from pathlib import Path

from ..sandbox import Image

__all__ = ["inline_picture", "save_pictures"]

_KITTY_PART = 4096
"""Longest part in kitty's protocol, in characters."""


def save_pictures(pictures: Iterable[Image], folder: Path, stem: str) -> list[Path]:
    """Save *pictures* in *folder* as ``<stem>-<number>.png``, with the first free numbers, and return their paths.

    :raises OSError: one can't be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    numbers = itertools.count(1)
    saved: list[Path] = []
    for picture in pictures:
        while True:
            path = folder / f"{stem}-{next(numbers)}.png"
            try:
                with path.open("xb") as file:
                    file.write(picture.data)
            except FileExistsError:
                continue
            saved.append(path)
            break
    return saved


def inline_picture(picture: Image, environ: Mapping[str, str]) -> str | None:
    """Return the escape sequence that shows *picture* in the terminal, or None if it can't show pictures."""
    if "TMUX" in environ or environ.get("TERM", "").startswith(("screen", "tmux")):
        return None
    data = base64.b64encode(picture.data).decode()
    program = environ.get("TERM_PROGRAM", "")
    if "KITTY_WINDOW_ID" in environ or program == "ghostty":
        parts = [data[at : at + _KITTY_PART] for at in range(0, len(data), _KITTY_PART)]
        last = len(parts) - 1
        return "".join(
            f"\x1b_G{'f=100,a=T,' if number == 0 else ''}m={int(number < last)};{part}\x1b\\"
            for number, part in enumerate(parts)
        )
    if program in ("iTerm.app", "WezTerm", "vscode", "mintty"):
        return f"\x1b]1337;File=inline=1;size={len(picture.data)}:{data}\a"
    return None
