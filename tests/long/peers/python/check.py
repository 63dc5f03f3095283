"""What is demanded of every client: code runs, its state is kept, and an error is told as one."""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import Awaitable, Callable
from importlib.metadata import version
from typing import Any

__all__ = ["ARGUMENTS", "COMMAND", "HEADERS", "TOOLS", "URL", "cases", "demand", "main", "text_of"]

COMMAND, *ARGUMENTS = json.loads(os.environ["PEER_COMMAND"])
URL = os.environ["PEER_URL"]
HEADERS = {"Authorization": f"Bearer {os.environ['PEER_TOKEN']}"}

TOOLS = {"run_python", "install_package", "reset_sandbox"}

cases: list[str] = []
"""What has been tried, as ``TRANSPORT PROTOCOL``."""


def text_of(content: list[Any]) -> str:
    """The text of blocks of any make."""
    return "".join(block["text"] if isinstance(block, dict) else block.text for block in content)


async def demand(transport: str, protocol: str, run: Callable[..., Awaitable[tuple[str, bool]]]) -> None:
    """Run code with *run*, which takes a tool's arguments, and returns its text and whether that is an error."""
    said, failed = await run(code="x = 41")
    assert not failed, said
    # Where there is no connection to own a sandbox, the answer names one.
    handle = re.search(r'sandbox="([\w-]+)"', said)
    assert bool(handle) == (transport == "http" and protocol >= "2026-07-28"), said
    own = {"sandbox": handle[1]} if handle else {}
    said, failed = await run(code="x + 1", **own)
    assert (said, failed) == ("42\n", False), said
    said, failed = await run(code="1 / 0", **own)
    assert failed, said
    assert "ZeroDivisionError: division by zero" in said
    said, failed = await run(code="print(x)", **own)
    assert (said, failed) == ("41\n", False), said
    cases.append(f"{transport} {protocol}")


def main(try_all: Callable[[], Awaitable[None]], *distributions: str) -> None:
    """Try all, and tell what was tried, with which versions, in the last line."""
    asyncio.run(try_all())
    print(json.dumps({"versions": {name: version(name) for name in distributions}, "cases": cases}))
