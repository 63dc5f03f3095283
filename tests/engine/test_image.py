from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import re
import subprocess
import sys
import uuid
from collections.abc import Callable
from datetime import date, datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from docker.errors import NotFound
from packaging.utils import canonicalize_name

from mcp_agentrun.engine.docker import image as image_module
from mcp_agentrun.engine.docker.image import (
    LABEL_BASE,
    LABEL_CONTENT,
    LABEL_DATE,
    LABEL_IMAGE,
    ImageRecipe,
    ensure_image,
)
from mcp_agentrun.errors import ImageError
from tests.support.containers import run_in_container
from tests.support.image import pinned_versions
from tests.support.local_index import digest_of, gateway_of, make_wheel, serve_index

if TYPE_CHECKING:
    from docker import APIClient

pytestmark = [
    pytest.mark.timeout(600),  # images are built
    pytest.mark.not_on("kubernetes", reason="images are built and pushed with Docker"),
]

RECIPE = ImageRecipe()
NO_REGISTRY = "127.0.0.1:1/absent:1"


@pytest.fixture
def image(runner_image: str) -> str:
    return runner_image


def histories(api: APIClient) -> str:
    """What the engine tells of each layer of our images. Others may remove theirs meanwhile."""
    found: list[Any] = []
    for layer in api.images(all=True, filters={"label": LABEL_IMAGE}):
        with contextlib.suppress(NotFound):
            found.append(api.history(layer["Id"]))
    assert found
    return json.dumps(found)


def named_by_digest(api: APIClient, name: str) -> set[str]:
    """The image *name* by its digests, of which an engine that has not pulled it has the image's id, or its own."""
    described = api.inspect_image(name)
    digests = [digest.partition("@")[2] for digest in described.get("RepoDigests") or ()]
    return {f"{name}@{digest}" for digest in digests or [described["Id"]]}


def run_python(api: APIClient, image: str, code: str) -> str:
    """What *code* prints where HOME has been furnished as a session's is."""
    return run_in_container(api, image, "sh", "-c", 'cp -r /opt/agentrun/home "$HOME"; exec python -I -c "$0"', code)


# The tag


def test_image_is_not_built_twice(api: APIClient, image: str) -> None:
    reports: list[str] = []
    assert ensure_image(api, RECIPE, reports.append) == image == RECIPE.tag
    assert reports == []


def test_defaults(api: APIClient, image: str) -> None:
    config = api.inspect_image(image)["Config"]
    assert config["User"] == "10001:10001"
    assert config["WorkingDir"] == "/workspace"
    interpreter, *options, program = config["Entrypoint"]
    assert (interpreter, program) == ("/opt/venv/bin/python", "/opt/agentrun/runner/__main__.py")
    assert {"-I", "-S"} <= set(options)
    labels = config["Labels"]
    assert labels.pop(LABEL_IMAGE) == "runner"
    assert f"mcp-agentrun-runner:{labels.pop(LABEL_CONTENT)}" == image
    assert re.fullmatch(r"[\w./:-]+@sha256:[0-9a-f]{64}", labels.pop(LABEL_BASE))
    assert date.fromisoformat(labels.pop(LABEL_DATE)) <= datetime.now(timezone.utc).date()
    assert set(labels) <= {"io.buildah.version"}  # of Podman
    assert {"LANG=C.UTF-8", "HOME=/tmp/home", "MPLBACKEND=agg", "PYTHONDONTWRITEBYTECODE=1"} <= set(config["Env"])


def test_no_file_gives_privileges(api: APIClient, image: str) -> None:
    assert run_in_container(api, image, "find", "/", "-xdev", "-perm", "/6000", user="0") == ""


def test_only_mount_points_can_be_written(api: APIClient, image: str) -> None:
    found = run_in_container(api, image, "sh", "-c", "find / -xdev -writable -not -type l 2>/dev/null; true")
    assert set(found.split()) <= {"/tmp"}


def test_installers_and_compilers_are_gone(api: APIClient, image: str) -> None:
    found = run_in_container(
        api, image, "sh", "-c", "for name in pip pip3 gcc cc ld make git curl; do command -v $name; done; true"
    )
    assert found == ""
    assert run_python(
        api, image, "import importlib.util as u; print(u.find_spec('pip'), u.find_spec('ensurepip'))"
    ) == ("None None\n")
    assert run_in_container(api, image, "uv", "--version").startswith("uv ")


def test_everything_is_byte_compiled(api: APIClient, image: str) -> None:
    code = """
import importlib.util, os, sysconfig
count, missing = 0, []
for top in (sysconfig.get_path("stdlib"), sysconfig.get_path("purelib"), "/opt/agentrun"):
    for folder, _, names in os.walk(top):
        for name in names:
            path = os.path.join(folder, name)
            if not name.endswith(".py"):
                continue
            count += 1
            try:
                with open(importlib.util.cache_from_source(path), "rb") as file:
                    header = file.read(16)
            except FileNotFoundError:
                missing.append(path)
                continue
            by_hash = header[4] & 1
            stale = not by_hash and header[8:12] != int(os.stat(path).st_mtime).to_bytes(4, "little")
            if header[:4] != importlib.util.MAGIC_NUMBER or stale:
                missing.append(path)
print(count > 1000, missing)
"""
    assert run_python(api, image, code) == "True []\n"


def test_utf8_everywhere(api: APIClient, image: str) -> None:
    code = "import sys; print(sys.getfilesystemencoding(), sys.stdout.encoding, '日本語')"
    assert run_python(api, image, code) == "utf-8 utf-8 日本語\n"


def test_plots_in_any_language_without_warning_or_new_font_cache(api: APIClient, image: str) -> None:
    code = """
import warnings
warnings.simplefilter("always")
import io, os, time
started = time.time()
import matplotlib.pyplot as plt
from matplotlib import font_manager
with plt.style.context("ggplot"):
    figure, axes = plt.subplots()
    axes.plot([1, -2], label="売上、円")
    axes.set_title("日本語 グラフ 中文图表 한국어", weight="bold")
    axes.set_xlabel("plain", style="italic", weight=700)
    axes.legend()
    figure.savefig(io.BytesIO())
font = font_manager.findfont(font_manager.FontProperties(family=["sans-serif"]))
print(plt.get_backend(), os.path.basename(font))
folder = os.path.expanduser("~/.cache/matplotlib")
print([name for name in os.listdir(folder) if os.stat(os.path.join(folder, name)).st_mtime > started])
"""
    assert run_python(api, image, code) == "agg DejaVuSans.ttf\n[]\n"


def test_data_packages(api: APIClient, image: str) -> None:
    code = "import numpy, pandas; print(pandas.DataFrame({'a': numpy.arange(3)}).a.sum())"
    assert run_python(api, image, code) == "3\n"


def test_the_packages_are_those_that_are_pinned(api: APIClient, image: str) -> None:
    def found_by(where: str = "") -> dict[str, str]:
        names = f"{{d.name: d.version for d in m.distributions({where})}}"
        text = run_python(api, image, f"import importlib.metadata as m, json; print(json.dumps({names}))")
        return {canonicalize_name(name): version for name, version in json.loads(text).items()}

    pins = pinned_versions()
    assert run_in_container(api, image, "uv", "--version").split()[1] == pins.pop("uv")
    libraries = found_by("path=['/opt/agentrun/licenses']")
    assert libraries == {"packaging": pins["packaging"], "restrictedpython": pins.pop("restrictedpython")}
    assert found_by() == pins


def test_fresh_volume_belongs_to_the_installer(api: APIClient, image: str) -> None:
    from docker.types import Mount

    list_them = ("stat", "-c", "%a %u:%g %n", "/packages")
    found = run_in_container(
        api, image, *list_them, user="10002:10002", mounts=[Mount("/packages", None, type="volume")]
    )
    assert found.splitlines() == [
        "711 10002:10002 /packages",
    ]


def test_runner_has_its_code(api: APIClient, image: str) -> None:
    code = "import sys; sys.path.insert(0, '/opt/agentrun'); import mcp_agentrun.wire.codec, runner.worker; print('ok')"
    assert run_python(api, image, code) == "ok\n"


# How it is built


def pin(context: Path, digest: str) -> ImageRecipe:
    """A recipe with the package ``of-the-test``, pinned by hash in the *context* of the build."""
    with (context / "constraints.txt").open("a") as file:
        file.write(f'of-the-test==1.0 ; python_version == "3.13" \\\n    --hash=sha256:{digest}\n')
    return ImageRecipe(packages=("of-the-test",))


def test_build_leaves_no_credentials(
    api: APIClient, image: str, context: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither in the image, its history and the layers left behind, nor in what is reported."""
    secret = f"s3cret-{uuid.uuid4().hex}"
    wheel = make_wheel(tmp_path / "index" / "simple" / "of-the-test", "of-the-test")
    recipe = pin(context, digest_of(wheel))
    monkeypatch.setenv("NO_PROXY", f"{os.environ.get('NO_PROXY', '')},{gateway_of(api)},{secret}.example".strip(","))
    _remove(api, recipe.tag, recipe.environment_tag)
    reports: list[str] = []
    try:
        with serve_index(tmp_path / "index", api, credentials=f"{secret}:{secret}") as index:
            monkeypatch.setenv("UV_INDEX", index)
            tag = ensure_image(api, recipe, reports.append)
        assert any("done once: step" in report for report in reports)
        assert secret not in "\n".join(reports)
        assert secret not in histories(api)
        found = run_in_container(
            api, tag, "sh", "-c", f"grep -rlF {secret} / --exclude-dir=proc --exclude-dir=sys; true", user="0"
        )
        assert found == ""
        assert run_python(api, tag, "import of_the_test; print(of_the_test.VERSION)") == "1.0\n"
    finally:
        _remove(api, recipe.tag, recipe.environment_tag)


def test_a_package_whose_hash_is_another_one_is_not_built_in(
    api: APIClient, image: str, context: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_wheel(tmp_path / "index" / "simple" / "of-the-test", "of-the-test")
    recipe = pin(context, hashlib.sha256(b"another").hexdigest())
    monkeypatch.setenv("NO_PROXY", f"{os.environ.get('NO_PROXY', '')},{gateway_of(api)}".strip(","))
    with serve_index(tmp_path / "index", api) as index:
        monkeypatch.setenv("UV_INDEX", index)
        with pytest.raises(ImageError, match=r"Hash mismatch[^$]*Computed:"):
            ensure_image(api, recipe, print)


def test_a_refreshed_image_has_its_old_name_and_the_newest_base(
    api: APIClient, image: str, context: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a registry would do is done here; a refresh that fails costs nothing. The environment is there already."""
    (context / "environment.Dockerfile").write_text(
        f"ARG BASE\nFROM ${{BASE}}\nUSER 0\nLABEL {LABEL_IMAGE}=environment\n"
    )
    base, pulled = f"mcp-agentrun-test-base:{uuid.uuid4().hex}", list[str]()
    recipe = ImageRecipe(base=base, packages=())
    known = api.inspect_image(image)["Id"]  # which nobody removes while it is in use

    def pull(client: APIClient, name: str, report: Callable[[str], None]) -> str | None:
        pulled.append(name)
        dockerfile = f"FROM {known}\nLABEL of-the-test={uuid.uuid4().hex} {LABEL_IMAGE}=base\n".encode()
        list(client.build(fileobj=io.BytesIO(dockerfile), tag=name, rm=True, forcerm=True, decode=True))
        return None

    try:
        api.tag(known, base.partition(":")[0], base.partition(":")[2])
        tag = ensure_image(api, recipe, print)
        before = api.inspect_image(tag)
        assert before["Config"]["Labels"][LABEL_BASE] in named_by_digest(api, base)
        assert pulled == []
        assert before["Config"]["Labels"][LABEL_DATE] == api.inspect_image(known)["Created"][:10]
        with pytest.raises(ImageError, match="can't be pulled"):
            ensure_image(api, recipe, print, refresh=True)
        assert api.inspect_image(tag)["Id"] == before["Id"]
        monkeypatch.setattr(image_module, "pull_image", pull)
        assert ensure_image(api, recipe, print, refresh=True) == tag
        after = api.inspect_image(tag)
        assert after["Id"] != before["Id"] and pulled == [base]
        assert after["Config"]["Labels"][LABEL_BASE] in named_by_digest(api, base)
        assert after["Config"]["Labels"][LABEL_BASE] != before["Config"]["Labels"][LABEL_BASE]
        assert after["Config"]["Labels"][LABEL_DATE] == datetime.now(timezone.utc).date().isoformat()
        assert ensure_image(api, recipe, print) == tag and api.inspect_image(tag)["Id"] == after["Id"]
    finally:
        _remove(api, recipe.tag, recipe.environment_tag, base)


def test_an_old_image_is_told_at_the_start(api: APIClient, image: str) -> None:
    old = f"mcp-agentrun-test-old:{uuid.uuid4().hex}"
    dockerfile = f"FROM {image}\nLABEL {LABEL_DATE}=2020-01-31\n".encode()
    list(api.build(fileobj=io.BytesIO(dockerfile), tag=old, rm=True, forcerm=True, decode=True))
    holder = api.create_container(old)["Id"]  # or another process that builds would tidy it up
    try:
        command = [sys.executable, "-m", "mcp_agentrun", "build", "--image", old]
        said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
        assert "The runner image has had no security updates for " in said.stderr
        assert subprocess.run([*command, "--refresh"], capture_output=True, check=False, timeout=60).returncode == 2
    finally:
        api.remove_container(holder)
        _remove(api, old)


def test_failed_build_says_why_and_leaves_nothing(api: APIClient, image: str, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = f"s3cret-{uuid.uuid4().hex}"
    monkeypatch.setenv("UV_INDEX", f"https://user:{secret}@a.example/simple")
    recipe = ImageRecipe(base=image)  # it has no ensurepip, so that no venv can be made
    with pytest.raises(ImageError, match=r"could not be built[^$]*ensurepip") as raised:
        ensure_image(api, recipe, print)
    assert secret not in str(raised.value)
    assert secret not in histories(api)


def test_base_that_can_not_be_had(api: APIClient) -> None:
    with pytest.raises(ImageError, match="AGENTRUN_IMAGE_BASE") as raised:
        ensure_image(api, ImageRecipe(base=NO_REGISTRY), print)
    assert NO_REGISTRY in str(raised.value)
    assert "mmdebstrap" not in str(raised.value)  # which makes the default base and no other


def test_default_base_without_registry_and_mmdebstrap(
    api: APIClient, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(image_module, "_DEFAULT_BASE", NO_REGISTRY)
    monkeypatch.setattr(image_module, "_DEBIAN_BASE", "mcp-agentrun-base:absent")
    with pytest.raises(ImageError, match="apt-get install mmdebstrap"):
        ensure_image(api, ImageRecipe(base=NO_REGISTRY), print)


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="mmdebstrap is used by root on Linux only")
def test_mmdebstrap_that_fails(api: APIClient, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "mmdebstrap"
    program.write_text("#!/bin/sh\necho 'E: unable to reach https://user:s3cret@a.example/' >&2\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(image_module, "_DEFAULT_BASE", NO_REGISTRY)
    monkeypatch.setattr(image_module, "_DEBIAN_BASE", "mcp-agentrun-base:absent")
    with pytest.raises(ImageError, match=r"E: unable to reach https://\*\*\*@a\.example/"):
        ensure_image(api, ImageRecipe(base=NO_REGISTRY), print)


def _remove(api: APIClient, *images: str) -> None:
    import docker.errors

    for name in images:
        with contextlib.suppress(docker.errors.NotFound):
            api.remove_image(name, force=True)
