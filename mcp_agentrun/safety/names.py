"""What is remembered of the names of a session between its calls."""

from __future__ import annotations

from typing import Any

__all__ = ["Names"]

_MOST_NAMES = 2000
_MOST_VALUES = 8
_LONGEST = 512
_MOST_TEXT = 1 << 17
"""Characters of all texts together. Beyond them texts are forgotten, references never."""


class Names:
    """What each name at the top level of a session may stand for: modules, functions of theirs, short texts.

    Values only ever gather: code that was judged may have stopped before it rebound a name, and a name that once was
    ``os`` may still be. What matters fits into a few kilobytes, which the owner of a checker keeps (`to_json`) and
    hands to the next one (`from_json`).
    """

    def __init__(self) -> None:
        self._values: dict[str, list[tuple[str, Any]]] = {}
        self.changed = False
        """Since the last `to_json`."""
        self._size = 0
        self.full = False
        """More was to be remembered than can be."""

    def __len__(self) -> int:
        return len(self._values)

    def get(self, name: str) -> list[tuple[str, Any]]:
        """Pairs of a kind (``ref``, ``text``, ``bytes``, ``int``) and a value."""
        return self._values.get(name, [])

    def add(self, name: str, kind: str, value: str | int) -> None:
        """Note that *name* may stand for *value*."""
        if isinstance(value, str) and len(value) > _LONGEST:
            return
        if isinstance(value, str) and kind != "ref":
            if self._size + len(value) > _MOST_TEXT:
                return
            self._size += len(value)
        known = self._values.get(name)
        if known is None:
            if len(self._values) >= _MOST_NAMES:
                self.full = True
                return
            known = self._values[name] = []
        if (kind, value) in known:
            return
        if len(known) >= _MOST_VALUES:
            # A reference matters more than a text, and the latest text more than earlier ones.
            texts = [entry for entry in known if entry[0] != "ref"]
            if not texts:
                self.full = True
                return
            known.remove(texts[0])
        known.append((kind, value))
        self.changed = True

    def to_json(self) -> dict[str, list[list[Any]]]:
        self.changed = False
        return {name: [list(entry) for entry in values] for name, values in self._values.items()}

    @classmethod
    def from_json(cls, fields: dict[str, list[list[Any]]]) -> Names:
        names = cls()
        names._values = {name: [(str(kind), value) for kind, value in values] for name, values in fields.items()}
        return names
