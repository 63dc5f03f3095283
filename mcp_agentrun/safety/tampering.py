"""Rules on tampering: with the environment, and with what Python itself relies on."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterable

from .visitor import Visitor

__all__ = [
    "ON_ENVIRONMENT",
    "environment",
    "environment_call",
    "environment_update",
    "module_replaced",
    "replaced",
    "replaced_name",
]

ON_ENVIRONMENT = frozenset(
    ("os.putenv", "os.unsetenv", "os.environ.setdefault", "os.environ.update", "os.environ.__setitem__")
)

_ENVIRONMENT = re.compile(
    r"(PYTHON(?!(HASHSEED|IOENCODING|UNBUFFERED|UTF8|WARNINGS|DONTWRITEBYTECODE)$)\w*|LD_\w+|DYLD_\w+|BASH_ENV|ENV|PATH|IFS|PROMPT_COMMAND|GIT_SSH\w*|PERL5\w*|NODE_OPTIONS)"
)
_PROTECTED = re.compile(
    r"builtins\.(?!input$|print$|_$)\w+|io\.\w+\.\w+|io\.(StringIO|BytesIO|TextIOWrapper|open)|os\.(?!environ$)\w+(\.\w+)?|importlib\..*"
    r"|sys\.(?!stdout$|stderr$|stdin$|argv$|path$|excepthook$|displayhook$|ps1$|ps2$|tracebacklimit$|dont_write_bytecode$|unraisablehook$"
    r"|last_\w+$)\w+|socket\.\w+(\.\w+)?|ctypes\..*|subprocess\..*|signal\.\w+|json\.(loads|dumps|load|dump)|pickle\.\w+|linecache\.\w+"
    r"|ssl\._create_default_https_context|ast\.\w+|traceback\.print_exception|types\.\w+|codecs\.\w+|threading\.(_\w+|Thread\.\w+)"
)


def environment(visitor: Visitor, node: ast.AST, keys: Iterable[str]) -> None:
    """Variables of the environment named *keys* are set or deleted."""
    for key in keys:
        if _ENVIRONMENT.fullmatch(key):
            visitor.refuse("tampering", node, f"The variable {key} changes how programs start.", "Leave it as it is.")


def replaced(visitor: Visitor, node: ast.AST, target: ast.Attribute) -> None:
    """An attribute is assigned to or deleted."""
    for base in visitor.evaluator.values(target.value, visitor.scope):
        if base.kind == "ref" and "(" not in base.value:
            replaced_name(visitor, node, f"{base.value}.{target.attr}")


def replaced_name(visitor: Visitor, node: ast.AST, name: str) -> None:
    """What the canonical *name* stands for is replaced."""
    if _PROTECTED.fullmatch(name):
        visitor.refuse("tampering", node, f"Replacing {name} changes what Python itself relies on.")


def environment_call(visitor: Visitor, node: ast.Call, _name: str) -> None:
    """A call of one of `ON_ENVIRONMENT`."""
    keys = [key for argument in node.args[:1] for key in visitor.evaluator.texts(argument, visitor.scope)]
    keys += [keyword.arg for keyword in node.keywords if keyword.arg]
    environment(visitor, node, keys)
    for argument in node.args[:1]:
        environment_update(visitor, node, argument)


def environment_update(visitor: Visitor, node: ast.AST, mapping: ast.expr) -> None:
    """The environment takes what is in *mapping*."""
    for value in visitor.evaluator.values(mapping, visitor.scope):
        if value.kind == "map":
            environment(visitor, node, [one.value for key, _ in value.value for one in key if one.kind == "text"])


def module_replaced(visitor: Visitor, node: ast.AST, keys: Iterable[str]) -> None:
    """Modules named *keys* are put into or taken out of ``sys.modules``."""
    for key in keys:
        if key.partition(".")[0] in sys.stdlib_module_names:
            visitor.refuse("tampering", node, f"Replacing the module {key} changes what Python itself relies on.")
