"""What the arguments of a call may be."""

from __future__ import annotations

import ast

from .resolver import Resolver
from .symbols import Scope
from .values import Values

__all__ = ["argument_values", "first", "keyword"]


def argument_values(resolver: Resolver, node: ast.Call, scope: Scope) -> list[Values]:
    """By their places."""
    return [resolver.values(argument, scope) for argument in node.args if not isinstance(argument, ast.Starred)]


def first(resolver: Resolver, node: ast.Call, scope: Scope) -> Values:
    values = argument_values(resolver, node, scope)
    return values[0] if values else ()


def keyword(node: ast.Call, name: str) -> ast.expr | None:
    """The argument that is passed by *name*."""
    return next((item.value for item in node.keywords if item.arg == name), None)
