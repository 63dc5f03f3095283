"""The tools. A tool is a function whose first parameter is the call; the others are its arguments."""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar

from mcp.server.subscriptions import ResourcesListChanged
from mcp.types import CallToolResult, ToolAnnotations
from mcp.types import Tool as ToolDefinition
from pydantic import Field

from ...errors import InvalidRequestError
from ...sandbox import EXPIRED, MARK, Result
from ...sessions import NEW, Lease
from ...settings import Settings
from ..uris import output_uri
from .arguments import Arguments
from .calls import Call, Service
from .file_answers import file_answer, file_list, file_written
from .out_folder import RunCopies
from .render import install_answer, new_sandbox_note, run_answer, text_answer
from .resources import READ_LIMIT

__all__ = [
    "DEFAULT_TOOLS",
    "TOOLS",
    "Tool",
    "install_package",
    "list_files",
    "read_file",
    "reset_sandbox",
    "run_python",
    "write_file",
]

ToolFunction = Callable[..., Awaitable[CallToolResult]]
F = TypeVar("F", bound=ToolFunction)

DEFAULT_TOOLS = ("run_python", "install_package", "reset_sandbox")

TOOLS: dict[str, Tool] = {}
"""All tools by name."""


@dataclass(frozen=True)
class Tool:
    """A function, and what clients learn about it. Without `describe`, its docstring is the description."""

    function: ToolFunction
    arguments: Arguments
    title: str
    stage: str
    """What a call of the tool does, for progress reports."""
    annotations: ToolAnnotations
    """Without `open_world_hint` if it depends on whether sandboxes have a network."""
    describe: Callable[[Service], str] | None

    @property
    def name(self) -> str:
        return self.function.__name__

    def definition(self, service: Service) -> ToolDefinition:
        """Return what clients are shown."""
        annotations = self.annotations
        if annotations.open_world_hint is None:
            annotations = annotations.model_copy(update={"open_world_hint": _has_network(service.settings)})
        return ToolDefinition(
            name=self.name,
            title=self.title,
            description=" ".join((self.function.__doc__ or "").split())
            if self.describe is None
            else self.describe(service),
            input_schema=_with_settings(self.arguments.schema, service.settings),
            annotations=annotations,
        )


def _with_settings(schema: Mapping[str, Any], settings: Settings) -> dict[str, Any]:
    """Return *schema* with the limits of *settings* in the descriptions of its properties."""
    properties = {
        name: {**found, "description": found["description"].format(limits=settings.limits)}
        for name, found in schema["properties"].items()
    }
    return {**schema, "properties": properties}


def _tool(
    *,
    title: str,
    stage: str,
    destructive: bool,
    idempotent: bool,
    open_world: bool | None = False,
    read_only: bool | None = None,
    describe: Callable[[Service], str] | None = None,
) -> Callable[[F], F]:
    """Add a function to `TOOLS`."""

    annotations = ToolAnnotations(
        read_only_hint=read_only,
        destructive_hint=destructive,
        idempotent_hint=idempotent,
        open_world_hint=open_world,
    )

    def add(function: F) -> F:
        TOOLS[function.__name__] = Tool(function, Arguments(function), title, stage, annotations, describe)
        return function

    return add


def _has_network(settings: Settings) -> bool:
    return settings.access.network != "none"


def _describe_run_python(service: Service) -> str:
    settings = service.settings
    network = (
        "The network can be reached."
        if _has_network(settings)
        else "There is no network: data must come with the code, and packages with install_package."
    )
    description = (
        "Execute Python in a private sandbox. Variables, imports, functions and files persist from call to call. "
        "Returns what a terminal would show: everything printed, the value of the last expression, and the traceback "
        f"of an error. Already installed: {', '.join(settings.image.packages) or 'the standard library only'}; "
        "install_package adds more. Plots are returned as pictures. Write files to the current folder, /workspace. "
        f"{network} Processes end with the call that started them. "
        f"Limits: {settings.limits.timeout:g} s per call unless `timeout` says otherwise, "
        f"{settings.limits.memory >> 20} MiB of memory, {settings.limits.workspace_size >> 20} MiB of files."
    )
    if not service.sessions.is_shared:
        return description
    return (
        f"{description} If the answer names a handle, pass it as `sandbox` in all further calls, or they begin from "
        f"nothing. Each sandbox is private; {service.lifetime}."
    )


Handle = Annotated[
    str | None,
    Field(
        description=f'Leave out to use your own sandbox. "{NEW}" opens another, separate one; its handle, which the '
        "answer gives, is passed here to use it again."
    ),
]


@_tool(
    title="Run Python",
    stage="running",
    destructive=True,
    idempotent=False,
    open_world=None,
    describe=_describe_run_python,
)
async def run_python(
    call: Call,
    code: Annotated[str, Field(description="Python source to execute.")],
    timeout: Annotated[
        float | None,
        Field(description="Seconds the code may run: {limits.timeout:g} if left out, at most {limits.max_timeout:g}."),
    ] = None,
    sandbox: Handle = None,
) -> CallToolResult:
    """Execute Python in a sandbox."""
    service, progress = call.service, call.progress
    async with call.lease(sandbox) as lease:
        folder = lease.handle or (lease.sandbox.id if service.sessions.is_shared else None)
        copies = RunCopies(service.out, folder)
        result = await lease.sandbox.run(
            code,
            timeout=timeout,
            on_bytes=progress.add_output if progress.is_wanted else None,
            report=progress.set_stage,
            then=copies,
        )
        await _publish(call, lease, result)
        return run_answer(
            result,
            handle=lease.handle,
            new=lease.is_new,
            copied=copies.notes,
            expired=lease.expired,
            lifetime=service.lifetime,
            links=service.settings.mcp.resource_links,
        )


async def _publish(call: Call, lease: Lease, result: Result) -> None:
    """Make a long output available as a resource, and tell clients of new files."""
    if result.output.written > call.service.settings.limits.output_show:
        uri = output_uri(lease.handle, result.number)
        call.service.outputs.add(lease.sandbox.id, uri, result.output)
    if any(file.change == "created" for file in result.files):
        await _announce_files(call)


async def _announce_files(call: Call) -> None:
    """Tell clients of both eras that the list of files has changed. The call is answered even if they have gone."""
    with contextlib.suppress(Exception):
        await call.service.changes.publish(ResourcesListChanged())
    with contextlib.suppress(Exception):
        await call.ctx.session.send_resource_list_changed()


@_tool(title="Install packages", stage="installing", destructive=False, idempotent=True, open_world=True)
async def install_package(
    call: Call,
    packages: Annotated[
        str | list[str],
        Field(description='One or more requirements, such as "requests" or ["scipy>=1.14", "rich"].'),
    ],
    sandbox: Handle = None,
) -> CallToolResult:
    """Install packages from the Python package index into the sandbox, by name, with an optional version. Variables
    stay; import the packages in the next run_python call.
    """
    async with call.lease(sandbox) as lease:
        requirements = [packages] if isinstance(packages, str) else packages
        installed = await lease.sandbox.install(*requirements, report=call.progress.set_stage)
        return install_answer(installed, note=_lease_note(call, lease))


@_tool(title="Reset the sandbox", stage="resetting", destructive=True, idempotent=True)
async def reset_sandbox(
    call: Call,
    keep_packages: Annotated[bool, Field(description="Keep the packages that were installed.")] = False,
    keep_files: Annotated[bool, Field(description="Keep the files in the workspace.")] = False,
    sandbox: Handle = None,
) -> CallToolResult:
    """Start over with a fresh interpreter: variables and imports are forgotten, and so are files and installed packages
    unless they are kept.
    """
    async with call.lease(sandbox) as lease:
        await lease.sandbox.reset(keep_packages=keep_packages, keep_files=keep_files)
        kept = [name for name, keep in (("files", keep_files), ("packages", keep_packages)) if keep]
        text = "The sandbox was reset: all variables are gone." + (f" Kept: {' and '.join(kept)}." if kept else "")
        return text_answer(text, _lease_note(call, lease))


@_tool(title="Write a file", stage="writing", destructive=True, idempotent=True)
async def write_file(
    call: Call,
    path: Annotated[str, Field(description="Path of the file, relative to /workspace.")],
    content: Annotated[str, Field(description="The whole content of the file.")],
    encoding: Annotated[
        Literal["text", "base64"], Field(description='"base64" if the content is binary data in base64.')
    ] = "text",
    sandbox: Handle = None,
) -> CallToolResult:
    """Write a file into the sandbox, where code finds it in its current folder, /workspace. An existing file is
    replaced, and missing folders are created.
    """
    data = _decoded(content, encoding)
    async with call.lease(sandbox) as lease:
        file = await lease.sandbox.files.write(path, data)
        await _announce_files(call)
        return file_written(file, note=_lease_note(call, lease))


def _decoded(content: str, encoding: Literal["text", "base64"]) -> bytes:
    try:
        return content.encode() if encoding == "text" else base64.b64decode(content, validate=True)
    except UnicodeEncodeError:
        raise InvalidRequestError(
            "`content` has a lone surrogate, which is not valid Unicode.", argument="content"
        ) from None
    except ValueError as error:
        raise InvalidRequestError(f"`content` is not valid base64: {error}.", argument="content") from None


@_tool(title="Read a file", stage="reading", destructive=False, idempotent=True, read_only=True)
async def read_file(
    call: Call,
    path: Annotated[str, Field(description="Path of the file, relative to /workspace.")],
    offset: Annotated[
        int, Field(ge=0, description="Where to start, in characters of text or bytes of other data.")
    ] = 0,
    length: Annotated[
        int | None,
        Field(ge=0, description="How much to read at most: {limits.output_show} if left out, in the unit of `offset`."),
    ] = None,
    sandbox: Handle = None,
) -> CallToolResult:
    """Read a file from the sandbox. Text is returned as it is and pictures as pictures; other data is attached."""
    async with call.lease(sandbox) as lease:
        data = await lease.sandbox.files.read(path, limit=READ_LIMIT)
        length = call.service.settings.limits.output_show if length is None else length
        return file_answer(path, data, offset, length, handle=lease.handle, note=_lease_note(call, lease))


@_tool(title="List files", stage="listing", destructive=False, idempotent=True, read_only=True)
async def list_files(
    call: Call,
    folder: Annotated[str, Field(description="The folder to list, relative to /workspace.")] = ".",
    sandbox: Handle = None,
) -> CallToolResult:
    """List the files in a folder of the sandbox and in the folders below it, with their sizes."""
    async with call.lease(sandbox) as lease:
        page = await lease.sandbox.files.page(folder)
        return file_list(folder, page, note=_lease_note(call, lease))


def _lease_note(call: Call, lease: Lease) -> str | None:
    """Return what the model has to know of its sandbox: that it is not the one before, and its handle."""
    notes = [MARK + EXPIRED] if lease.expired else []
    if lease.is_new:
        notes.append(new_sandbox_note(lease.handle, call.service.lifetime))
    return "\n".join(notes) or None
