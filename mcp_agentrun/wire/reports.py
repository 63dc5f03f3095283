"""What may stand in the report of a run. Whoever receives one judges it: its sender may be in the power of user code.

Like `mcp_agentrun.wire.codec`, the module is standard library only and runs on the host and inside the runner image.
"""

from __future__ import annotations

TYPE_CHECKING = False  # importing `typing` takes 2 ms, for which a first answer would wait
if TYPE_CHECKING:
    from typing import Any


__all__ = [
    "LONGEST_NAME",
    "MOST_CAUSES",
    "MOST_NAMES",
    "OUTCOMES",
    "PIDS",
    "PROBE",
    "STATES",
    "WRITABLE",
    "is_report",
    "is_result",
]

OUTCOMES = ("ok", "error", "blocked", "timeout", "memory_limit", "crashed", "cancelled")
"""How a run ends."""

STATES = ("kept", "restored", "lost")
"""What becomes of a session's variables, from good to bad."""

WRITABLE = {"/workspace": 0o700, "/tmp": 0o1777, "/dev/shm": 0o1777}  # noqa: S108
"""The folders of a container that user code may write to, and their modes."""

PIDS = "pids"
"""What is full, beside folders, where the container can have no more processes and threads."""

PROBE = 0
"""Number of the empty run by which a restored copy shows that it lives; those of code begin with 1."""

MOST_NAMES, LONGEST_NAME = 500, 100
"""Modules that a report may name as imported, and characters of a name."""

MOST_CAUSES = 10
"""Exceptions that a report may name as what ended a run."""

_TEXT_LIMIT = 1 << 16
_NUMBER_LIMIT = 1 << 62
_LONGEST = 1e9


def is_report(fields: dict[str, Any], number: int) -> bool:
    """Whether *fields* are what a worker may say of run *number*."""
    return (
        fields.get("run") == number
        and isinstance(fields.get("ok"), bool)
        and isinstance(fields.get("changed"), bool)
        and isinstance(fields.get("left"), bool)
        and type(code := fields.get("exit_code")) is int
        and 0 <= code <= 255
        and _is_text(fields.get("value"), or_none=True)
        and _is_error(fields.get("error"))
        and _is_names(fields.get("imported"))
    )


def is_result(fields: dict[str, Any], number: int) -> bool:
    """Whether *fields* are what a supervisor may say of run *number*."""
    duration: Any = fields.get("duration")
    return (
        fields.get("run") == number
        and fields.get("outcome") in OUTCOMES
        and fields.get("state") in STATES
        and fields.get("since") in STATES
        and type(duration) in (int, float)
        and 0 <= duration < _LONGEST
        and type(written := fields.get("written")) is int
        and 0 <= written < _NUMBER_LIMIT
        and type(ended := fields.get("ended")) is int
        and 0 <= ended < _NUMBER_LIMIT
        and _is_text(fields.get("value"), or_none=True)
        and _is_text(fields.get("unprotected"), or_none=True)
        and _is_number(fields.get("exit_code"))
        and _is_error(fields.get("error"))
        and (fields.get("imported") is None or _is_names(fields["imported"]))
    )


def _is_error(error: Any) -> bool:
    if not isinstance(error, dict):
        return error is None
    fields: dict[str, Any] = error  # pyright: ignore[reportUnknownVariableType]
    folders: Any = fields.get("full")
    return (
        _is_text(fields.get("type"))
        and _is_text(fields.get("message"))
        and _is_number(fields.get("line"))
        and _is_causes(fields.get("causes"))
        and isinstance(folders, list)
        and all(folder in (*WRITABLE, PIDS) for folder in folders)  # pyright: ignore[reportUnknownVariableType]
    )


def _is_causes(causes: Any) -> bool:
    return (
        isinstance(causes, list)
        and len(causes) <= MOST_CAUSES  # pyright: ignore[reportUnknownArgumentType]
        and all(isinstance(cause, dict) and _is_cause(cause) for cause in causes)  # pyright: ignore
    )


def _is_cause(cause: dict[str, Any]) -> bool:
    return (
        cause.keys() == {"type", "text", "errno", "path", "function"}
        and _is_text(cause["type"])
        and _is_text(cause["text"])
        and _is_number(cause["errno"])
        and _is_text(cause["path"], or_none=True)
        and _is_text(cause["function"], or_none=True)
    )


def _is_text(value: Any, *, or_none: bool = False) -> bool:
    return (isinstance(value, str) and len(value) <= _TEXT_LIMIT) or (or_none and value is None)


def _is_names(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) <= MOST_NAMES  # pyright: ignore[reportUnknownArgumentType]
        and all(isinstance(name, str) and len(name) <= LONGEST_NAME for name in value)  # pyright: ignore
    )


def _is_number(value: Any) -> bool:
    return value is None or (type(value) is int and abs(value) < _NUMBER_LIMIT)
