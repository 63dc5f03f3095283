"""What names and expressions may stand for, as far as the text of the code tells.

Nothing is executed. A name stands for everything that is bound to it anywhere in its scope, whatever the order, so that
no order can hide one; an expression stands for a few alternatives, or for nothing that is known. Texts are folded where
all their parts are known, and keep a hole where one is not.
"""

# Nodes are told apart by their class, which is quicker than by isinstance, but says nothing to a type checker.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUnknownLambdaType=false

from __future__ import annotations

import ast
import base64
import binascii
import builtins
import codecs
import posixpath
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple, TypeAlias

from .names import Names
from .paths import HOLE, WORKSPACE

__all__ = ["Decoded", "DecodedBytes", "Resolver", "Scope", "Value", "canonical"]

_ALTERNATIVES = 8
_LONGEST = 1 << 18
_LONGEST_SEQUENCE = 1 << 14
_DEPTH = 250
_STEPS = 100_000
_CALL_SITES = 400
_BINDINGS = 400

_Function: TypeAlias = "ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda"
_Comprehension = (ast.ListComp, ast.SetComp, ast.GeneratorExp, ast.DictComp)


class Value(NamedTuple):
    """One thing that an expression may stand for.

    Kinds: ``ref`` (a canonical dotted name), ``text``, ``bytes``, ``int``, ``float``, ``path`` (text of a pathlib
    path), ``seq`` (a tuple of what its items may be), ``map`` (pairs of what a key and its value may be), ``function``
    and ``class`` (a node and its scope), ``partial`` (a function and its arguments).
    """

    kind: str
    value: Any


Values = tuple[Value, ...]


class Decoded(str):
    """Text that was decoded or put together from numbers."""

    __slots__ = ()


class DecodedBytes(bytes):
    __slots__ = ()


_REENTRY = frozenset(
    """
    os sys subprocess builtins ctypes importlib posix nt socket shutil pty runpy
""".split()
)
_BUILTINS = frozenset(dir(builtins)) | {"exit", "quit"}
_SAME_MODULE = {
    "posix": "os",
    "nt": "os",
    "posixpath": "os.path",
    "ntpath": "os.path",
    "_socket": "socket",
    "_io": "io",
    "__builtin__": "builtins",
    "_pickle": "pickle",
    "cPickle": "pickle",
    "_thread": "threading",
    "_operator": "operator",
    "_codecs": "codecs",
    "_frozen_importlib_external": "importlib",
}
_SAME_NAME = {
    "io.open": "builtins.open",
    "os.path.os": "os",
    "os.path.genericpath": "os.path",
    "builtins.__builtins__": "builtins",
    "socket._socket": "socket",
    "socket.SocketType": "socket.socket",
    "importlib.__import__": "builtins.__import__",
}


def canonical(path: str) -> str:
    """*path*, a dotted name, as the name that the same thing has where it is defined.

    A module that is reached through another one's namespace (``shutil.os``, ``random._os``) is that module.
    """
    parts = path.split(".")
    for index in range(len(parts) - 1, 0, -1):
        bare = parts[index].lstrip("_")
        if bare in _REENTRY and (bare != parts[index] or parts[index] in _REENTRY):
            if parts[index - 1] != bare:  # the class `socket.socket` is not its module
                parts = [bare, *parts[index + 1 :]]
                break
    if parts[0] in _SAME_MODULE:
        parts[0] = _SAME_MODULE[parts[0]]
    path = ".".join(parts)
    if path in _SAME_NAME:
        return _SAME_NAME[path]
    return path


class Scope:
    """A module, function, class, lambda or comprehension, and all that its names are bound to."""

    __slots__ = ("bindings", "globals_", "is_class", "node", "parent")

    def __init__(self, parent: Scope | None, node: ast.AST, *, is_class: bool = False) -> None:
        self.parent = parent
        self.node = node
        self.is_class = is_class
        self.bindings: dict[str, list[tuple[str, Any]]] = {}
        self.globals_: set[str] = set()

    def bind(self, name: str, kind: str, what: Any) -> None:
        scope = self
        if name in self.globals_:
            while scope.parent is not None:
                scope = scope.parent
        scope.bindings.setdefault(name, []).append((kind, what))


class Resolver:
    """What the code of one call means, with what *names* remembers of earlier ones.

    `gather` first; then ask `values`.
    """

    def __init__(self, module: ast.AST, names: Names | None) -> None:
        self.names = names
        self.module = Scope(None, module)
        self.scopes: dict[int, Scope] = {id(module): self.module}
        self.attributes: dict[str, list[tuple[ast.expr, Scope]]] = {}
        """What is assigned to attributes of this name, of whatever object."""
        self.calls: dict[str, list[tuple[ast.Call, Scope]]] = {}
        """Calls by the last name of what is called."""
        self.passed: dict[str, list[tuple[ast.Call, Scope]]] = {}
        """Calls by the names that are among their arguments."""
        self.lambdas: dict[int, str] = {}
        """Names by which lambdas are called, by the identity of their nodes."""
        self.exhausted = False
        """More was to be followed than is: what was found is not all."""
        self._memo: dict[tuple[int, int], Values] = {}
        self._kept: list[object] = []
        """What the identities in other fields are of."""
        self._busy: dict[tuple[int, int], int] = {}
        """What is being evaluated, and how deep."""
        self._lowest = _DEPTH + 1
        """The outermost of these that was met again."""
        self._depth = 0
        self._steps = 0

    # -- the first pass: who binds what

    def gather(self, root: ast.AST, scope: Scope) -> None:
        """Note every binding below *root*."""
        self._kept.append(root)
        self._memo.clear()
        work: list[tuple[ast.AST, Scope]] = [(root, scope)]
        while work:
            node, scope = work.pop()
            kind = node.__class__
            inner = scope
            if kind in (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda):
                inner = self.scopes[id(node)] = Scope(scope, node)
                self._gather_function(node, scope, inner)  # pyright: ignore
                arguments: ast.arguments = node.args  # pyright: ignore
                outside: list[Any] = [*arguments.defaults, *(d for d in arguments.kw_defaults if d is not None)]
                outside += getattr(node, "decorator_list", ())
                work.extend((item, scope) for item in outside)
                body = node.body if isinstance(node.body, list) else [node.body]  # pyright: ignore
                if kind is not ast.Lambda:
                    for statement in _declared_global(body):  # pyright: ignore
                        inner.globals_.update(statement)
                work.extend((item, inner) for item in body)  # pyright: ignore
                continue
            if kind is ast.ClassDef:
                inner = self.scopes[id(node)] = Scope(scope, node, is_class=True)
                scope.bind(node.name, "value", Value("class", (node, inner)))  # pyright: ignore
                work.extend((item, scope) for item in (*node.bases, *node.decorator_list))  # pyright: ignore
                work.extend((item.value, scope) for item in node.keywords)  # pyright: ignore
                work.extend((item, inner) for item in node.body)  # pyright: ignore
                continue
            if kind in _Comprehension:
                inner = self.scopes[id(node)] = Scope(scope, node)
                for generator in node.generators:  # pyright: ignore
                    self._bind_target(generator.target, "iter", generator.iter, inner)
            else:
                self._gather_simple(node, scope)
            for child in ast.iter_child_nodes(node):
                work.append((child, inner))

    def _gather_function(self, node: _Function, scope: Scope, inner: Scope) -> None:
        if not isinstance(node, ast.Lambda):
            scope.bind(node.name, "value", Value("function", (node, inner)))
        arguments = node.args
        positional = [*arguments.posonlyargs, *arguments.args]
        for argument in (*positional, *arguments.kwonlyargs):
            inner.bind(argument.arg, "parameter", (node, argument.arg))
        if arguments.vararg is not None:
            inner.bind(arguments.vararg.arg, "rest", node)
        if arguments.kwarg is not None:
            inner.bind(arguments.kwarg.arg, "rest", node)

    def _gather_simple(self, node: ast.AST, scope: Scope) -> None:
        if isinstance(node, ast.Call):
            name = _last_name(node.func)
            if isinstance(node.func, ast.Lambda):
                name = self.lambdas[id(node.func)] = f"\0{id(node.func)}"
            if name is not None:
                self.calls.setdefault(name, []).append((node, scope))
            for argument in (*node.args, *(keyword.value for keyword in node.keywords)):
                if isinstance(argument, ast.Starred):
                    argument = argument.value
                if isinstance(argument, (ast.Name, ast.Attribute)) and (name := _last_name(argument)) is not None:
                    self.passed.setdefault(name, []).append((node, scope))
        elif isinstance(node, ast.Assign):
            for target in node.targets:
                self._bind_target(target, "expr", node.value, scope)
                if isinstance(node.value, ast.Lambda):
                    self.lambdas[id(node.value)] = _last_name(target) or ""
        elif isinstance(node, (ast.AnnAssign, ast.NamedExpr)):
            if node.value is not None:
                target_scope = scope
                if isinstance(node, ast.NamedExpr):
                    while isinstance(target_scope.node, _Comprehension) and target_scope.parent is not None:
                        target_scope = target_scope.parent
                self._bind_target(node.target, "expr", node.value, target_scope)
        elif isinstance(node, ast.AugAssign):
            self._bind_target(node.target, "expr", ast.BinOp(_loaded(node.target), node.op, node.value), scope)
        elif isinstance(node, (ast.For, ast.AsyncFor)):
            self._bind_target(node.target, "iter", node.iter, scope)
        elif isinstance(node, (ast.With, ast.AsyncWith)):
            for item in node.items:
                if item.optional_vars is not None:
                    self._bind_target(item.optional_vars, "expr", item.context_expr, scope)
        elif isinstance(node, ast.Import):
            for alias in node.names:
                name = alias.asname or alias.name.partition(".")[0]
                scope.bind(name, "value", Value("ref", canonical(alias.name if alias.asname else name)))
        elif isinstance(node, ast.ImportFrom):
            if node.module and not node.level:
                for alias in node.names:
                    if alias.name == "*":
                        self._import_all(node.module, scope)
                    else:
                        name = canonical(f"{node.module}.{alias.name}")
                        scope.bind(alias.asname or alias.name, "value", Value("ref", name))
        elif isinstance(node, ast.Global):
            scope.globals_.update(node.names)
        elif isinstance(node, ast.MatchAs) and node.name is not None:
            scope.bind(node.name, "unknown", None)
        elif isinstance(node, ast.Match):
            for case in node.cases:
                for pattern in ast.walk(case.pattern):
                    if isinstance(pattern, ast.MatchAs) and pattern.name is not None:
                        scope.bind(pattern.name, "match", node.subject)

    def _import_all(self, module: str, scope: Scope) -> None:
        scope.bind("*", "value", Value("ref", canonical(module)))

    def _bind_target(self, target: ast.expr, kind: str, source: ast.expr, scope: Scope) -> None:
        if isinstance(target, ast.Name):
            scope.bind(target.id, kind, source)
        elif isinstance(target, (ast.Tuple, ast.List)):
            for index, item in enumerate(target.elts):
                starred = isinstance(item, ast.Starred)
                part = ast.Subscript(source, ast.Constant(None if starred else index), ast.Load())
                part._item_of = kind  # type: ignore[attr-defined]  # pyright: ignore
                self._bind_target(item.value if isinstance(item, ast.Starred) else item, "part", part, scope)
        elif isinstance(target, ast.Starred):
            self._bind_target(target.value, kind, source, scope)
        elif isinstance(target, ast.Attribute) and kind == "expr":
            self.attributes.setdefault(target.attr, []).append((source, scope))
        elif isinstance(target, ast.Subscript) and kind == "expr" and isinstance(target.value, ast.Name):
            # A value that is put into a container may be what the container is asked for.
            scope.bind(target.value.id, "inside", (target.slice, source))

    # -- the second pass: what it means

    def values(self, node: ast.AST, scope: Scope) -> Values:
        """What the expression *node* may stand for; nothing where that is not known."""
        key = id(node), id(scope)
        known = self._memo.get(key)
        if known is not None:
            return known
        if key in self._busy:
            self._lowest = min(self._lowest, self._busy[key])
            return ()
        self._steps += 1
        if self._depth > _DEPTH or self._steps > _STEPS:
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
            found = _distinct(method(self, node, scope))
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

    def references(self, node: ast.AST, scope: Scope) -> list[str]:
        return [value.value for value in self.values(node, scope) if value.kind == "ref"]

    def texts(self, node: ast.AST, scope: Scope) -> list[str]:
        return [value.value for value in self.values(node, scope) if value.kind == "text"]

    def integers(self, node: ast.AST, scope: Scope) -> list[int]:
        return [value.value for value in self.values(node, scope) if value.kind == "int"]

    def name(self, name: str, scope: Scope) -> Values:
        """What *name* may stand for in *scope*."""
        found: list[Value] = []
        searched: Scope | None = scope
        is_own = True
        while searched is not None:
            if name in searched.bindings and (is_own or not searched.is_class):
                bindings = searched.bindings[name]
                self._steps += len(bindings)
                self.exhausted |= len(bindings) > _BINDINGS
                for kind, what in bindings[:_BINDINGS]:
                    found += self._binding(kind, what, searched)
                if searched.parent is not None and name not in searched.globals_:
                    return tuple(found)
            is_own = False
            searched = searched.parent
        is_bound = name in self.module.bindings
        remembered = self.names.get(name) if self.names is not None else []
        found += [Value(kind, value) for kind, value in remembered]
        if not is_bound and not remembered:
            for _, star in self.module.bindings.get("*", ()):
                found.append(Value("ref", canonical(f"{star.value}.{name}")))
            if self.names is not None:
                for _, module in self.names.get("*"):
                    found.append(Value("ref", canonical(f"{module}.{name}")))
        if name in _BUILTINS and not is_bound:
            found.append(Value("ref", canonical(f"builtins.{name}")))
        elif name == "__builtins__":
            found.append(Value("ref", "builtins"))
        return tuple(found)

    def _binding(self, kind: str, what: Any, scope: Scope) -> Values:
        if kind == "value":
            return (what,)
        if kind in ("expr", "match", "part"):
            return self.values(what, scope)
        if kind == "iter":
            outer = scope.parent if isinstance(scope.node, _Comprehension) and scope.parent is not None else scope
            found = self._items(self.values(what, outer))
            if not found and outer is not scope:  # a later generator of the comprehension may use an earlier one
                found = self._items(self.values(what, scope))
            return found
        if kind == "parameter":
            return self._parameter(*what)
        if kind == "rest":
            return self._rest(what)
        return ()

    def _rest(self, node: _Function) -> Values:
        """What ``*args`` and ``**kwargs`` may hold: whatever the function is called with."""
        items: list[Values] = []
        for call, scope in self._call_sites(node):
            for argument in (*call.args, *(keyword.value for keyword in call.keywords)):
                items.append(self.values(argument, scope))
        return (Value("seq", tuple(items[:_CALL_SITES])),) if items else ()

    def _call_sites(self, node: _Function) -> list[tuple[ast.Call, Scope]]:
        return self.calls.get(self._called(node), [])[:_CALL_SITES]

    def _called(self, node: _Function) -> str:
        if isinstance(node, ast.Lambda):
            return self.lambdas.get(id(node), "")
        if node.name in ("__init__", "__new__", "__call__", "__post_init__"):
            parent = self.scopes[id(node)].parent
            if parent is not None and isinstance(parent.node, ast.ClassDef):
                return parent.node.name
        return node.name

    def _parameter(self, node: _Function, name: str) -> Values:
        arguments = node.args
        positional = [argument.arg for argument in (*arguments.posonlyargs, *arguments.args)]
        found: list[Value] = []
        if name in positional:
            index = positional.index(name)
            offset = index - len(positional) + len(arguments.defaults)
            scope = self.scopes[id(node)]
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
                    found += self.values(default, self.scopes[id(node)].parent or self.module)
        called = self._called(node)
        self._steps += len(self.calls.get(called, ())[:_CALL_SITES]) + len(self.passed.get(called, ())[:_CALL_SITES])
        for call, scope in self.calls.get(called, [])[:_CALL_SITES]:
            found += self._argument(call, scope, index, name)
        for call, scope in self.passed.get(called, [])[:_CALL_SITES]:
            found += self._handed_on(call, scope, called, index)
        return tuple(found)

    def _argument(self, call: ast.Call, scope: Scope, index: int, name: str) -> Values:
        for keyword in call.keywords:
            if keyword.arg == name:
                return self.values(keyword.value, scope)
            if keyword.arg is None:
                return self._items(self.values(keyword.value, scope))
        if 0 <= index < len(call.args) and not any(isinstance(item, ast.Starred) for item in call.args[: index + 1]):
            return self.values(call.args[index], scope)
        found: list[Value] = []
        for item in call.args:
            if isinstance(item, ast.Starred):
                found += self._items(self.values(item.value, scope))
        return tuple(found)

    def _handed_on(self, call: ast.Call, scope: Scope, function: str, index: int) -> Values:
        """What a function is called with that was itself passed to *call*: a thread, an executor, ``map``."""
        found: list[Value] = []
        for keyword in call.keywords:
            if keyword.arg in ("args", "kwargs"):
                found += self._items(self.values(keyword.value, scope))
        place = next((i for i, item in enumerate(call.args) if _last_name(item) == function), None)
        if place is not None and index >= 0:
            after = call.args[place + 1 :]
            if index < len(after):
                handed = self.values(after[index], scope)
                found += handed
                found += self._items(handed)
        return tuple(found)

    def _items(self, values: Values) -> Values:
        """What iterating over *values* may give."""
        found: list[Value] = []
        for value in values:
            if value.kind == "seq":
                for item in value.value[:_LONGEST_SEQUENCE]:
                    found += item
                    if len(found) > 1024:
                        break
            elif value.kind == "map":
                for key, item in value.value:
                    found += [*key, *item]
            elif value.kind == "text":
                found += [Value("text", value.value)]  # a character of it: what matters is where it came from
            elif value.kind == "ref":
                found.append(Value("ref", value.value + "[]"))
            elif value.kind == "path":
                found.append(Value("path", f"{value.value.rstrip('/')}/{HOLE}"))
            if len(found) > 1024:
                break
        return tuple(found)

    # -- expressions

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

    def attribute(self, bases: Values, name: str) -> Values:
        """What attribute *name* of *bases* may be."""
        found: list[Value] = []
        is_known = False
        for base in bases:
            if base.kind == "ref":
                is_known = True
                if base.value.endswith(("__dict__", "__builtins__")) and name in ("get", "pop", "setdefault"):
                    found.append(Value("ref", f"{base.value}.{name}"))
                elif name in _TRANSPARENT:
                    found.append(base)
                else:
                    found.append(Value("ref", canonical(f"{base.value}.{name}")))
            elif base.kind == "path" and name == "parent":
                found.append(Value("path", posixpath.dirname(base.value) or "."))
            elif base.kind == "class":
                node, inner = base.value
                if name in inner.bindings:
                    is_known = True
                    for kind, what in inner.bindings[name]:
                        found += self._binding(kind, what, inner)
                for parent in node.bases:
                    if inner.parent is not None:
                        found += self.attribute(self.values(parent, inner.parent), name)
        if not is_known:
            for source, scope in self.attributes.get(name, ())[:_CALL_SITES]:
                found += self.values(source, scope)
            bare = name.lstrip("_")
            if bare in _REENTRY and not found:
                found.append(Value("ref", canonical(f"_.{name}")))
        return tuple(found)

    def _subscript(self, node: ast.Subscript, scope: Scope) -> Values:
        bases = self.values(node.value, scope)
        part_of = getattr(node, "_item_of", None)
        if part_of == "iter":
            outer = scope.parent if isinstance(scope.node, _Comprehension) and scope.parent is not None else scope
            bases = self._items(self.values(node.value, outer) or bases)
        elif part_of == "part":
            bases = self._items(bases) or bases
        found: list[Value] = []
        if isinstance(node.slice, ast.Slice):
            return tuple(_sliced(base, node.slice, self, scope) for base in bases if base.kind in _SLICED)
        keys = self.values(node.slice, scope)
        for base in bases:
            found += self._item(base, keys, node.slice, scope)
        if isinstance(node.value, ast.Name):
            found += self._inside(node.value.id, keys, scope)
        return tuple(found)

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
                yield from self._items((base,))
        elif base.kind == "map":
            for key, item in base.value:
                if not keys or not key or set(keys) & set(key):
                    yield from item
        elif base.kind in ("text", "bytes"):
            for key in keys:
                if key.kind == "int" and -len(base.value) <= key.value < len(base.value):
                    yield _constant_value(base.value[key.value], base.value)
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
        if len(node.elts) > _LONGEST_SEQUENCE:
            return ()
        items: list[Values] = []
        for item in node.elts:
            if isinstance(item, ast.Starred):
                items += [(value,) for value in self._items(self.values(item.value, scope))]
            else:
                items.append(self.values(item, scope))
        return (Value("seq", tuple(items)),)

    def _dict(self, node: ast.Dict, scope: Scope) -> Values:
        if len(node.keys) > 2048:
            return ()
        pairs: list[tuple[Values, Values]] = []
        for key, value in zip(node.keys, node.values):
            if key is None:
                pairs.append(((), self._items(self.values(value, scope))))
            else:
                pairs.append((self.values(key, scope), self.values(value, scope)))
        return (Value("map", tuple(pairs)),)

    def _comprehension(self, node: Any, scope: Scope) -> Values:
        inner = self.scopes.get(id(node))
        if inner is None:
            return ()
        first = node.generators[0]
        element: ast.expr = node.elt
        if len(node.generators) == 1 and isinstance(first.target, ast.Name) and not first.ifs:
            # One by one, so that a text made of its parts keeps their order.
            items: list[Values] = []
            for source in self.values(first.iter, scope)[:1]:
                if source.kind in ("text", "bytes"):
                    each: Iterable[Values] = [(_constant_value(item, source.value),) for item in source.value[:4096]]
                elif source.kind == "seq":
                    each = source.value[:4096]
                else:
                    break
                for item in each:
                    once = Scope(scope, node)
                    once.bindings = {first.target.id: [("value", value) for value in item]}
                    self._kept.append(element)
                    self._kept.append(once)
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
                choices = [_as_text(value) for value in self.values(part.value, scope)] or [HOLE]
            else:
                choices = [HOLE]
            results = _joined_texts(results, choices)
        return tuple(Value("text", text) for text in results)

    def _binary(self, node: ast.BinOp, scope: Scope) -> Values:
        left, right = self.values(node.left, scope), self.values(node.right, scope)
        operation = node.op.__class__
        if operation is ast.Add and (_has_text(left) or _has_text(right)):
            texts = _joined_texts(
                [value.value for value in left if value.kind == "text"] or [HOLE],
                [value.value for value in right if value.kind == "text"] or [HOLE],
            )
            return tuple(Value("text", text) for text in texts)
        found: list[Value] = []
        for one in left[:_ALTERNATIVES]:
            if operation is ast.Div and one.kind == "path":
                parts = [_as_text(value) for value in right] or [HOLE]
                found += [Value("path", posixpath.join(one.value, part)) for part in parts]
                continue
            if operation is ast.Mod and one.kind == "text":
                found += _percent(one.value, right)
                continue
            for other in right[:_ALTERNATIVES]:
                result = _operate(operation, one, other)
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
        inner = self.scopes.get(id(node))
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
            fold = _FOLDS.get(function.value)
            if fold is not None:
                return tuple(fold(self, node, scope))
            return (Value("ref", function.value + "()"),)
        if function.kind == "function":
            return self._returned(function)
        if function.kind == "partial":
            inner, arguments = function.value
            if inner.kind == "ref" and inner.value == "builtins.getattr":
                values = [*arguments, *(self.values(argument, scope) for argument in node.args)]
                return self._getattr(values)
            return self.result(inner, node, scope)
        return ()

    def _returned(self, function: Value) -> Values:
        definition, inner = function.value
        if isinstance(definition, ast.Lambda):
            return self.values(definition.body, inner)
        found: list[Value] = []
        for statement in _returns(definition):
            found += self.values(statement, inner)
        return tuple(found)

    def _getattr(self, arguments: list[Values]) -> Values:
        found: list[Value] = []
        if len(arguments) >= 2:
            for name in arguments[1]:
                if name.kind == "text":
                    found += self.attribute(arguments[0], name.value)
            if len(arguments) > 2:
                found += arguments[2]
        return tuple(found)

    def _method(self, base: Value, name: str, node: ast.Call, scope: Scope) -> Values:
        arguments = [self.values(argument, scope) for argument in node.args]
        if base.kind == "path":
            return _path_method(base.value, name, arguments)
        if base.kind == "text" and name == "format":
            return _formatted(base.value, arguments, node, self, scope)
        if base.kind in ("text", "bytes") and name in _TEXT_METHODS:
            return _text_method(base.value, name, arguments)
        if base.kind == "int" and name == "to_bytes" and len(arguments) >= 1:
            length = next((value.value for value in arguments[0] if value.kind == "int"), 0)
            order = next((value.value for value in (arguments[1] if len(arguments) > 1 else ())), "big")
            if 0 < length <= 4096 and order in ("big", "little"):
                try:
                    return (Value("bytes", DecodedBytes(base.value.to_bytes(length, order))),)
                except (OverflowError, ValueError):
                    return ()
        if base.kind == "map" and name in ("get", "pop", "setdefault") and arguments:
            found: list[Value] = []
            for key, item in base.value:
                if not arguments[0] or not key or set(arguments[0]) & set(key):
                    found += item
            return (*found, *(arguments[1] if len(arguments) > 1 else ()))
        if base.kind == "map" and name in ("values", "items", "keys", "copy"):
            return (base,)
        if base.kind == "seq" and name in ("pop", "copy", "__getitem__"):
            return self._items((base,)) if name != "copy" else (base,)
        return ()


_TRANSPARENT = frozenset(("__call__", "__func__", "__wrapped__", "func"))
_SLICED = frozenset(("text", "bytes", "seq"))
_TEXT_METHODS = frozenset(
    """
    decode encode replace join strip lstrip rstrip lower upper casefold title capitalize swapcase removeprefix
    removesuffix split rsplit splitlines hex zfill expandtabs partition rpartition translate center ljust rjust
    __add__ __str__
""".split()
)


def _declared_global(body: list[Any]) -> Iterator[list[str]]:
    work = list(body)
    while work:
        node = work.pop()
        if isinstance(node, ast.Global):
            yield node.names
        elif not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda, ast.expr)):
            work.extend(ast.iter_child_nodes(node))


def _returns(function: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[ast.expr]:
    work: list[ast.AST] = list(function.body)
    while work:
        node = work.pop()
        if (isinstance(node, ast.Return) and node.value is not None) or (
            isinstance(node, (ast.Yield, ast.YieldFrom)) and node.value is not None
        ):
            yield node.value
        elif not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)):
            work.extend(ast.iter_child_nodes(node))


def _last_name(node: ast.AST) -> str | None:
    if isinstance(node, ast.Name):
        return node.id
    return node.attr if isinstance(node, ast.Attribute) else None


def _loaded(target: Any) -> Any:
    if isinstance(target, ast.Name):
        return ast.Name(target.id, ast.Load())
    return target


def _distinct(values: Iterable[Value]) -> Values:
    """*values* without repetitions; where they are too many, those that can matter most."""
    found = tuple(dict.fromkeys(values)) if not isinstance(values, tuple) or len(values) > 1 else values
    if len(found) <= 2 * _ALTERNATIVES:
        return found
    return tuple(sorted(found, key=_weight)[: 4 * _ALTERNATIVES])


def _weight(value: Value) -> int:
    if value.kind == "text":
        text = value.value
        return 1 if text[:1] in "/~." or "/." in text or "__" in text or "import" in text or "://" in text else 3
    return 2 if value.kind in ("int", "float", "bytes") else 0


def _has_text(values: Values) -> bool:
    return any(value.kind == "text" for value in values)


def _as_text(value: Value) -> str:
    if value.kind in ("text", "path"):
        return value.value
    return str(value.value) if value.kind in ("int", "float") and abs(value.value) < 1e30 else HOLE


def _is_decoded(*values: object) -> bool:
    return any(isinstance(value, (Decoded, DecodedBytes)) for value in values)


def _joined_texts(left: list[str], right: list[str]) -> list[str]:
    results: list[str] = []
    for one in left[:_ALTERNATIVES]:
        for other in right[:_ALTERNATIVES]:
            if len(one) + len(other) > _LONGEST:
                continue
            text = one + other
            results.append(Decoded(text) if _is_decoded(one, other) else text)
            if len(results) >= _ALTERNATIVES:
                return results
    return results


def _constant_value(value: str | int | bytes, source: object = None) -> Value:
    if isinstance(value, str):
        return Value("text", Decoded(value) if _is_decoded(source) else value)
    return Value("int", value) if isinstance(value, int) else Value("bytes", value)


def _operate(operation: type[ast.AST], one: Value, other: Value) -> Value | None:
    a, b = one.value, other.value
    if one.kind == other.kind == "bytes" and operation is ast.Add and len(a) + len(b) <= _LONGEST:
        return Value("bytes", DecodedBytes(a + b) if _is_decoded(a, b) else a + b)
    if one.kind == other.kind == "seq" and operation is ast.Add and len(a) + len(b) <= _LONGEST_SEQUENCE:
        return Value("seq", a + b)
    if operation is ast.Mult and one.kind in ("text", "bytes") and other.kind == "int" and 0 <= b * len(a) <= 4096:
        return Value(one.kind, a * b)
    if one.kind == other.kind == "int" and max(abs(a), abs(b)) < 1 << 256:
        if operation is ast.Pow:
            return Value("int", a**b) if b >= 0 and a.bit_length() * b < 4096 else None
        if operation is ast.LShift:
            return Value("int", a << b) if 0 <= b < 4096 else None
        function = _INTEGERS.get(operation)
        if function is not None and not (operation in (ast.FloorDiv, ast.Mod) and b == 0):
            if operation is ast.RShift and not 0 <= b < 4096:
                return None
            return Value("int", function(a, b))
    if {one.kind, other.kind} <= {"int", "float"} and operation in (ast.Mult, ast.Add, ast.Sub, ast.Pow):
        try:
            if operation is ast.Pow:
                if abs(a) > 1e6 or abs(b) > 300:
                    return None
                result: Any = float(a) ** float(b)
            else:
                result = {ast.Mult: a * b, ast.Add: a + b, ast.Sub: a - b}[operation]  # pyright: ignore
        except (OverflowError, ValueError, ZeroDivisionError):
            return None
        return Value("float", result) if isinstance(result, float) else None
    return None


_INTEGERS: dict[type[ast.AST], Callable[[int, int], int]] = {
    ast.Add: lambda a, b: a + b,
    ast.Sub: lambda a, b: a - b,
    ast.Mult: lambda a, b: a * b,
    ast.FloorDiv: lambda a, b: a // b,
    ast.Mod: lambda a, b: a % b,
    ast.BitXor: lambda a, b: a ^ b,
    ast.BitOr: lambda a, b: a | b,
    ast.BitAnd: lambda a, b: a & b,
    ast.RShift: lambda a, b: a >> b,
}


def _sliced(base: Value, where: ast.Slice, resolver: Resolver, scope: Scope) -> Value:
    bounds: list[int | None] = []
    for part in (where.lower, where.upper, where.step):
        if part is None:
            bounds.append(None)
        else:
            known = resolver.integers(part, scope)
            if not known:
                return base if base.kind == "seq" else Value("text", HOLE)
            bounds.append(known[0])
    if bounds[2] == 0:
        return base
    part = base.value[slice(*bounds)]
    if isinstance(base.value, Decoded):
        part = Decoded(part)
    return Value(base.kind, part)


def _percent(template: str, right: Values) -> Iterator[Value]:
    choices: list[Any] = []
    for value in right[:_ALTERNATIVES]:
        if value.kind == "seq":
            choices.append(tuple(_plain(item) for item in value.value))
        elif value.kind == "map":
            choices.append({key[0].value: _plain(item) for key, item in value.value if key and key[0].kind == "text"})
        else:
            choices.append(_plain((value,)))
    for choice in choices or [HOLE]:
        try:
            text = template % choice if "*" not in template else HOLE
        except (TypeError, ValueError, KeyError, OverflowError, MemoryError):
            continue
        if len(text) <= _LONGEST:
            yield Value("text", text)


def _plain(values: Values) -> Any:
    """One plain value for formatting, or a hole."""
    if values and values[0].kind in ("text", "path", "int", "float"):
        return values[0].value
    return HOLE


def _formatted(template: str, arguments: list[Values], node: ast.Call, resolver: Resolver, scope: Scope) -> Values:
    import re

    named = {
        keyword.arg: _plain(resolver.values(keyword.value, scope))
        for keyword in node.keywords
        if keyword.arg is not None
    }
    if len(template) > _LONGEST or re.search(r"\{[^{}]*[:.\[!]", template):
        return (Value("text", re.sub(r"\{[^{}]*\}", HOLE, template)),)
    try:
        text = template.format(*(str(_plain(values)) for values in arguments), **named)
    except (LookupError, ValueError, AttributeError, TypeError):
        text = re.sub(r"\{[^{}]*\}", HOLE, template)
    return (Value("text", text),) if len(text) <= _LONGEST else ()


def _text_method(base: Any, name: str, arguments: list[Values]) -> Values:
    plain: list[Any] = []
    for values in arguments:
        if not values:
            if name in ("replace", "join"):
                return (Value("text", HOLE),)
            return ()
        value = values[0]
        if value.kind == "seq":
            items = [item[0].value if item else HOLE for item in value.value]
            plain.append(items)
        elif value.kind in ("text", "bytes", "int"):
            plain.append(value.value)
        else:
            return ()
    decoded = _is_decoded(base, *plain) or any(
        isinstance(item, (Decoded, DecodedBytes)) for value in plain if isinstance(value, list) for item in value
    )
    try:
        if name == "decode":
            encoding = plain[0] if plain else "utf-8"
            result: Any = codecs.decode(base, encoding, "replace") if _is_plain_codec(encoding) else None
            if not _is_utf8(encoding):
                decoded = True
        elif name == "encode":
            encoding = plain[0] if plain else "utf-8"
            result = codecs.encode(base, encoding, "replace") if _is_plain_codec(encoding) else None
        elif (
            (name in ("center", "ljust", "rjust", "zfill") and (not plain or plain[0] > 4096))
            or name in ("expandtabs",)
            or (name == "replace" and len(base) * (1 + len(plain[1])) > 4 * _LONGEST)
        ):
            return ()
        else:
            result = getattr(base, name)(*plain)
    except Exception:  # whatever a method makes of hostile arguments
        return ()
    return _from_plain(result, decoded)


def _from_plain(result: Any, decoded: bool) -> Values:
    if isinstance(result, str) and len(result) <= _LONGEST:
        return (Value("text", Decoded(result) if decoded else result),)
    if isinstance(result, (bytes, bytearray)) and len(result) <= _LONGEST:
        return (Value("bytes", DecodedBytes(result) if decoded else bytes(result)),)
    if isinstance(result, (list, tuple)) and len(result) <= _LONGEST_SEQUENCE:  # pyright: ignore
        return (Value("seq", tuple(_from_plain(item, decoded) for item in result)),)  # pyright: ignore
    if isinstance(result, int):
        return (Value("int", result),)
    return ()


def _is_utf8(encoding: object) -> bool:
    return isinstance(encoding, str) and encoding.lower().replace("_", "-") in (
        "utf-8",
        "utf8",
        "ascii",
        "latin-1",
        "latin1",
    )


def _is_plain_codec(encoding: object) -> bool:
    return isinstance(encoding, str) and encoding.lower().replace("-", "_") in {
        "utf_8", "utf8", "ascii", "latin_1", "latin1", "iso_8859_1", "utf_16", "utf_16_le", "utf_16_be", "utf_32",
        "cp1252", "cp437", "rot13", "rot_13", "hex", "hex_codec", "base64", "base64_codec", "unicode_escape",
        "raw_unicode_escape", "utf_7", "punycode", "utf_8_sig", "uu", "quopri",
    }  # fmt: skip


def _path_method(base: str, name: str, arguments: list[Values]) -> Values:
    if name in ("joinpath", "__truediv__"):
        results = [base]
        for values in arguments:
            results = [posixpath.join(one, part) for one in results for part in [_as_text(v) for v in values] or [HOLE]]
        return tuple(Value("path", text) for text in results[:_ALTERNATIVES])
    if name in ("resolve", "absolute", "expanduser"):
        return (Value("path", base),)
    if name in ("as_posix", "__str__", "__fspath__"):
        return (Value("text", base),)
    if name in ("with_name", "with_suffix", "with_stem", "relative_to"):
        return (Value("path", f"{posixpath.dirname(base)}/{HOLE}"),)
    if name in ("iterdir", "glob", "rglob"):
        return (Value("seq", ((Value("path", f"{base.rstrip('/')}/{HOLE}"),),)),)
    if name == "home":
        return (Value("path", "~"),)
    return (Value("ref", f"pathlib.Path().{name}()"),)


# -- calls whose results are known

_Fold = Callable[[Resolver, ast.Call, Scope], Iterable[Value]]


def _argument_values(resolver: Resolver, node: ast.Call, scope: Scope) -> list[Values]:
    return [resolver.values(argument, scope) for argument in node.args if not isinstance(argument, ast.Starred)]


def _fold_path_join(resolver: Resolver, node: ast.Call, scope: Scope) -> Iterator[Value]:
    results = [""]
    for index, values in enumerate(_argument_values(resolver, node, scope)):
        parts = [_as_text(value) for value in values] or [HOLE]
        results = [posixpath.join(one, part) if index else part for one in results[:_ALTERNATIVES] for part in parts]
    for argument in node.args:
        if isinstance(argument, ast.Starred):
            items = [_as_text(v) for v in resolver._items(resolver.values(argument.value, scope))] or [HOLE]  # pyright: ignore
            results = [posixpath.join(*((one,) if one else ()), *items) for one in results]
    return (Value("text", text) for text in results[:_ALTERNATIVES])


def _fold_path(resolver: Resolver, node: ast.Call, scope: Scope) -> Iterator[Value]:
    for value in _fold_path_join(resolver, node, scope):
        yield Value("path", value.value or ".")


def _fold_first(resolver: Resolver, node: ast.Call, scope: Scope) -> Values:
    values = _argument_values(resolver, node, scope)
    return values[0] if values else ()


def _fold_normal(resolver: Resolver, node: ast.Call, scope: Scope) -> Iterator[Value]:
    for value in _fold_first(resolver, node, scope):
        if value.kind in ("text", "path"):
            yield Value("text", value.value)


def _fold_text(resolver: Resolver, node: ast.Call, scope: Scope) -> Iterator[Value]:
    values = _argument_values(resolver, node, scope)
    for value in values[0] if values else ():
        if value.kind == "bytes" and len(values) > 1:
            encodings = [item.value for item in values[1] if item.kind == "text"]
            if encodings and _is_plain_codec(encodings[0]):
                yield from _text_method(value.value, "decode", [(Value("text", encodings[0]),)])
        elif value.kind in ("text", "path", "int", "float"):
            text = _as_text(value)
            yield Value("text", Decoded(text) if _is_decoded(value.value) else text)
        elif value.kind == "ref":
            yield Value("text", HOLE)


def _fold_character(resolver: Resolver, node: ast.Call, scope: Scope) -> Iterator[Value]:
    for value in _fold_first(resolver, node, scope):
        if value.kind == "int" and 0 <= value.value <= sys.maxunicode:
            yield Value("text", Decoded(chr(value.value)))


def _fold_ordinal(resolver: Resolver, node: ast.Call, scope: Scope) -> Iterator[Value]:
    for value in _fold_first(resolver, node, scope):
        if value.kind == "text" and len(value.value) == 1:
            yield Value("int", ord(value.value))


def _fold_integer(resolver: Resolver, node: ast.Call, scope: Scope) -> Iterator[Value]:
    values = _argument_values(resolver, node, scope)
    base = next((value.value for value in (values[1] if len(values) > 1 else ()) if value.kind == "int"), 10)
    for value in values[0] if values else ():
        try:
            if value.kind == "text" and len(value.value) <= 4000 and 0 <= base <= 36:
                yield Value("int", int(value.value, base))
            elif value.kind in ("int", "float"):
                yield Value("int", int(value.value))
        except (ValueError, OverflowError):
            continue


def _fold_bytes(resolver: Resolver, node: ast.Call, scope: Scope) -> Iterator[Value]:
    values = _argument_values(resolver, node, scope)
    for value in values[0] if values else ():
        if value.kind == "seq":
            numbers = [item[0].value for item in value.value if item and item[0].kind == "int"]
            if len(numbers) == len(value.value) and all(0 <= number < 256 for number in numbers):
                yield Value("bytes", DecodedBytes(numbers))
        elif value.kind == "bytes":
            yield value
        elif value.kind == "text":
            yield Value("bytes", str.encode(value.value, "utf-8", "replace"))
        elif value.kind == "int":
            yield Value("ref", "builtins.bytes()")


def _fold_list(resolver: Resolver, node: ast.Call, scope: Scope) -> Iterator[Value]:
    for value in _fold_first(resolver, node, scope):
        if value.kind in ("text", "bytes"):
            yield Value("seq", tuple((_constant_value(item, value.value),) for item in value.value[:_LONGEST_SEQUENCE]))
        else:
            yield value


def _fold_reversed(resolver: Resolver, node: ast.Call, scope: Scope) -> Iterator[Value]:
    for value in _fold_list(resolver, node, scope):
        yield Value("seq", value.value[::-1]) if value.kind == "seq" else value


def _fold_range(resolver: Resolver, node: ast.Call, scope: Scope) -> Iterator[Value]:
    values = _argument_values(resolver, node, scope)
    numbers = [next((value.value for value in item if value.kind == "int"), None) for item in values]
    if numbers and None not in numbers and len(numbers) <= 3 and (len(numbers) < 3 or numbers[2] != 0):
        whole = range(*numbers)  # pyright: ignore
        shown = list(whole[:256]) + ([whole[-1]] if len(whole) > 256 else [])
        yield Value("seq", tuple((Value("int", number),) for number in shown))


def _fold_map(resolver: Resolver, node: ast.Call, scope: Scope) -> Iterator[Value]:
    values = _argument_values(resolver, node, scope)
    if len(values) < 2:
        return
    for function in values[0]:
        if function.kind == "ref" and function.value == "builtins.getattr" and len(values) > 2:
            pairs = [resolver._items(item) for item in values[1:3]]  # pyright: ignore
            yield Value("seq", (resolver._getattr(list(pairs)),))  # pyright: ignore
            continue
        for source in values[1]:
            items: list[Values] = []
            if source.kind in ("text", "bytes"):
                each: Iterable[Values] = [(_constant_value(item, source.value),) for item in source.value[:4096]]
            elif source.kind == "seq":
                each = source.value[:4096]
            else:
                continue
            for item in each:
                call = ast.Call(node.args[0], [ast.Name("\0item", ast.Load())], [])
                once = Scope(scope, node)
                once.bindings = {"\0item": [("value", value) for value in item]}
                resolver._kept.append(once)  # pyright: ignore
                resolver._kept.append(call)  # pyright: ignore
                if function.kind == "function":
                    items.append(_applied(resolver, function, item, once))
                else:
                    items.append(_distinct(resolver.result(function, call, once)))
            yield Value("seq", tuple(items))


def _applied(resolver: Resolver, function: Value, item: Values, scope: Scope) -> Values:
    definition, inner = function.value
    arguments = definition.args.args
    if not isinstance(definition, ast.Lambda) or len(arguments) != 1:
        return resolver._returned(function)  # pyright: ignore
    once = Scope(inner.parent, definition)
    once.bindings = {arguments[0].arg: [("value", value) for value in item]}
    resolver._kept.append(once)  # pyright: ignore
    return resolver.values(definition.body, once)


def _fold_getattr(resolver: Resolver, node: ast.Call, scope: Scope) -> Values:
    return resolver._getattr(_argument_values(resolver, node, scope))  # pyright: ignore


def _fold_import(resolver: Resolver, node: ast.Call, scope: Scope) -> Iterator[Value]:
    arguments = [*node.args[:1], *(keyword.value for keyword in node.keywords if keyword.arg == "name")]
    for argument in arguments:
        for text in resolver.texts(argument, scope):
            is_root = resolver.references(node.func, scope)[:1] == ["builtins.__import__"] and len(node.args) < 4
            yield Value("ref", canonical(text.partition(".")[0] if is_root else text))


def _fold_vars(resolver: Resolver, node: ast.Call, scope: Scope) -> Iterator[Value]:
    if not node.args:
        yield Value("ref", "builtins.vars()")
    for value in _fold_first(resolver, node, scope):
        if value.kind == "ref":
            yield Value("ref", f"{value.value}.__dict__")


def _fold_partial(resolver: Resolver, node: ast.Call, scope: Scope) -> Iterator[Value]:
    values = _argument_values(resolver, node, scope)
    for function in values[0] if values else ():
        yield Value("partial", (function, tuple(values[1:])))


def _decoder(function: Callable[[Any], Any]) -> _Fold:
    def fold(resolver: Resolver, node: ast.Call, scope: Scope) -> Iterator[Value]:
        for value in _fold_first(resolver, node, scope):
            if value.kind in ("text", "bytes") and len(value.value) <= _LONGEST:
                data = value.value
                try:
                    result = function(data.encode("ascii") if isinstance(data, str) and function in _OF_BYTES else data)
                except Exception:  # whatever a decoder makes of hostile data
                    continue
                yield from _from_plain(result, decoded=True)

    return fold


def _inflate(data: bytes) -> bytes:
    return zlib.decompressobj(47).decompress(data, _LONGEST)


def _inflate_bz2(data: bytes) -> bytes:
    import bz2

    return bz2.BZ2Decompressor().decompress(data, _LONGEST)


def _inflate_lzma(data: bytes) -> bytes:
    import lzma

    return lzma.LZMADecompressor(memlimit=64 << 20).decompress(data, _LONGEST)


_OF_BYTES = (_inflate, _inflate_bz2, _inflate_lzma)


def _encoder(function: Callable[[bytes], bytes]) -> _Fold:
    def fold(resolver: Resolver, node: ast.Call, scope: Scope) -> Iterator[Value]:
        for value in _fold_first(resolver, node, scope):
            if value.kind == "bytes" and len(value.value) <= _LONGEST // 4:
                yield Value("bytes", DecodedBytes(function(value.value)))

    return fold


def _fold_codecs_decode(resolver: Resolver, node: ast.Call, scope: Scope) -> Iterator[Value]:
    values = _argument_values(resolver, node, scope)
    encodings = [item.value for item in (values[1] if len(values) > 1 else ()) if item.kind == "text"] or ["utf-8"]
    for value in values[0] if values else ():
        if value.kind in ("text", "bytes") and _is_plain_codec(encodings[0]):
            try:
                result = codecs.decode(value.value, encodings[0])
            except Exception:  # as above
                continue
            yield from _from_plain(result, decoded=not _is_utf8(encodings[0]))


def _fold_codecs_encode(resolver: Resolver, node: ast.Call, scope: Scope) -> Iterator[Value]:
    values = _argument_values(resolver, node, scope)
    encodings = [item.value for item in (values[1] if len(values) > 1 else ()) if item.kind == "text"] or ["utf-8"]
    for value in values[0] if values else ():
        if value.kind in ("text", "bytes") and _is_plain_codec(encodings[0]):
            try:
                result = codecs.encode(value.value, encodings[0])
            except Exception:  # as above
                continue
            yield from _from_plain(result, decoded=not _is_utf8(encodings[0]))


def _constant_text(text: str) -> _Fold:
    return lambda _resolver, _node, _scope: (Value("text", text),)


def _fold_tempdir(_resolver: Resolver, _node: ast.Call, _scope: Scope) -> Values:
    return (Value("text", "/tmp"),)  # noqa: S108


_FOLDS: dict[str, _Fold] = {
    "os.path.join": _fold_path_join,
    "os.path.expanduser": _fold_normal,
    "os.path.expandvars": _fold_normal,
    "os.path.abspath": _fold_normal,
    "os.path.normpath": _fold_normal,
    "os.path.realpath": _fold_normal,
    "os.fspath": _fold_normal,
    "os.fsdecode": _fold_normal,
    "os.getcwd": _constant_text(WORKSPACE),
    "tempfile.gettempdir": _fold_tempdir,
    "site.getsitepackages": lambda *_: (Value("seq", ((Value("text", "/usr/lib/python3/site-packages"),),)),),
    "site.getusersitepackages": _constant_text("~/.local/lib/python3/site-packages"),
    "sysconfig.get_path": _constant_text("/usr/lib/python3/site-packages"),
    "pathlib.Path": _fold_path,
    "pathlib.PosixPath": _fold_path,
    "pathlib.PurePath": _fold_path,
    "pathlib.PurePosixPath": _fold_path,
    "pathlib.Path.home": lambda *_: (Value("path", "~"),),
    "pathlib.Path.cwd": lambda *_: (Value("path", WORKSPACE),),
    "builtins.str": _fold_text,
    "builtins.repr": _fold_text,
    "builtins.chr": _fold_character,
    "builtins.ord": _fold_ordinal,
    "builtins.int": _fold_integer,
    "builtins.bytes": _fold_bytes,
    "builtins.bytearray": _fold_bytes,
    "builtins.list": _fold_list,
    "builtins.tuple": _fold_list,
    "builtins.set": _fold_list,
    "builtins.iter": _fold_list,
    "builtins.sorted": _fold_list,
    "builtins.reversed": _fold_reversed,
    "builtins.range": _fold_range,
    "builtins.map": _fold_map,
    "builtins.getattr": _fold_getattr,
    "builtins.__import__": _fold_import,
    "importlib.import_module": _fold_import,
    "builtins.vars": _fold_vars,
    "builtins.dict": _fold_first,
    "functools.partial": _fold_partial,
    "builtins.bytes.fromhex": _decoder(bytes.fromhex),
    "builtins.bytearray.fromhex": _decoder(bytes.fromhex),
    "base64.b64decode": _decoder(base64.b64decode),
    "base64.standard_b64decode": _decoder(base64.standard_b64decode),
    "base64.urlsafe_b64decode": _decoder(base64.urlsafe_b64decode),
    "base64.decodebytes": _decoder(base64.decodebytes),
    "base64.b32decode": _decoder(base64.b32decode),
    "base64.b16decode": _decoder(base64.b16decode),
    "base64.a85decode": _decoder(base64.a85decode),
    "base64.b85decode": _decoder(base64.b85decode),
    "base64.b64encode": _encoder(base64.b64encode),
    "base64.b32encode": _encoder(base64.b32encode),
    "base64.b85encode": _encoder(base64.b85encode),
    "binascii.hexlify": _encoder(binascii.hexlify),
    "binascii.unhexlify": _decoder(binascii.unhexlify),
    "binascii.a2b_hex": _decoder(binascii.unhexlify),
    "binascii.a2b_base64": _decoder(binascii.a2b_base64),
    "zlib.compress": _encoder(zlib.compress),
    "zlib.decompress": _decoder(_inflate),
    "gzip.decompress": _decoder(_inflate),
    "bz2.decompress": _decoder(_inflate_bz2),
    "lzma.decompress": _decoder(_inflate_lzma),
    "codecs.decode": _fold_codecs_decode,
    "codecs.encode": _fold_codecs_encode,
    "textwrap.dedent": _fold_normal,
    "ast.parse": _fold_first,
    "builtins.compile": _fold_first,
    "codeop.compile_command": _fold_first,
    "copy.copy": _fold_first,
    "copy.deepcopy": _fold_first,
    "asyncio.run": _fold_first,
    "random.choice": lambda r, n, s: r._items(_fold_first(r, n, s)),  # pyright: ignore
    "builtins.next": lambda r, n, s: r._items(_fold_first(r, n, s)),  # pyright: ignore
}

_EVALUATE: dict[type[ast.AST], Callable[[Resolver, Any, Scope], Values]] = {
    ast.Constant: Resolver._constant,  # pyright: ignore
    ast.Name: Resolver._name,  # pyright: ignore
    ast.Attribute: Resolver._attribute,  # pyright: ignore
    ast.Subscript: Resolver._subscript,  # pyright: ignore
    ast.List: Resolver._sequence,  # pyright: ignore
    ast.Tuple: Resolver._sequence,  # pyright: ignore
    ast.Set: Resolver._sequence,  # pyright: ignore
    ast.Dict: Resolver._dict,  # pyright: ignore
    ast.ListComp: Resolver._comprehension,  # pyright: ignore
    ast.SetComp: Resolver._comprehension,  # pyright: ignore
    ast.GeneratorExp: Resolver._comprehension,  # pyright: ignore
    ast.JoinedStr: Resolver._joined,  # pyright: ignore
    ast.BinOp: Resolver._binary,  # pyright: ignore
    ast.UnaryOp: Resolver._unary,  # pyright: ignore
    ast.IfExp: Resolver._choice,  # pyright: ignore
    ast.BoolOp: Resolver._either,  # pyright: ignore
    ast.NamedExpr: Resolver._inner,  # pyright: ignore
    ast.Await: Resolver._inner,  # pyright: ignore
    ast.Starred: Resolver._inner,  # pyright: ignore
    ast.Lambda: Resolver._lambda,  # pyright: ignore
    ast.Call: Resolver._call,  # pyright: ignore
}
