"""Settings from all their sources, pure."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mcp_agentrun.errors import InvalidRequestError, SettingsError
from mcp_agentrun.host_resources import HostResources
from mcp_agentrun.settings import GROUPS, SETTINGS, SandboxLimits, Setting, Settings, load_settings, parse_size
from tests.support.settings_options import MODULE, source
from tests.support.settings_table import PAGE, with_tables

OAUTH = {
    "AGENTRUN_OAUTH_ISSUER": "https://a.example",
    "AGENTRUN_OAUTH_INTROSPECTION": "https://a.example/introspect",
    "AGENTRUN_OAUTH_RESOURCE": "https://b.example/mcp",
}


@pytest.fixture(autouse=True)
def no_settings_of_the_user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "none"))


def test_defaults() -> None:
    settings = load_settings(environ={})
    limits = settings.limits
    assert (limits.timeout, limits.max_timeout) == (30, 300)
    assert (limits.memory, limits.cpus, limits.pids, limits.open_files) == (1 << 30, 1.0, 64, 256)
    assert (limits.workspace_size, limits.tmp_size, limits.shm_size) == (256 << 20, 64 << 20, 64 << 20)
    assert (limits.output_show, limits.output_keep, limits.code_limit) == (64 << 10, 8 << 20, 256 << 10)
    assert settings.access.network == "none"
    assert (settings.engine.name, settings.mcp.tools) == ("docker", ())
    assert settings == Settings()
    assert settings.origins == {}


def test_a_flag_overrides_the_environment_which_overrides_the_file(tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_text('timeout = 5\npids = 100\nmemory = "2g"\n')
    settings = load_settings(
        {"timeout": "7", "cpus": None}, environ={"AGENTRUN_TIMEOUT": "6", "AGENTRUN_PIDS": "90"}, config=file
    )
    assert (settings.limits.timeout, settings.limits.pids, settings.limits.memory) == (7, 90, 2 << 30)
    assert settings.origins == {"timeout": "flag", "pids": "environment", "memory": str(file)}


def test_each_name_is_in_exactly_one_group() -> None:
    names = [info.alias or name for model in GROUPS.values() for name, info in model.model_fields.items()]
    assert len(names) == len(set(names)) == len(SETTINGS)
    for setting in SETTINGS.values():
        assert hasattr(getattr(Settings(), setting.group), setting.attribute)
        prefix = setting.name.removesuffix(setting.attribute)
        assert setting.attribute == setting.name or (setting.group in prefix + setting.name)


def test_the_documentation_has_a_table_of_each_group() -> None:
    page = PAGE.read_text("utf-8")
    assert with_tables(page) == page, "run `python -m tests.support.settings_table`"
    assert all(f"<!-- settings: {group} -->" in page for group in GROUPS)


def test_type_checkers_know_all_settings() -> None:
    assert MODULE.read_text("utf-8") == source(), "run `python -m tests.support.settings_options`"


@pytest.mark.parametrize("setting", SETTINGS.values(), ids=SETTINGS)
def test_the_default_that_is_documented_is_the_default(setting: Setting) -> None:
    if setting.default:
        assert Settings.of({setting.name: setting.default}, {}) == Settings()
    else:
        assert getattr(getattr(Settings(), setting.group), setting.attribute) in (None, ())


def test_keyword_arguments_have_the_names_of_flags() -> None:
    settings = Settings(memory="2g", network="bridge", packages_allow="numpy,pandas", tools=("read_file",))
    assert (settings.limits.memory, settings.access.network) == (2 << 30, "bridge")
    assert settings.packages.allow == ("numpy", "pandas")
    assert settings.mcp.tools == ("read_file",)
    with pytest.raises(SettingsError, match=r"^unknown setting 'memroy'; did you mean 'memory'\?$"):
        Settings(memroy="2g")  # pyright: ignore[reportCallIssue]
    with pytest.raises(SettingsError, match=r"^unknown setting 'allow'"):  # within the group only
        Settings(allow="numpy")  # pyright: ignore[reportCallIssue]
    with pytest.raises(SettingsError, match=r"^memory: a size is a number"):
        Settings(memory="lots")


def test_every_wrong_value_is_reported_at_once() -> None:
    with pytest.raises(SettingsError, match=r"timeout: .*; memory: .*; port: "):
        Settings(timeout=-1, memory="lots", port=-1)


@pytest.mark.parametrize(
    ("text", "size"), [("1024", 1024), ("512m", 512 << 20), ("1.5G", 3 << 29), ("2 GiB", 2 << 30), ("700MB", 700 << 20)]
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    ("given", "sizes"),
    [
        ({"memory": "512m"}, (241, 60, 60)),
        ({"memory": "512m", "workspace_size": "300m"}, (300, 31, 31)),
        ({"memory": "180m"}, (20, 5, 5)),
        ({"workspace_size": "800m", "tmp_size": "10m"}, (800, 10, 64)),
    ],
)
def test_folders_whose_size_is_not_given_fit_in_memory(given: dict[str, str], sizes: tuple[int, ...]) -> None:
    limits = Settings.of(given, {}).limits
    assert tuple(size >> 20 for size in (limits.workspace_size, limits.tmp_size, limits.shm_size)) == sizes


def test_folders_are_not_reduced_below_what_is_useful() -> None:
    for given in ({"memory": "173m"}, {"memory": "512m", "workspace_size": "300m", "tmp_size": "50m"}):
        with pytest.raises(SettingsError, match="lower them or raise memory"):
            Settings.of(given, {})


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({"AGENTRUN_MEMORY": "lots"}, r"memory \(environment\): a size is a number"),
        ({"AGENTRUN_TIMEOUT": "-1"}, r"timeout \(environment\)"),
        ({"AGENTRUN_TIMEOUT": "nan"}, r"timeout \(environment\)"),
        ({"AGENTRUN_TIMEOUT": "400"}, "exceeds max_timeout"),
        ({"AGENTRUN_CPUS": "0.009"}, r"cpus \(environment\)"),  # no engine takes less than 0.01
        ({"AGENTRUN_CPUS": "nan"}, r"cpus \(environment\)"),
        ({"AGENTRUN_NETWORK": "host"}, r"network \(environment\)"),
        ({"AGENTRUN_TYPO": "1"}, "unknown setting 'typo'"),
        ({"AGENTRUN_WORKSPACE_SIZE": "1g"}, "must not exceed memory less 150 MiB"),
        ({"AGENTRUN_UID_RANGE": "0-10"}, "uid_range must begin above 10002"),
        ({"AGENTRUN_UID_RANGE": "many"}, "a range is two numbers"),
        ({"AGENTRUN_MAX_TIMEUOT": "5"}, "unknown setting 'max_timeuot' .*; did you mean 'max_timeout'"),
        ({"AGENTRUN_OUTPUT_SHOW": "1"}, r"output_show \(environment\): .* 256"),
        ({"AGENTRUN_TOOLS": "run_python"}, "'run_python' is not one of write_file, read_file, list_files"),
        ({"AGENTRUN_PRELOAD": "numpy,no module"}, "'no module' is not the name of a module"),
        ({"AGENTRUN_IMAGE_PACKAGES": "http://x"}, "'http://x' is not a package's name"),
        ({"AGENTRUN_IMAGE_PACKAGES": "http://me:secret@x"}, r"'http://\*\*\*@x' is not a package's name"),
        ({"AGENTRUN_PREINSTALL": "-r x"}, "'-r x' is not a package's name"),
        ({"AGENTRUN_PREINSTALL": "foo bar"}, "'foo bar' is not a package's name"),
        ({"AGENTRUN_TRUSTED_PROXIES": "foo"}, "'foo' is not an address or a network"),
        ({"AGENTRUN_TRUSTED_PROXIES": "10.0.0.1/8"}, "'10.0.0.1/8' is not an address or a network"),
        ({"AGENTRUN_ALLOWED_HOSTS": "http://x"}, "'http://x' is not a host"),
        ({"AGENTRUN_ALLOWED_ORIGINS": "x.com"}, "'x.com' is not an origin"),
        ({"AGENTRUN_ALLOWED_ORIGINS": "https://x.com/"}, "'https://x.com/' is not an origin"),
        ({"AGENTRUN_POOL": "2", "AGENTRUN_POOL_MAX": "1"}, r"pool \(2\) exceeds pool_max \(1\)"),
        ({"AGENTRUN_POOL": "9"}, r"pool \(9\) exceeds pool_max \(8\)"),
        ({"AGENTRUN_POOL": "3", "AGENTRUN_MAX_TOTAL": "2"}, r"pool \(3\) exceeds max_total \(2\)"),
        ({"AGENTRUN_PACKAGES_EXCLUDE_NEWER": "yesterday"}, "give a date, such as 2026-01-31, or an age"),
        ({"AGENTRUN_PACKAGES_EXCLUDE_NEWER": "2026-01-31Tgarbage"}, "give a date, such as 2026-01-31, or an age"),
        ({"AGENTRUN_PACKAGES_EXCLUDE_NEWER": "2026-01-31T25:00:00Z"}, "give a date, such as 2026-01-31, or an age"),
        ({"AGENTRUN_PACKAGES_EXCLUDE_NEWER": "2026-13-01"}, "give a date, such as 2026-01-31, or an age"),
        ({"AGENTRUN_OAUTH_CLIENT_ID": "x"}, "oauth_client_id requires oauth_issuer"),
        ({**OAUTH, "AGENTRUN_OAUTH_CLIENT_ID": "x"}, "oauth_client_id and oauth_client_secret_file require each other"),
        ({**OAUTH, "AGENTRUN_AUTH": "false"}, "auth is off"),
        ({"AGENTRUN_TOKEN_FILE": "/x", "AGENTRUN_AUTH": "false"}, "auth is off, so token_file has no effect"),
        ({**OAUTH, "AGENTRUN_TOKEN_FILE": "/x"}, "token_file and oauth_introspection exclude each other"),
        ({"AGENTRUN_CONFIG": "/nonexistent/x.toml"}, "there is no settings file"),
    ],
)
def test_wrong_values_are_named(environ: dict[str, str], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        load_settings(environ=environ)


def checked_on_this_machine(**environ: str) -> HostResources:
    return HostResources.from_settings(load_settings(environ=environ))


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({"AGENTRUN_SAFETY_OFF": "foo"}, r"safety_off \(environment\): there is no rule 'foo'"),
        ({"AGENTRUN_SAFETY_OFF": "secrets,size"}, "no rule 'size' that can be disabled; there are install, "),
        ({"AGENTRUN_SAFETY_RULES": "/no/such/rules.toml"}, r"safety_rules \(environment\): /no/such/rules.toml can't"),
        ({"AGENTRUN_SAFETY_RULES": os.devnull, "AGENTRUN_SAFETY_OFF": "foo"}, "there is no rule 'foo'"),
        ({"AGENTRUN_DATA": "/no/such/folder"}, r"data \(environment\): there is no folder /no/such/folder"),
        ({"AGENTRUN_DATA": "/etc"}, r"data \(environment\): /etc belongs to the system"),
    ],
)
def test_what_is_wrong_on_this_machine_is_named_where_it_is_used(environ: dict[str, str], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        checked_on_this_machine(**environ)


def test_two_data_folders_of_one_name_are_both_named(tmp_path: Path) -> None:
    folders = [tmp_path / parent / "data" for parent in ("one", "two")]
    for folder in folders:
        folder.mkdir(parents=True)
    with pytest.raises(SettingsError) as caught:
        checked_on_this_machine(AGENTRUN_DATA=os.pathsep.join(map(str, folders)))
    for named in (*folders, "/workspace/data"):
        assert str(named) in str(caught.value)


def test_an_empty_variable_is_an_empty_list_and_otherwise_ignored() -> None:
    lists = ("PACKAGES_ALLOW", "IMAGE_PACKAGES", "PRELOAD", "DATA")
    settings = load_settings(environ={f"AGENTRUN_{name}": "" for name in (*lists, "MEMORY", "IMAGE", "UID_RANGE")})
    image = settings.image
    assert (settings.packages.allow, image.packages, image.preload, settings.access.data) == ((), (), (), ())
    assert (settings.limits.memory, image.name, settings.engine.uid_range) == (1 << 30, None, (20000, 59999))
    assert settings.origins == {name.lower(): "environment" for name in lists}


def test_the_pool_is_no_larger_than_its_maximum() -> None:
    for most, least in (("0", 0), ("1", 1), ("5", 2)):
        settings = load_settings(environ={"AGENTRUN_POOL_MAX": most})
        assert (settings.serve.pool, settings.serve.pool_max) == (least, int(most))
    with pytest.raises(SettingsError, match=r"pool_max \(environment\)"):
        load_settings(environ={"AGENTRUN_POOL_MAX": "few"})


def test_malformed_file_is_named(tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_text("timeout = ")
    with pytest.raises(SettingsError, match=r"settings\.toml can't be read"):
        load_settings(environ={}, config=file)


def test_gvisor_gets_the_processes_that_it_needs() -> None:
    assert load_settings(environ={"AGENTRUN_RUNTIME": "runsc"}).limits.pids == 1024
    assert load_settings(environ={"AGENTRUN_RUNTIME": "runsc", "AGENTRUN_PIDS": "2000"}).limits.pids == 2000
    with pytest.raises(SettingsError, match=r"pids \(environment\): must be 1024 or more with runsc"):
        load_settings(environ={"AGENTRUN_RUNTIME": "runsc", "AGENTRUN_PIDS": "64"})


@pytest.mark.parametrize("name", ["timeout", "pids", "memory", "rate_limit"])
def test_true_is_not_a_number(name: str, tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_text(f"{name} = true\n")
    with pytest.raises(SettingsError, match=rf"{name} \(.*\): expected a number, got true"):
        load_settings(environ={}, config=file)


def test_valid_values_are_accepted() -> None:
    values = {
        "safety_off": "secrets,too-large",
        "preload": "numpy,matplotlib.pyplot",
        "image_packages": "numpy>=2,<3,pandas[excel]",
        "preinstall": "six @ https://example.org/six.whl",
        "trusted_proxies": "10.0.0.1,10.0.0.0/8,::1,fd00::/8",
        "allowed_hosts": "python.example:443,[::1]:*,10.0.0.1",
        "allowed_origins": "https://app.example,http://localhost:*,vscode-webview://x1",
        "packages_exclude_newer": "7 days",
        "max_total": "1",
    }
    settings = load_settings(values, environ={})
    assert settings.image.packages == ("numpy>=2,<3", "pandas[excel]")
    for time in ("", "T10", "T10:00", "T10:00:00", "T10:00:00Z", "T10:00:00.5+01:00"):
        assert load_settings({"packages_exclude_newer": f"2026-01-31{time}"}, environ={}).packages.exclude_newer
    assert load_settings(environ=OAUTH).serve.oauth_issuer == "https://a.example"


@pytest.mark.parametrize("name", ["wheelhouse", "token_file", "packages_constraints"])
def test_the_users_folder_is_found_without_a_shell(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    (tmp_path / "settings.toml").write_text(f'{name} = "~/x"\n')
    settings = load_settings(environ={"AGENTRUN_CONFIG": "~/settings.toml"})
    setting = SETTINGS[name]
    assert getattr(getattr(settings, setting.group), setting.attribute) == tmp_path / "x"
    with pytest.raises(SettingsError, match=name):
        load_settings({name: "~no-such-user-of-that-name/x"}, environ={})


@pytest.mark.parametrize(
    ("given", "wanted", "limits"),
    [
        ({}, {"memory": 1 << 30}, {}),
        ({}, {"max_timeout": 5}, {"max_timeout": 5, "timeout": 5}),
        ({}, {"memory": 300 << 20}, {"workspace_size": 100 << 20, "tmp_size": 25 << 20, "shm_size": 25 << 20}),
        ({"memory": "300m"}, {"workspace_size": 1 << 20}, {"tmp_size": 25 << 20}),
        ({"memory": "2g", "timeout": 60}, {"cpus": 0.5, "pids": 32}, {"cpus": 0.5, "pids": 32, "timeout": 60}),
    ],
)
def test_limits_of_a_sandbox_can_be_lower(
    given: dict[str, object], wanted: dict[str, int], limits: dict[str, float]
) -> None:
    settings = load_settings(given, environ={})
    lowered = settings.lowered(SandboxLimits(**wanted))  # pyright: ignore[reportArgumentType]
    assert limits.items() <= lowered.limits.model_dump().items()
    assert (lowered == settings) is (not limits)
    assert lowered.serve is settings.serve and settings == load_settings(given, environ={})


@pytest.mark.parametrize(
    ("given", "wanted", "message"),
    [
        ({}, {"cpus": 1.5}, r"cpus is 1.5, but this server allows at most 1\.0"),
        ({}, {"memory": 100 << 20}, r"must not exceed memory less 150 MiB \(-50 MiB\)"),
        ({"workspace_size": "512m"}, {"memory": 600 << 20}, r"^workspace_size \+ tmp_size .* exceed memory"),
        ({"runtime": "runsc"}, {"pids": 100}, "pids: must be 1024 or more with runsc"),
    ],
)
def test_limits_that_a_sandbox_cannot_have(given: dict[str, object], wanted: dict[str, int], message: str) -> None:
    with pytest.raises(InvalidRequestError, match=message) as raised:
        load_settings(given, environ={}).lowered(SandboxLimits(**wanted))  # pyright: ignore[reportArgumentType]
    assert raised.value.argument == "limits"
