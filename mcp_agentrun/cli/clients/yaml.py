"""Edits of YAML that leave everything but one entry as it is. The library only finds the places."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

from ...errors import AgentRunError, extra_advice
from .errors import UnreadableError, nested

__all__ = ["parse", "put", "remove"]


def parse(text: str) -> dict[str, Any]:
    """Parse *text*; an empty file is an empty mapping.

    :raises UnreadableError: it is not valid.
    """
    data: object = _load(text, "load") if text.strip() else None
    if data is not None and not isinstance(data, dict):
        raise UnreadableError(text, 0, "expected a mapping")
    return cast("dict[str, Any]", data or {})


def put(text: str, path: Sequence[str], value: Mapping[str, Any]) -> str:
    """Return *text* with *value* at *path*, which is replaced if it exists and otherwise added first in its mapping."""
    newline = "\r\n" if "\r\n" in text else "\n"
    if _find(text, path) is not None:
        text = remove(text, path)
    for depth in range(len(path) - 1, 0, -1):
        found = _find(text, path[:depth])
        if found is None:
            continue
        key, node = found
        entry = nested(path[depth:], value)
        column = key.start_mark.column + 2
        is_empty = node.tag.endswith(":null") or (node.tag.endswith(":map") and not node.value)
        start, end = node.start_mark.index, node.end_mark.index
        if is_empty and text[start:end].strip():  # "{}", "null" or "~"
            block = _rendered(entry, column, newline).rstrip("\r\n")
            return text[:start].rstrip(" ") + newline + block + text[end:]
        if not is_empty and not node.tag.endswith(":map"):
            raise UnreadableError(text, start, f"{'.'.join(path[:depth])} is not a mapping")
        if not is_empty and node.flow_style:
            return text[: start + 1] + json.dumps(entry, ensure_ascii=False)[1:-1] + ", " + text[start + 1 :]
        # Insert right after the line of the key: the end of a mapping is harder to find.
        text += "" if "\n" in text[key.end_mark.index :] else newline
        at = text.index("\n", key.end_mark.index) + 1
        if not is_empty:
            column = node.value[0][0].start_mark.column
        return text[:at] + _rendered(entry, column, newline) + text[at:]
    text += "" if text.endswith("\n") or not text else newline
    return text + _rendered(nested(path, value), 0, newline)


def remove(text: str, path: Sequence[str]) -> str:
    """Return *text* without the entry at *path*, which must exist."""
    parent, found = _find(text, path[:-1]), _find(text, path)
    assert parent is not None
    assert found is not None
    node = parent[1]
    if node.flow_style:
        pairs = node.value
        index = next(number for number, (key, _) in enumerate(pairs) if key.value == path[-1])
        if len(pairs) == 1:
            return text[: node.start_mark.index] + "{}" + text[node.end_mark.index :]
        start = pairs[index][0].start_mark.index if index == 0 else pairs[index - 1][1].end_mark.index
        end = pairs[1][0].start_mark.index if index == 0 else pairs[index][1].end_mark.index
        return text[:start] + text[end:]
    lines = text.splitlines(keepends=True)
    start, end = found[0].start_mark.line, _last_line(found[1]) + 1
    if len(node.value) == 1:
        key = parent[0].end_mark
        lines[key.line] = lines[key.line][: key.column] + ": {}" + lines[key.line][key.column + 1 :]
    del lines[start:end]
    return "".join(lines)


def _last_line(node: Any) -> int:
    """The last line with content of *node*."""
    value: Any = node.value
    if not isinstance(value, list) or node.flow_style:
        mark = node.end_mark
        return mark.line - 1 if mark.column == 0 and mark.line > node.start_mark.line else mark.line
    last: Any = cast("list[Any]", value)[-1]
    return _last_line(last[1] if isinstance(last, tuple) else last)


def _find(text: str, path: Sequence[str]) -> tuple[Any, Any] | None:
    """The nodes of the key and of the value at *path*."""
    node: Any = _load(text, "compose")
    key: Any = None
    for name in path:
        pairs: list[tuple[Any, Any]] = node.value if node is not None and node.tag.endswith(":map") else []
        key, node = next((pair for pair in pairs if pair[0].value == name), (None, None))
        if key is None:
            return None
    return key, node


def _load(text: str, what: str) -> Any:
    try:
        from ruamel.yaml import YAML
        from ruamel.yaml.error import MarkedYAMLError, YAMLError
    except ImportError:
        missing = "This client's file is YAML, for which ruamel.yaml is missing."
        raise AgentRunError(f"{missing} {extra_advice('clients')}") from None
    try:
        return getattr(YAML(typ="safe", pure=True), what)(text)
    except MarkedYAMLError as error:
        problem: Any = error  # of which the types are unknown
        mark = problem.problem_mark or problem.context_mark
        raise UnreadableError(text, mark.index if mark else 0, problem.problem or "not valid") from None
    except YAMLError as error:
        raise UnreadableError(text, 0, " ".join(str(error).split())[:200]) from None


def _rendered(entry: Mapping[str, Any], column: int, newline: str) -> str:
    return "".join(" " * column + line + newline for line in _lines(entry))


def _lines(entry: Mapping[str, Any]) -> Iterator[str]:
    """A mapping in block style. What is no mapping is written as JSON, which YAML includes."""
    for name, value in entry.items():
        if isinstance(value, Mapping) and value:
            yield f"{name}:"
            yield from ("  " + line for line in _lines(cast("Mapping[str, Any]", value)))
        else:
            # A date becomes a string, which ClientFile notices.
            yield f"{name}: {json.dumps(value, ensure_ascii=False, default=str)}"
