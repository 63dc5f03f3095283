"""The pictures of one run, within the limits of clients. Those that are too large are kept as files."""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import struct
from collections.abc import Callable

from mcp_agentrun.wire.messages import Picture, PictureData, encode

from .prelude import TYPE_CHECKING, __builtins__

if TYPE_CHECKING:
    from typing import Any

MAX_ITEMS, MAX_TOTAL = 16, 640_000
"""Pictures of one run that are returned, and their bytes: clients take answers up to a megabyte, in base64. What is
beyond is kept as files."""

MAX_PIXELS = 1200  # longest edge of a picture; larger ones are scaled down
MAX_BYTES = 400_000  # size of a picture from which it is scaled down further

_LEAST_FACTOR = 0.01
_CHUNK = 1 << 16
_PNG = b"\x89PNG\r\n\x1a\n"
_FOLDER = "output"
_SUFFIXES = (".png", ".jpg", ".jpeg", ".gif", ".webp", ".bmp", ".tif", ".tiff")


class Pictures:
    """The pictures of one run."""

    def __init__(self) -> None:
        self._run = 0
        self._pictures: list[bytes] = []
        self._files = 0

    def start(self, run: int) -> None:
        """Forget those of the last run."""
        self._run = run
        self._files = 0
        self._pictures = []

    def frames(self) -> bytes:
        """The frames of the messages that send them, in order."""
        frames: list[bytes] = []
        for picture in self._pictures:
            frames.append(encode(Picture(type="image/png", size=len(picture))))
            frames += [encode(PictureData(data=picture[at : at + _CHUNK])) for at in range(0, len(picture), _CHUNK)]
        self._pictures = []
        return b"".join(frames)

    def show_file(self, path: str) -> None:
        """Show the picture in a file, or keep a copy of another kind of file from outside of the workspace."""
        with open(path, "rb") as file:
            data = file.read()
        name, suffix = os.path.splitext(path)
        if suffix.lower() in _SUFFIXES:
            self.add(data)
        elif not os.path.abspath(name).startswith("/workspace/"):
            self.write_file(data, suffix[1:] or "txt")

    def add(self, picture: bytes) -> None:
        """Show *picture*, of any format that PIL reads."""
        png = as_png(picture)
        if png is not None:
            self.fit(png)

    def fit(self, picture: bytes, scaled: Callable[[float], bytes] | None = None) -> None:
        """Add *picture*; if it is too large, add a smaller one and keep the original as a file. If no more fit, it is
        only kept as a file.

        :param scaled: returns the picture in another size. By default, its pixels are scaled.
        """
        size = _size(picture)
        if size is None:
            return
        shown: bytes | None = picture if len(self._pictures) < MAX_ITEMS else None
        factor = 1.0
        while shown is not None:
            longest = max(_size(shown) or size)
            if longest <= MAX_PIXELS and len(shown) <= MAX_BYTES:
                break
            factor *= min(MAX_PIXELS / longest, 1.0 if len(shown) <= MAX_BYTES else 0.7)
            shown = None
            if factor > _LEAST_FACTOR:
                with contextlib.suppress(Exception):
                    shown = scaled(factor) if scaled is not None else _scale(picture, factor)
        if shown is not None and sum(map(len, self._pictures)) + len(shown) <= MAX_TOTAL:
            self._pictures.append(shown)
        else:
            shown = None
        if shown is not picture:
            self.write_file(picture, "png")

    def write_file(self, data: bytes, suffix: str) -> str | None:
        """Keep *data* as a file; returns its path in the workspace, or None if it can't be written."""
        self._files += 1
        for folder in (f"{_FOLDER}/", ""):  # the operator may have mounted a folder of that name
            path = f"{folder}run-{self._run}-{self._files}.{suffix}"
            with contextlib.suppress(OSError):
                os.makedirs(f"/workspace/{folder}", exist_ok=True)
                with open(f"/workspace/{path}", "wb") as file:
                    file.write(data)
                return path
        return None


def as_png(data: Any) -> bytes | None:
    """*data*, a picture in bytes or in base64, as PNG; None if it is neither."""
    if isinstance(data, tuple):
        data = data[0] if data else None  # pyright: ignore
    if isinstance(data, str):
        import base64

        data = base64.b64decode(data)
    if not isinstance(data, bytes) or data.startswith(_PNG):
        return data if isinstance(data, bytes) else None
    library: Any = importlib.import_module("PIL.Image")
    return of_image(library.open(io.BytesIO(data)))


def of_image(image: Any) -> bytes:
    """A PIL image as PNG."""
    buffer = io.BytesIO()
    direct = image.mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")
    (image if direct else image.convert("RGB")).save(buffer, "PNG")
    return buffer.getvalue()


def _scale(picture: bytes, factor: float) -> bytes:
    library: Any = importlib.import_module("PIL.Image")
    image = library.open(io.BytesIO(picture))
    size = (max(1, int(image.width * factor)), max(1, int(image.height * factor)))
    return of_image(image.convert("RGBA" if image.mode in ("LA", "P", "RGBA") else "RGB").resize(size))


def _size(data: bytes) -> tuple[int, int] | None:
    if not data.startswith(_PNG) or len(data) < 33:
        return None
    width, height = struct.unpack_from(">II", data, 16)
    return width, height
