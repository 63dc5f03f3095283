"""What sandboxes get from this machine: the user's folders, and the operator's rules for code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .host_folder import HostFolder
from .settings import Settings

__all__ = ["HostResources", "safety_options"]

_SYSTEM = frozenset(("/proc", "/sys", "/dev", "/run", "/var", "/etc", "/root", "/boot", "/usr"))
_SYSTEM_TREES = ("/proc/", "/sys/", "/dev/", "/run/")


@dataclass(frozen=True)
class HostResources:
    """What all sandboxes of a server get from this machine, as of the server's start."""

    data: Mapping[str, HostFolder]
    """The folders of the setting `data`, by path in the sandbox."""
    safety: Mapping[str, Any]
    """Keyword arguments of `mcp_agentrun.safety.check`."""

    @classmethod
    def from_settings(cls, settings: Settings) -> HostResources:
        """Find the folders and read the rules that *settings* name.

        :raises SettingsError: a folder is missing or not acceptable, the rules can't be read, or `safety_off` names
            a rule that does not exist.
        """
        return cls(_data_folders(settings), safety_options(settings))


def _data_folders(settings: Settings) -> dict[str, HostFolder]:
    pinned: dict[str, HostFolder] = {}
    for folder in settings.access.data:
        try:
            found = HostFolder.pin(Path(folder).expanduser())
        except (NotADirectoryError, FileNotFoundError):
            raise settings.error("data", f"there is no folder {folder}") from None
        except (OSError, RuntimeError, ValueError) as error:
            raise settings.error("data", f"{folder}: {error}") from None
        path = found.path
        if not path.name or str(path) in _SYSTEM or str(path).startswith(_SYSTEM_TREES):
            raise settings.error("data", f"{folder} belongs to the system; name the folder that has the data")
        place = f"/workspace/{path.name}"
        if place in pinned:
            both = f"{pinned[place].path} and {path}"
            raise settings.error("data", f"{both} would both be {place}; rename one, or name the folder that has both")
        pinned[place] = found
    return pinned


def safety_options(settings: Settings) -> dict[str, Any]:
    """Return the keyword arguments of `mcp_agentrun.safety.check`.

    :raises SettingsError: the file of `safety_rules` can't be read or understood, or `safety_off` names a rule that
        does not exist.
    """
    safety = settings.safety
    text = ""
    if safety.rules is not None:
        try:
            text = safety.rules.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise settings.error("safety_rules", f"{safety.rules} can't be read: {error}") from None
    if text or safety.off:
        _check_rules(settings, text)
    return {"profile": safety.profile, "off": tuple(safety.off), "warn": safety.warn, "rules": text}


def _check_rules(settings: Settings, text: str) -> None:
    from .safety.rules import built_in_rules, parse_rules

    try:
        own = parse_rules(text)
    except ValueError as error:
        raise settings.error("safety_rules", error) from None
    known = [rule.id for rule in (*built_in_rules(), *own)]
    for rule in settings.safety.off:
        if rule not in known:
            raise settings.error(
                "safety_off", f"there is no rule {rule!r} that can be disabled; there are {', '.join(known)}"
            )
