"""The symbol table: which scope binds which name to what, and who is called where. Nothing is evaluated."""

# Nodes are told apart by their class, which is quicker than by isinstance, but says nothing to a type checker.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUnknownLambdaType=false

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Any, NamedTuple, TypeAlias

from .canonical import canonical
from .values import Value

__all__ = [
    "COMPREHENSIONS",
    "Contents",
    "Entry",
    "Function",
    "Scope",
    "SymbolTable",
    "is_generator",
    "last_name",
    "returned_values",
]

Function: TypeAlias = "ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda"
_LOOPS = frozenset((ast.While, ast.AsyncFor))
_WAYS = _LOOPS | {ast.If, ast.Try, ast.Match, ast.IfExp, ast.BoolOp, ast.ExceptHandler}
"""Statements and expressions of which parts may not be run, or not once."""

COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.GeneratorExp, ast.DictComp)


_SOMEWHERE = ast.Pass()
"""Stands for a loop around a statement that is not run once for each item."""

_ADDERS = {
    **dict.fromkeys(("append", "appendleft", "add", "put", "put_nowait", "push", "set"), 0),
    **dict.fromkeys(("extend", "extendleft", "update"), 0),
    "insert": 1,
    "setdefault": 1,
}
"""Methods that put something into what they are called on, and which argument it is."""

_OF_MANY = frozenset(("extend", "extendleft", "update"))
_IN_ORDER = frozenset(("append", "extend"))


class Entry(NamedTuple):
    """Something that is put into a container."""

    key: ast.expr | None
    source: ast.expr
    scope: Scope
    is_many: bool
    """What is put in are the items of the source."""
    in_order: ast.expr | None
    """What comes at the end of a list by it, if that is certain."""


class Contents(ast.expr):
    """All that is put into the containers of one name, after they were made: an expression like any other."""

    _fields = ()

    def __init__(self) -> None:
        super().__init__()
        self.entries: list[Entry] = []


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


class SymbolTable:
    """All scopes of a module, and of texts that it executes."""

    def __init__(self, module: ast.AST) -> None:
        self.module = Scope(None, module)
        self.scopes: dict[int, Scope] = {id(module): self.module}
        """By the identities of the nodes that open them."""
        self.attributes: dict[str, list[tuple[ast.expr, Scope]]] = {}
        """What is assigned to attributes of this name, of whatever object."""
        self.calls: dict[str, list[tuple[ast.Call, Scope]]] = {}
        """Calls by the last name of what is called."""
        self.passed: dict[str, list[tuple[ast.Call, Scope]]] = {}
        """Calls by the names that are among their arguments."""
        self.lambdas: dict[int, str] = {}
        """Names by which lambdas are called, by the identity of their nodes."""
        self.contents: dict[str, Contents] = {}
        """By the names of containers; those of attributes begin with a dot."""
        self.repeated: set[int] = set()
        """Identities of expressions that are assigned in loops, where they may use what they gave before."""

    def gather(self, root: ast.AST, scope: Scope) -> None:
        """Note every binding below *root*."""
        work: list[tuple[ast.AST, Scope, ast.AST | None]] = [(root, scope, None)]
        while work:
            node, scope, loop = work.pop()
            kind = node.__class__
            inner = scope
            if kind in (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda):
                inner = self.scopes[id(node)] = Scope(scope, node)
                self._gather_function(node, scope, inner)  # pyright: ignore
                arguments: ast.arguments = node.args  # pyright: ignore
                outside: list[Any] = [*arguments.defaults, *(d for d in arguments.kw_defaults if d is not None)]
                outside += getattr(node, "decorator_list", ())
                work.extend((item, scope, loop) for item in outside)
                body = node.body if isinstance(node.body, list) else [node.body]  # pyright: ignore
                if kind is not ast.Lambda:
                    for statement in _declared_global(body):  # pyright: ignore
                        inner.globals_.update(statement)
                work.extend((item, inner, None) for item in body)  # pyright: ignore
                continue
            if kind is ast.ClassDef:
                inner = self.scopes[id(node)] = Scope(scope, node, is_class=True)
                scope.bind(node.name, "value", Value("class", (node, inner)))  # pyright: ignore
                work.extend((item, scope, loop) for item in (*node.bases, *node.decorator_list))  # pyright: ignore
                work.extend((item.value, scope, loop) for item in node.keywords)  # pyright: ignore
                work.extend((item, inner, None) for item in node.body)  # pyright: ignore
                continue
            if kind in COMPREHENSIONS:
                inner = self.scopes[id(node)] = Scope(scope, node)
                for generator in node.generators:  # pyright: ignore
                    self._bind_target(generator.target, "iter", generator.iter, inner)
                loop = _SOMEWHERE
            elif kind is ast.For:
                self._gather_simple(node, scope, loop)
                work.extend((item, scope, node if loop is None else _SOMEWHERE) for item in node.body)  # pyright: ignore
                work.extend((item, scope, loop) for item in (node.target, node.iter, *node.orelse))  # pyright: ignore
                continue
            else:
                self._gather_simple(node, scope, loop)
                if kind in _WAYS and (loop is not None or kind in _LOOPS):
                    loop = _SOMEWHERE
            for child in ast.iter_child_nodes(node):
                work.append((child, inner, loop))

    def _gather_function(self, node: Function, scope: Scope, inner: Scope) -> None:
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

    def _gather_simple(self, node: ast.AST, scope: Scope, loop: ast.AST | None) -> None:
        if loop is not None and isinstance(node, (ast.Assign, ast.NamedExpr)):
            self.repeated.add(id(node.value))
        if isinstance(node, ast.Call):
            name = last_name(node.func)
            if isinstance(node.func, ast.Attribute) and node.func.attr in _ADDERS:
                self._put_in(node, node.func, scope, loop)
            elif name == "setattr" and len(node.args) == 3 and isinstance(node.args[1], ast.Constant):
                self.attributes.setdefault(str(node.args[1].value), []).append((node.args[2], scope))
            if isinstance(node.func, ast.Lambda):
                name = self.lambdas[id(node.func)] = f"\0{id(node.func)}"
            if name is not None:
                self.calls.setdefault(name, []).append((node, scope))
            for argument in (*node.args, *(keyword.value for keyword in node.keywords)):
                if isinstance(argument, ast.Starred):
                    argument = argument.value
                if isinstance(argument, ast.Lambda):
                    name = self.lambdas.setdefault(id(argument), f"\0{id(argument)}")
                    self.passed.setdefault(name, []).append((node, scope))
                if isinstance(argument, (ast.Name, ast.Attribute)) and (name := last_name(argument)) is not None:
                    self.passed.setdefault(name, []).append((node, scope))
        elif isinstance(node, ast.Assign):
            for target in node.targets:
                self._bind_target(target, "expr", node.value, scope)
                self._sum_up(target, node.value, scope, loop)
                if isinstance(node.value, ast.Lambda):
                    self.lambdas[id(node.value)] = last_name(target) or ""
        elif isinstance(node, (ast.AnnAssign, ast.NamedExpr)):
            if node.value is not None:
                target_scope = scope
                if isinstance(node, ast.NamedExpr):
                    while isinstance(target_scope.node, COMPREHENSIONS) and target_scope.parent is not None:
                        target_scope = target_scope.parent
                self._bind_target(node.target, "expr", node.value, target_scope)
        elif isinstance(node, ast.AugAssign):
            whole = ast.BinOp(_loaded(node.target), node.op, node.value)
            self._bind_target(node.target, "expr", whole, scope)
            if loop is not None:
                self.repeated.add(id(whole))
                self._sum_up(node.target, whole, scope, loop)
        elif isinstance(node, (ast.For, ast.AsyncFor)):
            self._bind_target(node.target, "iter", node.iter, scope)
        elif isinstance(node, (ast.With, ast.AsyncWith)):
            for item in node.items:
                if item.optional_vars is not None:
                    self._bind_target(item.optional_vars, "expr", item.context_expr, scope)
                    self._bind_target(item.optional_vars, "entered", item.context_expr, scope)
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
        elif isinstance(node, ast.Match):
            for case in node.cases:
                self._bind_pattern(case.pattern, node.subject, scope)

    def _bind_pattern(self, pattern: ast.pattern, subject: ast.expr, scope: Scope) -> None:
        if isinstance(pattern, ast.MatchAs):
            if pattern.name is not None:
                scope.bind(pattern.name, "expr", subject)
            if pattern.pattern is not None:
                self._bind_pattern(pattern.pattern, subject, scope)
        elif isinstance(pattern, ast.MatchStar):
            if pattern.name is not None:
                scope.bind(pattern.name, "expr", subject)
        elif isinstance(pattern, ast.MatchOr):
            for choice in pattern.patterns:
                self._bind_pattern(choice, subject, scope)
        elif isinstance(pattern, ast.MatchSequence):
            for index, part in enumerate(pattern.patterns):
                item = ast.Subscript(subject, ast.Constant(index), ast.Load())
                self._bind_pattern(part, item, scope)
        elif isinstance(pattern, ast.MatchMapping):
            for key, part in zip(pattern.keys, pattern.patterns):
                self._bind_pattern(part, ast.Subscript(subject, key, ast.Load()), scope)
            if pattern.rest is not None:
                scope.bind(pattern.rest, "expr", subject)
        elif isinstance(pattern, ast.MatchClass):
            for part in pattern.patterns:
                self._bind_pattern(part, subject, scope)
            for name, part in zip(pattern.kwd_attrs, pattern.kwd_patterns):
                self._bind_pattern(part, ast.Attribute(subject, name, ast.Load()), scope)

    def _put_in(self, node: ast.Call, method: ast.Attribute, scope: Scope, loop: ast.AST | None) -> None:
        """Note what *node*, a call of one of `_ADDERS`, puts into a container."""
        place = _ADDERS[method.attr]
        is_many = method.attr in _OF_MANY
        for argument in node.args[place : place + 1]:
            key = node.args[0] if method.attr == "setdefault" else None
            in_order: ast.expr | None = None
            if method.attr in _IN_ORDER and (loop is None or (isinstance(loop, ast.For) and not is_many)):
                in_order = ast.Starred(argument, ast.Load()) if is_many else argument
                if isinstance(loop, ast.For):
                    in_order = ast.Starred(self._each(loop, argument, scope), ast.Load())
            self._put(method.value, Entry(key, argument, scope, is_many, in_order))
        if method.attr == "update":
            for keyword in node.keywords:
                if keyword.arg is not None:
                    self._put(method.value, Entry(ast.Constant(keyword.arg), keyword.value, scope, False, None))

    def _put(self, container: ast.expr, entry: Entry) -> None:
        if isinstance(container, ast.Name):
            name = container.id
        elif isinstance(container, ast.Attribute):
            name = f".{container.attr}"
        else:
            return
        self.contents.setdefault(name, Contents()).entries.append(entry)

    def _sum_up(self, target: ast.expr, value: ast.expr, scope: Scope, loop: ast.AST | None) -> None:
        """Bind *target*, to which *loop* adds something each time, to all of it."""
        if not (isinstance(loop, ast.For) and isinstance(value, ast.BinOp) and isinstance(value.op, ast.Add)):
            return
        if last_name(value.left) != last_name(target) or last_name(target) is None:
            return
        join = ast.Attribute(ast.Constant(""), "join", ast.Load())
        joined = ast.Call(join, [self._each(loop, value.right, scope)], [])
        self._bind_target(target, "expr", ast.BinOp(_loaded(target), ast.Add(), joined), scope)

    def _each(self, loop: ast.For, value: ast.expr, scope: Scope) -> ast.expr:
        """What *value* is each time that *loop* goes round, as a generator."""
        generator = ast.comprehension(loop.target, loop.iter, [], 0)
        each = ast.GeneratorExp(value, [generator])
        inner = self.scopes[id(each)] = Scope(scope, each)
        self._bind_target(loop.target, "iter", loop.iter, inner)
        return each

    def _import_all(self, module: str, scope: Scope) -> None:
        scope.bind("*", "value", Value("ref", canonical(module)))

    def _bind_target(self, target: ast.expr, kind: str, source: ast.expr, scope: Scope) -> None:
        if isinstance(target, ast.Name):
            scope.bind(target.id, kind, source)
        elif isinstance(target, (ast.Tuple, ast.List)):
            for index, item in enumerate(target.elts):
                starred = isinstance(item, ast.Starred)
                if isinstance(item, ast.Starred) and kind == "expr":
                    behind = len(target.elts) - index - 1
                    between = ast.Slice(ast.Constant(index), ast.UnaryOp(ast.USub(), ast.Constant(behind)))
                    if not behind:
                        between = ast.Slice(ast.Constant(index))
                    self._bind_target(item.value, "expr", ast.Subscript(source, between, ast.Load()), scope)
                    continue
                part = ast.Subscript(source, ast.Constant(None if starred else index), ast.Load())
                part._item_of = kind  # type: ignore[attr-defined]  # pyright: ignore
                self._bind_target(item.value if isinstance(item, ast.Starred) else item, "part", part, scope)
        elif isinstance(target, ast.Starred):
            self._bind_target(target.value, kind, source, scope)
        elif isinstance(target, ast.Attribute) and kind == "expr":
            self.attributes.setdefault(target.attr, []).append((source, scope))
        elif isinstance(target, ast.Subscript) and kind == "expr":
            # A value that is put into a container may be what the container is asked for.
            is_slice = isinstance(target.slice, ast.Slice)
            self._put(target.value, Entry(None if is_slice else target.slice, source, scope, is_slice, None))
            holder = target.value
            if (
                isinstance(holder, ast.Attribute)
                and holder.attr == "__dict__"
                and isinstance(target.slice, ast.Constant)
            ):
                self.attributes.setdefault(str(target.slice.value), []).append((source, scope))


def returned_values(function: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[ast.expr]:
    work: list[ast.AST] = list(function.body)
    while work:
        node = work.pop()
        if (isinstance(node, ast.Return) and node.value is not None) or (
            isinstance(node, (ast.Yield, ast.YieldFrom)) and node.value is not None
        ):
            yield node.value
        elif not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)):
            work.extend(ast.iter_child_nodes(node))


def is_generator(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    return any(isinstance(item, (ast.Yield, ast.YieldFrom)) for item in ast.walk(function))


def _declared_global(body: list[Any]) -> Iterator[list[str]]:
    work = list(body)
    while work:
        node = work.pop()
        if isinstance(node, ast.Global):
            yield node.names
        elif not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda, ast.expr)):
            work.extend(ast.iter_child_nodes(node))


def last_name(node: ast.AST) -> str | None:
    if isinstance(node, ast.Name):
        return node.id
    return node.attr if isinstance(node, ast.Attribute) else None


def _loaded(target: Any) -> Any:
    if isinstance(target, ast.Name):
        return ast.Name(target.id, ast.Load())
    return target
