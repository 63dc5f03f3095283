"""The installed wheel serves a client, started in a folder that has nothing of the checkout."""

from __future__ import annotations

import os
from pathlib import Path

from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.types import TextContent

from tests.support import BARE
from tests.support.wheel import build_wheel, install_wheel


async def test_the_wheel_serves_a_client(runner_image: str, tmp_path: Path) -> None:
    installed = install_wheel(build_wheel(tmp_path / "dist"), tmp_path / "venv")
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    server = StdioServerParameters(command=installed.command, cwd=folder, env={**os.environ, **BARE})
    async with Client(stdio_client(server)) as client:
        (answer,) = (await client.call_tool("run_python", {"code": "6 * 7"})).content
        assert isinstance(answer, TextContent) and answer.text == "42\n"
