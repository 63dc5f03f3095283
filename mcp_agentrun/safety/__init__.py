"""The static check: whether code may run, with a reason and a remedy for each finding.

`guards` limits the input and parses it; `walker` visits the tree once, with the abstract values of `values`; `rules`
reads `rules.toml` and matches names and calls against it; `strict` adds RestrictedPython's policy.

The security boundary is the container, not this check. The package imports no other part of mcp_agentrun. A copy of it
runs in the runner image, with the same Python that executes the code. See docs/safety.md.
"""

from __future__ import annotations

import ast
import gc
import sys
from collections.abc import Collection

from .guards import MAX_DEPTH, GuardError, parse, too_deep
from .verdict import PROFILES, Finding, Profile, Verdict

__all__ = ["PROFILES", "Finding", "Profile", "Verdict", "check", "preload"]


def preload() -> None:
    """Load in advance what `check` needs."""
    check("pass")


def check(
    code: str, profile: Profile = "standard", *, off: Collection[str] = (), warn: bool = False, rules: str = ""
) -> Verdict:
    """Check *code*, which can be any string.

    :param off: ids of disabled rules.
    :param warn: report findings of rules, but allow the code. The guards still apply.
    :param rules: additional rules of the operator, in the format of `rules.toml`.
    :raises ValueError: no such profile, or malformed *rules*.
    """
    if profile not in PROFILES:
        raise ValueError(f"there is no profile {profile!r}; there are {', '.join(PROFILES)}")
    collects, limit = gc.isenabled(), sys.getrecursionlimit()
    gc.disable()  # each collection would visit all the new objects of the syntax tree
    try:
        return _check(code, profile, frozenset(off), warn, rules)
    except GuardError as error:
        return Verdict(False, (error.finding,))
    except RecursionError:
        return Verdict(False, (too_deep().finding,))
    finally:
        sys.setrecursionlimit(limit)
        if collects:
            gc.enable()


def _check(code: str, profile: Profile, off: frozenset[str], warn: bool, rules: str) -> Verdict:
    try:
        tree = parse(code)
    except SyntaxError as error:
        from .walker import shell_lines

        if findings := shell_lines(code, profile, off, rules):
            return Verdict(warn, findings)
        place = error.lineno or 0, max(error.offset or 0, 0)
        return Verdict(False, (Finding("syntax", *place, f"Not valid Python: {error.msg}.", "Correct the syntax."),))
    if not rules and all(map(_prints_constants, tree.body[:100])) and len(tree.body) < 100:
        return Verdict(True)  # without importing the other modules
    from .walker import Walker, rule_set

    sys.setrecursionlimit(max(sys.getrecursionlimit(), 12 * MAX_DEPTH))  # for the deepest permitted tree
    walker = Walker(code, rule_set(profile, off, rules), reviews=profile != "off" and "unreviewed" not in off)
    walker.visit(tree)
    findings = tuple(walker.findings.values())
    if profile == "strict" and "restricted-python" not in off:
        from .strict import restricted

        if walker.work > 1 << 20:  # RestrictedPython's time grows with the sum of all depths
            raise too_deep()
        findings += restricted(tree, code)
    ordered = tuple(sorted(findings, key=lambda each: each[1:3]))
    return Verdict(warn or not findings, ordered, tuple(sorted(walker.imports)))


def _prints_constants(statement: ast.stmt) -> bool:
    match statement:
        case ast.Expr(ast.Call(ast.Name("print"), args, [])) if len(args) < 100:
            return all(isinstance(argument, ast.Constant) for argument in args)
        case _:
            return False
