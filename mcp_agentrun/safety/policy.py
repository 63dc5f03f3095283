"""A first policy."""

from __future__ import annotations

import ast

from RestrictedPython.transformer import RestrictingNodeTransformer

from .names import Names
from .verdict import Finding


class _Policy(RestrictingNodeTransformer):
    pass


def judge(
    tree: ast.Module,
    code: str,
    *,
    strict: bool,
    network: bool,
    off: frozenset[str],
    names: Names | None,
    remember: bool = False,
) -> tuple[Finding, ...]:
    findings = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr == "system":
            findings.append(
                Finding("process-spawn", node.lineno, node.col_offset + 1, "This starts a process.", "Use Python.")
            )
    return tuple(findings)
