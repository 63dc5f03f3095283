"""``mcp-agentrun build``."""

from __future__ import annotations

import click

from .options import SettingsCommand, effective_settings

__all__ = ["build"]


@click.command(cls=SettingsCommand, groups=("image", "engine"))
@click.option("--refresh", is_flag=True, help="Rebuild it on the newest base image, for its security updates.")
def build(refresh: bool) -> None:
    """Build the runner image, unless it exists, and print its name."""
    from ..engine.docker.engine import DockerEngine
    from ..process_exit import run_interruptibly
    from ..spoofing import foreign

    settings = effective_settings()
    if refresh and settings.image.name is not None:
        raise settings.error("image", "this image is not built here, so it can't be refreshed")

    async def run() -> str:
        engine = DockerEngine.from_settings(settings)
        make = engine.refresh_image if refresh else engine.ensure_image
        try:
            return await make(lambda stage: click.echo(foreign(stage), err=True))
        finally:
            await engine.aclose()

    click.echo(run_interruptibly(run))
