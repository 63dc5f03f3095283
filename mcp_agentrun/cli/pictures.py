"""Pictures of a run: saved to files, and named."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from pathlib import Path

from ..sandbox import Picture

__all__ = ["save_pictures"]


def save_pictures(pictures: Iterable[Picture], folder: Path, stem: str) -> list[Path]:
    """Save *pictures* in *folder* as ``<stem>-<number>.png``, by the first numbers that are free there.

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
