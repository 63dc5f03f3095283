"""The command line."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

import click

from ..errors import AgentRunError, SettingsError
from ..settings import SETTINGS, Settings, load

__all__ = ["main"]

_C = TypeVar("_C", bound=Callable[..., Any])


def _settings_options(command: _C) -> _C:
    """One option for each setting, and ``--config``."""
    for name, setting in reversed(list(SETTINGS.items())):
        flag = name.replace("_", "-")
        command = click.option(
            f"--{flag}/--no-{flag}" if setting.is_flag else f"--{flag}",
            name,
            default=None,
            help=setting.field.description,
            multiple=name == "data",
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
        return load(flags, config=config)
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
    if context.invoked_subcommand is None:
        from ..server.mcp.stdio import serve_stdio

        serve_stdio(_load(config, flags))
    context.obj = config, flags


def _effective(
    context: click.Context, config: Path | None = None, flags: Mapping[str, Any] = MappingProxyType({})
) -> Settings:
    """The settings of a command: options may stand before and behind its name."""
    config_before, before = context.obj
    return _load(
        config or config_before, {**before, **{name: value for name, value in flags.items() if value is not None}}
    )


@main.command()
@_settings_options
@click.pass_context
def serve(context: click.Context, config: Path | None, **flags: Any) -> None:
    """Serve many MCP clients over HTTP: streamable HTTP at /mcp, SSE at /sse."""
    from ..server.http.app import serve_http

    try:
        serve_http(_effective(context, config, flags))
    except SettingsError as error:
        raise click.UsageError(str(error)) from None


@main.command()
@click.option("--refresh", is_flag=True, help="Build it anew, on the newest base there is, for its security updates.")
@_settings_options
@click.pass_context
def build(context: click.Context, refresh: bool, config: Path | None, **flags: Any) -> None:
    """Build the runner image, unless it is there, and say its name."""
    from ..engine.docker.engine import DockerEngine
    from ..process_exit import run_interruptibly
    from ..spoofing import foreign

    settings = _effective(context, config, flags)
    if refresh and settings.image.name is not None:
        raise click.UsageError("`image` names an image that is not built here, so that there is none to refresh")

    async def run() -> str:
        engine = DockerEngine.from_settings(settings)
        make = engine.refresh_image if refresh else engine.ensure_image
        try:
            return await make(lambda stage: click.echo(foreign(stage), err=True))
        finally:
            await engine.aclose()

    try:
        click.echo(run_interruptibly(run))
    except AgentRunError as error:
        click.echo(f"mcp-agentrun: {foreign(str(error), lines=True)}", err=True)
        sys.exit(1)


@main.group(invoke_without_command=True)
@click.pass_context
def cache(context: click.Context) -> None:
    """Show what the cache of downloaded packages holds, or clear it."""
    if context.invoked_subcommand is None:
        context.invoke(show)


@cache.command()
@_settings_options
@click.pass_context
def show(context: click.Context, config: Path | None, **flags: Any) -> None:
    """What the cache holds, and when it was last used."""
    _cache(_effective(context, config, flags), clear=False)


@cache.command()
@_settings_options
@click.pass_context
def clear(context: click.Context, config: Path | None, **flags: Any) -> None:
    """Remove all downloaded packages. Those that a sandbox has installed stay with it."""
    _cache(_effective(context, config, flags), clear=True)


def _cache(settings: Settings, *, clear: bool) -> None:
    import os
    import time

    from ..engine.docker.engine import DockerEngine
    from ..engine.network import NetworkSettings
    from ..packages.installer import Cache, Installer
    from ..process_exit import run_interruptibly
    from ..spoofing import foreign

    async def run() -> Cache | AgentRunError:
        engine = DockerEngine.from_settings(settings)
        try:
            async with Installer(engine, settings, NetworkSettings.from_environment(os.environ)) as installer:
                try:
                    return await installer.cache(clear=clear)
                except AgentRunError as error:  # which would leave the installer as one of a group
                    return error
        finally:
            await engine.aclose()

    try:
        held = run_interruptibly(run)
    except SettingsError as error:
        raise click.UsageError(str(error)) from None
    if isinstance(held, AgentRunError):
        click.echo(f"mcp-agentrun: {foreign(str(held), lines=True)}", err=True)
        sys.exit(1)
    for name, used in sorted(held.packages, key=lambda package: -package[1]):
        click.echo(f"{time.strftime('%Y-%m-%d %H:%M', time.localtime(used))}  {foreign(name)}")
    click.echo(f"{held.size / (1 << 20):.1f} MiB of {settings.packages.cache_size / (1 << 20):.0f} MiB")


@main.command("check")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path, dir_okay=False, allow_dash=True))
@click.option("--profile", type=click.Choice(["strict", "standard", "off"]), help="The setting `safety` if left out.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object for each file.")
@_settings_options
@click.pass_context
def check_files(
    context: click.Context,
    files: tuple[Path, ...],
    profile: str | None,
    as_json: bool,
    config: Path | None,
    **flags: Any,
) -> None:
    """Judge Python FILES as code is judged before it runs, without running them; - is standard input.

    Exit code: 0 if all are allowed, 1 if one is refused, 2 if one can't be read.
    """
    import json

    from ..safety import check
    from ..sandbox.host import safety_options
    from ..spoofing import foreign

    settings = _effective(context, config, {**flags, "safety": profile or flags["safety"]})
    try:
        options = safety_options(settings)
    except SettingsError as error:
        raise click.UsageError(str(error)) from None
    status = 0
    for path in files:
        try:
            data = sys.stdin.buffer.read() if str(path) == "-" else path.read_bytes()
            code = data.decode("utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            reason = f"not valid UTF-8 ({error.reason})" if isinstance(error, UnicodeDecodeError) else error.strerror
            click.echo(f"mcp-agentrun: {path} can't be read: {reason}", err=True)
            status = 2
            continue
        verdict = check(code, **options)
        if not verdict.allowed:
            status = max(status, 1)
        if as_json:
            findings = [finding._asdict() for finding in verdict.findings]
            click.echo(json.dumps({"file": str(path), "allowed": verdict.allowed, "findings": findings}))
            continue
        for finding in verdict.findings:
            click.echo(f"{path}:{finding.line}:{finding.column}: {foreign(finding.reason)} [{finding.rule}]")
            click.echo(f"    {foreign(finding.remedy)}")
    sys.exit(status)
