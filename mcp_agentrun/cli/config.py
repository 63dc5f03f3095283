"""``mcp-agentrun config``: the effective settings, and a file for them."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from ..errors import AgentRunError
from ..settings import GROUPS, SETTINGS, Setting, Settings
from .options import ALL_GROUPS, SettingsGroup, effective_settings, settings_path
from .terminal import colored, print_table

__all__ = ["config"]

_WIDTH = 100


@click.group(
    cls=SettingsGroup, groups=ALL_GROUPS, invoke_without_command=True, short_help="Show the settings, or begin a file."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_context
def config(context: click.Context, as_json: bool) -> None:
    """Example: mcp-agentrun config --memory 2g

    Show the effective settings and where each comes from: a flag, the environment, a file, or the default.
    """
    if context.invoked_subcommand is None:
        settings = effective_settings()
        if as_json:
            click.echo(json.dumps(_as_json(settings), indent=2, ensure_ascii=False))
        else:
            _print(settings)


@config.command(groups=(), short_help="Write a settings file with comments.")
@click.option("--file", type=click.Path(dir_okay=False, path_type=Path), help="Where; by default the user's own file.")
@click.option("--force", is_flag=True, help="Replace a file that exists.")
def init(file: Path | None, force: bool) -> None:
    """Example: mcp-agentrun config init

    Write a TOML file with every setting, its meaning and its default, as comments to be edited.
    """
    path = (file or settings_path()).expanduser()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w" if force else "x", encoding="utf-8") as opened:
            opened.write(_template())
    except FileExistsError:
        raise AgentRunError(f"{path} exists. Give --force to replace it, or --file to write another.") from None
    except OSError as error:
        raise AgentRunError(f"{path} can't be written: {error.strerror}") from None
    click.echo(f"Wrote {path}. Remove the # before a setting to change it.")


def _value(settings: Settings, setting: Setting) -> Any:
    return getattr(getattr(settings, setting.group), setting.attribute)


def _print(settings: Settings) -> None:
    path = settings_path()
    click.echo(f"Settings file: {path}" + ("" if path.exists() else " (does not exist; `config init` writes it)"))
    for group, model in GROUPS.items():
        click.echo("\n" + colored((model.__doc__ or group).rstrip("."), "cyan", bold=True))
        members = [setting for setting in SETTINGS.values() if setting.group == group]
        rows = [
            (
                setting.name,
                setting.text_of(_value(settings, setting)) or "-",
                settings.origins.get(setting.name, "default"),
            )
            for setting in members
        ]
        print_table([("setting", "value", "from"), *rows])


def _as_json(settings: Settings) -> dict[str, Any]:
    return {
        name: {
            "value": setting.text_of(_value(settings, setting)) or None,
            "from": settings.origins.get(name, "default"),
        }
        for name, setting in SETTINGS.items()
    }


def _template() -> str:
    head = "Settings of mcp-agentrun. A flag (--max-timeout 60) or a variable (AGENTRUN_MAX_TIMEOUT=60) overrides them."
    return "\n".join([*_comment(head), *(line for group in GROUPS for line in _section(group))]) + "\n"


def _section(group: str) -> Iterator[str]:
    yield from ("", "", f"# --- {(GROUPS[group].__doc__ or group).rstrip('.')} ---")
    for setting in SETTINGS.values():
        if setting.group == group:
            choices = f" One of: {', '.join(setting.choices)}." if setting.choices else ""
            yield ""
            yield from _comment((setting.field.description or "") + choices)
            yield f"#{setting.name} = {_toml(setting)}"


def _comment(text: str) -> Iterator[str]:
    return (f"# {line}" for line in textwrap.wrap(text, _WIDTH))


def _toml(setting: Setting) -> str:
    """Return the default, or the metavar if there is none."""
    value = setting.default_value
    if isinstance(value, tuple) and setting.is_list:
        return json.dumps(value)
    if setting.metavar != "SIZE" and isinstance(value, bool | int | float):
        return json.dumps(value)
    return json.dumps(setting.default if value is not None else setting.metavar)
