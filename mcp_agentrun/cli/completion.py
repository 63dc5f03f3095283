"""``mcp-agentrun completion``: completion of commands and options in a shell."""

from __future__ import annotations

import click

from .options import SettingsCommand

__all__ = ["completion"]

VARIABLE = "_MCP_AGENTRUN_COMPLETE"
"""What a shell sets when it asks for completions."""


@click.command(cls=SettingsCommand, groups=(), short_help="Print a completion script for a shell.")
@click.argument("shell", type=click.Choice(("bash", "zsh", "fish")))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """\b
    Examples: mcp-agentrun completion bash >> ~/.bashrc
              mcp-agentrun completion zsh >> ~/.zshrc
              mcp-agentrun completion fish \\
                  > ~/.config/fish/completions/mcp-agentrun.fish

    Print a script that completes commands, options and their values in SHELL.
    """
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    assert kind is not None
    script = kind(context.find_root().command, {}, "mcp-agentrun", VARIABLE)
    click.echo(script.source_template % script.source_vars())
