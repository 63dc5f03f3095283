"""Names, versions and addresses of distributions: parsed by `packaging`, written in canonical form, or refused."""

from __future__ import annotations

import re

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

__all__ = ["FILE_NAME", "PinError", "Pins", "parse_pins", "requirement_line", "validated"]

Pins = dict[str, str]
"""Canonical version by canonical name; a file from a URL has ``@ URL`` in place of the version."""

FILE_NAME = re.compile(r"[\w.+!-]{1,200}\.(whl|tar\.gz|zip)", re.ASCII)
"""Of a wheel or a source distribution."""

_URL = re.compile(r"https?://[!-~]+")
_COMMENT = re.compile(r"\s*(#.*)?")


class PinError(ValueError):
    """Something that is not a pinned distribution stands where one must."""


def parse_pins(text: str) -> Pins:
    """The pins in *text*, the output file of ``uv pip compile``.

    :raises PinError: a line is anything but ``name==version`` or ``name @ URL``.
    """
    pins: Pins = {}
    for line in text.split("\n"):
        if _COMMENT.fullmatch(line):
            continue
        try:
            requirement = Requirement(line)
        except (InvalidRequirement, RecursionError):
            raise PinError(f"not a pinned requirement: {line[:100]!r}") from None
        versions = [each.version for each in requirement.specifier if each.operator == "=="]
        if requirement.url is not None:
            pins[requirement.name] = f"@ {requirement.url}"
        elif len(versions) == len(requirement.specifier) == 1:
            pins[requirement.name] = versions[0]
        else:
            raise PinError(f"not a pinned requirement: {line[:100]!r}")
    return validated(pins)


def validated(pins: dict[str, str]) -> Pins:
    """*pins* in canonical form.

    :raises PinError: a name, version or URL is invalid.
    """
    canonical: Pins = {}
    for name, version in pins.items():
        try:
            canonical[canonicalize_name(name, validate=True)] = _canonical(version)
        except ValueError:  # `packaging`'s own, or a number with too many digits
            raise PinError(f"not a name and version: {name[:100]!r} {version[:100]!r}") from None
    return canonical


def _canonical(version: str) -> str:
    if not version.startswith("@ "):
        return str(Version(version))
    if not _URL.fullmatch(version[2:]):
        raise InvalidVersion
    return version


def requirement_line(name: str, version: str) -> str:
    """The line of a requirements file for a validated pin."""
    return f"{name} {version}" if version.startswith("@") else f"{name}=={version}"
