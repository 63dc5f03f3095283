"""The command line: a module for each command."""

from __future__ import annotations

import click

from .build import build
from .cache import cache
from .check import check
from .client import client
from .completion import completion
from .config import config
from .containers import prune, ps
from .doctor import doctor
from .image import image
from .options import ALL_GROUPS, SettingsGroup, effective_settings
from .run import run
from .serve import serve
from .shell import shell
from .tools import tools
from .uninstall import uninstall

__all__ = ["main"]


@click.group(
    cls=SettingsGroup,
    groups=[group for group in ALL_GROUPS if group != "serve"],
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


for _command in (
    run,
    shell,
    serve,
    build,
    cache,
    check,
    client,
    config,
    doctor,
    tools,
    image,
    ps,
    prune,
    uninstall,
    completion,
):
    main.add_command(_command)
