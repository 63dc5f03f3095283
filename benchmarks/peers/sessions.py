"""Sessions with the program that is measured, whatever way it is called."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Awaitable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import anyio
import anyio.to_thread
from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.types import CallToolResult, ImageContent, TextContent

from mcp_agentrun.sandbox import AsyncSandbox
from tests.support import CHECKOUT

__all__ = [
    "Answer",
    "DrivenSession",
    "LibrarySession",
    "McpSession",
    "McpTools",
    "PeerError",
    "Session",
    "driven_session",
    "mcp_session",
    "reason_of",
]

DRIVERS = Path(__file__).parent / "drivers"
_CALL_SECONDS = 180.0


class PeerError(Exception):
    """A peer did not do what it was asked, for the reason that is the message."""


def reason_of(error: BaseException) -> str:
    """The message of *error*, or of the first of a group."""
    while inner := getattr(error, "exceptions", ()):
        error = inner[0]
    name = "" if isinstance(error, PeerError) else f"{type(error).__name__}: "
    return f"{name}{error}".replace(f"{CHECKOUT}/", "")[:300]


@dataclass(frozen=True)
class Answer:
    """What a call returned."""

    seconds: float
    text: str
    """The output, or the end of a long one."""
    length: int
    """Characters of the whole output."""
    pictures: int = 0


class Session(ABC):
    """A session in which code is run."""

    @abstractmethod
    async def call(self, code: str) -> Answer:
        """Run *code*.

        :raises PeerError: the peer could not; an exception in the code is an answer.
        """

    @abstractmethod
    async def reset(self) -> float:
        """Make the session as new, in the way that the peer offers; return the seconds.

        :raises PeerError: it could not.
        """

    async def install(self, name: str) -> float:
        """Install a package for the session, in the way that the peer offers; return the seconds.

        :raises PeerError: it could not.
        """
        raise PeerError("installs nothing")


class DrivenSession(Session):
    """A process in the peer's own environment, which calls the peer and measures (``drivers/_serve.py``)."""

    def __init__(self, command: Sequence[str], python: Path, environment: Mapping[str, str], log: Path) -> None:
        name, *arguments = command
        self._folder = tempfile.TemporaryDirectory()
        with log.open("ab") as errors:
            self._process = subprocess.Popen(
                [str(python), "-u", str(DRIVERS / f"{name}.py"), *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env={**os.environ, **environment},
                cwd=self._folder.name,
                text=True,
            )

    async def call(self, code: str) -> Answer:
        return await self.request("call", code)

    async def reset(self) -> float:
        return (await self.request("reset")).seconds

    async def install(self, name: str) -> float:
        return (await self.request("install", name)).seconds

    async def request(self, method: str, argument: object = None) -> Answer:
        """Have the driver call *method* of its session.

        :raises PeerError: that raised an exception, or was not answered in time.
        """
        line = None
        with anyio.move_on_after(_CALL_SECONDS):
            line = await anyio.to_thread.run_sync(self._exchange, method, argument, abandon_on_cancel=True)
        if line is None:
            self._process.kill()
            raise PeerError(f"{method} was not answered in {_CALL_SECONDS:.0f} s")
        if not line:
            raise PeerError("its process ended")
        reply = json.loads(line)
        if reply["error"] is not None:
            raise PeerError(reply["error"])
        return Answer(reply["seconds"], reply["output"], reply["length"])

    def _exchange(self, method: str, argument: object) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            print(json.dumps([method, argument]), file=self._process.stdin, flush=True)
        return self._process.stdout.readline()

    async def close(self) -> None:
        """Have it stop its session, and end it."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(self._wait)
        self._folder.cleanup()

    def _wait(self) -> None:
        try:
            self._process.wait(_CALL_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


@asynccontextmanager
async def driven_session(
    command: Sequence[str], python: Path, environment: Mapping[str, str], log: Path
) -> AsyncGenerator[DrivenSession]:
    """A session of the driver that *command* names, with its arguments. What it and its peer print goes to *log*."""
    session = DrivenSession(command, python, environment, log)
    try:
        await session.request("start")
        yield session
    finally:
        await session.close()


@dataclass(frozen=True)
class McpTools:
    """How an MCP server is asked to run code, and to begin a new session."""

    run: str
    more: Mapping[str, str] | None = None
    """Further arguments of all tools."""
    reset: str = ""
    reset_with: Mapping[str, str] | None = None
    install: str = ""
    argument: str = "packages"
    """That of `install`."""


class McpSession(Session):
    """The session of an MCP client."""

    def __init__(self, client: Client, tools: McpTools) -> None:
        self.client = client
        self._tools = tools

    async def call(self, code: str) -> Answer:
        seconds, result = await self.tool(self._tools.run, {"code": code})
        text = "".join(block.text for block in result.content if isinstance(block, TextContent))
        pictures = sum(isinstance(block, ImageContent) for block in result.content)
        return Answer(seconds, text, len(text), pictures)

    async def reset(self) -> float:
        if not self._tools.reset:
            raise PeerError("no tool for it")
        return await self._done(self._tools.reset, self._tools.reset_with or {})

    async def install(self, name: str) -> float:
        if not self._tools.install:
            return (await self.call(f"%pip install {name}")).seconds
        return await self._done(self._tools.install, {self._tools.argument: name})

    async def _done(self, tool: str, arguments: Mapping[str, str]) -> float:
        seconds, result = await self.tool(tool, arguments)
        if result.is_error:
            raise PeerError(str(result.content))
        return seconds

    async def tool(self, name: str, arguments: Mapping[str, str]) -> tuple[float, CallToolResult]:
        begun = time.perf_counter()
        result = await self.client.call_tool(name, {**(self._tools.more or {}), **arguments})
        return time.perf_counter() - begun, result


@asynccontextmanager
async def mcp_session(
    command: Sequence[str], environment: Mapping[str, str], tools: McpTools, log: Path
) -> AsyncGenerator[McpSession]:
    """The session of a client that starts *command* and has been answered ``initialize``."""
    parameters = StdioServerParameters(command=command[0], args=list(command[1:]), env={**os.environ, **environment})
    with log.open("a") as errors:
        async with Client(stdio_client(parameters, errlog=errors)) as client:
            yield McpSession(client, tools)


class LibrarySession(Session):
    """`AsyncSandbox`."""

    def __init__(self, sandbox: AsyncSandbox) -> None:
        self.sandbox = sandbox

    async def call(self, code: str) -> Answer:
        begun = time.perf_counter()
        result = await self.sandbox.run(code)
        text = result.text
        return Answer(time.perf_counter() - begun, text, len(text), len(result.images))

    async def reset(self) -> float:
        return await _seconds(self.sandbox.reset())

    async def install(self, name: str) -> float:
        return await _seconds(self.sandbox.install(name))


async def _seconds(call: Awaitable[object]) -> float:
    begun = time.perf_counter()
    await call
    return time.perf_counter() - begun
