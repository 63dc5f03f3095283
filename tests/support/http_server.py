"""Our server over HTTP, as a process of its own, and clients of it."""

from __future__ import annotations

import os
import re
import secrets
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Generator, Mapping
from contextlib import asynccontextmanager, closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path

import anyio
import httpx2
import uvicorn
from anyio.abc import SocketStream
from mcp import Client
from mcp.client.sse import sse_client
from mcp.client.streamable_http import streamable_http_client

from tests.support import BARE

__all__ = [
    "TOKENS",
    "HttpServer",
    "bound",
    "client_for",
    "connected",
    "http_client",
    "http_server",
    "open_http_client",
    "received",
    "serve_here",
]

TOKENS = {"alice": "a-token-of-alice-0123456789", "bob": "a-token-of-bob-0123456789"}


class HttpServer:
    """A running ``mcp-agentrun serve``."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, log: Path) -> None:
        self.process = process
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.log = log

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(60)


@contextmanager
def http_server(
    folder: Path, *arguments: str, auth: bool = True, env: Mapping[str, str] | None = None
) -> Generator[HttpServer]:
    """A server that answers."""
    tokens = folder / "tokens"
    tokens.touch(0o600)
    tokens.write_text("".join(f"{name} {token}\n" for name, token in TOKENS.items()))
    log = folder / f"log-{secrets.token_hex(4)}"
    with log.open("ab") as file:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "mcp_agentrun", "serve", "--port", "0"),
                *(("--token-file", str(tokens)) if auth else ("--no-auth",)),
                *arguments,
            ],
            stderr=file,
            stdout=file,
            env={**os.environ, **BARE, "AGENTRUN_LOG_LEVEL": "info", **(env or {})},
        )
    try:
        server = HttpServer(process, _port(process, log), log)
        # It listens before it serves; an HTTP client of its own would read certificates for this.
        with closing(HTTPConnection("127.0.0.1", server.port, timeout=30)) as connection:
            connection.request("GET", "/healthz")
            assert connection.getresponse().status == 200, log.read_text()
        yield server
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(60)


def _port(process: subprocess.Popen[bytes], log: Path) -> int:
    """The port that a server says that it listens on."""
    deadline = time.monotonic() + 100
    while (found := re.search(r'listening on http://127\.0\.0\.1:(\d+)["\n]', log.read_text())) is None:
        assert process.poll() is None and time.monotonic() < deadline, log.read_text()
        time.sleep(0.02)  # it tells nobody but its log
    return int(found[1])


def bound(port: int = 0) -> socket.socket:
    """A socket on that port of this machine, on which nobody listens yet."""
    # Without the protocol, asyncio leaves Nagle's algorithm on, and each answer takes 40 ms longer.
    found = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    if os.name != "nt":  # where it would share a port that is in use
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    found.bind(("127.0.0.1", port))
    return found


@asynccontextmanager
async def serve_here(config: uvicorn.Config, port: int = 0) -> AsyncGenerator[HttpServer]:
    """Serve an application from this process and event loop."""
    with bound(port) as listening:
        listening.listen()
        server = uvicorn.Server(config)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(server.serve, [listening])
            yield HttpServer(None, listening.getsockname()[1], Path())  # pyright: ignore[reportArgumentType]
            server.should_exit = True


_NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def http_client(
    headers: dict[str, str] | None = None,
    timeout: httpx2.Timeout | None = None,
    auth: httpx2.Auth | None = None,
    limits: httpx2.Limits | None = None,
) -> httpx2.AsyncClient:
    """A client for HTTP without TLS. Reading certificates takes longer than most tests' requests."""
    return httpx2.AsyncClient(
        verify=_NO_TLS,
        headers=headers,
        timeout=timeout or httpx2.Timeout(60, read=300),
        auth=auth,
        limits=limits or httpx2.Limits(),
    )


@asynccontextmanager
async def open_http_client(server: HttpServer, transport: str, mode: str, who: str = "alice") -> AsyncGenerator[Client]:
    """An MCP client of *server*, over ``streamable`` HTTP or ``sse``."""
    headers = {"Authorization": f"Bearer {TOKENS[who]}"}
    if transport == "sse":
        async with Client(
            sse_client(f"{server.url}/sse", headers=headers, httpx_client_factory=http_client), mode=mode
        ) as client:
            yield client
        return
    async with (
        http_client(headers) as http,
        Client(streamable_http_client(f"{server.url}/mcp", http_client=http), mode=mode) as client,
    ):
        yield client


@asynccontextmanager
async def client_for(server: HttpServer, who: str = "alice") -> AsyncGenerator[httpx2.AsyncClient]:
    """A client of *server* with the token of *who*, which takes paths."""
    async with http_client({"Authorization": f"Bearer {TOKENS[who]}"}) as http:
        http.base_url = server.url
        yield http


@asynccontextmanager
async def connected(port: int, text: str, *, buffer: int | None = None) -> AsyncGenerator[SocketStream]:
    """A connection on which *text* has been sent.

    :param buffer: size in bytes of what the kernel receives for the client.
    """
    raw = socket.socket()
    if buffer is not None:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    raw.connect(("127.0.0.1", port))
    async with await SocketStream.from_socket(raw) as stream:
        await stream.send(text.encode())
        yield stream


async def received(stream: SocketStream) -> bytes:
    """What the server sends until it ends the connection."""
    data = b""
    try:
        while True:
            data += await stream.receive()
    except (anyio.EndOfStream, anyio.BrokenResourceError):
        return data
