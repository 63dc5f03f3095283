"""Files and long outputs as MCP resources."""

from __future__ import annotations

import base64
import contextlib
import os
import re
from urllib.parse import unquote_to_bytes

from mcp import MCPError
from mcp.types import (
    INTERNAL_ERROR,
    INVALID_PARAMS,
    BlobResourceContents,
    ListResourcesResult,
    ListResourceTemplatesResult,
    PaginatedRequestParams,
    ReadResourceRequestParams,
    ReadResourceResult,
    Resource,
    ResourceTemplate,
    TextResourceContents,
)

from ...errors import AgentRunError, FileError
from ...sandbox import OpenSandbox, Output, mime_type
from ...sessions import SessionManager
from ...spoofing import quoted, sanitize
from ..uris import OWN, file_uri
from .connections import CallerOf
from .sdk import RequestContext

__all__ = ["READ_LIMIT", "OutputStore", "Resources", "contents_of"]

READ_LIMIT = 16 << 20
"""Largest file that is sent in an answer, in bytes: it is one message, in base64."""

_URI = re.compile(r"agentrun://([^/?#]+)/(?:files/(.+)|runs/(\d+)/output)")
_KEPT_RUNS = 16
_KEPT_BYTES = 32 << 20
_ENTRY_BYTES = 1 << 10
"""Estimated overhead of one kept output."""


class OutputStore:
    """Outputs that were too long to be shown whole.

    The latest 16 of each sandbox are kept, and of all sandboxes together the latest 32 MiB.
    """

    def __init__(self) -> None:
        self._by_uri: dict[tuple[str, str], Output] = {}
        self._size = 0

    def add(self, sandbox: str, uri: str, output: Output) -> None:
        """Add *output*, and discard older ones if necessary.

        :param sandbox: the sandbox's id, because all clients over HTTP use the same URIs for their own.
        """
        self._by_uri[sandbox, uri] = output
        self._size += _size(output)
        for key in [key for key in self._by_uri if key[0] == sandbox][:-_KEPT_RUNS]:
            self._drop(key)
        while self._size > _KEPT_BYTES and len(self._by_uri) > 1:
            self._drop(next(iter(self._by_uri)))

    def _drop(self, key: tuple[str, str]) -> None:
        self._size -= _size(self._by_uri.pop(key))

    def get(self, sandbox: str, uri: str) -> Output | None:
        return self._by_uri.get((sandbox, uri))

    def list(self, sandbox: str) -> list[tuple[str, int]]:
        """Return the URI and size in bytes of each output of a sandbox."""
        return [
            (uri, len(output.head) + len(output.tail)) for (of, uri), output in self._by_uri.items() if of == sandbox
        ]


def _size(output: Output) -> int:
    return len(output.head) + len(output.tail) + _ENTRY_BYTES


TEMPLATES = [
    ResourceTemplate(
        uri_template="agentrun://{sandbox}/files/{+path}",
        name="file",
        title="A file in /workspace",
        description=f'`sandbox` is "{OWN}", or the handle of another sandbox.',
    ),
    ResourceTemplate(
        uri_template="agentrun://{sandbox}/runs/{run}/output",
        name="output",
        title="Output of a run that was too long to be shown whole",
        mime_type="text/plain",
    ),
]


class Resources:
    """Handlers for the resources of a client: the files in its sandboxes, and its kept outputs."""

    def __init__(self, sessions: SessionManager, caller_of: CallerOf, outputs: OutputStore) -> None:
        self._sessions = sessions
        self._caller_of = caller_of
        self._outputs = outputs

    async def list(self, ctx: RequestContext, _: PaginatedRequestParams | None) -> ListResourcesResult:
        with self._sessions.listing(self._caller_of(ctx)) as sandboxes:
            found = [item for handle, sandbox in sandboxes.items() for item in await self._of(handle, sandbox)]
        return ListResourcesResult(resources=found)

    async def _of(self, handle: str | None, sandbox: OpenSandbox) -> list[Resource]:
        found = [
            Resource(uri=uri, name=uri.partition("://")[2], title="Output of a run", mime_type="text/plain", size=size)
            for uri, size in self._outputs.list(sandbox.id)
        ]
        if not sandbox.is_ready:
            return found
        with contextlib.suppress(AgentRunError):
            page = await sandbox.files.page()
            found += [
                Resource(
                    uri=file_uri(handle, file.path),
                    name=sanitize(file.path),
                    mime_type=mime_type(file.path),
                    size=file.size,
                )
                for file in page.files
            ]
        return found

    async def list_templates(
        self, _ctx: RequestContext, _params: PaginatedRequestParams | None
    ) -> ListResourceTemplatesResult:
        return ListResourceTemplatesResult(resource_templates=TEMPLATES)

    async def read(self, ctx: RequestContext, params: ReadResourceRequestParams) -> ReadResourceResult:
        uri = str(params.uri)
        match = _URI.fullmatch(uri)
        if match is None:
            raise _error(INVALID_PARAMS, f"Unknown resource: {quoted(uri)}", uri)
        handle, path = match[1], match[2]
        with self._sessions.reading(self._caller_of(ctx), None if handle == OWN else handle) as sandbox:
            if sandbox is None:
                raise _error(INVALID_PARAMS, "There is no such sandbox.", uri)
            contents = self._output(sandbox, uri) if path is None else await _file(sandbox, path, uri)
        return ReadResourceResult(contents=[contents])

    def _output(self, sandbox: OpenSandbox, uri: str) -> TextResourceContents:
        output = self._outputs.get(sandbox.id, uri)
        if output is None:
            reason = "This output is not available: it was short, or later outputs have replaced it."
            raise _error(INVALID_PARAMS, reason, uri)
        return TextResourceContents(uri=uri, text=output.text(), mime_type="text/plain")


def _error(code: int, message: str, uri: str) -> MCPError:
    return MCPError(code, sanitize(message), {"uri": uri})


async def _file(sandbox: OpenSandbox, name: str, uri: str) -> TextResourceContents | BlobResourceContents:
    """Read the file with that percent-encoded *name*."""
    encoded = unquote_to_bytes(name)
    path = os.fsdecode(encoded) if os.name != "nt" else encoded.decode("utf-8", "surrogateescape")
    try:
        data = await sandbox.files.read(path, limit=READ_LIMIT)
    except FileError as error:
        raise _error(INVALID_PARAMS, str(error), uri) from error
    except AgentRunError as error:
        raise _error(INTERNAL_ERROR, str(error), uri) from error
    return contents_of(data, uri, mime_type(path))


def contents_of(data: bytes, uri: str, type_: str) -> TextResourceContents | BlobResourceContents:
    """Return *data* as text if it is UTF-8 without NUL bytes, and in base64 otherwise."""
    try:
        if b"\0" not in data:
            return TextResourceContents(uri=uri, text=data.decode("utf-8"), mime_type=type_)
    except UnicodeDecodeError:
        pass
    return BlobResourceContents(uri=uri, blob=base64.b64encode(data).decode(), mime_type=type_)
