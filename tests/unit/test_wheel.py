"""The wheel and the sdist are complete, and need few others."""

from __future__ import annotations

import json
import re
import subprocess
import tarfile
import zipfile
from collections.abc import Iterable
from importlib.metadata import metadata, requires, version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from mcp_agentrun.engine.docker.image import ImageRecipe
from tests.support import CHECKOUT
from tests.support.wheel import Installed, build_sdist, build_wheel, install_wheel


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_wheel(tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    return install_wheel(wheel, tmp_path_factory.mktemp("user") / "venv")


def output_of(installed: Installed, folder: Path, *arguments: str) -> str:
    command = [installed.command, *arguments]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True, timeout=60).stdout


def test_the_wheel_has_every_file_and_no_other(wheel: Path) -> None:
    listed = {
        path.relative_to(CHECKOUT).as_posix()
        for folder in ("mcp_agentrun", "runner_image")
        for path in (CHECKOUT / folder).rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    with zipfile.ZipFile(wheel) as archive:
        found = {name for name in archive.namelist() if ".dist-info/" not in name}
    image = "mcp_agentrun/_runner_image/"
    assert found == {name.replace("runner_image/", image) if name.startswith("runner") else name for name in listed}
    assert {"mcp_agentrun/py.typed", f"{image}environment.Dockerfile", f"{image}runner/worker.py"} <= found


@pytest.mark.skipif(not (CHECKOUT / ".git").exists(), reason="not a clone")
def test_the_sdist_is_the_repository_and_builds_the_same_wheel(wheel: Path, tmp_path: Path) -> None:
    """So that its tests and the links of its pages work, too."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=CHECKOUT, check=True, capture_output=True, text=True).stdout.splitlines()
    with tarfile.open(build_sdist(tmp_path)) as archive:
        (folder,) = {name.partition("/")[0] for name in archive.getnames()}
        found = {each.name.partition("/")[2] for each in archive.getmembers() if not each.isdir()}
        archive.extractall(tmp_path, filter="data")
    assert found - {"PKG-INFO"} == {name for name in listed if (CHECKOUT / name).exists()}
    assert build_wheel(tmp_path / "again", tmp_path / folder).read_bytes() == wheel.read_bytes()


def test_links_of_the_description_lead_to_the_repository(wheel: Path) -> None:
    """A package index has none of its files."""
    with zipfile.ZipFile(wheel) as archive:
        text = archive.read(next(name for name in archive.namelist() if name.endswith("/METADATA"))).decode()
    repository = f"https://github.com/mcp-agentrun/mcp-agentrun/blob/v{version('mcp-agentrun')}/"
    links = re.findall(r"\]\(([^)]+)\)", text)
    assert f"{repository}docs/tools.md" in links
    assert [link for link in links if "://" not in link] == []


def test_it_runs_from_any_folder(installed: Installed, tmp_path: Path) -> None:
    assert output_of(installed, tmp_path, "--version").startswith("mcp-agentrun, version ")
    assert "run_python" in output_of(installed, tmp_path, "tools")
    settings = json.loads(output_of(installed, tmp_path, "config", "--json"))
    assert settings


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_it_has_completion(installed: Installed, tmp_path: Path, shell: str) -> None:
    assert "_MCP_AGENTRUN_COMPLETE" in output_of(installed, tmp_path, "completion", shell)


def test_its_image_is_that_of_the_checkout(installed: Installed, tmp_path: Path) -> None:
    """So it is neither built nor pulled again where the checkout has been used."""
    code = "import mcp_agentrun.engine.docker.image as i; print(i.__file__, i.ImageRecipe().tag, i.released_image())"
    command = [installed.python, "-c", code]
    found = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True).stdout.split()
    assert Path(found[0]).is_relative_to(installed.folder)
    assert found[1:] == [ImageRecipe().tag, "None"]


def test_extras_that_messages_name_exist() -> None:
    code = "".join(path.read_text("utf-8") for path in (CHECKOUT / "mcp_agentrun").rglob("*.py"))
    named = re.findall(r"extra_advice\(['\"](\w+)", code)
    assert len(named) == 3
    assert set(named) <= set(metadata("mcp-agentrun").get_all("Provides-Extra") or ())


def test_an_engine_without_its_extra_names_it(installed: Installed, tmp_path: Path) -> None:
    code = "import sys; sys.modules['lightkube'] = None; from mcp_agentrun.__main__ import main; main()"
    command = [installed.python, "-c", code, "run", "--engine", "kubernetes", "-c", "1"]
    ended = subprocess.run(command, check=False, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 125
    assert "engine (flag): lightkube" in ended.stderr
    assert "'mcp-agentrun[kubernetes]'; in a clone, '.[kubernetes]'\n" in ended.stderr


def closure(names: Iterable[str]) -> set[str]:
    """Return *names* and what they require here, without extras unless they ask for them."""
    found: set[tuple[str, str]] = set()
    waiting = [(canonicalize_name(name), "") for name in names]
    while waiting:
        name, extra = waiting.pop()
        if (name, extra) in found:
            continue
        found.add((name, extra))
        for requirement in map(Requirement, requires(name) or ()):
            if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
                waiting += ((canonicalize_name(requirement.name), each) for each in ("", *requirement.extras))
    return {name for name, _ in found}


def test_an_installation_is_small() -> None:
    """At most eight distributions beyond those of the three that it can't do without."""
    more = closure(["mcp-agentrun"]) - closure(["mcp", "docker", "RestrictedPython"]) - {"mcp-agentrun"}
    assert len(more) <= 8, sorted(more)
