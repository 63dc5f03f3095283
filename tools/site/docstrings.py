"""An extension of Griffe that turns the docstrings' reStructuredText into the Markdown that the site shows."""

from __future__ import annotations

import re
from typing import Any

import griffe

__all__ = ["LiteralBlocks"]


class LiteralBlocks(griffe.Extension):
    """Ends the lines before code with one colon; the indented code below is the same in both languages."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = re.sub(r"::$", ":", obj.docstring.value, flags=re.MULTILINE)
