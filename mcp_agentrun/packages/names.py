"""From what code imports to what provides it. Pure."""

from __future__ import annotations

import sys

from packaging.utils import canonicalize_name

from .known import ESTABLISHED, INSTEAD, LACKS, MODULES, WELL_KNOWN

__all__ = ["PYTHONS_OWN", "distribution_of", "look_alike"]

PYTHONS_OWN = (
    sys.stdlib_module_names
    | frozenset(
        """
        aifc asynchat asyncore chunk crypt distutils imghdr imp lib2to3 mailcap msilib nis nntplib ossaudiodev pipes
        smtpd sndhdr spwd sunau telnetlib uu xdrlib
        """.split()  # noqa: SIM905
    )
) - MODULES.keys()
"""Top-level modules of the standard library, of some version and on some system, but for those that have become a
distribution of their own.
"""

_SHORTEST = 4
"""Names of fewer characters are too near to each other to tell a slip from another name."""


def distribution_of(module: str) -> str:
    """The distribution that provides the top-level *module*, as far as is known; else one of the same name."""
    return canonicalize_name(MODULES.get(module, module))


def look_alike(name: str) -> str | None:
    """The well-known distribution that *name* is a slip or an imitation of, or None.

    One character more, less or other, or two neighbours exchanged; dashes and digits at the end don't count.
    """
    name = canonicalize_name(name)
    if any(name in names for names in (WELL_KNOWN, ESTABLISHED, INSTEAD, LACKS)):
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
    """Whether *one* becomes *other* by a single slip of the keyboard."""
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
