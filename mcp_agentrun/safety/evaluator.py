"""Abstract evaluation: what an expression may stand for, as far as the text of the code tells.

Nothing is executed. An expression stands for a few alternatives, or for nothing that is known. Texts are folded where
all their parts are known, and keep a hole where one is not.
"""

# Nodes are told apart by their class, which is quicker than by isinstance, but says nothing to a type checker.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUnknownLambdaType=false

from __future__ import annotations

import ast
import itertools
import posixpath
from collections.abc import Callable, Iterator
from typing import Any

from .canonical import canonical
from .folding import (
    SLICED,
    TEXT_METHODS,
    compared,
    formatted,
    integer_method,
    operate,
    path_method,
    percent,
    sliced,
    text_method,
)
from .iteration import comprehension
from .names import Names
from .namespaces import holder, looked_up, lookup
from .paths import HOLE
from .resolver import Resolver
from .summaries import SUMMARIES
from .symbols import COMPREHENSIONS, Contents, Entry, Scope, is_generator, returned_values
from .values import (
    ALTERNATIVES,
    LONGEST_SEQUENCE,
    Value,
    Values,
    as_text,
    collection,
    constant_value,
    distinct,
    extent,
    has_text,
    joined_texts,
    plain,
)

__all__ = ["Evaluator"]

_DEPTH = 250
"""Expressions within expressions, and names behind names, that are followed."""

_STEPS = 100_000
"""Expressions and bindings that are followed for one code, and what is made of them: see `_affordable`."""

_NESTING = frozenset(("seq", "map", "fields", "partial"))
_LARGEST = 40_000
"""Values within values that are followed."""

_MOST_CIRCLES = 8
"""Times that an expression is evaluated in the middle of a circle, until what was found so far is all."""

_MOST_CONTENTS = 2048
"""Things put into the containers of one name that are followed."""

_TAKERS = frozenset(("pop", "popleft", "get", "get_nowait", "popitem", "__getitem__", "__next__"))
"""Methods that give back what is in a container."""

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
        self._partial: dict[tuple[int, int], tuple[int, Values]] = {}
        """What was found in the middle of circles, and how often."""
        self._depth = 0
        self.rounds = 0
        """Items that were gone through one by one."""
        self.written: dict[str, Values] = {}
        """What the code has written, by the paths of files. The policy finds it."""

    def gather(self, root: ast.AST, scope: Scope) -> None:
        """Note every binding below *root*."""
        self._kept.append(root)
        self._memo.clear()
        self._partial.clear()
        self.symbols.gather(root, scope)

    def own_scope(self, node: ast.AST) -> Scope:
        """A scope for the names of a file of its own."""
        scope = Scope(self.symbols.module, node)
        self.keep(scope)
        return scope

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
            found = self._affordable(method(self, node, scope), is_new=node.__class__ in _MAKERS)
        finally:
            self._depth -= 1
            del self._busy[key]
        if self._lowest <= depth and id(node) in self.symbols.repeated:
            # Each time the loop goes round there is more of it than was found.
            if any(value.kind in ("text", "bytes") for value in found):
                found = distinct((*found, Value("text", HOLE)))
        if self._lowest >= depth:
            self._memo[key] = found
            self._lowest = outer
        else:  # found in the middle of a circle that begins further out, and so perhaps not all
            self._lowest = min(self._lowest, outer)
            times, before = self._partial.get(key, (0, ()))
            self._partial[key] = times + 1, distinct((*before, *found))
            if times >= _MOST_CIRCLES:
                self._memo[key] = found = self._partial[key][1]
        self._kept.append(node)
        return found

    def _affordable(self, found: Values, *, is_new: bool) -> Values:
        """*found*, without what is nested so that going through it takes too long; what is left is paid for."""
        too_large = False
        for value in found:
            if value.kind in ("text", "bytes"):
                self.steps += len(value.value) >> 8 if is_new else 0
            elif value.kind in _NESTING:
                size = extent(value, _LARGEST)
                self.steps += size >> (2 if is_new else 5)
                too_large |= size >= _LARGEST
        if too_large:
            found = tuple(value for value in found if value.kind not in _NESTING or extent(value, _LARGEST) < _LARGEST)
        return distinct(found)

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
        contents = self.symbols.contents.get(node.id)
        found = self.name(node.id, scope)
        return found if contents is None else (*found, *self.values(contents, self.symbols.module))

    def _attribute(self, node: ast.Attribute, scope: Scope) -> Values:
        contents = self.symbols.contents.get(f".{node.attr}")
        found = self.attribute(self.values(node.value, scope), node.attr)
        return found if contents is None else (*found, *self.values(contents, self.symbols.module))

    def _contents(self, node: Contents, _scope: Scope) -> Values:
        pairs: list[tuple[Values, Values]] = []
        ordered: list[Values] | None = []
        entries = sorted(node.entries, key=_place)
        self.exhausted |= len(entries) > _MOST_CONTENTS
        for key, source, scope, is_many, in_order in entries[:_MOST_CONTENTS]:
            values = self.values(source, scope)
            pairs.append((() if key is None else self.values(key, scope), self.items(values) if is_many else values))
            if in_order is None:
                ordered = None
            elif ordered is not None:
                ordered += self._spread(in_order, scope) if isinstance(in_order, ast.Starred) else [values]
        whole = Value("map", tuple(pairs))
        return (whole,) if ordered is None else (Value("seq", tuple(ordered)), whole)

    def _spread(self, node: ast.Starred, scope: Scope) -> list[Values]:
        """The items that ``*node`` stands for, one by one as far as they are known."""
        values = self.values(node.value, scope)
        if len(values) == 1 and values[0].kind == "seq":
            return list(values[0].value)
        return [(value,) for value in self.items(values)]

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
            return tuple(
                sliced(base, bounds) if base.kind in SLICED else base for base in bases if base.kind in (*SLICED, "map")
            )
        keys = self.values(node.slice, scope)
        for base in bases:
            found += self.item(base, keys, node.slice, scope)
        return tuple(found)

    def _bounds(self, where: ast.Slice, scope: Scope) -> tuple[int | None, ...] | None:
        """Start, stop and step of a slice; nothing if one of them is not known."""
        bounds: list[int | None] = []
        for part in (where.lower, where.upper, where.step):
            known = [None] if part is None else self.integers(part, scope)
            if len(known) != 1:
                return None
            bounds.append(known[0])
        return tuple(bounds)

    def item(self, base: Value, keys: Values, where: ast.AST, scope: Scope) -> Iterator[Value]:
        if base.kind == "seq":
            indexes = [key.value for key in keys if key.kind == "int"]
            if indexes:
                for index in indexes:
                    if -len(base.value) <= index < len(base.value):
                        yield from base.value[index]
            else:
                yield from self.items((base,))
        elif base.kind in ("map", "fields"):
            self.steps += len(base.value) >> 3
            for key, item in base.value:
                if not keys or not key or set(keys) & set(key) or any(HOLE in str(one.value) for one in key):
                    yield from item
        elif base.kind == "instance":
            yield from self._special((base,), "__getitem__")
        elif base.kind in ("text", "bytes"):
            for key in keys:
                if key.kind == "int" and -len(base.value) <= key.value < len(base.value):
                    yield constant_value(base.value[key.value], base.value)
        elif base.kind == "ref":
            texts = [key.value for key in keys if key.kind == "text"]
            module = holder(base.value)
            if module is not None:
                if not (isinstance(where, ast.Name) and where.id == "__name__"):
                    yield from looked_up(module, keys)
            elif base.value.startswith("builtins.vars()") and base.value != "builtins.vars()":
                for text in texts:
                    yield Value("ref", canonical(f"{base.value}.{text}"))
            elif base.value in ("builtins.globals()", "builtins.locals()", "builtins.vars()"):
                for text in texts:
                    yield from self.name(text, scope)
            elif base.value in ("builtins", "builtins[]"):
                for text in texts:
                    yield Value("ref", canonical(f"builtins.{text}"))
            elif base.value in ("os.environ", "os.environ.copy()") and "HOME" in texts:
                yield Value("text", "~")
            else:
                yield Value("ref", base.value + "[]")

    def _sequence(self, node: Any, scope: Scope) -> Values:
        if len(node.elts) > LONGEST_SEQUENCE:
            return ()
        items: list[Values] = []
        for item in node.elts:
            if isinstance(item, ast.Starred):
                items += self._spread(item, scope)
            else:
                items.append(self.values(item, scope))
        return (Value("seq", tuple(items)),)

    def _dict(self, node: ast.Dict, scope: Scope) -> Values:
        if len(node.keys) > 2048:
            return ()
        pairs: list[tuple[Values, Values]] = []
        for key, value in zip(node.keys, node.values):
            if key is None:
                for inner in self.values(value, scope):
                    module = holder(inner.value) if inner.kind == "ref" else None
                    if inner.kind == "map":
                        pairs += inner.value
                    else:
                        pairs.append(((), self.items((inner,)) if module is None else looked_up(module, ())))
            else:
                pairs.append((self.values(key, scope), self.values(value, scope)))
        return (Value("map", tuple(pairs)),)

    def _comprehension(self, node: Any, scope: Scope) -> Values:
        exact = comprehension(self, node, scope)
        if exact is not None:
            return exact
        inner = self.symbols.scopes.get(id(node))
        if inner is None:
            return ()
        if isinstance(node, ast.DictComp):
            return (Value("map", ((self.values(node.key, inner), self.values(node.value, inner)),)),)
        return (collection(self.values(node.elt, inner)),)

    def _joined(self, node: ast.JoinedStr, scope: Scope) -> Values:
        results = [""]
        for part in node.values:
            if isinstance(part, ast.Constant):
                choices = [str(part.value)]
            elif isinstance(part, ast.FormattedValue) and part.format_spec is None:
                choices = [as_text(value) for value in self.values(part.value, scope)] or [HOLE]
                if part.conversion == ord("r"):
                    choices = [choice if choice == HOLE else repr(choice) for choice in choices]
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

    def _compare(self, node: ast.Compare, scope: Scope) -> Values:
        if len(node.ops) > 1:
            return ()
        left, right = self.values(node.left, scope), self.values(node.comparators[0], scope)
        if len(left) != 1 or len(right) != 1:
            return ()
        result = compared(node.ops[0].__class__, left[0], right[0])
        return () if result is None else (Value("int", int(result)),)

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
            return self._result_of(function.value, node, scope)
        if function.kind == "function":
            return self.returned(function)
        if function.kind == "class":
            return self._made(function, node, scope)
        if function.kind == "fields":
            return (function,)
        if function.kind == "instance":
            return self._special((function,), "__call__")
        if function.kind == "partial":
            inner, given = function.value
            return self._completed(inner, given, node, scope)
        return ()

    def _result_of(self, name: str, node: ast.Call, scope: Scope) -> Values:
        """What calling what the canonical *name* stands for may give."""
        fold = SUMMARIES.get(name)
        if fold is not None:
            return tuple(fold(self, node, scope))
        module = lookup(name)
        if module is not None:
            values = [self.values(argument, scope) for argument in node.args]
            return (*looked_up(module, values[0] if values else ()), *(values[1] if len(values) > 1 else ()))
        root, _, method = name.rpartition(".")
        if root in ("builtins.str", "builtins.bytes") and node.args:
            unbound = ast.Call(ast.Attribute(node.args[0], method, ast.Load()), node.args[1:], node.keywords)
            self.keep(unbound)
            return self._call(unbound, scope)
        if method in ("load_module", "create_module", "create_builtin", "init_builtin"):
            return self._loaded(root, node, scope)
        return (Value("ref", name + "()"),)

    def _loaded(self, loader: str, node: ast.Call, scope: Scope) -> Values:
        """The module that a *loader* gives: one that it is told, or was made for (`lookups` has these)."""
        names = [text for argument in node.args[:1] for text in self.texts(argument, scope)]
        specs = [name for argument in node.args[:1] for name in self.references(argument, scope)]
        names += [name[5:] for name in (*specs, loader.removesuffix(".loader")) if name.startswith("spec:")]
        return tuple(Value("ref", canonical(name)) for name in names)

    def _made(self, function: Value, node: ast.Call, scope: Scope) -> Values:
        """An instance of a class, and the text that it is, if it is one."""
        definition, inner = function.value
        found = [Value("instance", function.value)]
        for base in definition.bases:
            for name in self.references(base, inner.parent or inner):
                fold = SUMMARIES.get(name)
                if fold is not None and name in ("builtins.str", "builtins.bytes", "pathlib.Path", "pathlib.PosixPath"):
                    found += fold(self, node, scope)
        return tuple(found)

    def _completed(self, inner: Value, given: tuple[Values, ...], node: ast.Call, scope: Scope) -> Values:
        """What calling a partial function may give."""
        values = [self.values(argument, scope) for argument in node.args]
        if inner.kind == "ref" and inner.value == "builtins.getattr":
            return self.by_name([*given, *values])
        if inner.kind == "ref" and inner.value == "operator.itemgetter":
            keys = given[0] if given else ()
            return tuple(item for base in (values[0] if values else ()) for item in self.item(base, keys, node, scope))
        if inner.kind == "ref" and inner.value == "operator.attrgetter":
            return self.by_name([values[0], given[0]]) if values and given else ()
        return self.result(inner, node, scope)

    def returned(self, function: Value) -> Values:
        definition, inner = function.value
        if isinstance(definition, ast.Lambda):
            return self.values(definition.body, inner)
        found: list[Value] = []
        for statement in returned_values(definition):
            found += self.values(statement, inner)
        if found and is_generator(definition):
            found.append(collection(tuple(found)))
        return tuple(found)

    def _method(self, base: Value, name: str, node: ast.Call, scope: Scope) -> Values:
        arguments = [self.values(argument, scope) for argument in node.args]
        if base.kind == "path":
            if name in ("read_text", "read_bytes") and base.value in self.written:
                return self.written[base.value]
            if name == "open":
                return (Value("ref", "builtins.open()"), Value("file", base.value))
            return path_method(base.value, name, arguments)
        if base.kind == "text" and name == "format":
            named = {
                keyword.arg: plain(self.values(keyword.value, scope))
                for keyword in node.keywords
                if keyword.arg is not None
            }
            choices = itertools.product(*(values[:4] or (Value("text", HOLE),) for values in arguments))
            each = [[(value,) for value in chosen] for chosen in itertools.islice(choices, ALTERNATIVES)]
            return tuple(text for chosen in each for text in formatted(base.value, chosen, named))
        if base.kind == "file" and name in ("read", "readlines", "readline"):
            return self.written.get(base.value, ())
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
        if base.kind == "map" and name == "items" and all(key for key, _ in base.value):
            return (Value("seq", tuple((Value("seq", pair),) for pair in base.value)),)
        if base.kind == "map" and name in ("values", "items", "keys", "copy"):
            return (base,)
        if base.kind == "map" and name == "popitem":
            return tuple(Value("seq", pair) for pair in base.value)
        if base.kind in ("map", "seq") and name in _TAKERS:
            return self.items((base,))
        return (base,) if base.kind == "seq" and name == "copy" else ()


def _place(entry: Entry) -> tuple[int, int]:
    return getattr(entry.source, "lineno", 0), getattr(entry.source, "col_offset", 0)


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
    ast.DictComp: Evaluator._comprehension,  # pyright: ignore
    ast.Compare: Evaluator._compare,  # pyright: ignore
    Contents: Evaluator._contents,  # pyright: ignore
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
