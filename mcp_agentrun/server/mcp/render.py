"""From what the sandbox says to what the model reads."""

from __future__ import annotations

import base64
import mimetypes
import re
from collections.abc import Iterable, Sequence
from typing import Any
from urllib.parse import quote

from mcp.types import CallToolResult, ImageContent, ResourceLink, TextContent

from ...packages.installer import Installed
from ...packages.known import LACKS
from ...safety import Finding
from ...sandbox import Outcome, Output, Picture, Result, State
from ...sandbox.result import KEEPING_RESET
from ...settings import Settings
from ...spoofing import foreign, plain_text, quoted, unmarked

__all__ = [
    "CONNECTION_LIFETIME",
    "OWN",
    "failure",
    "file_uri",
    "install_answer",
    "latest_line",
    "mime_type",
    "new_sandbox",
    "outcome_of",
    "output_uri",
    "run_answer",
    "text_answer",
]

_MARK = "[agentrun] "
_LATE_SHOWN = 4096
_FILES_SHOWN = 20
_PICTURES_SIZE = 5 << 17  # some clients take no answer of more than a megabyte, in base64
_LINE = 200
OWN = "own"
"""In a URI, in place of a handle: the client's own sandbox."""

_FINDINGS_SHOWN = 5
_UNENCODABLE = re.compile("[\ud800-\udfff]")


CONNECTION_LIFETIME = "it lives as long as this connection"


def run_answer(
    result: Result,
    settings: Settings,
    *,
    handle: str | None,
    new: bool,
    copied: Sequence[str] = (),
    expired: bool = False,
    lifetime: str = CONNECTION_LIFETIME,
) -> CallToolResult:
    """What a terminal would have shown, and a marked line of ours wherever the model needs one.

    :param handle: the handle of the sandbox, where it has one.
    :param new: the sandbox was opened for this call: the model is to be told the handle.
    :param copied: what to say of files that were copied to the user's folder.
    :param expired: the client had another one before, which has been closed.
    :param lifetime: how long the sandbox lives, in words.
    """
    blocks: list[str] = []
    if expired:
        blocks.append(
            _MARK + "Your sandbox was closed, because it was not used or its time was over. This is a new one: all "
            "variables, files and packages are gone. Define again what you need.\n"
        )
    if result.replaced:
        blocks.append(
            _MARK + "The sandbox had to be replaced since your last call: all variables, imports and files are "
            "gone, installed packages are still there. Define again what you need.\n"
        )
    elif result.since == "restored":
        blocks.append(
            _MARK + "The interpreter ended in or after your last call. The session goes on with the last copy of "
            "its variables; check those that the last call has changed.\n"
        )
    elif result.since == "lost":
        blocks.append(
            _MARK + "The interpreter ended in or after your last call: all variables and imports are gone, files "
            "are still there. Define again what you need.\n"
        )
    if result.late.written:
        blocks.append(_MARK + "Written since the last call by what it left running:\n")
        blocks.append(_ended(_shown(result.late, _LATE_SHOWN)))
        blocks.append(_MARK + "End of that.\n")
    output = result.output.collapsed()
    shown = _shown(output, settings.limits.output_show)
    blocks.append(shown)
    notes = [_MARK + foreign(note, lines=True) for note in _notes(result, settings)]
    if new:
        notes.append(new_sandbox(handle, lifetime))
    notes += [_MARK + foreign(note) for note in (*_things(result), *copied)]
    truncated = output.written > settings.limits.output_show
    if truncated:
        notes.append(f"{_MARK}The output can be read at {output_uri(handle, result.number)}.")
    if not shown and not notes and not result.late.written:
        end = f"The code ended with exit code {result.exit_code}" if result.exit_code else "The code ran"
        notes.append(f"{_MARK}{end} and printed nothing.")
    if notes:
        blocks[-1] = _ended(blocks[-1])
        blocks.append("\n".join(notes))
    meta: dict[str, Any] = {
        "outcome": result.outcome,
        "duration_ms": round(result.duration * 1000, 3),
        "sandbox": handle,
        "error": None
        if result.error is None
        else {"type": result.error.type, "message": result.error.message, "line": result.error.line},
        "exit_code": result.exit_code,
        "truncated": {"output": {"total": result.output.written, "shown": settings.limits.output_show}}
        if truncated
        else None,
        "files": [
            {
                "path": file.path,
                "size": file.size,
                "mimeType": mime_type(file.path),
                "change": file.change,
                "uri": file_uri(handle, file.path),
            }
            for file in result.files
        ],
        "state": result.state,
    }
    answer = text_answer("".join(blocks), is_error=result.outcome != "ok", meta=meta)
    if result.pictures:
        answer.content += [
            ImageContent(type="image", data=base64.b64encode(picture.data).decode(), mime_type="image/png")
            for picture in _that_fit(result.pictures)
        ]
    answer.content += [
        ResourceLink(
            type="resource_link",
            name=foreign(file.path),
            uri=file_uri(handle, file.path),
            mime_type=mime_type(file.path),
            size=file.size,
        )
        for file in result.files[:_FILES_SHOWN]
    ]
    return answer


def _that_fit(pictures: Sequence[Picture]) -> Sequence[Picture]:
    """As many of *pictures* as a client accepts in one answer."""
    total = 0
    for count, picture in enumerate(pictures):
        total += len(picture.data)
        if total > _PICTURES_SIZE:
            return pictures[:count]
    return pictures


def _things(result: Result) -> list[str]:
    """What there is beside text, in words."""
    notes: list[str] = []
    shown = _that_fit(result.pictures)
    if shown:
        sizes = ", ".join(f"{picture.width} x {picture.height}" for picture in shown)
        notes.append(f"{len(shown)} picture{'s' if len(shown) > 1 else ''} below: {sizes} pixels.")
    if len(shown) < len(result.pictures):
        notes.append(f"{len(result.pictures) - len(shown)} more pictures are not shown; show fewer in one call.")
    for change in ("created", "changed"):
        files = [file for file in result.files if file.change == change]
        if files:
            named = [f"{quoted(file.path)} ({_amount(file.size)}, {mime_type(file.path)})" for file in files]
            more = len(files) - _FILES_SHOWN
            notes.append(
                f"{change.capitalize()}: {', '.join(named[:_FILES_SHOWN])}{f' and {more} more' if more > 0 else ''}."
            )
    if result.more_files:
        notes.append(f"{result.more_files} more files were created or changed.")
    return notes


def file_uri(handle: str | None, path: str) -> str:
    """Where a client can read a file of the workspace."""
    return f"agentrun://{handle or OWN}/files/{quote(path.encode('utf-8', 'surrogateescape'))}"


def output_uri(handle: str | None, run: int) -> str:
    """Where a client can read the output of a run as far as it is kept."""
    return f"agentrun://{handle or OWN}/runs/{run}/output"


def mime_type(path: str) -> str:
    """What the name of a file says of its content."""
    return _TYPES.get(path.rpartition(".")[2].lower()) or mimetypes.guess_type(path)[0] or "application/octet-stream"


_TYPES = {"csv": "text/csv", "md": "text/markdown", "py": "text/x-python", "json": "application/json"}
"""Types that the tables of some systems lack or give otherwise."""


def latest_line(data: bytes) -> str:
    """The last line in *data* that says something, as plain text."""
    lines = re.split(r"[\r\n]", plain_text(data.decode("utf-8", "replace")))
    return foreign(next((line.strip() for line in reversed(lines) if line.strip()), ""), limit=_LINE)


def _shown(output: Output, limit: int) -> str:
    """*output* as far as it is shown, in which nothing looks like a line of ours."""
    head, gap, tail = output.parts(limit)
    if not gap:
        return unmarked(head)
    marked = f"{_MARK}{gap} of {output.written} bytes of output are not shown here."
    return f"{_ended(unmarked(head))}{marked}\n{unmarked(tail)}"


def _amount(size: int) -> str:
    return f"{size} B" if size < 1 << 10 else f"{size / (1 << 10):.3g} KiB" if size < 1 << 20 else _size(size)


def _notes(result: Result, settings: Settings) -> list[str]:
    notes: list[str] = []
    if result.outcome == "blocked":
        return _objections("Nothing was run.", result.findings)
    if result.outcome == "timeout":
        notes.append(
            f"The code was stopped when its time limit of {result.timeout:g} s was over. Do less in one call"
            + (
                f", or pass a larger `timeout`: at most {settings.limits.max_timeout:g}."
                if result.timeout < settings.limits.max_timeout
                else "."
            )
        )
    elif result.outcome == "memory_limit":
        notes.append(
            f"The code was killed because it needed more than the sandbox's {_size(settings.limits.memory)} of memory, "
            "which also hold the files in /workspace, /tmp and /dev/shm. Work on less data at once, or delete what you "
            "no longer need."
        )
    elif result.outcome == "crashed":
        notes.append(_crash(result.exit_code))
    elif result.outcome == "cancelled":
        notes.append("The run was cancelled.")
    if result.advice is not None:
        notes.append(result.advice)
    if result.installed is not None:
        notes += _install_lines(result.installed)
    if result.lacking is not None:
        notes.append(result.lacking)
    if result.findings:
        notes += _objections("The code was run, but the static check objects.", result.findings)
    if result.ended > 0:
        what = "1 process was" if result.ended == 1 else f"{result.ended} processes were"
        notes.append(f"{what} still running and ended with the call: none outlives the call that starts it.")
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
        what = f"{place}{foreign(finding.reason)} (rule {foreign(finding.rule)})"
        notes.append(f"{what}\n  {foreign(finding.remedy)}")
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


def new_sandbox(handle: str | None, lifetime: str) -> str:
    """The line by which a model learns the handle of a sandbox that was opened for its call."""
    return f'{_MARK}This is a new sandbox. Pass sandbox="{handle}" to use it again; {lifetime}.'


def install_answer(installed: Installed, *, note: str | None = None) -> CallToolResult:
    """What is installed now, in words, and *note*."""
    return text_answer("\n".join([*map(foreign, _install_lines(installed)), *([note] if note else [])]))


def _install_lines(installed: Installed) -> list[str]:
    lines: list[str] = []
    if installed.packages:
        ready = "" if installed.waiting else ", ready to import"
        lines.append(f"Installed{ready}: {_named(installed.packages)}.")
        names = [name for name, _ in installed.packages if name in LACKS]
        lines += [f"For its main purpose, {name} needs what the sandbox lacks: {LACKS[name]}." for name in names]
    if installed.satisfied:
        lines.append("Was there already: " + _named(installed.satisfied) + ".")
    if installed.skipped:
        lines.append(f"Not needed here, by the marker: {_listed(installed.skipped)}.")
    if installed.removed:
        lines.append("Removed: " + _named(installed.removed) + ".")
    if installed.changed:
        changes = ", ".join(
            f"{_name(name)} from {_name(before)} to {_name(now)}" for name, before, now in installed.changed
        )
        lines.append(f"Changed: {changes}.")
    if installed.stale:
        lines.append(
            f"Imported before in the earlier version: {_listed(installed.stale)}. That one stays in use "
            f"until {KEEPING_RESET}."
        )
    if installed.waiting:
        lines.append(
            f"This takes effect with {KEEPING_RESET}, which forgets the variables. Until then the session stays as it "
            f"was, because it has already loaded the earlier version of {_listed(installed.waiting)}."
        )
    lines += installed.notes
    if installed.lacking is not None:
        lines.append(installed.lacking)
    return lines or ["Nothing had to be installed."]


def _listed(names: Iterable[str]) -> str:
    return ", ".join(map(_name, names))


def _named(items: Iterable[tuple[str, str]]) -> str:
    return ", ".join(f"{_name(name)} {_name(version)}" for name, version in items)


def _name(text: str) -> str:
    """A package's name or version, in quotes if it can't be one."""
    return text if _NAME.fullmatch(text) else quoted(text)


_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+!-]{,99}")


def failure(message: str, outcome: Outcome = "unavailable", state: State = "kept") -> CallToolResult:
    """An answer for a call that did not come to run any code, or in which the sandbox was lost."""
    meta: dict[str, Any] = {
        "outcome": outcome,
        "duration_ms": 0,
        "sandbox": None,
        "error": {"type": "AgentRunError", "message": message, "line": None},
        "exit_code": None,
        "truncated": None,
        "files": [],
        "state": state,
    }
    return text_answer(_MARK + foreign(message, lines=True), is_error=True, meta=meta)


def outcome_of(result: CallToolResult) -> str:
    """How the call ended that *result* answers."""
    facts: dict[str, Any] = (result.meta or {}).get("agentrun/run") or {}
    return str(facts.get("outcome") or ("error" if result.is_error else "ok"))


def text_answer(text: str, *, is_error: bool = False, meta: dict[str, Any] | None = None) -> CallToolResult:
    content = TextContent(type="text", text=_encodable(text))
    if meta is None:
        return CallToolResult(content=[content], is_error=is_error)
    return CallToolResult(content=[content], is_error=is_error, _meta={"agentrun/run": _foreign_values(meta)})


def _encodable(text: str) -> str:
    """*text* without lone surrogates, which JSON can carry and UTF-8 can't."""
    return _UNENCODABLE.sub("\ufffd", text)


def _foreign_values(value: Any) -> Any:
    if isinstance(value, str):
        return foreign(value, lines=True)
    if isinstance(value, dict):
        return {key: _foreign_values(item) for key, item in value.items()}  # pyright: ignore
    if isinstance(value, list):
        return [_foreign_values(item) for item in value]  # pyright: ignore
    return value
