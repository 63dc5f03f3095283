"""Our server over HTTP, as a process of its own, and clients of it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Generator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import httpx2
from mcp import Client
from mcp.client.sse import sse_client
from mcp.client.streamable_http import streamable_http_client

from tests.support import BARE

__all__ = ["TOKENS", "HttpServer", "http_server", "open_http_client"]

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
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    tokens = folder / "tokens"
    tokens.touch(0o600)
    tokens.write_text("".join(f"{name} {token}\n" for name, token in TOKENS.items()))
    log = folder / f"log-{port}"
    with log.open("ab") as file:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "mcp_agentrun", "serve", "--port", str(port)),
                *(("--token-file", str(tokens)) if auth else ("--no-auth",)),
                *arguments,
            ],
            stderr=file,
            stdout=file,
            env={**os.environ, **BARE, "AGENTRUN_LOG_LEVEL": "info", **(env or {})},
        )
    server = HttpServer(process, port, log)
    try:
        deadline = time.monotonic() + 30
        while True:
            try:
                if httpx2.get(f"{server.url}/healthz").status_code == 200:
                    break
            except httpx2.TransportError:
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.05)  # it tells nobody but its log when it listens
        yield server
    finally:
        if process.poll() is None:
            server.end()


@asynccontextmanager
async def open_http_client(server: HttpServer, transport: str, mode: str, who: str = "alice") -> AsyncGenerator[Client]:
    """An MCP client of *server*, over ``streamable`` HTTP or ``sse``."""
    headers = {"Authorization": f"Bearer {TOKENS[who]}"}
    if transport == "sse":
        async with Client(sse_client(f"{server.url}/sse", headers=headers), mode=mode) as client:
            yield client
        return
    async with (
        httpx2.AsyncClient(headers=headers, timeout=60) as http,
        Client(streamable_http_client(f"{server.url}/mcp", http_client=http), mode=mode) as client,
    ):
        yield client
