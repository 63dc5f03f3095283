"""From what the sandbox says to what the model reads."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from mcp.types import CallToolResult, TextContent

from ..packages.installer import Installed
from ..safety import Finding
from ..sandbox import Outcome, Result, RunError
from ..settings import Settings

__all__ = ["failure", "install_answer", "run_answer", "text_answer"]

_MARK = "[agentrun] "
_LATE_SHOWN = 4096
_FINDINGS_SHOWN = 5
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
    notes = [_MARK + note for note in _notes(result, settings)]
    if new:
        notes.append(
            f'{_MARK}This is a new sandbox. Pass sandbox="{handle}" to use it again; '
            "it lives as long as this connection."
        )
    if not shown and not notes and not result.late.written:
        end = f"The code ended with exit code {result.exit_code}" if result.exit_code else "The code ran"
        notes.append(f"{_MARK}{end} and printed nothing.")
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


def _notes(result: Result, settings: Settings) -> list[str]:
    notes: list[str] = []
    if result.outcome == "blocked":
        return _objections("Nothing was run.", result.findings)
    if result.outcome == "timeout":
        notes.append(
            f"The code was stopped when its time limit of {result.timeout:g} s was over. Do less in one call"
            + (
                f", or pass a larger `timeout`: at most {settings.max_timeout:g}."
                if result.timeout < settings.max_timeout
                else "."
            )
        )
    elif result.outcome == "memory_limit":
        notes.append(
            f"The code was killed because it needed more than the sandbox's {_size(settings.memory)} of memory, which "
            "also hold the files in /workspace, /tmp and /dev/shm. Work on less data at once, or delete what you no "
            "longer need."
        )
    elif result.outcome == "crashed":
        notes.append(_crash(result.exit_code))
    elif result.outcome == "cancelled":
        notes.append("The run was cancelled.")
    elif result.error is not None:
        notes += _limit(result.error, settings)
    if result.installed is not None:
        notes += [f"For its imports: {line}" for line in _install_lines(result.installed)]
    if result.advice is not None:
        notes.append(result.advice)
    if result.findings:
        notes += _objections("The code was run, but the static check objects.", result.findings)
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


def _objections(what: str, findings: Sequence[Finding]) -> list[str]:
    """*what*, and in two lines each what is wrong where, and what to do instead."""
    notes = [what]
    for finding in findings[:_FINDINGS_SHOWN]:
        place = f"Line {finding.line}, column {finding.column}: " if finding.line else ""
        notes.append(f"{place}{finding.reason} (rule {finding.rule})\n  {finding.remedy}")
    if len(findings) > _FINDINGS_SHOWN:
        notes.append(f"And {len(findings) - _FINDINGS_SHOWN} more.")
    return notes


_UNPROTECTED = {
    "memory": "there is too little memory left for a copy of them",
    "threads": "a library that runs native threads can't be copied safely",
    "hooks": "code that runs at forks prevented a copy",
    "died": "the copy of them has ended too",
    "EAGAIN": "there are too many processes and threads for another one",
    "ENOMEM": "there is too little memory left for a copy of them",
}


def _limit(error: RunError, settings: Settings) -> list[str]:
    """Which limit of the sandbox is behind *error*, if one is; the numbers are Linux's, whatever this machine runs."""
    notes = {
        11: f"The sandbox allows {settings.pids} processes and threads at a time. End some before you start more.",
        12: f"The sandbox has {_size(settings.memory)} of memory in all. Work on less data at once.",
        24: f"A process may have {settings.open_files} files open at a time. Close some.",
        27: f"A file may have at most {_size(settings.workspace_size)}. Write less, or in several files.",
        30: "Only /workspace, /tmp and /dev/shm can be written to.",
    }
    if settings.network == "none":
        notes |= dict.fromkeys(
            (97, 101, 113), "The sandbox has no network. Data must come with the code, packages with install_package."
        )
    if error.errno == 28:
        sizes = {"/workspace": settings.workspace_size, "/tmp": settings.tmp_size, "/dev/shm": settings.shm_size}  # noqa: S108
        return [
            f"{folder} is full: it holds {_size(sizes[folder])} and {settings.inodes} files and folders at most. "
            "Delete some."
            for folder in error.full
        ]
    return [notes[error.errno]] if error.errno in notes else []


def _size(size: int) -> str:
    return f"{size / (1 << 20):.4g} MiB"


def _crash(exit_code: int | None) -> str:
    if exit_code is None or exit_code >= 0:
        return f"The interpreter ended during the run with exit code {exit_code} (os._exit or the like)."
    import signal

    try:
        name = signal.Signals(-exit_code).name
    except ValueError:
        name = f"signal {-exit_code}"
    meaning = {"SIGSYS": ": the sandbox does not allow that system call", "SIGXFSZ": ": a file grew too large"}
    return f"The interpreter was killed during the run by {name}{meaning.get(name, '')}."


def _ended(text: str) -> str:
    return text if not text or text.endswith("\n") else text + "\n"


def install_answer(installed: Installed) -> CallToolResult:
    """What is installed now, in words."""
    return text_answer("\n".join(_install_lines(installed)))


def _install_lines(installed: Installed) -> list[str]:
    lines: list[str] = []
    if installed.packages:
        lines.append("Installed, ready to import: " + ", ".join(" ".join(item) for item in installed.packages) + ".")
    if installed.satisfied:
        lines.append("Was there already: " + ", ".join(" ".join(item) for item in installed.satisfied) + ".")
    if installed.changed:
        changes = ", ".join(f"{name} from {before} to {now}" for name, before, now in installed.changed)
        lines.append(
            f"Changed: {changes}. Where it has been imported already, the old version stays in use until "
            "reset_sandbox(keep_packages=True, keep_files=True)."
        )
    return lines or ["Nothing had to be installed."]


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
