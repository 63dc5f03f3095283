"""What an expression may stand for: the few kinds of values that are followed, and how they are put together."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from .paths import HOLE

__all__ = [
    "ALTERNATIVES",
    "LONGEST",
    "LONGEST_SEQUENCE",
    "Decoded",
    "DecodedBytes",
    "Value",
    "Values",
    "as_text",
    "collection",
    "constant_value",
    "distinct",
    "extent",
    "from_plain",
    "has_text",
    "is_decoded",
    "joined_texts",
    "plain",
]

ALTERNATIVES = 8
"""Values that one expression is combined with another one by."""

LONGEST = 1 << 18
"""Characters or bytes of a text that is followed."""

LONGEST_SEQUENCE = 1 << 14


class Value(NamedTuple):
    """One thing that an expression may stand for.

    Kinds: ``ref`` (a canonical dotted name), ``text``, ``bytes``, ``int``, ``float``, ``path`` (text of a pathlib
    path), ``file`` (the path of an open file), ``seq`` (a tuple of what its items may be), ``map`` (pairs of what a key
    and its value may be; a collection of which only this is known has no keys), ``fields`` (the same of an object that
    only carries attributes), ``function`` and ``class`` (a node and its scope), ``instance`` (of such a class),
    ``partial`` (a function and its arguments).
    """

    kind: str
    value: Any


Values = tuple[Value, ...]


class Decoded(str):
    """Text that was decoded or put together from numbers."""

    __slots__ = ()


class DecodedBytes(bytes):
    __slots__ = ()


def distinct(values: Iterable[Value]) -> Values:
    """*values* without repetitions; where they are too many, those that can matter most."""
    found = tuple(dict.fromkeys(values)) if not isinstance(values, tuple) or len(values) > 1 else values
    if len(found) <= 2 * ALTERNATIVES:
        return found
    return tuple(sorted(found, key=_weight)[: 4 * ALTERNATIVES])


def extent(value: Value, most: int) -> int:
    """How many values there are in *value*, one within the other, up to *most* or a few more."""
    count = 0
    work: list[Any] = [value]
    while work and count < most:
        one: Any = work.pop()
        count += 1
        if isinstance(one, Value):
            if one.kind in ("seq", "map", "fields", "partial"):
                work.append(one.value)
        elif isinstance(one, tuple):
            work += one  # pyright: ignore[reportUnknownArgumentType]
    return count


def _weight(value: Value) -> int:
    if value.kind == "text":
        text = value.value
        return 1 if text[:1] in "/~." or "/." in text or "__" in text or "import" in text or "://" in text else 3
    return 2 if value.kind in ("int", "float", "bytes") else 0


def collection(items: Values) -> Value:
    """Something of unknown size and order that may hold *items*."""
    return Value("map", (((), items),))


def has_text(values: Values) -> bool:
    return any(value.kind == "text" for value in values)


def as_text(value: Value) -> str:
    """*value* as it is put into a text, or a hole."""
    if value.kind in ("text", "path"):
        return value.value
    return str(value.value) if value.kind in ("int", "float") and abs(value.value) < 1e30 else HOLE


def is_decoded(*values: object) -> bool:
    return any(isinstance(value, (Decoded, DecodedBytes)) for value in values)


def joined_texts(left: list[str], right: list[str]) -> list[str]:
    results: list[str] = []
    for one in left[:ALTERNATIVES]:
        for other in right[:ALTERNATIVES]:
            if len(one) + len(other) > LONGEST:
                continue
            text = one + other
            results.append(Decoded(text) if is_decoded(one, other) else text)
            if len(results) >= ALTERNATIVES:
                return results
    return results


def constant_value(value: str | int | bytes, source: object = None) -> Value:
    if isinstance(value, str):
        return Value("text", Decoded(value) if is_decoded(source) else value)
    return Value("int", value) if isinstance(value, int) else Value("bytes", value)


def plain(values: Values) -> Any:
    """One plain value for formatting, or a hole."""
    if values and values[0].kind in ("text", "path", "int", "float"):
        return values[0].value
    return HOLE


def from_plain(result: Any, decoded: bool) -> Values:
    if isinstance(result, str) and len(result) <= LONGEST:
        return (Value("text", Decoded(result) if decoded else result),)
    if isinstance(result, (bytes, bytearray)) and len(result) <= LONGEST:
        return (Value("bytes", DecodedBytes(result) if decoded else bytes(result)),)
    if isinstance(result, (list, tuple)) and len(result) <= LONGEST_SEQUENCE:  # pyright: ignore
        return (Value("seq", tuple(from_plain(item, decoded) for item in result)),)  # pyright: ignore
    if isinstance(result, int):
        return (Value("int", result),)
    return ()
