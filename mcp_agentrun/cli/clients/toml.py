"""Edits of TOML that leave everything but one table as it is."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, time
from itertools import pairwise
from typing import Any, cast

from .errors import UnreadableError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # pyright: ignore

__all__ = ["parse", "put", "remove"]

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_HEADER = re.compile(r"\s*\[")
_PLACE = re.compile(r"(.*) \(at (?:line (\d+), column (\d+)|end of document)\)", re.DOTALL)


def parse(text: str) -> dict[str, Any]:
    """Parse *text*.

    :raises UnreadableError: it is not valid.
    """
    try:
        return cast("dict[str, Any]", tomllib.loads(text))  # pyright: ignore
    except tomllib.TOMLDecodeError as error:  # pyright: ignore
        match = _PLACE.fullmatch(str(error))  # pyright: ignore
        at = len(text)
        if match and match[2]:
            at = sum(map(len, text.splitlines(keepends=True)[: int(match[2]) - 1])) + int(match[3]) - 1
        problem = match[1] if match else str(error)  # pyright: ignore
        raise UnreadableError(text, at, problem[0].lower() + problem[1:]) from None


def put(text: str, path: Sequence[str], value: Mapping[str, Any]) -> str:
    """Return *text* with *value* as the table at *path*, which is replaced if it exists and otherwise added last."""
    lines = text.splitlines(keepends=True)
    spans = list(_spans(lines, path))
    newline = "\r\n" if "\r\n" in text else "\n"
    table = [line + newline for line in _table(path, value)]
    if not spans:
        lines = lines if text.endswith("\n") or not text else [text + newline]
        return "".join([*lines, *([newline] if lines else []), *table])
    start, end = spans[0]
    _delete(lines, spans[1:])
    del lines[start:end]
    return "".join([*lines[:start], *table, *lines[start:]])


def remove(text: str, path: Sequence[str]) -> str:
    """Return *text* without the table at *path* and those below it."""
    lines = text.splitlines(keepends=True)
    _delete(lines, list(_spans(lines, path)))
    return "".join(lines)


def _delete(lines: list[str], spans: Sequence[tuple[int, int]]) -> None:
    """Delete tables, each with the empty line that sets it apart from what stands before it."""
    for start, end in reversed(spans):
        above = 1 if start and not lines[start - 1].strip() and (end == len(lines) or not lines[end].strip()) else 0
        del lines[start - above : end]


def _spans(lines: Sequence[str], path: Sequence[str]) -> Iterator[tuple[int, int]]:
    """First line of each table at *path* or below it, and the line after its last, without comments that follow."""
    names = (rf"(?:{re.escape(name)}|([\"']){re.escape(name)}\{number})" for number, name in enumerate(path, 1))
    header = re.compile(r"\s*\[\s*" + r"\s*\.\s*".join(names) + r"\s*[.\]]")
    headers = [number for number, line in enumerate(lines) if _HEADER.match(line)]
    for start, following in pairwise([*headers, len(lines)]):
        if header.match(lines[start]):
            end = following
            while end > start + 1 and (not lines[end - 1].strip() or lines[end - 1].lstrip().startswith("#")):
                end -= 1
            yield start, end


def _table(path: Sequence[str], value: Mapping[str, Any]) -> Iterator[str]:
    yield f"[{'.'.join(map(_key, path))}]"
    for name, each in value.items():
        if not isinstance(each, Mapping):
            yield f"{_key(name)} = {_value(each)}"
    for name, each in value.items():
        if isinstance(each, Mapping):
            yield ""
            yield from _table([*path, name], cast("Mapping[str, Any]", each))


def _key(name: str) -> str:
    return name if _BARE.fullmatch(name) else _value(name)


def _value(value: object) -> str:
    """Render *value* in one line. TOML writes strings, numbers and truth values as JSON does, but for one character."""
    if isinstance(value, Mapping):
        fields = cast("Mapping[str, object]", value)
        return "{" + ", ".join(f"{_key(name)} = {_value(each)}" for name, each in fields.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_value, cast("Sequence[object]", value))) + "]"
    if isinstance(value, (date, time)):
        return value.isoformat()
    if isinstance(value, float):  # infinity, for instance
        return repr(value)
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
