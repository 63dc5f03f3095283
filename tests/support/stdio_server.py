"""A server over stdio, addressed line by line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from tests.support import BARE

INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-06-18",
        "capabilities": {},
        "clientInfo": {"name": "a file", "version": "1"},
    },
}


# A server whose patience is its last argument, and which says at its end how much memory it has taken (of a process
# that has ended, the system only says what that of the tests had taken when it was started, if that is more).
IMPATIENT = """
import os, pathlib, sys
from mcp_agentrun.__main__ import main
from mcp_agentrun.server.mcp import pipes
pipes.PATIENCE_SECONDS = float(sys.argv.pop())
end = os._exit
def _exit(code):
    sys.stderr.write(pathlib.Path("/proc/self/status").read_text())
    sys.stderr.flush()
    end(code)
os._exit = _exit
main()
"""
LIST = {"jsonrpc": "2.0", "method": "tools/list"}


@contextmanager
def impatient_server(patience: float = 1.0) -> Generator[subprocess.Popen[bytes]]:
    """One that has shaken hands with its client, and waits for it *patience* seconds."""
    server = subprocess.Popen(
        [sys.executable, "-c", IMPATIENT, str(patience)],
        env={**os.environ, **BARE},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        with server:
            say(server, INITIALIZE)
            assert server.stdout is not None
            assert json.loads(server.stdout.readline())["id"] == 1
            say(server, {"jsonrpc": "2.0", "method": "notifications/initialized"})
            yield server
    finally:
        server.kill()


def say(server: subprocess.Popen[bytes], *messages: dict[str, Any]) -> None:
    assert server.stdin is not None
    server.stdin.write("".join(json.dumps(message) + "\n" for message in messages).encode())
    server.stdin.flush()


def answers_of(server: subprocess.Popen[bytes], id_: int) -> dict[str, Any]:
    assert server.stdout is not None
    while (answer := json.loads(server.stdout.readline())).get("id") != id_:
        pass
    return answer
