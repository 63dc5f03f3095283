"""Settings from the command line, the environment and a TOML file."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from platformdirs import user_config_path

from ..errors import SettingsError
from .model import SETTINGS, Settings

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # pyright: ignore

__all__ = ["CONFIG_VARIABLE", "load_settings", "settings_file"]

PREFIX = "AGENTRUN_"
CONFIG_VARIABLE = PREFIX + "CONFIG"


def load_settings(
    flags: Mapping[str, Any] | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    config: Path | None = None,
) -> Settings:
    """Load the effective settings: a flag overrides the environment, which overrides the file.

    :param flags: values given on the command line, by flat name; None for those that were not given.
    :param environ: by default the environment of this process.
    :param config: the TOML file; by default the one that ``AGENTRUN_CONFIG`` names, or, if it exists, the user's.
    :raises SettingsError: a value or a name is wrong; the message says which, and where it came from.
    """
    environ = os.environ if environ is None else environ
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for source, given in (
        _read_file(config, environ),
        ("environment", _read_environment(environ)),
        ("flag", {name: value for name, value in (flags or {}).items() if value is not None}),
    ):
        values.update(given)
        origins.update(dict.fromkeys(given, source))
    return Settings.of(values, origins)


def _read_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the settings in *environ*. An empty variable is ignored, except for a list, which is empty then."""
    given = {
        name[len(PREFIX) :].lower(): value
        for name, value in environ.items()
        if name.startswith(PREFIX) and name != CONFIG_VARIABLE
    }
    return {name: value for name, value in given.items() if value or (name in SETTINGS and SETTINGS[name].is_list)}


def settings_file(config: Path | None = None, environ: Mapping[str, str] | None = None) -> tuple[Path, bool]:
    """The settings file, and whether it was named, by *config* or in the environment. It need not exist."""
    variable = (os.environ if environ is None else environ).get(CONFIG_VARIABLE)
    if config or variable:
        return (config or Path(str(variable))).expanduser(), True
    return user_config_path("mcp-agentrun", appauthor=False) / "config.toml", False


def _read_file(config: Path | None, environ: Mapping[str, str]) -> tuple[str, dict[str, Any]]:
    path, is_named = settings_file(config, environ)
    try:
        return str(path), cast("dict[str, Any]", tomllib.loads(path.read_text("utf-8")))  # pyright: ignore
    except FileNotFoundError:
        if not is_named:
            return str(path), {}
        raise SettingsError(f"there is no settings file {path}") from None
    except (OSError, ValueError) as error:
        raise SettingsError(f"the settings file {path} can't be read: {error}") from None
