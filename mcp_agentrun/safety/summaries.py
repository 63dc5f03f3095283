"""Function summaries: what calls of known functions give, so that texts are followed through decoders and joins."""

# pyright: reportUnknownLambdaType=false

from __future__ import annotations

import ast
import base64
import binascii
import codecs
import html
import posixpath
import re
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from .arguments import argument_values, first
from .folding import is_codec, is_plain_text_codec, text_method
from .iteration import one_by_one
from .lookups import LOOKUPS, Summary
from .namespaces import holder
from .paths import HOLE, WORKSPACE
from .resolver import Resolver
from .symbols import Scope
from .values import (
    ALTERNATIVES,
    LONGEST,
    LONGEST_SEQUENCE,
    Decoded,
    DecodedBytes,
    Value,
    Values,
    as_text,
    collection,
    constant_value,
    distinct,
    from_plain,
    is_decoded,
)

__all__ = ["SUMMARIES"]

_LONGEST_RANGE = 256
_TEMPORARY = "/tmp"  # noqa: S108
_PLACE = re.compile(r"\$(?:([A-Za-z_]\w*)|\{([A-Za-z_]\w*)\})")


def _path_join(resolver: Resolver, node: ast.Call, scope: Scope) -> Iterator[Value]:
    results = [""]
    for index, values in enumerate(argument_values(resolver, node, scope)):
        parts = [as_text(value) for value in values] or [HOLE]
        results = [posixpath.join(one, part) if index else part for one in results[:ALTERNATIVES] for part in parts]
    for argument in node.args:
        if isinstance(argument, ast.Starred):
            items = [as_text(v) for v in resolver.items(resolver.values(argument.value, scope))] or [HOLE]
            results = [posixpath.join(*((one,) if one else ()), *items) for one in results]
    return (Value("text", text) for text in results[:ALTERNATIVES])


def _path(resolver: Resolver, node: ast.Call, scope: Scope) -> Iterator[Value]:
    for value in _path_join(resolver, node, scope):
        yield Value("path", value.value or ".")


def _normal(resolver: Resolver, node: ast.Call, scope: Scope) -> Iterator[Value]:
    for value in first(resolver, node, scope):
        if value.kind in ("text", "path"):
            yield Value("text", value.value)


def _text(resolver: Resolver, node: ast.Call, scope: Scope) -> Iterator[Value]:
    values = argument_values(resolver, node, scope)
    for value in values[0] if values else ():
        if value.kind == "bytes" and len(values) > 1:
            encodings = [item.value for item in values[1] if item.kind == "text"]
            if encodings and is_codec(encodings[0]):
                yield from text_method(value.value, "decode", [(Value("text", encodings[0]),)])
        elif value.kind in ("text", "path", "int", "float"):
            text = as_text(value)
            yield Value("text", Decoded(text) if is_decoded(value.value) else text)
        elif value.kind == "ref":
            yield Value("text", HOLE)


def _character(resolver: Resolver, node: ast.Call, scope: Scope) -> Iterator[Value]:
    for value in first(resolver, node, scope):
        if value.kind == "int" and 0 <= value.value <= sys.maxunicode:
            yield Value("text", Decoded(chr(value.value)))


def _ordinal(resolver: Resolver, node: ast.Call, scope: Scope) -> Iterator[Value]:
    for value in first(resolver, node, scope):
        if value.kind == "text" and len(value.value) == 1:
            yield Value("int", ord(value.value))


def _integer(resolver: Resolver, node: ast.Call, scope: Scope) -> Iterator[Value]:
    values = argument_values(resolver, node, scope)
    base = next((value.value for value in (values[1] if len(values) > 1 else ()) if value.kind == "int"), 10)
    for value in values[0] if values else ():
        try:
            if value.kind == "text" and len(value.value) <= 4000 and 0 <= base <= 36:
                yield Value("int", int(value.value, base))
            elif value.kind in ("int", "float"):
                yield Value("int", int(value.value))
        except (ValueError, OverflowError):
            continue


def _bytes(resolver: Resolver, node: ast.Call, scope: Scope) -> Iterator[Value]:
    values = argument_values(resolver, node, scope)
    for value in values[0] if values else ():
        if value.kind == "seq":
            numbers = [item[0].value for item in value.value if item and item[0].kind == "int"]
            if len(numbers) == len(value.value) and all(0 <= number < 256 for number in numbers):
                yield Value("bytes", DecodedBytes(numbers))
        elif value.kind == "bytes":
            yield value
        elif value.kind == "text":
            yield Value("bytes", str.encode(value.value, "utf-8", "replace"))
        elif value.kind == "int":
            yield Value("ref", "builtins.bytes()")


def _bytes_io(resolver: Resolver, node: ast.Call, scope: Scope) -> Iterator[Value]:
    yield Value("ref", "io.BytesIO()")
    for value in first(resolver, node, scope):
        if value.kind == "bytes":
            yield value


def _list(resolver: Resolver, node: ast.Call, scope: Scope) -> Iterator[Value]:
    for value in first(resolver, node, scope):
        if value.kind in ("text", "bytes"):
            yield Value("seq", tuple((constant_value(item, value.value),) for item in value.value[:LONGEST_SEQUENCE]))
        elif value.kind == "ref" and holder(value.value) is not None:
            yield collection(resolver.items((value,)))
        else:
            yield value


def _reordered(resolver: Resolver, node: ast.Call, scope: Scope) -> Iterator[Value]:
    """The items, in an order that is only known where they are sorted without a key."""
    for value in _list(resolver, node, scope):
        if value.kind == "seq":
            items = [item[0].value for item in value.value if len(item) == 1 and item[0].kind in ("text", "int")]
            is_sorted = resolver.references(node.func, scope) == ["builtins.sorted"] and not node.keywords
            if is_sorted and len(items) == len(value.value) and len({isinstance(item, str) for item in items}) == 1:
                yield Value("seq", tuple((constant_value(item),) for item in sorted(items)))
            else:
                yield collection(resolver.items((value,)))
        else:
            yield value


def _zip(resolver: Resolver, node: ast.Call, scope: Scope) -> Iterator[Value]:
    values = argument_values(resolver, node, scope)
    sources = [one_by_one(value[0]) if len(value) == 1 else None for value in values]
    if not sources or None in sources or len(sources) != len(node.args):
        yield collection((Value("seq", tuple(resolver.items(value) for value in values)),))
        return
    yield Value("seq", tuple((Value("seq", items),) for items in zip(*(source or () for source in sources))))


def _enumerate(resolver: Resolver, node: ast.Call, scope: Scope) -> Iterator[Value]:
    values = first(resolver, node, scope)
    source = one_by_one(values[0]) if len(values) == 1 else None
    starts = [*node.args[1:2], *(item.value for item in node.keywords)]
    start = next((number for item in starts for number in resolver.integers(item, scope)), 0)
    if source is None or (starts and not resolver.integers(starts[0], scope)):
        yield collection((Value("seq", ((), resolver.items(values))),))
        return
    pairs = [(Value("seq", ((Value("int", index),), item)),) for index, item in enumerate(source, start)]
    yield Value("seq", tuple(pairs))


def _chained(resolver: Resolver, node: ast.Call, scope: Scope) -> Iterator[Value]:
    """The items of one after another."""
    whole = argument_values(resolver, node, scope)
    if not any(name.endswith("chain") for name in resolver.references(node.func, scope)):  # chain.from_iterable
        inner = first(resolver, node, scope)
        whole = list(inner[0].value) if len(inner) == 1 and inner[0].kind == "seq" else [resolver.items(inner)]
    sources = [one_by_one(value[0]) if len(value) == 1 else None for value in whole]
    if None in sources or len(whole) < len(node.args):
        yield collection(tuple(item for value in whole for item in resolver.items(value)))
    else:
        yield Value("seq", tuple(item for source in sources for item in source or ()))


def _reduced(resolver: Resolver, node: ast.Call, scope: Scope) -> Values:
    """What is left of a sequence when each item is joined to what the earlier ones came to."""
    values = argument_values(resolver, node, scope)
    source = one_by_one(values[1][0]) if len(values) > 1 and len(values[1]) == 1 else None
    if source is None or not (source or values[2:]):
        return (Value("text", HOLE),)
    result = values[2] if len(values) > 2 else source.pop(0)
    for item in source:
        once = Scope(scope, node)
        names = [ast.Name(name, ast.Load()) for name in ("\0one", "\0other")]
        once.bindings = {
            "\0one": [("value", value) for value in result],
            "\0other": [("value", value) for value in item],
        }
        resolver.keep(once, names)
        found: list[Value] = []
        for function in values[0]:
            if function.kind == "ref" and function.value in ("operator.add", "operator.concat", "operator.iadd"):
                step: ast.expr = ast.BinOp(names[0], ast.Add(), names[1])
                resolver.keep(step)
                found += resolver.values(step, once)
            elif function.kind == "ref" and function.value == "builtins.getattr":
                found += resolver.by_name([result, item])
            elif function.kind == "function":
                found += _applied(resolver, function, [result, item])
        result = distinct(found)
    return result or (Value("text", HOLE),)


def _reversed(resolver: Resolver, node: ast.Call, scope: Scope) -> Iterator[Value]:
    for value in _list(resolver, node, scope):
        yield Value("seq", value.value[::-1]) if value.kind == "seq" else value


def _range(resolver: Resolver, node: ast.Call, scope: Scope) -> Iterator[Value]:
    values = argument_values(resolver, node, scope)
    numbers = [next((value.value for value in item if value.kind == "int"), None) for item in values]
    if numbers and None not in numbers and len(numbers) <= 3 and (len(numbers) < 3 or numbers[2] != 0):
        whole = range(*numbers)  # pyright: ignore
        if whole[_LONGEST_RANGE:]:
            yield collection((Value("int", whole[0]), Value("int", whole[-1])))
        else:
            yield Value("seq", tuple((Value("int", number),) for number in whole))


def _map(resolver: Resolver, node: ast.Call, scope: Scope) -> Iterator[Value]:
    values = argument_values(resolver, node, scope)
    if len(values) < 2:
        return
    for function in values[0]:
        if function.kind == "ref" and function.value == "builtins.getattr" and len(values) > 2:
            pairs = [resolver.items(item) for item in values[1:3]]
            yield Value("seq", (resolver.by_name(list(pairs)),))
            continue
        for source in values[1]:
            items: list[Values] = []
            if source.kind in ("text", "bytes"):
                each: Iterable[Values] = [(constant_value(item, source.value),) for item in source.value[:4096]]
            elif source.kind == "seq":
                each = source.value[:4096]
            else:
                continue
            for item in each:
                call = ast.Call(node.args[0], [ast.Name("\0item", ast.Load())], [])
                once = Scope(scope, node)
                once.bindings = {"\0item": [("value", value) for value in item]}
                resolver.keep(once, call)
                if function.kind == "function":
                    items.append(_applied(resolver, function, [item]))
                else:
                    items.append(distinct(resolver.result(function, call, once)))
            yield Value("seq", tuple(items))


def _applied(resolver: Resolver, function: Value, arguments: list[Values]) -> Values:
    definition, inner = function.value
    names = definition.args.args
    if not isinstance(definition, ast.Lambda) or len(names) != len(arguments):
        return resolver.returned(function)
    once = Scope(inner.parent, definition)
    once.bindings = {name.arg: [("value", value) for value in values] for name, values in zip(names, arguments)}
    resolver.keep(once)
    return resolver.values(definition.body, once)


def _getattr(resolver: Resolver, node: ast.Call, scope: Scope) -> Values:
    return resolver.by_name(argument_values(resolver, node, scope))


def _vars(resolver: Resolver, node: ast.Call, scope: Scope) -> Iterator[Value]:
    if not node.args:
        yield Value("ref", "builtins.vars()")
    for value in first(resolver, node, scope):
        if value.kind == "ref":
            yield Value("ref", f"{value.value}.__dict__")
        elif value.kind == "fields":
            yield Value("map", value.value)


def _opened(resolver: Resolver, node: ast.Call, scope: Scope) -> Iterator[Value]:
    yield Value("ref", "builtins.open()")
    for value in first(resolver, node, scope):
        if value.kind in ("text", "path", "file"):
            yield Value("file", value.value)


def _descriptor(resolver: Resolver, node: ast.Call, scope: Scope) -> Iterator[Value]:
    yield Value("ref", "os.open()")
    for value in first(resolver, node, scope):
        if value.kind in ("text", "path"):
            yield Value("file", value.value)


def _dedented(resolver: Resolver, node: ast.Call, scope: Scope) -> Iterator[Value]:
    import textwrap

    for value in first(resolver, node, scope):
        if value.kind == "text":
            text = textwrap.dedent(value.value.lstrip("\n"))
            yield Value("text", Decoded(text) if isinstance(value.value, Decoded) else text)


def _dirname(resolver: Resolver, node: ast.Call, scope: Scope) -> Iterator[Value]:
    for value in first(resolver, node, scope):
        if value.kind in ("text", "path"):
            yield Value("text", posixpath.dirname(value.value))


def _matches(resolver: Resolver, node: ast.Call, scope: Scope) -> Iterator[Value]:
    """The paths that match a pattern: the pattern stands for each."""
    yield collection(tuple(Value("text", as_text(value)) for value in first(resolver, node, scope)))


def _below(folder: str) -> str:
    """What stands for the paths of all that is in *folder*."""
    return f"{folder.rstrip('/')}/**" if folder else "**"


def _walk(resolver: Resolver, node: ast.Call, scope: Scope) -> Iterator[Value]:
    tops = [*node.args[:1], *(item.value for item in node.keywords if item.arg == "top")]
    values = [value for top in tops for value in resolver.values(top, scope)]
    folders = tuple(Value("text", _below(as_text(value))) for value in values)
    names = (collection((Value("text", HOLE),)),)
    yield collection((Value("seq", (folders or (Value("text", HOLE),), names, names)),))


def _entries(resolver: Resolver, node: ast.Call, scope: Scope) -> Iterator[Value]:
    values = first(resolver, node, scope)
    yield collection(tuple(Value("path", _below(as_text(value))) for value in values))


def _substituted(resolver: Resolver, node: ast.Call, scope: Scope) -> Iterator[Value]:
    """What a template of `string.Template` gives; the template is the first argument of the inner call."""
    templates = (
        resolver.texts(node.func.value.args[0], scope)
        if isinstance(node.func, ast.Attribute) and isinstance(node.func.value, ast.Call) and node.func.value.args
        else []
    )
    named: dict[str, str] = {}
    for value in _mapping_of(resolver, node, scope):
        for key, item in value.value:
            if key and item:
                named[str(key[0].value)] = as_text(item[0])
    for template in templates:
        yield Value("text", _PLACE.sub(lambda match: named.get(match[1] or match[2], HOLE), template))
    if not templates:
        yield Value("text", HOLE)


def _mapping_of(resolver: Resolver, node: ast.Call, scope: Scope) -> Iterator[Value]:
    for value in LOOKUPS["builtins.dict"](resolver, node, scope):
        if value.kind == "map":
            yield value


def _unquoted(resolver: Resolver, node: ast.Call, scope: Scope) -> Iterator[Value]:
    from urllib.parse import unquote

    for text in (value.value for value in first(resolver, node, scope) if value.kind == "text"):
        yield Value("text", Decoded(unquote(text)) if "%" in text else text)


def _decoder(function: Callable[[Any], Any]) -> Summary:
    def fold(resolver: Resolver, node: ast.Call, scope: Scope) -> Iterator[Value]:
        for value in first(resolver, node, scope):
            if value.kind in ("text", "bytes") and len(value.value) <= LONGEST:
                data = value.value
                try:
                    result = function(data.encode("ascii") if isinstance(data, str) and function in _OF_BYTES else data)
                except Exception:  # whatever a decoder makes of hostile data
                    continue
                yield from from_plain(result, decoded=True)

    return fold


def _inflate(data: bytes) -> bytes:
    return zlib.decompressobj(47).decompress(data, LONGEST)


def _inflate_bz2(data: bytes) -> bytes:
    import bz2

    return bz2.BZ2Decompressor().decompress(data, LONGEST)


def _inflate_lzma(data: bytes) -> bytes:
    import lzma

    return lzma.LZMADecompressor(memlimit=64 << 20).decompress(data, LONGEST)


_OF_BYTES = (_inflate, _inflate_bz2, _inflate_lzma)


def _encoder(function: Callable[[bytes], bytes]) -> Summary:
    def fold(resolver: Resolver, node: ast.Call, scope: Scope) -> Iterator[Value]:
        for value in first(resolver, node, scope):
            if value.kind == "bytes" and len(value.value) <= LONGEST // 4:
                yield Value("bytes", DecodedBytes(function(value.value)))

    return fold


def _codec(function: Callable[[Any, str], Any]) -> Summary:
    def fold(resolver: Resolver, node: ast.Call, scope: Scope) -> Iterator[Value]:
        values = argument_values(resolver, node, scope)
        encodings = [item.value for item in (values[1] if len(values) > 1 else ()) if item.kind == "text"] or ["utf-8"]
        for value in values[0] if values else ():
            if value.kind in ("text", "bytes") and is_codec(encodings[0]):
                try:
                    result = function(value.value, encodings[0])
                except Exception:  # as above
                    continue
                yield from from_plain(result, decoded=not is_plain_text_codec(encodings[0]))

    return fold


def _constant_text(text: str) -> Summary:
    return lambda _resolver, _node, _scope: (Value("text", text),)


def _tempdir(_resolver: Resolver, _node: ast.Call, _scope: Scope) -> Values:
    return (Value("text", _TEMPORARY),)


SUMMARIES: dict[str, Summary] = {
    **LOOKUPS,
    "os.path.join": _path_join,
    "os.path.expanduser": _normal,
    "os.path.expandvars": _normal,
    "os.path.abspath": _normal,
    "os.path.normpath": _normal,
    "os.path.realpath": _normal,
    "os.fspath": _normal,
    "os.fsdecode": _normal,
    "os.getcwd": _constant_text(WORKSPACE),
    "tempfile.gettempdir": _tempdir,
    "site.getsitepackages": lambda *_: (Value("seq", ((Value("text", "/usr/lib/python3/site-packages"),),)),),
    "site.getusersitepackages": _constant_text("~/.local/lib/python3/site-packages"),
    "sysconfig.get_paths": lambda *_: (collection((Value("text", "/usr/lib/python3/site-packages"),)),),
    "sysconfig.get_path": _constant_text("/usr/lib/python3/site-packages"),
    "pathlib.Path": _path,
    "pathlib.PosixPath": _path,
    "pathlib.PurePath": _path,
    "pathlib.PurePosixPath": _path,
    "pathlib.Path.home": lambda *_: (Value("path", "~"),),
    "pathlib.Path.cwd": lambda *_: (Value("path", WORKSPACE),),
    "builtins.str": _text,
    "builtins.repr": _text,
    "builtins.chr": _character,
    "builtins.ord": _ordinal,
    "builtins.int": _integer,
    "builtins.bytes": _bytes,
    "builtins.bytearray": _bytes,
    "builtins.list": _list,
    "io.BytesIO": _bytes_io,
    "builtins.tuple": _list,
    "builtins.set": _reordered,
    "builtins.iter": _list,
    "builtins.sorted": _reordered,
    "builtins.zip": _zip,
    "builtins.enumerate": _enumerate,
    "builtins.dict.fromkeys": _list,
    "itertools.chain": _chained,
    "itertools.chain.from_iterable": _chained,
    "functools.reduce": _reduced,
    "builtins.open": _opened,
    "codecs.open": _opened,
    "tokenize.open": _opened,
    "os.path.dirname": _dirname,
    "glob.glob": _matches,
    "glob.iglob": _matches,
    "os.walk": _walk,
    "os.fwalk": _walk,
    "os.scandir": _entries,
    "string.Template().substitute": _substituted,
    "string.Template().safe_substitute": _substituted,
    "urllib.parse.unquote": _unquoted,
    "urllib.parse.unquote_plus": _unquoted,
    "urllib.request.url2pathname": _unquoted,
    "nturl2path.url2pathname": _unquoted,
    "html.unescape": _decoder(html.unescape),
    "tempfile.mkdtemp": lambda *_: (Value("text", f"{_TEMPORARY}/{HOLE}"),),
    "tempfile.TemporaryDirectory": lambda *_: (Value("text", f"{_TEMPORARY}/{HOLE}"),),
    "builtins.reversed": _reversed,
    "builtins.range": _range,
    "builtins.map": _map,
    "builtins.getattr": _getattr,
    "builtins.vars": _vars,
    "builtins.bytes.fromhex": _decoder(bytes.fromhex),
    "builtins.bytearray.fromhex": _decoder(bytes.fromhex),
    "base64.b64decode": _decoder(base64.b64decode),
    "base64.standard_b64decode": _decoder(base64.standard_b64decode),
    "base64.urlsafe_b64decode": _decoder(base64.urlsafe_b64decode),
    "base64.decodebytes": _decoder(base64.decodebytes),
    "base64.b32decode": _decoder(base64.b32decode),
    "base64.b16decode": _decoder(base64.b16decode),
    "base64.a85decode": _decoder(base64.a85decode),
    "base64.b85decode": _decoder(base64.b85decode),
    "base64.b64encode": _encoder(base64.b64encode),
    "base64.b32encode": _encoder(base64.b32encode),
    "base64.b85encode": _encoder(base64.b85encode),
    "binascii.hexlify": _encoder(binascii.hexlify),
    "binascii.unhexlify": _decoder(binascii.unhexlify),
    "binascii.a2b_hex": _decoder(binascii.unhexlify),
    "binascii.a2b_base64": _decoder(binascii.a2b_base64),
    "zlib.compress": _encoder(zlib.compress),
    "zlib.decompress": _decoder(_inflate),
    "gzip.decompress": _decoder(_inflate),
    "bz2.decompress": _decoder(_inflate_bz2),
    "lzma.decompress": _decoder(_inflate_lzma),
    "codecs.decode": _codec(codecs.decode),
    "codecs.encode": _codec(codecs.encode),
    "os.open": _descriptor,
    "os.fdopen": _opened,
    "textwrap.dedent": _dedented,
    "inspect.cleandoc": _dedented,
    "ast.parse": first,
    "builtins.compile": first,
    "codeop.compile_command": first,
    "copy.copy": first,
    "copy.deepcopy": first,
    "asyncio.run": first,
    "random.choice": lambda r, n, s: r.items(first(r, n, s)),
    "builtins.next": lambda r, n, s: r.items(first(r, n, s)),
}
