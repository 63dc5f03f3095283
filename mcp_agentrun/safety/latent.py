"""Rules on texts that nobody executes by name: what a library function finds among annotations, examples, templates
and configurations, and evaluates.

Where such a function is used, every text of the code that it could find is judged as code.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from .execution import judge_text, namespaces
from .lookups import target
from .paths import HOLE
from .values import Value
from .visitor import MUST_BE_KNOWN, Visitor

__all__ = ["FINDERS", "annotation", "configured", "found", "interpreted", "rendered"]

_EXAMPLE = re.compile(r"^\s*(?:>>>|\.\.\.) ?(.*)$", re.MULTILINE)
_SETTING = re.compile(r"^\s*(?:args|kwargs|class)\s*[=:]\s*(.+)$", re.MULTILINE)
_LOADING = re.compile(r"^\s*(?:loader|entry_point|console_scripts)\s*[=:]\s*(.+)$", re.MULTILINE)
_IN_TEMPLATE = re.compile(
    r"<%!?(?![\w/%])(.*?)%>|\$\{(.*?)\}|^\s*%\s*(\w[^\n]*)$|\{\{(.*?)\}\}|\{%\s*(?:set|raw|apply)?(.*?)%\}",
    re.DOTALL | re.MULTILINE,
)
_SHELLING = re.compile(r"\b(exec|open|socket|load|source|file\s+(delete|rename|copy|mkdir|attributes)|cd|glob)\b")
_MOST_TEXTS = 64


def _texts(visitor: Visitor, mark: str) -> Iterator[str]:
    """Texts of the whole code with *mark* in them."""
    for node in ast.walk(visitor.evaluator.symbols.module.node):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and mark in node.value:
            yield node.value


def _examples(visitor: Visitor) -> Iterator[str]:
    for text in _texts(visitor, ">>>"):
        lines = _EXAMPLE.findall(text)
        if lines:
            yield "\n".join(lines)


def _expressions(visitor: Visitor) -> Iterator[str]:
    for text in _texts(visitor, "("):
        if len(text) < 1024 and "\n" not in text.strip():
            yield text


def _settings(visitor: Visitor) -> Iterator[str]:
    for text in _texts(visitor, "["):
        for setting in _SETTING.findall(text):
            yield setting.strip()


FINDERS = {
    "doctest": _examples,
    "xdoctest": _examples,
    "numpy.testing.rundocs": _examples,
    "logging.config.fileConfig": _settings,
    "functools.singledispatch": _expressions,
    "functools.singledispatchmethod": _expressions,
    "typing.get_type_hints": _expressions,
    "typing_extensions.get_type_hints": _expressions,
    "typing._eval_type": _expressions,
    "typing.evaluate_forward_ref": _expressions,
    "inspect.get_annotations": _expressions,
    "inspect.signature": _expressions,
    "inspect.Signature.from_callable": _expressions,
    "annotationlib.get_annotations": _expressions,
    "attr.resolve_types": _expressions,
    "attrs.resolve_types": _expressions,
    "pydantic.create_model": _expressions,
    "pydantic.validate_call": _expressions,
    "typeguard.typechecked": _expressions,
    "typeguard.check_type": _expressions,
    "beartype.beartype": _expressions,
    "dacite.from_dict": _expressions,
    "cattrs.structure": _expressions,
}
"""Functions and modules that evaluate texts that they find."""

_ON_DEMAND = frozenset(("inspect.get_annotations", "inspect.signature", "inspect.Signature.from_callable"))
"""Those of them that only do so if they are told to."""


def found(visitor: Visitor, node: ast.Call, name: str) -> None:
    """A call of one of `FINDERS`, or of a function of such a module."""
    if name in _ON_DEMAND and not any(keyword.arg in ("eval_str", None) for keyword in node.keywords):
        return
    finder = FINDERS.get(name) or FINDERS[name.partition(".")[0]]
    if finder.__name__ in visitor.found:
        return
    visitor.found.add(finder.__name__)
    for count, text in enumerate(finder(visitor)):
        if count >= _MOST_TEXTS:
            break
        judge_text(visitor, node, text, namespaces(visitor, node))


def annotation(visitor: Visitor, node: ast.expr) -> None:
    """An annotation, which is code even where it is a text."""
    if isinstance(node, ast.Constant):
        if isinstance(node.value, str) and "(" in node.value:
            judge_text(visitor, node, node.value)
        return
    for item in ast.walk(node):
        if isinstance(item, ast.Constant) and isinstance(item.value, str) and "(" in item.value:
            judge_text(visitor, item, item.value)


def configured(visitor: Visitor, node: ast.Call, _name: str) -> None:
    """A configuration that may name classes and functions, to be called while it is read."""
    arguments = [*node.args[:1], *(keyword.value for keyword in node.keywords)]
    for argument in arguments:
        for value in visitor.evaluator.values(argument, visitor.scope):
            _configuration(visitor, node, value, 0)


def _configuration(visitor: Visitor, node: ast.Call, value: Value, depth: int) -> None:
    if depth > 8:
        return
    if value.kind == "map":
        for keys, items in value.value:
            is_factory = any(key.value in ("()", "class", "_target_", "factory", "func") for key in keys)
            for item in items:
                if item.kind == "text" and (is_factory or item.value.startswith("ext://")):
                    _named(visitor, node, item.value)
                _configuration(visitor, node, item, depth + 1)
    elif value.kind == "seq":
        for items in value.value:
            for item in items:
                if item.kind == "text" and item.value.startswith("ext://"):
                    _named(visitor, node, item.value)
                _configuration(visitor, node, item, depth + 1)


def _named(visitor: Visitor, node: ast.Call, text: str) -> None:
    name = target(text)
    if name in MUST_BE_KNOWN | {"builtins.__import__"}:
        visitor.refuse("dynamic-code", node, f"{name[9:]} is named in a configuration, which hides what it executes.")
    elif text.startswith(HOLE):
        visitor.refuse("tampering", node, "What a configuration names can't be known.")
    visitor.reference(node, name)


def rendered(visitor: Visitor, node: ast.Call, _name: str) -> None:
    """A template of a kind that has code in it."""
    for argument in (*node.args, *(keyword.value for keyword in node.keywords)):
        for text in visitor.evaluator.texts(argument, visitor.scope):
            for parts in _IN_TEMPLATE.findall(text[: 1 << 16]):
                for part in parts:
                    if part.strip():
                        judge_text(visitor, node, "\n".join(line.strip() for line in part.strip().split(";")))


def interpreted(visitor: Visitor, node: ast.Call, name: str) -> None:
    """A text that another language's interpreter executes."""
    for argument in node.args[:1]:
        texts = visitor.evaluator.texts(argument, visitor.scope)
        if not texts or any(HOLE in text or _SHELLING.search(text) for text in texts):
            visitor.refuse("process-spawn", node, f"{name} may start programs, or touch files.")
