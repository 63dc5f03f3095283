"""Rules on resource exhaustion: numbers, sequences and loops that no sandbox can hold."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import TypeAlias

from .visitor import Visitor

__all__ = [
    "SIZED",
    "collected",
    "factorial",
    "loop",
    "method",
    "operation",
    "power",
    "queued",
    "recursion",
    "sized",
    "width",
]

_BIG = 10**9
"""Items of a sequence."""

_MOST_WRITTEN = 1 << 36
"""Characters or bytes that a loop writes of what is known."""

_BIG_BITS = 1 << 26
"""Bits of a number."""

_BIG_FACTORIAL = 1 << 22

_STARTERS = re.compile(
    r"os\.fork|(threading|_thread)\.(Thread\(\)\.start|Timer\(\)\.start|start_new_thread|_start_new_thread|Thread|Timer)"
    r"|multiprocessing(\.\w+)*\.(Process\(\)\.start|Process|Pool)|subprocess\.\w+"
    r"|concurrent\.futures\.\w+(\(\)\.submit)?"
)
_OF_ITEMS = frozenset(
    ("builtins.list", "builtins.tuple", "builtins.set", "builtins.sorted", "builtins.bytes", "builtins.bytearray")
)


Loop: TypeAlias = "ast.While | ast.For"


def _is_endless(visitor: Visitor, node: Loop) -> bool:
    if isinstance(node, ast.For):
        return _has_no_end(visitor, node.iter)
    test = node.test
    if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
        return isinstance(test.operand, ast.Constant) and not test.operand.value
    if isinstance(test, ast.Compare):
        parts = [test.left, *test.comparators]
        if not all(isinstance(part, ast.Constant) for part in parts):
            return False
        return any(visitor.evaluator.integers(test, visitor.scope))
    return isinstance(test, ast.Constant) and bool(test.value)


def _has_no_end(visitor: Visitor, node: ast.AST) -> bool:
    """Whether going through *node* never ends."""
    if isinstance(node, ast.Call):
        function = visitor.evaluator.references(node.func, visitor.scope)
        if "builtins.zip" in function or "builtins.map" in function:  # which end with the shortest
            sources = node.args[1:] if "builtins.map" in function else node.args
            return bool(sources) and all(_has_no_end(visitor, argument) for argument in sources)
        if "itertools.repeat" in function:
            return len(node.args) == 1 and not node.keywords
        if "builtins.iter" in function and len(node.args) == 2:
            return _never_gives(visitor, node.args[0], node.args[1])
        if any(name in _PASSING_ON for name in function):
            return any(_has_no_end(visitor, argument) for argument in node.args)
    if isinstance(node, ast.GeneratorExp):
        return any(_has_no_end(visitor, generator.iter) for generator in node.generators)
    return any(name in _ENDLESS for name in visitor.evaluator.references(node, visitor.scope))


def _never_gives(visitor: Visitor, function: ast.expr, last: ast.expr) -> bool:
    """Whether calling *function* can't ever give *last*, as in ``iter(int, 1)``."""
    made = visitor.evaluator.references(function, visitor.scope)
    is_empty = any(name in ("builtins.int", "builtins.list", "builtins.str", "builtins.dict") for name in made)
    if isinstance(function, ast.Lambda) and isinstance(function.body, ast.Constant):
        return isinstance(last, ast.Constant) and last.value != function.body.value
    return is_empty and isinstance(last, ast.Constant) and bool(last.value)


_LEAVERS = frozenset(
    """
    exit quit _exit sleep join wait input get result accept recv readline
""".split()
)
"""Names of functions that end a loop, or that wait for something in it."""


_ENDLESS = frozenset(("itertools.count()", "itertools.cycle()", "itertools.count()[]"))
_PASSING_ON = frozenset(
    """
    builtins.filter builtins.enumerate builtins.iter itertools.starmap itertools.accumulate itertools.chain
    itertools.filterfalse itertools.dropwhile itertools.pairwise itertools.batched itertools.tee
    itertools.chain.from_iterable more_itertools.chunked
""".split()
)
"""What has no end if one of its arguments has none."""

_COLLECTORS = frozenset(
    """
    builtins.list builtins.tuple builtins.sorted builtins.set builtins.frozenset builtins.dict builtins.sum
    builtins.max builtins.min builtins.bytes builtins.bytearray collections.Counter statistics.mean math.prod
    math.fsum itertools.product itertools.permutations itertools.combinations more_itertools.consume
""".split()
)
"""What goes to the end of its first argument."""
_CREATORS = re.compile(r"os\.(mkdir|makedirs|mkfifo|symlink|link|mknod)|shutil\.(copy\w*|make_archive)|tempfile\.mk\w+")
SIZED = frozenset(
    (*(f"numpy.{name}" for name in ("ones", "zeros", "empty", "full", "eye", "identity", "arange", "tile", "repeat")),
     "numpy.random.rand", "numpy.random.randn", "numpy.random.random", "numpy.random.uniform", "numpy.random.normal",
     "builtins.bytearray", "builtins.bytes", "builtins.list", "builtins.tuple", "builtins.set", "builtins.sorted",
     *_COLLECTORS, "torch.ones", "torch.zeros", "torch.empty", "torch.rand", "os.urandom",
     "secrets.token_bytes")
)  # fmt: skip
_WRITING = frozenset(("write", "writestr", "write_text", "write_bytes", "writelines"))
_DEEP = 50_000
_GROWERS = frozenset(("append", "appendleft", "extend", "insert"))
_PADDERS = frozenset(("ljust", "rjust", "center", "zfill"))
_QUIET = frozenset(("print", "len", "range", "str", "repr", "list", "tuple", "bytes", "bytearray", "object"))
"""Functions that give back control, whatever they are given."""

_WIDTH = re.compile(r"\d{10}")


def _leaves(visitor: Visitor, loop: Loop) -> bool:
    """Whether something in the body of *loop* may end it. Each loop within it is gone through once."""
    known = visitor.loops.get(id(loop))
    if known is not None:
        return known
    found = False
    work: list[ast.AST] = list(loop.body)
    while work and not found:
        node = work.pop()
        if isinstance(node, (ast.Break, ast.Return, ast.Raise, ast.Yield, ast.YieldFrom, ast.Await)):
            found = True
        elif isinstance(node, ast.While):
            found = _leaves(visitor, node)
            work += (node.test, *node.orelse)
        elif not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)):
            if isinstance(node, ast.Call) and isinstance(node.func, (ast.Name, ast.Attribute)):
                found = (node.func.id if isinstance(node.func, ast.Name) else node.func.attr) in _LEAVERS
            work.extend(ast.iter_child_nodes(node))
    visitor.loops[id(loop)] = found
    return found


def _calls(visitor: Visitor, loop: Loop) -> Iterator[ast.Call]:
    """Calls in the body of *loop*, but not in that of another endless one, which has its own turn."""
    work: list[ast.AST] = list(loop.body)
    while work:
        node = work.pop()
        if isinstance(node, ast.Call):
            yield node
        if isinstance(node, (ast.While, ast.For)) and _is_endless(visitor, node):
            work += node.orelse
        else:
            work.extend(ast.iter_child_nodes(node))


def operation(visitor: Visitor, node: ast.BinOp) -> None:
    """A power, product or shift."""
    if isinstance(node.op, ast.Mult):
        for one, other in ((node.left, node.right), (node.right, node.left)):
            is_sequence = isinstance(one, (ast.List, ast.Tuple, ast.JoinedStr)) or any(
                value.kind in ("text", "bytes", "seq") and value.value
                for value in visitor.evaluator.values(one, visitor.scope)
            )
            if is_sequence and any(number >= _BIG for number in visitor.evaluator.integers(other, visitor.scope)):
                visitor.refuse("bomb", node, "This makes a sequence of billions of items.")
        return
    numbers = visitor.evaluator.integers(node.left, visitor.scope)
    exponents = visitor.evaluator.integers(node.right, visitor.scope)
    right = node.right
    if (
        isinstance(node.op, ast.Pow)
        and isinstance(right, ast.BinOp)
        and isinstance(right.op, ast.Pow)
        and not exponents
    ):
        inner = (
            visitor.evaluator.integers(right.left, visitor.scope),
            visitor.evaluator.integers(right.right, visitor.scope),
        )
        if (numbers and all(inner) and max(numbers) > 1 and max(inner[0]) > 1) or (
            numbers and inner[0] and isinstance(right.right, ast.BinOp) and isinstance(right.right.op, ast.Pow)
        ):
            visitor.refuse("bomb", node, "This tower of powers has more digits than memory holds.")
        return
    for base in numbers:
        for exponent in exponents:
            bits = exponent if isinstance(node.op, ast.LShift) else base.bit_length() * exponent
            is_growing = abs(base) > 1 or (base != 0 and isinstance(node.op, ast.LShift))
            if is_growing and exponent > 0 and bits > _BIG_BITS:
                visitor.refuse("bomb", node, "This number has more digits than can be computed in time.")


def sized(visitor: Visitor, node: ast.Call, name: str) -> None:
    """A call of one of `SIZED`."""
    for argument in (
        *node.args[:2],
        *(keyword.value for keyword in node.keywords if keyword.arg in ("shape", "size")),
    ):
        for value in visitor.evaluator.values(argument, visitor.scope):
            size = 1.0
            numbers = [value] if value.kind in ("int", "float") else []
            if value.kind == "seq":
                numbers = [item[0] for item in value.value[:8] if item]
            for number in numbers:
                if number.kind in ("int", "float"):
                    size *= float(min(abs(number.value), 10**18))
            if (
                numbers
                and size >= _BIG
                and name not in _COLLECTORS - _OF_ITEMS
                and (value.kind != "seq" or name not in _OF_ITEMS)
            ):
                visitor.refuse(
                    "bomb",
                    node,
                    f"{name.removeprefix('builtins.')} of {size:.3g} items is more than a sandbox can hold.",
                )
    if name in _COLLECTORS:
        for argument in node.args[:1]:
            if _has_no_end(visitor, argument):
                visitor.refuse("bomb", node, "This collects items without an end.")
            if (
                name in _OF_ITEMS
                and isinstance(argument, ast.Call)
                and "builtins.range" in visitor.evaluator.references(argument.func, visitor.scope)
            ):
                for bound in argument.args[:2]:
                    if any(number >= _BIG for number in visitor.evaluator.integers(bound, visitor.scope)):
                        visitor.refuse("bomb", node, "This makes a list of billions of numbers.")


def loop(visitor: Visitor, node: Loop) -> None:
    """A loop without an end that takes more each time, or one that writes more than any disk holds."""
    if isinstance(node, ast.For):
        _written(visitor, node)
    if not _is_endless(visitor, node) or _leaves(visitor, node):
        return
    for call in _calls(visitor, node):
        for name in visitor.evaluator.references(call.func, visitor.scope):
            if _CREATORS.fullmatch(name):
                visitor.refuse("bomb", node, f"This loop has no end, and makes files each time ({name[:60]}).")
            if _STARTERS.fullmatch(name):
                visitor.refuse("bomb", node, f"This loop has no end, and starts something each time ({name[:60]}).")
        if isinstance(call.func, ast.Attribute) and call.func.attr in ("write_text", "write_bytes", "mkdir", "touch"):
            if any(value.kind == "path" for value in visitor.evaluator.values(call.func.value, visitor.scope)):
                visitor.refuse("bomb", node, "This loop has no end, and makes files each time.")
        if isinstance(call.func, ast.Attribute) and call.func.attr in ("write", "writelines", "writestr"):
            target = " ".join(visitor.evaluator.references(call.func.value, visitor.scope))
            if "open" in target:
                visitor.refuse("bomb", node, "This loop has no end, and writes each time.")
    if _only_grows(node):
        visitor.refuse("bomb", node, "This loop has no end, and takes more memory each time.")


def _written(visitor: Visitor, node: ast.For) -> None:
    """A loop over a range writes a text of known size each time."""
    if not isinstance(node.iter, ast.Call):
        return
    if "builtins.range" not in visitor.evaluator.references(node.iter.func, visitor.scope):
        return
    rounds = max((n for item in node.iter.args for n in visitor.evaluator.integers(item, visitor.scope)), default=0)
    if rounds < 64:
        return
    for call in (item for statement in node.body for item in ast.walk(statement) if isinstance(item, ast.Call)):
        if isinstance(call.func, ast.Attribute) and call.func.attr in _WRITING:
            for argument in call.args:
                if rounds * _size(visitor, argument) >= _MOST_WRITTEN:
                    visitor.refuse("bomb", node, "This loop writes more than a disk holds.")


def _size(visitor: Visitor, node: ast.expr) -> int:
    """The characters or bytes of a text that is repeated so often."""
    if not (isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult)):
        return 0
    for one, other in ((node.left, node.right), (node.right, node.left)):
        values = visitor.evaluator.values(one, visitor.scope)
        length = max((len(value.value) for value in values if value.kind in ("text", "bytes")), default=0)
        if length:
            return length * max(visitor.evaluator.integers(other, visitor.scope), default=0)
    return 0


def collected(visitor: Visitor, node: ast.ListComp | ast.SetComp | ast.DictComp) -> None:
    """A comprehension that makes a collection."""
    if any(_has_no_end(visitor, generator.iter) for generator in node.generators):
        visitor.refuse("bomb", node, "This collects items without an end.")


def queued(visitor: Visitor, node: ast.Call, _name: str) -> None:
    """A queue made of items; with a length at most, it drops what is too much."""
    if len(node.args) == 1 and not node.keywords and _has_no_end(visitor, node.args[0]):
        visitor.refuse("bomb", node, "This collects items without an end.")


def recursion(visitor: Visitor, node: ast.Call, _name: str) -> None:
    """The limit of recursion is raised, where a function calls itself whatever happens."""
    if not any(n > _DEEP for item in node.args for n in visitor.evaluator.integers(item, visitor.scope)):
        return
    for function in ast.walk(visitor.evaluator.symbols.module.node):
        if isinstance(function, ast.FunctionDef) and _calls_itself(function):
            visitor.refuse("bomb", node, f"{function.name} calls itself without an end, and nothing stops it.")


def _calls_itself(function: ast.FunctionDef) -> bool:
    for statement in function.body:
        for item in ast.walk(statement):
            if isinstance(item, (ast.If, ast.IfExp, ast.Try, ast.BoolOp, ast.Match, ast.Raise, ast.For, ast.While)):
                return False
            if isinstance(item, ast.Call) and isinstance(item.func, ast.Name) and item.func.id == function.name:
                return True
    return False


def _only_grows(loop: Loop) -> bool:
    """Whether *loop* does nothing that could end it, by an exception either, and makes something larger each time."""
    grows = False
    for node in (item for statement in loop.body for item in ast.walk(statement)):
        if isinstance(node, ast.Call):
            if isinstance(node.func, ast.Attribute) and node.func.attr in _GROWERS:
                grows = True
            elif not (isinstance(node.func, ast.Name) and node.func.id in _QUIET):
                return False
        elif isinstance(node, ast.AugAssign):
            if isinstance(node.op, ast.Add) and isinstance(node.target, ast.Name) and isinstance(node.value, ast.Name):
                grows |= node.target.id == node.value.id
        elif isinstance(
            node, (ast.Subscript, ast.Try, ast.Await, ast.With, ast.Assert, ast.Div, ast.Mod, ast.FloorDiv)
        ):
            return False
    return grows


def method(visitor: Visitor, node: ast.Call, function: ast.Attribute) -> None:
    """A method that pads a text, or fills in a template."""
    if function.attr in ("extend", "join", "update", "writelines", "extendleft"):
        if any(_has_no_end(visitor, argument) for argument in node.args[:1]):
            visitor.refuse("bomb", node, "This collects items without an end.")
    elif function.attr in _PADDERS and node.args:
        if any(number >= _BIG for number in visitor.evaluator.integers(node.args[0], visitor.scope)):
            visitor.refuse("bomb", node, "This makes a text of billions of characters.")
    elif function.attr == "format":
        width(visitor, node, function.value)


def width(visitor: Visitor, node: ast.AST, template: ast.expr) -> None:
    """Something is formatted by *template*."""
    for text in visitor.evaluator.texts(template, visitor.scope):
        if len(text) < 4096 and ("%" in text or ":" in text or isinstance(node, ast.FormattedValue)):
            if _WIDTH.search(text):
                visitor.refuse("bomb", node, "This makes a text of billions of characters.")


def factorial(visitor: Visitor, node: ast.Call, name: str) -> None:
    """A factorial."""
    if node.args and any(number > _BIG_FACTORIAL for number in visitor.evaluator.integers(node.args[0], visitor.scope)):
        visitor.refuse("bomb", node, f"{name} of this has more digits than can be computed in time.")


def power(visitor: Visitor, node: ast.Call, _name: str) -> None:
    """`pow`; with a modulus, its result is small."""
    if len(node.args) == 2 and not node.keywords:
        operation(visitor, ast.copy_location(ast.BinOp(node.args[0], ast.Pow(), node.args[1]), node))
