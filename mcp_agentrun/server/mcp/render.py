"""Turn results into answers for the model."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from typing import Any, Literal, cast

from mcp.types import CallToolResult, ContentBlock, ImageContent, ResourceLink, TextContent

from ...sandbox import (
    FILES_SHOWN,
    MARK,
    Image,
    Installed,
    Outcome,
    Result,
    State,
    answer_text,
    install_notes,
    mime_type,
)
from ...settings import Settings
from ...spoofing import encodable, plain_text, sanitize
from ..uris import file_uri, output_uri

__all__ = [
    "ANSWER_SIZE",
    "CONNECTION_LIFETIME",
    "failure",
    "install_answer",
    "latest_line",
    "lifetime_of",
    "new_sandbox_note",
    "outcome_of",
    "run_answer",
    "text_answer",
]

CONNECTION_LIFETIME = "it lives as long as this connection"

ANSWER_SIZE = 5 << 17
"""Most binary data in one answer, in bytes: some clients accept at most one megabyte in base64."""

_LONGEST_LINE = 200


def run_answer(
    result: Result,
    *,
    handle: str | None,
    new: bool,
    copied: Sequence[str] = (),
    expired: bool = False,
    lifetime: str = CONNECTION_LIFETIME,
    links: bool = False,
) -> CallToolResult:
    """Return what a terminal would have shown, with marked notes where the model needs them.

    :param handle: the handle of the sandbox, if it has one.
    :param new: the sandbox was opened for this call, so that the model has to learn its handle.
    :param copied: notes about files that were copied to the user's folder.
    :param expired: the client had another sandbox before, which has expired.
    :param lifetime: how long the sandbox lives, as text.
    :param links: add a link to each file.
    """
    limit = result.limits.output_show
    truncated = result.output.collapsed().written > limit
    pictures = _pictures_that_fit(result.images)
    more = [MARK + sanitize(note) for note in copied]
    if truncated:
        more.append(f"{MARK}The output can be read at {output_uri(handle, result.number)}.")
    text = answer_text(
        result,
        pictures=len(pictures),
        expired=expired,
        opened=new_sandbox_note(handle, lifetime) if new else None,
        more=more,
    )
    return text_answer(
        text,
        None,
        *map(_image, pictures),
        *(_links(result, handle) if links else ()),
        is_error=result.outcome != "ok",
        meta=_facts(result, handle, limit if truncated else None),
    )


def _facts(result: Result, handle: str | None, shown: int | None) -> dict[str, Any]:
    """Return the facts for programs.

    :param shown: how many bytes of the output are shown, if not all.
    """
    error = result.error
    return {
        "outcome": result.outcome,
        "duration_ms": round(result.duration * 1000, 3),
        "sandbox": handle,
        "error": None if error is None else {"type": error.type, "message": error.message, "line": error.line},
        "exit_code": result.exit_code,
        "truncated": None if shown is None else {"output": {"total": result.output.written, "shown": shown}},
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


def _pictures_that_fit(pictures: Sequence[Image]) -> Sequence[Image]:
    """Return as many of *pictures* as clients accept in one answer."""
    total = 0
    for count, picture in enumerate(pictures):
        total += len(picture.data)
        if total > ANSWER_SIZE:
            return pictures[:count]
    return pictures


def _image(picture: Image) -> ContentBlock:
    return ImageContent(type="image", data=base64.b64encode(picture.data).decode(), mime_type="image/png")


def _links(result: Result, handle: str | None) -> list[ResourceLink]:
    return [
        ResourceLink(
            type="resource_link",
            name=sanitize(file.path),
            uri=file_uri(handle, file.path),
            mime_type=mime_type(file.path),
            size=file.size,
        )
        for file in result.files[:FILES_SHOWN]
    ]


def latest_line(data: bytes) -> str:
    """Return the last line in *data* that is not blank, as plain text."""
    lines = re.split(r"[\r\n]", plain_text(data.decode("utf-8", "replace")))
    return sanitize(next((line.strip() for line in reversed(lines) if line.strip()), ""), limit=_LONGEST_LINE)


def new_sandbox_note(handle: str | None, lifetime: str) -> str:
    """Return the line that tells a model the handle of a sandbox that was opened for its call."""
    return f'{MARK}This is a new sandbox. Pass sandbox="{handle}" to use it again; {lifetime}.'


def lifetime_of(settings: Settings | None) -> str:
    """Say how long a sandbox lives: by *settings*, or as long as its connection if None."""
    if settings is None:
        return CONNECTION_LIFETIME
    unused, total = _minutes(settings.serve.idle_ttl), _minutes(settings.serve.max_ttl)
    return f"it is closed after {unused} without use, or {total} in all"


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:g} minutes" if seconds >= 60 else f"{seconds:g} seconds"


def install_answer(installed: Installed, *, note: str | None = None) -> CallToolResult:
    """Return what an installation has changed, followed by *note*."""
    return text_answer("\n".join(map(sanitize, install_notes(installed))), note)


def failure(
    message: str, outcome: Outcome | Literal["unavailable"] = "unavailable", state: State = "kept"
) -> CallToolResult:
    """Return the answer to a call that ran no code, or whose sandbox was lost."""
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
    return text_answer(MARK + sanitize(message, lines=True), is_error=True, meta=meta)


def outcome_of(result: CallToolResult) -> str:
    """Return the outcome of the call that *result* answers."""
    facts: dict[str, Any] = (result.meta or {}).get("agentrun/run") or {}
    return str(facts.get("outcome") or ("error" if result.is_error else "ok"))


def text_answer(
    text: str,
    note: str | None = None,
    *blocks: ContentBlock,
    is_error: bool = False,
    meta: dict[str, Any] | None = None,
) -> CallToolResult:
    """Return an answer of one block of text, and other *blocks*. Lone surrogates, which UTF-8 can't encode, are
    replaced.

    :param note: more lines for the model, below *text*.
    :param meta: facts for programs.
    """
    if note:
        text = f"{text}\n{note}" if text and not text.endswith("\n") else text + note
    content = [TextContent(type="text", text=encodable(text)), *blocks]
    if meta is None:
        return CallToolResult(content=content, is_error=is_error)
    return CallToolResult(content=content, is_error=is_error, _meta={"agentrun/run": _foreign_values(meta)})


def _foreign_values(value: Any) -> Any:
    if isinstance(value, str):
        return sanitize(value, lines=True)
    if isinstance(value, dict):
        return {key: _foreign_values(item) for key, item in cast("dict[str, Any]", value).items()}
    if isinstance(value, list):
        return [_foreign_values(item) for item in cast("list[Any]", value)]
    return value
