"""Names, versions and URLs of distributions, parsed with `packaging` and converted to canonical form."""

from __future__ import annotations

import re

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

__all__ = ["FILE_NAME", "PinError", "Pins", "parse_pins", "requirement_line", "validated"]

Pins = dict[str, str]
"""Canonical version by canonical name. A file from a URL has ``@ URL`` instead of a version."""

FILE_NAME = re.compile(r"[\w.+!-]{1,200}\.(whl|tar\.gz|zip)", re.ASCII)
"""File name of a wheel or source distribution."""

_URL = re.compile(r"https?://[!-~]+")
_COMMENT = re.compile(r"\s*(#.*)?")


class PinError(ValueError):
    """A string is not a valid pinned distribution."""


def parse_pins(text: str) -> Pins:
    """Parse *text*, the output of ``uv pip compile``.

    :raises PinError: a line is neither ``name==version`` nor ``name @ URL``.
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
    """Return *pins* in canonical form.

    :raises PinError: a name, version or URL is invalid.
    """
    canonical: Pins = {}
    for name, version in pins.items():
        try:
            canonical[canonicalize_name(name, validate=True)] = _canonical(version)
        except ValueError:  # from `packaging`, or for a number with too many digits
            raise PinError(f"not a name and version: {name[:100]!r} {version[:100]!r}") from None
    return canonical


def _canonical(version: str) -> str:
    if not version.startswith("@ "):
        return str(Version(version))
    if not _URL.fullmatch(version[2:]):
        raise InvalidVersion
    return version


def requirement_line(name: str, version: str) -> str:
    """Return the line of a requirements file for a validated pin."""
    return f"{name} {version}" if version.startswith("@") else f"{name}=={version}"
