"""The clients: where each keeps its servers, and what an entry looks like."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

__all__ = ["CLIENTS", "Client", "Server"]

Format = Literal["json", "jsonc", "toml", "yaml"]

STARTUP_SECONDS = 60
"""How long a client waits for the server, where that can be set: many wait 10 seconds."""


@dataclass(frozen=True, kw_only=True)
class Server:
    """How a client reaches the server: by starting it, or at a URL."""

    name: str
    command: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    url: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict[str, str])


_WITH_ALL = Server(name="x", command=("x",), environment={"x": "x"}, url="x", headers={"x": "x"})

Shape = Callable[[Server], dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Client:
    """A client's file. Paths are relative to the home folder; ``%NAME%`` is a variable's value."""

    title: str
    linux: str
    macos: str = ""
    """As on Linux if empty."""
    windows: str = ""
    """As on Linux if empty."""
    home: str = ""
    """Variable that names another folder for the file."""
    alternative: str = ""
    """Another name of the file, which is used if it exists."""
    format: Format
    section: tuple[str, ...]
    """Keys that lead to the servers."""
    stdio: Shape
    http: Shape | None
    """None if the file takes only servers that the client starts."""
    restart: str = "Restart it to see the tools."

    def updated(self, entry: Mapping[str, Any], server: Server) -> dict[str, Any]:
        """Return *entry* with what *server* sets. Other fields, variables and headers are kept, unless they are those
        of the other way to reach a server.
        """
        shape, other = (self.http, self.stdio) if server.url else (self.stdio, self.http)
        assert shape is not None
        wanted = shape(server)
        foreign = other(_WITH_ALL).keys() - shape(_WITH_ALL).keys() if other else ()
        kept = {name: value for name, value in entry.items() if name not in foreign}
        for name, value in wanted.items():
            before = kept.get(name)
            kept[name] = {**before, **value} if isinstance(before, dict) and isinstance(value, dict) else value
        return kept

    def file(self, environ: Mapping[str, str] = os.environ, platform: str = sys.platform) -> Path:
        """The user's own file."""
        path = {"darwin": self.macos, "win32": self.windows}.get(platform) or self.linux
        for name, default in (
            ("APPDATA", "AppData/Roaming"),
            ("XDG_CONFIG_HOME", ".config"),
        ):
            path = path.replace(f"%{name}%", environ.get(name) or default)
        folder = environ.get(self.home) if self.home else None
        file = Path(folder, Path(path).name) if folder else Path.home() / path
        other = file.with_name(self.alternative or file.name)
        return other if os.path.exists(other) else file  # Path.exists would raise if it can't be looked at


def _optional(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value}


def _plain(server: Server) -> dict[str, Any]:
    program, *arguments = server.command
    return {"command": program, "args": arguments, **_optional(env=dict(server.environment))}


def _at(key: str, **more: Any) -> Shape:
    return lambda server: {**more, key: server.url, **_optional(headers=dict(server.headers))}


def _typed(server: Server) -> dict[str, Any]:
    return {"type": "stdio", **_plain(server)}


def _codex(server: Server) -> dict[str, Any]:
    return {**_plain(server), "startup_timeout_sec": STARTUP_SECONDS}


def _codex_http(server: Server) -> dict[str, Any]:
    return {"url": server.url, "startup_timeout_sec": STARTUP_SECONDS, **_optional(http_headers=dict(server.headers))}


def _goose(server: Server) -> dict[str, Any]:
    program, *arguments = server.command
    return {
        "name": server.name,
        "type": "stdio",
        "enabled": True,
        "cmd": program,
        "args": arguments,
        "envs": dict(server.environment),
        "timeout": 300,
    }


def _goose_http(server: Server) -> dict[str, Any]:
    return {
        "name": server.name,
        "type": "streamable_http",
        "enabled": True,
        "uri": server.url,
        **_optional(headers=dict(server.headers)),
        "timeout": 300,
    }


def _opencode(server: Server) -> dict[str, Any]:
    entry = {"type": "local", "command": [*server.command], "enabled": True}
    return {**entry, **_optional(environment=dict(server.environment))}


_CODE_USER = {
    "linux": "%XDG_CONFIG_HOME%/Code/User/",
    "macos": "Library/Application Support/Code/User/",
    "windows": "%APPDATA%/Code/User/",
}
_CLINE = "globalStorage/saoudrizwan.claude-dev/settings/cline_mcp_settings.json"

CLIENTS: Mapping[str, Client] = {
    "claude-desktop": Client(
        title="Claude Desktop",
        linux="%XDG_CONFIG_HOME%/Claude/claude_desktop_config.json",
        macos="Library/Application Support/Claude/claude_desktop_config.json",
        windows="%APPDATA%/Claude/claude_desktop_config.json",
        format="json",
        section=("mcpServers",),
        stdio=_plain,
        http=None,
    ),
    "claude-code": Client(
        title="Claude Code",
        linux=".claude.json",
        home="CLAUDE_CONFIG_DIR",
        format="json",
        section=("mcpServers",),
        stdio=_typed,
        http=_at("url", type="http"),
    ),
    "cursor": Client(
        title="Cursor",
        linux=".cursor/mcp.json",
        format="jsonc",
        section=("mcpServers",),
        stdio=_plain,
        http=_at("url"),
    ),
    "vscode": Client(
        title="VS Code",
        **{platform: folder + "mcp.json" for platform, folder in _CODE_USER.items()},
        format="jsonc",
        section=("servers",),
        stdio=_typed,
        http=_at("url", type="http"),
        restart="Start it there with the command MCP: List Servers.",
    ),
    "gemini": Client(
        title="Gemini CLI",
        linux=".gemini/settings.json",
        format="jsonc",
        section=("mcpServers",),
        stdio=_plain,
        http=_at("httpUrl"),
    ),
    "codex": Client(
        title="Codex",
        linux=".codex/config.toml",
        home="CODEX_HOME",
        format="toml",
        section=("mcp_servers",),
        stdio=_codex,
        http=_codex_http,
    ),
    "windsurf": Client(
        title="Windsurf",
        linux=".codeium/windsurf/mcp_config.json",
        format="jsonc",
        section=("mcpServers",),
        stdio=_plain,
        http=_at("serverUrl"),
    ),
    "zed": Client(
        title="Zed",
        linux="%XDG_CONFIG_HOME%/zed/settings.json",
        macos=".config/zed/settings.json",
        windows="%APPDATA%/Zed/settings.json",
        format="jsonc",
        section=("context_servers",),
        stdio=_plain,
        http=_at("url"),
        restart="It reads the file at once.",
    ),
    "lmstudio": Client(
        title="LM Studio",
        linux=".lmstudio/mcp.json",
        format="jsonc",
        section=("mcpServers",),
        stdio=_plain,
        http=_at("url"),
    ),
    "cline": Client(
        title="Cline",
        **{platform: folder + _CLINE for platform, folder in _CODE_USER.items()},
        format="json",
        section=("mcpServers",),
        stdio=_plain,
        http=_at("url", type="streamableHttp"),
    ),
    "goose": Client(
        title="Goose",
        linux="%XDG_CONFIG_HOME%/goose/config.yaml",
        macos=".config/goose/config.yaml",
        windows="%APPDATA%/Block/goose/config/config.yaml",
        format="yaml",
        section=("extensions",),
        stdio=_goose,
        http=_goose_http,
    ),
    "opencode": Client(
        title="OpenCode",
        linux="%XDG_CONFIG_HOME%/opencode/opencode.json",
        macos=".config/opencode/opencode.json",
        windows=".config/opencode/opencode.json",
        alternative="opencode.jsonc",
        format="jsonc",
        section=("mcp",),
        stdio=_opencode,
        http=_at("url", type="remote", enabled=True),
    ),
}
