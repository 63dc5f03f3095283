"""The static check of code before it runs."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from .fields import Group, Metavar, Names, OptionalPath

__all__ = ["SafetySettings"]


class SafetySettings(Group):
    """The static check of code before it runs."""

    profile: Literal["strict", "standard", "off"] = Field(
        default="standard", alias="safety", description="Profile of the static check."
    )
    off: Annotated[Names, Metavar("RULE,...")] = Field(
        default=(), alias="safety_off", description="Rules of the static check to disable."
    )
    rules: OptionalPath = Field(
        default=None, alias="safety_rules", description="TOML file with additional rules for the static check."
    )
    warn: bool = Field(
        default=False, alias="safety_warn", description="Run code that breaks a rule, and report the rule."
    )
