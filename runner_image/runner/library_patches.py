"""Patches that redirect to `display` what libraries show on a screen.

Each function patches one module when it is imported. Other versions of the library may be left as they are.
"""

from __future__ import annotations

import importlib
import os
import sys
from functools import partial, wraps

from .display import Display
from .import_hooks import Patch
from .prelude import Any, __builtins__

_FONTS = "/usr/share/fonts/truetype/mcp-agentrun"
_FALLBACKS = [  # for Japanese; for Chinese and Korean
    path for name in ("MTLc3m.ttf", "DroidSansFallback.ttf") if os.path.exists(path := f"{_FONTS}/{name}")
]
_EAST_ASIAN = "\u2e80"  # and beyond


def patches(display: Display) -> dict[str, Patch]:
    """Patches by the name of the module that they apply to."""
    return {
        "matplotlib.pyplot": partial(_pyplot, display),
        "matplotlib.backend_bases": partial(_figure_manager, display),
        "matplotlib.font_manager": _fonts,
        "matplotlib._mathtext": _mathtext,
        "plotly.io._renderers": partial(_plotly, display),
        "bokeh.io.showing": partial(_bokeh, display),
        "bokeh.io.output": _bokeh_output,
        "bokeh.io.notebook": _bokeh_notebook,
        "cv2": partial(_cv2, display),
        "webbrowser": partial(_browser, display),
    }


# -- matplotlib


def _pyplot(display: Display, pyplot: Any) -> None:
    """Close figures that were shown, as a notebook does, except by `show(block=False)`. They can still be saved."""
    show, savefig = pyplot.show, pyplot.savefig

    @wraps(show)
    def show_all(*args: Any, **kwargs: Any) -> Any:
        display.show_figures(close=kwargs.get("block", args[0] if args else None) is not False)

    @wraps(savefig)
    def save(*args: Any, **kwargs: Any) -> Any:
        shown = None if pyplot.get_fignums() else display.last_shown()
        return savefig(*args, **kwargs) if shown is None else shown.savefig(*args, **kwargs)

    pyplot.show, pyplot.savefig = show_all, save


def _figure_manager(display: Display, module: Any) -> None:
    def show(self: Any) -> None:
        display.show_figure(self.canvas.figure)

    module.FigureManagerBase.show = wraps(module.FigureManagerBase.show)(show)


def _fonts(module: Any) -> None:
    """Take characters that the requested font lacks from fonts that have them."""
    find = module.FontManager._find_fonts_by_props

    @wraps(find)
    def find_fonts(self: Any, prop: Any, fontext: str = "ttf", *args: Any, **kwargs: Any) -> list[Any]:
        found = find(self, prop, fontext, *args, **kwargs)
        return [*found, *(path for path in _FALLBACKS if path not in found)] if fontext == "ttf" else found

    module.FontManager._find_fonts_by_props = find_fonts


def _mathtext(module: Any) -> None:
    """Do the same in labels that contain a formula."""
    get_glyph = module.UnicodeFonts._get_glyph

    @wraps(get_glyph)
    def get_any_glyph(self: Any, fontname: str, font_class: str, sym: str) -> Any:
        if len(sym) == 1 and sym >= _EAST_ASIAN:
            for path in _FALLBACKS:
                font = module.get_font(path)
                if font.get_char_index(ord(sym)):
                    return font, ord(sym), False
        return get_glyph(self, fontname, font_class, sym)

    module.UnicodeFonts._get_glyph = get_any_glyph


# -- others


def _plotly(display: Display, renderers: Any) -> None:
    def show(fig: Any, *_args: Any, **_kwargs: Any) -> None:
        if isinstance(fig, dict):
            fig = sys.modules["plotly"].graph_objects.Figure(fig)  # pyright: ignore
        display.show_page(fig.to_html(), fig)

    renderers.show = wraps(renderers.show)(show)


def _bokeh(display: Display, showing: Any) -> None:
    @wraps(showing.show)
    def show(obj: Any, browser: Any = None, new: str = "tab", notebook_handle: bool = False, **_options: Any) -> Any:
        if callable(obj):
            raise NotImplementedError("a Bokeh application needs a server and a browser; show the plot itself")
        path = display.show_page(_bokeh_page(obj), obj)
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
        """Do nothing, because nothing needs to be loaded."""

    output.output_notebook = wraps(output.output_notebook)(output_notebook)


def _cv2(display: Display, cv2: Any) -> None:
    """Report that there are no windows and that no key was pressed."""

    def imshow(winname: str, mat: Any) -> None:
        numpy = sys.modules["numpy"]
        mat = numpy.asarray(mat)
        if mat.dtype.kind == "f":
            mat = numpy.clip(mat * 255, 0, 255)
        is_done, data = cv2.imencode(".png", mat.astype(mat.dtype if mat.dtype == numpy.uint16 else numpy.uint8))
        if is_done:
            display.add(data.tobytes())

    cv2.imshow = imshow
    for name in ("namedWindow", "destroyAllWindows", "destroyWindow", "moveWindow", "resizeWindow", "setWindowTitle"):
        setattr(cv2, name, _nothing)
    cv2.waitKey = cv2.waitKeyEx = cv2.pollKey = _no_key


def _nothing(*_args: Any, **_kwargs: Any) -> None:
    return None


def _no_key(*_args: Any, **_kwargs: Any) -> int:
    return -1


def _browser(display: Display, webbrowser: Any) -> None:
    """A browser that shows files, and opens no other addresses."""

    class Browser(webbrowser.BaseBrowser):
        def open(self, url: str, new: int = 0, autoraise: bool = True) -> bool:
            from urllib.parse import unquote

            path = unquote(url.removeprefix("file://").partition("#")[0].partition("?")[0])
            if not os.path.isfile(path):
                sys.stderr.write(f"No browser is available here to open {url}\n")
                return False
            display.show_file(path)
            return True

    webbrowser.register("agentrun", None, Browser("agentrun"), preferred=True)
