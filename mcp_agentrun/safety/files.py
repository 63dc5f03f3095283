"""Rules on files and addresses: which files, folders and services code touches."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator

from .paths import HOLE, objection
from .visitor import Visitor

__all__ = ["address_of", "addresses", "method", "model_fetched", "secrets_read"]

_METADATA = re.compile(
    r"169\.254\.169\.254|metadata\.google\.internal|100\.100\.100\.200|fd00:ec2::254|169\.254\.170\.2"
)
_URL = re.compile(r"(https?|ftps?|wss?|s3|gs)://", re.IGNORECASE)
_WRITING_METHODS = frozenset(
    """
    write_text write_bytes unlink touch mkdir rmdir rename replace symlink_to hardlink_to link_to chmod lchmod
    to_csv to_json to_pickle to_excel to_parquet to_html to_feather to_hdf savefig save dump extractall extract
    tofile savetxt write_image write_html
""".split()
)
_READING_METHODS = frozenset(
    """
    read_text read_bytes open iterdir glob rglob walk stat lstat readlink owner group read load from_file
    open_file add copy copy2 move
""".split()
)
_OPENERS = frozenset(
    """
    builtins.open io.FileIO codecs.open gzip.open bz2.open lzma.open tarfile.open zipfile.ZipFile
""".split()
)
"""What takes a mode as its second argument."""

_LISTING = frozenset(
    """
    os.listdir os.scandir os.walk os.fwalk glob.glob glob.iglob glob.glob0 os.chdir shutil.copytree
    shutil.disk_usage os.statvfs shutil.make_archive tarfile.open().add
""".split()
)
_WHOLE = frozenset(
    """
    os.walk os.fwalk shutil.rmtree shutil.copytree shutil.move shutil.chown shutil.make_archive os.removedirs
    distutils.dir_util.remove_tree
""".split()
)
_WRITERS = re.compile(
    r"os\.(remove|unlink|rmdir|removedirs|rename|renames|replace|truncate|chmod|lchmod|chown|lchown|link|symlink|mkdir|makedirs"
    r"|mkfifo|mknod|utime|setxattr|removexattr|chflags)|shutil\.(rmtree|move|chown|unpack_archive)"
    r"|(zipfile\.ZipFile|tarfile\.(open|TarFile))\(\)\.(extract|extractall)|tempfile\.\w+|logging\.(FileHandler|basicConfig)"
    r"|logging\.handlers\.\w+|numpy\.(save\w*|memmap)|joblib\.dump|shelve\.open|dbm\.open|matplotlib\.pyplot\.savefig"
    r"|PIL\.Image\.\w+\(\)\.save|cv2\.imwrite|send2trash\..*|(py_compile|compileall)\.compile\w*|distutils\.(dir|file)_util\.\w+"
)
_FILES = re.compile(
    r"builtins\.open|os\.(?!path|environ|getenv|fspath|fsdecode|fsencode|putenv|urandom|cpu_count|get_terminal_size|strerror)\w+"
    r"|os\.path\.(islink|lexists\0)|shutil\.(?!which)\w+|glob\.(?!escape)\w+|linecache\.\w+|fileinput\.\w+|codecs\.open|tarfile\.\w+"
    r"|(zipfile|tarfile)\..*\.(extract|extractall|write|add|open|read)|zipfile\.(ZipFile|is_zipfile|PyZipFile)"
    r"|(gzip|bz2|lzma|wave|aifc|tokenize|dbm|shelve|aiofiles|io|chunk)\.(open\w*|GzipFile|BZ2File|LZMAFile|FileIO)|sqlite3\.connect"
    r"|configparser\.\w+\(\)\.read|mmap\.\w+|filecmp\.\w+|tempfile\.\w+|logging\.(FileHandler|basicConfig)|logging\.handlers\.\w+"
    r"|xml\.etree\.\w+\.(parse|iterparse)|xml\.(dom|sax)\..*|netrc\.netrc|mailbox\.\w+|importlib\.resources\.\w+|pkgutil\.get_data"
    r"|runpy\.\w+|imp\.\w+|pyclbr\.\w+|modulefinder\..*|py_compile\..*|compileall\..*|zipimport\..*|pathlib\.Path\(\)\.\w+"
    r"|ssl\..*load_\w+|http\.cookiejar\..*|mimetypes\.\w+|plistlib\.\w+|readline\.\w+|resource\.\w+|inotify\..*|array\.array\(\)\.fromfile"
)
_STDLIB_PURE_ROOTS = frozenset(
    """
    builtins re json string textwrap collections itertools functools operator math cmath random statistics
    datetime time calendar decimal fractions typing types abc enum dataclasses contextlib copy pprint heapq
    bisect hashlib hmac secrets base64 binascii struct uuid urllib html unittest argparse pathlib fnmatch shlex
    difflib logging warnings traceback inspect ast keyword token csv email http socket ipaddress unicodedata
    locale gettext zlib queue threading multiprocessing concurrent asyncio signal sys os platform errno pickle
    shutil xml sched weakref numbers array doctest io codecs stat selectors select timeit cProfile pstats
    tracemalloc gc importlib configparser pytest mock sqlite3 tkinter turtle cmd getpass getopt optparse
    rlcompleter _ zoneinfo
""".split()
)
_URL_TAKERS = re.compile(
    r"(pandas|polars|dask\.\w+|geopandas|cudf)\.(read_\w+|scan_\w+)|numpy\.(loadtxt|genfromtxt)|skimage\.io\.imread|imageio\..*"
    r"|urllib\.request\.(?!Request$).*|(torch|tensorflow|keras|huggingface_hub|datasets|fsspec|smart_open|wget)\..*|(builtins|smart_open)\.open"
    r"|xml\.etree\.\w+\.parse|lxml\..*|feedparser\..*|git\..*|webbrowser\..*"
)


def method(visitor: Visitor, node: ast.Call, function: ast.Attribute, names: list[str]) -> None:
    """Paths that a method is called on, or given, where the method says that it deals with files."""
    name = function.attr
    bases = visitor.evaluator.values(function.value, visitor.scope)
    for base in bases:
        if base.kind == "path":
            write = name in _WRITING_METHODS or (name == "open" and _opens_for_writing(visitor, node, 0))
            if write or name in _READING_METHODS:
                listing = name in ("iterdir", "glob", "rglob", "walk")
                _path(visitor, node, base.value, write=write, listing=listing, whole=name in ("rglob", "walk"))
            if name in ("glob", "rglob"):
                for argument in node.args[:1]:
                    for text in visitor.evaluator.texts(argument, visitor.scope):
                        _path(visitor, node, f"{base.value}/{text}", write=False, listing=True)
            if name in ("rename", "replace", "symlink_to", "hardlink_to"):
                _paths_in(visitor, node, node.args, write=name != "symlink_to")
    if bases and all(base.kind == "instance" and not base.value[0].bases for base in bases):
        return  # a method of the code's own
    if name == "replace" and len(node.args) > 1:
        return  # in a text
    if not names and not any(base.kind == "path" for base in bases) and name in _WRITING_METHODS | _READING_METHODS:
        _paths_in(
            visitor, node, [*node.args, *(keyword.value for keyword in node.keywords)], write=name in _WRITING_METHODS
        )


def _opens_for_writing(visitor: Visitor, node: ast.Call, place: int) -> bool:
    modes = [*node.args[place : place + 1], *(keyword.value for keyword in node.keywords if keyword.arg == "mode")]
    return any(
        set("wax+") & set(mode)
        for argument in modes
        for mode in visitor.evaluator.texts(argument, visitor.scope)
        if len(mode) < 6
    )


def addresses(visitor: Visitor, node: ast.Call, names: list[str]) -> None:
    """Paths and addresses among the arguments of what deals with files or the network."""
    arguments = [*node.args, *(keyword.value for keyword in node.keywords)]
    pure = ("urllib.parse.", "ipaddress.", "builtins.print", "builtins.str")
    is_pure = all(name.startswith(pure) for name in names) and (names or _is_own(visitor, node.func))
    for argument in () if is_pure else arguments:
        if isinstance(argument, (ast.Constant, ast.Name, ast.JoinedStr, ast.BinOp)):
            for text in visitor.evaluator.texts(argument, visitor.scope):
                if len(text) < 2048 and _METADATA.search(text):
                    visitor.refuse(
                        "raw-socket",
                        node,
                        "This is the address of a cloud's metadata service, which hands out credentials.",
                    )
    for name in names:
        is_file = _FILES.fullmatch(name) is not None
        if not is_file and name.partition(".")[0] in _STDLIB_PURE_ROOTS:
            continue
        if name.endswith(")") and not is_file:
            continue
        write = (
            _WRITERS.fullmatch(name) is not None
            or name.rpartition(".")[2] in _WRITING_METHODS
            or (name in _OPENERS and _opens_for_writing(visitor, node, 1))
            or (name == "os.open" and any("O_" in flag and flag != "os.O_RDONLY" for flag in _flags(visitor, node)))
        )
        if name in ("shutil.copy", "shutil.copy2", "shutil.copyfile", "shutil.copytree", "os.link", "os.symlink"):
            _paths_in(visitor, node, arguments[:1], write=False)
            _paths_in(visitor, node, arguments[1:2], write=True)
            continue
        is_deep = name.startswith("glob.") and any(
            "**" in text for argument in node.args for text in visitor.evaluator.texts(argument, visitor.scope)
        )
        _paths_in(visitor, node, arguments, write=write, listing=name in _LISTING, whole=name in _WHOLE or is_deep)


def _is_own(visitor: Visitor, function: ast.expr) -> bool:
    """Whether *function* is one that the code defines, whose own calls are judged."""
    values = visitor.evaluator.values(function, visitor.scope)
    return bool(values) and all(value.kind == "function" for value in values)


def _flags(visitor: Visitor, node: ast.Call) -> Iterator[str]:
    for argument in node.args[1:]:
        for item in ast.walk(argument):
            if isinstance(item, (ast.Attribute, ast.Name)):
                yield from visitor.evaluator.references(item, visitor.scope)


def _paths_in(
    visitor: Visitor,
    node: ast.AST,
    arguments: Iterable[ast.expr],
    *,
    write: bool,
    listing: bool = False,
    whole: bool = False,
) -> None:
    for argument in arguments:
        for value in visitor.evaluator.values(argument, visitor.scope):
            if value.kind in ("text", "path"):
                _path(visitor, node, value.value, write=write, listing=listing, whole=whole)
            elif value.kind == "bytes" and value.value[:1] == b"/":
                _path(visitor, node, value.value.decode("utf-8", "replace"), write=write, listing=listing, whole=whole)
            elif value.kind == "seq" and len(value.value) <= 64:
                for item in value.value:
                    for inner in item:
                        if inner.kind in ("text", "path"):
                            _path(visitor, node, inner.value, write=write, listing=listing, whole=whole)


def _path(
    visitor: Visitor, node: ast.AST, text: str, *, write: bool, listing: bool = False, whole: bool = False
) -> None:
    found = objection(text, write=write, listing=listing, whole=whole)
    if found is not None:
        visitor.refuse("sensitive-path", node, f"This touches {found.replace(HOLE, '…')}.")


def address_of(visitor: Visitor, node: ast.Call, name: str) -> None:
    """Addresses given to what reads from addresses and from files."""
    if visitor.network or _URL_TAKERS.fullmatch(name) is None:
        return
    for argument in (*node.args, *(keyword.value for keyword in node.keywords)):
        for text in visitor.evaluator.texts(argument, visitor.scope):
            if _URL.match(text):
                visitor.refuse("network", node, f"{name[:60]} is given an address on the network.")


def model_fetched(visitor: Visitor, node: ast.Call, name: str) -> None:
    """A model is loaded together with code from where it is published."""
    for keyword in node.keywords:
        if keyword.arg == "trust_remote_code" and not (
            isinstance(keyword.value, ast.Constant) and not keyword.value.value
        ):
            visitor.refuse("network", node, f"{name[:60]} fetches code, and executes it.")


def secrets_read(visitor: Visitor, node: ast.Call, name: str) -> None:
    """A call that reads what only users of the system have."""
    visitor.refuse("sensitive-path", node, f"{name} reads the system's users or secrets.")
