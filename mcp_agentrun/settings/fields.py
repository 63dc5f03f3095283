"""Types of settings: how each is written as a string, and what its values must be."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Annotated, NamedTuple

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, field_validator

__all__ = [
    "GIB",
    "KIB",
    "MIB",
    "Age",
    "Folders",
    "Group",
    "Hosts",
    "Metavar",
    "Modules",
    "Names",
    "Networks",
    "OptionalPath",
    "Origins",
    "Requirements",
    "Rules",
    "Seconds",
    "Size",
    "UserIds",
    "each",
    "parse_size",
]

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?", re.IGNORECASE)
_UNITS = {"": 1, "k": KIB, "m": MIB, "g": GIB, "t": 1 << 40}
_DATE = re.compile(
    r"\d{4}-\d\d-\d\d(T([01]\d|2[0-3])(:[0-5]\d(:[0-5]\d(\.\d+)?)?)?(Z|[+-]([01]\d|2[0-3]):[0-5]\d)?)?", re.ASCII
)
_AGE = re.compile(r"\d+ (day|week|month|hour)s?")
_HOST = r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::(?:\d{1,5}|\*))?"
_ORIGIN = rf"[a-z][a-z0-9+.-]*://{_HOST}"


class Metavar(NamedTuple):
    """What stands for a value of this type in the help of the command line."""

    text: str


class Group(BaseModel):
    """Settings that belong together. A field's alias, if it has one, is the name that users give."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @field_validator("*", mode="before")
    @classmethod
    def _reject_booleans_as_numbers(cls, value: object, info: ValidationInfo) -> object:
        wanted = cls.model_fields[str(info.field_name)].annotation
        if isinstance(value, bool) and (wanted is int or wanted is float):
            raise ValueError(f"expected a number, got {str(value).lower()}")
        return value


def parse_size(value: object) -> object:
    """Parse a size such as ``"256m"``, ``"1 GiB"`` or ``"1024"``; units are powers of 1024.

    :raises ValueError: it is a string that is not a size.
    """
    if not isinstance(value, str):
        return value
    match = _SIZE.fullmatch(value.strip())
    if match is None:
        raise ValueError("a size is a number with an optional unit, such as 512m or 2g")
    return int(float(match[1]) * _UNITS[match[2].lower()])


def _parse_names(value: object) -> object:
    if isinstance(value, str):
        return tuple(name.strip() for name in value.split(",") if name.strip())
    return value


def _parse_rules(value: object) -> object:
    """Split names with versions; commas also separate the bounds of a range: ``django>=4,<5,numpy``."""
    if not isinstance(value, str):
        return value
    rules: list[str] = []
    for part in value.split(","):
        if rules and part.strip()[:1] in ("<", ">", "=", "!", "~"):
            rules[-1] += "," + part.strip()
        elif part.strip():
            rules.append(part.strip())
    return tuple(rules)


def _parse_range(value: object) -> object:
    if not isinstance(value, str):
        return value
    first, dash, last = value.partition("-")
    if not (dash and first.strip().isdigit() and last.strip().isdigit()):
        raise ValueError("a range is two numbers, such as 20000-59999")
    return int(first), int(last)


def _parse_folders(value: object) -> object:
    if isinstance(value, str):
        return tuple(folder for folder in value.split(os.pathsep) if folder)
    return value


def _check_age(value: str | None) -> str | None:
    if value is None or _AGE.fullmatch(value):
        return value
    try:
        if _DATE.fullmatch(value) is None:
            raise ValueError
        date.fromisoformat(value[:10])
    except ValueError:
        raise ValueError("give a date, such as 2026-01-31, or an age, such as 7 days") from None
    return value


def _expand(path: Path | None) -> Path | None:
    """Replace ``~`` by the user's folder: a client that starts the server has no shell to do that."""
    try:
        return path and path.expanduser()
    except RuntimeError as error:
        raise ValueError(f"{path}: {error}") from None


def each(check: Callable[[str], bool], wanted: str) -> AfterValidator:
    """Require that *check* holds for every item of a list; the error says which one is not what is *wanted*."""

    def checked(values: tuple[str, ...]) -> tuple[str, ...]:
        for value in values:
            if not check(value):
                without_secrets = re.sub(r"//.*@", "//***@", value)
                raise ValueError(f"{without_secrets!r} is not {wanted}")
        return values

    return AfterValidator(checked)


def _is_module(text: str) -> bool:
    return all(part.isidentifier() for part in text.split("."))


def _is_requirement(text: str) -> bool:
    from packaging.requirements import InvalidRequirement, Requirement

    try:
        Requirement(text)
    except InvalidRequirement:
        return False
    return True


def _is_network(text: str) -> bool:
    try:
        return text == "*" or bool(ipaddress.ip_network(text))
    except ValueError:
        return False


Size = Annotated[int, BeforeValidator(parse_size), Field(gt=0), Metavar("SIZE")]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False), Metavar("SECONDS")]
Names = Annotated[tuple[str, ...], BeforeValidator(_parse_names), Metavar("NAME,...")]
Modules = Annotated[
    tuple[str, ...],
    BeforeValidator(_parse_names),
    each(_is_module, "the name of a module, as in matplotlib.pyplot"),
    Metavar("MODULE,..."),
]
Rules = Annotated[tuple[str, ...], BeforeValidator(_parse_rules), Metavar("PACKAGE,...")]
Requirements = Annotated[Rules, each(_is_requirement, "a package's name, with versions if need be, as in scipy>=1.14")]
Hosts = Annotated[
    tuple[str, ...],
    BeforeValidator(_parse_names),
    each(lambda text: bool(re.fullmatch(_HOST, text)), "a host with a port, as in python.example:443"),
    Metavar("HOST,..."),
]
Origins = Annotated[
    tuple[str, ...],
    BeforeValidator(_parse_names),
    each(lambda text: bool(re.fullmatch(_ORIGIN, text)), "an origin, as in https://app.example"),
    Metavar("ORIGIN,..."),
]
Networks = Annotated[
    tuple[str, ...],
    BeforeValidator(_parse_names),
    each(_is_network, "an address or a network, as in 10.0.0.1 or 10.0.0.0/8"),
    Metavar("ADDRESS,..."),
]
Folders = Annotated[tuple[str, ...], BeforeValidator(_parse_folders), Metavar("FOLDER")]
OptionalPath = Annotated[Path | None, AfterValidator(_expand), Metavar("PATH")]
Age = Annotated[str | None, AfterValidator(_check_age), Metavar("DATE|AGE")]
UserIds = Annotated[tuple[int, int], BeforeValidator(_parse_range), Metavar("FIRST-LAST")]
