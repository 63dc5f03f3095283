"""Settings from all their sources, pure."""

from __future__ import annotations

from pathlib import Path

import pytest

from mcp_agentrun.errors import SettingsError
from mcp_agentrun.settings import load, parse_size


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
        ({"AGENTRUN_NETWORK": "host"}, r"network \(environment\)"),
        ({"AGENTRUN_TYPO": "1"}, "unknown setting 'typo'"),
        ({"AGENTRUN_WORKSPACE_SIZE": "1g"}, "must not exceed memory less 150 MiB"),
        ({"AGENTRUN_UID_RANGE": "0-10"}, "uid_range must begin above 10002"),
        ({"AGENTRUN_UID_RANGE": "many"}, "a range is two numbers"),
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
