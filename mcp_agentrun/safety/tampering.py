"""Rules on tampering: with the environment, and with what Python itself relies on."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterable

from .namespaces import ANY, holder
from .paths import HOLE
from .visitor import SENSITIVE_MODULES, Visitor

__all__ = [
    "ON_ENVIRONMENT",
    "environment",
    "environment_call",
    "environment_update",
    "in_namespace",
    "keys_of",
    "module_path",
    "module_replaced",
    "namespace_call",
    "path_call",
    "replaced",
    "replaced_name",
    "set_by_name",
]

ON_ENVIRONMENT = frozenset(
    ("os.putenv", "os.unsetenv", "os.environ.setdefault", "os.environ.update", "os.environ.__setitem__")
)

_ENVIRONMENT = re.compile(
    r"(PYTHON(?!(HASHSEED|IOENCODING|UNBUFFERED|UTF8|WARNINGS|DONTWRITEBYTECODE)$)\w*|LD_\w+|DYLD_\w+|BASH_ENV|ENV|PATH|IFS|PROMPT_COMMAND|GIT_SSH\w*|PERL5\w*|NODE_OPTIONS)"
)
_SHARED = re.compile(r"/(dev/shm|var/tmp|run/lock|run/shm|proc)(/|$)")
_PROTECTED = re.compile(
    r"builtins\.(?!input$|print$|_$)\w+|(hmac|hashlib|secrets|ssl|tokenize|zipimport)\.\w+|io\.\w+\.\w+|io\.(StringIO|BytesIO|TextIOWrapper|open)|os\.(?!environ$)\w+(\.\w+)?|importlib\..*"
    r"|sys\.(?!stdout$|stderr$|stdin$|argv$|path$|excepthook$|displayhook$|ps1$|ps2$|tracebacklimit$|dont_write_bytecode$|unraisablehook$"
    r"|last_\w+$)\w+|socket\.\w+(\.\w+)?|ctypes\..*|subprocess\..*|signal\.\w+|json\.(loads|dumps|load|dump)|pickle\.\w+|linecache\.\w+"
    r"|ssl\._create_default_https_context|ast\.\w+|traceback\.print_exception|types\.\w+|codecs\.\w+|threading\.(_\w+|Thread\.\w+)"
)


def keys_of(visitor: Visitor, argument: ast.expr) -> list[str]:
    """The texts that *argument* may be, or that its bytes are of."""
    values = visitor.evaluator.values(argument, visitor.scope)
    return [
        value.value if value.kind == "text" else value.value.decode("utf-8", "replace")
        for value in values
        if value.kind in ("text", "bytes")
    ]


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


def set_by_name(visitor: Visitor, node: ast.AST, module: str, name: str) -> None:
    """What stands under *name* in *module* is replaced by a way that hides it."""
    if module == "builtins":
        visitor.refuse("tampering", node, f"Replacing builtins.{name} changes what Python itself relies on.")
    else:
        replaced_name(visitor, node, f"{module}.{name}")


def in_namespace(visitor: Visitor, node: ast.AST, mapping: str, keys: Iterable[str]) -> None:
    """Something is put under *keys* into the reference *mapping*, or taken out of it."""
    module = holder(mapping)
    if module == ANY:
        module_replaced(visitor, node, keys)
    if module is None or module == ANY:
        return
    known = [key for key in keys if HOLE not in key]
    for key in known:
        set_by_name(visitor, node, module, key)
    if not known and module in SENSITIVE_MODULES | {"sys"}:
        visitor.refuse("tampering", node, f"Which name of {module} is replaced can't be known.")


def namespace_call(visitor: Visitor, node: ast.Call, name: str) -> None:
    """A method that changes a mapping is called: *name* is its canonical name."""
    mapping = name.rpartition(".")[0]
    keys = [key for argument in node.args[:1] for key in visitor.evaluator.texts(argument, visitor.scope)]
    keys += [keyword.arg for keyword in node.keywords if keyword.arg]
    for argument in node.args[:1]:
        for value in visitor.evaluator.values(argument, visitor.scope):
            if value.kind == "map":
                keys += [one.value for key, _ in value.value for one in key if one.kind == "text"]
    in_namespace(visitor, node, mapping, keys)


def module_path(visitor: Visitor, node: ast.AST, folders: Iterable[ast.expr]) -> None:
    """Modules are looked for in *folders* too."""
    for folder in folders:
        values = visitor.evaluator.values(folder, visitor.scope)
        for value in (*values, *visitor.evaluator.items(tuple(one for one in values if one.kind == "seq"))):
            if value.kind in ("text", "path") and _SHARED.match(value.value):
                visitor.refuse("tampering", node, f"Anyone can put modules into {value.value[:60]}.",
                               "Keep modules in the current folder.")  # fmt: skip


def path_call(visitor: Visitor, node: ast.Call, _name: str) -> None:
    """A call that changes where modules are looked for."""
    module_path(visitor, node, node.args)


def environment_call(visitor: Visitor, node: ast.Call, _name: str) -> None:
    """A call of one of `ON_ENVIRONMENT`."""
    keys = [key for argument in node.args[:1] for key in keys_of(visitor, argument)]
    keys += [keyword.arg for keyword in node.keywords if keyword.arg]
    environment(visitor, node, keys)
    for argument in node.args[:1]:
        environment_update(visitor, node, argument)


def environment_update(visitor: Visitor, node: ast.AST, mapping: ast.expr) -> None:
    """The environment takes what is in *mapping*."""
    for value in visitor.evaluator.values(mapping, visitor.scope):
        if value.kind == "map":
            keys = [one.value for key, _ in value.value for one in key]
            environment(
                visitor, node, [key.decode("utf-8", "replace") if isinstance(key, bytes) else str(key) for key in keys]
            )


def module_replaced(visitor: Visitor, node: ast.AST, keys: Iterable[str]) -> None:
    """Modules named *keys* are put into or taken out of ``sys.modules``."""
    for key in keys:
        if key.partition(".")[0] in sys.stdlib_module_names:
            visitor.refuse("tampering", node, f"Replacing the module {key} changes what Python itself relies on.")
