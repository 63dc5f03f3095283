"""``mcp-agentrun config`` and ``tools``: what they print and write is what the settings and the tools are."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from mcp_agentrun.settings import SETTINGS, Settings, load_settings
from tests.support.command_line import command


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv("AGENTRUN_CONFIG", raising=False)
    return tmp_path


def test_each_setting_is_shown_with_its_origin(folder: Path) -> None:
    file = folder / "settings.toml"
    file.write_text('memory = "2g"\ncpus = 2\n')
    shown = command("config", "--json", "--config", str(file), "--timeout", "7", AGENTRUN_CPUS="3")
    settings = json.loads(shown.stdout)
    assert set(settings) == set(SETTINGS)
    assert settings["memory"] == {"value": "2g", "from": str(file)}
    assert settings["cpus"] == {"value": "3", "from": "environment"}
    assert settings["timeout"] == {"value": "7", "from": "flag"}
    assert settings["max_timeout"] == {"value": "300", "from": "default"}
    text = command("config", "--config", str(file)).stdout
    assert re.search(rf"^memory +2g +{re.escape(str(file))}$", text, re.MULTILINE)
    assert "\x1b" not in text


def test_a_setting_that_is_wrong_is_reported() -> None:
    ended = command("config", AGENTRUN_MEMORY="lots")
    assert (ended.returncode, "memory (environment): a size is" in ended.stderr) == (2, True)


def test_the_file_that_init_writes_says_what_holds(folder: Path) -> None:
    written = command("config", "init")
    assert written.returncode == 0, written.stderr
    file = next(folder.rglob("config.toml"))
    text = file.read_text("utf-8")
    assert set(re.findall(r"^#(\w+) = ", text, re.MULTILINE)) == set(SETTINGS)
    assert max(map(len, text.splitlines())) <= 102
    assert load_settings(config=file, environ={}) == Settings()
    with_defaults = [name for name, setting in SETTINGS.items() if setting.default_value is not None]
    file.write_text(re.sub(rf"^#({'|'.join(with_defaults)}) = ", r"\1 = ", text, flags=re.MULTILINE), "utf-8")
    loaded = load_settings(config=file, environ={})
    assert set(loaded.origins) == set(with_defaults)
    assert loaded == Settings()


def test_init_replaces_no_file_unless_told_to(folder: Path) -> None:
    file = folder / "mine.toml"
    file.write_text("memory = '3g'\n")
    refused = command("config", "init", "--file", str(file))
    assert (refused.returncode, "--force" in refused.stderr) == (1, True)
    assert file.read_text() == "memory = '3g'\n"
    assert command("config", "init", "--file", str(file), "--force").returncode == 0
    assert "memory = '3g'" not in file.read_text()
    refused = command("config", "init", "--file", "/dev/null/x/y.toml")
    assert (refused.returncode, "can't be written" in refused.stderr) == (1, True)


@pytest.mark.parametrize("format_", ["openai", "anthropic", "gemini"])
def test_the_tools_for_function_calling(format_: str) -> None:
    printed = command("tools", "--format", format_, "--timeout", "12")
    tools: Any = json.loads(printed.stdout)
    if format_ == "openai":
        assert {tool["type"] for tool in tools} == {"function"}
        tools = [tool["function"] for tool in tools]
    elif format_ == "gemini":
        assert len(tools) == 1
        tools = tools[0]["functionDeclarations"]
        assert '"null"' not in printed.stdout
    key = "input_schema" if format_ == "anthropic" else "parameters"
    assert {tool["name"]: tool[key].get("required") for tool in tools} == {
        "run_python": ["code"],
        "install_package": ["packages"],
        "reset_sandbox": None,
    }
    timeout = next(tool for tool in tools if tool["name"] == "run_python")[key]["properties"]["timeout"]
    assert timeout["description"] == "Seconds the code may run: 12 if left out, at most 300."
    assert '"title"' not in printed.stdout
