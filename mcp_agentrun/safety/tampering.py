"""Rules on tampering: with the environment, and with what Python itself relies on."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable

from .visitor import Visitor

__all__ = ["ON_ENVIRONMENT", "environment", "environment_call", "replaced", "replaced_name"]

ON_ENVIRONMENT = frozenset(
    ("os.putenv", "os.unsetenv", "os.environ.setdefault", "os.environ.update", "os.environ.__setitem__")
)

_ENVIRONMENT = re.compile(
    r"(PYTHON\w*|LD_\w+|DYLD_\w+|BASH_ENV|ENV|PATH|IFS|PROMPT_COMMAND|GIT_SSH\w*|PERL5\w*|NODE_OPTIONS)"
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
    evaluator, scope = visitor.evaluator, visitor.scope
    keys = [key for argument in node.args[:1] for key in evaluator.texts(argument, scope)]
    keys += [keyword.arg for keyword in node.keywords if keyword.arg]
    for argument in node.args[:1]:
        for value in evaluator.values(argument, scope):
            if value.kind == "map":
                keys += [one.value for key, _ in value.value for one in key if one.kind == "text"]
    environment(visitor, node, keys)
