"""The MCPB bundle as a host installs and starts it, and the other manifests by their clients' own tools."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.types import TextContent

from tests.support import CHECKOUT
from tests.support.nodejs import node_environment

MCPB = CHECKOUT / "tools" / "node" / "node_modules"
PEERS = CHECKOUT / "tests" / "long" / "peers" / "node_modules"

# What hosts do: the tool's package has the code for it.
RESOLVE = """
import { readFileSync } from "node:fs";
import { getMcpConfigForManifest } from "@anthropic-ai/mcpb";
const [extensionPath, userConfig] = process.argv.slice(1);
const manifest = JSON.parse(readFileSync(`${extensionPath}/manifest.json`));
console.log(JSON.stringify(await getMcpConfigForManifest({
  manifest, extensionPath, systemDirs: {}, userConfig: JSON.parse(userConfig), pathSeparator: "/",
})));
"""


def node(*command: str | Path, cwd: Path = CHECKOUT, home: Path | None = None) -> str:
    environment = node_environment() | ({"HOME": str(home)} if home else {})
    done = subprocess.run(command, check=False, cwd=cwd, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def server_of(folder: Path, form: dict[str, Any], home: Path) -> StdioServerParameters:
    """How a host starts the bundle in *folder*, with what was entered in its *form*."""
    resolved = json.loads(
        node("node", "--input-type=module", "-e", RESOLVE, str(folder), json.dumps(form), cwd=MCPB.parent)
    )
    uv = shutil.which("uv", path=f"{CHECKOUT}/.venv/bin{os.pathsep}{os.environ['PATH']}")
    assert resolved["command"] == "uv" and uv is not None
    environment = {**os.environ, "HOME": str(home), "UV_CACHE_DIR": str(home / "uv"), **resolved["env"]}
    return StdioServerParameters(command=uv, args=resolved["args"], env=environment, cwd=home)


@pytest.fixture
def unpacked(tmp_path: Path) -> Path:
    node(MCPB / ".bin" / "mcpb", "unpack", "dist/mcp-agentrun.mcpb", str(tmp_path / "bundle"))
    return tmp_path / "bundle"


async def test_the_bundle_serves_a_host(runner_image: str, unpacked: Path, tmp_path: Path) -> None:
    """On a machine with uv alone: nothing is installed yet."""
    for name in ("home", "one", "two", "written"):
        (tmp_path / name).mkdir()
    (tmp_path / "one" / "a.txt").write_text("1")
    (tmp_path / "two" / "b.txt").write_text("2")
    form = {
        "data": [str(tmp_path / "one"), str(tmp_path / "two")],
        "out": str(tmp_path / "written"),
        "memory": 0.5,
        "packages": "six",
    }
    begun = time.monotonic()
    async with Client(stdio_client(server_of(unpacked, form, tmp_path / "home"))) as client:
        print(f"\nstart to initialize, with an empty cache of uv: {time.monotonic() - begun:.1f} s")
        code = "import six; print(open('one/a.txt').read() + open('two/b.txt').read()); open('c.txt', 'w').write('3')"
        answer = await client.call_tool("run_python", {"code": code})
        print(f"  to the first answer: {time.monotonic() - begun:.1f} s")
        texts = [each.text for each in answer.content if isinstance(each, TextContent)]
        assert texts[0].startswith("12\n"), texts
    assert (tmp_path / "written" / "c.txt").read_text() == "3"
    begun = time.monotonic()
    async with Client(stdio_client(server_of(unpacked, {}, tmp_path / "home"))) as client:
        print(f"again, start to initialize: {time.monotonic() - begun:.1f} s")
        answer = await client.call_tool("run_python", {"code": "6 * 7"})
        print(f"  to the first answer: {time.monotonic() - begun:.1f} s")
        assert isinstance(answer.content[0], TextContent) and answer.content[0].text == "42\n"


@pytest.mark.parametrize("folder", [".", "distribution/claude-code"])
def test_the_plugin_is_valid_for_claude_code(folder: str, tmp_path: Path) -> None:
    """The marketplace and its plugin."""
    said = node(
        "node",
        PEERS / "@anthropic-ai/claude-code/cli-wrapper.cjs",
        "plugin",
        "validate",
        "--strict",
        folder,
        home=tmp_path,
    )
    assert "Validation passed" in said


def test_the_extension_is_valid_for_gemini_cli(tmp_path: Path) -> None:
    shutil.copy(CHECKOUT / "gemini-extension.json", tmp_path)
    node(PEERS / ".bin" / "gemini", "extensions", "validate", str(tmp_path), home=tmp_path)
