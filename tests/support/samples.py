"""A well-formed message of each kind, and malformed ones: all derived from the declarations."""

from __future__ import annotations

import re
from collections.abc import Iterator
from math import inf, nan
from typing import Any

from mcp_agentrun.wire import messages
from mcp_agentrun.wire.messages import Data, Message
from mcp_agentrun.wire.records import Record

WRONG = (
    *(None, True, False, 0, 1, 7, -1, 1 << 65, -(1 << 65), 1.5, inf, -inf, nan, 10**400),
    *("", "x", "\ud800", "a\nb", "../x", "/x", "x" * 600_000),
    *([], {}, [None], {"": None}, {"x": 1}, ["x"], ["x", "y"], [["x", "1"]], [[1, 2]], ["x"] * 100_001),
)
"""Values of every sort, most of which are wrong wherever they stand."""

_WRONG_BY_NAME = [(f"{wrong!r:.40}", wrong) for wrong in WRONG]

_MATCHING = {messages.FILE_PATH: "a/b"}


def message_classes() -> list[type[Message]]:
    """Every kind of message."""
    return list(messages._classes.values())  # pyright: ignore[reportPrivateUsage]


_UNION: Any = type(int | None)


def sample(cls: type[Record]) -> Any:
    """A well-formed instance of *cls*."""
    if issubclass(cls, Data):
        return cls(data=b"x")
    return cls(**{name: _value(hint, limits) for name, hint, limits in declared(cls)})


def declared(cls: type[Record]) -> Iterator[tuple[str, Any, Any]]:
    """Name, type and limits of each field."""
    for name, hint in cls._hints.items():  # pyright: ignore[reportPrivateUsage]
        yield name, eval(hint, cls._namespace), cls._limits[name]  # pyright: ignore[reportPrivateUsage]


def parts_of(hint: Any) -> tuple[Any, tuple[Any, ...]]:
    """What sort of type *hint* is, and of what."""
    if hasattr(hint, "choices"):
        return "choice", hint.choices
    if type(hint) is _UNION:  # which has an origin, too, since Python 3.14
        return "union", hint.__args__
    if hasattr(hint, "__origin__"):
        return hint.__origin__, hint.__args__
    return hint, ()


def _value(hint: Any, limits: Any) -> Any:
    sort, inner = parts_of(hint)
    if sort == "choice":
        return inner[0]
    if sort == "union":
        return _value(inner[0], limits)
    if sort is tuple:
        return tuple(_value(each, limits) for each in inner if each is not Ellipsis)
    if sort is dict:
        return {_value(inner[0], limits): _value(inner[1], limits)}
    if sort is bool:
        return True
    if sort in (int, float):
        return sort(max(1, limits.low))
    if sort is str:
        return _text(limits.pattern)
    return sample(sort)


def _text(pattern: str | None) -> str:
    if pattern is None:
        return "x"
    return _MATCHING.get(pattern) or re.sub(
        r"\[0-9a-f\]\{(\d+)\}", lambda digits: "0" * int(digits[1]), pattern.strip("()?")
    )


def as_json(value: Any) -> Any:
    """*value* as JSON has it."""
    if isinstance(value, Record):
        return {name: as_json(each) for name, each in vars(value).items()}
    if isinstance(value, tuple):
        return [as_json(each) for each in value]  # pyright: ignore[reportUnknownVariableType]
    if isinstance(value, dict):
        return {name: as_json(each) for name, each in value.items()}  # pyright: ignore[reportUnknownVariableType]
    return value


def variants(cls: type[Record]) -> Iterator[tuple[str, dict[str, Any], bool]]:
    """What is said of it, the fields of a record of *cls* with one thing changed, and whether that is well-formed."""
    good = as_json(sample(cls))
    yield "unknown field", {**good, "unknown": 1}, False
    for name, hint, limits in declared(cls):
        yield f"no {name}", {other: value for other, value in good.items() if other != name}, False
        for label, wrong in _WRONG_BY_NAME:
            yield f"{name}={label}", {**good, name: wrong}, is_valid(hint, limits, wrong)
        for label, value, is_good in _inside(hint):
            yield f"{name}: {label}", {**good, name: value}, is_good


def _inside(hint: Any) -> Iterator[tuple[str, Any, bool]]:
    """Variants of the records in a field of type *hint*."""
    sort, inner = parts_of(hint)
    if sort == "union":
        yield from _inside(inner[0])
    elif sort is tuple:
        yield from ((label, [value], is_good) for label, value, is_good in _inside(inner[0]))
    elif isinstance(sort, type) and issubclass(sort, Record):
        yield from variants(sort)


def is_valid(hint: Any, limits: Any, value: Any) -> bool:
    """Whether *value*, as JSON has it, is well-formed: said in other words than those of the validator."""
    sort, inner = parts_of(hint)
    if sort == "choice":
        return any(type(value) is type(choice) and value == choice for choice in inner)
    if sort == "union":
        return any(is_valid(each, limits, value) for each in inner)
    if sort is type(None):
        return value is None
    if sort is bool:
        return isinstance(value, bool)
    if sort in (int, float):
        is_number = isinstance(value, (int, sort)) and not isinstance(value, bool)
        return is_number and limits.low <= value <= limits.high
    if sort is str:
        is_short = isinstance(value, str) and len(value) <= limits.length
        return is_short and (limits.pattern is None or re.fullmatch(limits.pattern, value) is not None)
    if sort is dict:
        return (
            isinstance(value, dict)
            and len(value) <= limits.items  # pyright: ignore[reportUnknownArgumentType]
            and all(is_valid(inner[0], limits, key) for key in value)  # pyright: ignore[reportUnknownVariableType]
            and all(is_valid(inner[1], limits, each) for each in value.values())  # pyright: ignore
        )
    if sort is tuple:
        if not isinstance(value, list):
            return False
        items: list[Any] = value
        if inner[-1] is Ellipsis:
            return len(items) <= limits.items and all(is_valid(inner[0], limits, each) for each in items)
        return len(items) == len(inner) and all(map(lambda each, item: is_valid(each, limits, item), inner, items))
    return False
