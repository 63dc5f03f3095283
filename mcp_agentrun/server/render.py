"""From what the sandbox says to what the model reads."""

from __future__ import annotations

import re
from typing import Any

from mcp.types import CallToolResult, TextContent

from ..packages.installer import Installed
from ..sandbox import Outcome, Result
from ..settings import Settings

__all__ = ["failure", "install_answer", "run_answer", "text_answer"]

_MARK = "[agentrun] "
_LATE_SHOWN = 4096
_UNENCODABLE = re.compile("[\ud800-\udfff]")


def run_answer(result: Result, settings: Settings, *, handle: str | None, new: bool) -> CallToolResult:
    """What a terminal would have shown, and a marked line of ours wherever the model needs one.

    :param handle: the handle of the sandbox, where it has one.
    :param new: the sandbox was opened for this call: the model is to be told the handle.
    """
    blocks: list[str] = []
    if result.replaced:
        blocks.append(
            _MARK + "The sandbox had to be replaced since your last call: all variables, files and the "
            "packages' import state are gone. Define again what you need.\n"
        )
    elif result.since == "restored":
        blocks.append(
            _MARK + "The interpreter ended by itself after your last call. The session goes on with the last copy of "
            "its variables; check those that the last call has changed.\n"
        )
    elif result.since == "lost":
        blocks.append(
            _MARK + "The interpreter ended by itself after your last call: all variables and imports are gone, files "
            "are still there. Define again what you need.\n"
        )
    if result.late.written:
        blocks.append(_MARK + "Written since the last call by what it left running:\n")
        blocks.append(_ended(result.late.text(_LATE_SHOWN)))
        blocks.append(_MARK + "End of that.\n")
    shown = result.output.text(settings.output_show)
    blocks.append(shown)
    notes = [_MARK + note for note in _notes(result)]
    if new:
        notes.append(
            f'{_MARK}This is a new sandbox. Pass sandbox="{handle}" to use it again; '
            "it lives as long as this connection."
        )
    if not shown and not notes and not result.late.written:
        notes.append(_MARK + "The code ran and printed nothing.")
    if notes:
        blocks[-1] = _ended(blocks[-1])
        blocks.append("\n".join(notes))
    truncated = result.output.written > settings.output_show
    meta: dict[str, Any] = {
        "outcome": result.outcome,
        "duration_ms": round(result.duration * 1000, 3),
        "sandbox": handle,
        "error": None
        if result.error is None
        else {"type": result.error.type, "message": result.error.message, "line": result.error.line},
        "exit_code": result.exit_code,
        "truncated": {"output": {"total": result.output.written, "shown": settings.output_show}} if truncated else None,
        "files": [],
        "state": result.state,
    }
    return text_answer("".join(blocks), is_error=result.outcome != "ok", meta=meta)


def _notes(result: Result) -> list[str]:
    notes: list[str] = []
    if result.outcome == "timeout":
        notes.append(
            f"The code was stopped when its time limit of {result.timeout:g} s was over. "
            "Do less in one call, or pass a larger `timeout`."
        )
    elif result.outcome == "memory_limit":
        notes.append("The code was killed because it exceeded the sandbox's memory limit. Work on less data at once.")
    elif result.outcome == "crashed":
        notes.append(_crash(result.exit_code))
    elif result.outcome == "cancelled":
        notes.append("The run was cancelled.")
    why = _UNPROTECTED.get(result.unprotected or "", "")
    if result.state == "lost":
        notes.append(
            "The interpreter had to be replaced: all variables and imports are gone, files are still there."
            + (f" They could not be kept because {why}." if why else "")
        )
    elif result.state == "restored":
        notes.append("The session goes on with the variables as they were before this run; files stay as it left them.")
    elif why:
        notes.append(f"A crash or a kill would now lose all variables, because {why}.")
    return notes


_UNPROTECTED = {
    "memory": "there is too little memory left for a copy of them",
    "threads": "a library that runs native threads can't be copied safely",
    "hooks": "code that runs at forks prevented a copy",
    "died": "the copy of them has ended too",
    "EAGAIN": "there are too many processes and threads for another one",
    "ENOMEM": "there is too little memory left for a copy of them",
}


def _crash(exit_code: int | None) -> str:
    if exit_code is None or exit_code >= 0:
        return f"The interpreter ended during the run with exit code {exit_code} (os._exit or the like)."
    import signal

    try:
        name = signal.Signals(-exit_code).name
    except ValueError:
        name = f"signal {-exit_code}"
    return f"The interpreter was killed during the run by {name}."


def _ended(text: str) -> str:
    return text if not text or text.endswith("\n") else text + "\n"


def install_answer(installed: Installed) -> CallToolResult:
    """What is installed now, in words."""
    lines: list[str] = []
    if installed.packages:
        lines.append("Installed, ready to import: " + ", ".join(" ".join(item) for item in installed.packages) + ".")
    if installed.satisfied:
        lines.append("Was there already: " + ", ".join(" ".join(item) for item in installed.satisfied) + ".")
    return text_answer("\n".join(lines))


def failure(message: str, outcome: Outcome = "unavailable") -> CallToolResult:
    """An answer for a call that did not come to run any code."""
    meta: dict[str, Any] = {
        "outcome": outcome,
        "duration_ms": 0,
        "sandbox": None,
        "error": {"type": "AgentRunError", "message": message, "line": None},
        "exit_code": None,
        "truncated": None,
        "files": [],
        "state": "kept",
    }
    return text_answer(_MARK + message, is_error=True, meta=meta)


def text_answer(text: str, *, is_error: bool = False, meta: dict[str, Any] | None = None) -> CallToolResult:
    content = TextContent(type="text", text=_encodable(text))
    if meta is None:
        return CallToolResult(content=[content], is_error=is_error)
    return CallToolResult(content=[content], is_error=is_error, _meta={"agentrun/run": _encodable_values(meta)})


def _encodable(text: str) -> str:
    """*text* without lone surrogates, which JSON can carry and UTF-8 can't."""
    return _UNENCODABLE.sub("\ufffd", text)


def _encodable_values(value: Any) -> Any:
    if isinstance(value, str):
        return _encodable(value)
    if isinstance(value, dict):
        return {key: _encodable_values(item) for key, item in value.items()}  # pyright: ignore
    return value
