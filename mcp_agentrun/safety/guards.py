"""The guards, which apply in every profile: the input must be valid text, and small enough to be parsed."""

from __future__ import annotations

import ast
import re
import sys
import warnings

from .verdict import Finding

__all__ = ["MAX_BYTES", "MAX_DEPTH", "MAX_NODES", "GuardError", "parse", "too_deep", "too_large"]

MAX_BYTES = 512 << 10
MAX_DEPTH = 400
MAX_NODES = 40_000  # syntax elements other than constants, of which there may be four times as many
_TOKEN = re.compile(  # comments, strings (terminated or not), numbers and commas are not counted
    r"""#[^\r\n]*|(?:'{3}|"{3})(?:.*?(?:'{3}|"{3})|.*)|'(?:\\.|[^'\\\n])*'?|"(?:\\.|[^"\\\n])*"?|\d[\w.]*"""
    r"""|([^\W\d]\w*|[^\w\s,]|\n)""",
    re.DOTALL,
)
_COOKIE = re.compile(r"^[ \t\f]*#.*?coding[:=][ \t]*([-\w.]+)")
_UTF_8 = frozenset(("utf-8", "utf8", "utf-8-sig", "utf_8", "u8", "utf", "cp65001", "us-ascii", "ascii"))


class GuardError(Exception):
    """The input is refused; `finding` says why."""

    def __init__(self, rule: str, reason: str, remedy: str, line: int = 0, column: int = 0) -> None:
        super().__init__(reason)
        self.finding = Finding(rule, line, column, reason, remedy)


def parse(code: str) -> ast.Module:
    """Parse *code*.

    :raises GuardError: the input is refused.
    :raises SyntaxError: it is not valid Python.
    """
    _require_text(code)
    # Parsing takes memory and, before Python 3.12, time that is quadratic in the fields of an f-string.
    if len(code) > 1 << 15 and sum(bool(each[1]) for each in _TOKEN.finditer(code)) > 1.75 * MAX_NODES:
        raise too_large()
    if sys.version_info < (3, 12) and code.count("{") * len(code) > 1 << 29 and re.search("[fF][rR]?['\"]", code):
        raise too_large()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(code, "<code>")
    except (MemoryError, RecursionError):
        raise too_large() if len(code) > 1 << 15 else too_deep() from None
    except SyntaxError as error:
        if "too many nested" in str(error) or "too complex" in str(error):
            raise too_deep() from None
        raise
    except ValueError as error:  # e.g. an integer literal with more digits than Python converts
        raise SyntaxError(str(error)) from None


def _require_text(code: str) -> None:
    if len(code) > MAX_BYTES:
        raise GuardError(
            "size", f"The code has more than {MAX_BYTES >> 10} KiB.", "Split it over several calls or modules."
        )
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


def too_large() -> GuardError:
    reason = f"The code has more than {MAX_NODES} syntax elements."
    return GuardError(
        "nodes", reason, "Split it over several calls or modules; put data into one string and parse that."
    )


def too_deep(node: ast.AST | None = None) -> GuardError:
    line, column = getattr(node, "lineno", 0), getattr(node, "col_offset", -1) + 1
    return GuardError("nesting", "The code is nested too deeply.", "Write it in several statements.", line, column)
