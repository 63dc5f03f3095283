"""What code knows of the parameters of its own functions. Pure reading of the tree."""

from __future__ import annotations

import ast
import re

from .symbols import Scope
from .visitor import Visitor

__all__ = ["is_arithmetic", "is_parameter_never_given"]

_PURE = frozenset(
    """
    str int float round abs len range zip enumerate map list tuple reversed sorted min max sum repr format eval join
    append pop split strip replace insert extend copy keys values items startswith endswith isdigit print
    """.split()
)
"""Functions and methods by which nothing comes in from outside."""

_ARITHMETIC = re.compile(r"[\d\s+\-*/%().<>=!&|^~,xeE_]*")


def is_parameter_never_given(visitor: Visitor, argument: ast.expr) -> bool:
    """Whether *argument* is a parameter of a function that the code defines and does not call."""
    if not isinstance(argument, ast.Name):
        return False
    scope = _function_of(visitor.scope)
    if scope is None or not isinstance(scope.node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        return False
    kinds = {kind for kind, _ in scope.bindings.get(argument.id, ())}
    symbols = visitor.evaluator.symbols
    return kinds == {"parameter"} and not (symbols.calls.get(scope.node.name) or symbols.passed.get(scope.node.name))


def is_arithmetic(visitor: Visitor, argument: ast.expr) -> bool:
    """Whether *argument* is a text that a function puts together of what it is called with, and the code calls it with
    nothing but numbers, operators, and lists of these.
    """
    scope = _function_of(visitor.scope)
    if scope is None or not isinstance(scope.node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        return False
    function = scope.node
    parameters = {each.arg for each in ast.walk(function.args) if isinstance(each, ast.arg)}
    if isinstance(argument, ast.Name) and argument.id in parameters:
        return False
    calls = [node for node in ast.walk(function) if isinstance(node, ast.Call)]
    names = {node.id for node in ast.walk(function) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    own = {name for name in names if name in scope.bindings} | _PURE
    if not all(_name_of(call) in _PURE for call in calls) or not names <= own:
        return False
    symbols = visitor.evaluator.symbols
    if symbols.passed.get(function.name):
        return False
    given = [value for call, _ in symbols.calls.get(function.name, ()) for value in _values_of(call)]
    return all(_is_arithmetic_literal(value) for value in given)


def _function_of(scope: Scope | None) -> Scope | None:
    while scope is not None and not isinstance(scope.node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
        scope = scope.parent
    return scope


def _name_of(call: ast.Call) -> str:
    if isinstance(call.func, ast.Name):
        return call.func.id
    return call.func.attr if isinstance(call.func, ast.Attribute) else ""


def _values_of(call: ast.Call) -> list[ast.expr]:
    return [*call.args, *(keyword.value for keyword in call.keywords)]


def _is_arithmetic_literal(node: ast.expr) -> bool:
    if isinstance(node, ast.Constant):
        return not isinstance(node.value, (str, bytes)) or (
            isinstance(node.value, str) and _ARITHMETIC.fullmatch(node.value) is not None
        )
    if isinstance(node, (ast.List, ast.Tuple)):
        return all(map(_is_arithmetic_literal, node.elts))
    return isinstance(node, ast.UnaryOp) and _is_arithmetic_literal(node.operand)
