"""The symbol table: which scope binds which name to what, and who is called where. Nothing is evaluated."""

# Nodes are told apart by their class, which is quicker than by isinstance, but says nothing to a type checker.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUnknownLambdaType=false

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Any, TypeAlias

from .canonical import canonical
from .values import Value

__all__ = ["COMPREHENSIONS", "Function", "Scope", "SymbolTable", "last_name", "returned_values"]

Function: TypeAlias = "ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda"
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.GeneratorExp, ast.DictComp)


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

    def gather(self, root: ast.AST, scope: Scope) -> None:
        """Note every binding below *root*."""
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
            if kind in COMPREHENSIONS:
                inner = self.scopes[id(node)] = Scope(scope, node)
                for generator in node.generators:  # pyright: ignore
                    self._bind_target(generator.target, "iter", generator.iter, inner)
            else:
                self._gather_simple(node, scope)
            for child in ast.iter_child_nodes(node):
                work.append((child, inner))

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

    def _gather_simple(self, node: ast.AST, scope: Scope) -> None:
        if isinstance(node, ast.Call):
            name = last_name(node.func)
            if isinstance(node.func, ast.Lambda):
                name = self.lambdas[id(node.func)] = f"\0{id(node.func)}"
            if name is not None:
                self.calls.setdefault(name, []).append((node, scope))
            for argument in (*node.args, *(keyword.value for keyword in node.keywords)):
                if isinstance(argument, ast.Starred):
                    argument = argument.value
                if isinstance(argument, (ast.Name, ast.Attribute)) and (name := last_name(argument)) is not None:
                    self.passed.setdefault(name, []).append((node, scope))
        elif isinstance(node, ast.Assign):
            for target in node.targets:
                self._bind_target(target, "expr", node.value, scope)
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
