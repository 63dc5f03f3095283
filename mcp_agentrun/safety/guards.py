"""What is refused in every profile, because it is no text, or too much of it, to be judged or executed."""

from __future__ import annotations

import ast
import re
import sys
import warnings

__all__ = ["MAX_BYTES", "MAX_DEPTH", "MAX_NODES", "GuardError", "Survey", "parse", "survey"]

MAX_BYTES = 2 << 20
"""The most that a server can be set to accept."""

MAX_NODES = 40_000
"""Constants, such as the numbers in a table, not counted: of these there may be four times as many."""

MAX_DEPTH = 400
"""Levels of the syntax tree. Python's own compiler gives up at some thousand."""

_SPLIT = "Split it over several calls; put data into one string and parse that."
_SMALL = 1 << 16
"""Characters of code whose tokens are not counted."""

_MOST_TOKENS = 2 * MAX_NODES
_MOST_OFFSETS = 1 << 29 if sys.version_info < (3, 12) else 1 << 62
"""Before Python 3.12, the parser goes through an f-string once more for each of its fields."""

_SURROGATE = re.compile("[\ud800-\udfff]")
_COOKIE = re.compile(r"^[ \t\f]*#.*?coding[:=][ \t]*([-\w.]+)")
_UTF_8 = frozenset(("utf-8", "utf8", "utf-8-sig", "utf_8", "u8", "utf", "cp65001", "us-ascii", "ascii"))
_FIELDS: dict[type[ast.AST], tuple[str, ...]] = {}
_NO_CHILDREN = frozenset(("ctx", "op", "ops", "kind", "type_comment", "type_ignores"))


class GuardError(Exception):
    """The input is refused as it is.

    :param rule: id of the guard.
    """

    def __init__(self, rule: str, reason: str, remedy: str, line: int = 0, column: int = 0) -> None:
        super().__init__(reason)
        self.rule = rule
        self.reason = reason
        self.remedy = remedy
        self.line = line
        self.column = column


class Survey:
    """A syntax tree's measures, and what it imports."""

    __slots__ = ("imports", "nodes")

    def __init__(self, nodes: int, imports: set[str]) -> None:
        self.nodes = nodes
        self.imports = imports


def parse(code: str) -> ast.Module:
    """The syntax tree of *code*, by the Python that runs this.

    :raises GuardError: the input can't be judged.
    :raises SyntaxError: it is no Python.
    """
    _require_text(code)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return compile(code, "<code>", "exec", ast.PyCF_ONLY_AST, dont_inherit=True)  # pyright: ignore
    except (RecursionError, MemoryError):
        raise _too_deep() from None
    except SyntaxError as error:
        if "too many nested" in str(error) or "too complex" in str(error):
            raise _too_deep() from None
        raise
    except ValueError as error:  # such as an integer literal of more digits than Python converts
        raise SyntaxError(str(error)) from None


def _require_text(code: str) -> None:
    if len(code) > MAX_BYTES:
        raise GuardError("size", f"The code has more than {MAX_BYTES >> 10} KiB.", "Split it over several calls.")
    if "\0" in code:
        raise GuardError("nul", "The code contains a NUL character.", "Write \\0 inside a string instead.")
    if not code.isascii():
        found = _SURROGATE.search(code)
        if found is not None:
            raise GuardError(
                "unicode",
                f"The code contains a lone surrogate (U+{ord(found[0]):04X}), which is no valid Unicode.",
                "Write it as an escape sequence inside a string.",
            )
    if len(code) > _SMALL or code.count("{") * len(code) > _MOST_OFFSETS:
        _require_measure(code)
    if "coding" in code[:4096]:
        for number, line in enumerate(code[:4096].splitlines()[:2], 1):
            cookie = _COOKIE.match(line)
            if cookie is not None and cookie[1].lower() not in _UTF_8:
                raise GuardError(
                    "cookie",
                    f"The code declares the encoding {cookie[1][:40]!r}, but it is Unicode text.",
                    "Remove the coding comment.",
                    number,
                    1,
                )


def _require_measure(code: str) -> None:
    """Refuse what is certainly too large without parsing it."""
    from .scanner import has_more_tokens, measure  # which most code is too small to need

    if not has_more_tokens(code, _MOST_TOKENS) and code.count("{") * len(code) <= _MOST_OFFSETS:
        return
    tokens, offsets = measure(code, tokens=_MOST_TOKENS, offsets=_MOST_OFFSETS)
    if tokens > _MOST_TOKENS:
        raise GuardError("nodes", f"The code has more than {MAX_NODES} syntax elements.", _SPLIT)
    if offsets > _MOST_OFFSETS:
        raise GuardError("nodes", "The code has f-strings with too many fields.", "Split them, or use str.format.")


def survey(tree: ast.AST) -> Survey:
    """Measure *tree*, level by level, so that no nesting can exhaust the stack.

    :raises GuardError: it is too large or too deep.
    """
    level: list[ast.AST] = [tree]
    nodes = constants = depth = 0
    imports: set[str] = set()
    while level:
        nodes += len(level)
        depth += 1
        if nodes > MAX_NODES or constants > 4 * MAX_NODES:
            raise GuardError(
                "nodes",
                f"The code has more than {MAX_NODES} syntax elements.",
                _SPLIT,
            )
        if depth > MAX_DEPTH:
            raise _too_deep(level[0])
        following: list[ast.AST] = []
        for node in level:
            kind = node.__class__
            if kind is ast.Import:
                imports.update(alias.name.partition(".")[0] for alias in node.names)  # pyright: ignore
            elif kind is ast.ImportFrom and not node.level and node.module:  # pyright: ignore
                imports.add(node.module.partition(".")[0])  # pyright: ignore
            fields = _FIELDS.get(kind)
            if fields is None:
                fields = _FIELDS[kind] = tuple(name for name in kind._fields if name not in _NO_CHILDREN)
            for name in fields:
                value = getattr(node, name, None)
                if value.__class__ is list:
                    for item in value:  # pyright: ignore
                        if item.__class__ is ast.Constant:
                            constants += 1
                        elif isinstance(item, ast.AST):
                            following.append(item)
                elif value.__class__ is ast.Constant:
                    constants += 1
                elif isinstance(value, ast.AST):
                    following.append(value)
        level = following
    return Survey(nodes, imports)


def _too_deep(node: ast.AST | None = None) -> GuardError:
    return GuardError(
        "nesting",
        "The code is nested too deeply.",
        "Write it in several statements.",
        getattr(node, "lineno", 0),
        getattr(node, "col_offset", -1) + 1,
    )
