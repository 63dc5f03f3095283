"""Rules on reflection: attributes by computed names, and those that lead into the interpreter."""

from __future__ import annotations

import ast

from . import tampering
from .paths import HOLE
from .values import Decoded
from .visitor import MUST_BE_KNOWN, SENSITIVE_MODULES, Visitor

__all__ = ["BY_NAME", "by_name", "handed_on", "import_by_name", "internal", "modules_handed_on"]

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
        if name == "__closure__" and _is_own(visitor, owner):
            return
        if name == "__getattribute__" and id(node) in visitor.vetted:
            if visitor.evaluator.references(owner, visitor.scope) == ["builtins.object"]:
                return  # a call like that of `getattr`, and judged like it
        visitor.refuse("dunder-escape", node, f"{name} leads from an object into the interpreter.")
    elif name == "__subclasses__" and not _is_own_class(visitor, owner):
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
        if (
            not texts
            and base.value in SENSITIVE_MODULES | {"sys"}
            and function in ("builtins.getattr", "object.__getattribute__")
        ):
            visitor.refuse("introspection", node, f"Which attribute of {base.value} is meant can't be known.",
                        "Write the attribute's name out.")  # fmt: skip
        for text in texts:
            if function in ("builtins.setattr", "builtins.delattr") and "(" not in base.value:
                tampering.replaced_name(visitor, node, f"{base.value}.{text}")
    if function in ("builtins.getattr", "object.__getattribute__", "inspect.getattr_static"):
        for value in evaluator.attribute(bases, texts[0]) if texts else ():
            if value.kind == "ref":
                if value.value in MUST_BE_KNOWN:
                    visitor.refuse(
                        "dynamic-code",
                        node,
                        f"{value.value[9:]} is fetched by its name, which hides what is called.",
                    )
                visitor.reference(node, value.value)


def import_by_name(visitor: Visitor, node: ast.Call, _function: str) -> None:
    """An import by a function."""
    arguments = [*node.args[:1], *(keyword.value for keyword in node.keywords if keyword.arg == "name")]
    for argument in arguments:
        texts = visitor.evaluator.texts(argument, visitor.scope)
        if not texts or HOLE in texts[0]:
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
