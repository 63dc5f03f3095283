"""Drawing matplotlib's figures."""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import sys
import warnings
from _weakref import ref  # of which the rest of `weakref` is not needed
from collections.abc import Callable, Generator
from math import ceil, floor
from types import SimpleNamespace

from .pictures import MAX_PIXELS, Pictures
from .prelude import Any, __builtins__

MAX_DRAWN = 8 * MAX_PIXELS  # longest edge of a figure that is drawn whole
_LEAST_DPI = 5.0  # of which fonts can be made
_COMPRESSION = {"compress_level": 1, "compress_type": 3}  # zlib's Z_RLE: as small as the default, in half the time

_FOLDERS = (os.path.dirname(__file__) + "/", "<frozen importlib")
_LIBRARIES = ("/matplotlib/", "/mpl_toolkits/")  # whose frames are not the places of warnings

_modules = sys.modules
_getframe = sys._getframe  # pyright: ignore[reportPrivateUsage]


def _nothing() -> None:
    return None


class Figures(Pictures):
    """The pictures of one run, including those of figures."""

    def __init__(self) -> None:
        super().__init__()
        self._shown: dict[int, tuple[Callable[[], Any], int]] = {}
        """By identity: a figure, if it still exists, and a digest of the picture of it that was shown last."""
        self._end = ("sys", 1)
        self.last_shown: Callable[[], Any] = _nothing  # the last figure that was shown and closed, if it still exists

    def begin(self, run: int, filename: str, lines: int) -> None:
        """Forget the last run's pictures and figures.

        :param filename: the name of the code. Its end is the place of warnings about figures that it did not show.
        """
        self.start(run)
        self._end = (filename, max(1, lines))
        self.last_shown = _nothing
        self._shown = {}

    def show_figures(self, *, close: bool = False) -> None:
        """Show all open figures."""
        helpers = _modules.get("matplotlib._pylab_helpers")
        if helpers is None or not helpers.Gcf.figs:
            return
        managers = list(helpers.Gcf.figs.values())
        try:
            for manager in managers:
                self.show_figure(manager.canvas.figure)
        finally:  # or a figure that takes too long would be drawn in each run
            if close:
                self.last_shown = ref(managers[-1].canvas.figure)
                _modules["matplotlib.pyplot"].close("all")

    def show_figure(self, figure: Any) -> None:
        """Show *figure*, unless it is empty or was already shown in its current state."""
        if len(figure.get_children()) <= 1:  # only its background
            return
        with warnings.catch_warnings(record=True) as caught, _each_record_once():
            is_new = True
            try:
                is_new = self._draw(figure)
            except Exception as error:
                sys.stderr.write(f"{type(error).__name__}: {error} (a figure could not be drawn)\n")
        if not is_new:
            return
        place = _place() or self._end
        for (kind, text), warning in {(each.category, str(each.message)): each for each in caught}.items():
            where = place if warning.filename == "sys" else (warning.filename, warning.lineno)
            warnings.warn_explicit(text, kind, *where)

    def _draw(self, figure: Any) -> bool:
        """Add a picture of *figure*, unless it is the one that was added last."""
        dpi = float(figure.get_dpi())
        width, height = (float(inches) * dpi for inches in figure.get_size_inches())
        longest = max(width, height, 1.0)
        if longest / dpi * _LEAST_DPI > MAX_DRAWN:
            raise ValueError(f"{width / dpi:g} x {height / dpi:g} inches are too many")

        def draw(scale: float) -> bytes:
            return _save(figure, max(_LEAST_DPI, dpi * scale), "tight")

        if longest > MAX_DRAWN:
            return self._add_state(figure, draw(MAX_PIXELS / longest), None)
        return self._add_state(figure, _draw_once(figure, dpi) or draw(1.0), draw)

    def _add_state(self, figure: Any, picture: bytes, draw: Callable[[float], bytes] | None) -> bool:
        known, digest = self._shown.get(id(figure)), hash(picture)
        if known is not None and known[0]() is figure and known[1] == digest:
            return False
        self._shown[id(figure)] = ref(figure), digest
        if draw is None:
            self.fit(picture)
        else:
            self.fit(picture, draw)
        return True


def _save(figure: Any, dpi: float, box: Any) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, bbox_inches=box, pil_kwargs=_COMPRESSION)
    return buffer.getvalue()


def _draw_once(figure: Any, dpi: float) -> bytes | None:
    """*figure* with the margins that ``bbox_inches="tight"`` gives it, without drawing it twice as that does.

    :returns: None if something may be beyond the edges of what was drawn, or the color of margins is not simple.
    """
    rc, patch = _modules["matplotlib"].rcParams, figure.patch
    color = tuple(int(255 * share + 0.5) for share in patch.get_facecolor())  # which rounds as Agg does
    is_simple = color[3] == 255 and patch.get_visible() and not patch.get_linewidth()
    is_changed = rc["savefig.transparent"] or rc["savefig.facecolor"] != "auto" or rc["savefig.bbox"] is not None
    if not is_simple or is_changed or not hasattr(figure.canvas, "buffer_rgba"):
        return None
    written: list[Any] = []
    figure.savefig(SimpleNamespace(write=written.append, seek=None), format="rgba", dpi=dpi)
    height, width = written[0].shape[:2]
    left, bottom, right, top = (float(inches) * dpi for inches in figure.get_tightbbox().extents)
    if min(left, bottom, width - right, height - top) < 0:
        return None
    images: Any = importlib.import_module("PIL.Image")
    drawn = images.frombuffer("RGBA", (width, height), written[0], "raw", "RGBA", 0, 1)
    margin = float(rc["savefig.pad_inches"]) * dpi
    x, y = floor(left - margin), floor(height - top - margin)
    picture = images.new("RGBA", (ceil(right + margin) - x, ceil(height - bottom + margin) - y), color)
    picture.paste(drawn, (-x, -y))
    buffer = io.BytesIO()
    picture.save(buffer, "png", dpi=(dpi, dpi), **_COMPRESSION)
    return buffer.getvalue()


def draw_first() -> None:
    """Draw a figure that nobody sees, if matplotlib is loaded, because a process's first one takes longer."""
    if "matplotlib.pyplot" in _modules:
        figure = importlib.import_module("matplotlib.figure").Figure()
        figure.add_subplot().plot((0, 1))
        try:
            _save(figure, _LEAST_DPI, "tight")
        finally:
            _modules["matplotlib.font_manager"]._get_font.cache_clear()  # which keeps files open


@contextlib.contextmanager
def _each_record_once() -> Generator[None]:
    """Drop repeated log messages: matplotlib looks for a font once for each text of a figure."""
    seen: set[str] = set()

    def is_new(record: Any) -> bool:
        message = record.getMessage()
        return not (message in seen or seen.add(message))

    loggers = [_modules["logging"].getLogger(f"matplotlib.{name}") for name in ("font_manager", "mathtext")]
    try:
        for logger in loggers:
            logger.addFilter(is_new)
        yield
    finally:
        for logger in loggers:
            logger.removeFilter(is_new)


def _place() -> tuple[str, int] | None:
    """File and line of the code that has had a figure drawn, if any has."""
    frame: Any = _getframe()
    while frame is not None:
        name = frame.f_code.co_filename
        if not name.startswith(_FOLDERS) and not any(library in name for library in _LIBRARIES):
            return name, frame.f_lineno
        frame = frame.f_back
    return None
