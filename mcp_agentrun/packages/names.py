"""Find the distribution that provides a module, and names that may be typos. Pure."""

from __future__ import annotations

import sys

from packaging.utils import canonicalize_name

from .known import ALTERNATIVES, ESTABLISHED, MODULES, UNMET_NEEDS, WELL_KNOWN

__all__ = ["STDLIB_MODULES", "distribution_of", "similar_known_name"]

STDLIB_MODULES = (
    sys.stdlib_module_names
    | frozenset(
        """
        aifc asynchat asyncore chunk crypt distutils imghdr imp lib2to3 mailcap msilib nis nntplib ossaudiodev pipes
        smtpd sndhdr spwd sunau telnetlib uu xdrlib
        """.split()  # noqa: SIM905
    )
) - MODULES.keys()
"""Top-level modules of the standard library in any version and on any system, except those that are now separate
distributions.
"""

_SHORTEST = 4
"""Shorter names are too similar to each other to tell a typo from another name."""


def distribution_of(module: str) -> str:
    """Return the distribution that provides the top-level *module*, or one of the same name if none is known."""
    return canonicalize_name(MODULES.get(module, module))


def similar_known_name(name: str) -> str | None:
    """Return the well-known distribution of which *name* may be a typo or an imitation, or None.

    Names are similar if one character is added, removed or replaced, or two neighbours are swapped. Hyphens, and digits
    at the end, are ignored.
    """
    name = canonicalize_name(name)
    if any(name in names for names in (WELL_KNOWN, ESTABLISHED, ALTERNATIVES, UNMET_NEEDS)):
        return None
    module = next((module for module in MODULES if canonicalize_name(module) == name), None)
    if module is not None:
        return canonicalize_name(MODULES[module])
    bare = name.replace("-", "")
    near = [
        known
        for known in WELL_KNOWN
        if min(len(known), len(name)) >= _SHORTEST
        and (known.replace("-", "") == bare or _is_near(known, name) or known == name.rstrip("0123456789-"))
    ]
    return min(near, key=lambda known: (abs(len(known) - len(name)), known), default=None)


def _is_near(one: str, other: str) -> bool:
    """Return whether *one* and *other* differ by a single typo."""
    if one == other:
        return True
    if len(one) > len(other):
        one, other = other, one
    if len(other) - len(one) > 1:
        return False
    start = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), len(one))
    if len(one) < len(other):
        return one[start:] == other[start + 1 :]
    swapped = one[:start] + one[start : start + 2][::-1] + one[start + 2 :]
    return one[start + 1 :] == other[start + 1 :] or swapped == other
