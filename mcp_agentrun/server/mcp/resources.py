"""Files and long outputs as MCP resources, and copies of files for the user."""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import os
import re
import secrets
from collections.abc import AsyncIterator, Generator, Iterable, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

import anyio
import anyio.to_thread
from mcp import MCPError
from mcp.server.lowlevel import NotificationOptions
from mcp.server.lowlevel.helper_types import ReadResourceContents
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ResourceError, ResourceNotFoundError
from mcp.types import INVALID_PARAMS, GetPromptResult, InputRequiredResult, Resource, ResourceTemplate

from ...errors import AgentRunError, FileError
from ...sandbox import AsyncSandbox, FileChange, Output, ReadFile
from ...sessions import Caller, Sessions
from ...settings import Settings
from ...spoofing import foreign, quoted
from .render import OWN, file_uri, mime_type

__all__ = ["KeptOutput", "OutFolder", "ServerWithFiles", "announce_files", "calling"]

READ_LIMIT = 16 << 20
"""Largest file that is sent as a resource: it goes in one message, in base64."""

_URI = re.compile(r"agentrun://([^/?#]+)/(?:files/(.+)|runs/(\d+)/output)")
_KEPT_RUNS = 16
_KEPT_BYTES = 32 << 20
_ENTRY_BYTES = 1 << 10
"""What one costs beside its text."""


class KeptOutput:
    """The outputs that were too long to be shown whole: of each sandbox the latest 16, of all together the latest that
    take 32 MiB.
    """

    def __init__(self) -> None:
        self._by_uri: dict[tuple[str, str], Output] = {}
        self._size = 0

    def keep(self, sandbox: str, uri: str, output: Output) -> None:
        """:param sandbox: its id: clients over HTTP name their own alike."""
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
        """URI and size in bytes of each."""
        return [
            (uri, len(output.head) + len(output.tail)) for (of, uri), output in self._by_uri.items() if of == sandbox
        ]


def _size(output: Output) -> int:
    return len(output.head) + len(output.tail) + _ENTRY_BYTES


_caller: ContextVar[Caller] = ContextVar("caller")


@contextlib.contextmanager
def calling(caller: Caller) -> Generator[None]:
    """Requests handled within are *caller*'s: the SDK does not tell whoever lists resources."""
    token = _caller.set(caller)
    try:
        yield
    finally:
        _caller.reset(token)


class ServerWithFiles(MCPServer[None]):
    """An MCP server whose resources are what its sandboxes hold just now."""

    def __init__(self, sessions: Sessions, kept: KeptOutput, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        inner: Any = self._lowlevel_server
        # The SDK has no other way to tell a client with a handshake that the list's changes are announced.
        inner.create_initialization_options = functools.partial(
            inner.create_initialization_options, NotificationOptions(resources_changed=True)
        )
        self._sessions = sessions
        self._kept = kept

    async def list_resources(self) -> list[Resource]:
        with self._sessions.listing(_caller.get()) as sandboxes:
            return [resource for handle, sandbox in sandboxes.items() for resource in await self._of(handle, sandbox)]

    async def _of(self, handle: str | None, sandbox: AsyncSandbox) -> list[Resource]:
        found = [
            Resource(uri=uri, name=uri.partition("://")[2], title="Output of a run", mime_type="text/plain", size=size)
            for uri, size in self._kept.list(sandbox.id)
        ]
        if not sandbox.is_ready:
            return found
        with contextlib.suppress(AgentRunError):
            page = await sandbox.files.page()
            found += [
                Resource(
                    uri=file_uri(handle, file.path),
                    name=foreign(file.path),
                    mime_type=mime_type(file.path),
                    size=file.size,
                )
                for file in page.files
            ]
        return found

    async def list_resource_templates(self) -> list[ResourceTemplate]:
        return [
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

    async def read_resource(self, uri: Any, context: Context[Any, Any] | None = None) -> Iterable[ReadResourceContents]:
        match = _URI.fullmatch(str(uri))
        if match is None:
            raise ResourceNotFoundError(foreign(f"Unknown resource: {quoted(str(uri))}"))
        with self._sessions.reading(_caller.get(), None if match[1] == OWN else match[1]) as sandbox:
            if sandbox is None:
                raise ResourceNotFoundError("There is no such sandbox.")
            if match[2] is None:
                return [self._output(sandbox, str(uri))]
            return [await _file(sandbox, match[2])]

    def _output(self, sandbox: AsyncSandbox, uri: str) -> ReadResourceContents:
        output = self._kept.get(sandbox.id, uri)
        if output is None:
            raise ResourceNotFoundError("That output is not kept: it was short, or the latest runs' have replaced it.")
        return ReadResourceContents(output.text(), "text/plain")

    async def get_prompt(
        self, name: str, arguments: dict[str, Any] | None = None, context: Context[Any, Any] | None = None
    ) -> GetPromptResult | InputRequiredResult:
        # There are none. The SDK calls that an internal error, and logs a traceback for each.
        raise MCPError(INVALID_PARAMS, f"Unknown prompt: {name[:200]!a}")


async def _file(sandbox: AsyncSandbox, name: str) -> ReadResourceContents:
    """The file with that *name* in a URI."""
    path = os.fsdecode(unquote_to_bytes(name)) if os.name != "nt" else _decoded(name)
    try:
        data = await sandbox.files.read(path, limit=READ_LIMIT)
    except FileError as error:
        raise ResourceNotFoundError(foreign(str(error))) from error
    except AgentRunError as error:
        raise ResourceError(foreign(str(error))) from error
    return ReadResourceContents(_text_or_bytes(data), mime_type(path))


def _decoded(quoted: str) -> str:
    return unquote_to_bytes(quoted).decode("utf-8", "surrogateescape")


def _text_or_bytes(data: bytes) -> str | bytes:
    if b"\0" in data:
        return data
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data


async def announce_files(ctx: Context[Any, Any]) -> None:
    """Tell clients of either era that the list of resources is another one."""
    with contextlib.suppress(Exception):  # the run has been answered whether they hear it or not
        await ctx.notify_resources_changed()
    with contextlib.suppress(Exception):
        await ctx.session.send_resource_list_changed()


class OutFolder:
    """The user's folder that gets a copy of each file that a run creates or changes.

    :raises SettingsError: it can't be made.
    """

    def __init__(self, settings: Settings) -> None:
        assert settings.access.out is not None
        try:
            self._folder = Path(settings.access.out).expanduser()
            self._folder.mkdir(parents=True, exist_ok=True)
        except (OSError, RuntimeError) as error:  # a home that nobody has is the latter
            raise settings.error("out", f"the folder {settings.access.out} can't be made: {error}") from None
        self._left = settings.access.out_size

    async def copy(self, read: ReadFile, handle: str | None, files: Sequence[FileChange]) -> list[str]:
        """Copy *files* over the stream, in parts; returns what to say about it."""
        copied, notes, renamed = 0, list[str](), list[str]()
        for file in files:
            name = "/".join(map(_safe_name, file.path.split("/")))
            try:
                self._take(file.size)
                parts = read(file.path, file.size + self._left)
                await self._copy(parts, f"{handle}/{name}" if handle else name, file.size)
                copied += 1
                if name != file.path:
                    renamed.append(f"{quoted(file.path)} as {quoted(name)}")
            except _FolderFullError:
                notes.append(f"{quoted(file.path)} was not copied: the user's folder has had all that it may get.")
            except AgentRunError as error:
                notes.append(f"Not copied to the user's folder: {error}.")
                if not isinstance(error, FileError):  # nor can any other be read
                    break
            except OSError as error:
                notes.append(f"{quoted(file.path)} was not copied to the user's folder: {error.strerror}.")
        if copied:
            names = f", {', '.join(renamed)}" if renamed else ""
            notes.insert(0, f"The user has a copy of {'it' if copied == 1 else f'these {copied} files'}{names}.")
        return notes

    def _take(self, size: int) -> None:
        if size > self._left:
            raise _FolderFullError
        self._left -= size

    async def _copy(self, parts: AsyncIterator[bytes], name: str, taken: int) -> None:
        """Write a file of *parts*, for which *taken* bytes have been taken. What could not be written counts for
        nothing.
        """
        size = 0
        copy: _Copy | None = None
        try:
            async for part in parts:
                size += len(part)
                if size > taken:  # it has grown since
                    self._take(size - taken)
                    taken = size
                copy = copy or await anyio.to_thread.run_sync(_Copy, self._folder, name)
                await anyio.to_thread.run_sync(copy.write, part)
            if copy is not None:
                await anyio.to_thread.run_sync(copy.finish)
        except BaseException:
            size = 0
            if copy is not None:
                copy.discard()
            raise
        finally:
            self._left += taken - size


class _FolderFullError(Exception):
    """The user's folder has had all that it may get."""


_RESERVED = re.compile(r"(?:con|prn|aux|nul|com\d|lpt\d)(?:\.|$)", re.IGNORECASE)

_NAME_BYTES = 255
_MADE = re.compile(r"~[0-9a-f]{8}(?:\.[^.]*)?$")
"""How a name of ours ends. With a dash, those would be among them that end in a date."""


def _safe_name(name: str) -> str:
    """*name* as one that every system takes for a plain file's, and that no other name becomes."""
    safe = re.sub(r'[\x00-\x1f\x7f<>:"|?*\\/]', "_", name.encode("utf-8", "replace").decode())
    safe = safe[:-1] + "_" if safe[-1:] in (".", " ") else safe
    safe = "_" + safe if _RESERVED.match(safe) else safe
    if safe == name and _MADE.search(name) is None:
        return name
    digest = hashlib.blake2b(name.encode("utf-8", "surrogateescape"), digest_size=4).hexdigest()
    stem, dot, suffix = safe.rpartition(".")
    if not stem or len(suffix.encode()) > _NAME_BYTES // 2:
        stem, dot, suffix = safe, "", ""
    end = f"~{digest}{dot}{suffix}"
    return stem.encode()[: _NAME_BYTES - len(end.encode())].decode("utf-8", "ignore") + end


class _Copy:
    """A file below *folder*, under a name of its own until it is finished. No link there is followed: one in its place
    is replaced, and one on the way to it an error.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self._target = folder / name
        for parent in reversed(self._target.relative_to(folder).parents):
            if parent != Path() and (folder / parent).is_symlink():
                raise OSError(errno.ELOOP, "a link is in the way")
        self._target.parent.mkdir(parents=True, exist_ok=True)
        self._path = self._target.with_name(f".agentrun-{secrets.token_hex(8)}")
        self._file = self._path.open("xb", buffering=0)  # for whom the user's umask says

    def write(self, data: bytes) -> None:
        left = memoryview(data)
        while left:
            left = left[self._file.write(left) :]

    def finish(self) -> None:
        self._file.close()
        os.replace(self._path, self._target)

    def discard(self) -> None:
        with contextlib.suppress(OSError):
            self._file.close()
        with contextlib.suppress(OSError):
            os.unlink(self._path)
