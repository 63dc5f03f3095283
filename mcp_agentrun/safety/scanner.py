"""The lexical scanner: how much a text is, before anything is made of it.

A syntax tree takes a hundred times the memory of its text, and some parsers more than linear time for f-strings. So
what is certainly too much is found by counting tokens, for which nothing has to be kept.
"""

from __future__ import annotations

import itertools
import re
from typing import NamedTuple

__all__ = ["Measure", "has_more_tokens", "measure"]

_TOKEN = re.compile(r"[^\W\d]\w*|[^\w\s,]|\n(?=\S)")
"""Numbers and commas are left out, since tables of data are full of them."""

_OUTSIDE = re.compile(
    r"""
    (?: \#[^\n]* | \\\n? )
  | (?: [rR]?[fFtT] | [fFtT][rR] ) (?P<opening> \"\"\" | ''' | ["'] )
  | [rRbBuU]{0,2} (?P<quote> \"\"\" | ''' | ["'] )
  | (?P<bracket> [()\[\]{}:] )
  | (?P<token> [^\W\d]\w* | [^\w\s,] | \n(?=\S) )
    """,
    re.VERBOSE,
)
# What is not closed ends with the line or the text: it is no Python then, and nothing is gone through twice.
_LITERAL = {
    '"': re.compile(r'[^"\\\n]*(?:\\.[^"\\\n]*)*(?:"|\n|\\?\Z)', re.DOTALL),
    "'": re.compile(r"[^'\\\n]*(?:\\.[^'\\\n]*)*(?:'|\n|\\?\Z)", re.DOTALL),
    '"""': re.compile(r'[^"\\]*(?:(?:\\.|"(?!""))[^"\\]*)*(?:"""|\\?\Z)', re.DOTALL),
    "'''": re.compile(r"[^'\\]*(?:(?:\\.|'(?!''))[^'\\]*)*(?:'''|\\?\Z)", re.DOTALL),
}
# The text between the fields of an f-string.
_BETWEEN = {
    '"': re.compile(r'[^"{}\\\n]*(?:(?:\\[^{}]|\{\{|\}\})[^"{}\\\n]*)*(?:\\?[{}]|"|\n|\\?\Z)', re.DOTALL),
    "'": re.compile(r"[^'{}\\\n]*(?:(?:\\[^{}]|\{\{|\}\})[^'{}\\\n]*)*(?:\\?[{}]|'|\n|\\?\Z)", re.DOTALL),
    '"""': re.compile(r'[^"{}\\]*(?:(?:\\[^{}]|\{\{|\}\}|"(?!""))[^"{}\\]*)*(?:\\?[{}]|"""|\\?\Z)', re.DOTALL),
    "'''": re.compile(r"[^'{}\\]*(?:(?:\\[^{}]|\{\{|\}\}|'(?!''))[^'{}\\]*)*(?:\\?[{}]|'''|\\?\Z)", re.DOTALL),
}


class Measure(NamedTuple):
    """Of a text, or of its beginning where that was more than asked for."""

    tokens: int
    """Names, operators and signs of code, in the fields of f-strings too; not what stands in texts and comments."""
    offsets: int
    """How far into its f-string each field begins, in characters, all added up."""


class _Frame:
    """An f-string whose end is ahead, or a field of one."""

    __slots__ = ("depth", "in_text", "quote", "start")

    def __init__(self, quote: str, start: int, *, in_text: bool) -> None:
        self.quote = quote
        self.start = start
        self.in_text = in_text
        """At its text or at the text of a format, not at the expression of a field."""
        self.depth = 0
        """Brackets that are open in the expression."""


def has_more_tokens(code: str, most: int) -> bool:
    """Whether *code*, what stands in its texts and comments included, has more than *most* tokens."""
    return next(itertools.islice(_TOKEN.finditer(code), most, None), None) is not None


def measure(code: str, *, tokens: int, offsets: int) -> Measure:
    """Measure *code*, until it has more than so many *tokens* or *offsets*."""
    position = counted = sum_of_offsets = 0
    frames: list[_Frame] = []
    while position < len(code) and counted <= tokens and sum_of_offsets <= offsets:
        frame = frames[-1] if frames else None
        if frame is not None and frame.in_text:
            match = _BETWEEN[frame.quote].match(code, position)
            assert match is not None
            position = match.end()
            ending = code[position - 1 : position]
            if ending == "{":
                counted += 1
                sum_of_offsets += position - frame.start
                frames.append(_Frame(frame.quote, frame.start, in_text=False))
            elif ending != "}":
                while frames.pop().depth >= 0:  # the literal itself, and fields of it that were not closed
                    pass
            elif frame.depth >= 0:
                frames.pop()  # the end of a format is that of its field
            continue
        match = _OUTSIDE.search(code, position)
        if match is None:
            break
        position = match.end()
        if match["opening"]:
            counted += 1
            opened = _Frame(match["opening"], position, in_text=True)
            opened.depth = -1
            frames.append(opened)
        elif match["quote"]:
            closing = _LITERAL[match["quote"]].match(code, position)
            assert closing is not None
            position = closing.end()
        elif match["bracket"]:
            counted += 1
            if frame is not None:
                sign = match[0]
                if sign in "([{":
                    frame.depth += 1
                elif sign != ":" and frame.depth:
                    frame.depth -= 1
                elif sign == "}":
                    frames.pop()
                elif sign == ":" and not frame.depth:
                    frame.in_text = True
        elif match["token"]:
            counted += 1
    return Measure(counted, sum_of_offsets)
