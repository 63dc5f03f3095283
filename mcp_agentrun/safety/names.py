"""What is remembered of the names of a session between its calls."""

from __future__ import annotations

import json
from typing import Any

__all__ = ["Names"]

_MOST_NAMES = 2000
_MOST_VALUES = 8
_LONGEST = 512
_MOST_TEXT = 1 << 17
"""Size of it all, as JSON, beyond which no more texts are remembered."""

_MOST = 1 << 19
"""Size of it all, as JSON, beyond which the names are forgotten that were bound longest ago."""


class Names:
    """What each name at the top level of a session may stand for: modules, functions of theirs, short texts.

    Values gather: code that was judged may have stopped before it rebound a name, and a name that once was ``os`` may
    still be. Where there is too much to remember, the oldest is forgotten, because refusing code would lock the
    session. What matters fits into a few kilobytes, which the owner of a checker keeps (`to_json`) and hands to the
    next one (`from_json`).
    """

    def __init__(self) -> None:
        self._values: dict[str, list[tuple[str, Any]]] = {}
        self.changed = False
        """Since the last `to_json`."""
        self._size = 0

    def __len__(self) -> int:
        return len(self._values)

    def get(self, name: str) -> list[tuple[str, Any]]:
        """Pairs of a kind (``ref``, ``text``, ``bytes``, ``int``) and a value."""
        return self._values.get(name, [])

    def add(self, name: str, kind: str, value: str | int) -> None:
        """Note that *name* may stand for *value*."""
        if len(name) > _LONGEST or (isinstance(value, str) and len(value) > _LONGEST):
            return
        known = self._values.get(name, [])
        if (kind, value) in known:
            return
        size = _size((kind, value)) + (0 if known else _size(name))
        if kind != "ref" and self._size + size > _MOST_TEXT:
            return
        if len(known) >= _MOST_VALUES:
            # A reference matters more than a text, and the latest value more than earlier ones.
            oldest = next((entry for entry in known if entry[0] != "ref"), known[0])
            known.remove(oldest)
            size -= _size(oldest)
        known.append((kind, value))
        self._values.pop(name, None)
        self._values[name] = known  # the last one now, and the last to be forgotten
        self._size += size
        self.changed = True
        while self._size > _MOST or len(self._values) > _MOST_NAMES:
            self._forget(next(iter(self._values)))

    def _forget(self, name: str) -> None:
        self._size -= _size(name) + sum(map(_size, self._values.pop(name)))

    def to_json(self) -> dict[str, list[list[Any]]]:
        self.changed = False
        return {name: [list(entry) for entry in values] for name, values in self._values.items()}

    @classmethod
    def from_json(cls, fields: dict[str, list[list[Any]]]) -> Names:
        names = cls()
        for name, values in fields.items():
            for kind, value in values:
                names.add(name, kind, value)
        names.changed = False
        return names


def _size(what: Any) -> int:
    return len(json.dumps(what)) + 2
