"""Edits of JSON, with comments and trailing commas or without, that leave everything but one entry as it is."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .errors import UnreadableError, nested

__all__ = ["parse", "put", "remove"]

_SPACE = re.compile(r"[ \t\r\n]*")
_COMMENTED_SPACE = re.compile(r"(?:[ \t\r\n]|//[^\n]*|/\*.*?\*/)*", re.DOTALL)
_REST_OF_LINE = re.compile(r"[ \t]*(?:/\*[^\n]*?\*/[ \t]*)*(?://[^\n\r]*)?")
_INDENT = re.compile(r"[ \t]*")


@dataclass
class _Value:
    start: int
    end: int = 0
    data: Any = None
    members: list[_Member] | None = None
    """Of an object."""

    def find(self, key: str) -> _Member | None:
        return next((each for each in reversed(self.members or []) if each.key == key), None)


@dataclass
class _Member:
    key: str
    start: int
    value: _Value = field(repr=False)
    comma: int | None = None
    """Offset of the comma after it."""

    @property
    def end(self) -> int:
        return self.value.end if self.comma is None else self.comma + 1


class _Parser:
    def __init__(self, text: str, *, relaxed: bool) -> None:
        self._text = text
        self._at = 0
        self._space = _COMMENTED_SPACE if relaxed else _SPACE
        self._relaxed = relaxed
        self._decoder = json.JSONDecoder()

    def document(self) -> _Value:
        value = self._value()
        if self._next():
            raise self._error("unexpected text after the end")
        if value.members is None:
            raise UnreadableError(self._text, 0, "expected an object")
        return value

    def _next(self) -> str:
        """The next character that is neither space nor comment; empty at the end."""
        match = self._space.match(self._text, self._at)
        self._at = match.end() if match else self._at
        return self._text[self._at : self._at + 1]

    def _error(self, problem: str) -> UnreadableError:
        return UnreadableError(self._text, self._at, problem)

    def _value(self) -> _Value:
        opening = self._next()
        value = _Value(self._at)
        if opening == "{":
            value.members = self._members()
            value.data = {each.key: each.value.data for each in value.members}
        else:
            value.data = self._items() if opening == "[" else self._scalar()
        value.end = self._at
        return value

    def _members(self) -> list[_Member]:
        members: list[_Member] = []
        self._at += 1
        while (char := self._next()) != "}":
            if members and members[-1].comma is None:
                raise self._error("expected a comma")
            if char != '"':
                raise self._error("expected a key in double quotes")
            start, key = self._at, self._scalar()
            if self._next() != ":":
                raise self._error("expected a colon")
            self._at += 1
            members.append(_Member(key, start, self._value(), self._comma()))
        self._end(members[-1].comma if members else None)
        return members

    def _items(self) -> list[Any]:
        items: list[Any] = []
        comma = None
        self._at += 1
        while self._next() != "]":
            if items and comma is None:
                raise self._error("expected a comma")
            items.append(self._value().data)
            comma = self._comma()
        self._end(comma)
        return items

    def _comma(self) -> int | None:
        if self._next() != ",":
            return None
        self._at += 1
        return self._at - 1

    def _end(self, last_comma: int | None) -> None:
        if last_comma is not None and not self._relaxed:
            raise self._error("unexpected comma before this")
        self._at += 1

    def _scalar(self) -> Any:
        try:
            data, self._at = self._decoder.raw_decode(self._text, self._at)
        except json.JSONDecodeError as error:
            raise UnreadableError(self._text, error.pos, error.msg[0].lower() + error.msg[1:]) from None
        return data


def parse(text: str, *, relaxed: bool = True) -> dict[str, Any]:
    """The data of *text*; an empty file is an empty object.

    :param relaxed: accept comments and trailing commas.
    :raises UnreadableError: it is not valid.
    """
    return _Parser(text, relaxed=relaxed).document().data if text.strip() else {}


def put(text: str, path: Sequence[str], value: Mapping[str, Any]) -> str:
    """*text* with *value* at *path*, which is replaced if it exists and otherwise becomes the last member."""
    if not text.strip():
        return json.dumps(nested(path, value), indent=2, ensure_ascii=False) + "\n"
    node = root = _Parser(text, relaxed=True).document()
    unit = _member_indent(text, root, "", "  ") or "  "
    for depth, key in enumerate(path):
        if node.members is None:
            raise UnreadableError(text, node.start, f"{'.'.join(path[:depth])} is not an object")
        member = node.find(key)
        if member is None:
            return _insert(text, node, key, nested(path[depth + 1 :], value), unit)
        node = member.value
    indent = _line_indent(text, node.start)
    return text[: node.start] + _rendered(text, value, indent, unit) + text[node.end :]


def remove(text: str, path: Sequence[str]) -> str:
    """*text* without the member at *path*, which must exist."""
    node = _Parser(text, relaxed=True).document()
    for key in path[:-1]:
        member = node.find(key)
        assert member is not None
        node = member.value
    assert node.members is not None
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


def _insert(text: str, node: _Value, key: str, value: Mapping[str, Any], unit: str) -> str:
    members = node.members or []
    last = members[-1] if members else None
    at = node.start + 1 if last is None else last.end
    if "\n" not in (text[node.start : node.end] if members else text.strip()):
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


def _member_indent(text: str, node: _Value, base: str, unit: str) -> str:
    """The indentation of the members of *node*, as they have it or as they should."""
    for member in node.members or ():
        indent = _line_indent(text, member.start)
        if text[: member.start].endswith("\n" + indent):
            return indent
    return base + unit
