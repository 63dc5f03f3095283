"""Files of a sandbox: listed, downloaded, uploaded and removed."""

from __future__ import annotations

import hashlib
import re
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Annotated
from urllib.parse import unquote_to_bytes

from fastapi import APIRouter, Depends, Query, Request
from starlette.convertors import PathConvertor, register_url_convertor
from starlette.exceptions import HTTPException
from starlette.responses import Response

from ...sandbox import mime_type
from ...sessions import Caller, SessionManager
from .context import CallerOf, Sessions, StreamedResponse, opened, while_connected
from .models import FileAnswer, FileList
from .problems import OWN_API, problems

__all__ = ["router"]

_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")
_BINARY = {"schema": {"type": "string", "contentMediaType": "application/octet-stream"}}

router = APIRouter(prefix=f"{OWN_API}/{{sandbox}}/files", tags=["Files"])


class _FilePath(PathConvertor):
    """A path that may have line breaks."""

    regex = "(?s:.*)"


register_url_convertor("file", _FilePath())


async def _exact_path(path: str, request: Request) -> str:
    """Return the path of the file. Starlette's has lost bytes that are not UTF-8."""
    raw: bytes = request.scope.get("raw_path") or b""
    exact = unquote_to_bytes(raw.partition(b"?")[0].split(b"/", 5)[-1]).decode("utf-8", "surrogateescape")
    return exact if exact.encode("utf-8", "surrogateescape").decode("utf-8", "replace") == path else path


Path = Annotated[str, Depends(_exact_path)]


@router.get("", responses=problems(404, 409, 413, 422, 503))
async def list_files(
    sandbox: str,
    sessions: Sessions,
    caller: CallerOf,
    folder: Annotated[str, Query(description="List the files below this folder.")] = ".",
    after: Annotated[str, Query(description="List the files after this path.")] = "",
) -> FileList:
    """List files, at most 500 at a time. It does not wait for runs."""
    with opened(sessions, caller, sandbox) as found:
        return FileList.of(await found.files.page(folder, after=after))


_DOWNLOAD = {
    **problems(404, 409, 413, 416, 422, 503),
    200: {"description": "The file", "content": {"*/*": _BINARY}},
    206: {"description": "The part of the file that `Range` names", "content": {"*/*": _BINARY}},
}


@router.get("/{path:file}", response_class=Response, responses=_DOWNLOAD)
async def download(sandbox: str, path: Path, request: Request, sessions: Sessions, caller: CallerOf) -> Response:
    """Download a file, or a range of its bytes."""
    return await _answer(sandbox, path, request, sessions, caller)


@router.head("/{path:file}", response_class=Response, responses=_DOWNLOAD)
async def look_at_file(sandbox: str, path: Path, request: Request, sessions: Sessions, caller: CallerOf) -> Response:
    """Look at a file: its size, media type and ETag."""
    return await _answer(sandbox, path, request, sessions, caller)


@router.put(
    "/{path:file}",
    responses=problems(404, 409, 413, 422, 503),
    openapi_extra={"requestBody": {"required": True, "content": {"application/octet-stream": _BINARY}}},
)
async def upload(sandbox: str, path: Path, request: Request, sessions: Sessions, caller: CallerOf) -> FileAnswer:
    """Create a file or replace it, and create the folders that it is in."""
    with opened(sessions, caller, sandbox) as found:
        return FileAnswer.of(await found.files.write(path, request.stream()))


@router.delete("/{path:file}", status_code=204, responses=problems(404, 409, 413, 422, 503))
async def remove(sandbox: str, path: Path, sessions: Sessions, caller: CallerOf) -> None:
    """Remove a file."""
    with opened(sessions, caller, sandbox) as found:
        await found.files.remove(path)


async def _answer(sandbox: str, path: str, request: Request, sessions: SessionManager, caller: Caller) -> Response:
    with opened(sessions, caller, sandbox) as found:
        stat = await while_connected(request, lambda: found.files.stat(path))
    etag = f'"{hashlib.sha256(stat.stamp.encode("utf-8", "replace")).hexdigest()[:32]}"'
    headers = {"Accept-Ranges": "bytes", "ETag": etag, "X-Content-Type-Options": "nosniff"}
    # Code has written the file: as a page of this server's origin, it could call the server.
    headers["Content-Disposition"] = "attachment"
    part = None
    if "range" in request.headers and request.headers.get("if-range", etag) == etag:
        part = _range(request.headers["range"], stat.size)
    start, end = part or (0, stat.size)
    if part is not None:
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{stat.size}"
    headers["Content-Length"] = str(end - start)
    status, media_type = 200 if part is None else 206, mime_type(path)
    if request.method == "HEAD":
        return Response(None, status, headers, media_type)

    async def write(send: Callable[[bytes], Awaitable[None]]) -> None:
        with opened(sessions, caller, sandbox) as found:
            await _write_part(found.files.stream(path, start=start, of=stat), end - start, send)

    return StreamedResponse(write, status, headers, media_type=media_type)


async def _write_part(parts: AsyncGenerator[bytes], length: int, send: Callable[[bytes], Awaitable[None]]) -> None:
    async with aclosing(parts):
        while length > 0 and (part := await anext(parts, b"")):
            await send(part[:length])
            length -= len(part)


def _range(text: str, size: int) -> tuple[int, int] | None:
    """Return the first byte of a range and the one after its end; None if it is not one range of bytes.

    :raises HTTPException: it is not satisfiable.
    """
    match = _RANGE.fullmatch(text.strip())
    if match is None or match.group() == "bytes=-":
        return None
    first, last = match.groups()
    if not first:
        start, end = max(0, size - int(last)), size
    else:
        start, end = int(first), min(size, int(last) + 1 if last else size)
        if last and int(last) < start:
            return None
    if start >= end:
        raise HTTPException(416, f"The file has {size} bytes.", {"Content-Range": f"bytes */{size}"})
    return start, end
