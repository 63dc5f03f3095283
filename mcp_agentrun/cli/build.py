"""``mcp-agentrun build``."""

from __future__ import annotations

import click

from .options import SettingsCommand, effective_settings

__all__ = ["build"]


@click.command(cls=SettingsCommand, groups=("image", "engine"), short_help="Build the runner image.")
@click.option("--refresh", is_flag=True, help="Rebuild it on the newest base image, for its security updates.")
def build(refresh: bool) -> None:
    """Example: mcp-agentrun build --refresh

    Pull or build the runner image, unless it exists, and print its name.
    """
    from ..process_exit import run_interruptibly
    from ..sandbox import AsyncRuntime
    from .progress import Progress

    settings = effective_settings()
    if refresh and settings.image.name is not None:
        raise settings.error("image", "this image is not built here, so it can't be refreshed")

    async def run() -> str:
        async with AsyncRuntime(settings) as runtime:
            with Progress() as progress:
                return await runtime.build(progress, refresh=refresh)

    click.echo(run_interruptibly(run))
