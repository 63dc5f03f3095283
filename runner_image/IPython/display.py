"""See `IPython`. Each class returns its data from the methods that notebooks call."""

from __future__ import annotations

import base64
import html
import json
import mimetypes
import os
from collections.abc import Callable
from typing import Any

from .core.display_functions import clear_output, display, publish_display_data, update_display

# fmt: off
__all__ = [
    "HTML", "JSON", "SVG", "Audio", "Code", "DisplayObject", "FileLink", "FileLinks", "GeoJSON", "IFrame",
    "Image", "Javascript", "Latex", "Markdown", "Math", "Pretty", "ProgressBar", "TextDisplayObject", "Video",
    "YouTubeVideo", "clear_output", "display", "display_html", "display_javascript", "display_jpeg",
    "display_json", "display_latex", "display_markdown", "display_pdf", "display_png", "display_pretty",
    "display_svg", "publish_display_data", "set_matplotlib_close", "set_matplotlib_formats", "update_display",
]
# fmt: on


class DisplayObject:
    """Data, or a file that contains it. Nothing is fetched from URLs."""

    _mode = "r"

    def __init__(self, data: Any = None, url: str | None = None, filename: Any = None, **options: Any) -> None:
        self.data, self.url, self.filename = data, url, filename
        name = str(data) if isinstance(data, (str, os.PathLike)) and url is None and filename is None else None  # pyright: ignore[reportUnknownArgumentType]
        if name is not None and self._is_name(name):
            self.data = None
            if "://" in name[:9]:
                self.url = name
            else:
                self.filename = name
        self.metadata = options.pop("metadata", None)
        self.options = options
        self.reload()

    def _is_name(self, _data: str) -> bool:
        return False

    def reload(self) -> None:
        """Read the file again."""
        if self.filename is not None:
            with open(self.filename, self._mode) as file:
                self.data = file.read()

    def _text(self) -> str:
        if self.data is None and self.url is not None:
            return f"{type(self).__name__} at {self.url}"
        return str(self.data)


class TextDisplayObject(DisplayObject):
    """Data that is text."""


class HTML(TextDisplayObject):
    _repr_html_ = __html__ = DisplayObject._text


class Markdown(TextDisplayObject):
    _repr_markdown_ = DisplayObject._text


class Latex(TextDisplayObject):
    _repr_latex_ = DisplayObject._text


class Math(Latex):
    def _repr_latex_(self) -> str:
        return f"$\\displaystyle {self._text().strip('$')}$"


class SVG(DisplayObject):
    def _is_name(self, _data: str) -> bool:
        return "<" not in _data

    def _repr_svg_(self) -> str:
        data = self.data.decode() if isinstance(self.data, bytes) else self._text()
        return data[max(0, data.find("<svg")) :]


class Pretty(TextDisplayObject):
    __repr__ = DisplayObject._text


class Code(TextDisplayObject):
    __repr__ = DisplayObject._text

    def _is_name(self, _data: str) -> bool:
        return os.path.exists(_data)


class JSON(DisplayObject):
    def __repr__(self) -> str:
        return self.data if isinstance(self.data, str) else json.dumps(self.data, indent=2, default=str)

    def _is_name(self, _data: str) -> bool:
        return _data.endswith(".json")


class GeoJSON(JSON):
    """GeoJSON."""


class Javascript(TextDisplayObject):
    def _repr_html_(self) -> str:
        return f"<script>{self._text()}</script>"


class _BinaryObject(DisplayObject):
    _mode = "rb"

    def _is_name(self, _data: str) -> bool:
        return True


class Image(_BinaryObject):
    def _bytes(self, start: bytes) -> bytes | None:
        return self.data if isinstance(self.data, bytes) and self.data.startswith(start) else None

    def _repr_png_(self) -> bytes | None:
        return self._bytes(b"\x89PNG")

    def _repr_jpeg_(self) -> bytes | None:
        return self._bytes(b"\xff\xd8")

    def _repr_mimebundle_(self, *_: Any, **__: Any) -> dict[str, Any]:
        if not isinstance(self.data, bytes):
            return {"text/markdown": f"![{self._text()}]({self.url})"}
        start = self.data[:12]
        kind = "gif" if start.startswith(b"GIF8") else "webp" if start[8:] == b"WEBP" else None
        return {f"image/{kind}": self.data} if kind else {}


class _Embedded(_BinaryObject):
    _tag, _default = "video", "video/mp4"

    def _repr_html_(self) -> str:
        source = self.url or ""
        if isinstance(self.data, bytes):
            kind = self.options.get("mimetype") or mimetypes.guess_type(str(self.filename))[0] or self._default
            source = f"data:{kind};base64,{base64.b64encode(self.data).decode()}"
        return f'<{self._tag} controls src="{html.escape(source)}"></{self._tag}>'


class Video(_Embedded):
    """A video."""


class Audio(_Embedded):
    _tag, _default = "audio", "audio/wav"

    def __init__(
        self, data: Any = None, filename: Any = None, url: Any = None, rate: Any = None, **options: Any
    ) -> None:
        if data is not None and not isinstance(data, str | bytes | os.PathLike):
            data = _wave(data, int(rate or 44100))
        super().__init__(data, url, filename, **options)


def _wave(samples: Any, rate: int) -> bytes:
    """Samples, or a list of them for each channel, as a WAV file."""
    import io
    import struct
    import wave

    channels = [list(each) for each in samples] if hasattr(samples[0], "__len__") else [list(samples)]
    loudest = max((abs(float(value)) for channel in channels for value in channel), default=0.0) or 1.0
    values = [int(float(value) / loudest * 32767) for frame in zip(*channels, strict=True) for value in frame]
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(len(channels))
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(struct.pack(f"<{len(values)}h", *values))
    return buffer.getvalue()


class IFrame:
    """A page in a frame."""

    def __init__(self, src: str, width: Any = None, height: Any = None, **_options: Any) -> None:
        self.src, self.width, self.height = src, width, height

    def __repr__(self) -> str:
        return f"{type(self).__name__} of {self.src}"


class YouTubeVideo(IFrame):
    """A video on YouTube."""

    def __init__(self, id: str, *arguments: Any, **options: Any) -> None:
        super().__init__(f"https://www.youtube.com/embed/{id}", *arguments, **options)


class FileLink:
    """The path of a file."""

    def __init__(self, path: Any, *_arguments: Any, **_options: Any) -> None:
        self.path = path

    def __repr__(self) -> str:
        return str(self.path)


class FileLinks(FileLink):
    """The paths of all files in a folder."""

    def __repr__(self) -> str:
        return "\n".join(os.path.join(folder, name) for folder, _, names in os.walk(str(self.path)) for name in names)


class ProgressBar:
    """Counts up to *total*."""

    def __init__(self, total: int) -> None:
        self.total, self.progress = total, 0

    def __repr__(self) -> str:
        return f"{self.progress}/{self.total}"

    def __iter__(self) -> ProgressBar:
        self.progress = -1
        return self

    def __next__(self) -> int:
        self.progress += 1
        if self.progress >= self.total:
            raise StopIteration
        return self.progress

    def display(self) -> None:
        display(self)


def _displays(kind: str) -> Callable[..., None]:
    def show(*objs: Any, raw: bool = False, **_options: Any) -> None:
        for each in objs:
            if raw:
                publish_display_data({kind: each})
            else:
                display(each)

    return show


display_html = _displays("text/html")
display_markdown = _displays("text/markdown")
display_latex = _displays("text/latex")
display_svg = _displays("image/svg+xml")
display_png = _displays("image/png")
display_jpeg = _displays("image/jpeg")
display_json = _displays("application/json")
display_pdf = _displays("application/pdf")
display_javascript = _displays("text/html")
display_pretty = _displays("text/plain")


def set_matplotlib_formats(*_formats: str, **_options: Any) -> None:
    """Do nothing: pictures are always PNG."""


def set_matplotlib_close(_close: bool = True) -> None:
    """Do nothing: figures are always closed after they were shown."""
