"""The result of a check."""

from __future__ import annotations

import ast
import re
from typing import Literal, NamedTuple

__all__ = ["PROFILES", "Finding", "Profile", "Verdict", "place"]

Profile = Literal["strict", "standard", "off"]
PROFILES: tuple[Profile, ...] = ("strict", "standard", "off")


class Finding(NamedTuple):
    """One objection of the static check::

    for finding in result.findings:
        print(f"line {finding.line}: {finding.reason} {finding.remedy}")
    """

    rule: str
    line: int
    """Counted from 1, as in tracebacks; 0 for the code as a whole. So is `column`, in characters."""
    column: int
    reason: str
    remedy: str


class Verdict(NamedTuple):
    """Whether the code may run, and why not."""

    allowed: bool
    findings: tuple[Finding, ...] = ()
    imports: tuple[str, ...] = ()
    """Top-level modules that the code imports, sorted."""

    @property
    def is_syntax_error(self) -> bool:
        """Whether the code is not valid Python, so that nothing of it can run."""
        return any(finding.rule == "syntax" for finding in self.findings)


def place(node: ast.AST, code: str) -> tuple[int, int]:
    """Line and column of *node* as a finding counts them: the parser counts bytes."""
    line, offset = getattr(node, "lineno", 0), getattr(node, "col_offset", -1)
    if line and not code.isascii():
        text = re.split(r"\r\n|[\r\n]", code)[line - 1]
        offset = len(text.encode()[:offset].decode("utf-8", "ignore"))
    return line, offset + 1
