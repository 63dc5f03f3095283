"""Settings from all their sources, pure."""

from __future__ import annotations

from pathlib import Path

import pytest

from mcp_agentrun.errors import SettingsError
from mcp_agentrun.settings import load, parse_size
from tests.support.command_line import command

OAUTH = {
    "AGENTRUN_OAUTH_ISSUER": "https://a.example",
    "AGENTRUN_OAUTH_INTROSPECTION": "https://a.example/introspect",
    "AGENTRUN_OAUTH_RESOURCE": "https://b.example/mcp",
}


@pytest.fixture(autouse=True)
def no_settings_of_the_user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "none"))


def test_defaults_are_those_of_the_table() -> None:
    settings, origins = load(environ={})
    assert (settings.timeout, settings.max_timeout) == (30, 300)
    assert (settings.memory, settings.cpus, settings.pids, settings.open_files) == (1 << 30, 1.0, 64, 256)
    assert (settings.workspace_size, settings.tmp_size, settings.shm_size) == (256 << 20, 64 << 20, 64 << 20)
    assert (settings.output_show, settings.output_keep, settings.code_limit) == (64 << 10, 8 << 20, 256 << 10)
    assert settings.network == "none"
    assert set(origins.values()) == {"default"}


def test_flag_beats_environment_beats_file(tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_text('timeout = 5\npids = 100\nmemory = "2g"\n')
    settings, origins = load(
        {"timeout": "7", "cpus": None}, environ={"AGENTRUN_TIMEOUT": "6", "AGENTRUN_PIDS": "90"}, config=file
    )
    assert (settings.timeout, settings.pids, settings.memory) == (7, 90, 2 << 30)
    assert (origins["timeout"], origins["pids"], origins["memory"]) == ("flag", "environment", str(file))
    assert origins["cpus"] == "default"


@pytest.mark.parametrize(
    ("text", "size"), [("1024", 1024), ("512m", 512 << 20), ("1.5G", 3 << 29), ("2 GiB", 2 << 30), ("700MB", 700 << 20)]
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


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
        ({"AGENTRUN_SAFETY_OFF": "foo"}, "safety_off: there is no rule 'foo'"),
        ({"AGENTRUN_SAFETY_OFF": "secrets,size"}, "there is no rule 'size' that can be left out; there are install, "),
        ({"AGENTRUN_SAFETY_RULES": "/no/such/rules.toml"}, "safety_rules: /no/such/rules.toml can't be read"),
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
        ({"AGENTRUN_OAUTH_CLIENT_ID": "x"}, "oauth_client_id means nothing without oauth_issuer"),
        ({**OAUTH, "AGENTRUN_OAUTH_CLIENT_ID": "x"}, "oauth_client_id and oauth_client_secret_file go together"),
        ({**OAUTH, "AGENTRUN_AUTH": "false"}, "auth is off"),
        ({"AGENTRUN_TOKEN_FILE": "/x", "AGENTRUN_AUTH": "false"}, "auth is off, so that token_file would mean nothing"),
        ({**OAUTH, "AGENTRUN_TOKEN_FILE": "/x"}, "tokens are those of token_file or of an authorization server"),
        ({"AGENTRUN_CONFIG": "/nonexistent/x.toml"}, "there is no settings file"),
    ],
)
def test_wrong_values_are_named(environ: dict[str, str], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        load(environ=environ)


def test_an_empty_variable_is_an_empty_list_and_otherwise_none_at_all() -> None:
    lists = ("PACKAGES_ALLOW", "IMAGE_PACKAGES", "PRELOAD", "DATA")
    settings, origins = load(environ={f"AGENTRUN_{name}": "" for name in (*lists, "MEMORY", "IMAGE", "UID_RANGE")})
    assert (settings.packages_allow, settings.image_packages, settings.preload, settings.data) == ((), (), (), ())
    assert (settings.memory, settings.image, settings.uid_range) == (1 << 30, None, (20000, 59999))
    assert (origins["packages_allow"], origins["memory"]) == ("environment", "default")


def test_a_default_gives_way_to_a_limit_that_is_set() -> None:
    for most, least in (("0", 0), ("1", 1), ("5", 2)):
        settings, origins = load(environ={"AGENTRUN_POOL_MAX": most})
        assert (settings.pool, settings.pool_max, origins["pool"]) == (least, int(most), "default")
    with pytest.raises(SettingsError, match=r"pool_max \(environment\)"):
        load(environ={"AGENTRUN_POOL_MAX": "few"})


def test_malformed_file_is_named(tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_text("timeout = ")
    with pytest.raises(SettingsError, match=r"settings\.toml can't be read"):
        load(environ={}, config=file)


def test_gvisor_gets_the_processes_that_it_needs() -> None:
    assert load(environ={"AGENTRUN_RUNTIME": "runsc"})[0].pids == 1024
    assert load(environ={"AGENTRUN_RUNTIME": "runsc", "AGENTRUN_PIDS": "2000"})[0].pids == 2000
    with pytest.raises(SettingsError, match="pids must be 1024 or more with runsc"):
        load(environ={"AGENTRUN_RUNTIME": "runsc", "AGENTRUN_PIDS": "64"})


@pytest.mark.parametrize("name", ["timeout", "pids", "memory", "rate_limit"])
def test_true_is_no_number(name: str, tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_text(f"{name} = true\n")
    with pytest.raises(SettingsError, match=rf"{name} \(.*\): a number is wanted, and not true"):
        load(environ={}, config=file)


def test_right_values_are_taken() -> None:
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
    settings, _ = load(values, environ={})
    assert settings.image_packages == ("numpy>=2,<3", "pandas[excel]")
    for time in ("", "T10", "T10:00", "T10:00:00", "T10:00:00Z", "T10:00:00.5+01:00"):
        assert load({"packages_exclude_newer": f"2026-01-31{time}"}, environ={})[0].packages_exclude_newer
    assert load(environ=OAUTH)[0].oauth_issuer == "https://a.example"


@pytest.mark.parametrize("name", ["wheelhouse", "token_file", "packages_constraints"])
def test_the_users_folder_is_found_without_a_shell(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    (tmp_path / "settings.toml").write_text(f'{name} = "~/x"\n')
    settings, _ = load(environ={"AGENTRUN_CONFIG": "~/settings.toml"})
    assert getattr(settings, name) == tmp_path / "x"
    with pytest.raises(SettingsError, match=name):
        load({name: "~no-such-user-of-that-name/x"}, environ={})


@pytest.mark.parametrize("name", ["timeout", "packages_deny"])
def test_a_wrong_value_has_one_exit_code_wherever_it_stands(name: str, tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_text(f'{name} = "!"\n')
    flag = "--" + name.replace("_", "-")
    for ended in (
        command(**{f"AGENTRUN_{name.upper()}": "!"}),
        command(AGENTRUN_CONFIG=str(file)),
        command("--config", str(file)),
        command(flag, "!"),
        command(flag, "!", "cache", "show"),
    ):
        assert ended.returncode == 2
        assert "Traceback" not in ended.stderr
        assert name in ended.stderr or "'!' is not a package rule" in ended.stderr


@pytest.mark.parametrize("action", [("cache", "show"), ("cache", "clear"), ("build",)])
def test_without_an_engine_commands_say_so_in_a_line(action: tuple[str, ...]) -> None:
    ended = command(*action, DOCKER_HOST="tcp://127.0.0.1:1")
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1].startswith("mcp-agentrun: No container engine can be reached.")
    assert "Traceback" not in ended.stderr


def test_settings_stand_before_a_command_or_behind_it(tmp_path: Path) -> None:
    code = tmp_path / "code.py"
    code.write_text("import os\n")
    for arguments in (("--safety", "strict", "check", str(code)), ("check", "--safety", "strict", str(code))):
        assert command(*arguments).returncode == 1
    assert command("check", str(code)).returncode == 0
    assert "timeout" in command("cache", "show", "--timeout", "soon").stderr
    for arguments in (("cache",), ("cache", "clear", "--cache-size", "1g")):
        assert "No container engine" in command(*arguments, DOCKER_HOST="tcp://127.0.0.1:1").stderr


@pytest.mark.parametrize("network", ["none", "bridge"])
def test_an_open_network_is_warned_of(network: str) -> None:
    ended = command("--network", network, "--out", "/dev/null/x")  # at which it ends
    assert ended.stdout == ""
    assert ended.stderr.count("\n") == 1 + (network == "bridge")
    assert ("network is bridge" in ended.stderr) == (network == "bridge")
