"""Typed, frozen records that validate themselves: what messages are made of.

Records are declared like dataclasses, and type checkers treat them as such. They do not use `dataclasses`, because
importing it and generating some sixty classes would delay every new sandbox by 30 ms. Here the annotations of a class
are compiled into validators when its first instance is decoded.

Standard library only, and without `typing`, because the runner image has a copy.
"""

from __future__ import annotations

import builtins
import sys
from collections.abc import Callable
from re import fullmatch

from .codec import ProtocolError

__builtins__ = dict(vars(builtins))  # for the functions below: in a worker, user code can change the original ones

TYPE_CHECKING = False  # importing `typing` takes 2 ms, which would delay the first answer
if TYPE_CHECKING:
    from typing import Any, ClassVar, Literal

    from typing_extensions import Self, dataclass_transform

    Validator = Callable[[Any], Any]
else:

    class Literal:
        """Replaces `typing.Literal`."""

        def __class_getitem__(cls, choices):
            return _Choice(choices if type(choices) is tuple else (choices,))

    class _Choice:
        def __init__(self, choices):
            self.choices = choices

        def __or__(self, other):
            return _Choice((*self.choices, other))

    def dataclass_transform(**_options):
        return lambda cls: cls


__all__ = ["Literal", "Record", "field"]

_LONGEST, _MOST = 1 << 16, 10_000
_LARGEST = 1 << 62

_REQUIRED: Any = object()
_Union: Any = type(int | None)
_Generic: Any = type(tuple[int])
_None = type(None)
_new, _set = object.__new__, object.__setattr__


class _Field:
    """A default and limits, and the validation of values that are not collections."""

    __slots__ = ("default", "high", "items", "length", "low", "pattern")

    def __init__(self, default: Any, low: float, high: float, length: int, items: int, pattern: str | None) -> None:
        self.default, self.low, self.high = default, low, high
        self.length, self.items, self.pattern = length, items, pattern

    def boolean(self, value: Any) -> bool:
        if value is not True and value is not False:
            raise ProtocolError("expected true or false")
        return value

    def integer(self, value: Any) -> int:
        if type(value) is not int or not self.low <= value <= self.high:
            raise ProtocolError(f"expected an integer from {self.low} to {self.high}")
        return value

    def number(self, value: Any) -> float:
        if type(value) not in (int, float) or not self.low <= value <= self.high:  # which also excludes NaN
            raise ProtocolError(f"expected a number from {self.low} to {self.high}")
        return float(value)

    def string(self, value: Any) -> str:
        if type(value) is not str or len(value) > self.length:
            raise ProtocolError(f"expected a string of at most {self.length} characters")
        if self.pattern is not None and fullmatch(self.pattern, value) is None:
            raise ProtocolError(f"expected a string that matches {self.pattern}")
        return value


def field(
    *,
    default: Any = _REQUIRED,
    low: float = -_LARGEST,
    high: float = _LARGEST,
    length: int = _LONGEST,
    items: int = _MOST,
    pattern: str | None = None,
) -> Any:
    """Declare a field of a `Record` and its limits, which also apply to nested values.

    :param default: value for constructors. Decoding has no defaults.
    :param low: smallest number.
    :param high: largest number.
    :param length: longest string, in characters.
    :param items: longest tuple or dictionary.
    :param pattern: regular expression that strings must match as a whole.
    """
    return _Field(default, low, high, length, items, pattern)


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(field,))
class Record:
    """Base of classes whose fields are declared by annotations, like those of a frozen dataclass.

    A field is of type `bool`, `int`, `float`, `str`, None, `Literal`, another record's, ``tuple[X, ...]``,
    ``tuple[X, Y]``, ``dict[str, X]``, or one of these ``| None``.
    """

    if TYPE_CHECKING:
        _hints: ClassVar[dict[str, str]]
        _limits: ClassVar[dict[str, _Field]]
        _defaults: ClassVar[dict[str, Any]]
        _namespace: ClassVar[dict[str, Any]]
        _validators: ClassVar[dict[str, Validator] | None]
    else:
        _hints, _limits, _defaults = {}, {}, {}

    def __init_subclass__(cls) -> None:
        cls._hints = {**cls._hints, **cls.__annotations__}
        cls._limits, cls._defaults = {**cls._limits}, {**cls._defaults}
        cls._namespace = vars(sys.modules[cls.__module__])
        cls._validators = None
        for name in cls.__annotations__:
            given: Any = vars(cls).get(name, _REQUIRED)
            limits: _Field = given if type(given) is _Field else field(default=given)
            cls._limits[name] = limits
            if limits.default is not _REQUIRED:
                cls._defaults[name] = limits.default
            if given is not _REQUIRED:
                delattr(cls, name)

    def __init__(self, **fields: Any) -> None:
        if fields.keys() != self._hints.keys():
            fields = {**self._defaults, **fields}
            if fields.keys() != self._hints.keys():
                raise TypeError(f"{type(self).__name__} {_difference(fields, self._hints)}")
        _set(self, "__dict__", fields)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__} is frozen")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{type(self).__name__} is frozen")

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and vars(self) == vars(other)

    __hash__ = None  # pyright: ignore[reportAssignmentType]

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"  # without values, because code and credentials must not be logged

    @classmethod
    def validated(cls, values: Any) -> Self:
        """Return a record with these *values*, which are decoded JSON. It takes ownership of the dictionary.

        :raises ProtocolError: a field is missing, unknown, of another type, or beyond its limits.
        """
        validators = cls._validators
        if validators is None:
            validators = cls._validators = {
                name: _validator(eval(hint, cls._namespace), cls._limits[name])  # noqa: S307 - the class's own
                for name, hint in cls._hints.items()
            }
        if type(values) is not dict:
            raise ProtocolError("expected an object")
        fields: dict[str, Any] = values  # pyright: ignore[reportUnknownVariableType]
        name = ""
        try:
            for name, validate in validators.items():
                fields[name] = validate(fields[name])
        except KeyError:
            raise ProtocolError(f"{name} is missing") from None
        except ProtocolError as error:
            raise ProtocolError(f"{name}: {error}") from None
        if len(fields) != len(validators):
            raise ProtocolError(_difference(fields, validators))
        record = _new(cls)
        _set(record, "__dict__", fields)
        return record


def _difference(given: dict[str, Any], expected: dict[str, Any]) -> str:
    missing, unknown = sorted(expected.keys() - given.keys()), sorted(given.keys() - expected.keys())
    return f"is missing {', '.join(missing)}" if missing else f"has unknown fields: {', '.join(unknown)[:200]}"


# -- validators, created once for each field


def _validator(hint: Any, limits: _Field) -> Validator:
    """Return a function that checks a JSON value of type *hint*, and converts it for the record."""
    choices: Any = getattr(hint, "choices", None)
    if choices is not None:
        return _choice(choices)
    if type(hint) is _Union:
        (alternative,) = (each for each in hint.__args__ if each is not _None)
        validate = _validator(alternative, limits)
        return lambda value: None if value is None else validate(value)
    if type(hint) is _Generic:
        return (_dictionary if hint.__origin__ is dict else _tuple)(*hint.__args__, limits=limits)
    if hint in _PLAIN:
        return getattr(limits, _PLAIN[hint])
    return hint.validated  # of a record


_PLAIN = {bool: "boolean", int: "integer", float: "number", str: "string"}


def _choice(choices: tuple[Any, ...]) -> Validator:
    def validate(value: Any) -> Any:
        if type(value) not in (str, _None) or value not in choices:
            raise ProtocolError(f"expected one of {', '.join(map(str, choices))}")
        return value

    return validate


def _tuple(*hints: Any, limits: _Field) -> Validator:
    most = limits.items
    if hints[-1] is Ellipsis:
        validate_item = _validator(hints[0], limits)

        def validate(value: Any) -> tuple[Any, ...]:
            if type(value) is not list or len(value) > most:  # pyright: ignore[reportUnknownArgumentType]
                raise ProtocolError(f"expected a list of at most {most} items")
            return tuple(map(validate_item, value))  # pyright: ignore[reportUnknownArgumentType]

        return validate
    validators = [_validator(each, limits) for each in hints]

    def validate_each(value: Any) -> tuple[Any, ...]:
        if type(value) is not list or len(value) != len(validators):  # pyright: ignore[reportUnknownArgumentType]
            raise ProtocolError(f"expected a list of {len(validators)} items")
        return tuple(validate(each) for validate, each in zip(validators, value, strict=True))  # pyright: ignore

    return validate_each


def _dictionary(key: Any, hint: Any, *, limits: _Field) -> Validator:
    most = limits.items
    validate_key, validate_value = _validator(key, limits), _validator(hint, limits)

    def validate(value: Any) -> dict[str, Any]:
        if type(value) is not dict or len(value) > most:  # pyright: ignore[reportUnknownArgumentType]
            raise ProtocolError(f"expected an object of at most {most} fields")
        return {validate_key(name): validate_value(each) for name, each in value.items()}  # pyright: ignore

    return validate
