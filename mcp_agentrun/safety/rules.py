"""The rules: read from TOML, and matched against names, calls and arguments."""

from __future__ import annotations

import fnmatch
import functools
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from . import values
from .values import Name, Text, Value
from .verdict import PROFILES, Finding

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # pyright: ignore

__all__ = ["Rule", "RuleSet", "built_in_rules", "finding_for", "parse_rules", "rules_document"]

_KINDS = frozenset(("names", "endless", "calls", "texts", "paths", "commands", "results", "at_least"))


class Rule(NamedTuple):
    """A rule, which an operator can disable or add."""

    id: str
    title: str
    reason: str
    """May contain ``{name}`` and ``{what}``: the name, and the offending argument."""
    remedy: str
    """May also contain ``{packages}``: the call that installs the packages in the argument."""
    profile: str = "standard"
    """``strict`` if the rule applies only in that profile."""
    when: tuple[Mapping[str, Any], ...] = ()
    """Conditions, any of which must be met: patterns by field of `[[rule.when]]`."""


def parse_rules(text: str) -> tuple[Rule, ...]:
    """Parse an operator's rules, in the format of `rules.toml`, whose groups they may use.

    :raises ValueError: a rule is malformed; the message says which and why.
    """
    return _rules(tomllib.loads(text)) if text else ()  # pyright: ignore


def _rules(data: Mapping[str, Any]) -> tuple[Rule, ...]:
    groups = {**rules_document()["groups"], **data.get("groups", {})}
    return tuple(_rule(table, groups) for table in data.get("rule", ()))


def _rule(table: Any, groups: Mapping[str, list[str]]) -> Rule:
    try:
        conditions = [_condition(each, groups) for each in table.get("when", ())]
        fields: dict[str, Any] = {**table, "when": tuple(conditions)}
        finding_for(rule := Rule(**fields))  # raises KeyError for unknown placeholders
        if rule.profile not in PROFILES:
            raise ValueError(f"there is no profile {rule.profile!r}")
        return rule
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        name = table.get("id") if isinstance(table, dict) else table  # pyright: ignore
        reason = f"there is no group or placeholder {error}" if isinstance(error, KeyError) else str(error)
        raise ValueError(f"rule {name!r}: {reason.removeprefix('Rule.__new__() ')}") from None


def _condition(table: dict[str, Any], groups: Mapping[str, list[str]]) -> Mapping[str, Any]:
    table = {"calls": ["@starters"], **table} if "commands" in table else table
    if not {"names", "endless", "calls"} & set(table) or not set(table) <= _KINDS:
        raise ValueError(f"[[rule.when]] has names, endless or calls, and no fields but {', '.join(sorted(_KINDS))}")
    return {kind: globs if kind == "at_least" else _pattern(globs, groups) for kind, globs in table.items()}


def _pattern(globs: Iterable[str], groups: Mapping[str, list[str]]) -> re.Pattern[str]:
    expanded = [each for glob in globs for each in (groups[glob[1:]] if glob.startswith("@") else (glob,))]
    return re.compile("|".join(map(fnmatch.translate, expanded)) or "(?!)")


class RuleSet:
    """A set of rules to match against."""

    def __init__(self, rules: Iterable[Rule]) -> None:
        self._conditions = [(rule, condition) for rule in rules for condition in rule.when]
        self._about = functools.lru_cache(4096)(self._find)

    def _find(self, field: str, name: Name) -> list[tuple[Rule, Mapping[str, Any]]]:
        return [each for each in self._conditions if field in each[1] and each[1][field].match(name)]

    def match(self, field: str, name: Name, args: tuple[Value, ...] = ()) -> Finding | None:
        """Return the finding for *name* in *field*, or None. *args*: a method's object, arguments, keywords."""
        for rule, condition in self._about(field, name):
            what = _what(condition, name, args) if field == "calls" else ""
            if what is not None:
                return finding_for(rule, name, what, _installation(args))
        return None


def finding_for(rule: Rule, name: str = "", what: str = "", packages: str = "") -> Finding:
    """Return the finding of *rule* for *name* and *what*, still without a position."""
    name, what = name.removeprefix("builtins.").replace("?", ""), what.replace(values.HOLE, "…")
    shown = {"name": f"`{name}`", "what": f"`{what if len(what) <= 60 else what[:57] + '…'}`", "packages": packages}
    return Finding(rule.id, 0, 0, rule.reason.format(**shown), rule.remedy.format(**shown))


def _what(condition: Mapping[str, Any], name: Name, args: tuple[Value, ...]) -> str | None:
    """Return the argument that meets *condition* ("" if it has none about arguments), or None if it is not met."""
    if "at_least" in condition and not values.result_size(name, args) >= condition["at_least"]:
        return None
    what = ""
    for field, candidates in _CANDIDATES.items():
        if field in condition:
            found = next((each for each in candidates(args) if condition[field].match(each)), None)
            if found is None:
                return None
            what = what or found
    return what


_CANDIDATES: dict[str, Callable[[tuple[Value, ...]], Iterator[str]]] = {
    "paths": lambda args: map(values.path_of, values.parts(args, Text)),
    "texts": lambda args: values.parts(args, Text),
    "commands": values.commands,
    "results": lambda args: values.parts(args, Name),
}


def _installation(args: tuple[Value, ...]) -> str:
    for found in filter(None, map(values.packages, values.commands(args))):
        return f"install_package({found if len(found) > 1 else repr(found[0])})".replace("'", '"')
    return "install_package"


@functools.cache
def rules_document() -> Mapping[str, Any]:
    """Return the content of `rules.toml`."""
    text = (Path(__file__).parent / "rules.toml").read_text("utf-8")
    return tomllib.loads(text)  # pyright: ignore


@functools.cache
def built_in_rules() -> tuple[Rule, ...]:
    """Return the rules of `rules.toml`."""
    return _rules(rules_document())
