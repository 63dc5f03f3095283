"""The guards, which hold in every profile: the input must be text, and small enough to be judged and compiled."""

from __future__ import annotations

import ast
import re
import sys
import warnings

from .verdict import Finding

__all__ = ["MAX_BYTES", "MAX_DEPTH", "MAX_NODES", "GuardError", "parse", "too_deep", "too_large"]

MAX_BYTES = 512 << 10
MAX_NODES = 40_000
"""Syntax elements, constants excluded: of those there may be four times as many."""

MAX_DEPTH = 400

_UNCOUNTED = 1 << 15
"""Code up to this many characters is small enough to be parsed without counting its tokens."""

_MAX_TOKENS = 2 * MAX_NODES
_MAX_FIELD_WORK = 1 << 29 if sys.version_info < (3, 12) else 1 << 62
"""Before Python 3.12, the parser reads an f-string again for each of its fields."""

_SPLIT = "Split it over several calls; put data into one string and parse that."
_TOKEN = re.compile(
    r"""#[^\r\n]*|(?:\b([rbuRBUfF]{1,2}))?(?:'''.*?'''|\"""(?:.*?)\"""|'(?:\\.|[^'\\\n])*'|"(?:\\.|[^"\\\n])*")"""
    r"""|[\w.]+|[^\w\s]""",
    re.DOTALL,
)
_COOKIE = re.compile(r"^[ \t\f]*#.*?coding[:=][ \t]*([-\w.]+)")
_UTF_8 = frozenset(("utf-8", "utf8", "utf-8-sig", "utf_8", "u8", "utf", "cp65001", "us-ascii", "ascii"))


class GuardError(Exception):
    """The input is refused as it is; `finding` says why."""

    def __init__(self, rule: str, reason: str, remedy: str, line: int = 0, column: int = 0) -> None:
        super().__init__(reason)
        self.finding = Finding(rule, line, column, reason, remedy)


def parse(code: str) -> ast.Module:
    """Parse *code* with the Python that runs this.

    :raises GuardError: the input can't be judged.
    :raises SyntaxError: it is not Python.
    """
    _require_text(code)
    _require_size(code)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(code, "<code>")
    except (RecursionError, MemoryError):
        raise too_deep() from None
    except SyntaxError as error:
        if "too many nested" in str(error) or "too complex" in str(error):
            raise too_deep() from None
        raise
    except ValueError as error:  # such as an integer literal of more digits than Python converts
        raise SyntaxError(str(error)) from None


def _require_text(code: str) -> None:
    if len(code) > MAX_BYTES:
        raise GuardError("size", f"The code has more than {MAX_BYTES >> 10} KiB.", "Split it over several calls.")
    if "\0" in code:
        raise GuardError("nul", "The code contains a NUL character.", "Write \\0 inside a string instead.")
    try:
        code.encode()
    except UnicodeEncodeError as error:
        reason = f"The code contains a lone surrogate (U+{ord(code[error.start]):04X}), which is not valid Unicode."
        raise GuardError("unicode", reason, "Write it as an escape sequence inside a string.") from None
    for number, line in enumerate(code[:4096].splitlines()[:2], 1):
        cookie = _COOKIE.match(line)
        if cookie is not None and cookie[1].lower() not in _UTF_8:
            reason = f"The code declares the encoding {cookie[1][:40]!r}, but it is Unicode text."
            raise GuardError("cookie", reason, "Remove the coding comment.", number, 1)


def _require_size(code: str) -> None:
    """Refuse what is certainly too large before parsing it."""
    if len(code) <= _UNCOUNTED:
        return
    tokens = fields = 0
    for found in _TOKEN.finditer(code):
        tokens += not found[0].startswith("#")
        if found[1] is not None and "f" in found[1].lower():
            braces = found[0].count("{")
            tokens += 2 * braces
            fields += braces * len(found[0])
        if tokens > _MAX_TOKENS:
            raise too_large()
        if fields > _MAX_FIELD_WORK:
            reason = "The code has f-strings with too many fields."
            raise GuardError("nodes", reason, "Split them, or use str.format.")


def too_large() -> GuardError:
    return GuardError("nodes", f"The code has more than {MAX_NODES} syntax elements.", _SPLIT)


def too_deep(node: ast.AST | None = None) -> GuardError:
    line, column = getattr(node, "lineno", 0), getattr(node, "col_offset", -1) + 1
    return GuardError("nesting", "The code is nested too deeply.", "Write it in several statements.", line, column)
