"""Every setting, its default, and where its value came from.

A setting can be given as a flag (``--max-timeout 60``), in the environment (``AGENTRUN_MAX_TIMEOUT=60``) and in one
TOML file (``max_timeout = 60``); the first that has it wins, in this order.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Mapping
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal, cast

from platformdirs import user_config_path
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from ..errors import SettingsError
from ..host_folder import HostFolder

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # pyright: ignore

__all__ = ["CONFIG_VARIABLE", "Settings", "load", "parse_size"]

PREFIX = "AGENTRUN_"
CONFIG_VARIABLE = PREFIX + "CONFIG"

_KIB, _MIB, _GIB = 1 << 10, 1 << 20, 1 << 30
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?", re.IGNORECASE)
_UNITS = {"": 1, "k": _KIB, "m": _MIB, "g": _GIB, "t": 1 << 40}
_DATE = re.compile(
    r"\d{4}-\d\d-\d\d(T([01]\d|2[0-3])(:[0-5]\d(:[0-5]\d(\.\d+)?)?)?(Z|[+-]([01]\d|2[0-3]):[0-5]\d)?)?", re.ASCII
)
_AGE = re.compile(r"\d+ (day|week|month|hour)s?")
_HOST = r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::(?:\d{1,5}|\*))?"
_ORIGIN = rf"[a-z][a-z0-9+.-]*://{_HOST}"
_RESERVED_UIDS = 10002  # the installer's is the last of them
_MEMORY_FOR_PYTHON = 150 * _MIB


def parse_size(value: object) -> object:
    """Bytes from ``"256m"``, ``"1 GiB"`` or a plain number; units are powers of 1024."""
    if not isinstance(value, str):
        return value
    match = _SIZE.fullmatch(value.strip())
    if match is None:
        raise ValueError("a size is a number with an optional unit, such as 512m or 2g")
    return int(float(match[1]) * _UNITS[match[2].lower()])


def _parse_names(value: object) -> object:
    if isinstance(value, str):
        return tuple(name.strip() for name in value.split(",") if name.strip())
    return value


def _parse_rules(value: object) -> object:
    """Names with versions, in which commas also separate the bounds of a range: ``django>=4,<5,numpy``."""
    if not isinstance(value, str):
        return value
    rules: list[str] = []
    for part in value.split(","):
        if rules and part.strip()[:1] in ("<", ">", "=", "!", "~"):
            rules[-1] += "," + part.strip()
        elif part.strip():
            rules.append(part.strip())
    return tuple(rules)


def _parse_range(value: object) -> object:
    if not isinstance(value, str):
        return value
    first, dash, last = value.partition("-")
    if not (dash and first.strip().isdigit() and last.strip().isdigit()):
        raise ValueError("a range is two numbers, such as 20000-59999")
    return int(first), int(last)


def _parse_folders(value: object) -> object:
    if isinstance(value, str):
        return tuple(folder for folder in value.split(os.pathsep) if folder)
    return value


def _parse_age(value: object) -> object:
    if not isinstance(value, str) or _AGE.fullmatch(value):
        return value
    try:
        if _DATE.fullmatch(value) is None:
            raise ValueError
        date.fromisoformat(value[:10])
    except ValueError:
        raise ValueError("give a date, such as 2026-01-31, or an age, such as 7 days") from None
    return value


def _expand(path: Path) -> Path:
    """*path* with the user's folder for ``~``: a client that starts the server has no shell to do that."""
    try:
        return path.expanduser()
    except RuntimeError as error:
        raise ValueError(f"{path}: {error}") from None


def _each(check: Callable[[str], bool], wanted: str) -> AfterValidator:
    """That *check* holds for each item of a list, or the error says which one is not what is *wanted*."""

    def checked(values: tuple[str, ...]) -> tuple[str, ...]:
        for value in values:
            if not check(value):
                without_secrets = re.sub(r"//.*@", "//***@", value)
                raise ValueError(f"{without_secrets!r} is not {wanted}")
        return values

    return AfterValidator(checked)


def _is_module(text: str) -> bool:
    return all(part.isidentifier() for part in text.split("."))


def _is_requirement(text: str) -> bool:
    from packaging.requirements import InvalidRequirement, Requirement

    try:
        Requirement(text)
    except InvalidRequirement:
        return False
    return True


def _is_network(text: str) -> bool:
    import ipaddress

    try:
        return text == "*" or bool(ipaddress.ip_network(text))
    except ValueError:
        return False


Size = Annotated[int, BeforeValidator(parse_size), Field(gt=0)]
Names = Annotated[tuple[str, ...], BeforeValidator(_parse_names)]
Folders = Annotated[tuple[str, ...], BeforeValidator(_parse_folders)]
Rules = Annotated[tuple[str, ...], BeforeValidator(_parse_rules)]
Requirements = Annotated[Rules, _each(_is_requirement, "a package's name, with versions if need be, as in scipy>=1.14")]
HostPath = Annotated[Path, AfterValidator(_expand)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


_GVISOR_PIDS = 1024
"""With fewer, gVisor ends when the code starts its first processes."""


class Settings(BaseModel):
    """All settings with their defaults. Sizes are bytes, times are seconds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    _data_folders: tuple[HostFolder, ...] = PrivateAttr(default=())

    timeout: Seconds = Field(default=30.0, description="Run time of a call that asks for none, in seconds.")
    max_timeout: Seconds = Field(default=300.0, description="Longest run time that a call may ask for, in seconds.")
    memory: Size = Field(
        default=_GIB, description="Memory of a sandbox, what its tmpfs folders hold included. No swap."
    )
    cpus: float = Field(default=1.0, ge=0.01, le=1024, description="CPU cores of a sandbox.")
    pids: int = Field(default=64, ge=16, description="Processes and threads of a sandbox; 1024 or more with runsc.")
    open_files: int = Field(default=256, ge=64, description="Open files of each process.")
    workspace_size: Size = Field(default=256 * _MIB, description="Size of /workspace, and of the largest file.")
    tmp_size: Size = Field(default=64 * _MIB, description="Size of /tmp.")
    shm_size: Size = Field(default=64 * _MIB, description="Size of /dev/shm.")
    inodes: int = Field(default=16384, ge=64, description="Files and folders in each of /workspace, /tmp and /dev/shm.")
    output_show: Size = Field(
        default=64 * _KIB, ge=256, description="Output shown in an answer, in bytes; beyond it, head and tail."
    )
    output_keep: Size = Field(
        default=8 * _MIB, description="Output kept of a run; beyond it, it is counted and discarded."
    )
    code_limit: Size = Field(default=256 * _KIB, le=512 * _KIB, description="Longest code accepted, in bytes of UTF-8.")
    checkpoints: bool = Field(
        default=True, description="Keep a copy of the variables, with which a session survives a crash."
    )
    queue: int = Field(default=16, ge=1, description="Calls that may wait for one sandbox.")
    max_sandboxes: int = Field(default=16, ge=1, description="Sandboxes that a client may have at a time.")
    network: Literal["none", "bridge"] = Field(
        default="none", description="Network of user code: none, or bridge, which reaches whatever the host reaches."
    )
    uid_range: Annotated[tuple[int, int], BeforeValidator(_parse_range)] = Field(
        default=(20000, 59999), description="User ids that sandboxes run under, one each, as FIRST-LAST."
    )
    image: str | None = Field(default=None, description="Image to run instead of the one built from runner_image.")
    image_base: str = Field(default="python:3.13-slim", description="Base on which the runner image is built.")
    image_packages: Requirements = Field(
        default=("numpy", "pandas", "matplotlib"),
        description="Packages built into the runner image, separated by commas.",
    )
    preload: Annotated[Names, _each(_is_module, "the name of a module, as in matplotlib.pyplot")] = Field(
        default=("numpy", "pandas", "matplotlib.pyplot"),
        description="Modules that every session finds already imported.",
    )
    runtime: str | None = Field(
        default=None, description="OCI runtime of the containers, such as runsc; the engine's own."
    )
    accept_weak_engine: bool = Field(
        default=False, description="Use the engine even if it can't enforce the limits, such as a rootless one."
    )
    install_timeout: Seconds = Field(
        default=600.0, description="Longest time that one install_package may take, in seconds."
    )
    data: Folders = Field(
        default=(), description="Folder of this machine that code can read, in /workspace by its name; may be repeated."
    )
    out: str | None = Field(
        default=None, description="Folder of this machine that gets a copy of each file that a run creates or changes."
    )
    out_size: Size = Field(default=_GIB, description="Bytes that are copied to out in all, while the server lives.")
    safety: Literal["strict", "standard", "off"] = Field(
        default="standard", description="Profile of the static check of code: strict, standard or off."
    )
    safety_off: Names = Field(default=(), description="Rules of the static check to leave out, separated by commas.")
    safety_rules: HostPath | None = Field(
        default=None, description="TOML file with rules of your own for the static check."
    )
    safety_warn: bool = Field(default=False, description="Run code that the static check objects to, and say so.")
    auto_install: Literal["off", "known", "all"] = Field(
        default="known",
        description="Install what code imports: off, known (well-known packages and those that packages_allow names), "
        "or all that may be installed.",
    )
    preinstall: Requirements = Field(default=(), description="Packages that every session has, installed at the start.")
    packages_allow: Rules = Field(
        default=("*",), description="Packages that may be asked for: names with * and versions, as in django<5."
    )
    packages_deny: Rules = Field(default=(), description="Packages that are never installed, not even as dependencies.")
    packages_most: int = Field(default=200, ge=1, description="Packages that a sandbox may have installed.")
    packages_download: Size = Field(default=4 * _GIB, description="Most that one installation may download.")
    packages_size: Size = Field(default=8 * _GIB, description="Most that a sandbox's packages may take on disk.")
    packages_files: int = Field(
        default=200_000, ge=1, description="Maximum number of files and folders of a sandbox's packages."
    )
    packages_exclude_newer: Annotated[str | None, AfterValidator(_parse_age)] = Field(
        default=None, description="Ignore releases newer than this date, or younger than this age, such as '7 days'."
    )
    packages_constraints: HostPath | None = Field(
        default=None, description="Constraints file: versions, and with --hash the files that may be used."
    )
    packages_require_hashes: bool = Field(
        default=False, description="Install only what the constraints file has a hash for."
    )
    packages_urls: bool = Field(default=False, description="Accept requirements that name a file's web address.")
    packages_build: bool = Field(
        default=False,
        description="Build packages that have no wheel, in the installer: that executes their code there.",
    )
    cache_size: Size = Field(default=10 * _GIB, description="Most that downloaded packages may take; oldest out.")
    wheelhouse: HostPath | None = Field(
        default=None, description="Folder with wheels to install from, beside the index."
    )
    offline: bool = Field(default=False, description="Give the installer no network: wheelhouse and cache only.")
    host: str = Field(default="127.0.0.1", description="Address that `serve` listens on.")
    port: int = Field(default=8000, ge=0, le=65535, description="Port that `serve` listens on; 0 takes any free one.")
    token_file: HostPath | None = Field(
        default=None, description="File with the bearer tokens that `serve` accepts, one line each: NAME TOKEN."
    )
    auth: bool = Field(default=True, description="Whether `serve` asks for a token.")
    allow_public_without_auth: bool = Field(
        default=False, description="Let `serve` do without a token also where other machines can reach it."
    )
    allowed_hosts: Annotated[
        Names, _each(lambda text: bool(re.fullmatch(_HOST, text)), "a host with a port, as in python.example:443")
    ] = Field(
        default=(), description="Host names, with port, under which `serve` is reached beside those of this machine."
    )
    allowed_origins: Annotated[
        Names, _each(lambda text: bool(re.fullmatch(_ORIGIN, text)), "an origin, as in https://app.example")
    ] = Field(default=(), description="Origins of web pages that may call `serve`.")
    idle_ttl: Seconds = Field(default=1800.0, description="How long a sandbox of `serve` lives unused, in seconds.")
    max_ttl: Seconds = Field(default=28800.0, description="How long a sandbox of `serve` lives in all, in seconds.")
    pool_max: int = Field(default=8, ge=0, description="Sandboxes that `serve` keeps ready when many are asked for.")
    pool: int = Field(
        default_factory=lambda earlier: min(2, int(earlier.get("pool_max", 2))),
        ge=0,
        description="Sandboxes that `serve` keeps ready; 0 for none.",
    )
    max_total: int = Field(default=100, ge=1, description="Sandboxes of all clients of `serve` together.")
    reserve: Size = Field(default=512 * _MIB, description="Memory of the machine that `serve` leaves free.")
    body_limit: Size = Field(default=4 * _MIB, description="Largest request that `serve` takes.")
    rate_limit: float = Field(default=200.0, gt=0, description="Requests per second that `serve` takes of a client.")
    stranger_limit: float = Field(
        default=50.0,
        gt=0,
        description="Requests per second that `serve` takes of an address that shows no valid token.",
    )
    trusted_proxies: Annotated[Names, _each(_is_network, "an address or a network, as in 10.0.0.1 or 10.0.0.0/8")] = (
        Field(default=(), description="Addresses of proxies whose word `serve` takes for where a request comes from.")
    )
    drain: Seconds = Field(
        default=30.0, description="How long `serve` waits at its end for calls to be answered, in seconds."
    )
    oauth_issuer: str | None = Field(
        default=None, description="Authorization server whose tokens `serve` takes in place of a token file."
    )
    oauth_introspection: str | None = Field(default=None, description="Its introspection endpoint (RFC 7662).")
    oauth_resource: str | None = Field(
        default=None, description="Address of `serve` for clients, ending in /mcp; tokens must be issued for it."
    )
    oauth_scopes: Names = Field(default=(), description="Scopes that a token must have.")
    oauth_client_id: str | None = Field(default=None, description="Name of `serve` at the authorization server.")
    oauth_client_secret_file: HostPath | None = Field(default=None, description="File with its secret there.")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="warning", description="What is logged to stderr."
    )
    log_format: Literal["text", "json"] = Field(
        default="text", description="Logs of `serve` as lines of text, or as one JSON object on each line."
    )

    @model_validator(mode="before")
    @classmethod
    def _fit_to_runtime(cls, values: Any) -> Any:
        if isinstance(values, dict):
            given = cast("dict[str, Any]", values)
            return {"pids": _GVISOR_PIDS, **given} if _is_gvisor(given.get("runtime")) else given
        return values

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_as_number(cls, value: object, info: ValidationInfo) -> object:
        wanted = cls.model_fields[str(info.field_name)].annotation
        if isinstance(value, bool) and (wanted is int or wanted is float):
            raise ValueError(f"a number is wanted, and not {str(value).lower()}")
        return value

    @model_validator(mode="after")
    def _check(self) -> Settings:
        if _is_gvisor(self.runtime) and self.pids < _GVISOR_PIDS:
            raise ValueError(f"pids must be {_GVISOR_PIDS} or more with runsc, whose own threads count, too")
        folders = self.workspace_size + self.tmp_size + self.shm_size
        if folders > self.memory - _MEMORY_FOR_PYTHON:
            raise ValueError(
                f"workspace_size + tmp_size + shm_size ({folders // _MIB} MiB) must not exceed memory less 150 MiB "
                f"({(self.memory - _MEMORY_FOR_PYTHON) // _MIB} MiB), because what these folders hold is memory"
            )
        if self.timeout > self.max_timeout:
            raise ValueError(f"timeout ({self.timeout:g} s) exceeds max_timeout ({self.max_timeout:g} s)")
        if self.idle_ttl > self.max_ttl:
            raise ValueError(f"idle_ttl ({self.idle_ttl:g} s) exceeds max_ttl ({self.max_ttl:g} s)")
        if self.output_show > self.output_keep:
            raise ValueError("output_show exceeds output_keep")
        if self.pool > self.pool_max:
            raise ValueError(f"pool ({self.pool}) exceeds pool_max ({self.pool_max})")
        if self.pool > self.max_total and "pool" in self.model_fields_set:
            raise ValueError(f"pool ({self.pool}) exceeds max_total ({self.max_total})")
        self._check_access()
        self._check_safety()
        self._data_folders = _pin_data(self.data)
        first, last = self.uid_range
        if not _RESERVED_UIDS < first <= last < 1 << 31:
            raise ValueError(f"uid_range must begin above {_RESERVED_UIDS} and not end before it begins")
        return self

    @property
    def data_folders(self) -> tuple[HostFolder, ...]:
        """The folders of `data`, as they were when these settings were made."""
        return self._data_folders

    def _check_safety(self) -> None:
        if not self.safety_off and self.safety_rules is None:
            return
        from ..safety.rules import built_in_rules, parse_rules

        try:
            own = parse_rules(self._own_rules())
        except ValueError as error:
            raise ValueError(f"safety_rules: {error}") from None
        known = [rule.id for rule in (*built_in_rules(), *own)]
        for rule in self.safety_off:
            if rule not in known:
                raise ValueError(
                    f"safety_off: there is no rule {rule!r} that can be left out; there are {', '.join(known)}"
                )

    def _own_rules(self) -> str:
        if self.safety_rules is None:
            return ""
        try:
            return self.safety_rules.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"{self.safety_rules} can't be read: {error}") from None

    def safety_options(self) -> dict[str, Any]:
        """Keyword arguments of `mcp_agentrun.safety.check`, which a sandbox judges code by."""
        return {
            "profile": self.safety,
            "off": list(self.safety_off),
            "warn": self.safety_warn,
            "rules": self._own_rules(),
        }

    def _check_access(self) -> None:
        """That the settings about who may call `serve` say one thing: none of them is ignored for another."""
        oauth = sorted(name for name in self.model_fields_set if name.startswith("oauth_") and getattr(self, name))
        if not self.auth and (oauth or self.token_file is not None):
            raise ValueError(
                f"auth is off, so that {oauth[0] if oauth else 'token_file'} would mean nothing: leave one out"
            )
        if oauth and self.token_file is not None:
            raise ValueError(
                f"tokens are those of token_file or of an authorization server ({oauth[0]}): leave one out"
            )
        if oauth and not (self.oauth_issuer or self.oauth_introspection or self.oauth_resource):
            raise ValueError(f"{oauth[0]} means nothing without oauth_issuer, oauth_introspection and oauth_resource")
        if bool(self.oauth_client_id) != (self.oauth_client_secret_file is not None):
            raise ValueError("oauth_client_id and oauth_client_secret_file go together")


_LISTS = frozenset(name for name, field in Settings.model_fields.items() if field.annotation == tuple[str, ...])


def _is_gvisor(runtime: object) -> bool:
    return isinstance(runtime, str) and "runsc" in runtime


def _pin_data(folders: tuple[str, ...]) -> tuple[HostFolder, ...]:
    pinned: dict[str, HostFolder] = {}
    for folder in folders:
        try:
            found = HostFolder.pin(Path(folder).expanduser())
        except (NotADirectoryError, FileNotFoundError):
            raise ValueError(f"data: there is no folder {folder}") from None
        except (OSError, RuntimeError, ValueError) as error:
            raise ValueError(f"data: {folder}: {error}") from None
        path = found.path
        if not path.name or str(path) in _NOT_DATA or str(path).startswith(("/proc/", "/sys/", "/dev/", "/run/")):
            raise ValueError(f"data: {folder} is the system's; give the folder that has the data")
        if path.name in pinned:
            raise ValueError(f"data: two folders have the name {path.name}")
        pinned[path.name] = found
    return tuple(pinned.values())


_NOT_DATA = frozenset(("/proc", "/sys", "/dev", "/run", "/var", "/etc", "/root", "/boot", "/usr"))


def load(
    flags: Mapping[str, Any] | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    config: Path | None = None,
) -> tuple[Settings, dict[str, str]]:
    """The effective settings, and for each the name of its source.

    :param flags: values given on the command line, by setting; those that are None were not given.
    :param config: the TOML file; by default the one that ``AGENTRUN_CONFIG`` names, or, if it exists, the user's.
    :raises SettingsError: a value or a name is wrong; the message says which, and where it came from.
    """
    environ = os.environ if environ is None else environ
    values: dict[str, Any] = {}
    origins = dict.fromkeys(Settings.model_fields, "default")
    for source, given in (
        _read_file(config, environ),
        ("environment", _read_environment(environ)),
        ("flag", {name: value for name, value in (flags or {}).items() if value is not None}),
    ):
        for name, value in given.items():
            if name not in Settings.model_fields:
                raise SettingsError(f"unknown setting {name!r} ({source}){_suggestion(name)}")
            values[name] = value
            origins[name] = source
    try:
        return Settings(**values), origins
    except ValidationError as error:
        problems: list[str] = []
        for detail in error.errors():
            name = str(detail["loc"][0]) if detail["loc"] else ""
            reason = detail["msg"].removeprefix("Value error, ")
            problems.append(f"{name} ({origins[name]}): {reason}" if name else reason)
        raise SettingsError("; ".join(problems)) from None


def _suggestion(name: str) -> str:
    import difflib

    close = difflib.get_close_matches(name.replace("-", "_").lower(), Settings.model_fields, 1)
    return f"; did you mean {close[0]!r}?" if close else ""


def _read_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """What is set there. An empty variable is not, unless it is a list's: that one has nothing in it then."""
    given = {
        name[len(PREFIX) :].lower(): value
        for name, value in environ.items()
        if name.startswith(PREFIX) and name != CONFIG_VARIABLE
    }
    return {name: value for name, value in given.items() if value or name in _LISTS}


def _read_file(config: Path | None, environ: Mapping[str, str]) -> tuple[str, dict[str, Any]]:
    named = config or (Path(environ[CONFIG_VARIABLE]) if environ.get(CONFIG_VARIABLE) else None)
    path = named.expanduser() if named else user_config_path("mcp-agentrun", appauthor=False) / "config.toml"
    try:
        return str(path), cast("dict[str, Any]", tomllib.loads(path.read_text("utf-8")))  # pyright: ignore
    except FileNotFoundError:
        if named is None:
            return str(path), {}
        raise SettingsError(f"there is no settings file {path}") from None
    except (OSError, ValueError) as error:
        raise SettingsError(f"the settings file {path} can't be read: {error}") from None
