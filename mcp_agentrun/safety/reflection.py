"""Rules on reflection: attributes by computed names, and those that lead into the interpreter."""

from __future__ import annotations

import ast
import builtins
import os
import re
import sys
from collections.abc import Iterable

from . import tampering
from .lookups import target
from .namespaces import ANY, holder
from .parameters import is_parameter_never_given
from .paths import HOLE
from .rules import reference_rule
from .values import Decoded
from .visitor import MUST_BE_KNOWN, SENSITIVE_MODULES, Visitor

__all__ = [
    "BY_NAME",
    "by_name",
    "handed_on",
    "import_by_name",
    "internal",
    "member_of_namespace",
    "modules_handed_on",
    "resolved",
    "unknown_member",
]

_FORBIDDEN_ATTRIBUTES = frozenset(
    """
    __globals__ __builtins__ __closure__ __subclasshook__ __loader__ __spec__ __getattribute__ f_globals
    f_builtins f_locals f_back cr_frame ag_frame __import__ __base__ co_code _getframe
""".split()
)
_HIDDEN_NAMES = frozenset(
    """
    system popen fork forkpty execv execve execvp execl spawnv spawnl posix_spawn exec eval compile __import__
    Popen check_output check_call getoutput CDLL dlopen
""".split()
)
"""Attributes that nobody spells by a computed name in good faith."""

_HARMLESS_TAKERS = frozenset(
    """
    builtins.print builtins.dir builtins.help builtins.type builtins.id builtins.repr builtins.str
    builtins.isinstance builtins.hasattr builtins.len builtins.bool builtins.vars builtins.getattr
    builtins.setattr builtins.delattr builtins.callable builtins.hash builtins.format builtins.issubclass
""".split()
)
_CALLERS = frozenset(
    """
    builtins.map builtins.filter functools.partial functools.reduce threading.Thread threading.Timer atexit.register
    multiprocessing.Process itertools.starmap asyncio.to_thread weakref.finalize builtins.sorted
    builtins.max builtins.min
""".split()
)
"""What calls a function that it is given."""

BY_NAME = frozenset(
    """
    builtins.getattr builtins.setattr builtins.delattr builtins.hasattr object.__getattribute__
    builtins.object.__getattribute__ operator.attrgetter operator.methodcaller inspect.getattr_static
""".split()
)


def handed_on(visitor: Visitor, node: ast.AST, what: str) -> None:
    """A function that executes text is used as a value."""
    visitor.refuse(
        "dynamic-code",
        node,
        f"{what} is handed on, so that what it executes can't be known.",
        "Call it right here with a text that can be read, or do without.",
    )


def internal(visitor: Visitor, node: ast.Attribute, name: str) -> None:
    """An attribute that is the interpreter's own."""
    owner = node.value
    if name in _FORBIDDEN_ATTRIBUTES:
        if name == "__getattribute__" and isinstance(owner, ast.Call):  # super().__getattribute__(name)
            return
        if name in ("__closure__", "__base__") and _is_own(visitor, owner):
            return
        if name == "__getattribute__" and id(node) in visitor.vetted:
            if visitor.evaluator.references(owner, visitor.scope) == ["builtins.object"]:
                return  # a call like that of `getattr`, and judged like it
        visitor.refuse("dunder-escape", node, f"{name} leads from an object into the interpreter.")
    elif name == "__subclasses__" and not (_is_own_class(visitor, owner) or _is_error(visitor, owner)):
        visitor.refuse(
            "dunder-escape",
            node,
            "__subclasses__ of a class that is not yours reaches everything in the interpreter.",
        )
    elif name == "__self__" and any(
        not value.endswith("()") for value in visitor.evaluator.references(owner, visitor.scope)
    ):
        visitor.refuse("dunder-escape", node, "__self__ of a built-in function is its module.")
    elif name == "__code__" and isinstance(node.ctx, ast.Store):
        visitor.refuse("dunder-escape", node, "Replacing a function's code changes what it does behind its name.")
    elif visitor.strict and name in (
        "__class__",
        "__dict__",
        "__mro__",
        "__bases__",
        "__code__",
        "__subclasses__",
        "__module__",
    ):
        visitor.refuse("strict", node, f"{name} is not available in the profile `strict`.")


def _is_own_class(visitor: Visitor, node: ast.AST) -> bool:
    return (isinstance(node, ast.Name) and node.id in ("cls", "self")) or _is_own(visitor, node)


def _is_error(visitor: Visitor, node: ast.AST) -> bool:
    """Whether *node* is a built-in class of errors other than the outermost."""
    names = visitor.evaluator.references(node, visitor.scope)
    return bool(names) and all(re.fullmatch(r"builtins\.[A-Z]\w+(Error|Warning)", name) for name in names)


def _is_own(visitor: Visitor, node: ast.AST) -> bool:
    """Whether *node* can only be classes and functions that the code defines."""
    values = visitor.evaluator.values(node, visitor.scope)
    return bool(values) and all(value.kind in ("class", "function") for value in values)


def by_name(visitor: Visitor, node: ast.Call, function: str) -> None:
    """A call of one of `BY_NAME`."""
    evaluator, scope = visitor.evaluator, visitor.scope
    is_getter = function in ("operator.attrgetter", "operator.methodcaller")
    if function.endswith("__getattribute__"):
        function = "object.__getattribute__"
    place = 0 if is_getter else 1
    if len(node.args) <= place:
        return
    argument = node.args[place]
    texts = evaluator.texts(argument, scope)
    for text in texts:
        for part in text.split("."):
            if part in _FORBIDDEN_ATTRIBUTES or part in ("__subclasses__", "__self__"):
                if part == "__self__" or part != "__subclasses__" or not _is_own_class(visitor, node.args[0]):
                    visitor.refuse("dunder-escape", node, f"{part} leads from an object into the interpreter.")
            elif (
                part in _HIDDEN_NAMES
                and (not isinstance(argument, ast.Constant) or is_getter)
                and function != "builtins.hasattr"
            ):
                visitor.refuse("process-spawn" if part not in ("exec", "eval", "compile") else "dynamic-code", node,
                            f"The name {part} is put together from parts, which hides what is called.")  # fmt: skip
    if is_getter:
        return
    bases = evaluator.values(node.args[0], scope)
    for base in bases:
        if base.kind != "ref":
            continue
        if function in ("builtins.getattr", "object.__getattribute__", "inspect.getattr_static"):
            _must_be_known(visitor, node, base.value, texts)
        for text in texts:
            if function in ("builtins.setattr", "builtins.delattr") and "(" not in base.value:
                tampering.set_by_name(visitor, node, base.value, text)
    if function in ("builtins.getattr", "object.__getattribute__", "inspect.getattr_static"):
        for value in evaluator.by_name([bases, evaluator.values(argument, scope)]):
            if value.kind == "ref" and not value.value.endswith(ANY):
                if value.value in MUST_BE_KNOWN:
                    visitor.refuse(
                        "dynamic-code",
                        node,
                        f"{value.value[9:]} is fetched by its name, which hides what is called.",
                    )
                visitor.reference(node, value.value)


def _must_be_known(visitor: Visitor, node: ast.AST, module: str, texts: list[str]) -> None:
    """A name of *module* is looked up that is one of *texts*, as far as they are known."""
    if module in SENSITIVE_MODULES | {"sys"} and may_be_harmful(module, texts):
        visitor.refuse("introspection", node, f"Which attribute of {module} is meant can't be known.",
                       "Write the attribute's name out.")  # fmt: skip


def may_be_harmful(module: str, texts: Iterable[str]) -> bool:
    """Whether a name of *module*, of which only *texts* are known, may be one that rules are about."""
    open_ones = [text for text in texts if HOLE in text]
    if not texts:
        return True
    for text in open_ones:
        if not text.replace(HOLE, "") or module not in _LISTED:
            return True
        pattern = re.compile(".*".join(map(re.escape, text.split(HOLE))))
        if any(pattern.fullmatch(name) for name in _harmful(module)):
            return True
    return False


_LISTED = {"os": os, "sys": sys, "builtins": builtins}
_known_harmful: dict[str, list[str]] = {}


def _harmful(module: str) -> list[str]:
    if module not in _known_harmful:
        _known_harmful[module] = [
            name
            for name in dir(_LISTED[module])
            if reference_rule(f"{module}.{name}", strict=False, network=True)
            or f"{module}.{name}" in MUST_BE_KNOWN | {"builtins.__import__"}
        ]
    return _known_harmful[module]


def unknown_member(visitor: Visitor, node: ast.Call, names: Iterable[str]) -> None:
    """Something is called that is one of *names*; of some it is only known where they come from."""
    for name in names:
        module, _, member = name.rpartition(".")
        if member == ANY and module in SENSITIVE_MODULES | {"sys"}:
            visitor.refuse("introspection", node, f"Which function of {module} is called can't be known.",
                           "Call it by its name.")  # fmt: skip


def member_of_namespace(visitor: Visitor, node: ast.Subscript, namespace: str) -> None:
    """Something is looked up in what may be the namespace of a module."""
    module = holder(namespace)
    if module is None or isinstance(node.slice, ast.Constant):
        return
    texts = visitor.evaluator.texts(node.slice, visitor.scope)
    if module in SENSITIVE_MODULES and may_be_harmful(module, texts):
        visitor.refuse("introspection", node, f"Which name of {module} is meant can't be known.")


def resolved(visitor: Visitor, node: ast.Call, name: str) -> None:
    """A call of one of `lookups.RESOLVERS`."""
    places = slice(1, 2) if name.endswith("EntryPoint") else slice(1)
    arguments = [*node.args[places], *(keyword.value for keyword in node.keywords)]
    texts = [
        inner.value
        for argument in arguments
        for value in visitor.evaluator.values(argument, visitor.scope)
        for inner in (visitor.evaluator.items((value,)) if value.kind == "seq" else (value,))
        if inner.kind == "text"
    ]
    if not texts or any(text.startswith(HOLE) for text in texts):
        visitor.refuse("tampering", node, f"What {name} is to find can't be known.", "Use import statements.")
    for text in texts:
        found = target(text)
        if found in MUST_BE_KNOWN | {"builtins.__import__"}:
            handed_on(visitor, node, found[9:])
        parts = found.split(".")
        for index in range(1, len(parts) + 1):
            if visitor.import_(node, ".".join(parts[:index])):
                break
        visitor.reference(node, found)


def import_by_name(visitor: Visitor, node: ast.Call, _function: str) -> None:
    """An import by a function."""
    arguments = [*node.args[:1], *(keyword.value for keyword in node.keywords if keyword.arg == "name")]
    for argument in arguments:
        texts = visitor.evaluator.texts(argument, visitor.scope)
        if not texts and is_parameter_never_given(visitor, argument):
            continue  # what is taken out of the module is judged by its name
        if not texts or any(HOLE in text.partition(".")[0] for text in texts):
            visitor.refuse("tampering", node, "Which module is imported can't be known.", "Use import statements.")
        for text in texts:
            if isinstance(text, Decoded):
                visitor.refuse(
                    "tampering",
                    node,
                    "The name of the module is decoded first, which hides it.",
                    "Use import statements.",
                )
            visitor.import_(node, text)
            visitor.reference(node, text)


def modules_handed_on(visitor: Visitor, node: ast.Call, names: list[str]) -> None:
    """A call that is given a module, and a function to take something out of it."""
    if any(
        name in _HARMLESS_TAKERS or name.startswith(("inspect.", "importlib.reload", "unittest.", "mock."))
        for name in names
    ):
        visitor.vetted.update(id(argument) for argument in node.args)
        return
    if any(name in _CALLERS or name.endswith((".submit", ".apply", ".apply_async")) for name in names):
        given = [*node.args[:1], *(keyword.value for keyword in node.keywords if keyword.arg in ("target", "key"))]
        for argument in given:
            unknown_member(visitor, node, visitor.evaluator.references(argument, visitor.scope))
    modules = [
        value for argument in node.args for value in visitor.evaluator.values(argument, visitor.scope)
        if value.kind == "ref" and value.value in SENSITIVE_MODULES
    ]  # fmt: skip
    getters = [
        value for argument in node.args for value in visitor.evaluator.values(argument, visitor.scope)
        if value.kind == "ref" and value.value in ("builtins.getattr", "operator.attrgetter")
    ]  # fmt: skip
    if modules and getters:
        visitor.refuse(
            "introspection",
            node,
            "Which attribute of a module is meant can't be known.",
            "Write the attribute's name out.",
        )
