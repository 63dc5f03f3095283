"""Comprehensions: what they give, item by item, as long as all that they go through is known."""

# Nodes are told apart by their class, which says nothing to a type checker.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Any

from .symbols import Scope
from .values import Value, Values, constant_value

if TYPE_CHECKING:
    from .evaluator import Evaluator

__all__ = ["comprehension", "one_by_one"]

_MOST_ITEMS = 4096
_MOST_ROUNDS = 12_000
"""Items of all comprehensions of one code that are gone through one by one."""


class _UnknownError(Exception):
    """Something that has to be known to go on is not."""


def one_by_one(source: Value) -> list[Values] | None:
    """The items of *source* in their order, if they are known."""
    if source.kind in ("text", "bytes"):
        return [(constant_value(item, source.value),) for item in source.value[:_MOST_ITEMS]]
    return list(source.value[:_MOST_ITEMS]) if source.kind == "seq" else None


def comprehension(evaluator: Evaluator, node: Any, scope: Scope) -> Values | None:
    """What *node* gives, or None where not all of it is known."""
    found: list[Values] = []
    pairs: list[tuple[Values, Values]] = []
    try:
        for once in _rounds(evaluator, node, node.generators, scope):
            if isinstance(node, ast.DictComp):
                pairs.append((evaluator.values(node.key, once), evaluator.values(node.value, once)))
            else:
                found.append(evaluator.values(node.elt, once))
    except _UnknownError:
        return None
    return (Value("map", tuple(pairs)) if isinstance(node, ast.DictComp) else Value("seq", tuple(found)),)


def _rounds(evaluator: Evaluator, node: ast.AST, generators: list[ast.comprehension], scope: Scope) -> list[Scope]:
    """A scope for each time that the element of *node* is evaluated."""
    first = generators[0]
    sources = evaluator.values(first.iter, scope)
    items = one_by_one(sources[0]) if len(sources) == 1 else None
    if items is None or first.is_async:
        raise _UnknownError
    scopes: list[Scope] = []
    for item in items:
        evaluator.rounds += 1
        if evaluator.rounds > _MOST_ROUNDS:
            raise _UnknownError
        once = Scope(scope, node)
        evaluator.keep(once)
        _bind(first.target, item, once)
        if all(_holds(evaluator, condition, once) for condition in first.ifs):
            scopes += _rounds(evaluator, node, generators[1:], once) if generators[1:] else [once]
    return scopes


def _bind(target: ast.expr, item: Values, scope: Scope) -> None:
    if isinstance(target, ast.Name):
        scope.bindings[target.id] = [("value", value) for value in item]
        return
    parts = one_by_one(item[0]) if len(item) == 1 else None
    if not isinstance(target, (ast.Tuple, ast.List)) or parts is None or len(parts) != len(target.elts):
        raise _UnknownError
    for inner, part in zip(target.elts, parts):
        _bind(inner, part, scope)


def _holds(evaluator: Evaluator, condition: ast.expr, scope: Scope) -> bool:
    if isinstance(condition, ast.UnaryOp) and isinstance(condition.op, ast.Not):
        return not _holds(evaluator, condition.operand, scope)
    if isinstance(condition, ast.BoolOp):
        parts = [_holds(evaluator, part, scope) for part in condition.values]
        return all(parts) if isinstance(condition.op, ast.And) else any(parts)
    values = evaluator.values(condition, scope)
    if len(values) != 1 or values[0].kind not in ("int", "float", "text", "bytes"):
        raise _UnknownError
    return bool(values[0].value)
