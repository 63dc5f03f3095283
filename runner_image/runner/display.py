"""Showing values: as text, and as pictures or documents, as notebooks do."""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Callable
from functools import partial

from .figures import Figures
from .pictures import as_png, of_image
from .prelude import Any, __builtins__

_LONGEST_REPR = 2000
_LONGEST_HTML = 2000  # characters that are shown as they are

_PLAIN = frozenset((bool, int, float, complex, str, bytes, list, tuple, dict, set, type(None)))
_modules = sys.modules


def _call_directly(function: Callable[..., Any], *arguments: Any) -> Any:
    return function(*arguments)


class Display(Figures):
    """``display()``, and the pictures and documents that one run shows."""

    def display(self, *values: Any, raw: bool = False, display_id: Any = None, **_options: Any) -> Handle | None:
        """Show *values* as a last expression's value is shown.

        :param raw: they are dictionaries of representations by MIME type, as `show_best` takes them.
        :returns: with a *display_id*, a handle that shows another value.
        """
        for value in values:
            if raw and isinstance(value, dict):
                self.show_best(value)  # pyright: ignore[reportUnknownArgumentType]
            else:
                self.show(value)
        return None if display_id is None or display_id is False else Handle(self, display_id)

    def show_best(self, data: dict[str, Any], *_arguments: Any, **_options: Any) -> None:
        """Show the best of the representations in *data*, by MIME type."""
        text = str(data.get("text/plain", data.get("application/json", "")))
        shown = self._best(None, data, _call_directly, lambda _: text)
        if shown or text:
            sys.stdout.write(f"{shown or text}\n")

    def show(self, value: object, call: Callable[..., Any] = _call_directly) -> str:
        """Write *value* as text, and keep its picture or document; returns the text.

        :param call: calls methods of the value.
        """
        kind = type(value)
        text = None
        if kind not in _PLAIN:
            with contextlib.suppress(Exception):  # the class may be hostile
                if kind.__module__ not in ("builtins", "__main__") or any(hasattr(kind, name) for name in _FORMS):
                    text = self._rich(value, kind, call)
        if text is None:
            text = call(repr, value)
        elif text is _SHOWN:
            return ""
        call(sys.stdout.write, text + "\n")
        return text

    def show_page(self, page: str, value: object) -> str | None:
        """Show *page*, a document of *value*; returns its path, or None if only the value's text could be shown."""
        path = self.write_file(page.encode("utf-8", "replace"), "html")
        if path is None:
            sys.stdout.write(f"{value!r}\n")
        return path

    def _rich(self, value: Any, kind: type, call: Callable[..., Any]) -> str | None:
        """Show the picture or document of *value*; returns the text to show, or None if that is the repr."""
        root = kind.__module__.partition(".")[0]
        if root == "pandas" and kind.__name__ == "DataFrame":
            return _table(value)
        if root == "matplotlib" and hasattr(value, "savefig") and hasattr(value, "axes"):
            self.show_figure(value)
            return None
        if root == "PIL" and hasattr(value, "save") and hasattr(value, "convert"):
            self.fit(of_image(value))
            return None
        page = _whole_page(value, root)  # before the bundle: plotly's may open a browser
        if page is not None:
            return self._keep(page, "html", value, partial(call, repr))
        bundle = _call(value, "_repr_mimebundle_", call)
        if isinstance(bundle, tuple):
            bundle = bundle[0] if bundle else None  # pyright: ignore
        forms: dict[str, Any] = bundle if isinstance(bundle, dict) else {}  # pyright: ignore
        shown = self._best(value, forms, call, partial(call, repr))
        if shown is None and callable(getattr(kind, "_ipython_display_", None)):
            call(value._ipython_display_)
            return _SHOWN
        if shown is None and kind.__repr__ is object.__repr__:  # sympy's is shorter than its LaTeX
            latex = _form(value, forms, "text/latex", call)
            return latex if isinstance(latex, str) else None
        return shown

    def _best(
        self, value: Any, forms: dict[str, Any], call: Callable[..., Any], represent: Callable[[Any], str]
    ) -> str | None:
        """Show the best of *forms*, representations by MIME type, or of those that *value* has methods for.

        :returns: the text to show; None if that is the repr.
        """
        for kind in _PICTURES:
            picture = as_png(_form(value, forms, kind, call))
            if picture is not None:
                self.fit(picture)
                return None
        markdown = _form(value, forms, "text/markdown", call)
        if isinstance(markdown, str):
            return markdown
        drawing = _form(value, forms, "image/svg+xml", call)
        if isinstance(drawing, str):
            return self._keep(drawing, "svg", value, represent)
        page = _form(value, forms, "text/html", call)
        if isinstance(page, str):
            text = represent(value)
            if _says_something(text):
                return text  # of a model or a table, for example
            shown = self._keep(page, "html", value, represent)
            return page if len(page) <= _LONGEST_HTML else shown
        latex = forms.get("text/latex")
        return latex if value is None and isinstance(latex, str) else None

    def _keep(self, document: str, suffix: str, value: object, represent: Callable[[Any], str]) -> str | None:
        """Write *document* to a file; returns the text to show."""
        path = self.write_file(document.encode("utf-8", "replace"), suffix)
        if path is None:
            return None
        text = represent(value)
        kind = type(value)
        return text if len(text) <= _LONGEST_REPR else f"<{kind.__module__}.{kind.__qualname__} shown in {path}>"


class Handle:
    """What `display` returns if it is given an id. Another value is shown below the first one."""

    def __init__(self, display: Display, name: Any) -> None:
        self._display = display
        self.display_id = name

    def display(self, value: Any, **_options: Any) -> None:
        self._display.show(value)

    update = display


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
    """The representation of that MIME *kind*, from *forms* or by a method of *value*."""
    return forms.get(kind) or (_call(value, _METHODS[kind], call) if _METHODS[kind] else None)


def _says_something(text: str) -> bool:
    """Whether *text*, a repr, describes its object, rather than only naming it."""
    is_name = not text or (text.startswith("<") and text.endswith(">"))
    return not is_name and (len(text) <= _LONGEST_REPR or text.count("\n") > len(text) / _LONGEST_REPR * 10)


def _whole_page(value: Any, root: str) -> str | None:
    """*value* as a complete HTML page, if its library can make one."""
    if root == "bokeh" and hasattr(value, "select_one") and hasattr(value, "sizing_mode"):
        return importlib.import_module("bokeh.embed").file_html(value)
    if root in ("plotly", "altair", "bokeh") and callable(getattr(value, "to_html", None)):
        return value.to_html()
    return None


def _call(value: Any, name: str, call: Callable[..., Any]) -> Any:
    """Call the method *name* of *value*, if it has one; None if it fails, which does not make the run fail."""
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
