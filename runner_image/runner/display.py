"""What a terminal can't show: pictures, rich values and documents, beside the text of a run."""

from __future__ import annotations

import builtins
import contextlib
import importlib
import io
import os
import struct
import sys
import warnings
from collections.abc import Callable, Generator

from mcp_agentrun.protocol import Kind, encode, encode_json

from .silence import silence

__builtins__ = dict(vars(builtins))  # of the functions below: user code may change the real ones

TYPE_CHECKING = False  # importing `typing` takes 2 ms, for which a first answer would wait
if TYPE_CHECKING:
    from typing import Any

MAX_ITEMS, MAX_TOTAL = 16, 640_000
"""Pictures of one run that are returned, and their bytes: clients take answers up to a megabyte, in base64. What is
beyond is kept as files."""

MAX_PIXELS = 1200
"""Longest edge of a picture; larger ones are scaled down, and kept whole as a file."""

MAX_BYTES = 400_000
"""Size of a picture from which it is scaled down further."""

MAX_DRAWN = 8 * MAX_PIXELS
"""Longest edge of a figure that is drawn whole."""

_LEAST_DPI = 5.0  # of which fonts can be made
_LEAST_FACTOR = 0.01

_CHUNK = 1 << 16
_LONG = 2000
_PNG = b"\x89PNG\r\n\x1a\n"
_FOLDER = "output"

_PLAIN = frozenset((bool, int, float, complex, str, bytes, list, tuple, dict, set, type(None)))
_modules = sys.modules


class Items:
    """The pictures of one run, and ``display()``."""

    def __init__(self) -> None:
        self._run = 0
        self._pictures: list[bytes] = []
        self._shown: set[int] = set()
        self._files = 0

    def begin(self, run: int) -> None:
        """Forget the last run's."""
        self._run = run
        self._files = 0
        if self._pictures:
            self._pictures = []
        if self._shown:
            self._shown = set()

    def frames(self) -> bytes:
        """The frames that carry them, in order."""
        if not self._pictures:
            return b""
        frames: list[bytes] = []
        for picture in self._pictures:
            frames.append(encode_json(Kind.ITEM, type="image/png", size=len(picture)))
            frames += [encode(Kind.ITEM_DATA, picture[at : at + _CHUNK]) for at in range(0, len(picture), _CHUNK)]
        self._pictures = []
        return b"".join(frames)

    def display(self, *values: Any, **_options: Any) -> None:
        """Show *values* as a last expression's value is shown."""
        for value in values:
            self.show(value)

    def show(self, value: object, represent: Callable[[object], str] = repr) -> str:
        """Write *value* as text, and what it has beside text where that belongs; returns the text.

        :param represent: what makes the text, where nothing richer does.
        """
        kind = type(value)
        text = None
        if kind not in _PLAIN:
            with contextlib.suppress(Exception):  # a class can be so hostile that it won't say where it comes from
                if kind.__module__ not in ("builtins", "__main__") or not _is_plain(kind):
                    text = self._rich(value, kind)
        if text is None:
            text = represent(value)
        sys.stdout.write(text + "\n")
        return text

    def collect_figures(self) -> None:
        """Take the picture of every figure that is open, and close it."""
        helpers = _modules.get("matplotlib._pylab_helpers")
        if helpers is None or not helpers.Gcf.figs:
            return
        pyplot = _modules.get("matplotlib.pyplot")
        managers = list(helpers.Gcf.figs.values())
        try:
            for manager in managers:
                figure = manager.canvas.figure
                if id(figure) not in self._shown:
                    try:
                        self._add_figure(figure)
                    except Exception as error:
                        sys.stderr.write(f"{type(error).__name__}: {error} (a figure could not be drawn)\n")
        finally:  # one that takes too long would do so in each run
            if pyplot is not None:
                pyplot.close("all")

    # -- one value

    def _rich(self, value: Any, kind: type) -> str | None:
        """What is shown of *value*, where that is more than its repr; the text of it, if not that."""
        root = kind.__module__.partition(".")[0]
        if root == "pandas" and kind.__name__ == "DataFrame":
            return _table(value)
        if root == "matplotlib" and hasattr(value, "savefig") and hasattr(value, "axes"):
            if id(value) not in self._shown:
                self._shown.add(id(value))
                self._add_figure(value)
            return None
        picture = self._picture(value, root)
        if picture is not None:
            self._add(picture)
            return None
        bundle = _call(value, "_repr_mimebundle_")
        forms: dict[str, Any] = {}
        if isinstance(bundle, tuple):
            bundle = bundle[0] if bundle else None  # pyright: ignore
        if isinstance(bundle, dict):
            forms = bundle  # pyright: ignore
        png = forms.get("image/png")
        if isinstance(png, str):
            import base64

            png = base64.b64decode(png)
        if isinstance(png, bytes):
            self._add(png)
        markdown = forms.get("text/markdown") or _call(value, "_repr_markdown_")
        if isinstance(markdown, str):
            return markdown
        page = self._page(value, root, forms)
        drawing = forms.get("image/svg+xml") or _call(value, "_repr_svg_")
        if isinstance(drawing, str):
            return self._keep(drawing.encode("utf-8", "replace"), "svg", value)
        if isinstance(page, str):
            return self._keep(page.encode("utf-8", "replace"), "html", value)
        if kind.__repr__ is not object.__repr__:  # which says the same in fewer signs, as sympy's does
            return None
        latex = forms.get("text/latex") or _call(value, "_repr_latex_")
        return latex if isinstance(latex, str) else None

    def _picture(self, value: Any, root: str) -> bytes | None:
        if root == "PIL" and hasattr(value, "save") and hasattr(value, "convert"):
            return self._of_image(value)
        data = _call(value, "_repr_png_")
        if isinstance(data, tuple):
            data = data[0] if data else None  # pyright: ignore
        return data if isinstance(data, bytes) else None

    @staticmethod
    def _page(value: Any, root: str, forms: dict[str, Any]) -> Any:
        """The HTML form of *value*, as a page that is complete in itself where the library can make one."""
        for library in ("plotly", "altair", "bokeh"):
            if root == library and callable(getattr(value, "to_html", None)):
                return value.to_html()
        return forms.get("text/html") or _call(value, "_repr_html_")

    def _of_image(self, image: Any) -> bytes:
        buffer = io.BytesIO()
        direct = image.mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")
        (image if direct else image.convert("RGB")).save(buffer, "PNG")
        return buffer.getvalue()

    # -- pictures

    def _add_figure(self, figure: Any) -> None:
        self._shown.add(id(figure))
        with _in_silence():
            self._draw(figure)

    def _draw(self, figure: Any) -> None:
        dpi = float(figure.get_dpi())
        width, height = (float(inches) * dpi for inches in figure.get_size_inches())

        def draw(scale: float) -> bytes:
            buffer = io.BytesIO()
            figure.savefig(buffer, format="png", dpi=max(_LEAST_DPI, dpi * scale), bbox_inches="tight")
            return buffer.getvalue()

        longest = max(width, height, 1.0)
        if longest / dpi * _LEAST_DPI > MAX_DRAWN:
            raise ValueError(f"{width / dpi:g} x {height / dpi:g} inches are too many")
        if longest > MAX_DRAWN:
            self._add(draw(MAX_PIXELS / longest))
        else:
            self._fit(draw(1.0), draw)

    def _add(self, picture: bytes) -> None:
        def scale(factor: float) -> bytes:
            library: Any = importlib.import_module("PIL.Image")
            image = library.open(io.BytesIO(picture))
            size = (max(1, int(image.width * factor)), max(1, int(image.height * factor)))
            return self._of_image(image.convert("RGBA" if image.mode in ("LA", "P", "RGBA") else "RGB").resize(size))

        self._fit(picture, scale)

    def _fit(self, picture: bytes, scaled: Callable[[float], bytes]) -> None:
        """Add *picture*, or, where it is too large, a smaller one, and keep the full one as a file. Where there is no
        room for another picture, or it can't be made smaller, it is kept as a file alone.
        """
        size = _png_size(picture)
        if size is None:
            return
        shown: bytes | None = picture if len(self._pictures) < MAX_ITEMS else None
        factor = 1.0
        while shown is not None:
            longest = max(_png_size(shown) or size)
            if longest <= MAX_PIXELS and len(shown) <= MAX_BYTES:
                break
            factor *= min(MAX_PIXELS / longest, 1.0 if len(shown) <= MAX_BYTES else 0.7)
            shown = None
            if factor > _LEAST_FACTOR:
                with contextlib.suppress(Exception):
                    shown = scaled(factor)
        if shown is not None and sum(map(len, self._pictures)) + len(shown) <= MAX_TOTAL:
            self._pictures.append(shown)
        else:
            shown = None
        if shown is not picture:
            self._write(picture, "png")

    # -- files

    def _keep(self, data: bytes, suffix: str, value: object) -> str | None:
        """Write *data* to a file; returns what to show in place of a repr that is as long as the file."""
        path = self._write(data, suffix)
        if path is None:
            return None
        text = repr(value)
        kind = type(value)
        return text if len(text) <= _LONG else f"<{kind.__module__}.{kind.__qualname__} shown in {path}>"

    def _write(self, data: bytes, suffix: str) -> str | None:
        """Keep *data* as a file; returns its path in the workspace, or None if there is no room."""
        self._files += 1
        for folder in (f"{_FOLDER}/", ""):  # a folder of the operator's may have that name
            path = f"{folder}run-{self._run}-{self._files}.{suffix}"
            with contextlib.suppress(OSError):
                os.makedirs(f"/workspace/{folder}", exist_ok=True)
                with open(f"/workspace/{path}", "wb") as file:
                    file.write(data)
                return path
        return None


@contextlib.contextmanager
def _in_silence() -> Generator[None]:
    """Drop what is printed, warned of and logged while a figure is drawn, which a script would not have drawn."""
    logging: Any = _modules.get("logging")
    disabled = 0 if logging is None else logging.root.manager.disable
    with warnings.catch_warnings(), silence():
        warnings.simplefilter("ignore")
        try:
            if logging is not None:
                logging.disable(logging.CRITICAL)
            yield
        finally:
            if logging is not None:
                logging.disable(disabled)


def _is_plain(kind: type[Any]) -> bool:
    """Whether a class, of the user's or built in, has nothing richer than its repr."""
    return not any(hasattr(kind, name) for name in _FORMS)


_FORMS = tuple(f"_repr_{form}_" for form in ("mimebundle", "png", "markdown", "svg", "html", "latex"))


def _call(value: Any, name: str) -> Any:
    """What *value* says of itself; what fails there is not the run's failure."""
    if isinstance(value, type):
        return None
    kind: Any = type(value)  # pyright: ignore[reportUnknownVariableType]
    if not callable(getattr(kind, name, None)):
        return None
    try:
        return getattr(value, name)()
    except Exception:
        return None


def _table(frame: Any) -> str:
    """A DataFrame as compact text with its shape, unless the user has asked pandas for something else."""
    pandas = _modules["pandas"]
    wanted = {"display.show_dimensions": True, "display.width": 120, "display.max_rows": 20, "display.max_columns": 20}
    defaults = {"display.show_dimensions": "truncate", "display.width": 80, "display.max_rows": 60}
    options: list[Any] = []
    try:
        for name, value in wanted.items():
            if pandas.get_option(name) == defaults.get(name, pandas.get_option(name)):
                options += [name, value]
        with pandas.option_context(*options):
            return repr(frame)
    except Exception:
        return repr(frame)


def _png_size(data: bytes) -> tuple[int, int] | None:
    if not data.startswith(_PNG) or len(data) < 33:
        return None
    width, height = struct.unpack_from(">II", data, 16)
    return width, height
