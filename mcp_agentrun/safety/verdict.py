"""What a check comes to."""

from __future__ import annotations

from typing import Literal, NamedTuple

__all__ = ["PROFILES", "Finding", "Profile", "Verdict"]

Profile = Literal["strict", "standard", "off"]
PROFILES: tuple[Profile, ...] = ("strict", "standard", "off")


class Finding(NamedTuple):
    """One objection to the code."""

    rule: str
    """Id of the rule, by which an operator can switch it off."""
    line: int
    """Counted from 1, as tracebacks do; 0 for the code as a whole."""
    column: int
    """Counted from 1, in characters; 0 where `line` is."""
    reason: str
    remedy: str
    """What to do instead."""

    def __str__(self) -> str:
        place = f"line {self.line}, column {self.column}: " if self.line else ""
        return f"{place}{self.reason} [{self.rule}]\n  {self.remedy}"


class Verdict(NamedTuple):
    """Whether the code may run, and why not."""

    allowed: bool
    findings: tuple[Finding, ...] = ()
    imports: tuple[str, ...] = ()
    """Top-level modules that the code imports, sorted."""

    @property
    def is_syntax_error(self) -> bool:
        """Whether the code is no Python at all, so that nothing of it could run."""
        return any(finding.rule == "syntax" for finding in self.findings)
