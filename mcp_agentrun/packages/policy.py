"""What may be asked of the installer. Pure: it knows no container."""

from __future__ import annotations

import re
from collections.abc import Sequence

from packaging.requirements import InvalidRequirement, Requirement

from ..errors import InvalidRequestError

__all__ = ["parse_requirements"]

_MOST = 50
_LONGEST = 300
_HOW = "Give names as on the package index, such as 'requests' or 'scipy>=1.14'."


def parse_requirements(packages: str | Sequence[str]) -> tuple[str, ...]:
    """The PEP 508 requirements in *packages*, normalised.

    One string may hold several, separated by commas, white space or newlines, as models like to write them.

    :raises InvalidRequestError: one of them is a URL, a path, an option, or no requirement at all.
    """
    given = [packages] if isinstance(packages, str) else list(packages)
    texts = [text for item in given for text in _split(item)]
    if not texts:
        raise InvalidRequestError(f"No package was named. {_HOW}")
    if len(texts) > _MOST:
        raise InvalidRequestError(f"{len(texts)} packages at once are too many; install at most {_MOST} in a call.")
    return tuple(dict.fromkeys(_parse(text) for text in texts))


def _split(text: str) -> list[str]:
    text = text.strip()
    if not text or _is_requirement(text):
        return [text] if text else []
    parts = [part.strip() for part in text.splitlines() if part.strip()]
    if len(parts) > 1:
        return [piece for part in parts for piece in _split(part)]
    parts = [part for part in re.split(r"[\s,]+", text) if part]
    return parts if all(_is_requirement(part) for part in parts) else [text]


def _is_requirement(text: str) -> bool:
    try:
        Requirement(text)
    except InvalidRequirement:
        return False
    return True


def _parse(text: str) -> str:
    shown = ascii(text[:80])
    if len(text) > _LONGEST or not text.isprintable():
        raise InvalidRequestError(f"{shown} is not a package requirement. {_HOW}")
    if text.startswith("-"):
        raise InvalidRequestError(f"{shown} is an option; only package names with versions are accepted. {_HOW}")
    try:
        requirement = Requirement(text)
    except InvalidRequirement:
        raise InvalidRequestError(f"{shown} is not a package requirement. {_HOW}") from None
    if requirement.url is not None:
        raise InvalidRequestError(f"{shown} names a URL; packages are installed by name from the package index only.")
    return str(requirement)
