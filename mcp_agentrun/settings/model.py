"""All settings: one group for each subject, and one flat name for each setting."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from copy import copy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, cast, get_args, get_origin, get_type_hints

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from ..errors import InvalidRequestError, SettingsError
from .access import AccessSettings
from .audit import AuditSettings
from .engine import EngineSettings
from .fields import GIB, KIB, MIB, Group, Metavar
from .image import ImageSettings
from .kubernetes import KubernetesSettings
from .limits import LimitSettings, SandboxLimits
from .mcp import McpSettings
from .packages import PackageSettings
from .safety import SafetySettings
from .serve import ServeSettings

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from .options import AllOptions

__all__ = ["GROUPS", "SETTINGS", "Setting", "Settings"]

_GVISOR_PIDS = 1024
"""With fewer, gVisor ends when the code starts its first processes."""


@dataclass(frozen=True, init=False)
class Settings:
    """All settings, in groups. They are given by their flat names, and read from their group::

        settings = Settings(memory="2g", packages_allow="numpy,pandas")
        settings.limits.memory      # 2147483648
        settings.packages.allow     # ('numpy', 'pandas')

    Sizes are in bytes, or strings such as ``"256m"``; times are in seconds. ``docs/configuration.md`` lists them all.

    :raises SettingsError: a name is unknown, or a value is invalid or contradicts another one.
    """

    limits: LimitSettings
    image: ImageSettings
    engine: EngineSettings
    kubernetes: KubernetesSettings
    access: AccessSettings
    packages: PackageSettings
    safety: SafetySettings
    mcp: McpSettings
    serve: ServeSettings
    audit: AuditSettings
    origins: Mapping[str, str] = field(compare=False, repr=False)
    """Where the value of each setting that was given came from: ``argument``, ``flag``, ``environment``, a path."""

    def __init__(self, **values: Unpack[AllOptions]) -> None:
        self._fill(cast("dict[str, Any]", values), dict.fromkeys(values, "argument"))

    @classmethod
    def of(cls, values: Mapping[str, Any], origins: Mapping[str, str]) -> Settings:
        """Make settings from *values* by flat name; errors say where each came from, according to *origins*."""
        made = object.__new__(cls)
        made._fill(values, origins)
        return made

    def _fill(self, values: Mapping[str, Any], origins: Mapping[str, str]) -> None:
        object.__setattr__(self, "origins", origins)
        given: dict[str, dict[str, Any]] = {name: {} for name in GROUPS}
        for name, value in values.items():
            if name not in SETTINGS:
                raise SettingsError(_unknown(name, origins), setting=name, origin=origins.get(name))
            given[SETTINGS[name].group][name] = value
        problems: dict[str, str] = {}
        for group, model in GROUPS.items():
            if group == "limits" and "runsc" in str(values.get("runtime")):
                given[group].setdefault("pids", _GVISOR_PIDS)
            try:
                object.__setattr__(self, group, model(**given[group]))
            except ValidationError as error:
                problems.update(_problems(error, origins))
        if problems:
            first = next(iter(problems))
            setting = first if first in SETTINGS else None
            raise SettingsError("; ".join(problems.values()), setting=setting, origin=origins.get(first))
        self._check_pids()

    def _check_pids(self) -> None:
        if self.engine.is_gvisor and self.limits.pids < _GVISOR_PIDS:
            raise self.error("pids", f"must be {_GVISOR_PIDS} or more with runsc, whose own threads count as well")

    def lowered(self, wanted: SandboxLimits) -> Settings:
        """Return these settings for a sandbox with the limits that are *wanted*.

        :raises InvalidRequestError: a limit is larger than here, or they contradict one another.
        """
        made = copy(self)
        try:
            object.__setattr__(made, "limits", self.limits.lowered(wanted))
            made._check_pids()
        except (ValueError, SettingsError) as error:
            reasons = dict(_problems(error, {})).values() if isinstance(error, ValidationError) else [str(error)]
            raise InvalidRequestError("; ".join(reasons), argument="limits") from None
        return made

    def error(self, name: str, reason: object) -> SettingsError:
        """An error that says what is wrong with the value of *name*, and where that value came from."""
        return SettingsError(
            f"{name}{_origin(name, self.origins)}: {reason}", setting=name, origin=self.origins.get(name)
        )


class Setting(NamedTuple):
    """One setting, as its model describes it."""

    name: str
    """The flat name, which users give."""
    group: str
    attribute: str
    """Its name within the group."""
    field: FieldInfo

    @property
    def is_flag(self) -> bool:
        """Whether it is on or off."""
        return self.field.annotation is bool

    @property
    def is_list(self) -> bool:
        """Whether it holds any number of strings."""
        return self.field.annotation == tuple[str, ...]

    @property
    def choices(self) -> tuple[str, ...]:
        """The only values that it may have; empty where there are others."""
        return get_args(self.field.annotation) if get_origin(self.field.annotation) is Literal else ()

    @property
    def metavar(self) -> str:
        """What stands for its value on the command line, such as SIZE."""
        named = [each.text for each in self.field.metadata if isinstance(each, Metavar)]
        return named[-1] if named else "NUMBER"

    @property
    def default(self) -> str:
        """Its default, as a user would write it; empty where there is none."""
        return self.text_of(self.default_value)

    @property
    def default_value(self) -> Any:
        """Its default; None where there is none."""
        return self.field.get_default(call_default_factory=True, validated_data={})

    def text_of(self, value: Any) -> str:
        """*value* as a user would write it; empty for None."""
        if value is None:
            return ""
        if isinstance(value, bool):
            return "on" if value else "off"
        if isinstance(value, tuple):
            return ("," if self.is_list else "-").join(map(str, cast("tuple[object, ...]", value)))
        if self.metavar == "SIZE":
            return next(f"{value // unit}{name}" for name, unit in _UNITS if value % unit == 0)
        return f"{value:g}" if isinstance(value, float) else str(value)


_UNITS = (("g", GIB), ("m", MIB), ("k", KIB), ("", 1))


def _groups() -> Iterator[tuple[str, type[Group]]]:
    for name, type_ in get_type_hints(Settings).items():
        if isinstance(type_, type) and issubclass(type_, Group):
            yield name, type_


def _settings() -> Iterator[Setting]:
    for group, model in GROUPS.items():
        for attribute, info in model.model_fields.items():
            yield Setting(info.alias or attribute, group, attribute, info)


GROUPS: Mapping[str, type[Group]] = dict(_groups())
SETTINGS: Mapping[str, Setting] = {setting.name: setting for setting in _settings()}


def _origin(name: str, origins: Mapping[str, str]) -> str:
    origin = origins.get(name, "argument")
    return "" if origin == "argument" else f" ({origin})"


def _unknown(name: str, origins: Mapping[str, str]) -> str:
    close = difflib.get_close_matches(name.replace("-", "_").lower(), SETTINGS, 1)
    return f"unknown setting {name!r}{_origin(name, origins)}" + (f"; did you mean {close[0]!r}?" if close else "")


def _problems(error: ValidationError, origins: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """What is wrong with which setting. A message about several settings is its own key."""
    for detail in error.errors():
        reason = detail["msg"].removeprefix("Value error, ")
        name = str(detail["loc"][0]) if detail["loc"] else ""
        yield (name, f"{name}{_origin(name, origins)}: {reason}") if name else (reason, reason)
