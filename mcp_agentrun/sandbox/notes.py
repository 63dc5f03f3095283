"""What a model reads of a run or an installation: output, and notes of the server in lines of their own."""

from __future__ import annotations

import mimetypes
import re
import signal
from collections.abc import Iterable, Sequence

from ..packages.installed import Installed
from ..safety import Finding
from ..spoofing import escape_marks, quoted, sanitize
from .result import KEEPING_RESET, Output, Result

__all__ = [
    "EXPIRED",
    "FILES_SHOWN",
    "MARK",
    "answer_text",
    "content_notes",
    "describe",
    "history_notes",
    "install_notes",
    "mime_type",
    "run_notes",
    "size_text",
]

MARK = "[agentrun] "
"""Beginning of the lines that do not come from code."""

EXPIRED = (
    "Your sandbox was closed, because it was unused or reached its maximum age. This is a new one: all variables, "
    "files and packages are gone. Define again what you need."
)
FILES_SHOWN = 20
_LATE_SHOWN = 4096
_FINDINGS_SHOWN = 5
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+!-]{,99}")

_UNPROTECTED = {
    "memory": "there is too little memory left for a copy of them",
    "threads": "a library that runs native threads can't be copied safely",
    "hooks": "code that runs at forks prevented a copy",
    "died": "their copy was terminated as well",
    "EAGAIN": "there are too many processes and threads for another one",
    "ENOMEM": "there is too little memory left for a copy of them",
}
_TYPES = {"csv": "text/csv", "md": "text/markdown", "py": "text/x-python", "json": "application/json"}
"""Types that some systems' tables lack or define differently."""
_SIGNALS = {"SIGSYS": ": the sandbox does not allow that system call", "SIGXFSZ": ": a file grew too large"}


def describe(result: Result, *, images: bool = False, limit: int | None = None) -> str:
    """Return what a model should read of *result*, as the MCP server's ``run_python`` answers.

    It is what a terminal would have shown. Lines that begin with ``[agentrun]`` say what code did not print: a limit
    that fired, why nothing was run, what was installed, which files were created, what happened to the variables.
    Code can't forge such lines.

    :param images: the images of *result* are sent to the model as well, after this text.
    :param limit: longest output shown, in bytes; of longer output, its beginning and end. The setting ``output_show``
        if None.
    """
    return answer_text(result, limit=limit, pictures=len(result.images) if images else 0)


def answer_text(
    result: Result,
    *,
    pictures: int,
    limit: int | None = None,
    expired: bool = False,
    opened: str | None = None,
    more: Sequence[str] = (),
) -> str:
    """Return the text of an answer, as `describe` does.

    :param pictures: how many of the pictures are in the answer.
    :param expired: the client had another sandbox before, which has expired.
    :param opened: a line about a sandbox that was opened for this call.
    :param more: lines at the end.
    """
    shown = _shown(result.output.collapsed(), result.limits.output_show if limit is None else limit)
    lines = [MARK + sanitize(note, lines=True) for note in run_notes(result)]
    lines += [opened] if opened else []
    lines += [MARK + sanitize(note) for note in content_notes(result, pictures)]
    lines += more
    if not shown and not lines and not result.late.written:
        end = f"The code ended with exit code {result.exit_code}" if result.exit_code else "The code ran"
        lines = [f"{MARK}{end} and printed nothing."]
    text = _before(result, expired=expired) + shown
    return _with_newline(text) + "\n".join(lines) if lines else text


def _before(result: Result, *, expired: bool) -> str:
    """Return what comes before the output of the run: what happened since the last call."""
    blocks = [f"{MARK}{note}\n" for note in history_notes(result, expired=expired)]
    if result.late.written:
        blocks += (
            f"{MARK}Output since the last call from background threads:\n",
            _with_newline(_shown(result.late, _LATE_SHOWN)),
            f"{MARK}End of background output.\n",
        )
    return "".join(blocks)


def _shown(output: Output, limit: int) -> str:
    """Return at most *limit* bytes of *output* as text that can't be mistaken for a note."""
    head, gap, tail = output.parts(limit)
    if not gap:
        return escape_marks(head)
    note = f"{MARK}{gap} of {output.written} bytes of output are not shown here."
    return f"{_with_newline(escape_marks(head))}{note}\n{escape_marks(tail)}"


def _with_newline(text: str) -> str:
    return text if not text or text.endswith("\n") else text + "\n"


def history_notes(result: Result, *, expired: bool) -> list[str]:
    """Say what happened to the session since the last call.

    :param expired: the client's sandbox has expired, and this is a new one.
    """
    notes = [EXPIRED] if expired else []
    if result.replaced:
        notes.append(
            "The sandbox had to be replaced since your last call: all variables, imports and files are gone, installed "
            "packages are still there. Define again what you need."
        )
    elif result.since == "restored":
        notes.append(
            "The interpreter ended during or after your last call. The session continues with the last copy of its "
            "variables; check those that the last call changed."
        )
    elif result.since == "lost":
        notes.append(
            "The interpreter ended during or after your last call: all variables and imports are gone, files are still "
            "there. Define again what you need."
        )
    return notes


def run_notes(result: Result) -> list[str]:
    """Say how the run ended, and what the model can do about it."""
    if result.outcome == "blocked":
        return _objections("Nothing was run.", result.findings)
    notes = _outcome_notes(result)
    if result.advice is not None:
        notes.append(result.advice)
    if result.installed is not None:
        notes += install_notes(result.installed)
    if result.missing_packages is not None:
        notes.append(result.missing_packages)
    if result.findings:
        notes += _objections("The code was run despite the static check's objections.", result.findings)
    if result.ended > 0:
        processes = "1 process was" if result.ended == 1 else f"{result.ended} processes were"
        notes.append(f"{processes} still running and ended with the call: none outlives the call that starts it.")
    return notes + _state_notes(result)


def _outcome_notes(result: Result) -> list[str]:
    note = ""
    if result.outcome == "timeout":
        larger = f", or pass a larger `timeout`: at most {result.limits.max_timeout:g}"
        note = (
            f"The code exceeded its time limit of {result.timeout:g} s. Do less in one call"
            f"{larger if result.timeout < result.limits.max_timeout else ''}."
        )
    elif result.outcome == "memory_limit":
        note = (
            f"The code was killed because it needed more than the sandbox's {_mebibytes(result.limits.memory)} of "
            "memory, which also hold the files in /workspace, /tmp and /dev/shm. Work on less data at once, or delete "
            "what you no longer need."
        )
    elif result.outcome == "crashed":
        note = _crash(result.exit_code)
    elif result.outcome == "cancelled":
        note = "The run was cancelled."
    return [note] if note else []


def _crash(exit_code: int | None) -> str:
    if exit_code is None or exit_code >= 0:
        return f"The interpreter ended during the run with exit code {exit_code} (os._exit or the like)."
    try:
        name = signal.Signals(-exit_code).name
    except ValueError:
        name = f"signal {-exit_code}"
    return f"The interpreter was killed during the run by {name}{_SIGNALS.get(name, '')}."


def _state_notes(result: Result) -> list[str]:
    why = _UNPROTECTED.get(result.unprotected or "", "")
    if result.state == "lost" and result.exit_code is None:  # which only a container can report
        return ["The sandbox was closed or lost: its variables and files are gone."]
    if result.state == "lost":
        reason = f" They could not be restored because {why}." if why else ""
        return [
            f"The interpreter had to be replaced: all variables and imports are gone, files are still there.{reason}"
        ]
    if result.state == "restored":
        return ["The session continues with the variables as they were before this run; files stay as it left them."]
    return [f"A crash or a kill would now lose all variables, because {why}."] if why else []


def _objections(summary: str, findings: Sequence[Finding]) -> list[str]:
    """List *findings* below *summary*: what is wrong where, and what to do instead."""
    notes = [summary]
    for finding in findings[:_FINDINGS_SHOWN]:
        place = f"Line {finding.line}, column {finding.column}: " if finding.line else ""
        notes.append(f"{place}{sanitize(finding.reason)} (rule {sanitize(finding.rule)})\n  {sanitize(finding.remedy)}")
    if len(findings) > _FINDINGS_SHOWN:
        notes.append(f"And {len(findings) - _FINDINGS_SHOWN} more.")
    return notes


def content_notes(result: Result, pictures: int) -> list[str]:
    """List the pictures and files of a run.

    :param pictures: how many of the pictures are in the answer.
    """
    notes: list[str] = []
    shown = result.images[:pictures]
    if shown:
        sizes = ", ".join(f"{picture.width} x {picture.height}" for picture in shown)
        notes.append(f"{len(shown)} picture{'s' if len(shown) > 1 else ''} below: {sizes} pixels.")
    if len(shown) < len(result.images):
        more = len(result.images) - len(shown)
        notes.append(
            f"{more} more pictures are not shown; show fewer in one call."
            if shown
            else f"{'1 picture was' if more == 1 else f'{more} pictures were'} drawn, and can't be shown here."
        )
    for change in ("created", "changed"):
        files = [file for file in result.files if file.change == change]
        if files:
            names = [f"{quoted(file.path)} ({size_text(file.size)}, {mime_type(file.path)})" for file in files]
            more = len(files) - FILES_SHOWN
            notes.append(
                f"{change.capitalize()}: {', '.join(names[:FILES_SHOWN])}{f' and {more} more' if more > 0 else ''}."
            )
    if result.more_files:
        notes.append(f"{result.more_files} more files were created or changed.")
    return notes


def mime_type(path: str) -> str:
    """Return the media type that the name of a file suggests."""
    return _TYPES.get(path.rpartition(".")[2].lower()) or mimetypes.guess_type(path)[0] or "application/octet-stream"


def install_notes(installed: Installed) -> list[str]:
    """Say what an installation has changed, and when that takes effect."""
    notes: list[str] = []
    if installed.packages:
        ready = "" if installed.needs_reset else ", ready to import"
        notes.append(f"Installed{ready}: {_versions(installed.packages)}.")
        needs = installed.needs.items()
        notes += [f"For its main purpose, {name} needs what the sandbox lacks: {what}." for name, what in needs]
    if installed.satisfied:
        notes.append(f"Already installed: {_versions(installed.satisfied)}.")
    if installed.skipped:
        notes.append(f"Skipped because of the environment marker: {_names(installed.skipped)}.")
    if installed.removed:
        notes.append(f"Removed: {_versions(installed.removed)}.")
    if installed.changed:
        changes = [f"{_name(name)} from {_name(before)} to {_name(now)}" for name, before, now in installed.changed]
        notes.append(f"Changed: {', '.join(changes)}.")
    if installed.stale:
        notes.append(
            f"Already imported: {_names(installed.stale)}. The earlier version stays in use until {KEEPING_RESET}."
        )
    if installed.needs_reset:
        notes.append(
            f"This takes effect with {KEEPING_RESET}, which forgets the variables. Until then the session stays as it "
            f"was, because it has already loaded the earlier version of {_names(installed.needs_reset)}."
        )
    notes += installed.notes
    if installed.missing_packages is not None:
        notes.append(installed.missing_packages)
    return notes or ["Nothing needed to be installed."]


def _names(names: Iterable[str]) -> str:
    return ", ".join(map(_name, names))


def _versions(items: Iterable[tuple[str, str]]) -> str:
    return ", ".join(f"{_name(name)} {_name(version)}" for name, version in items)


def _name(text: str) -> str:
    """Return a package's name or version, in quotes if it is not valid."""
    return text if _NAME.fullmatch(text) else quoted(text)


def _mebibytes(size: int) -> str:
    return f"{size / (1 << 20):.4g} MiB"


def size_text(size: int) -> str:
    """Return *size* in bytes with a unit."""
    return f"{size} B" if size < 1 << 10 else f"{size / (1 << 10):.3g} KiB" if size < 1 << 20 else _mebibytes(size)
