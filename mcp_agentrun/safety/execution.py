"""Rules on code injection: text that is executed as code, and data that can be."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator

from .guards import GuardError, parse, survey
from .paths import HOLE
from .values import Decoded, DecodedBytes, Value
from .visitor import MUST_BE_KNOWN, Visitor

__all__ = ["CODE_TAKERS", "UNPICKLERS", "code_taker", "made_function", "query", "unpickled", "yaml_loaded"]

_NESTED = 3
"""Levels of code in strings in code that are followed."""

_MOST_NESTED = 200
_NESTED_SIZE = 1 << 16
CODE_TAKERS = frozenset(
    """
    builtins.exec builtins.eval builtins.compile timeit.timeit timeit.repeat timeit.Timer cProfile.run cProfile.runctx
    profile.run profile.runctx trace.Trace().run trace.Trace().runctx cProfile.Profile().run cProfile.Profile().runctx
    sympy.sympify sympy.S sympy.parse_expr sympy.parsing.sympy_parser.parse_expr numexpr.evaluate
    pandas.eval typing.ForwardRef threading._start_new_thread types.FunctionType
""".split()
)
"""What takes a text, and executes it."""

UNPICKLERS = frozenset(
    """
    pickle.loads pickle.load pickle.Unpickler marshal.loads dill.loads cloudpickle.loads
""".split()
)  # fmt: skip
_SAFE_LOADERS = frozenset(("SafeLoader", "CSafeLoader", "BaseLoader", "CBaseLoader"))
_RECEIVED = re.compile(r"recv|requests\.|urllib|httpx|input\(\)|stdin|socket|argv|getenv|environ")


def _docstrings(root: ast.AST) -> Iterator[str]:
    for node in ast.walk(root):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and ">>>" in node.value:
            yield node.value


def code_taker(visitor: Visitor, node: ast.Call, name: str) -> None:
    """A call of one of `CODE_TAKERS`, or of the module doctest."""
    evaluator, scope = visitor.evaluator, visitor.scope
    if name.startswith("doctest."):
        _doctests(visitor, node)
        return
    arguments = list(node.args[:1])
    arguments += [
        keyword.value
        for keyword in node.keywords
        if keyword.arg in ("stmt", "setup", "source", "statement", "cmd", "expr")
    ]
    if name.startswith("timeit"):
        arguments = [*node.args[1:2], *arguments]
    arguments.sort(
        key=lambda argument: any(k.arg == "setup" and k.value is argument for k in node.keywords), reverse=True
    )
    if visitor.strict and name in MUST_BE_KNOWN:
        return  # refused by its name
    for argument in arguments:
        values = evaluator.values(argument, scope)
        known = [value for value in values if value.kind == "text"]
        if name in MUST_BE_KNOWN:
            _must_be_known(visitor, node, name, argument, values, known)
        for value in known:
            if HOLE not in value.value:
                _judge_text(visitor, node, value.value)
        for value in values:
            if value.kind == "bytes":
                _judge_text(visitor, node, value.value.decode("utf-8", "replace"))


def _must_be_known(
    visitor: Visitor, node: ast.Call, name: str, argument: ast.expr, values: Iterable[Value], known: list[Value]
) -> None:
    what = name[9:]
    if any(isinstance(value.value, (Decoded, DecodedBytes)) for value in values):
        visitor.refuse("dynamic-code", node, f"{what} is given text that is decoded first, which hides what it does.")
    elif any(HOLE in value.value for value in known):
        if what == "compile" or (what == "eval" and not _is_confined(visitor, node)) or what == "exec":
            visitor.refuse("dynamic-code", node, f"{what} is given text of which a part is not known.")
    elif not known and not any(value.kind == "bytes" for value in values):
        if any(
            value.kind == "ref" and value.value in ("builtins.compile", "ast.Module()", "ast.Expression()")
            for value in values
        ):
            return
        if what == "compile" and _compiles_tree(visitor, argument):
            return
        if not _is_confined(visitor, node):
            visitor.refuse("dynamic-code", node, f"{what} is given text that is not known before it runs.")


def _compiles_tree(visitor: Visitor, argument: ast.expr) -> bool:
    return any(name.startswith("ast.") for name in visitor.evaluator.references(argument, visitor.scope))


def _is_confined(visitor: Visitor, node: ast.Call) -> bool:
    """Whether `eval` gets a namespace without built-ins, which is how a calculator is written."""
    for argument in (*node.args[1:2], *(keyword.value for keyword in node.keywords if keyword.arg == "globals")):
        for value in visitor.evaluator.values(argument, visitor.scope):
            if value.kind == "map":
                for key, item in value.value:
                    if any(one.value == "__builtins__" for one in key) and not any(one.kind == "ref" for one in item):
                        return True
    return False


def _judge_text(visitor: Visitor, node: ast.AST, text: str) -> None:
    """Judge *text* as code that is executed at *node*."""
    key = text, id(visitor.scope)
    if key in visitor.judged or len(text) > _NESTED_SIZE:
        if len(text) > _NESTED_SIZE:
            visitor.refuse("dynamic-code", node, "The text that is executed is too long to be judged.")
        return
    visitor.judged.add(key)
    if len(visitor.judged) > _MOST_NESTED:
        visitor.refuse("dynamic-code", node, "Too many texts are executed as code to be judged.")
        return
    if visitor.level >= _NESTED:
        visitor.refuse("dynamic-code", node, "Code in text in code goes too deep to be judged.")
        return
    try:
        tree = parse(text.lstrip(" \t"))
        survey(tree)
    except SyntaxError:
        return
    except GuardError as error:
        visitor.refuse("dynamic-code", node, error.reason)
        return
    outer = visitor.place
    visitor.place = outer or node
    visitor.level += 1
    visitor.evaluator.gather(tree, visitor.scope)
    visitor.visit(tree)
    visitor.level -= 1
    visitor.place = outer


def _doctests(visitor: Visitor, node: ast.Call) -> None:
    if visitor.has_judged_docstrings:
        return
    visitor.has_judged_docstrings = True
    for text in _docstrings(visitor.evaluator.symbols.module.node):
        examples = re.findall(r"^\s*(?:>>>|\.\.\.) ?(.*)$", text, re.MULTILINE)
        if examples:
            _judge_text(visitor, node, "\n".join(examples))


def unpickled(visitor: Visitor, node: ast.Call, name: str) -> None:
    """A call of one of `UNPICKLERS`."""
    for argument in node.args[:1]:
        for value in visitor.evaluator.values(argument, visitor.scope):
            if value.kind in ("bytes", "text") or (value.kind == "ref" and _RECEIVED.search(value.value)):
                visitor.refuse(
                    "deserialization",
                    node,
                    f"{name} of data that came with the code, or from outside, can execute anything.",
                )


def query(visitor: Visitor, node: ast.Call, _name: str) -> None:
    """An expression that a data frame evaluates."""
    for argument in node.args[:1]:
        for text in visitor.evaluator.texts(argument, visitor.scope):
            if "@" in text or "__" in text:
                _judge_text(visitor, node, text.replace("@", " ").strip())


def made_function(visitor: Visitor, node: ast.Call, name: str) -> None:
    """A function made of a code object."""
    visitor.refuse("dynamic-code", node, f"{name} makes a function of code that can't be known.")


def yaml_loaded(visitor: Visitor, node: ast.Call, name: str) -> None:
    """YAML loaded by a loader that the code chooses."""
    loaders = [*node.args[1:], *(keyword.value for keyword in node.keywords if keyword.arg == "Loader")]
    chosen = [one for loader in loaders for one in visitor.evaluator.references(loader, visitor.scope)]
    if not loaders or any(one.rpartition(".")[2] not in _SAFE_LOADERS for one in chosen):
        visitor.refuse(
            "deserialization", node, f"{name} without a safe loader can execute code.", "Use yaml.safe_load."
        )
