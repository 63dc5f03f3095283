"""Clients that nobody here wrote, each against our server over stdio and HTTP: `make peers [PEERS="NAME ..."]`.

Each runs code and is held to its results, in all the ways that are listed here and no fewer; the agents at the end can
do no more without a model than list the server, which `mcp-agentrun client add` has added. Exits with 1 where a client
fails or can't be installed.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.support import CHECKOUT
from tests.support.http_server import TOKENS, http_server
from tests.support.nodejs import node_environment

HERE = Path(__file__).parent
PYTHON = HERE / "python"
MODULES = HERE / "node_modules"
MADE = CHECKOUT / ".peers"
"""What is made here: a virtual environment for each client in Python, a home for the agents."""

SECONDS = 600
OLD, NEW = "2025-11-25", "2026-07-28"
EVERYWHERE = (f"stdio {OLD}", f"http {OLD}", f"sse {OLD}")
EVERYWHERE_NEW = (f"stdio {NEW}", f"http {NEW}", f"sse {NEW}")


class PeerError(Exception):
    """A client failed, or could not be installed."""


@dataclass(frozen=True)
class Site:
    """Where our server is."""

    command: tuple[str, ...]
    url: str
    token: str
    environment: Mapping[str, str]
    """With the Node.js to use, and this site for the scripts."""


def run(command: list[str], environment: Mapping[str, str], cwd: Path = HERE) -> str:
    """What *command* has written: its standard output last.

    :raises PeerError: it failed, or took longer than ten minutes.
    """
    try:
        done = subprocess.run(
            command,
            env=environment,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PeerError(str(error)) from error
    if done.returncode:
        raise PeerError(f"{' '.join(command)}: status {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stderr + done.stdout


def told(output: str, expected: tuple[str, ...]) -> str:
    """What a script tells in its last line.

    :raises PeerError: it has not tried what was expected.
    """
    report = json.loads(output.splitlines()[-1])
    cases = report["cases"]
    if sorted(cases) != sorted(expected):
        raise PeerError(f"tried {cases} instead of {list(expected)}")
    versions = ", ".join(f"{name} {version}" for name, version in report["versions"].items())
    return f"{versions}: {', '.join(cases)}"


def script(*command: str, cases: tuple[str, ...]) -> Callable[[Site], str]:
    """A client in JavaScript."""
    return lambda site: told(run(["node", *command], site.environment), cases)


def python(name: str, *cases: str) -> Callable[[Site], str]:
    """A client in Python: ``use_NAME.py``, in a virtual environment with what ``NAME.txt`` pins."""

    def use(site: Site) -> str:
        path = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)))
        uv = shutil.which("uv", path=path)
        if uv is None:
            raise PeerError("uv is not installed")
        environment = MADE / "venvs" / name
        interpreter = environment / "bin" / "python"
        if not interpreter.exists():
            run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(environment)], os.environ)
        pins = str(PYTHON / f"{name}.txt")
        run([uv, "pip", "sync", "--quiet", "--python", str(interpreter), pins], os.environ)
        return told(run([str(interpreter), str(PYTHON / f"use_{name}.py")], site.environment), cases)

    return use


def agent(
    name: str,
    *command: str,
    settings: Mapping[str, object] | None = None,
    adds_sse: bool = False,
    is_connected: str = r"^\W*{}: .* Connected$",
) -> Callable[[Site], str]:
    """An agent's command line, which must list our server, as ``mcp-agentrun client add NAME`` has added it.

    :param settings: what its ``settings.json`` says, by its folder.
    :param adds_sse: whether it can itself add a server over SSE, which must be listed as well.
    :param is_connected: the line for a server that works, with its name to be filled in.
    """

    def use(site: Site) -> str:
        home = MADE / "home" / name
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir(parents=True)
        for folder, content in (settings or {}).items():
            (home / folder).mkdir()
            (home / folder / "settings.json").write_text(json.dumps(content))
        # Nothing of the settings of whoever runs this, and no calls home.
        environment = {
            "PATH": site.environment["PATH"],
            "HOME": str(home),
            "DISABLE_AUTOUPDATER": "1",
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        }

        def said(*arguments: str) -> str:
            return run([*command, *arguments], environment, cwd=home)

        def add(transport: str, *arguments: str) -> None:
            entry = ("--entry", f"by-{transport}")
            run([*site.command, "client", "add", name, "--yes", *entry, *arguments], environment, cwd=home)

        header = ("--header", f"Authorization: Bearer {site.token}")
        add("stdio")
        add("http", "--url", site.url, *header)
        if adds_sse:
            url = site.url.replace("/mcp", "/sse")
            said("mcp", "add", "--scope", "user", "--transport", "sse", "by-sse", url, *header)
        transports = ("stdio", "http", *(("sse",) if adds_sse else ()))
        listed = said("mcp", "list")
        for transport in transports:
            if not re.search(is_connected.format(f"by-{transport}"), listed, re.MULTILINE):
                raise PeerError(f"by-{transport} is not connected:\n{listed}")
        version = next(word for word in said("--version").split() if word[0].isdigit())
        return f"{name} {version}: {', '.join(transports)}; no code run"

    return use


PEERS: dict[str, Callable[[Site], str]] = {
    "inspector": script(
        "inspector.mjs", cases=("stdio legacy", "http legacy", "sse legacy", "stdio modern", "http modern")
    ),
    "typescript-v1": script("typescript.mjs", "v1", cases=EVERYWHERE),
    "typescript-v2": script("typescript.mjs", "v2", cases=(*EVERYWHERE, *EVERYWHERE_NEW)),
    "fastmcp": python("fastmcp", *EVERYWHERE, f"stdio {NEW}", f"http {NEW}"),
    "pydantic-ai": python("pydantic_ai", f"stdio {NEW}", f"http {NEW}"),
    "openai-agents": python("openai_agents", *EVERYWHERE_NEW),
    "langchain": python("langchain", *EVERYWHERE),
    "claude-code": agent(
        "claude-code", "node", str(MODULES / "@anthropic-ai" / "claude-code" / "cli-wrapper.cjs"), adds_sse=True
    ),
    "gemini": agent(
        "gemini",
        *("node", str(MODULES / "@google" / "gemini-cli" / "bundle" / "gemini.js")),
        settings={
            ".gemini": {
                "security": {"folderTrust": {"enabled": False}},
                "privacy": {"usageStatisticsEnabled": False},
                "general": {"enableAutoUpdate": False, "enableAutoUpdateNotification": False},
            }
        },
        adds_sse=True,
    ),
    # It lists what it would connect to.
    "codex": agent(
        "codex", "node", str(MODULES / "@openai" / "codex" / "bin" / "codex.js"), is_connected=r"^{} .*enabled"
    ),
    "opencode": agent(
        "opencode", str(MODULES / "opencode-linux-x64" / "bin" / "opencode"), is_connected=r"✓ {} .*connected"
    ),
}


def main(names: list[str]) -> int:
    unknown = set(names) - set(PEERS)
    if unknown:
        raise SystemExit(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(PEERS)}")
    chosen = names or list(PEERS)
    command = (sys.executable, "-m", "mcp_agentrun")
    failed: list[str] = []
    with tempfile.TemporaryDirectory() as folder, http_server(Path(folder)) as server:
        url, token = f"{server.url}/mcp", TOKENS["alice"]
        told_to_scripts = {"PEER_COMMAND": json.dumps(command), "PEER_URL": url, "PEER_TOKEN": token}
        site = Site(command, url, token, {**node_environment(), **told_to_scripts})
        for name in chosen:
            started = time.monotonic()
            try:
                line = f"ok      {PEERS[name](site)}"
            except PeerError as error:
                failed.append(name)
                line = f"FAILED  {name}: {error}"
            print(f"{line} ({time.monotonic() - started:.0f} s)", flush=True)
    print(
        f"{len(chosen) - len(failed)} of {len(chosen)} clients passed" + (f"; not {', '.join(failed)}" * bool(failed))
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
