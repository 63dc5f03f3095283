"""Rules on code injection: text that is executed as code, and data that can be."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable

from .canonical import canonical
from .guards import GuardError, parse, survey
from .namespaces import holder
from .parameters import is_arithmetic
from .paths import HOLE
from .symbols import Scope
from .values import Decoded, DecodedBytes, Value
from .visitor import MUST_BE_KNOWN, Visitor

__all__ = ["CODE_TAKERS", "code_taker", "formula", "judge_text", "made_function", "namespaces", "query", "yaml_loaded"]

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
    rlcompleter.Completer().attr_matches rlcompleter.Completer().global_matches rlcompleter.Completer().complete
    numpy.testing.runstring numpy.testing.measure numpy.testing.rundocs numpy.testing._private.utils.runstring
    bdb.Bdb().run bdb.Bdb().runeval pdb.run pdb.runeval trace.Trace().runfunc profile.Profile().run
    profile.Profile().runctx cProfile.Profile().runcall timeit.main line_profiler.LineProfiler().run
    line_profiler.LineProfiler().runctx memory_profiler.LineProfiler().run asteval.Interpreter()
    asteval.Interpreter().eval
    numexpr.re_evaluate sympy.lambdify sympy.utilities.lambdify.lambdify sympy.parsing.sympy_parser.eval_expr
    sympy.parsing.sympy_parser.stringify_expr pydantic.TypeAdapter annotationlib.ForwardRef
    annotationlib.call_evaluate_function execnet.makegateway().remote_exec
    traitlets.config.loader.DeferredConfigString().get_value xarray.Dataset().eval modin.pandas.eval
    cudf.DataFrame().eval dask.dataframe.eval
""".split()
)
"""What takes a text, and executes it."""

_SAFE_LOADERS = frozenset(("SafeLoader", "CSafeLoader", "BaseLoader", "CBaseLoader"))
_FORMULAS = re.compile(r"sympy\.\w+|patsy\.\w+|statsmodels\.formula\.api\.\w+|formulaic\.\w+|numexpr\.\w+")
"""Functions that evaluate texts among their arguments as expressions."""


def code_taker(visitor: Visitor, node: ast.Call, name: str) -> None:
    """A call of one of `CODE_TAKERS`."""
    evaluator, scope = visitor.evaluator, visitor.scope
    arguments = list(node.args[:1])
    arguments += [
        keyword.value
        for keyword in node.keywords
        if keyword.arg in ("stmt", "setup", "source", "statement", "cmd", "expr", "astr", "code_str", "text", "arg")
    ]
    if name.startswith("timeit") or name.endswith("lambdify"):
        arguments = [*node.args[1:2], *arguments]
    arguments.sort(
        key=lambda argument: any(k.arg == "setup" and k.value is argument for k in node.keywords), reverse=True
    )
    if visitor.strict and name in MUST_BE_KNOWN:
        return  # refused by its name
    if name == "builtins.compile" and id(node) in visitor.unused and node.args and isinstance(node.args[0], ast.Call):
        return  # what was read is only compiled to see whether it is valid
    for argument in arguments:
        values = evaluator.values(argument, scope)
        known = [value for value in values if value.kind == "text"]
        visitor.executed |= {path for path, parts in evaluator.written.items() if set(parts) & set(values)}
        if name in MUST_BE_KNOWN:
            _must_be_known(visitor, node, name, argument, values, known)
        for value in known:
            if HOLE not in value.value:
                judge_text(visitor, node, value.value, namespaces(visitor, node))
        for value in values:
            if value.kind == "bytes":
                judge_text(visitor, node, value.value.decode("utf-8", "replace"), namespaces(visitor, node))


def namespaces(visitor: Visitor, node: ast.Call) -> list[Value]:
    """The mappings in which the code that *node* executes finds its names."""
    arguments = [*node.args[1:], *(keyword.value for keyword in node.keywords)]
    values = [value for argument in arguments for value in visitor.evaluator.values(argument, visitor.scope)]
    return [
        value for value in values if value.kind == "map" or (value.kind == "ref" and holder(value.value) is not None)
    ]


def _named_by(visitor: Visitor, tree: ast.AST, within: list[Value]) -> Scope:
    """A scope in which the names of *tree* stand for what is in the namespaces *within*."""
    inner = Scope(visitor.scope, tree)
    for namespace in within:
        if namespace.kind == "map":
            for key, item in namespace.value:
                for one in key:
                    inner.bindings.setdefault(str(one.value), []).extend(("value", value) for value in item)
        else:
            module = holder(namespace.value)
            for name in {item.id for item in ast.walk(tree) if isinstance(item, ast.Name)}:
                inner.bind(name, "value", Value("ref", canonical(f"{module}.{name}")))
    return inner


def formula(visitor: Visitor, node: ast.Call, name: str) -> None:
    """A call that may be of a function that evaluates texts as formulas."""
    if _FORMULAS.fullmatch(name) is None:
        return
    for argument in (*node.args, *(keyword.value for keyword in node.keywords)):
        for text in visitor.evaluator.texts(argument, visitor.scope):
            if "(" in text and HOLE not in text:
                judge_text(visitor, node, text.replace("~", "+").lstrip(" +"))


def _must_be_known(
    visitor: Visitor, node: ast.Call, name: str, argument: ast.expr, values: Iterable[Value], known: list[Value]
) -> None:
    what = name[9:]
    if any(isinstance(value.value, (Decoded, DecodedBytes)) for value in values):
        visitor.refuse("dynamic-code", node, f"{what} is given text that is decoded first, which hides what it does.")
    elif any(HOLE in value.value for value in known):
        if what == "eval" and is_arithmetic(visitor, argument):
            return
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
        if what == "eval" and is_arithmetic(visitor, argument):
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


def judge_text(visitor: Visitor, node: ast.AST, text: str, within: Iterable[Value] = ()) -> None:
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
    outer, scope = visitor.place, visitor.scope
    visitor.place = outer or node
    visitor.level += 1
    given = list(within)
    if given:
        visitor.scope = _named_by(visitor, tree, given)
        visitor.evaluator.keep(visitor.scope)
    visitor.evaluator.gather(tree, visitor.scope)
    visitor.visit(tree)
    visitor.level -= 1
    visitor.place, visitor.scope = outer, scope


def query(visitor: Visitor, node: ast.Call, _name: str) -> None:
    """An expression that a data frame evaluates."""
    for argument in node.args[:1]:
        for text in visitor.evaluator.texts(argument, visitor.scope):
            if "@" in text or "__" in text:
                judge_text(visitor, node, text.replace("@", " ").strip())


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
