"""The command line."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from .errors import AgentRunError, SettingsError
from .settings import Settings, load

__all__ = ["main"]

_C = TypeVar("_C", bound=Callable[..., Any])


def _settings_options(command: _C) -> _C:
    """One option for each setting, and ``--config``."""
    for name, field in reversed(Settings.model_fields.items()):
        repeated = name == "data"
        command = click.option(
            "--" + name.replace("_", "-"),
            name,
            help=field.description,
            multiple=repeated,
            callback=_given,
        )(command)
    return click.option(
        "--config",
        type=click.Path(dir_okay=False, path_type=Path),
        help="TOML file with settings; by default AGENTRUN_CONFIG or the user's own.",
    )(command)


def _given(_context: click.Context, _option: click.Parameter, value: Any) -> Any:
    """The values of an option that may be repeated, or what any other has."""
    return value or None if isinstance(value, tuple) else value  # pyright: ignore[reportUnknownVariableType]


def _load(config: Path | None, flags: dict[str, Any]) -> Settings:
    try:
        return load(flags, config=config)[0]
    except SettingsError as error:
        raise click.UsageError(str(error)) from None


@click.group(invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="mcp-agentrun")
@_settings_options
@click.pass_context
def main(context: click.Context, config: Path | None, **flags: Any) -> None:
    """A private Python for AI agents. Without a command: serve one MCP client over stdin and stdout.

    Each option can be given as AGENTRUN_<OPTION> in the environment, and in a TOML file.
    """
    settings = _load(config, flags)
    if context.invoked_subcommand is None:
        from .server.stdio import serve_stdio

        serve_stdio(settings)
    context.obj = settings


@main.command()
@click.pass_obj
def build(settings: Settings) -> None:
    """Build the runner image, unless it is there, and say its name."""
    import anyio

    from .engine.docker import DockerEngine
    from .engine.image import ImageRecipe

    async def run() -> str:
        engine = DockerEngine(recipe=ImageRecipe(settings.image_base, settings.image_packages), image=settings.image)
        try:
            return await engine.ensure_image(lambda stage: click.echo(stage, err=True))
        finally:
            await engine.aclose()

    try:
        click.echo(anyio.run(run))
    except AgentRunError as error:
        click.echo(f"mcp-agentrun: {error}", err=True)
        sys.exit(1)
