"""The command line: what each command offers and how its help looks. Nothing here needs an engine."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Generator
from importlib.metadata import version
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from mcp_agentrun.cli import main
from mcp_agentrun.cli.options import SettingOption, SettingsCommand
from mcp_agentrun.settings import GROUPS, SETTINGS
from tests.support.command_line import command

WITHOUT_COMMAND = set(GROUPS) - {"serve"}
GROUPS_OF: dict[tuple[str, ...], set[str]] = {
    (): WITHOUT_COMMAND,
    ("serve",): set(GROUPS),
    ("audit",): {"audit"},
    ("build",): {"image", "engine"},
    ("cache",): {"packages", "image", "engine"},
    ("cache", "show"): {"packages", "image", "engine"},
    ("cache", "clear"): {"packages", "image", "engine"},
    ("check",): {"safety"},
    ("ps",): {"engine"},
    ("prune",): {"engine"},
    ("image",): {"image", "engine"},
    ("image", "list"): {"image", "engine"},
    ("image", "prune"): {"image", "engine"},
    ("image", "push"): {"image"},
    ("uninstall",): {"engine"},
    ("completion",): set(),
    ("doctor",): {"engine", "kubernetes", "image", "limits", "packages"},
    ("config",): set(GROUPS),
    ("config", "init"): set(),
    ("tools",): {"limits", "image", "packages", "access"},
    ("client",): set(),
    ("client", "add"): set(),
    ("client", "remove"): set(),
    ("client", "list"): set(),
    ("run",): {"access", "limits", "packages", "safety", "image", "engine"},
    ("shell",): {"access", "limits", "packages", "safety", "image", "engine"},
}


@pytest.fixture(autouse=True)
def process_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Generator[None]:
    """Without the user's settings, and with the signal handler that commands replace put back."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "none"))
    handler = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, handler)


def commands(command: click.Command = main, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], click.Command]:
    found = dict[tuple[str, ...], click.Command]({path: command})
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            each = command.get_command(context, name)
            assert each is not None
            found |= commands(each, (*path, name))
    return found


def test_each_command_offers_its_own_settings() -> None:
    assert set(commands()) == set(GROUPS_OF)
    for path, found in commands().items():
        assert isinstance(found, SettingsCommand)
        offered = [option.setting.name for option in found.params if isinstance(option, SettingOption)]
        expected = [name for name, setting in SETTINGS.items() if setting.group in GROUPS_OF[path]]
        assert sorted(offered) == sorted(set(expected) - found.without), path


@pytest.mark.parametrize("path", GROUPS_OF, ids=" ".join)
def test_help_fits_a_terminal_of_80_columns(path: tuple[str, ...]) -> None:
    text = CliRunner().invoke(main, [*path, "--help"]).output
    assert re.match(r"  Examples?: mcp-agentrun [\w ]+", text.splitlines()[2])
    assert max(map(len, text.splitlines())) <= 80
    assert "..." not in text.partition("Commands:")[2].partition("Options:")[0]
    found = commands()[path]
    assert isinstance(found, SettingsCommand)
    for name, setting in SETTINGS.items():
        if name in found.without:
            continue
        flag = "--" + name.replace("_", "-")
        lines = [line for line in text.splitlines() if line.strip().split(" ", 1)[0] == flag]
        assert bool(lines) == (setting.group in GROUPS_OF[path]), flag
        for line in lines:
            assert not setting.default or line.endswith(f"[default: {setting.default}]")
            assert setting.is_flag or (setting.choices[0] if setting.choices else setting.metavar) in line
            assert text.splitlines()[text.splitlines().index(line) + 1].strip() == setting.field.description


def test_the_version_is_printed_without_importing_what_takes_time() -> None:
    code = (
        "import sys; from mcp_agentrun.__main__ import main; sys.argv[1:] = ['--version']; main();"
        "print(sorted({'pydantic', 'docker', 'mcp', 'anyio', 'click'} & set(sys.modules)))"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert printed.stdout == f"mcp-agentrun, version {version('mcp-agentrun')}\n[]\n"
    assert CliRunner().invoke(main, ["--version"], prog_name="mcp-agentrun").output == printed.stdout[:-3]


def test_the_check_does_not_import_the_engine_or_mcp_or_other_commands() -> None:
    code = (
        "import sys; from click.testing import CliRunner; from mcp_agentrun.cli import main;"
        "assert CliRunner().invoke(main, ['check', '-'], input='import os').exit_code == 0;"
        "others = {'mcp_agentrun.cli.client', 'mcp_agentrun.cli.run', 'mcp_agentrun.cli.tools'};"
        "print(sorted({'docker', 'mcp', 'requests', 'psutil', *others} & set(sys.modules)))"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert printed.stdout == "[]\n"


def test_settings_of_another_command_are_accepted_where_they_are_no_flag(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTRUN_PORT", "9000")
    assert CliRunner().invoke(main, ["check", "-"], input="x = 1\n").exit_code == 0
    refused = CliRunner().invoke(main, ["check", "--port", "9000", "-"], input="x = 1\n")
    assert (refused.exit_code, "No such option" in refused.output) == (2, True)
    monkeypatch.setenv("AGENTRUN_PROT", "9000")
    refused = CliRunner().invoke(main, ["check", "-"], input="x = 1\n")
    assert refused.exit_code == 2
    assert "unknown setting 'prot' (environment); did you mean 'port'?" in refused.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--safety-of", "secrets"), "'--safety-off'"),
        (("--safety", "lax"), "'lax' is not one of 'strict', 'standard', 'off'"),
        (("--safety-off", "foo"), "safety_off (flag): there is no rule 'foo'"),
    ],
)
def test_wrong_flags_are_named(arguments: tuple[str, ...], message: str) -> None:
    refused = CliRunner().invoke(main, ["check", *arguments, "-"], input="x = 1\n")
    assert refused.exit_code == 2
    assert message in refused.output


def test_a_flag_behind_a_command_overrides_one_before_it() -> None:
    code = "import os\n"
    for arguments, status in (
        (("check", "-"), 0),
        (("check", "--safety", "strict", "-"), 1),
        (("--safety", "strict", "check", "-"), 1),
        (("--safety", "strict", "check", "--safety", "standard", "-"), 0),
        (("--safety", "strict", "check", "--profile", "off", "-"), 0),
    ):
        assert CliRunner().invoke(main, arguments, input=code).exit_code == status, arguments


@pytest.mark.parametrize("name", ["timeout", "packages_deny"])
def test_a_wrong_value_has_one_exit_code_wherever_it_is_given(name: str, tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_text(f'{name} = "!"\n')
    flag = "--" + name.replace("_", "-")
    for arguments, environ in (
        (("cache", "show"), {f"AGENTRUN_{name.upper()}": "!"}),
        (("cache", "show"), {"AGENTRUN_CONFIG": str(file)}),
        (("--config", str(file), "cache"), {}),
        (("cache", "clear", "--config", str(file)), {}),
        ((flag, "!", "cache", "show"), {}),
    ):
        ended = CliRunner().invoke(main, arguments, env=environ)
        assert ended.exit_code == 2
        assert f"Error: {name} (" in ended.output


@pytest.mark.parametrize("name", ["timeout", "packages_deny"])
def test_a_wrong_value_ends_the_server_over_stdio(name: str) -> None:
    ended = command(**{f"AGENTRUN_{name.upper()}": "!"})
    assert ended.returncode == 2
    assert ended.stderr.startswith(f"mcp-agentrun: {name} (environment): ")
    assert len(ended.stderr.splitlines()) == 1


@pytest.mark.parametrize("arguments", [("cache",), ("cache", "clear", "--cache-size", "1g"), ("build",)], ids=" ".join)
def test_without_an_engine_commands_report_so_in_one_line(arguments: tuple[str, ...]) -> None:
    ended = command(*arguments, DOCKER_HOST="tcp://127.0.0.1:1")
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1].startswith("mcp-agentrun: No container engine can be reached.")
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("network", ["none", "bridge"])
def test_an_open_network_is_warned_of(network: str) -> None:
    ended = command("--network", network, "--out", "/dev/null/x")  # at which it ends
    assert ended.stdout == ""
    assert ("network is bridge" in ended.stderr) == (network == "bridge")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
@pytest.mark.parametrize("arguments", [("tools",), ("config",), ("--help",), ("--version",), ("completion", "bash")])
def test_output_that_can_not_be_written_is_reported_in_one_line(arguments: tuple[str, ...]) -> None:
    with open("/dev/full", "w") as full:
        ended = subprocess.run(
            [sys.executable, "-m", "mcp_agentrun", *arguments],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert ended.returncode == 1
    assert ended.stderr == "mcp-agentrun: the output can't be written: No space left on device\n"


_INTERRUPTED_IMPORT = """
import sys
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == sys.argv[0]:
            raise KeyboardInterrupt
sys.argv = sys.argv[1:]
sys.meta_path.insert(0, Finder())
from mcp_agentrun.__main__ import main
main()
"""


@pytest.mark.parametrize("module", ["click", "mcp_agentrun.cli", "mcp_agentrun.cli.doctor", "mcp_agentrun.cli.checks"])
def test_ctrl_c_during_imports_ends_without_a_traceback(module: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", _INTERRUPTED_IMPORT, module, "doctor"], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 130
    assert ended.stderr.strip() == ""
