"""Rules on files that the code itself writes, and what it then has made of them: modules that are imported or executed,
and objects that are loaded."""

from __future__ import annotations

import ast
import posixpath
import re
from collections.abc import Iterable, Iterator

from .execution import judge_text
from .paths import HOLE
from .values import Value, Values
from .visitor import Visitor, Written

__all__ = ["FILE_LOADERS", "RUNNERS", "UNPICKLERS", "judge_files", "moved", "note", "runs", "unpickled"]

UNPICKLERS = frozenset(
    """
    pickle.loads pickle.load pickle.Unpickler marshal.loads dill.loads cloudpickle.loads
""".split()
)  # fmt: skip
FILE_LOADERS = frozenset(
    """
    joblib.load pandas.read_pickle pandas.io.pickle.read_pickle torch.load numpy.load dill.load cloudpickle.load
    shelve.open sklearn.externals.joblib.load compress_pickle.load compress_pickle.loads pickle5.load pickle5.loads
    pandas.compat.pickle_compat.load skops.io.load mlflow.sklearn.load_model
    numpy.lib.format.read_array numpy.lib.npyio.load keras.models.load_model tensorflow.keras.models.load_model
    statsmodels.iolib.smpickle.load_pickle gensim.utils.unpickle networkx.read_gpickle nltk.data.load
""".split()
)
"""Functions that unpickle what is in a file, or in what looks like one."""

RUNNERS = frozenset(
    """
    pytest.main unittest.main unittest.TestLoader().discover unittest.defaultTestLoader.discover
    importlib.util.spec_from_file_location importlib.machinery.SourceFileLoader runpy.run_path runpy.run_module
    pkgutil.walk_packages nose.run nose.main doctest.testfile test.support.run_unittest importlib.import_module
    trace.main cProfile.main unittest.loader.defaultTestLoader.discover unittest.TestProgram zipimport.zipimporter
""".split()
)
"""Functions that execute files which they find."""

_RECEIVED = re.compile(r"recv|requests\.|urllib|httpx|input\(\)|stdin|socket|argv|getenv|environ")
_PICKLED_CALL = re.compile(rb"c[\w.]+\n[\w.]+\n.*[Rob\x81]|\(i[\w.]+\n[\w.]+\n|\x8c.*\x93.*[Rob\x81]", re.DOTALL)
"""A global that is called, in pickles of any protocol."""

_METHODS = frozenset(("write", "write_text", "write_bytes", "writelines", "writestr"))
_LONGEST = 1 << 16


def unpickled(visitor: Visitor, node: ast.Call, name: str) -> None:
    """A call of one of `UNPICKLERS`, or of `FILE_LOADERS`."""
    if name == "torch.load" and _is_set(node, "weights_only", default=False):
        return
    if name.startswith("numpy") and not _is_set(node, "allow_pickle", default=False):
        return
    visitor.loaders.append((node, name))
    is_path = name in FILE_LOADERS
    for argument in node.args[:1]:
        for value in visitor.evaluator.values(argument, visitor.scope):
            is_literal = value.kind == "bytes" or (value.kind == "text" and not is_path)
            if is_literal or (value.kind == "ref" and _RECEIVED.search(value.value)):
                visitor.refuse(
                    "deserialization",
                    node,
                    f"{name} of data that came with the code, or from outside, can execute anything.",
                )


def _is_set(node: ast.Call, name: str, *, default: bool) -> bool:
    for keyword in node.keywords:
        if keyword.arg == name:
            return not (isinstance(keyword.value, ast.Constant) and not keyword.value.value)
    return default


def runs(visitor: Visitor, node: ast.Call, name: str) -> None:
    """A call of one of `RUNNERS`."""
    visitor.loaders.append((node, name))


def moved(visitor: Visitor, node: ast.Call, _name: str) -> None:
    """A file gets another name."""
    if len(node.args) < 2:
        return
    for old in visitor.evaluator.values(node.args[0], visitor.scope):
        for new in visitor.evaluator.values(node.args[1], visitor.scope):
            if {old.kind, new.kind} <= {"text", "path"}:
                visitor.moved.append((old.value, new.value))


def note(visitor: Visitor, node: ast.Call) -> None:
    """A call that may write to a file: remember what."""
    evaluator, scope = visitor.evaluator, visitor.scope
    if not node.args:
        return
    if len(node.args) > 1 and "os.write" in evaluator.references(node.func, scope):
        holders, contents = evaluator.values(node.args[0], scope), evaluator.values(node.args[1], scope)
    elif isinstance(node.func, ast.Attribute) and node.func.attr in _METHODS:
        place = 1 if node.func.attr == "writestr" else 0
        holders = evaluator.values(node.args[0], scope) if place else evaluator.values(node.func.value, scope)
        contents: Values = ()
        for argument in node.args[place : place + 1]:
            contents = evaluator.values(argument, scope)
            if node.func.attr == "writelines":
                contents = evaluator.items(contents)
    elif isinstance(node.func, ast.Name) and node.func.id == "print":
        files = [keyword.value for keyword in node.keywords if keyword.arg == "file"]
        holders = tuple(value for file in files for value in evaluator.values(file, scope))
        contents = tuple(
            Value("text", f"{value.value}\n")
            for argument in node.args[:1]
            for value in (evaluator.values(argument, scope) if holders else ())
            if value.kind == "text"
        )
    else:
        return
    for value in holders:
        if value.kind in ("file", "path") or (value.kind == "text" and place_is_name(node)):
            _remember(visitor, node, value.value, contents)


def place_is_name(node: ast.Call) -> bool:
    return isinstance(node.func, ast.Attribute) and node.func.attr == "writestr"


def _remember(visitor: Visitor, node: ast.Call, path: str, contents: Values) -> None:
    written = visitor.evaluator.written
    is_first = path not in written
    known = tuple(value for value in contents if value.kind in ("text", "bytes") and len(value.value) < _LONGEST)
    visitor.written.append(Written(path, node, known))
    if not is_first and len(known) == 1 and len(written[path]) == 1 and known[0].kind == written[path][0].kind:
        known = (Value(known[0].kind, written[path][0].value + known[0].value),)
    elif not is_first:
        known = ()
    written[path] = known if len(known) == 1 and HOLE not in str(known[0].value) else ()


def judge_files(visitor: Visitor) -> None:
    """After all else: what was written, by what is done with the files."""
    if visitor.written:
        for path, parts in _by_file(visitor).items():
            if path.endswith((".py", ".pyw", ".pth")) and _is_run(visitor, path):
                _judge_module(visitor, parts)
    if any(name in UNPICKLERS | FILE_LOADERS for _, name in visitor.loaders):
        _judge_pickles(visitor)


def _by_file(visitor: Visitor) -> dict[str, list[Written]]:
    files: dict[str, list[Written]] = {}
    for part in visitor.written:
        files.setdefault(part.path, []).append(part)
    for old, new in visitor.moved:
        for part in files.get(old, ()):
            files.setdefault(new, []).append(part)
    return files


def _is_run(visitor: Visitor, path: str) -> bool:
    """Whether the file *path* is imported or executed by the same code."""
    if path in visitor.executed or any(name in RUNNERS for _, name in visitor.loaders):
        return True
    folder, _, name = path.rpartition("/")
    stem = posixpath.splitext(name)[0]
    if stem == "__init__":
        stem = posixpath.basename(folder)
    return HOLE in stem or any(stem in module.split(".") for module in visitor.imported)


def _judge_module(visitor: Visitor, parts: list[Written]) -> None:
    outer = visitor.scope
    visitor.scope = visitor.evaluator.own_scope(parts[0].node)
    for text in _texts(parts):
        judge_text(visitor, parts[0].node, text.replace(HOLE, "0"))
    visitor.scope = outer


def _texts(parts: list[Written]) -> Iterator[str]:
    """What the file may hold: each part by itself, and all of them one after another."""
    whole: list[str] = []
    for part in parts:
        texts = [_text(value) for value in part.contents]
        whole += texts[:1]
        if len(parts) == 1 or len(texts) > 1:
            yield from texts
    if len(parts) > 1:
        yield "".join(whole)


def _text(value: Value) -> str:
    return value.value.decode("utf-8", "replace") if value.kind == "bytes" else value.value


def _judge_pickles(visitor: Visitor) -> None:
    for data in _literal_bytes(visitor):
        if len(data) < _LONGEST and _PICKLED_CALL.search(data):
            node, name = visitor.loaders[0]
            visitor.refuse(
                "deserialization", node, f"{name} may load a pickle that came with the code, and calls functions."
            )
            return


def _literal_bytes(visitor: Visitor) -> Iterable[bytes]:
    for part in visitor.written:
        for value in part.contents:
            yield value.value if value.kind == "bytes" else value.value.encode("latin-1", "replace")
    for node in ast.walk(visitor.evaluator.symbols.module.node):
        if isinstance(node, ast.Constant) and isinstance(node.value, bytes):
            yield node.value
