"""Function summaries: what calls of known functions give, so that texts are followed through decoders and joins."""

# pyright: reportUnknownLambdaType=false

from __future__ import annotations

import ast
import base64
import binascii
import codecs
import posixpath
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from .canonical import canonical
from .folding import is_codec, is_plain_text_codec, text_method
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
    constant_value,
    distinct,
    from_plain,
    is_decoded,
)

__all__ = ["SUMMARIES"]

_Summary = Callable[[Resolver, ast.Call, Scope], Iterable[Value]]


def _argument_values(resolver: Resolver, node: ast.Call, scope: Scope) -> list[Values]:
    return [resolver.values(argument, scope) for argument in node.args if not isinstance(argument, ast.Starred)]


def _path_join(resolver: Resolver, node: ast.Call, scope: Scope) -> Iterator[Value]:
    results = [""]
    for index, values in enumerate(_argument_values(resolver, node, scope)):
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


def _first(resolver: Resolver, node: ast.Call, scope: Scope) -> Values:
    values = _argument_values(resolver, node, scope)
    return values[0] if values else ()


def _normal(resolver: Resolver, node: ast.Call, scope: Scope) -> Iterator[Value]:
    for value in _first(resolver, node, scope):
        if value.kind in ("text", "path"):
            yield Value("text", value.value)


def _text(resolver: Resolver, node: ast.Call, scope: Scope) -> Iterator[Value]:
    values = _argument_values(resolver, node, scope)
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
    for value in _first(resolver, node, scope):
        if value.kind == "int" and 0 <= value.value <= sys.maxunicode:
            yield Value("text", Decoded(chr(value.value)))


def _ordinal(resolver: Resolver, node: ast.Call, scope: Scope) -> Iterator[Value]:
    for value in _first(resolver, node, scope):
        if value.kind == "text" and len(value.value) == 1:
            yield Value("int", ord(value.value))


def _integer(resolver: Resolver, node: ast.Call, scope: Scope) -> Iterator[Value]:
    values = _argument_values(resolver, node, scope)
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
    values = _argument_values(resolver, node, scope)
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
    for value in _first(resolver, node, scope):
        if value.kind == "bytes":
            yield value


def _list(resolver: Resolver, node: ast.Call, scope: Scope) -> Iterator[Value]:
    for value in _first(resolver, node, scope):
        if value.kind in ("text", "bytes"):
            yield Value("seq", tuple((constant_value(item, value.value),) for item in value.value[:LONGEST_SEQUENCE]))
        else:
            yield value


def _reversed(resolver: Resolver, node: ast.Call, scope: Scope) -> Iterator[Value]:
    for value in _list(resolver, node, scope):
        yield Value("seq", value.value[::-1]) if value.kind == "seq" else value


def _range(resolver: Resolver, node: ast.Call, scope: Scope) -> Iterator[Value]:
    values = _argument_values(resolver, node, scope)
    numbers = [next((value.value for value in item if value.kind == "int"), None) for item in values]
    if numbers and None not in numbers and len(numbers) <= 3 and (len(numbers) < 3 or numbers[2] != 0):
        whole = range(*numbers)  # pyright: ignore
        shown = list(whole[:256]) + ([whole[-1]] if whole[256:] else [])
        yield Value("seq", tuple((Value("int", number),) for number in shown))


def _map(resolver: Resolver, node: ast.Call, scope: Scope) -> Iterator[Value]:
    values = _argument_values(resolver, node, scope)
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
                    items.append(_applied(resolver, function, item, once))
                else:
                    items.append(distinct(resolver.result(function, call, once)))
            yield Value("seq", tuple(items))


def _applied(resolver: Resolver, function: Value, item: Values, scope: Scope) -> Values:
    definition, inner = function.value
    arguments = definition.args.args
    if not isinstance(definition, ast.Lambda) or len(arguments) != 1:
        return resolver.returned(function)
    once = Scope(inner.parent, definition)
    once.bindings = {arguments[0].arg: [("value", value) for value in item]}
    resolver.keep(once)
    return resolver.values(definition.body, once)


def _getattr(resolver: Resolver, node: ast.Call, scope: Scope) -> Values:
    return resolver.by_name(_argument_values(resolver, node, scope))


def _import(resolver: Resolver, node: ast.Call, scope: Scope) -> Iterator[Value]:
    arguments = [*node.args[:1], *(keyword.value for keyword in node.keywords if keyword.arg == "name")]
    for argument in arguments:
        for text in resolver.texts(argument, scope):
            is_root = resolver.references(node.func, scope)[:1] == ["builtins.__import__"] and len(node.args) < 4
            yield Value("ref", canonical(text.partition(".")[0] if is_root else text))


def _vars(resolver: Resolver, node: ast.Call, scope: Scope) -> Iterator[Value]:
    if not node.args:
        yield Value("ref", "builtins.vars()")
    for value in _first(resolver, node, scope):
        if value.kind == "ref":
            yield Value("ref", f"{value.value}.__dict__")


def _partial(resolver: Resolver, node: ast.Call, scope: Scope) -> Iterator[Value]:
    values = _argument_values(resolver, node, scope)
    for function in values[0] if values else ():
        yield Value("partial", (function, tuple(values[1:])))


def _decoder(function: Callable[[Any], Any]) -> _Summary:
    def fold(resolver: Resolver, node: ast.Call, scope: Scope) -> Iterator[Value]:
        for value in _first(resolver, node, scope):
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


def _encoder(function: Callable[[bytes], bytes]) -> _Summary:
    def fold(resolver: Resolver, node: ast.Call, scope: Scope) -> Iterator[Value]:
        for value in _first(resolver, node, scope):
            if value.kind == "bytes" and len(value.value) <= LONGEST // 4:
                yield Value("bytes", DecodedBytes(function(value.value)))

    return fold


def _codec(function: Callable[[Any, str], Any]) -> _Summary:
    def fold(resolver: Resolver, node: ast.Call, scope: Scope) -> Iterator[Value]:
        values = _argument_values(resolver, node, scope)
        encodings = [item.value for item in (values[1] if len(values) > 1 else ()) if item.kind == "text"] or ["utf-8"]
        for value in values[0] if values else ():
            if value.kind in ("text", "bytes") and is_codec(encodings[0]):
                try:
                    result = function(value.value, encodings[0])
                except Exception:  # as above
                    continue
                yield from from_plain(result, decoded=not is_plain_text_codec(encodings[0]))

    return fold


def _constant_text(text: str) -> _Summary:
    return lambda _resolver, _node, _scope: (Value("text", text),)


def _tempdir(_resolver: Resolver, _node: ast.Call, _scope: Scope) -> Values:
    return (Value("text", "/tmp"),)  # noqa: S108


SUMMARIES: dict[str, _Summary] = {
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
    "builtins.set": _list,
    "builtins.iter": _list,
    "builtins.sorted": _list,
    "builtins.reversed": _reversed,
    "builtins.range": _range,
    "builtins.map": _map,
    "builtins.getattr": _getattr,
    "builtins.__import__": _import,
    "importlib.import_module": _import,
    "builtins.vars": _vars,
    "builtins.dict": _first,
    "functools.partial": _partial,
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
    "textwrap.dedent": _normal,
    "ast.parse": _first,
    "builtins.compile": _first,
    "codeop.compile_command": _first,
    "copy.copy": _first,
    "copy.deepcopy": _first,
    "asyncio.run": _first,
    "random.choice": lambda r, n, s: r.items(_first(r, n, s)),
    "builtins.next": lambda r, n, s: r.items(_first(r, n, s)),
}
