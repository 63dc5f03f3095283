"""How a run ended, as an exit code and in notes."""

from __future__ import annotations

from ..sandbox import Result
from ..settings import Settings
from .terminal import note

__all__ = ["exit_code", "explain", "explain_state"]

_TIMED_OUT, _BLOCKED, _SIGNAL = 124, 126, 128


def exit_code(result: Result) -> int:
    """Return the exit code of ``python``, or the one that stands for a limit of the sandbox."""
    if result.outcome == "timeout":
        return _TIMED_OUT
    if result.outcome == "blocked":
        return _BLOCKED
    if result.outcome == "memory_limit":
        return _SIGNAL + 9
    code = result.exit_code or 0
    return _SIGNAL - code if code < 0 else code


def explain(result: Result, settings: Settings, *, install: str) -> None:
    """Print notes on limits that fired, and what to do.

    :param install: what installs a missing package.
    """
    match result.outcome:
        case "timeout":
            note(f"interrupted after {result.timeout:g} s. Give a larger --timeout.")
        case "memory_limit":
            note(f"the memory limit of {settings.limits.memory >> 20} MiB was exceeded. Give a larger --memory.")
        case "blocked":
            for finding in result.findings:
                place = f"line {finding.line}: " if finding.line else ""
                note(f"not run: {place}{finding.reason} {finding.remedy}")
            note("Give --safety off to run it without the static check.")
        case "crashed":
            note(f"the program was ended by signal {-(result.exit_code or 0)}.")
        case _:
            pass
    if result.error is not None and result.error.type == "ModuleNotFoundError":
        note(f"install what is missing with {install} NAME.")
    if result.missing_packages:
        note(result.missing_packages)


def explain_state(result: Result) -> None:
    """Print a note on what the sandbox has lost, if anything."""
    if result.replaced:
        note("the sandbox was lost and has been replaced: variables and files are gone.")
    elif "lost" in (result.state, result.since):
        note("the variables are gone; files and packages are kept.")
    elif "restored" in (result.state, result.since):
        note("the variables are as they were before this run.")
