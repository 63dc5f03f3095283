"""Visit a syntax tree once, resolve names, and match mentions and calls against the rules."""

from __future__ import annotations

import ast
import builtins
import functools
import re

from . import values
from .guards import MAX_DEPTH, MAX_NODES, too_deep, too_large
from .rules import RuleSet, built_in_rules, finding_for, parse_rules, rules_document
from .values import Items, Name, PathText, Text, Value
from .verdict import Finding, Profile, position_of

__all__ = ["Walker", "rule_set", "shell_lines"]

_BUILTINS = {name: Name(f"builtins.{name}") for name in dir(builtins) if name == "__import__" or name[0] != "_"}
_SHELL_LINE = re.compile(r"^[ \t]*[!%]+[ \t]*(\S.*)$", re.MULTILINE)
_OPERATORS = {
    "Add": "add", "Sub": "sub", "Mult": "mul", "Div": "truediv", "Mod": "mod", "Pow": "pow", "LShift": "lshift",
}  # fmt: skip
_ON_ANY_OBJECT = re.compile(r"__|[agct]\w_frame|f_(back|builtins|globals)")  # attributes that are matched on any object
_MOST_FINDINGS = 20


@functools.lru_cache(2)  # the settings of a session don't change
def rule_set(profile: Profile, off: frozenset[str], rules: str) -> RuleSet:
    """Return the rules of *profile* and the operator's *rules*, except those whose ids are in *off*."""
    applied = () if profile == "off" else (*built_in_rules(), *parse_rules(rules))
    return RuleSet(rule for rule in applied if rule.id not in off and rule.profile in ("standard", profile))


def shell_lines(code: str, profile: Profile, off: frozenset[str], rules: str) -> tuple[Finding, ...]:
    """Return findings for IPython's ``!command`` lines in *code*, which is not valid Python."""
    applied = rule_set(profile, off, rules)
    found: list[Finding] = []
    for line in _SHELL_LINE.finditer(code):
        if finding := applied.match("calls", Name("os.system"), (Text(line[1][: values.LONGEST]),)):
            found.append(finding._replace(line=code.count("\n", 0, line.start(1)) + 1, column=1))
    return tuple(found[:_MOST_FINDINGS])


class Walker:
    """Visits each node once, and collects findings and imports. A visit returns the abstract value of the node."""

    def __init__(self, code: str, rules: RuleSet, *, reviews: bool) -> None:
        self.findings: dict[tuple[str, int], Finding] = {}
        self.imports: set[str] = set()
        self._code = code
        self._rules = rules
        self._reviewed = frozenset(rules_document()["reviewed_syntax"].split()) if reviews else None
        self._scopes: list[dict[str, Value]] = [{}]
        self._nodes = self._constants = self._depth = self.work = 0
        self._receiver: Value = None
        """The object of the latest attribute."""
        self._endless: ast.AST | None = None
        """The only statement of the latest infinite loop."""

    def visit(self, node: ast.AST) -> Value:
        kind = node.__class__.__name__
        self._constants += kind == "Constant"
        self._nodes += kind != "Constant"
        self._depth += 1
        self.work += self._depth
        if self._nodes > MAX_NODES or self._constants > 4 * MAX_NODES:
            raise too_large()
        if self._depth > MAX_DEPTH:
            raise too_deep(node)
        if self._reviewed is not None and kind not in self._reviewed:
            self._refuse(node, finding_for(next(rule for rule in built_in_rules() if rule.id == "unreviewed"), kind))
        value = getattr(self, f"_visit_{kind}", self._visit_children)(node)
        self._depth -= 1
        return value

    def _visit_children(self, node: ast.AST) -> Value:
        if isinstance(name := getattr(node, "name", None), str):  # of a definition, handler or pattern
            self._scopes[-1][name] = None
        passed_on: Value = None
        for field in node._fields:
            value = getattr(node, field, None)
            for item in value if isinstance(value, list) else (value,):  # pyright: ignore[reportUnknownVariableType]
                if isinstance(item, ast.AST) and not isinstance(item, (ast.expr_context, ast.operator)):
                    result = self.visit(item)
                    passed_on = result if field == "value" else passed_on
        return passed_on if isinstance(node, (ast.Starred, ast.Await, ast.FormattedValue)) else None

    def _visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            root = alias.name.partition(".")[0]
            self.imports.add(root)
            name = self._mention(node, Name(alias.name))
            self._scopes[-1][alias.asname or root] = name if alias.asname else Name(root)

    def _visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        module = self._mention(node, Name("." * node.level + (node.module or "")))
        if not node.level:
            self.imports.add(module.partition(".")[0])
        for alias in node.names:
            self._scopes[-1][alias.asname or alias.name] = self._mention(node, Name(f"{module}.{alias.name}"))

    def _visit_scope(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef) -> None:
        self._scopes[-1][getattr(node, "name", "")] = None
        self._scopes.append({})
        self._visit_children(node)
        self._scopes.pop()

    _visit_FunctionDef = _visit_AsyncFunctionDef = _visit_Lambda = _visit_ClassDef = _visit_scope

    def _visit_arg(self, node: ast.arg) -> None:
        self._visit_children(node)
        self._scopes[-1][node.arg] = None

    def _visit_Assign(self, node: ast.Assign | ast.AnnAssign | ast.NamedExpr) -> Value:
        value = self.visit(node.value) if node.value else None
        for target in node.targets if isinstance(node, ast.Assign) else (node.target,):
            self._assign(target, value)
        if isinstance(node, ast.AnnAssign):
            self.visit(node.annotation)
        return value

    _visit_AnnAssign = _visit_NamedExpr = _visit_Assign

    def _visit_withitem(self, node: ast.withitem) -> None:
        value = self.visit(node.context_expr)
        if node.optional_vars is not None:
            self._assign(node.optional_vars, value)

    def _visit_For(self, node: ast.For | ast.AsyncFor) -> None:
        iterated = self.visit(node.iter)
        self._assign(node.target, iterated if isinstance(iterated, (Items, PathText)) else None)
        for each in (*node.body, *node.orelse):
            self.visit(each)

    _visit_AsyncFor = _visit_For

    def _assign(self, target: ast.expr, value: Value) -> None:
        self.visit(target)
        if isinstance(target, ast.Tuple) and isinstance(value, PathText):  # from os.walk, where the folder comes first
            target = target.elts[0]
        if isinstance(target, ast.Name):
            self._scopes[-1][target.id] = value

    def _visit_Name(self, node: ast.Name) -> Value:
        if not isinstance(node.ctx, ast.Load):
            self._scopes[-1][node.id] = None
            return None
        # Names that the code does not define come from earlier calls, where modules usually have their own names.
        default = Name("builtins") if node.id == "__builtins__" else _BUILTINS.get(node.id) or Name(node.id)
        value = next((scope[node.id] for scope in reversed(self._scopes) if node.id in scope), default)
        return self._mention(node, value) if isinstance(value, Name) else value

    def _visit_Attribute(self, node: ast.Attribute) -> Value:
        base = self._receiver = self.visit(node.value)
        if isinstance(base, PathText):
            return (
                PathText(values.path_of(f"{base}/..")) if node.attr == "parent" else Name(f"pathlib.Path.{node.attr}")
            )
        if isinstance(base, Text) and not node.attr.startswith("__"):
            return Name(f"builtins.str.{node.attr}")
        if isinstance(base, Name) or _ON_ANY_OBJECT.match(node.attr):
            return self._mention(node, Name(f"{base if isinstance(base, Name) else '?'}.{node.attr}"))
        return None

    def _visit_Subscript(self, node: ast.Subscript) -> Value:
        base, key = self.visit(node.value), self.visit(node.slice)
        if isinstance(base, Items) and isinstance(key, int) and -len(base) <= key < len(base):
            return base[key]
        if base == "os.environ" and key == "HOME":
            return PathText("~")
        if not isinstance(base, Name):
            return None
        is_module = base == "sys.modules" and isinstance(key, Text)
        return self._mention(node, Name(key if is_module else f"{base}[{key if isinstance(key, Text) else ''}]"))

    def _visit_Constant(self, node: ast.Constant) -> Value:
        value = node.value
        if isinstance(value, (str, bytes)):
            return Text((value if isinstance(value, str) else value.decode("latin-1"))[: values.LONGEST])
        return value if isinstance(value, (int, float)) and not isinstance(value, bool) else None

    def _visit_List(self, node: ast.List | ast.Tuple | ast.Set) -> Value:
        return Items([self.visit(element) for element in node.elts])

    _visit_Tuple = _visit_Set = _visit_List

    def _visit_JoinedStr(self, node: ast.JoinedStr) -> Value:
        return values.joined("", tuple(self.visit(part) for part in node.values))

    def _visit_BinOp(self, node: ast.BinOp) -> Value:
        left, right = self.visit(node.left), self.visit(node.right)
        name = _OPERATORS.get(node.op.__class__.__name__, "")
        self._refuse(node, self._rules.match("calls", Name(f"operator.{name}"), (left, right)))
        return values.operator_result(name, left, right)

    def _visit_GeneratorExp(self, node: ast.GeneratorExp | ast.ListComp) -> Value:
        for generator in node.generators:
            self.visit(generator)
        value = self.visit(node.elt)
        return value if isinstance(value, Name) else None

    _visit_ListComp = _visit_GeneratorExp

    def _visit_Call(self, node: ast.Call) -> Value:
        name = self.visit(node.func)
        receiver = self._receiver if isinstance(node.func, ast.Attribute) else None
        args = tuple(self.visit(argument) for argument in node.args)
        args = (receiver, *args) if isinstance(receiver, Text) else args
        keywords = [self.visit(keyword.value) for keyword in node.keywords]
        if not isinstance(name, Name):
            return None
        if node is self._endless:
            self._refuse(node, self._rules.match("endless", name))
        self._refuse(node, self._rules.match("calls", name, (*args, *keywords)))
        value = values.call_result(name, args)
        return self._mention(node, value) if isinstance(value, Name) else value

    def _visit_While(self, node: ast.While) -> None:
        if isinstance(node.test, ast.Constant) and node.test.value and len(node.body) == 1:
            self._endless = getattr(node.body[0], "value", None)
        self._visit_children(node)

    def _mention(self, node: ast.AST, name: Name) -> Name:
        name = Name(name[: values.LONGEST_NAME])
        self._refuse(node, self._rules.match("names", name))
        return name

    def _refuse(self, node: ast.AST, found: Finding | None) -> None:
        if found is not None and len(self.findings) < _MOST_FINDINGS:
            line, column = position_of(node, self._code)
            self.findings.setdefault((found.rule, line), found._replace(line=line, column=column))
