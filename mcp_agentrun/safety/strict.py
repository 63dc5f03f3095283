"""RestrictedPython's policy: each error of its transformer becomes a finding."""

from __future__ import annotations

import ast

from RestrictedPython.transformer import RestrictingNodeTransformer

from .rules import built_in_rules
from .verdict import Finding, position_of

__all__ = ["restricted"]


class _Collector(RestrictingNodeTransformer):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[ast.AST, str]] = []

    def error(self, node: ast.AST, info: str) -> None:
        self.found.append((node, " ".join(info.split()).rstrip(".")))


def restricted(tree: ast.Module, code: str) -> tuple[Finding, ...]:
    """Return RestrictedPython's errors for *tree*, which it changes."""
    collector = _Collector()
    collector.visit(tree)
    rule = next(rule for rule in built_in_rules() if rule.id == "restricted-python")
    return tuple(
        Finding(rule.id, *position_of(node, code), f"{rule.reason} {error}.", rule.remedy)
        for node, error in dict.fromkeys(collector.found[:20])
    )
