"""``mcp-agentrun cache``: what has been downloaded for installations."""

from __future__ import annotations

import click

from .options import SettingsGroup, effective_settings

__all__ = ["cache"]

_GROUPS = ("packages", "image", "engine")


@click.group(
    cls=SettingsGroup, groups=_GROUPS, invoke_without_command=True, short_help="Show or clear the package cache."
)
@click.pass_context
def cache(context: click.Context) -> None:
    """Example: mcp-agentrun cache clear

    Show or clear the cache of downloaded packages.
    """
    if context.invoked_subcommand is None:
        context.invoke(show)


@cache.command(groups=_GROUPS, short_help="Show what the cache holds.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def show(as_json: bool) -> None:
    """Example: mcp-agentrun cache show

    Show what the cache holds, and when it was last used.
    """
    _cache(clear=False, as_json=as_json)


@cache.command(groups=_GROUPS, short_help="Remove all downloaded packages.")
def clear() -> None:
    """Example: mcp-agentrun cache clear

    Remove all downloaded packages. Sandboxes keep what they have installed.
    """
    _cache(clear=True)


def _cache(*, clear: bool, as_json: bool = False) -> None:
    import json
    import time

    from ..process_exit import run_interruptibly
    from ..sandbox import AsyncRuntime, Cache
    from ..spoofing import foreign

    settings = effective_settings()

    async def run() -> Cache:
        async with AsyncRuntime(settings) as runtime:
            return await runtime.cache(clear=clear)

    held = run_interruptibly(run)
    if as_json:
        packages = [{"name": name, "used": used} for name, used in held.packages]
        click.echo(json.dumps({"size": held.size, "limit": settings.packages.cache_size, "packages": packages}))
        return
    for name, used in sorted(held.packages, key=lambda package: -package[1]):
        click.echo(f"{time.strftime('%Y-%m-%d %H:%M', time.localtime(used))}  {foreign(name)}")
    click.echo(f"{held.size / (1 << 20):.1f} MiB of {settings.packages.cache_size / (1 << 20):.0f} MiB")
