"""Answers of the tools for files."""

from __future__ import annotations

import base64

from mcp.types import BlobResourceContents, CallToolResult, EmbeddedResource, ImageContent

from ...sandbox import MARK, FileInfo, FilePage, mime_type, size_text
from ...spoofing import escape_marks, quoted, sanitize
from ..uris import file_uri
from .render import ANSWER_SIZE, text_answer
from .resources import contents_of

__all__ = ["file_answer", "file_list", "file_written"]

_PICTURES = {
    b"\x89PNG\r\n\x1a\n": "image/png",
    b"\xff\xd8\xff": "image/jpeg",
    b"GIF87a": "image/gif",
    b"GIF89a": "image/gif",
}


def file_written(file: FileInfo, *, note: str | None) -> CallToolResult:
    """Return what `write_file` has written.

    :param note: an additional line for the model.
    """
    return text_answer(f"Written: {quoted(file.path)} ({size_text(file.size)}).", note)


def file_list(folder: str, page: FilePage, *, note: str | None) -> CallToolResult:
    """Return one line for each file of *page*."""
    lines = [f"{sanitize(file.path)} ({size_text(file.size)})" for file in page.files]
    if not lines:
        lines = [f"{MARK}There are no files in {quoted(folder)}."]
    elif page.more:
        at_least = "At least " if page.is_cut else ""
        lines.append(f"{MARK}{at_least}{page.more} more files are not shown. List a folder below this one to see them.")
    return text_answer("\n".join(lines), note)


def file_answer(
    path: str, data: bytes, offset: int, length: int, *, handle: str | None, note: str | None
) -> CallToolResult:
    """Return the content of a file: text from *offset*, at most *length* characters; a picture; or an attachment.

    :param handle: the handle of the sandbox, if it has one.
    """
    content = contents_of(data, file_uri(handle, path), mime_type(path))
    if not isinstance(content, BlobResourceContents):
        return _text(content.text, offset, length, note)
    picture = _picture_type(data)
    if picture is not None and len(data) <= ANSWER_SIZE:
        image = ImageContent(type="image", data=content.blob, mime_type=picture)
        return text_answer(f"{MARK}{quoted(path)} is a picture ({size_text(len(data))}).", note, image)
    part = data[offset : offset + min(length, ANSWER_SIZE)]
    blob = BlobResourceContents(uri=content.uri, blob=base64.b64encode(part).decode(), mime_type=content.mime_type)
    shown = f"{offset} to {offset + len(part)} of {len(data)}"
    text = f"{MARK}{quoted(path)} is not text. Bytes {shown} are attached as {blob.mime_type}."
    return text_answer(text, note, EmbeddedResource(type="resource", resource=blob))


def _text(text: str, offset: int, length: int, note: str | None) -> CallToolResult:
    shown = escape_marks(text[offset : offset + length])
    end = min(offset + length, len(text))
    if offset == 0 and end == len(text):
        return text_answer(shown if shown else f"{MARK}The file is empty.", note)
    more = f" Continue with offset={end}." if end < len(text) else ""
    newline = "" if not shown or shown.endswith("\n") else "\n"
    return text_answer(f"{shown}{newline}{MARK}Characters {min(offset, end)} to {end} of {len(text)}.{more}", note)


def _picture_type(data: bytes) -> str | None:
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    return next((type_ for start, type_ in _PICTURES.items() if data.startswith(start)), None)
