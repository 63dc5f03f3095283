"""Function summaries: what is looked up by text, or carried by an object that only holds what it is given."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Iterator

from .arguments import argument_values, first
from .canonical import canonical
from .namespaces import looked_up
from .paths import HOLE
from .resolver import Resolver, source_file
from .symbols import Scope
from .values import Value, Values, collection

__all__ = ["LOOKUPS", "RESOLVERS", "Summary"]

Summary = Callable[[Resolver, ast.Call, Scope], Iterable[Value]]

RESOLVERS = frozenset(
    """
    pkgutil.resolve_name pydoc.locate pydoc.safeimport pydoc.resolve unittest.mock._importer unittest.mock._dot_lookup
    unittest.mock._get_target mock._importer logging.config._resolve logging.config.BaseConfigurator().resolve
    logging.config.BaseConfigurator().convert logging.config.BaseConfigurator().ext_convert
    logging.config.DictConfigurator().resolve logging.config.DictConfigurator().convert
    logging.config.DictConfigurator().ext_convert unittest.defaultTestLoader.loadTestsFromName
    unittest.defaultTestLoader.loadTestsFromNames unittest.TestLoader().loadTestsFromName
    unittest.TestLoader().loadTestsFromNames unittest.loader.defaultTestLoader.loadTestsFromName
    django.utils.module_loading.import_string werkzeug.utils.import_string zope.dottedname.resolve.resolve
    hydra.utils.get_class hydra.utils.get_method hydra.utils.get_object kombu.utils.imports.symbol_by_name
    traitlets.import_item traitlets.utils.importstring.import_item importlib.metadata.EntryPoint
    pandas.compat._optional.import_optional_dependency sympy.external.import_module pytest.importorskip
    six.moves.import_module celery.utils.imports.instantiate pyramid.path.DottedNameResolver().resolve
    pyramid.path.DottedNameResolver().maybe_resolve astropy.utils.introspection.resolve_name
    setuptools.extern.import_module importlib._bootstrap._gcd_import lazy_import.lazy_module
    lazy_loader.load asgiref.local.import_string xml.sax._create_parser
""".split()
)
"""Functions that import, or find in a module, what a text names."""


def target(text: str) -> str:
    """The canonical name of what *text*, as one of `RESOLVERS` takes it, names."""
    return canonical(text.removeprefix("ext://").replace(":", "."))


def _resolved(resolver: Resolver, node: ast.Call, scope: Scope) -> Iterator[Value]:
    for argument in (*node.args[:2], *(keyword.value for keyword in node.keywords)):
        for text in resolver.texts(argument, scope):
            if HOLE not in text:
                yield Value("ref", target(text))


def _specification(resolver: Resolver, node: ast.Call, scope: Scope) -> Iterator[Value]:
    for text in resolver.texts(node.args[0], scope) if node.args else ():
        yield Value("ref", f"spec:{text}")


def _each_called(resolver: Resolver, node: ast.Call, scope: Scope) -> Iterator[Value]:
    """What ``starmap`` gives of `getattr`."""
    values = argument_values(resolver, node, scope)
    if len(values) == 2 and any(value.value == "builtins.getattr" for value in values[0] if value.kind == "ref"):
        pairs = [item for item in resolver.items(values[1]) if item.kind == "seq"]
        yield collection(tuple(found for pair in pairs for found in resolver.by_name(list(pair.value))))
    else:
        yield Value("ref", "itertools.starmap()")


def _of_specification(resolver: Resolver, node: ast.Call, scope: Scope) -> Iterator[Value]:
    for name in resolver.references(node.args[0], scope) if node.args else ():
        yield Value("ref", canonical(name[5:]) if name.startswith("spec:") else "importlib.util.module_from_spec()")


def _members(resolver: Resolver, node: ast.Call, scope: Scope) -> Iterator[Value]:
    for value in first(resolver, node, scope):
        if value.kind == "ref":
            yield Value("ref", f"{value.value}.__dict__.items()")


def _source(resolver: Resolver, node: ast.Call, scope: Scope) -> Iterator[Value]:
    for value in first(resolver, node, scope):
        if value.kind == "ref" and "(" not in value.value:
            yield from source_file(value.value)


def _mapping(resolver: Resolver, node: ast.Call, scope: Scope) -> Iterator[Value]:
    """A mapping that is made of others, of pairs, and of keywords."""
    for values in argument_values(resolver, node, scope):
        for value in values:
            if value.kind == "seq" and value.value and all(_is_pair(item) for item in value.value):
                yield Value("map", tuple((item[0].value[0], item[0].value[1]) for item in value.value))
            elif value.kind == "map" and value.value and all(_is_pair(item) for _, item in value.value):
                yield Value("map", tuple((item[0].value[0], item[0].value[1]) for _, item in value.value))
            else:
                yield value
    if node.keywords:
        yield Value("map", _named(resolver, node, scope))


def _is_pair(item: Values) -> bool:
    return len(item) == 1 and item[0].kind == "seq" and len(item[0].value) == 2


def _named(resolver: Resolver, node: ast.Call, scope: Scope) -> tuple[tuple[Values, Values], ...]:
    pairs: list[tuple[Values, Values]] = []
    for item in node.keywords:
        values = resolver.values(item.value, scope)
        if item.arg is not None:
            pairs.append(((Value("text", item.arg),), values))
        else:
            for value in values:
                pairs += value.value if value.kind in ("map", "fields") else [((), resolver.items((value,)))]
    return tuple(pairs)


def _fields(resolver: Resolver, node: ast.Call, scope: Scope) -> Iterator[Value]:
    """An object that carries what it is given, as attributes."""
    positional = [((), values) for values in argument_values(resolver, node, scope)]
    yield Value("fields", (*positional, *_named(resolver, node, scope)))


def _held(resolver: Resolver, node: ast.Call, scope: Scope) -> Iterator[Value]:
    """A container of what it is given."""
    for value in first(resolver, node, scope):
        yield value if value.kind in ("seq", "map", "ref") else collection(resolver.items((value,)))


def _some(resolver: Resolver, node: ast.Call, scope: Scope) -> Iterator[Value]:
    """Some of the items of what may have no end."""
    values = argument_values(resolver, node, scope)
    yield collection(resolver.items(tuple(value for item in values for value in item if value.kind != "int")))


def _type(resolver: Resolver, node: ast.Call, scope: Scope) -> Iterator[Value]:
    if len(node.args) != 1:
        yield Value("ref", "builtins.type()")
        for value in argument_values(resolver, node, scope)[2:3]:
            yield from (Value("fields", one.value) for one in value if one.kind == "map")
        return
    for value in first(resolver, node, scope):
        if value.kind == "function":
            yield Value("ref", "types.FunctionType")
        elif value.kind == "instance":
            yield Value("class", value.value)
        elif value.kind == "ref" and value.value.endswith(".__code__"):
            yield Value("ref", "types.CodeType")
        elif value.kind == "ref" and value.value == "sys":
            yield Value("ref", "types.ModuleType")
        else:
            yield Value("ref", "builtins.type()")


def _environment(resolver: Resolver, node: ast.Call, scope: Scope) -> Iterator[Value]:
    values = argument_values(resolver, node, scope)
    if values and any(key.value == "HOME" for key in values[0]):
        yield Value("text", "~")
    else:
        yield Value("ref", "os.getenv()")
    yield from values[1] if len(values) > 1 else ()


def _partial(resolver: Resolver, node: ast.Call, scope: Scope) -> Iterator[Value]:
    values = argument_values(resolver, node, scope)
    for function in values[0] if values else ():
        yield Value("partial", (function, tuple(values[1:])))


def _getter(name: str) -> Summary:
    def summary(resolver: Resolver, node: ast.Call, scope: Scope) -> Iterator[Value]:
        yield Value("ref", f"{name}()")
        yield Value("partial", (Value("ref", name), tuple(argument_values(resolver, node, scope))))

    return summary


def _module(resolver: Resolver, node: ast.Call, scope: Scope) -> Iterator[Value]:
    arguments = [*node.args[:1], *(keyword.value for keyword in node.keywords if keyword.arg == "name")]
    for argument in arguments:
        is_root = resolver.references(node.func, scope)[:1] == ["builtins.__import__"] and len(node.args) < 4
        for value in looked_up("?", resolver.values(argument, scope)):
            yield Value("ref", value.value.partition(".")[0]) if is_root else value


LOOKUPS: dict[str, Summary] = {
    **dict.fromkeys(RESOLVERS, _resolved),
    "builtins.__import__": _module,
    "importlib.import_module": _module,
    **dict.fromkeys(
        ("importlib.util.find_spec", "importlib.machinery.ModuleSpec", "importlib.machinery.PathFinder.find_spec",
         "importlib.machinery.BuiltinImporter.find_spec", "importlib.machinery.FrozenImporter.find_spec",
         "importlib.find_loader", "pkgutil.find_loader", "pkgutil.get_loader", "importlib.util.spec_from_loader"),
        _specification,
    ),
    "importlib.util.module_from_spec": _of_specification,
    **dict.fromkeys(("inspect.getfile", "inspect.getsourcefile", "inspect.getabsfile"), _source),
    "inspect.getmembers": _members,
    "inspect.getmembers_static": _members,
    **dict.fromkeys(
        ("builtins.dict", "collections.ChainMap", "collections.UserDict", "collections.OrderedDict",
         "types.MappingProxyType", "collections.defaultdict"),
        _mapping,
    ),
    **dict.fromkeys(
        ("types.SimpleNamespace", "argparse.Namespace", "collections.namedtuple()", "typing.NamedTuple()",
         "dataclasses.make_dataclass()", "multiprocessing.managers.Namespace"),
        _fields,
    ),
    **dict.fromkeys(
        ("collections.deque", "collections.UserList", "builtins.frozenset", "builtins.filter",
         "itertools.dropwhile", "itertools.filterfalse"),
        _held,
    ),
    **dict.fromkeys(("itertools.islice", "itertools.takewhile"), _some),
    **dict.fromkeys(("contextlib.nullcontext", "weakref.proxy", "types.DynamicClassAttribute"), first),
    "itertools.starmap": _each_called,
    "builtins.type": _type,
    "os.getenv": _environment,
    "os.environ.get": _environment,
    "functools.partial": _partial,
    "functools.partialmethod": _partial,
    **{name: _getter(name) for name in ("operator.itemgetter", "operator.attrgetter", "operator.methodcaller")},
}  # fmt: skip
