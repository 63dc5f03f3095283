"""What a terminal can't show: pictures, rich values and documents, beside the text of a run."""

from __future__ import annotations

import builtins
import contextlib
import importlib
import io
import os
import sys
import warnings
from _weakref import ref  # of which the rest of `weakref` is not needed
from collections.abc import Callable, Generator

from .pictures import MAX_PIXELS, Pictures, as_png, of_image

__builtins__ = dict(vars(builtins))  # of the functions below: user code may change the real ones

TYPE_CHECKING = False  # importing `typing` takes 2 ms, for which a first answer would wait
if TYPE_CHECKING:
    from typing import Any

MAX_DRAWN = 8 * MAX_PIXELS
"""Longest edge of a figure that is drawn whole."""

_LEAST_DPI = 5.0  # of which fonts can be made

_LONG = 2000
_SHORT = 2000
"""Characters of HTML that are shown as they are."""

_FOLDERS = (os.path.dirname(__file__) + "/", "<frozen importlib")
_LIBRARIES = ("/matplotlib/", "/mpl_toolkits/")  # whose frames are not the place of a warning

_PLAIN = frozenset((bool, int, float, complex, str, bytes, list, tuple, dict, set, type(None)))
_modules = sys.modules
_getframe = sys._getframe  # pyright: ignore[reportPrivateUsage]


def _nothing() -> None:
    return None


def _directly(function: Callable[..., Any], *arguments: Any) -> Any:
    return function(*arguments)


class Items(Pictures):
    """The pictures of one run, and ``display()``."""

    def __init__(self) -> None:
        super().__init__()
        self._shown: dict[int, tuple[Callable[[], Any], int]] = {}
        """By identity: a figure, if it still exists, and a digest of the picture that was shown of it last."""
        self._end = ("sys", 1)
        self.last_shown: Callable[[], Any] = _nothing
        """The last figure that was shown and closed, if it still exists."""

    def begin(self, run: int, filename: str, lines: int) -> None:
        """Forget the last run's.

        :param filename: the name of the code, and how many *lines* it has: where figures are drawn that were not shown.
        """
        self.start(run)
        self._end = (filename, max(1, lines))
        self.last_shown = _nothing
        if self._shown:
            self._shown = {}

    def display(self, *values: Any, raw: bool = False, display_id: Any = None, **_options: Any) -> Handle | None:
        """Show *values* as a last expression's value is shown.

        :param raw: they are dictionaries of forms by MIME type, as `publish` takes them.
        :returns: what shows another value in their place, if there is to be one.
        """
        for value in values:
            if raw and isinstance(value, dict):
                self.publish(value)  # pyright: ignore[reportUnknownArgumentType]
            else:
                self.show(value)
        return None if display_id is None or display_id is False else Handle(self, display_id)

    def publish(self, data: dict[str, Any], *_arguments: Any, **_options: Any) -> None:
        """Show the best of the forms in *data*, by MIME type."""
        text = str(data.get("text/plain", data.get("application/json", "")))
        shown = self._best(None, data, _directly, lambda _: text)
        if shown or text:
            _write(shown or text)

    def show(self, value: object, call: Callable[..., Any] = _directly) -> str:
        """Write *value* as text, and what it has beside text where that belongs; returns the text.

        :param call: calls methods of the value.
        """
        kind = type(value)
        text = None
        if kind not in _PLAIN:
            with contextlib.suppress(Exception):  # a class can be so hostile that it won't say where it comes from
                if kind.__module__ not in ("builtins", "__main__") or not _is_plain(kind):
                    text = self._rich(value, kind, call)
        if text is None:
            text = call(repr, value)
        elif text is _SHOWN:
            return ""
        call(sys.stdout.write, text + "\n")
        return text

    # -- figures

    def show_figures(self, *, close: bool = False) -> None:
        """Show every figure that is open."""
        helpers = _modules.get("matplotlib._pylab_helpers")
        if helpers is None or not helpers.Gcf.figs:
            return
        managers = list(helpers.Gcf.figs.values())
        try:
            for manager in managers:
                self.show_figure(manager.canvas.figure)
        finally:  # one that takes too long would do so in each run
            if close:
                self.last_shown = ref(managers[-1].canvas.figure)
                _modules["matplotlib.pyplot"].close("all")

    def show_figure(self, figure: Any) -> None:
        """Show *figure*, unless there is nothing in it, or it was shown as it is now."""
        if len(figure.get_children()) <= 1:  # its background
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

    # -- one value

    def _rich(self, value: Any, kind: type, call: Callable[..., Any]) -> str | None:
        """What is shown of *value*, where that is more than its repr; the text of it, if not that."""
        root = kind.__module__.partition(".")[0]
        if root == "pandas" and kind.__name__ == "DataFrame":
            return _table(value)
        if root == "matplotlib" and hasattr(value, "savefig") and hasattr(value, "axes"):
            self.show_figure(value)
            return None
        if root == "PIL" and hasattr(value, "save") and hasattr(value, "convert"):
            self.fit(of_image(value))
            return None
        page = _whole_page(value, root)  # first: plotly's bundle may open a browser
        bundle = {"text/html": page} if page is not None else _call(value, "_repr_mimebundle_", call)
        if isinstance(bundle, tuple):
            bundle = bundle[0] if bundle else None  # pyright: ignore
        forms: dict[str, Any] = bundle if isinstance(bundle, dict) else {}  # pyright: ignore
        shown = self._best(value, forms, call, lambda value: call(repr, value), is_page=page is not None)
        if shown is None and callable(getattr(kind, "_ipython_display_", None)):
            call(value._ipython_display_)
            return _SHOWN
        if shown is None and kind.__repr__ is object.__repr__:  # others say the same in fewer signs, as sympy's does
            latex = _form(value, forms, "text/latex", call)
            return latex if isinstance(latex, str) else None
        return shown

    def _best(
        self,
        value: Any,
        forms: dict[str, Any],
        call: Callable[..., Any],
        represent: Callable[[Any], str],
        *,
        is_page: bool = False,
    ) -> str | None:
        """Show the best of *forms*, or of those that *value* has methods for.

        :param is_page: what there is of HTML is a document of its own.
        :returns: the text to show; None if that is the repr.
        """
        for kind in () if is_page else _PICTURES:
            picture = as_png(_form(value, forms, kind, call))
            if picture is not None:
                self.fit(picture)
                return None
        markdown = None if is_page else _form(value, forms, "text/markdown", call)
        if isinstance(markdown, str):
            return markdown
        drawing = None if is_page else _form(value, forms, "image/svg+xml", call)
        if isinstance(drawing, str):
            return self._keep(drawing, "svg", value, represent)
        page = _form(value, forms, "text/html", call)
        if isinstance(page, str):
            text = represent(value)
            if not is_page and _says_something(text):
                return text  # of a model or a table, more than its HTML does
            shown = self._keep(page, "html", value, represent)
            return page if not is_page and len(page) <= _SHORT else shown
        latex = forms.get("text/latex")
        return latex if value is None and isinstance(latex, str) else None

    # -- pictures

    def _draw(self, figure: Any) -> bool:
        """Add a picture of *figure*, unless it is the one that was added last."""
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
            return self._add_state(figure, draw(MAX_PIXELS / longest), None)
        return self._add_state(figure, draw(1.0), draw)

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

    def _keep(self, document: str, suffix: str, value: object, represent: Callable[[Any], str]) -> str | None:
        """Write *document* to a file; returns what to show in place of a repr that is as long as the file."""
        path = self.write_file(document.encode("utf-8", "replace"), suffix)
        if path is None:
            return None
        text = represent(value)
        kind = type(value)
        return text if len(text) <= _LONG else f"<{kind.__module__}.{kind.__qualname__} shown in {path}>"


class Handle:
    """What `display` returns where it was given an id; it shows more, below what it has shown."""

    def __init__(self, items: Items, name: Any) -> None:
        self._items = items
        self.display_id = name

    def display(self, value: Any, **_options: Any) -> None:
        self._items.show(value)

    update = display


@contextlib.contextmanager
def _each_record_once() -> Generator[None]:
    """Drop what matplotlib logs again of the same figure: it looks for a font once for each of its texts."""
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


def _write(text: str) -> None:
    sys.stdout.write(text + "\n")


def _place() -> tuple[str, int] | None:
    """File and line of the code that has called for a figure to be drawn, if any has."""
    frame: Any = _getframe()
    while frame is not None:
        name = frame.f_code.co_filename
        if not name.startswith(_FOLDERS) and not any(library in name for library in _LIBRARIES):
            return name, frame.f_lineno
        frame = frame.f_back
    return None


def _is_plain(kind: type[Any]) -> bool:
    """Whether a class, of the user's or built in, has nothing richer than its repr."""
    return not any(hasattr(kind, name) for name in _FORMS)


_METHODS = {
    "image/png": "_repr_png_",
    "image/jpeg": "_repr_jpeg_",
    "image/gif": "",
    "image/webp": "",
    "text/markdown": "_repr_markdown_",
    "image/svg+xml": "_repr_svg_",
    "text/html": "_repr_html_",
    "text/latex": "_repr_latex_",
}
_PICTURES = ("image/png", "image/jpeg", "image/gif", "image/webp")
_FORMS = ("_repr_mimebundle_", "_ipython_display_", *filter(None, _METHODS.values()))
_SHOWN = "".join(("shown ", "already"))  # compared by identity


def _form(value: Any, forms: dict[str, Any], kind: str, call: Callable[..., Any]) -> Any:
    """The form of that MIME *kind*, out of *forms* or by a method of *value*."""
    return forms.get(kind) or (_call(value, _METHODS[kind], call) if _METHODS[kind] else None)


def _says_something(text: str) -> bool:
    """Whether *text*, a repr, says what its object is like, and not only which one it is."""
    is_name = not text or (text.startswith("<") and text.endswith(">"))
    return not is_name and (len(text) <= _LONG or text.count("\n") > len(text) / _LONG * 10)


def _whole_page(value: Any, root: str) -> str | None:
    """*value* as a page that is complete in itself, where it is of a library that can make one."""
    if root == "bokeh" and hasattr(value, "select_one") and hasattr(value, "sizing_mode"):
        return importlib.import_module("bokeh.embed").file_html(value)
    if root in ("plotly", "altair", "bokeh") and callable(getattr(value, "to_html", None)):
        return value.to_html()
    return None


def _call(value: Any, name: str, call: Callable[..., Any]) -> Any:
    """What *value* says of itself; what fails there is not the run's failure."""
    if isinstance(value, type):
        return None
    kind: Any = type(value)  # pyright: ignore[reportUnknownVariableType]
    if not callable(getattr(kind, name, None)):
        return None
    try:
        return call(getattr(value, name))
    except Exception:
        return None


def _table(frame: Any) -> str:
    """A DataFrame as compact text, unless the user has asked pandas for something else."""
    pandas = _modules["pandas"]
    wanted = {"display.width": 120, "display.max_rows": 20, "display.max_columns": 20}
    defaults = {"display.width": 80, "display.max_rows": 60}
    options: list[Any] = []
    try:
        for name, value in wanted.items():
            if pandas.get_option(name) == defaults.get(name, pandas.get_option(name)):
                options += [name, value]
        with pandas.option_context(*options):
            return repr(frame)
    except Exception:
        return repr(frame)
