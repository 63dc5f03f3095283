"""Runs while the image is built: makes plots of any language come out right, and the first one fast.

Expects HOME to be the folder that later becomes every session's home: the font cache is written there, since finding
the fonts takes seconds and a runner starts with nothing in its own.
"""

from __future__ import annotations

import dataclasses
import re
from importlib import import_module
from pathlib import Path
from typing import Any

# Installed in the image only.
matplotlib: Any = import_module("matplotlib")
font_manager: Any = import_module("matplotlib.font_manager")

FALLBACKS = ("MotoyaLCedar", "Droid Sans Fallback")
"""For Japanese; for Chinese and Korean."""


def use_fallbacks() -> None:
    """Let a character that DejaVu Sans lacks be taken from the next font that has it.

    In matplotlib's own defaults, so that it survives `rcdefaults` and styles.
    """
    defaults = Path(matplotlib.get_data_path(), "matplotlibrc")
    line = f"font.family: sans-serif, {', '.join(FALLBACKS)}"
    text, count = re.subn(r"(?m)^#?font\.family:.*$", line, defaults.read_text("utf-8"))
    if count != 1:
        raise SystemExit("matplotlib's defaults have no font.family to replace")
    defaults.write_text(text, "utf-8")


def cache_fonts() -> None:
    """Write the font cache, with the fallbacks standing in for every weight.

    They exist in one weight; for any other, matplotlib would warn of each bold title, whatever its language.
    """
    manager = font_manager.fontManager
    manager.ttflist += [
        dataclasses.replace(font, weight=weight)
        for font in manager.ttflist
        if font.name in FALLBACKS
        for weight in range(100, 1000, 100)
        if weight != font.weight
    ]
    (cache,) = Path(matplotlib.get_cachedir()).glob("fontlist-*.json")
    font_manager.json_dump(manager, cache)


if any(font.name in FALLBACKS for font in font_manager.fontManager.ttflist):
    use_fallbacks()
    cache_fonts()
