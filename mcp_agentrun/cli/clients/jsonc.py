"""Edits of JSON, with comments and trailing commas or without, that leave everything but one entry as it is.

The text is also kept with white space in place of comments and trailing commas, which has the same offsets and is JSON.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, cast

from .errors import UnreadableError, nested

__all__ = ["parse", "put", "remove"]

_STRING = r'"(?:[^"\\]|\\.)*"'
_COMMENTS = re.compile(rf"{_STRING}|//[^\n]*|/\*.*?\*/", re.DOTALL)
_TRAILING_COMMAS = re.compile(rf"{_STRING}|,(?=\s*[\]}}])", re.DOTALL)
_SPACE = re.compile(r"[ \t\r\n]*")
_REST_OF_LINE = re.compile(r"[ \t]*(?:/\*[^\n]*?\*/[ \t]*)*(?://[^\n\r]*)?")
_INDENT = re.compile(r"[ \t]*")

_decode = json.JSONDecoder().raw_decode


class _Member(NamedTuple):
    """A member of an object: offsets of its key, its value, the end of that, and the comma after it."""

    key: str
    start: int
    value: int
    value_end: int
    comma: int | None

    @property
    def end(self) -> int:
        return self.value_end if self.comma is None else self.comma + 1


class _Object(NamedTuple):
    start: int
    end: int
    members: list[_Member]

    def find(self, key: str) -> _Member | None:
        return next((each for each in reversed(self.members) if each.key == key), None)


class _Document:
    """A valid text, to be looked at."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._uncommented = _COMMENTS.sub(_blank, text)
        self._json = _TRAILING_COMMAS.sub(_blank, self._uncommented)
        self.root = self._object(self._skip_space(0))

    def descend(self, path: Sequence[str]) -> tuple[_Object, int]:
        """The object at *path*, or the last one on the way to it, and how many names lead to that."""
        node = self.root
        for depth, key in enumerate(path):
            member = node.find(key)
            if member is None:
                return node, depth
            if self._text[member.value] != "{":
                raise UnreadableError(self._text, member.value, f"{'.'.join(path[: depth + 1])} is not an object")
            node = self._object(member.value)
        return node, len(path)

    def _object(self, start: int) -> _Object:
        _, end = _decode(self._json, start)
        return _Object(start, end, list(self._members(start + 1)))

    def _members(self, at: int) -> Iterator[_Member]:
        while self._uncommented[start := self._skip_space(at)] == '"':
            key, key_end = _decode(self._json, start)
            value = self._skip_space(self._skip_space(key_end) + 1)
            _, end = _decode(self._json, value)
            at = self._skip_space(end)
            comma = at if self._uncommented[at] == "," else None
            yield _Member(key, start, value, end, comma)
            at += comma is not None

    def _skip_space(self, at: int) -> int:
        match = _SPACE.match(self._uncommented, at)
        assert match is not None
        return match.end()


def _blank(found: re.Match[str]) -> str:
    return found[0] if found[0].startswith('"') else re.sub(r"[^\n]", " ", found[0])


def parse(text: str, *, relaxed: bool = True) -> dict[str, Any]:
    """The data of *text*; an empty file is an empty object.

    :param relaxed: accept comments and trailing commas.
    :raises UnreadableError: it is not valid.
    """
    if not text.strip():
        return {}
    try:
        data = json.loads(_TRAILING_COMMAS.sub(_blank, _COMMENTS.sub(_blank, text)) if relaxed else text)
    except json.JSONDecodeError as error:
        raise UnreadableError(text, error.pos, error.msg[0].lower() + error.msg[1:]) from None
    if not isinstance(data, dict):
        raise UnreadableError(text, 0, "expected an object")
    return cast("dict[str, Any]", data)


def put(text: str, path: Sequence[str], value: Mapping[str, Any]) -> str:
    """*text* with *value* at *path*, which is replaced if it exists and otherwise becomes the last member."""
    if not text.strip():
        return json.dumps(nested(path, value), indent=2, ensure_ascii=False) + "\n"
    document = _Document(text)
    unit = _member_indent(text, document.root, "", "  ") or "  "
    node, depth = document.descend(path[:-1])
    member = node.find(path[depth])
    if member is None:
        return _insert(text, node, path[depth], nested(path[depth + 1 :], value), unit)
    indent = _line_indent(text, member.value)
    return text[: member.value] + _rendered(text, value, indent, unit) + text[member.value_end :]


def remove(text: str, path: Sequence[str]) -> str:
    """*text* without the member at *path*, which must exist."""
    node, _ = _Document(text).descend(path[:-1])
    member = node.find(path[-1])
    assert member is not None
    index = node.members.index(member)
    if len(node.members) == 1 and not (text[node.start + 1 : member.start] + text[member.end : node.end - 1]).strip():
        return text[: node.start] + "{}" + text[node.end :]
    start, end = member.start, _end_of_line(text, member.end)
    before = text[:start].rstrip(" \t")
    if before.endswith("\n"):
        start = len(before.removesuffix("\n").removesuffix("\r"))
    else:
        start, end = len(before), member.end
    left = text[:start]
    comma = node.members[index - 1].comma if index else None
    if member.comma is None and comma is not None:
        left = left[:comma] + left[comma + 1 :]
    return left + text[end:]


def _insert(text: str, node: _Object, key: str, value: Mapping[str, Any], unit: str) -> str:
    last = node.members[-1] if node.members else None
    at = node.start + 1 if last is None else last.end
    if "\n" not in (text[node.start : node.end] if last is not None else text.strip()):
        entry = f"{json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}"
        if last is not None:
            entry = f", {entry}" if last.comma is None else f" {entry},"
        return text[:at] + entry + text[at:]
    newline = _newline(text)
    base = _line_indent(text, node.start)
    indent = _member_indent(text, node, base, unit)
    entry = f"{newline}{indent}{json.dumps(key)}: {_rendered(text, value, indent, unit)}"
    position = _end_of_line(text, at)
    if last is not None:
        comma = "," if last.comma is None else ""
        tail = "," if last.comma is not None else ""
        return text[:at] + comma + text[at:position] + entry + tail + text[position:]
    closing = "" if "\n" in text[position : node.end] else newline + base
    return text[:position] + entry + closing + text[position:].lstrip(" \t" if closing else "")


def _rendered(text: str, value: Mapping[str, Any], indent: str, unit: str) -> str:
    return json.dumps(value, indent=unit, ensure_ascii=False).replace("\n", _newline(text) + indent)


def _newline(text: str) -> str:
    return "\r\n" if "\r\n" in text else "\n"


def _end_of_line(text: str, at: int) -> int:
    """Where the spaces and comments end that follow *at* in its line."""
    match = _REST_OF_LINE.match(text, at)
    assert match is not None
    return match.end() if match[0].strip() else at


def _line_indent(text: str, at: int) -> str:
    match = _INDENT.match(text, text.rfind("\n", 0, at) + 1, at)
    return match[0] if match else ""


def _member_indent(text: str, node: _Object, base: str, unit: str) -> str:
    """The indentation of the members of *node*, as they have it or as they should."""
    for member in node.members:
        indent = _line_indent(text, member.start)
        if text[: member.start].endswith("\n" + indent):
            return indent
    return base + unit
