"""Names of images, pinned packages, and the warning about old images."""

from __future__ import annotations

import os
import re
import sys
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import platformdirs
import pytest
from docker.errors import ImageNotFound

from mcp_agentrun.engine.docker.engine import DockerEngine
from mcp_agentrun.engine.docker.image import (
    LABEL_CONTENT,
    LABEL_DATE,
    LABEL_IMAGE,
    ImageRecipe,
    ensure_image,
    is_build_locked,
    warn_if_old,
)
from mcp_agentrun.engine.docker.pull import DownloadProgress
from mcp_agentrun.errors import SettingsError
from mcp_agentrun.settings import Settings
from tests.support import CHECKOUT
from tests.support.image import pinned_versions

RECIPE = ImageRecipe()
TOOLS = ("packaging", "restrictedpython", "uv")


def test_tag_is_the_same_for_the_same_ingredients(context: Path) -> None:
    tag = RECIPE.tag
    (context / "runner" / "__pycache__").mkdir(exist_ok=True)
    (context / "runner" / "__pycache__" / "worker.cpython-313.pyc").write_bytes(b"anything")
    for path in context.rglob("*.py"):
        os.utime(path, (0, 0))
    dockerfile = context / "Dockerfile"
    dockerfile.write_bytes(dockerfile.read_bytes().replace(b"\n", b"\r\n"))
    assert RECIPE.tag == tag
    assert ImageRecipe(packages=("pandas", "matplotlib", "numpy", "numpy")).tag == tag


def test_tag_has_sixteen_hexadecimal_digits() -> None:
    name, _, digest = RECIPE.tag.partition(":")
    assert name == "mcp-agentrun-runner"
    assert len(bytes.fromhex(digest)) == 8


@pytest.mark.parametrize(
    "changed", ["Dockerfile", "environment.Dockerfile", "runner/__main__.py", "prepare_matplotlib.py"]
)
def test_tag_changes_with_a_file(context: Path, changed: str) -> None:
    tag = RECIPE.tag
    with (context / changed).open("a") as file:
        file.write("# changed\n")
    assert RECIPE.tag != tag


def test_tag_changes_with_files_names(context: Path) -> None:
    tag = RECIPE.tag
    (context / "runner" / "worker.py").rename(context / "runner" / "labourer.py")
    assert RECIPE.tag != tag


def test_tag_changes_with_base_and_packages() -> None:
    recipes = [RECIPE, ImageRecipe(base="debian"), ImageRecipe(packages=()), ImageRecipe(packages=("numpy<3",))]
    assert len({recipe.tag for recipe in recipes}) == len(recipes)
    assert len({recipe.environment_tag for recipe in recipes}) == len(recipes)


def test_every_package_is_pinned_by_hash_and_no_index_is_named() -> None:
    text = (CHECKOUT / "runner_image" / "constraints.txt").read_text()
    assert {"uv", "numpy", "pandas", "matplotlib"} <= pinned_versions().keys()
    for line in text.splitlines():
        assert re.fullmatch(r'#.*|\S+==\S+ ; python_version == "3\.13" \\|    --hash=sha256:[0-9a-f]{64}( \\)?', line)
    for pin in re.split(r"\n(?=\S)", text.partition("\n\n")[0]):
        assert pin.startswith("#") or "--hash=" in pin


@pytest.mark.parametrize(
    ("packages", "pinned"),
    [
        ((), True),
        (("NumPy", "python_dateutil>=2"), True),
        (("numpy<2",), False),  # which none of the others might go together with
        (("numpy", "scipy"), False),
    ],
)
def test_packages_are_pinned_where_that_is_left_to_us(packages: tuple[str, ...], pinned: bool) -> None:
    files = ImageRecipe(packages=packages).environment_files()
    assert set(re.findall(r"^(\S+)==", files["constraints.txt"].decode(), re.MULTILINE)) == (
        pinned_versions().keys() if pinned else set()
    )
    tools = r"".join(rf"{name}==\S+ \\\n( +--hash=sha256:[0-9a-f]{{64}}( \\)?\n)+" for name in TOOLS)
    assert re.fullmatch(tools, files["tools.txt"].decode())


def test_environment_does_not_depend_on_the_runner(context: Path) -> None:
    tag = RECIPE.environment_tag
    (context / "runner" / "more.py").write_text("")
    assert RECIPE.environment_tag == tag


@pytest.mark.parametrize(
    "package", ["--index-url=https://a.example", "num py", "", "x\ny", "x @ https://user:s3cret@a.example/x.whl"]
)
def test_packages_must_be_requirements(package: str) -> None:
    with pytest.raises(SettingsError) as raised:
        _ = ImageRecipe(packages=(package,)).tag
    assert "s3cret" not in str(raised.value)


class Builder:
    """Docker's API, as far as builds use it. A build waits until another process says that it waits."""

    def __init__(self) -> None:
        self.images = {ImageRecipe().environment_tag}
        self.built: list[str] = []
        self.other_waits = threading.Event()

    def inspect_image(self, image: str) -> dict[str, Any]:
        if image not in self.images:
            raise ImageNotFound(image)
        labels = {LABEL_IMAGE: "runner", LABEL_CONTENT: RECIPE.content}
        return {"Id": image, "RepoTags": [image], "Architecture": "arm64", "Config": {"Labels": labels}}

    def info(self) -> dict[str, str]:
        return {"Architecture": "x86_64"}

    def pull(self, image: str, **_: Any) -> Iterator[dict[str, str]]:
        self.images.add(image)
        yield {"status": "Pull complete"}

    def remove_image(self, image: str) -> None:
        self.images.remove(image)

    def build(self, *, tag: str, **_: Any) -> Iterator[dict[str, str]]:
        yield {"stream": "Step 1/1 : FROM environment"}
        assert self.other_waits.wait(60)
        self.built.append(tag)
        self.images.add(tag)


def test_an_image_is_built_once_by_two_and_without_a_new_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platformdirs, "user_cache_path", lambda *_, **__: tmp_path)  # pyright: ignore
    api: Any = Builder()
    reports: list[str] = []

    def report(text: str) -> None:
        reports.append(text)
        if text.startswith("waiting"):
            api.other_waits.set()

    with ThreadPoolExecutor(2) as threads:
        builds = [threads.submit(ensure_image, api, RECIPE, report) for _ in range(2)]
    assert [build.result() for build in builds] == [RECIPE.tag] * 2
    assert api.built == [RECIPE.tag]
    assert sorted(reports) == [
        "building the image's last layer: step 1/1",
        "waiting for another process that is building the runner image",
    ]


@pytest.mark.skipif(sys.platform == "win32", reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_a_process_that_is_forked_during_a_build_does_not_keep_it_locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platformdirs, "user_cache_path", lambda *_, **__: tmp_path)  # pyright: ignore
    api: Any = Builder()
    api.other_waits.set()
    reading, writing = os.pipe()
    children: list[int] = []

    def report(_: str) -> None:
        assert is_build_locked()
        if not children:
            children.append(os.fork())
            if children == [0]:
                os.close(writing)
                os.read(reading, 1)
                os._exit(0)

    ensure_image(api, RECIPE, report)
    assert children and not is_build_locked()
    os.close(writing)
    os.close(reading)
    os.waitpid(children[0], 0)


# From a registry

DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("registry", "name"),
    [
        (None, None),
        ("none", None),
        ("team/runner", "team/runner:CONTENT"),
        ("a.example:5000/team/runner", "a.example:5000/team/runner:CONTENT"),
        (f"a.example:5000/runner@{DIGEST}", f"a.example:5000/runner@{DIGEST}"),
        (f"a.example:5000/runner:CONTENT@{DIGEST}", f"a.example:5000/runner@{DIGEST}"),
        (f"a.example:5000/runner:0123456789abcdef@{DIGEST}", None),  # made for another release
    ],
)
def test_name_in_a_registry(registry: str | None, name: str | None) -> None:
    recipe = ImageRecipe(registry=registry and registry.replace("CONTENT", RECIPE.content))
    assert recipe.published == (name and name.replace("CONTENT", RECIPE.content))
    assert recipe.tag == RECIPE.tag


@pytest.mark.parametrize("registry", ["a.example/runner:1", "a.example/runner@sha256:1", "https://a.example/b", "a b"])
def test_registries_are_repositories_or_digests(registry: str) -> None:
    with pytest.raises(SettingsError, match="image_registry"):
        Settings(image_registry=registry)


@pytest.mark.parametrize("registry", ["[::1]:5000/a", "a.example:5000/a/b_c", "runner", f"a/b:c@{DIGEST}", "none"])
def test_registries_that_are_accepted(registry: str) -> None:
    assert Settings(image_registry=registry).image.registry == registry


def test_a_release_says_where_its_image_is(context: Path) -> None:
    def registry_of(**options: Any) -> str | None:
        engine: Any = DockerEngine.from_settings(Settings(**options))
        return engine._recipe.registry

    assert registry_of() is None
    (context / "released.txt").write_text(f"a.example/runner:x@{DIGEST}\n")
    assert registry_of() == f"a.example/runner:x@{DIGEST}"
    assert registry_of(image_registry="team/runner") == "team/runner"
    assert registry_of(image_registry="none") == "none"


def test_an_image_for_another_processor_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platformdirs, "user_cache_path", lambda *_, **__: tmp_path)  # pyright: ignore
    api: Any = Builder()
    api.other_waits.set()
    reports: list[str] = []
    ensure_image(api, ImageRecipe(registry="a.example/runner"), reports.append)
    assert api.built == [RECIPE.tag]
    name = f"a.example/runner:{RECIPE.content}"
    assert f"{name} can't be used (it is for aarch64, and the engine's machine is x86_64)" in reports[1]
    assert name not in api.images


# What is in the image


def test_the_age_of_an_image_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    def described(days: int | None) -> dict[str, Any]:
        when = None if days is None else (datetime.now(timezone.utc) - timedelta(days)).date().isoformat()
        return {"Id": uuid.uuid4().hex, "Config": {"Labels": {LABEL_DATE: when} if when else None}}

    for image in (described(0), described(60), described(None), {"Config": {"Labels": {LABEL_DATE: "?"}}}, {}):
        warn_if_old(image, "Do so.")
    assert caplog.messages == []
    old = described(61)
    for _ in range(2):
        warn_if_old(old, "Do so.")
    assert caplog.messages == ["The runner image has had no security updates for 61 days. Do so."]


def test_a_download_is_reported_in_sizes_and_few_lines() -> None:
    download = DownloadProgress()
    reported: list[str] = []
    for part in range(101):
        for layer in ("a", "b"):
            detail = {"current": part << 20, "total": 100 << 20}
            event = {"status": "Downloading", "id": layer, "progressDetail": detail}
            reported += filter(None, [download.note(event)])
    assert 10 < len(reported) <= 20
    assert reported[-1] == "200 of 200 MiB"
    for other in ({"status": "Pull complete", "id": "a"}, {"error": "x"}, {"status": "Downloading", "id": "c"}):
        assert download.note(other) is None
