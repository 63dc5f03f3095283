"""Redirecting what libraries show on a screen to `display`.

Each function changes one module when it is imported. A version of the library that lacks what is changed stays as it
is.
"""

from __future__ import annotations

import builtins
import importlib
import os
import sys
from functools import partial, wraps

from .display import Items

__builtins__ = dict(vars(builtins))  # of the functions below: user code may change the real ones

TYPE_CHECKING = False  # importing `typing` takes 2 ms, for which a first answer would wait
if TYPE_CHECKING:
    from typing import Any

    from .imports import Change

_FALLBACKS = ("MTLc3m.ttf", "DroidSansFallback.ttf")  # for Japanese; for Chinese and Korean
_FONTS = "/usr/share/fonts/truetype/mcp-agentrun"
_EAST_ASIAN = "\u2e80"  # and beyond
_NO_KEY = -1


def changes(items: Items) -> dict[str, Change]:
    """By name of a module, what is to be changed in it."""
    return {
        "matplotlib.pyplot": partial(_pyplot, items),
        "matplotlib.backend_bases": partial(_figure_manager, items),
        "matplotlib.font_manager": _fonts,
        "matplotlib._mathtext": _mathtext,
        "plotly.io._renderers": partial(_plotly, items),
        "bokeh.io.showing": partial(_bokeh, items),
        "bokeh.io.output": _bokeh_output,
        "bokeh.io.notebook": _bokeh_notebook,
        "cv2": partial(_cv2, items),
        "webbrowser": partial(_browser, items),
    }


# -- matplotlib


def _pyplot(items: Items, pyplot: Any) -> None:
    """As in a notebook, a figure that was shown is closed, but for `show(block=False)`. One that is saved after it was
    shown is saved all the same.
    """
    show, savefig = pyplot.show, pyplot.savefig

    @wraps(show)
    def show_all(*args: Any, **kwargs: Any) -> Any:
        items.show_figures(close=kwargs.get("block", args[0] if args else None) is not False)

    @wraps(savefig)
    def save(*args: Any, **kwargs: Any) -> Any:
        shown = None if pyplot.get_fignums() else items.last_shown()
        return savefig(*args, **kwargs) if shown is None else shown.savefig(*args, **kwargs)

    pyplot.show, pyplot.savefig = show_all, save


def _figure_manager(items: Items, module: Any) -> None:
    def show(self: Any) -> None:
        items.show_figure(self.canvas.figure)

    module.FigureManagerBase.show = wraps(module.FigureManagerBase.show)(show)


def _fonts(module: Any) -> None:
    """Take characters that the requested font does not have from fonts that do."""
    fallbacks = _fallbacks()
    find = module.FontManager._find_fonts_by_props

    @wraps(find)
    def find_fonts(self: Any, prop: Any, fontext: str = "ttf", *args: Any, **kwargs: Any) -> list[Any]:
        found = find(self, prop, fontext, *args, **kwargs)
        return [*found, *(path for path in fallbacks if path not in found)] if fontext == "ttf" else found

    module.FontManager._find_fonts_by_props = find_fonts


def _mathtext(module: Any) -> None:
    """Likewise in labels with a formula in them."""
    fallbacks = _fallbacks()
    get_glyph = module.UnicodeFonts._get_glyph

    @wraps(get_glyph)
    def get_any_glyph(self: Any, fontname: str, font_class: str, sym: str) -> Any:
        if len(sym) == 1 and sym >= _EAST_ASIAN:
            for path in fallbacks:
                font = module.get_font(path)
                if font.get_char_index(ord(sym)):
                    return font, ord(sym), False
        return get_glyph(self, fontname, font_class, sym)

    module.UnicodeFonts._get_glyph = get_any_glyph


def _fallbacks() -> list[str]:
    return [path for name in _FALLBACKS if os.path.exists(path := f"{_FONTS}/{name}")]


# -- others


def _plotly(items: Items, renderers: Any) -> None:
    def show(fig: Any, *_args: Any, **_kwargs: Any) -> None:
        if isinstance(fig, dict):
            fig = sys.modules["plotly"].graph_objects.Figure(fig)  # pyright: ignore
        items.show_page(fig.to_html(), fig)

    renderers.show = wraps(renderers.show)(show)


def _bokeh(items: Items, showing: Any) -> None:
    show_object = showing.show

    @wraps(show_object)
    def show(obj: Any, browser: Any = None, new: str = "tab", notebook_handle: bool = False, **options: Any) -> Any:
        if callable(obj):  # an application, which needs a server
            return show_object(obj, browser, new, notebook_handle, **options)
        path = items.show_page(_bokeh_page(obj), obj)
        if not notebook_handle:
            return None
        handle = _bokeh_state().last_comms_handle = CommsHandle(obj, path)
        return handle

    showing.show = show


def _bokeh_page(obj: Any) -> str:
    return importlib.import_module("bokeh.embed").file_html(obj)


def _bokeh_state() -> Any:
    return importlib.import_module("bokeh.io.state").curstate()


class CommsHandle:
    """What bokeh's ``show(notebook_handle=True)`` returns, so that the plot can be changed."""

    __module__ = "bokeh.io.notebook"

    def __init__(self, obj: Any, path: str | None) -> None:
        self._obj = obj
        self._path = path

    def update(self) -> None:
        """Write the page that was shown again, of the plot as it is now."""
        if self._path is not None:
            with open(f"/workspace/{self._path}", "w", encoding="utf-8") as file:
                file.write(_bokeh_page(self._obj))


def _bokeh_notebook(notebook: Any) -> None:
    push = notebook.push_notebook

    @wraps(push)
    def push_notebook(*, handle: Any = None, **options: Any) -> None:
        handle = handle or _bokeh_state().last_comms_handle
        if isinstance(handle, CommsHandle):
            handle.update()
        else:
            push(handle=handle, **options)

    notebook.push_notebook = push_notebook


def _bokeh_output(output: Any) -> None:
    def output_notebook(*_args: Any, **_kwargs: Any) -> None:
        """Do nothing: nothing needs to be loaded."""

    output.output_notebook = wraps(output.output_notebook)(output_notebook)


def _cv2(items: Items, cv2: Any) -> None:
    """Report that there are no windows and that no key was pressed."""

    def imshow(winname: str, mat: Any) -> None:
        numpy = sys.modules["numpy"]
        mat = numpy.asarray(mat)
        if mat.dtype.kind == "f":
            mat = numpy.clip(mat * 255, 0, 255)
        is_done, data = cv2.imencode(".png", mat.astype(mat.dtype if mat.dtype == numpy.uint16 else numpy.uint8))
        if is_done:
            items.add(data.tobytes())

    cv2.imshow = imshow
    for name in ("namedWindow", "destroyAllWindows", "destroyWindow", "moveWindow", "resizeWindow", "setWindowTitle"):
        setattr(cv2, name, _nothing)
    cv2.waitKey = cv2.waitKeyEx = cv2.pollKey = _no_key


def _nothing(*_args: Any, **_kwargs: Any) -> None:
    return None


def _no_key(*_args: Any, **_kwargs: Any) -> int:
    return _NO_KEY


def _browser(items: Items, webbrowser: Any) -> None:
    """A browser that shows files, and opens no other addresses."""

    class Browser(webbrowser.BaseBrowser):
        def open(self, url: str, new: int = 0, autoraise: bool = True) -> bool:
            from urllib.parse import unquote

            path = unquote(url.removeprefix("file://").partition("#")[0].partition("?")[0])
            if not os.path.isfile(path):
                sys.stderr.write(f"No browser is available here to open {url}\n")
                return False
            items.show_file(path)
            return True

    webbrowser.register("agentrun", None, Browser("agentrun"), preferred=True)
