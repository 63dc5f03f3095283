"""Abstract evaluation: what an expression may stand for, as far as the text of the code tells.

Nothing is executed. An expression stands for a few alternatives, or for nothing that is known. Texts are folded where
all their parts are known, and keep a hole where one is not.
"""

# Nodes are told apart by their class, which is quicker than by isinstance, but says nothing to a type checker.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUnknownLambdaType=false

from __future__ import annotations

import ast
import posixpath
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from .canonical import canonical
from .folding import SLICED, TEXT_METHODS, formatted, integer_method, operate, path_method, percent, sliced, text_method
from .names import Names
from .paths import HOLE
from .resolver import Resolver
from .summaries import SUMMARIES
from .symbols import COMPREHENSIONS, Scope, returned_values
from .values import (
    ALTERNATIVES,
    LONGEST_SEQUENCE,
    Value,
    Values,
    as_text,
    constant_value,
    distinct,
    has_text,
    joined_texts,
    plain,
)

__all__ = ["Evaluator"]

_DEPTH = 250
"""Expressions within expressions, and names behind names, that are followed."""

_STEPS = 100_000
"""Expressions and bindings that are followed for one code, and what is made of them: see `_cost`."""

_MAKERS = frozenset((ast.Call, ast.BinOp, ast.JoinedStr, ast.Subscript))
"""Expressions that make new values, and don't only choose among those that there are."""


class Evaluator(Resolver):
    """What the code of one call means, with what *names* remembers of earlier ones.

    `gather` first; then ask `values`.
    """

    def __init__(self, module: ast.AST, names: Names | None) -> None:
        super().__init__(module, names)
        self._memo: dict[tuple[int, int], Values] = {}
        self._kept: list[object] = []
        """What the identities in other fields are of."""
        self._busy: dict[tuple[int, int], int] = {}
        """What is being evaluated, and how deep."""
        self._lowest = _DEPTH + 1
        """The outermost of these that was met again."""
        self._depth = 0

    def gather(self, root: ast.AST, scope: Scope) -> None:
        """Note every binding below *root*."""
        self._kept.append(root)
        self._memo.clear()
        self.symbols.gather(root, scope)

    def keep(self, *things: object) -> None:
        self._kept += things

    def values(self, node: ast.AST, scope: Scope) -> Values:
        """What the expression *node* may stand for; nothing where that is not known."""
        key = id(node), id(scope)
        known = self._memo.get(key)
        if known is not None:
            return known
        if key in self._busy:
            self._lowest = min(self._lowest, self._busy[key])
            return ()
        self.steps += 1
        if self._depth > _DEPTH or self.steps > _STEPS:
            self.exhausted = True
            return ()
        method = _EVALUATE.get(node.__class__)
        if method is None:
            return ()
        depth, outer = self._depth, self._lowest
        self._busy[key] = depth
        self._depth += 1
        self._lowest = _DEPTH + 1
        try:
            found = distinct(method(self, node, scope))
            if node.__class__ in _MAKERS:
                self.steps += sum(_cost(value) for value in found)
        finally:
            self._depth -= 1
            del self._busy[key]
        if self._lowest >= depth:
            self._memo[key] = found
            self._lowest = outer
        else:  # found in the middle of a circle that begins further out, and so perhaps not all
            self._lowest = min(self._lowest, outer)
        self._kept.append(node)
        return found

    def _constant(self, node: ast.Constant, _scope: Scope) -> Values:
        value = node.value
        if isinstance(value, str):
            return (Value("text", value),)
        if isinstance(value, bytes):
            return (Value("bytes", value),)
        if isinstance(value, int):
            return (Value("int", int(value)),)
        if isinstance(value, float):
            return (Value("float", value),)
        return ()

    def _name(self, node: ast.Name, scope: Scope) -> Values:
        return self.name(node.id, scope)

    def _attribute(self, node: ast.Attribute, scope: Scope) -> Values:
        return self.attribute(self.values(node.value, scope), node.attr)

    def _subscript(self, node: ast.Subscript, scope: Scope) -> Values:
        bases = self.values(node.value, scope)
        part_of = getattr(node, "_item_of", None)
        if part_of == "iter":
            outer = scope.parent if isinstance(scope.node, COMPREHENSIONS) and scope.parent is not None else scope
            bases = self.items(self.values(node.value, outer) or bases)
        elif part_of == "part":
            bases = self.items(bases) or bases
        found: list[Value] = []
        if isinstance(node.slice, ast.Slice):
            bounds = self._bounds(node.slice, scope)
            return tuple(sliced(base, bounds) for base in bases if base.kind in SLICED)
        keys = self.values(node.slice, scope)
        for base in bases:
            found += self._item(base, keys, node.slice, scope)
        if isinstance(node.value, ast.Name):
            found += self._inside(node.value.id, keys, scope)
        return tuple(found)

    def _bounds(self, where: ast.Slice, scope: Scope) -> tuple[int | None, ...] | None:
        """Start, stop and step of a slice; nothing if one of them is not known."""
        bounds: list[int | None] = []
        for part in (where.lower, where.upper, where.step):
            known = [None] if part is None else self.integers(part, scope)
            if not known:
                return None
            bounds.append(known[0])
        return tuple(bounds)

    def _inside(self, name: str, keys: Values, scope: Scope) -> Iterator[Value]:
        searched: Scope | None = scope
        while searched is not None:
            for kind, what in searched.bindings.get(name, ()):
                if kind == "inside":
                    known = self.values(what[0], searched)
                    if not keys or not known or set(keys) & set(known):
                        yield from self.values(what[1], searched)
            searched = searched.parent

    def _item(self, base: Value, keys: Values, where: ast.AST, scope: Scope) -> Iterator[Value]:
        if base.kind == "seq":
            indexes = [key.value for key in keys if key.kind == "int"]
            if indexes:
                for index in indexes:
                    if -len(base.value) <= index < len(base.value):
                        yield from base.value[index]
            else:
                yield from self.items((base,))
        elif base.kind == "map":
            for key, item in base.value:
                if not keys or not key or set(keys) & set(key):
                    yield from item
        elif base.kind in ("text", "bytes"):
            for key in keys:
                if key.kind == "int" and -len(base.value) <= key.value < len(base.value):
                    yield constant_value(base.value[key.value], base.value)
        elif base.kind == "ref":
            texts = [key.value for key in keys if key.kind == "text"]
            holder = base.value
            for suffix in (".__dict__", ".__builtins__", ".f_builtins", ".__globals__", ".f_globals"):
                holder = holder.removesuffix(suffix)
            if base.value.startswith("builtins.vars()") or holder != base.value:
                for text in texts:
                    yield Value("ref", canonical(f"{holder}.{text}"))
            elif base.value in ("builtins.globals()", "builtins.locals()", "builtins.vars()"):
                for text in texts:
                    yield from self.name(text, scope)
            elif base.value == "sys.modules":
                for text in texts:
                    yield Value("ref", canonical(text))
            elif base.value in ("builtins", "builtins[]"):
                for text in texts:
                    yield Value("ref", canonical(f"builtins.{text}"))
            else:
                yield Value("ref", base.value + "[]")

    def _sequence(self, node: Any, scope: Scope) -> Values:
        if len(node.elts) > LONGEST_SEQUENCE:
            return ()
        items: list[Values] = []
        for item in node.elts:
            if isinstance(item, ast.Starred):
                items += [(value,) for value in self.items(self.values(item.value, scope))]
            else:
                items.append(self.values(item, scope))
        return (Value("seq", tuple(items)),)

    def _dict(self, node: ast.Dict, scope: Scope) -> Values:
        if len(node.keys) > 2048:
            return ()
        pairs: list[tuple[Values, Values]] = []
        for key, value in zip(node.keys, node.values):
            if key is None:
                pairs.append(((), self.items(self.values(value, scope))))
            else:
                pairs.append((self.values(key, scope), self.values(value, scope)))
        return (Value("map", tuple(pairs)),)

    def _comprehension(self, node: Any, scope: Scope) -> Values:
        inner = self.symbols.scopes.get(id(node))
        if inner is None:
            return ()
        first = node.generators[0]
        element: ast.expr = node.elt
        if len(node.generators) == 1 and isinstance(first.target, ast.Name) and not first.ifs:
            # One by one, so that a text made of its parts keeps their order.
            items: list[Values] = []
            for source in self.values(first.iter, scope)[:1]:
                if source.kind in ("text", "bytes"):
                    each: Iterable[Values] = [(constant_value(item, source.value),) for item in source.value[:4096]]
                elif source.kind == "seq":
                    each = source.value[:4096]
                else:
                    break
                for item in each:
                    once = Scope(scope, node)
                    once.bindings = {first.target.id: [("value", value) for value in item]}
                    self.keep(element, once)
                    items.append(self.values(element, once))
                return (Value("seq", tuple(items)),)
        found = self.values(element, inner)
        return (Value("seq", (found,)),) if found else ()

    def _joined(self, node: ast.JoinedStr, scope: Scope) -> Values:
        results = [""]
        for part in node.values:
            if isinstance(part, ast.Constant):
                choices = [str(part.value)]
            elif isinstance(part, ast.FormattedValue) and part.format_spec is None:
                choices = [as_text(value) for value in self.values(part.value, scope)] or [HOLE]
            else:
                choices = [HOLE]
            results = joined_texts(results, choices)
        return tuple(Value("text", text) for text in results)

    def _binary(self, node: ast.BinOp, scope: Scope) -> Values:
        left, right = self.values(node.left, scope), self.values(node.right, scope)
        operation = node.op.__class__
        if operation is ast.Add and (has_text(left) or has_text(right)):
            texts = joined_texts(
                [value.value for value in left if value.kind == "text"] or [HOLE],
                [value.value for value in right if value.kind == "text"] or [HOLE],
            )
            return tuple(Value("text", text) for text in texts)
        found: list[Value] = []
        for one in left[:ALTERNATIVES]:
            if operation is ast.Div and one.kind == "path":
                parts = [as_text(value) for value in right] or [HOLE]
                found += [Value("path", posixpath.join(one.value, part)) for part in parts]
                continue
            if operation is ast.Mod and one.kind == "text":
                found += percent(one.value, right)
                continue
            for other in right[:ALTERNATIVES]:
                result = operate(operation, one, other)
                if result is not None:
                    found.append(result)
        if operation is ast.Div and not found and not left:
            for other in right:
                if other.kind in ("text", "path"):
                    found.append(
                        Value("path", f"{HOLE}/{other.value.lstrip('/')}" if other.value[:1] != "/" else other.value)
                    )
        return tuple(found)

    def _unary(self, node: ast.UnaryOp, scope: Scope) -> Values:
        if isinstance(node.op, ast.USub):
            return tuple(
                Value(value.kind, -value.value)
                for value in self.values(node.operand, scope)
                if value.kind in ("int", "float")
            )
        return ()

    def _choice(self, node: ast.IfExp, scope: Scope) -> Values:
        return self.values(node.body, scope) + self.values(node.orelse, scope)

    def _either(self, node: ast.BoolOp, scope: Scope) -> Values:
        found: list[Value] = []
        for item in node.values:
            found += self.values(item, scope)
        return tuple(found)

    def _inner(self, node: Any, scope: Scope) -> Values:
        return self.values(node.value, scope)

    def _lambda(self, node: ast.Lambda, _scope: Scope) -> Values:
        inner = self.symbols.scopes.get(id(node))
        return (Value("function", (node, inner)),) if inner is not None else ()

    def _call(self, node: ast.Call, scope: Scope) -> Values:
        found: list[Value] = []
        for function in self.values(node.func, scope):
            found += self.result(function, node, scope)
        if isinstance(node.func, ast.Attribute):
            for base in self.values(node.func.value, scope):
                if base.kind not in ("ref", "class"):
                    found += self._method(base, node.func.attr, node, scope)
        return tuple(found)

    def result(self, function: Value, node: ast.Call, scope: Scope) -> Values:
        """What calling *function* as *node* does may give."""
        if function.kind == "ref":
            fold = SUMMARIES.get(function.value)
            if fold is not None:
                return tuple(fold(self, node, scope))
            return (Value("ref", function.value + "()"),)
        if function.kind == "function":
            return self.returned(function)
        if function.kind == "partial":
            inner, arguments = function.value
            if inner.kind == "ref" and inner.value == "builtins.getattr":
                values = [*arguments, *(self.values(argument, scope) for argument in node.args)]
                return self.by_name(values)
            return self.result(inner, node, scope)
        return ()

    def returned(self, function: Value) -> Values:
        definition, inner = function.value
        if isinstance(definition, ast.Lambda):
            return self.values(definition.body, inner)
        found: list[Value] = []
        for statement in returned_values(definition):
            found += self.values(statement, inner)
        return tuple(found)

    def _method(self, base: Value, name: str, node: ast.Call, scope: Scope) -> Values:
        arguments = [self.values(argument, scope) for argument in node.args]
        if base.kind == "path":
            return path_method(base.value, name, arguments)
        if base.kind == "text" and name == "format":
            named = {
                keyword.arg: plain(self.values(keyword.value, scope))
                for keyword in node.keywords
                if keyword.arg is not None
            }
            return formatted(base.value, arguments, named)
        if base.kind in ("text", "bytes") and name in TEXT_METHODS:
            return text_method(base.value, name, arguments)
        if base.kind == "int":
            return integer_method(base.value, name, arguments)
        if base.kind == "map" and name in ("get", "pop", "setdefault") and arguments:
            found: list[Value] = []
            for key, item in base.value:
                if not arguments[0] or not key or set(arguments[0]) & set(key):
                    found += item
            return (*found, *(arguments[1] if len(arguments) > 1 else ()))
        if base.kind == "map" and name in ("values", "items", "keys", "copy"):
            return (base,)
        if base.kind == "seq" and name in ("pop", "copy", "__getitem__"):
            return self.items((base,)) if name != "copy" else (base,)
        return ()


def _cost(value: Value) -> int:
    """Steps that stand for the memory of *value*."""
    if value.kind in ("text", "bytes"):
        return len(value.value) >> 8
    return len(value.value) >> 2 if value.kind in ("seq", "map") else 0


_EVALUATE: dict[type[ast.AST], Callable[[Evaluator, Any, Scope], Values]] = {
    ast.Constant: Evaluator._constant,  # pyright: ignore
    ast.Name: Evaluator._name,  # pyright: ignore
    ast.Attribute: Evaluator._attribute,  # pyright: ignore
    ast.Subscript: Evaluator._subscript,  # pyright: ignore
    ast.List: Evaluator._sequence,  # pyright: ignore
    ast.Tuple: Evaluator._sequence,  # pyright: ignore
    ast.Set: Evaluator._sequence,  # pyright: ignore
    ast.Dict: Evaluator._dict,  # pyright: ignore
    ast.ListComp: Evaluator._comprehension,  # pyright: ignore
    ast.SetComp: Evaluator._comprehension,  # pyright: ignore
    ast.GeneratorExp: Evaluator._comprehension,  # pyright: ignore
    ast.JoinedStr: Evaluator._joined,  # pyright: ignore
    ast.BinOp: Evaluator._binary,  # pyright: ignore
    ast.UnaryOp: Evaluator._unary,  # pyright: ignore
    ast.IfExp: Evaluator._choice,  # pyright: ignore
    ast.BoolOp: Evaluator._either,  # pyright: ignore
    ast.NamedExpr: Evaluator._inner,  # pyright: ignore
    ast.Await: Evaluator._inner,  # pyright: ignore
    ast.Starred: Evaluator._inner,  # pyright: ignore
    ast.Lambda: Evaluator._lambda,  # pyright: ignore
    ast.Call: Evaluator._call,  # pyright: ignore
}
