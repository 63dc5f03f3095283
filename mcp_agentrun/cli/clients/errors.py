"""Errors of clients' files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ...errors import AgentRunError

__all__ = ["UnreadableError", "nested"]


class UnreadableError(AgentRunError):
    """A file is not valid. The message says where.

    :param at: offset of the problem in *text*.
    """

    def __init__(self, text: str, at: int, problem: str) -> None:
        line = text.count("\n", 0, at) + 1
        column = at - text.rfind("\n", 0, at)
        super().__init__(f"line {line}, column {column}: {problem}")


def nested(path: Sequence[str], value: Mapping[str, Any]) -> Mapping[str, Any]:
    """Wrap *value* in one mapping per name of *path*."""
    for name in reversed(path):
        value = {name: value}
    return value
