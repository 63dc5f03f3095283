"""The check itself: guards, then the policy."""

from __future__ import annotations

import ast
import contextlib
import gc
import sys
from collections.abc import Collection, Generator

from .guards import MAX_DEPTH, GuardError, parse, survey
from .names import Names
from .verdict import PROFILES, Finding, Profile, Verdict

__all__ = ["check", "prepare"]

_FRAMES = 12 * MAX_DEPTH
"""Python frames that judging the deepest tree may take."""


def prepare() -> None:
    """Import now what `check` would import when it first needs it."""
    from . import policy as _policy  # noqa: F401  # pyright: ignore[reportUnusedImport]


def check(
    code: str,
    profile: Profile = "standard",
    *,
    network: bool = False,
    spawn: bool = False,
    off: Collection[str] = (),
    warn: bool = False,
    names: Names | None = None,
) -> Verdict:
    """Judge *code*. Never raises for anything that *code* may be.

    :param network: the code will have a network, so that using it is no mistake.
    :param spawn: starting processes is allowed.
    :param off: ids of rules that don't apply.
    :param warn: report findings of rules, but allow the code. The guards of the input hold nevertheless.
    :param names: what earlier code of the same session has bound; what this code binds is added, if it is allowed.
    """
    if profile not in PROFILES:
        raise ValueError(f"there is no profile {profile!r}; there are {', '.join(PROFILES)}")
    with _without_collections(then_collect=len(code) > _LARGE):
        return _check(
            code, profile, network, frozenset((*off, "process-spawn")) if spawn else frozenset(off), warn, names
        )


_LARGE = 1 << 15
"""Characters of code whose tree is worth a collection of its own."""


@contextlib.contextmanager
def _without_collections(*, then_collect: bool) -> Generator[None]:
    """A syntax tree is all new objects, and each garbage collection would go through all of them."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
            if then_collect:
                gc.collect()


def _check(code: str, profile: Profile, network: bool, off: frozenset[str], warn: bool, names: Names | None) -> Verdict:
    try:
        tree = parse(code)
        found = survey(tree)
    except GuardError as error:
        return Verdict(False, (Finding(error.rule, error.line, error.column, error.reason, error.remedy),))
    except SyntaxError as error:
        line, column = error.lineno or 0, error.offset or 0
        return Verdict(
            False,
            (Finding("syntax", line, max(column, 0), f"This is no valid Python: {error.msg}.", "Correct the syntax."),),
        )
    imports = tuple(sorted(found.imports))
    if profile == "off" or (_only_prints_constants(tree) and not (names is not None and names.get("print"))):
        return Verdict(True, (), imports)
    from .policy import judge

    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(max(limit, _FRAMES))
    try:
        findings = judge(
            tree,
            code,
            strict=profile == "strict",
            network=network,
            off=off,
            names=names,
            remember=warn,
        )
    except RecursionError:
        findings = (Finding("nesting", 0, 0, "The code is nested too deeply.", "Write it in several statements."),)
    except Exception as error:  # a fault of the rules must neither let code pass nor reach the caller
        reason = f"This code could not be judged ({type(error).__name__})."
        findings = (Finding("complexity", 0, 0, reason, "Write it more simply."),)
    finally:
        sys.setrecursionlimit(limit)
    return Verdict(warn or not findings, findings, imports)


def _only_prints_constants(tree: ast.Module) -> bool:
    """Whether *tree* only prints constants, for which the policy need not even be imported."""
    for statement in tree.body:
        if not isinstance(statement, ast.Expr):
            return False
        call = statement.value
        if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "print"):
            return False
        if call.keywords or not all(
            isinstance(argument, ast.Constant) and not (isinstance(argument.value, str) and "{" in argument.value)
            for argument in call.args
        ):
            return False
    return True
