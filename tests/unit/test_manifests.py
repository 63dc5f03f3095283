"""The manifests for clients and the registry agree with the package."""

from __future__ import annotations

import json
import os
import re
from importlib.metadata import version
from pathlib import Path
from runpy import run_path
from typing import Any

import pytest
from click.testing import CliRunner

from mcp_agentrun.cli import main
from mcp_agentrun.settings import SETTINGS, load_settings
from tests.support import CHECKOUT

VERSION = version("mcp-agentrun")
MANIFESTS = (
    "server.json",
    "gemini-extension.json",
    "distribution/mcpb/manifest.json",
    "distribution/claude-code/.claude-plugin/plugin.json",
)
BUNDLE = CHECKOUT / "distribution" / "mcpb"


def manifest(path: str) -> dict[str, Any]:
    return json.loads((CHECKOUT / path).read_text("utf-8"))


@pytest.mark.parametrize("path", MANIFESTS)
def test_versions_are_that_of_the_package(path: str) -> None:
    assert manifest(path)["version"] == VERSION
    started = re.findall(r"mcp-agentrun@([^\"]+)", (CHECKOUT / path).read_text("utf-8"))
    assert set(started) <= {VERSION}


def test_the_registry_finds_the_owner_in_the_readme() -> None:
    server = manifest("server.json")
    (package,) = server["packages"]
    assert f"mcp-name: {server['name']} " in (CHECKOUT / "README.md").read_text("utf-8")
    assert (package["identifier"], package["version"]) == ("mcp-agentrun", VERSION)
    assert len(server["description"]) <= 100
    assert "registryBaseUrl" not in package


def test_variables_are_settings() -> None:
    (package,) = manifest("server.json")["packages"]
    variables = [each["name"] for each in package["environmentVariables"]]
    variables += [each["envVar"] for each in manifest("gemini-extension.json")["settings"]]
    assert {name.removeprefix("AGENTRUN_").lower() for name in variables} <= SETTINGS.keys()
    defaults = {each["name"]: each["default"] for each in package["environmentVariables"] if "default" in each}
    assert load_settings(environ=defaults, config=Path(os.devnull)) == load_settings(
        environ={}, config=Path(os.devnull)
    )


def bundle_options(*folders: str, **form: str) -> list[str]:
    return run_path(str(BUNDLE / "server.py"))["options"](folders, form)


def test_the_form_of_the_bundle_becomes_settings() -> None:
    form = {"INTERNET": "true", "MEMORY": "0.5", "OUT": "/-o {}", "PACKAGES": "six, openpyxl<4"}
    options = bundle_options("/a:b", "-b c", **{f"BUNDLE_{name}": value for name, value in form.items()})
    shown = CliRunner().invoke(main, ["config", "--config", os.devnull, "--json", *options], catch_exceptions=False)
    assert {name: each["value"] for name, each in json.loads(shown.stdout).items() if each["from"] == "flag"} == {
        "data": "/a:b,-b c",
        "memory": "512m",
        "network": "bridge",
        "out": "/-o {}",
        "preinstall": "six,openpyxl<4",
    }


@pytest.mark.parametrize("empty", ["", "${user_config.x}"])
def test_an_empty_form_changes_nothing(empty: str) -> None:
    names = re.findall(r"BUNDLE_\w+", (BUNDLE / "manifest.json").read_text("utf-8"))
    assert bundle_options(empty, **dict.fromkeys(names, empty)) == []
    assert bundle_options(BUNDLE_INTERNET="false") == []


def test_the_bundle_has_the_wheel_that_is_built() -> None:
    assert f"mcp_agentrun-{VERSION}-py3-none-any.whl" in (BUNDLE / "pyproject.toml").read_text("utf-8")
    form = manifest("distribution/mcpb/manifest.json")["user_config"]
    used = re.findall(r"\$\{user_config\.(\w+)\}", (BUNDLE / "manifest.json").read_text("utf-8"))
    assert sorted(used) == sorted(form)
    assert all("default" in field for field in form.values())  # else some hosts pass the placeholder on


@pytest.mark.skipif("SERVER_SCHEMA" not in os.environ, reason="SERVER_SCHEMA names the schema of server.json")
def test_the_registry_accepts_the_server() -> None:
    import jsonschema

    schema = json.loads(Path(os.environ["SERVER_SCHEMA"]).read_text("utf-8"))
    jsonschema.validate(manifest("server.json"), schema)
