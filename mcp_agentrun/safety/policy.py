"""What code may say: a visitor of its whole syntax tree that refuses every kind of node nobody has reviewed."""

# The base class is typed for rewriting trees, which this one does not do.
# pyright: reportIncompatibleMethodOverride=false

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from typing import Any

from RestrictedPython.transformer import RestrictingNodeTransformer

from .evaluator import Evaluator
from .names import Names
from .paths import HOLE, objection
from .rules import RULES, module_rule, reference_rule
from .values import Decoded, DecodedBytes, Value
from .verdict import Finding

__all__ = ["judge"]

_MOST_FINDINGS = 20
_NESTED = 3
"""Levels of code in strings in code that are followed."""

_MOST_NESTED = 200
_NESTED_SIZE = 1 << 16

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

_FORBIDDEN_KEYS = frozenset(
    """
    __builtins__ __import__ __subclasses__ __globals__ __loader__ __spec__ __getattribute__
""".split()
)
_FORBIDDEN_NAMES = frozenset(("__builtins__", "__loader__", "__spec__", "__build_class__"))
_TEMPLATE = re.compile(r"\{[^{}]*(__(globals|subclasses|builtins|import|mro|base|bases|class|init|code|closure)__)")
_TEMPLATE_DEEP = re.compile(r"\{[^{}]*__(globals|subclasses|builtins|import|code|closure|mro|base|bases)__")
_METADATA = re.compile(
    r"169\.254\.169\.254|metadata\.google\.internal|100\.100\.100\.200|fd00:ec2::254|169\.254\.170\.2"
)
_URL = re.compile(r"(https?|ftps?|wss?|s3|gs)://", re.IGNORECASE)
_ENVIRONMENT = re.compile(
    r"(PYTHON\w*|LD_\w+|DYLD_\w+|BASH_ENV|ENV|PATH|IFS|PROMPT_COMMAND|GIT_SSH\w*|PERL5\w*|NODE_OPTIONS)"
)

_CODE_TAKERS = {
    "builtins.exec": 0, "builtins.eval": 0, "builtins.compile": 0, "timeit.timeit": 0, "timeit.repeat": 0,
    "timeit.Timer": 0, "cProfile.run": 0, "cProfile.runctx": 0, "profile.run": 0, "profile.runctx": 0,
    "trace.Trace().run": 0, "trace.Trace().runctx": 0, "cProfile.Profile().run": 0, "cProfile.Profile().runctx": 0,
    "pandas.eval": 0, "typing.ForwardRef": 0, "threading._start_new_thread": 9, "types.FunctionType": 9,
}  # fmt: skip
_MUST_BE_KNOWN = frozenset(("builtins.exec", "builtins.eval", "builtins.compile"))
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
    r"|PIL\.Image\.\w+\(\)\.save|cv2\.imwrite|send2trash\..*|distutils\.(dir|file)_util\.\w+"
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
_PROTECTED = re.compile(
    r"builtins\.(?!input$|print$|_$)\w+|io\.\w+\.\w+|io\.(StringIO|BytesIO|TextIOWrapper|open)|os\.(?!environ$)\w+(\.\w+)?|importlib\..*"
    r"|sys\.(?!stdout$|stderr$|stdin$|argv$|path$|excepthook$|displayhook$|ps1$|ps2$|tracebacklimit$|dont_write_bytecode$|unraisablehook$"
    r"|last_\w+$)\w+|socket\.\w+(\.\w+)?|ctypes\..*|subprocess\..*|signal\.\w+|json\.(loads|dumps|load|dump)|pickle\.\w+|linecache\.\w+"
    r"|ssl\._create_default_https_context|ast\.\w+|traceback\.print_exception|types\.\w+|codecs\.\w+|threading\.(_\w+|Thread\.\w+)"
)
_HARMLESS_TAKERS = frozenset(
    """
    builtins.print builtins.dir builtins.help builtins.type builtins.id builtins.repr builtins.str
    builtins.isinstance builtins.hasattr builtins.len builtins.bool builtins.vars builtins.getattr
    builtins.setattr builtins.delattr builtins.callable builtins.hash builtins.format builtins.issubclass
""".split()
)
_SENSITIVE_MODULES = frozenset(
    """
    os subprocess builtins ctypes importlib pty shutil
""".split()
)
_BIG = 1 << 31
_BIG_BITS = 1 << 26


class _Policy(RestrictingNodeTransformer):
    """RestrictedPython's visitor, turned from rewriting to judging.

    It visits every node by the method for its kind, and refuses what has no such method.
    """

    def __init__(self, resolver: Evaluator, *, strict: bool, network: bool, off: frozenset[str]) -> None:
        super().__init__()
        self.findings: list[Finding] = []
        self._resolver = resolver
        self._strict = strict
        self._network = network
        self._off = off
        self._scope = resolver.symbols.module
        self._level = 0
        self._place: ast.AST | None = None
        """Where the text stands that is being judged as code."""
        self._seen: set[tuple[str, int, str]] = set()
        self._judged: set[tuple[str, int]] = set()
        self._allowed_bases: set[int] = set()

    # -- saying no

    def refuse(self, rule: str, node: ast.AST, reason: str, remedy: str | None = None) -> None:
        if rule in self._off or len(self.findings) >= _MOST_FINDINGS:
            return
        place = self._place or node
        line, column = getattr(place, "lineno", 0), getattr(place, "col_offset", -1) + 1
        if self._place is not None:
            reason = f"{reason.removesuffix('.')}, in text that is executed as code."
        if (rule, line, reason) not in self._seen:
            self._seen.add((rule, line, reason))
            self.findings.append(Finding(rule, line, column, reason, remedy or RULES[rule].remedy))

    def error(self, node: ast.AST, info: str) -> None:
        """What the base class objects to: nodes that nothing here has a method for."""
        self.refuse("unreviewed", node, f"{node.__class__.__name__} is syntax that nobody has reviewed.")

    def warn(self, node: ast.AST, info: str) -> None:
        """The base class warns where it then objects."""

    # -- walking

    def _contents(self, node: ast.AST) -> ast.AST:
        for name in node._fields:
            value = getattr(node, name, None)
            if value.__class__ is list:
                for item in value:  # pyright: ignore
                    if isinstance(item, ast.AST) and item.__class__ is not ast.Constant:
                        self.visit(item)
                    elif item.__class__ is ast.Constant and isinstance(item.value, str) and "{" in item.value:  # pyright: ignore
                        self.visit(item)  # pyright: ignore
            elif isinstance(value, ast.AST) and value.__class__ not in _LEAVES:
                self.visit(value)
        return node

    def _within(self, node: ast.AST) -> ast.AST:
        outer, self._scope = self._scope, self._resolver.symbols.scopes.get(id(node), self._scope)
        self._contents(node)
        self._scope = outer
        return node

    def visit_Module(self, node: ast.Module) -> ast.AST:
        return self._contents(node)

    def _function(self, node: Any) -> ast.AST:
        for item in (*node.decorator_list, *node.args.defaults, *(d for d in node.args.kw_defaults if d is not None)):
            self.visit(item)
        for argument in ast.walk(node.args):
            if isinstance(argument, ast.arg) and argument.annotation is not None:
                self.visit(argument.annotation)
        if node.returns is not None:
            self.visit(node.returns)
        outer, self._scope = self._scope, self._resolver.symbols.scopes.get(id(node), self._scope)
        for item in (*node.body, *getattr(node, "type_params", ())):
            self.visit(item)
        self._scope = outer
        return node

    visit_FunctionDef = _function
    visit_AsyncFunctionDef = _function

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        for item in (*node.decorator_list, *node.bases, *(keyword.value for keyword in node.keywords)):
            self.visit(item)
        outer, self._scope = self._scope, self._resolver.symbols.scopes.get(id(node), self._scope)
        for item in (*node.body, *getattr(node, "type_params", ())):
            self.visit(item)
        self._scope = outer
        return node

    def visit_Lambda(self, node: ast.Lambda) -> ast.AST:
        return self._within(node)

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        if isinstance(node.value, str) and "__" in node.value and _TEMPLATE_DEEP.search(node.value):
            self.refuse("dunder-escape", node, "This text, used as a template, reaches into the interpreter.")
        return node

    # -- imports

    def visit_Import(self, node: ast.Import) -> ast.AST:
        for alias in node.names:
            self._import(node, alias.name)
        return node

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.AST:
        if node.level or not node.module:
            return node
        if self._import(node, node.module):
            return node
        for alias in node.names:
            if alias.name == "*":
                if node.module in ("os", "subprocess", "builtins", "ctypes", "pty", "posix"):
                    self.refuse("introspection", node, f"`from {node.module} import *` hides which names are meant.",
                                "Import by name.")  # fmt: skip
                continue
            for value in self._resolver.name(alias.asname or alias.name, self._scope):
                if value.kind == "ref" and value.value.endswith(alias.name):
                    self._reference(node, value.value)
            if module_rule(f"{node.module}.{alias.name}", strict=False):
                self._import(node, f"{node.module}.{alias.name}")
        return node

    def _import(self, node: ast.AST, module: str) -> bool:
        rule = module_rule(module, strict=self._strict)
        if rule is None:
            return False
        self.refuse(rule, node, f"The module {module} is for {_TOPICS[rule]}.")
        return True

    # -- names and attributes

    def visit_Name(self, node: ast.Name) -> ast.AST:
        if node.id in _FORBIDDEN_NAMES:
            self.refuse("dunder-escape", node, f"{node.id} leads into the interpreter.")
            return node
        if isinstance(node.ctx, ast.Load):
            for value in self._resolver.values(node, self._scope):
                if value.kind == "ref":
                    if value.value in _MUST_BE_KNOWN and id(node) not in self._allowed_bases:
                        self._handed_on(node, value.value[9:])
                    elif value.value == "builtins.__import__" and id(node) not in self._allowed_bases:
                        self.refuse(
                            "tampering",
                            node,
                            "__import__ is handed on, so that what it imports can't be known.",
                            "Use import statements.",
                        )
                    elif value.value not in _SENSITIVE_MODULES or id(node) in self._allowed_bases:
                        self._reference(node, value.value)
                    elif value.value in ("subprocess", "ctypes", "pty"):
                        self.refuse(
                            "native-code" if value.value == "ctypes" else "process-spawn",
                            node,
                            f"The module {value.value} is handed on, so that what is done with it can't be known.",
                        )
        return node

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        name = node.attr
        if name.startswith(("__", "f_", "cr_", "ag_", "co_")):
            self._internal(node, name)
        values = self._resolver.values(node, self._scope)
        for value in values:
            if value.kind == "ref":
                if value.value in _MUST_BE_KNOWN and id(node) not in self._allowed_bases:
                    self._handed_on(node, value.value[9:])
                elif isinstance(node.ctx, ast.Load) or value.value.startswith(("os.", "sys.")):
                    self._reference(node, value.value, node)
        self._allowed_bases.add(id(node.value))
        if isinstance(node.ctx, ast.Store):
            self._tamper(node, node)
        self.visit(node.value)
        return node

    def _handed_on(self, node: ast.AST, what: str) -> None:
        self.refuse(
            "dynamic-code",
            node,
            f"{what} is handed on, so that what it executes can't be known.",
            "Call it right here with a text that can be read, or do without.",
        )

    def _internal(self, node: ast.AST, name: str, base: ast.AST | None = None) -> None:
        owner = base if base is not None else getattr(node, "value", None)
        if name in _FORBIDDEN_ATTRIBUTES:
            if name == "__getattribute__" and isinstance(owner, ast.Call):  # super().__getattribute__(name)
                return
            self.refuse("dunder-escape", node, f"{name} leads from an object into the interpreter.")
        elif name == "__subclasses__" and not self._is_own_class(owner):
            self.refuse(
                "dunder-escape",
                node,
                "__subclasses__ of a class that is not yours reaches everything in the interpreter.",
            )
        elif name == "__self__" and any(
            not value.endswith("()")
            for value in self._resolver.references(owner, self._scope)  # type: ignore[arg-type]
        ):
            self.refuse("dunder-escape", node, "__self__ of a built-in function is its module.")
        elif name == "__code__" and isinstance(getattr(node, "ctx", None), ast.Store):
            self.refuse("dunder-escape", node, "Replacing a function's code changes what it does behind its name.")
        elif self._strict and name in (
            "__class__",
            "__dict__",
            "__mro__",
            "__bases__",
            "__code__",
            "__subclasses__",
            "__module__",
        ):
            self.refuse("strict", node, f"{name} is not available in the profile `strict`.")

    def _is_own_class(self, node: ast.AST | None) -> bool:
        if node is None:
            return False
        if isinstance(node, ast.Name) and node.id in ("cls", "self"):
            return True
        values = self._resolver.values(node, self._scope)
        return bool(values) and all(value.kind == "class" for value in values)

    def _reference(self, node: ast.AST, name: str, attribute: ast.Attribute | None = None) -> None:
        if attribute is not None and name in ("sys.modules",) and id(attribute) in self._allowed_bases:
            return
        rule = reference_rule(name, strict=self._strict, network=self._network)
        if rule == "network" and name in _NETWORK_LATER:
            return
        if rule is None:
            return
        shown = (
            name.removeprefix("builtins.").replace("_.", "", 1)
            if name.startswith("_.")
            else name.removeprefix("builtins.")
        )
        self.refuse(rule, node, f"{shown[:80]} is for {_TOPICS[rule]}.")

    def visit_Subscript(self, node: ast.Subscript) -> ast.AST:
        for key in self._resolver.texts(node.slice, self._scope):
            if key in _FORBIDDEN_KEYS:
                self.refuse("dunder-escape", node, f"{key} leads into the interpreter.")
        for base in self._resolver.values(node.value, self._scope):
            if base.kind == "ref" and base.value == "os.environ" and isinstance(node.ctx, (ast.Store, ast.Del)):
                self._environment(node, self._resolver.texts(node.slice, self._scope))
            elif base.kind == "ref" and base.value.endswith(".__dict__") and not isinstance(node.slice, ast.Constant):
                if base.value.partition(".")[0] in _SENSITIVE_MODULES and not self._resolver.texts(
                    node.slice, self._scope
                ):
                    self.refuse("introspection", node, f"Which name of {base.value[:-9]} is meant can't be known.")
        for value in self._resolver.values(node, self._scope):
            if value.kind == "ref" and isinstance(node.ctx, ast.Load):
                if value.value in _MUST_BE_KNOWN and id(node) not in self._allowed_bases:
                    self._handed_on(node, value.value[9:])
                else:
                    self._reference(node, value.value)
        self._allowed_bases.add(id(node.value))
        return self._contents(node)

    def _environment(self, node: ast.AST, keys: Iterable[str]) -> None:
        for key in keys:
            if _ENVIRONMENT.fullmatch(key):
                self.refuse("tampering", node, f"The variable {key} changes how programs start.", "Leave it as it is.")

    # -- assignments

    def visit_Assign(self, node: ast.Assign) -> ast.AST:
        for target in node.targets:
            if isinstance(target, ast.Name) and target.id in ("__class_getitem__", "__getattr__", "__getattribute__"):
                for name in self._resolver.references(node.value, self._scope):
                    if name in _MUST_BE_KNOWN:
                        self.refuse("dynamic-code", node, f"{target.id} becomes {name[9:]}.")
        return self._contents(node)

    def visit_Delete(self, node: ast.Delete) -> ast.AST:
        for target in node.targets:
            if isinstance(target, ast.Attribute):
                self._tamper(target, target)
        return self._contents(node)

    def _tamper(self, node: ast.AST, target: ast.Attribute) -> None:
        for base in self._resolver.values(target.value, self._scope):
            if base.kind == "ref" and "(" not in base.value and _PROTECTED.fullmatch(f"{base.value}.{target.attr}"):
                self.refuse(
                    "tampering", node, f"Replacing {base.value}.{target.attr} changes what Python itself relies on."
                )

    # -- operators

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        if all(isinstance(operator, (ast.In, ast.NotIn)) for operator in node.ops):
            self._allowed_bases.update(id(item) for item in node.comparators)  # `"numpy" in sys.modules` is harmless
        return self._contents(node)

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        if node.op.__class__ in (ast.Pow, ast.Mult, ast.LShift):
            self._size_of(node)
        return self._contents(node)

    visit_AugAssign = _contents

    def _size_of(self, node: ast.BinOp) -> None:
        if isinstance(node.op, ast.Mult):
            for one, other in ((node.left, node.right), (node.right, node.left)):
                is_sequence = isinstance(one, (ast.List, ast.Tuple, ast.JoinedStr)) or any(
                    value.kind in ("text", "bytes", "seq") and value.value
                    for value in self._resolver.values(one, self._scope)
                )
                if is_sequence and any(number >= _BIG for number in self._resolver.integers(other, self._scope)):
                    self.refuse("bomb", node, "This makes a sequence of billions of items.")
            return
        numbers = self._resolver.integers(node.left, self._scope)
        exponents = self._resolver.integers(node.right, self._scope)
        right = node.right
        if (
            isinstance(node.op, ast.Pow)
            and isinstance(right, ast.BinOp)
            and isinstance(right.op, ast.Pow)
            and not exponents
        ):
            inner = self._resolver.integers(right.left, self._scope), self._resolver.integers(right.right, self._scope)
            if (numbers and all(inner) and max(numbers) > 1 and max(inner[0]) > 1) or (
                numbers and inner[0] and isinstance(right.right, ast.BinOp) and isinstance(right.right.op, ast.Pow)
            ):
                self.refuse("bomb", node, "This tower of powers has more digits than memory holds.")
            return
        for base in numbers:
            for exponent in exponents:
                bits = exponent if isinstance(node.op, ast.LShift) else base.bit_length() * exponent
                is_growing = abs(base) > 1 or (base != 0 and isinstance(node.op, ast.LShift))
                if is_growing and exponent > 0 and bits > _BIG_BITS:
                    self.refuse("bomb", node, "This number has more digits than can be computed in time.")

    # -- loops

    def visit_While(self, node: ast.While) -> ast.AST:
        if _is_endless(node) and not _leaves(node.body):
            for call in (item for statement in node.body for item in ast.walk(statement) if isinstance(item, ast.Call)):
                for name in self._resolver.references(call.func, self._scope):
                    if _STARTERS.fullmatch(name):
                        self.refuse(
                            "bomb", node, f"This loop has no end, and starts something each time ({name[:60]})."
                        )
                if isinstance(call.func, ast.Attribute) and call.func.attr in ("write", "writelines", "writestr"):
                    target = " ".join(self._resolver.references(call.func.value, self._scope))
                    if "open" in target:
                        self.refuse("bomb", node, "This loop has no end, and writes each time.")
        return self._contents(node)

    # -- calls

    def visit_Call(self, node: ast.Call) -> ast.AST:
        values = self._resolver.values(node.func, self._scope)
        names = [value.value for value in values if value.kind == "ref"]
        self._allowed_bases.add(id(node.func))
        for name in names:
            self._called(node, name)
        if isinstance(node.func, ast.Attribute):
            self._method(node, node.func, names)
        self._addresses(node, names)
        self._modules_handed_on(node, names)
        return self._contents(node)

    def _called(self, node: ast.Call, name: str) -> None:
        resolver, scope = self._resolver, self._scope
        if name in _CODE_TAKERS or name.startswith("doctest."):
            self._code_taker(node, name)
        if name in _BY_NAME:
            self._by_name(node, name)
        elif name in ("builtins.__import__", "importlib.import_module"):
            self._import_by_name(node, name)
        elif name == "builtins.open":
            if node.args and any(number > 2 for number in resolver.integers(node.args[0], scope)):
                self.refuse("system-call", node, "This opens a descriptor that is not the code's own.")
        elif name in (
            "os.write",
            "os.fdopen",
            "os.read",
            "os.sendfile",
            "os.close",
            "os.ftruncate",
            "os.pread",
            "os.pwrite",
        ):
            numbers = resolver.integers(node.args[0], scope) if node.args else []
            if any(number > 2 for number in numbers) and name != "os.close":
                self.refuse("system-call", node, f"{name} on a descriptor that is not the code's own.")
        elif name == "os.kill":
            numbers = resolver.integers(node.args[0], scope) if node.args else []
            targets = resolver.references(node.args[0], scope) if node.args else []
            if "os.getpid()" not in targets or numbers:
                self.refuse("system-call", node, "os.kill on a process that is not the code's own.")
        elif name in ("os.chmod", "os.fchmod", "os.mkdir"):
            if any(number & 0o6000 for argument in node.args[1:] for number in resolver.integers(argument, scope)):
                self.refuse("system-call", node, "This makes a file run with its owner's rights.")
        elif name in (
            "os.putenv",
            "os.unsetenv",
            "os.environ.setdefault",
            "os.environ.update",
            "os.environ.__setitem__",
        ):
            keys = [key for argument in node.args[:1] for key in resolver.texts(argument, scope)]
            keys += [keyword.arg for keyword in node.keywords if keyword.arg]
            for argument in node.args[:1]:
                for value in resolver.values(argument, scope):
                    if value.kind == "map":
                        keys += [one.value for key, _ in value.value for one in key if one.kind == "text"]
            self._environment(node, keys)
        elif name in ("types.FunctionType", "types.LambdaType"):
            self.refuse("dynamic-code", node, f"{name} makes a function of code that can't be known.")
        elif name in ("yaml.load", "yaml.load_all"):
            loaders = [*node.args[1:], *(keyword.value for keyword in node.keywords if keyword.arg == "Loader")]
            chosen = [one for loader in loaders for one in resolver.references(loader, scope)]
            if not loaders or any(one.rpartition(".")[2] not in _SAFE_LOADERS for one in chosen):
                self.refuse(
                    "deserialization", node, f"{name} without a safe loader can execute code.", "Use yaml.safe_load."
                )
        elif name in (
            "pickle.loads",
            "pickle.load",
            "pickle.Unpickler",
            "marshal.loads",
            "dill.loads",
            "cloudpickle.loads",
        ):
            self._unpickle(node, name)
        elif name in _SIZED:
            self._sized(node, name)
        elif name.endswith((".query", ".eval")) or name in ("pandas.eval", "pandas.DataFrame()"):
            self._query(node)
        elif name in ("pwd.getpwall", "netrc.netrc", "keyring.get_password"):
            self.refuse("sensitive-path", node, f"{name} reads the system's users or secrets.")
        if not self._network and _takes_urls(name):
            for argument in (*node.args, *(keyword.value for keyword in node.keywords)):
                for text in resolver.texts(argument, scope):
                    if _URL.match(text):
                        self.refuse("network", node, f"{name[:60]} is given an address on the network.")

    def _code_taker(self, node: ast.Call, name: str) -> None:
        resolver, scope = self._resolver, self._scope
        if name.startswith("doctest."):
            self._doctests(node)
            return
        arguments = list(node.args[:1])
        arguments += [
            keyword.value
            for keyword in node.keywords
            if keyword.arg in ("stmt", "setup", "source", "statement", "cmd", "expr")
        ]
        if name.startswith("timeit"):
            arguments = [*node.args[1:2], *arguments]
        arguments.sort(
            key=lambda argument: any(k.arg == "setup" and k.value is argument for k in node.keywords), reverse=True
        )
        if self._strict and name in _MUST_BE_KNOWN:
            return  # refused by its name
        text = ""
        for argument in arguments:
            values = resolver.values(argument, scope)
            known = [value for value in values if value.kind == "text"]
            if name in _MUST_BE_KNOWN:
                self._must_be_known(node, name, argument, values, known)
            for value in known:
                if HOLE not in value.value:
                    text = value.value
                    self._judge_text(node, text)
            for value in values:
                if value.kind == "bytes":
                    self._judge_text(node, value.value.decode("utf-8", "replace"))

    def _must_be_known(
        self, node: ast.Call, name: str, argument: ast.expr, values: Iterable[Value], known: list[Value]
    ) -> None:
        what = name[9:]
        if any(isinstance(value.value, (Decoded, DecodedBytes)) for value in values):
            self.refuse("dynamic-code", node, f"{what} is given text that is decoded first, which hides what it does.")
        elif any(HOLE in value.value for value in known):
            if what == "compile" or (what == "eval" and not self._is_confined(node)) or what == "exec":
                self.refuse("dynamic-code", node, f"{what} is given text of which a part is not known.")
        elif not known and not any(value.kind == "bytes" for value in values):
            if any(
                value.kind == "ref" and value.value in ("builtins.compile", "ast.Module()", "ast.Expression()")
                for value in values
            ):
                return
            if what == "compile" and self._compiles_tree(argument):
                return
            if not self._is_confined(node):
                self.refuse("dynamic-code", node, f"{what} is given text that is not known before it runs.")

    def _compiles_tree(self, argument: ast.expr) -> bool:
        return any(name.startswith("ast.") for name in self._resolver.references(argument, self._scope))

    def _is_confined(self, node: ast.Call) -> bool:
        """Whether `eval` gets a namespace without built-ins, which is how a calculator is written."""
        for argument in (*node.args[1:2], *(keyword.value for keyword in node.keywords if keyword.arg == "globals")):
            for value in self._resolver.values(argument, self._scope):
                if value.kind == "map":
                    for key, item in value.value:
                        if any(one.value == "__builtins__" for one in key) and not any(
                            one.kind == "ref" for one in item
                        ):
                            return True
        return False

    def _judge_text(self, node: ast.AST, text: str) -> None:
        """Judge *text* as code that is executed at *node*."""
        key = text, id(self._scope)
        if key in self._judged or len(text) > _NESTED_SIZE:
            if len(text) > _NESTED_SIZE:
                self.refuse("dynamic-code", node, "The text that is executed is too long to be judged.")
            return
        self._judged.add(key)
        if len(self._judged) > _MOST_NESTED:
            self.refuse("dynamic-code", node, "Too many texts are executed as code to be judged.")
            return
        if self._level >= _NESTED:
            self.refuse("dynamic-code", node, "Code in text in code goes too deep to be judged.")
            return
        from .guards import GuardError, parse, survey

        try:
            tree = parse(text.lstrip(" \t"))
            survey(tree)
        except SyntaxError:
            return
        except GuardError as error:
            self.refuse("dynamic-code", node, error.reason)
            return
        outer = self._place
        self._place = outer or node
        self._level += 1
        self._resolver.gather(tree, self._scope)
        self.visit(tree)
        self._level -= 1
        self._place = outer

    def _doctests(self, node: ast.Call) -> None:
        for text in _docstrings(self._resolver.symbols.module.node):
            examples = re.findall(r"^\s*(?:>>>|\.\.\.) ?(.*)$", text, re.MULTILINE)
            if examples:
                self._judge_text(node, "\n".join(examples))

    def _by_name(self, node: ast.Call, function: str) -> None:
        resolver, scope = self._resolver, self._scope
        is_getter = function in ("operator.attrgetter", "operator.methodcaller")
        if function.endswith("__getattribute__"):
            function = "object.__getattribute__"
        place = 0 if is_getter else 1
        if len(node.args) <= place:
            return
        argument = node.args[place]
        texts = resolver.texts(argument, scope)
        for text in texts:
            for part in text.split("."):
                if part in _FORBIDDEN_ATTRIBUTES or part in ("__subclasses__", "__self__"):
                    if part == "__self__" or part != "__subclasses__" or not self._is_own_class(node.args[0]):
                        self.refuse("dunder-escape", node, f"{part} leads from an object into the interpreter.")
                elif (
                    part in _HIDDEN_NAMES
                    and (not isinstance(argument, ast.Constant) or is_getter)
                    and function != "builtins.hasattr"
                ):
                    self.refuse("process-spawn" if part not in ("exec", "eval", "compile") else "dynamic-code", node,
                                f"The name {part} is put together from parts, which hides what is called.")  # fmt: skip
        if is_getter:
            return
        bases = resolver.values(node.args[0], scope)
        for base in bases:
            if base.kind != "ref":
                continue
            if (
                not texts
                and base.value in _SENSITIVE_MODULES | {"sys"}
                and function in ("builtins.getattr", "object.__getattribute__")
            ):
                self.refuse("introspection", node, f"Which attribute of {base.value} is meant can't be known.",
                            "Write the attribute's name out.")  # fmt: skip
            for text in texts:
                if function in ("builtins.setattr", "builtins.delattr") and "(" not in base.value:
                    if _PROTECTED.fullmatch(f"{base.value}.{text}"):
                        self.refuse(
                            "tampering", node, f"Replacing {base.value}.{text} changes what Python itself relies on."
                        )
        if function in ("builtins.getattr", "object.__getattribute__", "inspect.getattr_static"):
            for value in resolver.attribute(bases, texts[0]) if texts else ():
                if value.kind == "ref":
                    if value.value in _MUST_BE_KNOWN:
                        self.refuse(
                            "dynamic-code",
                            node,
                            f"{value.value[9:]} is fetched by its name, which hides what is called.",
                        )
                    self._reference(node, value.value)

    def _import_by_name(self, node: ast.Call, function: str) -> None:
        arguments = [*node.args[:1], *(keyword.value for keyword in node.keywords if keyword.arg == "name")]
        for argument in arguments:
            texts = self._resolver.texts(argument, self._scope)
            values = self._resolver.values(argument, self._scope)
            if (not texts or HOLE in texts[0]) and not any(
                value.kind == "ref" and "()" in value.value for value in values[:0]
            ):
                self.refuse("tampering", node, "Which module is imported can't be known.", "Use import statements.")
            for text in texts:
                if isinstance(text, Decoded):
                    self.refuse(
                        "tampering",
                        node,
                        "The name of the module is decoded first, which hides it.",
                        "Use import statements.",
                    )
                self._import(node, text)
                self._reference(node, text)

    def _unpickle(self, node: ast.Call, name: str) -> None:
        for argument in node.args[:1]:
            for value in self._resolver.values(argument, self._scope):
                if value.kind in ("bytes", "text") or (value.kind == "ref" and _RECEIVED.search(value.value)):
                    self.refuse(
                        "deserialization",
                        node,
                        f"{name} of data that came with the code, or from outside, can execute anything.",
                    )

    def _query(self, node: ast.Call) -> None:
        for argument in node.args[:1]:
            for text in self._resolver.texts(argument, self._scope):
                if "@" in text or "__" in text:
                    self._judge_text(node, text.replace("@", " ").strip())

    def _sized(self, node: ast.Call, name: str) -> None:
        for argument in (
            *node.args[:2],
            *(keyword.value for keyword in node.keywords if keyword.arg in ("shape", "size")),
        ):
            for value in self._resolver.values(argument, self._scope):
                size = 1.0
                numbers = [value] if value.kind in ("int", "float") else []
                if value.kind == "seq":
                    numbers = [item[0] for item in value.value[:8] if item]
                for number in numbers:
                    if number.kind in ("int", "float"):
                        size *= abs(float(min(number.value, 10**18)))
                if numbers and size >= _BIG and (value.kind != "seq" or name not in _OF_ITEMS):
                    self.refuse(
                        "bomb",
                        node,
                        f"{name.removeprefix('builtins.')} of {size:.3g} items is more than a sandbox can hold.",
                    )
        if name in ("builtins.list", "builtins.tuple", "builtins.sorted", "builtins.set"):
            for argument in node.args[:1]:
                if isinstance(argument, ast.Call) and "builtins.range" in self._resolver.references(
                    argument.func, self._scope
                ):
                    for bound in argument.args[:2]:
                        if any(number >= _BIG for number in self._resolver.integers(bound, self._scope)):
                            self.refuse("bomb", node, "This makes a list of billions of numbers.")

    def _method(self, node: ast.Call, function: ast.Attribute, names: list[str]) -> None:
        name = function.attr
        resolver, scope = self._resolver, self._scope
        bases = resolver.values(function.value, scope)
        if name == "__getattribute__" and len(node.args) > 1:
            self._by_name(node, "object.__getattribute__")
        if name in ("query", "eval") and not names:
            self._query(node)
        for base in bases:
            if base.kind == "path":
                write = name in _WRITING_METHODS or (name == "open" and self._opens_for_writing(node, 0))
                if write or name in _READING_METHODS:
                    self._path(node, base.value, write=write, listing=name in ("iterdir", "glob", "rglob", "walk"),
                               whole=name in ("rglob", "walk"))  # fmt: skip
                if name in ("rename", "replace", "symlink_to", "hardlink_to"):
                    self._paths_in(node, node.args, write=name != "symlink_to")
        if not names and not any(base.kind == "path" for base in bases) and name in _WRITING_METHODS | _READING_METHODS:
            self._paths_in(
                node, [*node.args, *(keyword.value for keyword in node.keywords)], write=name in _WRITING_METHODS
            )

    def _opens_for_writing(self, node: ast.Call, place: int) -> bool:
        modes = [*node.args[place : place + 1], *(keyword.value for keyword in node.keywords if keyword.arg == "mode")]
        return any(
            set("wax+") & set(mode)
            for argument in modes
            for mode in self._resolver.texts(argument, self._scope)
            if len(mode) < 6
        )

    def _addresses(self, node: ast.Call, names: list[str]) -> None:
        """Paths and addresses among the arguments of what deals with files or the network."""
        arguments = [*node.args, *(keyword.value for keyword in node.keywords)]
        for argument in arguments:
            if isinstance(argument, (ast.Constant, ast.Name, ast.JoinedStr, ast.BinOp)):
                for text in self._resolver.texts(argument, self._scope):
                    if len(text) < 2048 and _METADATA.search(text):
                        self.refuse(
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
            write = _WRITERS.fullmatch(name) is not None or (
                name
                in (
                    "builtins.open",
                    "io.FileIO",
                    "codecs.open",
                    "gzip.open",
                    "bz2.open",
                    "lzma.open",
                    "tarfile.open",
                    "zipfile.ZipFile",
                )
                and self._opens_for_writing(node, 1)
            )
            if name in ("os.open",) and any("O_" in one and one != "os.O_RDONLY" for argument in node.args[1:]
                                            for one in self._all_references(argument)):  # fmt: skip
                write = True
            if name.rpartition(".")[2] in _WRITING_METHODS:
                write = True
            if name in ("shutil.copy", "shutil.copy2", "shutil.copyfile", "shutil.copytree", "os.link", "os.symlink"):
                self._paths_in(node, arguments[:1], write=False)
                self._paths_in(node, arguments[1:2], write=True)
                continue
            is_deep = name.startswith("glob.") and any(
                "**" in text for argument in node.args for text in self._resolver.texts(argument, self._scope)
            )
            self._paths_in(node, arguments, write=write, listing=name in _LISTING, whole=name in _WHOLE or is_deep)

    def _all_references(self, node: ast.AST) -> Iterator[str]:
        for item in ast.walk(node):
            if isinstance(item, (ast.Attribute, ast.Name)):
                yield from self._resolver.references(item, self._scope)

    def _paths_in(
        self, node: ast.AST, arguments: Iterable[ast.expr], *, write: bool, listing: bool = False, whole: bool = False
    ) -> None:
        for argument in arguments:
            for value in self._resolver.values(argument, self._scope):
                if value.kind in ("text", "path"):
                    self._path(node, value.value, write=write, listing=listing, whole=whole)
                elif value.kind == "bytes" and value.value[:1] == b"/":
                    self._path(node, value.value.decode("utf-8", "replace"), write=write, listing=listing, whole=whole)
                elif value.kind == "seq" and len(value.value) <= 64:
                    for item in value.value:
                        for inner in item:
                            if inner.kind in ("text", "path"):
                                self._path(node, inner.value, write=write, listing=listing, whole=whole)

    def _path(self, node: ast.AST, text: str, *, write: bool, listing: bool = False, whole: bool = False) -> None:
        found = objection(text, write=write, listing=listing, whole=whole)
        if found is not None:
            self.refuse("sensitive-path", node, f"This touches {found.replace(HOLE, '…')}.")

    def _modules_handed_on(self, node: ast.Call, names: list[str]) -> None:
        if any(
            name in _HARMLESS_TAKERS or name.startswith(("inspect.", "importlib.reload", "unittest.", "mock."))
            for name in names
        ):
            self._allowed_bases.update(id(argument) for argument in node.args)
            return
        modules = [
            value for argument in node.args for value in self._resolver.values(argument, self._scope)
            if value.kind == "ref" and value.value in _SENSITIVE_MODULES
        ]  # fmt: skip
        getters = [
            value for argument in node.args for value in self._resolver.values(argument, self._scope)
            if value.kind == "ref" and value.value in ("builtins.getattr", "operator.attrgetter")
        ]  # fmt: skip
        if modules and getters:
            self.refuse(
                "introspection",
                node,
                "Which attribute of a module is meant can't be known.",
                "Write the attribute's name out.",
            )


_LEAVES = frozenset((ast.Load, ast.Store, ast.Del))
_BY_NAME = frozenset(
    """
    builtins.getattr builtins.setattr builtins.delattr builtins.hasattr object.__getattribute__
    builtins.object.__getattribute__ operator.attrgetter operator.methodcaller inspect.getattr_static
""".split()
)
_SAFE_LOADERS = frozenset(("SafeLoader", "CSafeLoader", "BaseLoader", "CBaseLoader"))
_NETWORK_LATER: frozenset[str] = frozenset()
_TOPICS = {rule.id: rule.title for rule in RULES.values()}
_STARTERS = re.compile(
    r"os\.fork|(threading|_thread)\.(Thread\(\)\.start|Timer\(\)\.start|start_new_thread|_start_new_thread|Thread|Timer)"
    r"|multiprocessing(\.\w+)*\.(Process\(\)\.start|Process|Pool)|subprocess\.\w+"
    r"|concurrent\.futures\.\w+(\(\)\.submit)?"
)
_RECEIVED = re.compile(r"recv|requests\.|urllib|httpx|input\(\)|stdin|socket|argv|getenv|environ")
_SIZED = frozenset(
    (*(f"numpy.{name}" for name in ("ones", "zeros", "empty", "full", "eye", "identity", "arange", "tile", "repeat")),
     "numpy.random.rand", "numpy.random.randn", "numpy.random.random", "numpy.random.uniform", "numpy.random.normal",
     "builtins.bytearray", "builtins.bytes", "builtins.list", "builtins.tuple", "builtins.set", "builtins.sorted",
     "torch.ones", "torch.zeros", "torch.empty", "torch.rand", "os.urandom", "secrets.token_bytes", )
)  # fmt: skip
_OF_ITEMS = frozenset(
    ("builtins.list", "builtins.tuple", "builtins.set", "builtins.sorted", "builtins.bytes", "builtins.bytearray")
)
_URL_TAKERS = re.compile(
    r"(pandas|polars|dask\.\w+|geopandas|cudf)\.(read_\w+|scan_\w+)|numpy\.(loadtxt|genfromtxt)|skimage\.io\.imread|imageio\..*"
    r"|urllib\.request\..*|(torch|tensorflow|keras|huggingface_hub|datasets|fsspec|smart_open|wget)\..*|(builtins|smart_open)\.open"
    r"|xml\.etree\.\w+\.parse|lxml\..*|feedparser\..*|git\..*|webbrowser\..*"
)


def _takes_urls(name: str) -> bool:
    return _URL_TAKERS.fullmatch(name) is not None


def _is_endless(node: ast.While) -> bool:
    return isinstance(node.test, ast.Constant) and bool(node.test.value)


def _leaves(body: list[ast.stmt]) -> bool:
    """Whether something in the body of a loop may end it."""
    work: list[ast.AST] = list(body)
    while work:
        node = work.pop()
        if isinstance(node, (ast.Break, ast.Return, ast.Raise, ast.Yield, ast.YieldFrom, ast.Await)):
            return True
        if isinstance(node, ast.Call) and isinstance(node.func, (ast.Name, ast.Attribute)):
            name = node.func.id if isinstance(node.func, ast.Name) else node.func.attr
            if name in (
                "exit",
                "quit",
                "_exit",
                "sleep",
                "join",
                "wait",
                "input",
                "get",
                "result",
                "accept",
                "recv",
                "readline",
            ):
                return True
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)):
            work.extend(ast.iter_child_nodes(node))
    return False


def _docstrings(root: ast.AST) -> Iterator[str]:
    for node in ast.walk(root):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and ">>>" in node.value:
            yield node.value


# Kinds of nodes that say nothing by themselves: what they are made of is visited. Any other kind that has no method
# above goes to the base class's `generic_visit`, which refuses it.
_PLAIN = """
    Expression Expr Return Assign AnnAssign For AsyncFor If With AsyncWith Raise Try TryStar Assert Global
    Nonlocal Pass Break Continue BoolOp NamedExpr UnaryOp Dict Set List Tuple ListComp SetComp DictComp
    GeneratorExp Await Yield YieldFrom IfExp FormattedValue JoinedStr Starred Slice comprehension ExceptHandler
    arguments arg keyword alias withitem Match match_case MatchValue MatchSingleton MatchSequence MatchMapping
    MatchClass MatchStar MatchAs MatchOr TypeAlias TypeVar TypeVarTuple ParamSpec Load Store Del And Or Add Sub
    Mult MatMult Div Mod Pow LShift RShift BitOr BitXor BitAnd FloorDiv Invert Not UAdd USub Eq NotEq Lt LtE Gt
    GtE Is IsNot In NotIn
""".split()
for _kind in _PLAIN:
    if f"visit_{_kind}" not in vars(_Policy):
        setattr(_Policy, f"visit_{_kind}", _Policy._contents)  # pyright: ignore[reportPrivateUsage]
for _kind in ("ListComp", "SetComp", "DictComp", "GeneratorExp"):
    setattr(_Policy, f"visit_{_kind}", _Policy._within)  # pyright: ignore[reportPrivateUsage]


def judge(
    tree: ast.Module,
    code: str,
    *,
    strict: bool,
    network: bool,
    off: frozenset[str],
    names: Names | None,
    remember: bool = False,
) -> tuple[Finding, ...]:
    """Everything that *tree* is refused for.

    :param remember: note in *names* what the code binds, even if it is refused.
    """
    resolver = Evaluator(tree, names)
    resolver.gather(tree, resolver.symbols.module)
    policy = _Policy(resolver, strict=strict, network=network, off=off)
    policy.visit(tree)
    if resolver.exhausted:
        policy.refuse("complexity", tree, "Names and texts are passed on through too many steps to be followed.")
    if names is not None and (remember or not policy.findings):
        _remember(resolver, names)
        if names.full:
            policy.refuse("complexity", tree, "The session has bound more names to modules than can be kept in mind.",
                          "Use reset_sandbox, and bind fewer names.")  # fmt: skip
    return tuple(sorted(policy.findings, key=lambda finding: (finding.line, finding.column)))


def _remember(resolver: Evaluator, names: Names) -> None:
    for name in resolver.symbols.module.bindings:
        for value in resolver.name(name, resolver.symbols.module):
            if value.kind in ("ref", "text", "int"):
                if value.kind == "ref" and value.value.startswith("builtins.") and value.value.endswith(name):
                    continue
                if value.kind == "int" and not -(1 << 63) < value.value < 1 << 63:
                    continue
                names.add(name, value.kind, value.value)
            elif value.kind == "path":
                names.add(name, "path", value.value)
