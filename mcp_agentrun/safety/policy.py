"""The policy: what code may say, construct by construct. The rules about single topics have modules of their own."""

# The base class is typed for rewriting trees, which this one does not do.
# pyright: reportIncompatibleMethodOverride=false

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator

from . import bombs, databases, execution, files, latent, reflection, system, tampering, written
from .canonical import canonical
from .evaluator import Evaluator
from .lookups import RESOLVERS
from .names import Names
from .rules import module_rule
from .verdict import Finding
from .visitor import MUST_BE_KNOWN, SENSITIVE_MODULES, Visitor

__all__ = ["Policy", "judge"]

_FORBIDDEN_KEYS = frozenset(
    """
    __builtins__ __import__ __subclasses__ __globals__ __loader__ __spec__ __getattribute__
""".split()
)
_CHANGING = (".update", ".setdefault", ".pop", ".popitem", ".clear", ".__setitem__", ".__delitem__", ".__ior__")
_COLLECTORS = frozenset(("builtins.list", "builtins.tuple", "builtins.set", "builtins.sorted", "builtins.len"))
_INTERNAL = ("__", "f_", "cr_", "ag_", "co_")
_FORBIDDEN_NAMES = frozenset(("__builtins__", "__loader__", "__spec__", "__build_class__"))
_TEMPLATE = re.compile(r"\{[^{}]*__(globals|subclasses|builtins|import|code|closure|mro|base|bases)__")


class Policy(Visitor):
    """What each construct is judged by."""

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        if isinstance(node.value, str) and "__" in node.value and _TEMPLATE.search(node.value):
            self.refuse("dunder-escape", node, "This text, used as a template, reaches into the interpreter.")
        return node

    def visit_Import(self, node: ast.Import) -> ast.AST:
        for alias in node.names:
            self.import_(node, alias.name)
        return node

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.AST:
        if node.level or not node.module:
            return node
        if self.import_(node, node.module):
            return node
        for alias in node.names:
            if alias.name == "*":
                if node.module in ("os", "subprocess", "builtins", "ctypes", "pty", "posix"):
                    self.refuse("introspection", node, f"`from {node.module} import *` hides which names are meant.",
                                "Import by name.")  # fmt: skip
                continue
            # What is only imported sends nothing; where it is used it is judged.
            self.reference(node, canonical(f"{node.module}.{alias.name}"), but="network")
            if module_rule(f"{node.module}.{alias.name}", strict=False):
                self.import_(node, f"{node.module}.{alias.name}")
        return node

    def visit_MatchClass(self, node: ast.MatchClass) -> ast.AST:
        for name in node.kwd_attrs:  # each is read as an attribute
            if name.startswith(_INTERNAL):
                read = ast.Attribute(ast.Name("_", ast.Load()), name, ast.Load())
                reflection.internal(self, ast.copy_location(read, node), name)
                if name == "__self__":
                    self.refuse("dunder-escape", node, "__self__ of a built-in function is its module.")
        return self.contents(node)

    def visit_Name(self, node: ast.Name) -> ast.AST:
        if node.id in _FORBIDDEN_NAMES:
            self.refuse("dunder-escape", node, f"{node.id} leads into the interpreter.")
            return node
        if isinstance(node.ctx, ast.Load):
            for value in self.evaluator.values(node, self.scope):
                if value.kind == "ref":
                    if value.value in MUST_BE_KNOWN and id(node) not in self.vetted:
                        reflection.handed_on(self, node, value.value[9:])
                    elif value.value == "builtins.__import__" and id(node) not in self.vetted:
                        self.refuse(
                            "tampering",
                            node,
                            "__import__ is handed on, so that what it imports can't be known.",
                            "Use import statements.",
                        )
                    elif value.value not in SENSITIVE_MODULES or id(node) in self.vetted:
                        self.reference(node, value.value)
                    elif value.value in ("subprocess", "ctypes", "pty"):
                        self.refuse(
                            "native-code" if value.value == "ctypes" else "process-spawn",
                            node,
                            f"The module {value.value} is handed on, so that what is done with it can't be known.",
                        )
        return node

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        name = node.attr
        if name.startswith(_INTERNAL):
            reflection.internal(self, node, name)
        values = self.evaluator.values(node, self.scope)
        for value in values:
            if value.kind == "ref":
                if value.value in MUST_BE_KNOWN and id(node) not in self.vetted:
                    reflection.handed_on(self, node, value.value[9:])
                elif isinstance(node.ctx, ast.Load) or value.value.startswith(("os.", "sys.")):
                    self.reference(node, value.value, node)
        self.vetted.add(id(node.value))
        if isinstance(node.ctx, ast.Store):
            tampering.replaced(self, node, node)
        self.visit(node.value)
        return node

    def visit_Subscript(self, node: ast.Subscript) -> ast.AST:
        for key in self.evaluator.texts(node.slice, self.scope):
            if key in _FORBIDDEN_KEYS:
                self.refuse("dunder-escape", node, f"{key} leads into the interpreter.")
        for base in self.evaluator.values(node.value, self.scope):
            if base.kind == "ref" and base.value == "os.environ" and isinstance(node.ctx, (ast.Store, ast.Del)):
                tampering.environment(self, node, tampering.keys_of(self, node.slice))
            elif base.kind == "ref" and base.value == "sys.modules" and isinstance(node.ctx, (ast.Store, ast.Del)):
                tampering.module_replaced(self, node, self.evaluator.texts(node.slice, self.scope))
            elif base.kind == "ref" and isinstance(node.ctx, (ast.Store, ast.Del)):
                tampering.in_namespace(self, node, base.value, self.evaluator.texts(node.slice, self.scope))
            elif base.kind == "ref":
                reflection.member_of_namespace(self, node, base.value)
        for value in self.evaluator.values(node, self.scope):
            if value.kind == "ref" and isinstance(node.ctx, ast.Load):
                if value.value in MUST_BE_KNOWN and id(node) not in self.vetted:
                    reflection.handed_on(self, node, value.value[9:])
                else:
                    self.reference(node, value.value)
        self.vetted.add(id(node.value))
        return self.contents(node)

    def visit_Assign(self, node: ast.Assign) -> ast.AST:
        for target in node.targets:
            place = target.value if isinstance(target, ast.Subscript) else target
            if "sys.path" in self.evaluator.references(place, self.scope):
                tampering.module_path(self, node, [node.value])
            if isinstance(target, ast.Name) and target.id in ("__class_getitem__", "__getattr__", "__getattribute__"):
                for name in self.evaluator.references(node.value, self.scope):
                    if name in MUST_BE_KNOWN:
                        self.refuse("dynamic-code", node, f"{target.id} becomes {name[9:]}.")
        return self.contents(node)

    def visit_AugAssign(self, node: ast.AugAssign) -> ast.AST:
        targets = self.evaluator.references(node.target, self.scope)
        if isinstance(node.op, ast.BitOr) and "os.environ" in targets:
            tampering.environment_update(self, node, node.value)
        if "sys.path" in targets:
            tampering.module_path(self, node, [node.value])
        return self.contents(node)

    def visit_Delete(self, node: ast.Delete) -> ast.AST:
        for target in node.targets:
            if isinstance(target, ast.Attribute):
                tampering.replaced(self, target, target)
        return self.contents(node)

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        if all(isinstance(operator, (ast.In, ast.NotIn)) for operator in node.ops):
            self.vetted.update(id(item) for item in node.comparators)  # `"numpy" in sys.modules` is harmless
        return self.contents(node)

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        if node.op.__class__ in (ast.Pow, ast.Mult, ast.LShift):
            bombs.operation(self, node)
        elif node.op.__class__ is ast.Mod:
            bombs.width(self, node, node.left)
        return self.contents(node)

    def visit_FormattedValue(self, node: ast.FormattedValue) -> ast.AST:
        if node.format_spec is not None:
            bombs.width(self, node, node.format_spec)
        return self.contents(node)

    def visit_While(self, node: ast.While) -> ast.AST:
        bombs.loop(self, node)
        return self.contents(node)

    def visit_For(self, node: ast.For) -> ast.AST:
        bombs.loop(self, node)
        self._gone_through(node.iter)
        return self.contents(node)

    def _gone_through(self, node: ast.expr) -> None:
        if "sys.modules" in self.evaluator.references(node, self.scope):
            self.vetted.add(id(node))  # which gives their names

    def visit_comprehension(self, node: ast.comprehension) -> ast.AST:
        self._gone_through(node.iter)
        return self.contents(node)

    def _collection(self, node: ast.ListComp | ast.SetComp | ast.DictComp) -> ast.AST:
        bombs.collected(self, node)
        return self.within(node)

    visit_ListComp = _collection
    visit_SetComp = _collection
    visit_DictComp = _collection

    def visit_Call(self, node: ast.Call) -> ast.AST:
        values = self.evaluator.values(node.func, self.scope)
        names = [value.value for value in values if value.kind == "ref"]
        self.vetted.add(id(node.func))
        for name in names:
            self._called(node, name)
            if name in _COLLECTORS:
                for argument in node.args[:1]:
                    self._gone_through(argument)
        if isinstance(node.func, ast.Attribute):
            method = node.func.attr
            if method == "__getattribute__" and len(node.args) > 1:
                reflection.by_name(self, node, "object.__getattribute__")
            if method in ("query", "eval") and not names:
                execution.query(self, node, method)
            databases.statement(self, node, method)
            if method in ("format", "format_map", "vformat"):
                self._template(node, node.func)
            if not names:
                bombs.method(self, node, node.func)
            files.method(self, node, node.func, names)
        elif not isinstance(node.func, (ast.Name, ast.Subscript)):
            for name in names:  # what another call gives is mentioned nowhere else
                self.reference(node, name)
        reflection.unknown_member(self, node, names)
        written.note(self, node)
        files.addresses(self, node, names)
        reflection.modules_handed_on(self, node, names)
        return self.contents(node)

    def _template(self, node: ast.Call, function: ast.Attribute) -> None:
        """A template that is put together from parts is judged where it is used."""
        for part in (function.value, *node.args[:1]):
            for text in self.evaluator.texts(part, self.scope):
                if "__" in text and _TEMPLATE.search(text):
                    self.refuse("dunder-escape", node, "This text, used as a template, reaches into the interpreter.")

    def annotated(self, node: ast.expr) -> None:
        latent.annotation(self, node)
        self.visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        latent.annotation(self, node.annotation)
        return self.contents(node)

    def visit_Expr(self, node: ast.Expr) -> ast.AST:
        self.unused.add(id(node.value))
        return self.contents(node)

    def visit_If(self, node: ast.If) -> ast.AST:
        if self.evaluator.references(node.test, self.scope) == ["typing.TYPE_CHECKING"]:
            node = ast.If(node.test, [item for item in node.body if not _is_import(item)], node.orelse)
        return self.contents(node)

    def _called(self, node: ast.Call, name: str) -> None:
        if name in execution.CODE_TAKERS:
            execution.code_taker(self, node, name)
        elif name.startswith(("sympy.", "patsy.", "statsmodels.", "formulaic.", "numexpr.")):
            execution.formula(self, node, name)
        if name in latent.FINDERS or name.partition(".")[0] in latent.FINDERS:
            latent.found(self, node, name)
        rule = _CALLS.get(name)
        if rule is not None:
            rule(self, node, name)
        elif name.endswith(_CHANGING):
            tampering.namespace_call(self, node, name)
        elif name.endswith((".query", ".eval")):
            execution.query(self, node, name)
        files.address_of(self, node, name)
        files.model_fetched(self, node, name)


def _is_import(node: ast.stmt) -> bool:
    return isinstance(node, (ast.Import, ast.ImportFrom))


_Rule = Callable[[Visitor, ast.Call, str], None]
_CALLS: dict[str, _Rule] = {
    **dict.fromkeys(reflection.BY_NAME, reflection.by_name),
    **dict.fromkeys(("builtins.__import__", "importlib.import_module"), reflection.import_by_name),
    **dict.fromkeys(RESOLVERS, reflection.resolved),
    "builtins.open": system.opened,
    **dict.fromkeys(system.ON_DESCRIPTORS, system.descriptor),
    "os.kill": system.kill,
    **dict.fromkeys(("os.chmod", "os.fchmod", "os.mkdir"), system.mode),
    **dict.fromkeys(tampering.ON_ENVIRONMENT, tampering.environment_call),
    **dict.fromkeys(("sys.path.insert", "sys.path.append", "sys.path.extend"), tampering.path_call),
    **dict.fromkeys(("types.FunctionType", "types.LambdaType"), execution.made_function),
    **dict.fromkeys(("yaml.load", "yaml.load_all"), execution.yaml_loaded),
    **dict.fromkeys(written.UNPICKLERS | written.FILE_LOADERS, written.unpickled),
    **dict.fromkeys(written.RUNNERS - {"importlib.import_module"}, written.runs),
    **dict.fromkeys(
        (
            "os.rename",
            "os.replace",
            "os.renames",
            "shutil.move",
            "shutil.copy",
            "shutil.copy2",
            "shutil.copyfile",
            "os.link",
            "os.symlink",
        ),
        written.moved,
    ),
    **dict.fromkeys(
        (
            "logging.config.dictConfig",
            "logging.config.DictConfigurator",
            "logging.config.BaseConfigurator",
            "hydra.utils.instantiate",
        ),
        latent.configured,
    ),
    **dict.fromkeys(
        (
            "mako.template.Template",
            "tornado.template.Template",
            "bottle.template",
            "bottle.SimpleTemplate",
            "Cheetah.Template.Template",
            "chameleon.PageTemplate",
            "web.template.Template",
            "genshi.template.MarkupTemplate",
            "mako.lookup.TemplateLookup().put_string",
        ),
        latent.rendered,
    ),
    **dict.fromkeys(
        (
            "tkinter.Tcl().eval",
            "tkinter.Tcl().call",
            "tkinter.Tcl().evalfile",
            "tkinter.Tk().eval",
            "tkinter.Tk().call",
            "tkinter.Tk().tk.eval",
            "tkinter.Tk().tk.call",
            "tkinter.Tcl().tk.eval",
            "tkinter.Tcl().tk.call",
            "tkinter.Tk().evalfile",
            "_tkinter.create().eval",
            "_tkinter.create().call",
        ),
        latent.interpreted,
    ),
    **dict.fromkeys(bombs.SIZED, bombs.sized),
    "sys.setrecursionlimit": bombs.recursion,
    "collections.deque": bombs.queued,
    "math.factorial": bombs.factorial,
    "builtins.pow": bombs.power,
    **dict.fromkeys(("pandas.eval", "pandas.DataFrame()"), execution.query),
    **dict.fromkeys(("pwd.getpwall", "netrc.netrc", "keyring.get_password"), files.secrets_read),
}


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
    evaluator = Evaluator(tree, names)
    evaluator.gather(tree, evaluator.symbols.module)
    policy = Policy(evaluator, strict=strict, network=network, off=off)
    policy.visit(tree)
    written.judge_files(policy)
    _require_whole(policy)
    if names is not None and (remember or not policy.findings):
        bound = list(_bound(evaluator))
        _require_whole(policy)  # before anything is noted: refused code leaves no trace
        if remember or not policy.findings:
            for name, kind, value in bound:
                names.add(name, kind, value)
    return tuple(sorted(policy.findings, key=lambda finding: (finding.line, finding.column)))


def _require_whole(policy: Policy) -> None:
    if policy.evaluator.exhausted:
        policy.refuse("complexity", policy.evaluator.symbols.module.node,
                      "Names and texts are passed on through too many steps to be followed.")  # fmt: skip


def _bound(evaluator: Evaluator) -> Iterator[tuple[str, str, str | int]]:
    """Name, kind and value of what the code binds at its top level, as `Names.add` takes them."""
    for name in evaluator.symbols.module.bindings:
        for value in evaluator.name(name, evaluator.symbols.module):
            if value.kind not in ("ref", "text", "int", "path"):
                continue
            if value.kind == "ref" and value.value.startswith("builtins.") and value.value.endswith(name):
                continue
            if value.kind == "int" and not -(1 << 63) < value.value < 1 << 63:
                continue
            yield name, value.kind, value.value
