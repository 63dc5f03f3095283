"""The command line: a module for each command, imported when it is called."""

from __future__ import annotations

from importlib import import_module

import click

from .options import STDIO_GROUPS, SettingsGroup, effective_settings

__all__ = ["main"]

_MODULES = {
    "run": "run",
    "shell": "shell",
    "serve": "serve",
    "audit": "audit",
    "build": "build",
    "cache": "cache",
    "check": "check",
    "client": "client",
    "config": "config",
    "doctor": "doctor",
    "tools": "tools",
    "image": "image",
    "ps": "containers",
    "prune": "containers",
    "uninstall": "uninstall",
    "completion": "completion",
}
"""Where each command is."""


class _Commands(SettingsGroup):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(_MODULES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        module = _MODULES.get(cmd_name)
        return getattr(import_module(f".{module}", __package__), cmd_name) if module else None


@click.group(
    cls=_Commands,
    groups=STDIO_GROUPS,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(package_name="mcp-agentrun")
@click.pass_context
def main(context: click.Context) -> None:
    """Example: mcp-agentrun client add claude-code

    A private Python for AI agents. Without a command, serve one MCP client over stdin and stdout.

    Each setting can also be given as AGENTRUN_<NAME> in the environment, and in a TOML file. Sizes are in bytes or
    have a unit, as in 256m or 2g.
    """
    if context.invoked_subcommand is None:
        from ..server.mcp.stdio import serve_stdio

        serve_stdio(effective_settings())
