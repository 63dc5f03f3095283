"""The visitor of a whole syntax tree, which refuses every kind of node that nobody has reviewed."""

# The base class is typed for rewriting trees, which this one does not do.
# pyright: reportIncompatibleMethodOverride=false

from __future__ import annotations

import ast
from typing import Any, NamedTuple

from RestrictedPython.transformer import RestrictingNodeTransformer

from .evaluator import Evaluator
from .rules import RULES, module_rule, reference_rule
from .values import Values
from .verdict import Finding

__all__ = ["MUST_BE_KNOWN", "SENSITIVE_MODULES", "Visitor", "Written"]

_MOST_FINDINGS = 20
MUST_BE_KNOWN = frozenset(("builtins.exec", "builtins.eval", "builtins.compile"))
SENSITIVE_MODULES = frozenset(("os", "subprocess", "builtins", "ctypes", "importlib", "pty", "shutil"))
_LEAVES = frozenset((ast.Load, ast.Store, ast.Del))
_TOPICS = {rule.id: rule.title for rule in RULES.values()}


class Written(NamedTuple):
    """Something that is written to a file."""

    path: str
    node: ast.AST
    contents: Values


class Visitor(RestrictingNodeTransformer):
    """RestrictedPython's visitor, turned from rewriting to judging.

    It visits every node by the method for its kind, and refuses what has no such method.
    """

    def __init__(self, evaluator: Evaluator, *, strict: bool, network: bool, off: frozenset[str]) -> None:
        super().__init__()
        self.findings: list[Finding] = []
        self.evaluator = evaluator
        self.strict = strict
        self.network = network
        self._off = off
        self.scope = evaluator.symbols.module
        self.level = 0
        """Levels of code in texts in code."""
        self.place: ast.AST | None = None
        """Where the text stands that is being judged as code."""
        self._seen: set[tuple[str, int, str]] = set()
        self.judged: set[tuple[str, int]] = set()
        """Texts that were judged as code, and the identities of their scopes."""
        self.found: set[str] = set()
        """Ways in which texts of the whole code were looked for."""
        self.executed: set[str] = set()
        """Files of which the contents are executed."""
        self.unused: set[int] = set()
        """Identities of calls of which nothing is done with the result."""
        self.loops: dict[int, bool] = {}
        """Whether loops may end, by the identities of their nodes."""
        self.imported: set[str] = set()
        """Modules that are imported, by statements and functions."""
        self.written: list[Written] = []
        """What is written to files."""
        self.moved: list[tuple[str, str]] = []
        """Files that get another name."""
        self.loaders: list[tuple[ast.AST, str]] = []
        """Calls of what loads objects from files, or runs the code in files."""
        self.vetted: set[int] = set()
        """Identities of nodes that may name a module or function, because of what is done with it."""

    def refuse(self, rule: str, node: ast.AST, reason: str, remedy: str | None = None) -> None:
        """Note an objection to *node*, unless *rule* is switched off."""
        if rule in self._off or len(self.findings) >= _MOST_FINDINGS:
            return
        place = self.place or node
        line, column = getattr(place, "lineno", 0), getattr(place, "col_offset", -1) + 1
        if self.place is not None:
            reason = f"{reason.removesuffix('.')}, in text that is executed as code."
        if (rule, line, reason) not in self._seen:
            self._seen.add((rule, line, reason))
            self.findings.append(Finding(rule, line, column, reason, remedy or RULES[rule].remedy))

    def error(self, node: ast.AST, info: str) -> None:
        """What the base class objects to: nodes that nothing here has a method for."""
        self.refuse("unreviewed", node, f"{node.__class__.__name__} is syntax that nobody has reviewed.")

    def warn(self, node: ast.AST, info: str) -> None:
        """The base class warns where it then objects."""

    def contents(self, node: ast.AST) -> ast.AST:
        """Visit what *node* is made of. Constants are left out, except texts that may be templates."""
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

    def within(self, node: ast.AST) -> ast.AST:
        """Visit what *node* is made of, in the scope that it opens."""
        outer, self.scope = self.scope, self.evaluator.symbols.scopes.get(id(node), self.scope)
        self.contents(node)
        self.scope = outer
        return node

    def visit_Module(self, node: ast.Module) -> ast.AST:
        return self.contents(node)

    def _function(self, node: Any) -> ast.AST:
        for item in (*node.decorator_list, *node.args.defaults, *(d for d in node.args.kw_defaults if d is not None)):
            self.visit(item)
        for argument in ast.walk(node.args):
            if isinstance(argument, ast.arg) and argument.annotation is not None:
                self.annotated(argument.annotation)
        if node.returns is not None:
            self.annotated(node.returns)
        outer, self.scope = self.scope, self.evaluator.symbols.scopes.get(id(node), self.scope)
        for item in (*node.body, *getattr(node, "type_params", ())):
            self.visit(item)
        self.scope = outer
        return node

    def annotated(self, node: ast.expr) -> None:
        """Judge an annotation."""
        self.visit(node)

    visit_FunctionDef = _function
    visit_AsyncFunctionDef = _function

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        for item in (*node.decorator_list, *node.bases, *(keyword.value for keyword in node.keywords)):
            self.visit(item)
        outer, self.scope = self.scope, self.evaluator.symbols.scopes.get(id(node), self.scope)
        for item in (*node.body, *getattr(node, "type_params", ())):
            self.visit(item)
        self.scope = outer
        return node

    def visit_Lambda(self, node: ast.Lambda) -> ast.AST:
        return self.within(node)

    def import_(self, node: ast.AST, module: str) -> bool:
        """Judge the import of *module*; true if it is refused."""
        self.imported.add(module)
        rule = module_rule(module, strict=self.strict)
        if rule is None:
            return False
        self.refuse(rule, node, f"The module {module} is for {_TOPICS[rule]}.")
        return True

    def reference(
        self, node: ast.AST, name: str, attribute: ast.Attribute | None = None, *, but: str | None = None
    ) -> None:
        """Judge that the canonical *name* is mentioned, by all rules *but* one."""
        if attribute is not None and name in ("sys.modules",) and id(attribute) in self.vetted:
            return
        rule = reference_rule(name, strict=self.strict, network=self.network)
        if rule is None or rule == but:
            return
        shown = (
            name.removeprefix("builtins.").replace("_.", "", 1)
            if name.startswith("_.")
            else name.removeprefix("builtins.")
        )
        self.refuse(rule, node, f"{shown[:80]} is for {_TOPICS[rule]}.")


# Kinds of nodes that say nothing by themselves: what they are made of is visited. Any other kind that has no method
# above goes to the base class's `generic_visit`, which refuses it.
_PLAIN = """
    Expression Expr Return Assign AugAssign AnnAssign For AsyncFor If With AsyncWith Raise Try TryStar Assert Global
    Nonlocal Pass Break Continue BoolOp NamedExpr UnaryOp Dict Set List Tuple ListComp SetComp DictComp
    GeneratorExp Await Yield YieldFrom IfExp FormattedValue JoinedStr Starred Slice comprehension ExceptHandler
    arguments arg keyword alias withitem Match match_case MatchValue MatchSingleton MatchSequence MatchMapping
    MatchClass MatchStar MatchAs MatchOr TypeAlias TypeVar TypeVarTuple ParamSpec Load Store Del And Or Add Sub
    Mult MatMult Div Mod Pow LShift RShift BitOr BitXor BitAnd FloorDiv Invert Not UAdd USub Eq NotEq Lt LtE Gt
    GtE Is IsNot In NotIn
""".split()
for _kind in _PLAIN:
    if f"visit_{_kind}" not in vars(Visitor):
        setattr(Visitor, f"visit_{_kind}", Visitor.contents)
for _kind in ("ListComp", "SetComp", "DictComp", "GeneratorExp"):
    setattr(Visitor, f"visit_{_kind}", Visitor.within)
