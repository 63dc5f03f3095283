"""Name resolution: what a name, a parameter or an attribute may stand for, wherever it was bound.

A name stands for everything that is bound to it anywhere in its scope, whatever the order, so that no order can hide
one. What stands behind an expression is for `evaluator` to say.
"""

# Nodes are told apart by their class, which is quicker than by isinstance, but says nothing to a type checker.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUnknownLambdaType=false

from __future__ import annotations

import ast
import builtins
import posixpath
from abc import ABC, abstractmethod
from typing import Any

from .canonical import CONSTANTS, REENTRY, canonical
from .names import Names
from .namespaces import ANY, member, members
from .paths import HOLE
from .symbols import COMPREHENSIONS, Function, Scope, SymbolTable, last_name
from .values import LONGEST_SEQUENCE, Value, Values, collection

__all__ = ["Resolver", "named", "source_file"]

_CALL_SITES = 400
"""Calls of one function, and assignments to attributes of one name, that are followed."""

_BINDINGS = 400
_BUILTINS = frozenset(dir(builtins)) | {"exit", "quit"}
_TRANSPARENT = frozenset(("__call__", "__func__", "__wrapped__", "func"))


def named(path: str) -> Value:
    """What the canonical name *path* stands for."""
    text = CONSTANTS.get(path)
    return Value("ref", path) if text is None else Value("text", text)


_PLACES = frozenset(("__file__", "__cached__", "__path__", "origin"))


def source_file(module: str, *, is_folder: bool = False) -> Values:
    """Where an installed module comes from."""
    path = f"/usr/lib/python3/{module.removeprefix('spec:').replace('.', '/')}"
    return (collection((Value("text", path),)),) if is_folder else (Value("text", f"{path}.py"),)


def _is_property(function: Value) -> bool:
    """Whether *function* is called by asking for an attribute."""
    decorators: list[ast.expr] = getattr(function.value[0], "decorator_list", [])
    return any(last_name(item) in ("property", "cached_property", "classproperty") for item in decorators)


def _part_of_path(path: str, name: str) -> Values:
    """What attribute *name* of the pathlib path, or of the entry of a folder, is."""
    if name == "parent":
        return (Value("path", posixpath.dirname(path) or "."),)
    if name == "path":
        return (Value("text", path),)
    if name == "name":
        return (Value("text", posixpath.basename(path)),)
    return ()


class Resolver(ABC):
    """Names of the code of one call, with what *names* remembers of earlier ones."""

    def __init__(self, module: ast.AST, names: Names | None) -> None:
        self.names = names
        self.symbols = SymbolTable(module)
        self.exhausted = False
        """More was to be followed than is: what was found is not all."""
        self.steps = 0
        """What all of it has taken so far."""

    @abstractmethod
    def values(self, node: ast.AST, scope: Scope) -> Values:
        """What the expression *node* may stand for; nothing where that is not known."""

    @abstractmethod
    def result(self, function: Value, node: ast.Call, scope: Scope) -> Values:
        """What calling *function* as *node* does may give."""

    @abstractmethod
    def returned(self, function: Value) -> Values:
        """What the function that the code defines may return, whatever it is called with."""

    @abstractmethod
    def keep(self, *things: object) -> None:
        """Let these live as long as this, because their identities stand for them."""

    def name(self, name: str, scope: Scope) -> Values:
        """What *name* may stand for in *scope*."""
        found: list[Value] = []
        searched: Scope | None = scope
        is_own = True
        while searched is not None:
            if name in searched.bindings and (is_own or not searched.is_class):
                bindings = searched.bindings[name]
                self.steps += len(bindings)
                self.exhausted |= len(bindings) > _BINDINGS
                for kind, what in bindings[:_BINDINGS]:
                    found += self.binding(kind, what, searched)
                if searched.parent is not None and name not in searched.globals_:
                    return tuple(found)
            is_own = False
            searched = searched.parent
        is_bound = name in self.symbols.module.bindings
        remembered = self.names.get(name) if self.names is not None else []
        found += [Value(kind, value) for kind, value in remembered]
        if not is_bound and not remembered:
            stars = self.symbols.module.bindings.get("*", [])
            self.steps += len(stars)
            self.exhausted |= len(stars) > _BINDINGS
            for _, star in stars[:_BINDINGS]:
                found.append(Value("ref", canonical(f"{star.value}.{name}")))
            if self.names is not None:
                for _, module in self.names.get("*"):
                    found.append(Value("ref", canonical(f"{module}.{name}")))
        if name in _BUILTINS and not is_bound:
            found.append(Value("ref", canonical(f"builtins.{name}")))
        elif name == "__builtins__":
            found.append(Value("ref", "builtins"))
        return tuple(found)

    def binding(self, kind: str, what: Any, scope: Scope) -> Values:
        """What a name may stand for by one of its bindings in *scope*, as `Scope.bind` was told it."""
        if kind == "value":
            return (named(what.value),) if what.kind == "ref" else (what,)
        if kind in ("expr", "part"):
            return self.values(what, scope)
        if kind == "iter":
            outer = scope.parent if isinstance(scope.node, COMPREHENSIONS) and scope.parent is not None else scope
            found = self.items(self.values(what, outer))
            if not found and outer is not scope:  # a later generator of the comprehension may use an earlier one
                found = self.items(self.values(what, scope))
            return found
        if kind == "parameter":
            return self._parameter(*what)
        if kind == "entered":
            return self._special(self.values(what, scope), "__enter__", "__aenter__")
        if kind == "rest":
            return self._rest(what)
        return ()

    def _rest(self, node: Function) -> Values:
        """What ``*args`` and ``**kwargs`` may hold: whatever the function is called with."""
        items: list[Values] = []
        for call, scope in self._call_sites(node):
            for argument in (*call.args, *(keyword.value for keyword in call.keywords)):
                items.append(self.values(argument, scope))
        return (Value("seq", tuple(items[:_CALL_SITES])),) if items else ()

    def _call_sites(self, node: Function) -> list[tuple[ast.Call, Scope]]:
        return self.symbols.calls.get(self._called(node), [])[:_CALL_SITES]

    def _called(self, node: Function) -> str:
        if isinstance(node, ast.Lambda):
            return self.symbols.lambdas.get(id(node), "")
        if node.name in ("__init__", "__new__", "__call__", "__post_init__"):
            parent = self.symbols.scopes[id(node)].parent
            if parent is not None and isinstance(parent.node, ast.ClassDef):
                return parent.node.name
        return node.name

    def _parameter(self, node: Function, name: str) -> Values:
        arguments = node.args
        positional = [argument.arg for argument in (*arguments.posonlyargs, *arguments.args)]
        found: list[Value] = []
        if name in positional:
            index = positional.index(name)
            offset = index - len(positional) + len(arguments.defaults)
            scope = self.symbols.scopes[id(node)]
            outer = scope.parent or scope
            if offset >= 0:
                found += self.values(arguments.defaults[offset], outer)
            is_method = outer.is_class and positional[:1] != [name]
            if is_method:
                index -= 1
        else:
            index = -1
            for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults):
                if argument.arg == name and default is not None:
                    found += self.values(default, self.symbols.scopes[id(node)].parent or self.symbols.module)
        called = self._called(node)
        calls = self._call_sites(node)
        passed = self.symbols.passed.get(called, [])[:_CALL_SITES]
        self.steps += len(calls) + len(passed)
        for call, scope in calls:
            found += self._argument(call, scope, index, name)
        for call, scope in passed:
            found += self._handed_on(call, scope, called, index)
        return tuple(found)

    def _argument(self, call: ast.Call, scope: Scope, index: int, name: str) -> Values:
        for keyword in call.keywords:
            if keyword.arg == name:
                return self.values(keyword.value, scope)
            if keyword.arg is None:
                return self.items(self.values(keyword.value, scope))
        if 0 <= index < len(call.args) and not any(isinstance(item, ast.Starred) for item in call.args[: index + 1]):
            return self.values(call.args[index], scope)
        found: list[Value] = []
        for item in call.args:
            if isinstance(item, ast.Starred):
                found += self.items(self.values(item.value, scope))
        return tuple(found)

    def _handed_on(self, call: ast.Call, scope: Scope, function: str, index: int) -> Values:
        """What a function is called with that was itself passed to *call*: a thread, an executor, ``map``."""
        found: list[Value] = []
        for keyword in call.keywords:
            if keyword.arg in ("args", "kwargs"):
                found += self.items(self.values(keyword.value, scope))
            elif keyword.arg in ("key", "func") and self._is_named(keyword.value, function) and call.args:
                found += self.items(self.values(call.args[0], scope))
        place = next((i for i, item in enumerate(call.args) if self._is_named(item, function)), None)
        if place is not None and index >= 0:
            after = call.args[place + 1 :]
            if index < len(after):
                handed = self.values(after[index], scope)
                found += handed
                found += self.items(handed)
        return tuple(found)

    def _special(self, values: Values, *methods: str) -> Values:
        """What special methods of instances among *values* give."""
        found: list[Value] = []
        for value in values:
            if value.kind == "instance":
                inner: Scope = value.value[1]
                for name in methods:
                    for kind, what in inner.bindings.get(name, ()):
                        for function in self.binding(kind, what, inner):
                            found += self.returned(function) if function.kind == "function" else ()
        return tuple(found)

    def _is_named(self, node: ast.expr, function: str) -> bool:
        return last_name(node) == function or self.symbols.lambdas.get(id(node)) == function

    def items(self, values: Values) -> Values:
        """What iterating over *values* may give."""
        found: list[Value] = []
        for value in values:
            if value.kind == "seq":
                for item in value.value[:LONGEST_SEQUENCE]:
                    found += item
                    if len(found) > 1024:
                        break
            elif value.kind in ("map", "fields"):
                for key, item in value.value:
                    found += [*key, *item]
            elif value.kind == "instance":
                given = self._special((value,), "__iter__", "__next__", "__getitem__")
                found += self.items(tuple(one for one in given if one.kind != "instance"))
            elif value.kind == "text":
                found += [Value("text", value.value)]  # a character of it: what matters is where it came from
            elif value.kind == "ref":
                found += members(value.value)
            elif value.kind == "path":
                found.append(Value("path", f"{value.value.rstrip('/')}/{HOLE}"))
            if len(found) > 1024:
                break
        return tuple(found)

    def references(self, node: ast.AST, scope: Scope) -> list[str]:
        return [value.value for value in self.values(node, scope) if value.kind == "ref"]

    def texts(self, node: ast.AST, scope: Scope) -> list[str]:
        return [value.value for value in self.values(node, scope) if value.kind == "text"]

    def integers(self, node: ast.AST, scope: Scope) -> list[int]:
        return [value.value for value in self.values(node, scope) if value.kind == "int"]

    def attribute(self, bases: Values, name: str) -> Values:
        """What attribute *name* of *bases* may be."""
        found: list[Value] = []
        is_known = False
        for base in bases:
            if base.kind == "ref":
                is_known = True
                if name in _TRANSPARENT:
                    found.append(base)
                elif name in _PLACES and "(" not in base.value and "[" not in base.value:
                    found += source_file(base.value, is_folder=name == "__path__")
                else:
                    found.append(named(member(base.value, name)))
            elif base.kind == "path":
                found += _part_of_path(base.value, name)
            elif base.kind == "fields":
                is_known = True
                for key, item in base.value:
                    if not key or any(one.value == name for one in key):
                        found += item
            elif base.kind in ("class", "instance"):
                node, inner = base.value
                if name in inner.bindings:
                    is_known |= base.kind == "class"
                    for kind, what in inner.bindings[name]:
                        for value in self.binding(kind, what, inner):
                            is_computed = base.kind == "instance" and value.kind == "function" and _is_property(value)
                            found += self.returned(value) if is_computed else (value,)
                if base.kind == "instance":
                    found += self._field(node, name)
                for parent in node.bases:
                    if inner.parent is not None:
                        found += self.attribute(self.values(parent, inner.parent), name)
        if not is_known:
            for source, scope in self.symbols.attributes.get(name, ())[:_CALL_SITES]:
                found += self.values(source, scope)
            bare = name.lstrip("_")
            if bare in REENTRY and not found:
                found.append(Value("ref", canonical(f"_.{name}")))
        return tuple(found)

    def _field(self, node: ast.ClassDef, name: str) -> Values:
        """What attribute *name* of a data class may be, by the calls that make its instances."""
        fields = [
            item.target.id
            for item in node.body
            if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name)
        ]
        if name not in fields:
            return ()
        found: list[Value] = []
        for call, scope in self.symbols.calls.get(node.name, [])[:_CALL_SITES]:
            found += self._argument(call, scope, fields.index(name), name)
        return tuple(found)

    def by_name(self, arguments: list[Values]) -> Values:
        """What `getattr` with *arguments* may give."""
        found: list[Value] = []
        if len(arguments) >= 2:
            names = [name.value for name in arguments[1] if name.kind == "text"]
            for name in names:
                if HOLE not in name:
                    found += self.attribute(arguments[0], name)
            if not names or any(HOLE in name for name in names):
                found += [
                    Value("ref", f"{base.value}.{ANY}")
                    for base in arguments[0]
                    if base.kind == "ref" and "(" not in base.value and "[" not in base.value
                ]
            if len(arguments) > 2:
                found += arguments[2]
        return tuple(found)
