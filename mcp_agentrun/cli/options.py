"""Options generated from the settings, and commands that offer those of some groups."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from ..errors import AgentRunError, SettingsError
from ..settings import GROUPS, SETTINGS, Setting, Settings, load_settings, settings_file

__all__ = [
    "ALL_GROUPS",
    "NO_LIMIT",
    "PROGRAM_GROUPS",
    "SERVERS_OWN",
    "STDIO_GROUPS",
    "SettingOption",
    "SettingsCommand",
    "SettingsGroup",
    "effective_settings",
    "settings_path",
]

ALL_GROUPS = tuple(GROUPS)
STDIO_GROUPS = tuple(group for group in ALL_GROUPS if group != "serve")
"""Groups of the server that a client starts."""

PROGRAM_GROUPS = ("access", "limits", "packages", "safety", "image", "engine")
"""Groups of the commands that run a person's own code."""

SERVERS_OWN = ("timeout", "max_timeout", "queue", "max_sandboxes", "output_show", "output_keep")
"""Settings of these groups that make no sense for such commands."""

NO_LIMIT = 1e8
"""Time limit of code that a person can interrupt, in seconds: three years."""

_FLAGS, _CONFIG = "mcp_agentrun.flags", "mcp_agentrun.config"
"""Keys of a context's metadata: the settings given on the command line, and the settings file."""


class SettingOption(click.Option):
    """An option for one setting. `load_settings` validates its value, with those of all other sources."""

    def __init__(self, setting: Setting) -> None:
        flag = setting.name.replace("_", "-")
        super().__init__(
            [f"--{flag}/--no-{flag}" if setting.is_flag else f"--{flag}", setting.name],
            type=click.Choice(setting.choices) if setting.choices else None,
            metavar=None if setting.is_flag or setting.choices else setting.metavar,
            multiple=setting.name == "data",
            default=None,
            help=setting.field.description,
            expose_value=False,
            callback=_keep_flag,
        )
        self.setting = setting


def _keep_flag(context: click.Context, option: click.Parameter, value: Any) -> None:
    if value is not None and value != ():
        context.meta.setdefault(_FLAGS, {})[option.name] = value


def _keep_config(context: click.Context, _option: click.Parameter, value: Path | None) -> None:
    if value is not None:
        context.meta[_CONFIG] = value


def _config_option() -> click.Option:
    return click.Option(
        ["--config"],
        type=click.Path(dir_okay=False, path_type=Path),
        metavar="FILE",
        help="TOML file with settings. Defaults to AGENTRUN_CONFIG or the user's own.",
        expose_value=False,
        callback=_keep_config,
    )


def effective_settings(**overrides: Any) -> Settings:
    """Load the settings of the running command. *overrides* that are not None count as flags.

    :raises SettingsError: a setting is invalid, whatever its source.
    """
    meta = click.get_current_context().meta
    given = {name: value for name, value in overrides.items() if value is not None}
    return load_settings({**meta.get(_FLAGS, {}), **given}, config=meta.get(_CONFIG))


def settings_path() -> Path:
    """Return the settings file of the running command, which need not exist."""
    return settings_file(click.get_current_context().meta.get(_CONFIG))[0]


class SettingsCommand(click.Command):
    """A command that offers the settings of some groups, and reports errors in one line.

    The exit code is 2 if a setting is wrong, and 1 if the command fails.

    :param groups: names of the groups, in the order of its help.
    :param without: settings of these groups that are left out.
    """

    def __init__(self, *args: Any, groups: Sequence[str], without: Sequence[str] = (), **attributes: Any) -> None:
        super().__init__(*args, **attributes)
        self.without = frozenset(without)
        if groups:
            self.params.append(_config_option())
        for group in groups:
            self.params += [
                SettingOption(setting)
                for setting in SETTINGS.values()
                if setting.group == group and setting.name not in self.without
            ]

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except SettingsError as error:
            raise click.UsageError(str(error), ctx) from None
        except AgentRunError as error:
            from .terminal import note

            note(str(error))
            sys.exit(1)
        except KeyboardInterrupt:  # Click's own exit code would be 1
            sys.exit(128 + signal.SIGINT)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the options by group, each in two lines: its name and its meaning."""
        sections: dict[str, list[click.Option]] = {}
        for option in self.get_params(ctx):
            if isinstance(option, click.Option):
                sections.setdefault(_title(option), []).append(option)
        for title, options in sections.items():
            with formatter.section(title):
                for option in options:
                    names, meaning = option.get_help_record(ctx) or ("", "")
                    default = option.setting.default if isinstance(option, SettingOption) else ""
                    formatter.write(f"  {names}  [default: {default}]\n" if default else f"  {names}\n")
                    formatter.write(f"      {meaning}\n")


class SettingsGroup(SettingsCommand, click.Group):
    """A group of such commands. Its own settings may stand before a command's name."""

    command_class = SettingsCommand

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands, and then the options, of which there may be many."""
        self.format_commands(ctx, formatter)
        super().format_options(ctx, formatter)


def _title(option: click.Option) -> str:
    if not isinstance(option, SettingOption):
        return "Options"
    return (GROUPS[option.setting.group].__doc__ or "").rstrip(".")
