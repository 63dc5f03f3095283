"""Constant folding: what operators and methods make of known texts, numbers, sequences and paths."""

from __future__ import annotations

import ast
import codecs
import itertools
import posixpath
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from .paths import HOLE
from .values import (
    ALTERNATIVES,
    LONGEST,
    LONGEST_SEQUENCE,
    Decoded,
    DecodedBytes,
    Value,
    Values,
    as_text,
    collection,
    from_plain,
    is_decoded,
    plain,
)

__all__ = [
    "SLICED",
    "TEXT_METHODS",
    "compared",
    "formatted",
    "integer_method",
    "is_codec",
    "is_plain_text_codec",
    "operate",
    "path_method",
    "percent",
    "sliced",
    "text_method",
]

SLICED = frozenset(("text", "bytes", "seq"))
"""Kinds of values that can be sliced."""

_WIDTH = re.compile(r"%(?:\(\w*\))?[-+ #0]*(?:\d{4}|\d*\.\d{4})")

_FIELD = re.compile(r"%(?:\(\w*\))?[-+ #0]*\d*(?:\.\d+)?[diouxXeEfFgGcrsa%]")

TEXT_METHODS = frozenset(
    """
    decode encode replace join strip lstrip rstrip lower upper casefold title capitalize swapcase removeprefix
    removesuffix split rsplit splitlines hex zfill expandtabs partition rpartition translate center ljust rjust
    __add__ __str__ isalpha isdigit isalnum isupper islower isspace startswith endswith find index count
""".split()
)


def operate(operation: type[ast.AST], one: Value, other: Value) -> Value | None:
    """What a binary operator gives, or None where that is not known or too large."""
    a, b = one.value, other.value
    if one.kind == other.kind == "bytes" and operation is ast.Add and len(a) + len(b) <= LONGEST:
        return Value("bytes", DecodedBytes(a + b) if is_decoded(a, b) else a + b)
    if one.kind == other.kind == "seq" and operation is ast.Add and len(a) + len(b) <= LONGEST_SEQUENCE:
        return Value("seq", a + b)
    if operation is ast.Add and {one.kind, other.kind} == {"seq", "map"}:
        return collection(tuple(item for value in (one, other) for item in _inside(value)))
    if operation is ast.BitOr and one.kind == other.kind == "map":
        return Value("map", a + b)
    if operation is ast.Mult and one.kind == "seq" and other.kind == "int":
        return Value("seq", a * b) if 0 <= b * len(a) <= LONGEST_SEQUENCE else one
    if operation is ast.Mult and one.kind in ("text", "bytes") and other.kind == "int" and 0 <= b * len(a) <= 4096:
        return Value(one.kind, a * b)
    if one.kind == other.kind == "int" and max(abs(a), abs(b)) < 1 << 256:
        if operation is ast.Pow:
            return Value("int", a**b) if b >= 0 and a.bit_length() * b < 4096 else None
        if operation is ast.LShift:
            return Value("int", a << b) if 0 <= b < 4096 else None
        function = _INTEGERS.get(operation)
        if function is not None and not (operation in (ast.FloorDiv, ast.Mod) and b == 0):
            if operation is ast.RShift and not 0 <= b < 4096:
                return None
            return Value("int", function(a, b))
    if {one.kind, other.kind} <= {"int", "float"} and operation in (ast.Mult, ast.Add, ast.Sub, ast.Pow):
        try:
            if operation is ast.Pow:
                if abs(a) > 1e6 or abs(b) > 300:
                    return None
                result: Any = float(a) ** float(b)
            else:
                result = {ast.Mult: a * b, ast.Add: a + b, ast.Sub: a - b}[operation]  # pyright: ignore
        except (OverflowError, ValueError, ZeroDivisionError):
            return None
        return Value("float", result) if isinstance(result, float) else None
    return None


_INTEGERS: dict[type[ast.AST], Callable[[int, int], int]] = {
    ast.Add: lambda a, b: a + b,
    ast.Sub: lambda a, b: a - b,
    ast.Mult: lambda a, b: a * b,
    ast.FloorDiv: lambda a, b: a // b,
    ast.Mod: lambda a, b: a % b,
    ast.BitXor: lambda a, b: a ^ b,
    ast.BitOr: lambda a, b: a | b,
    ast.BitAnd: lambda a, b: a & b,
    ast.RShift: lambda a, b: a >> b,
}


def _inside(value: Value) -> Iterator[Value]:
    for item in value.value:
        yield from item if value.kind == "seq" else item[1]


def compared(operation: type[ast.AST], one: Value, other: Value) -> bool | None:
    """What comparing gives, or None where that is not known."""
    function = _COMPARISONS.get(operation)
    kinds = {one.kind, other.kind}
    if function is None or not (kinds <= {"int", "float"} or kinds in ({"text"}, {"bytes"})):
        return None
    if kinds == {"text"} and (HOLE in one.value or HOLE in other.value):
        return None
    try:
        return bool(function(one.value, other.value))
    except TypeError:
        return None


_COMPARISONS: dict[type[ast.AST], Callable[[Any, Any], Any]] = {
    ast.Eq: lambda a, b: a == b,
    ast.NotEq: lambda a, b: a != b,
    ast.Lt: lambda a, b: a < b,
    ast.LtE: lambda a, b: a <= b,
    ast.Gt: lambda a, b: a > b,
    ast.GtE: lambda a, b: a >= b,
    ast.In: lambda a, b: a in b,
    ast.NotIn: lambda a, b: a not in b,
}


def sliced(base: Value, bounds: tuple[int | None, ...] | None) -> Value:
    """*base* from start to stop by step, as far as these are known."""
    if bounds is None:
        return base if base.kind == "seq" else Value("text", HOLE)
    if bounds[2] == 0:
        return base
    part = base.value[slice(*bounds)]
    if isinstance(base.value, Decoded):
        part = Decoded(part)
    return Value(base.kind, part)


def percent(template: str, right: Values) -> Iterator[Value]:
    """What ``template % right`` gives."""
    choices: list[Any] = []
    for value in right[:ALTERNATIVES]:
        if value.kind == "seq":
            choices.append(tuple(plain(item) for item in value.value))
        elif value.kind == "map":
            choices.append({key[0].value: plain(item) for key, item in value.value if key and key[0].kind == "text"})
        else:
            choices.append(plain((value,)))
    is_wide = "*" in template or _WIDTH.search(template) is not None
    for choice in choices or [HOLE]:
        parts: list[Any]
        if isinstance(choice, (dict, tuple)):
            parts = list(choice.values() if isinstance(choice, dict) else choice)  # pyright: ignore
        else:
            parts = [choice]
        try:
            text = HOLE if is_wide or _is_long(template.count("%"), parts) else template % choice
        except (TypeError, ValueError, KeyError, OverflowError):
            text = _FIELD.sub(lambda match: "%" if match[0] == "%%" else HOLE, template)
        if len(text) <= LONGEST:
            yield Value("text", Decoded(text) if is_decoded(template, *parts) else text)


def formatted(template: str, arguments: list[Values], named: dict[str, Any]) -> Values:
    """What ``template.format`` gives."""
    parts = [*map(plain, arguments), *named.values()]
    if (
        len(template) > LONGEST
        or re.search(r"\{[^{}]*(?:[.\[]|:[^{}]*\d{4})", template)
        or _is_long(template.count("{"), (part for part in parts if isinstance(part, str)))
    ):
        return (Value("text", re.sub(r"\{[^{}]*\}", HOLE, template)),)
    try:
        text = template.format(*(str(plain(values)) for values in arguments), **named)
    except (LookupError, ValueError, AttributeError, TypeError):
        text = re.sub(r"\{[^{}]*\}", HOLE, template)
    return (Value("text", Decoded(text) if is_decoded(template, *parts) else text),) if len(text) <= LONGEST else ()


def _is_long(places: int, parts: Iterable[Any]) -> bool:
    """Whether filling *places* with *parts* could give a text that is not followed."""
    return places * max((len(part) for part in parts if isinstance(part, (str, bytes))), default=0) > LONGEST


def text_method(base: Any, name: str, arguments: list[Values]) -> Values:
    """What a method of `TEXT_METHODS` of the text or bytes *base* gives."""
    hole = (Value("text", HOLE),)
    if not all(arguments):
        return hole if name in ("replace", "join") else ()
    found: list[Value] = []
    for chosen in itertools.islice(itertools.product(*(values[:4] for values in arguments)), ALTERNATIVES):
        if name == "join" and chosen and chosen[0].kind == "seq":
            for items in _spelled(base, chosen[0].value):
                found += _of_text(base, name, [items])
        elif all(value.kind in ("text", "bytes", "int") for value in chosen):
            found += _of_text(base, name, [value.value for value in chosen])
        elif name in ("replace", "join"):
            found += hole
        elif name == "translate" and chosen[0].kind == "seq":
            found += _of_text(base, name, [[item[0].value if item else HOLE for item in chosen[0].value]])
        elif name == "translate":
            found += _translated(base, chosen[0])
    return tuple(found)


def _translated(base: Any, table: Value) -> Values:
    """*base*, translated by a mapping of characters."""
    if table.kind != "map" or not isinstance(base, str) or len(table.value) > 1024:
        return (Value("text", HOLE),)
    characters: dict[int, Any] = {}
    for keys, items in table.value:
        if len(keys) != 1 or len(items) > 1:
            return (Value("text", HOLE),)
        key = keys[0].value
        characters[key if isinstance(key, int) else ord(key[:1] or " ")] = items[0].value if items else None
    if _is_long(len(base), characters.values()):
        return ()
    try:
        return from_plain(base.translate(characters), decoded=True)
    except (TypeError, ValueError):
        return ()


def _spelled(base: Any, items: tuple[Values, ...]) -> list[list[Any]]:
    """The few ways in which *items* can be put together by joining."""
    kinds = ("bytes",) if isinstance(base, bytes) else ("text",)
    ways: list[list[Any]] = [[]]
    for item in items:
        choices: list[Any] = [value.value if value.kind in kinds else HOLE for value in item[:ALTERNATIVES]] or [HOLE]
        if len(choices) > 1 and len(ways) * len(choices) > ALTERNATIVES:
            choices = [HOLE]
        if len(choices) == 1:
            for way in ways:
                way.append(choices[0])
        else:
            ways = [[*way, choice] for way in ways for choice in choices]
    return ways


def _of_text(base: Any, name: str, known: list[Any]) -> Values:
    """What the method gives for arguments that are known."""
    decoded = is_decoded(base, *known) or any(is_decoded(*value) for value in known if isinstance(value, list))  # pyright: ignore
    try:
        if name == "decode":
            encoding = known[0] if known else "utf-8"
            result: Any = codecs.decode(base, encoding, "replace") if is_codec(encoding) else None
            if not is_plain_text_codec(encoding):
                decoded = True
        elif name == "encode":
            encoding = known[0] if known else "utf-8"
            result = codecs.encode(base, encoding, "replace") if is_codec(encoding) else None
        elif (
            (name in ("center", "ljust", "rjust", "zfill") and (not known or known[0] > 4096))
            or name in ("expandtabs",)
            or (name == "replace" and len(base) * (1 + len(known[1])) > 4 * LONGEST)
            or (name == "join" and _is_long(len(known[0]), [base, *known[0]]))  # pyright: ignore
            or (name == "translate" and isinstance(known[0], list) and _is_long(len(base), known[0]))  # pyright: ignore
        ):
            return ()
        else:
            result = getattr(base, name)(*known)
    except Exception:  # whatever a method makes of hostile arguments
        return ()
    return from_plain(result, decoded)


def integer_method(base: int, name: str, arguments: list[Values]) -> Values:
    """What a method of the number *base* gives."""
    if name != "to_bytes" or not arguments:
        return ()
    length = next((value.value for value in arguments[0] if value.kind == "int"), 0)
    order = next((value.value for value in (arguments[1] if len(arguments) > 1 else ())), "big")
    if 0 < length <= 4096 and order in ("big", "little"):
        try:
            return (Value("bytes", DecodedBytes(base.to_bytes(length, order))),)
        except (OverflowError, ValueError):
            return ()
    return ()


def is_plain_text_codec(encoding: object) -> bool:
    """Whether decoding by *encoding* leaves a text readable, so that it hides nothing."""
    return isinstance(encoding, str) and encoding.lower().replace("_", "-") in (
        "utf-8",
        "utf8",
        "ascii",
        "latin-1",
        "latin1",
    )


def is_codec(encoding: object) -> bool:
    """Whether *encoding* is one that is safe to try."""
    return isinstance(encoding, str) and encoding.lower().replace("-", "_") in {
        "utf_8", "utf8", "ascii", "latin_1", "latin1", "iso_8859_1", "utf_16", "utf_16_le", "utf_16_be", "utf_32",
        "cp1252", "cp437", "rot13", "rot_13", "hex", "hex_codec", "base64", "base64_codec", "unicode_escape",
        "raw_unicode_escape", "utf_7", "utf_8_sig", "uu", "quopri",
    }  # fmt: skip


def path_method(base: str, name: str, arguments: list[Values]) -> Values:
    """What a method of the pathlib path *base* gives."""
    if name in ("joinpath", "__truediv__"):
        results = [base]
        for values in arguments:
            results = [posixpath.join(one, part) for one in results for part in [as_text(v) for v in values] or [HOLE]]
        return tuple(Value("path", text) for text in results[:ALTERNATIVES])
    if name in ("resolve", "absolute", "expanduser"):
        return (Value("path", base),)
    if name in ("as_posix", "__str__", "__fspath__", "as_uri"):
        return (Value("text", base),)
    if name in ("with_name", "with_suffix", "with_stem", "relative_to"):
        return (Value("path", f"{posixpath.dirname(base)}/{HOLE}"),)
    if name == "glob" and arguments:
        return (collection(tuple(Value("path", posixpath.join(base, as_text(value))) for value in arguments[0])),)
    if name in ("iterdir", "glob", "rglob"):
        return (collection((Value("path", f"{base.rstrip('/')}/**"),)),)
    if name == "walk":
        names = (collection((Value("text", HOLE),)),)
        return (collection((Value("seq", ((Value("path", f"{base.rstrip('/')}/**"),), names, names)),)),)
    if name == "home":
        return (Value("path", "~"),)
    return (Value("ref", f"pathlib.Path().{name}()"),)
