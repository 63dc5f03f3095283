"""The runner image from a registry, and from a build where the registry does not have it or misbehaves."""

from __future__ import annotations

import contextlib
import logging
import uuid
from collections.abc import Generator, Iterator
from dataclasses import replace
from pathlib import Path

import httpx2
import pytest
from docker import APIClient
from docker.errors import NotFound

from mcp_agentrun import AsyncSandbox
from mcp_agentrun.engine.docker import image as image_module
from mcp_agentrun.engine.docker import pull as pull_module
from mcp_agentrun.engine.docker.engine import DockerEngine
from mcp_agentrun.engine.docker.image import LABEL_CONTENT, LABEL_IMAGE, ImageRecipe, build_obstacle, ensure_image
from mcp_agentrun.errors import ImageError
from tests.support.registry import Behaviour, drip, fall_silent, misbehaving_registry, publish, push, real_registry

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.timeout(300),  # images are built
    pytest.mark.not_on("kubernetes", reason="images are built and pushed with Docker"),
]

WRONG = "sha256:" + "0" * 64


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with real_registry(tmp_path_factory.mktemp("registry")) as address:
        yield f"{address}/team/runner"


@pytest.fixture
def recipe(api: APIClient, runner_image: str, context: Path) -> Iterator[ImageRecipe]:
    """A recipe that no one else has, which is built in seconds; nothing is left of its images."""
    for name, base, kind in (
        ("environment.Dockerfile", "BASE", "environment"),
        ("Dockerfile", "ENVIRONMENT", "runner"),
    ):
        label = f"LABEL {LABEL_IMAGE}={kind} of-the-test={uuid.uuid4().hex}"
        (context / name).write_text(f"ARG {base}\nFROM ${{{base}}}\nUSER 0\n{label}\n")
    made = ImageRecipe(base=runner_image, packages=())
    yield made
    for name in (made.tag, made.environment_tag):
        with contextlib.suppress(NotFound):
            api.remove_image(name)


def labels_of(recipe: ImageRecipe) -> dict[str, str]:
    return {LABEL_IMAGE: "runner", LABEL_CONTENT: recipe.content}


def was_built(api: APIClient, recipe: ImageRecipe) -> bool:
    """Whether the image of *recipe* comes from a build here; those that are published have no such label."""
    return "of-the-test" in api.inspect_image(recipe.tag)["Config"]["Labels"]


def test_a_published_image_is_pulled_and_not_built(api: APIClient, recipe: ImageRecipe, registry: str) -> None:
    publish(api, f"{registry}:{recipe.content}", labels_of(recipe))
    reports: list[str] = []
    pulled = replace(recipe, registry=registry)
    assert build_obstacle(api, pulled) is None
    assert ensure_image(api, pulled, reports.append) == recipe.tag
    assert reports[0] == f"pulling {registry}:{recipe.content}"
    assert not any("building" in report for report in reports)
    assert not was_built(api, recipe)
    assert api.inspect_image(recipe.tag)["RepoTags"] == [recipe.tag]  # it is removed like those that are built


@pytest.mark.parametrize("tagged", [True, False])
def test_an_image_is_pulled_by_its_digest(api: APIClient, recipe: ImageRecipe, registry: str, tagged: bool) -> None:
    digest = publish(api, f"{registry}:{recipe.content}", labels_of(recipe))
    publish(api, f"{registry}:{recipe.content}", {LABEL_IMAGE: "runner", LABEL_CONTENT: "x"})  # the tag has moved
    name = f"{registry}:{recipe.content}" if tagged else registry
    ensure_image(api, replace(recipe, registry=f"{name}@{digest}"), print)
    assert not was_built(api, recipe)
    assert not [name for name in api.inspect_image(recipe.tag)["RepoDigests"] if registry in name]


def test_what_a_registry_does_not_have_is_built(api: APIClient, recipe: ImageRecipe, registry: str) -> None:
    reports: list[str] = []
    ensure_image(api, replace(recipe, registry=registry), reports.append)
    assert "manifest unknown" in "".join(report for report in reports if "can't be used" in report)
    assert was_built(api, recipe)


def test_an_image_that_has_another_digest_is_not_used(api: APIClient, recipe: ImageRecipe, registry: str) -> None:
    publish(api, f"{registry}:{recipe.content}", labels_of(recipe))
    reports: list[str] = []
    ensure_image(api, replace(recipe, registry=f"{registry}:{recipe.content}@{WRONG}"), reports.append)
    assert any("can't be used" in report for report in reports)
    assert was_built(api, recipe)


def test_a_registry_that_sends_another_image_than_was_asked_for(api: APIClient, recipe: ImageRecipe) -> None:
    reports: list[str] = []
    with misbehaving_registry(drip) as (address, _):
        ensure_image(api, replace(recipe, registry=f"{address}/runner@{WRONG}"), reports.append)
    refused = "".join(report for report in reports if "can't be used" in report)
    assert WRONG in refused and ("verification failed" in refused or "match" in refused), refused
    assert was_built(api, recipe)


@pytest.mark.parametrize("labels", [{}, {LABEL_IMAGE: "runner", LABEL_CONTENT: "0123456789abcdef"}])
def test_an_image_of_other_content_is_neither_used_nor_kept(
    api: APIClient, recipe: ImageRecipe, registry: str, labels: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    name = f"{registry}:{recipe.content}"
    publish(api, name, labels)
    with caplog.at_level(logging.WARNING):
        ensure_image(api, replace(recipe, registry=registry), print)
    assert was_built(api, recipe)
    assert any(f"{name} is not used" in message for message in caplog.messages)
    with pytest.raises(NotFound):
        api.inspect_image(name)


def test_an_image_that_was_loaded_needs_no_registry(api: APIClient, recipe: ImageRecipe, registry: str) -> None:
    """And keeps the name that somebody has given it."""
    name = f"{registry}:{recipe.content}"
    publish(api, name, labels_of(recipe))
    list(api.pull(name, stream=True))
    try:
        ensure_image(api, replace(recipe, registry=registry), print)
        assert not was_built(api, recipe)
        assert set(api.inspect_image(recipe.tag)["RepoTags"]) == {name, recipe.tag}
    finally:
        api.remove_image(name)


@pytest.mark.parametrize("behave", [drip, fall_silent, None])
def test_a_build_follows_when_a_registry_is_slow_or_dead(
    api: APIClient, recipe: ImageRecipe, behave: Behaviour | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pull_module, "_SILENCE_SECONDS", 2)
    reports: list[str] = []
    with misbehaving_registry(behave) as (address, digest):
        ensure_image(api, replace(recipe, registry=f"{address}/runner@{digest}"), reports.append)
    assert "does not respond" in "".join(report for report in reports if "can't be used" in report)
    assert was_built(api, recipe)


def test_a_pull_has_a_time_limit_however_much_arrives(
    api: APIClient, recipe: ImageRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_module, "_PULL_SECONDS", 2)
    with misbehaving_registry(drip) as (address, digest):
        ensure_image(api, replace(recipe, registry=f"{address}/runner@{digest}"), print)
    assert was_built(api, recipe)


@contextlib.contextmanager
def published_runner(api: APIClient, context: Path, registry: str) -> Generator[ImageRecipe]:
    """A real runner image that only the registry has."""
    with (context / "Dockerfile").open("a") as file:
        file.write(f"LABEL of-the-test={uuid.uuid4().hex}\n")
    recipe = ImageRecipe(registry=registry)
    ensure_image(api, replace(recipe, registry=None), print)
    name = f"{registry}:{recipe.content}"
    api.tag(recipe.tag, registry, recipe.content)
    push(api, name)
    for each in (name, recipe.tag):
        api.remove_image(each)
    try:
        yield recipe
    finally:
        with contextlib.suppress(NotFound):
            api.remove_image(recipe.tag)


async def test_a_sandbox_runs_in_the_image_that_it_has_pulled(
    api: APIClient, runner_image: str, context: Path, registry: str
) -> None:
    with published_runner(api, context, registry) as recipe:
        async with AsyncSandbox(image_registry=registry) as sandbox:
            assert (await sandbox.run("6 * 7")).text == "42\n"
        assert api.inspect_image(recipe.tag)


async def test_an_image_is_pushed_with_its_digest(api: APIClient, recipe: ImageRecipe, registry: str) -> None:
    engine = DockerEngine(recipe=recipe)
    reports: list[str] = []
    reference = await engine.push_image(registry, reports.append)
    await engine.aclose()
    address, _, repository = registry.partition("/")
    kinds = "application/vnd.docker.distribution.manifest.v2+json, application/vnd.oci.image.manifest.v1+json"
    async with httpx2.AsyncClient(trust_env=False, headers={"Accept": kinds}) as http:
        there = await http.head(f"http://{address}/v2/{repository}/manifests/{recipe.content}")
    assert reference == f"{registry}@{there.headers['Docker-Content-Digest']}"
    assert f"pushing {registry}:{recipe.content}" in reports
    assert all(not tag.startswith(registry) for tag in api.inspect_image(recipe.tag)["RepoTags"])


async def test_a_registry_that_is_not_there_is_named(api: APIClient, recipe: ImageRecipe) -> None:
    engine = DockerEngine(recipe=recipe)
    with pytest.raises(ImageError, match=r"can't be pushed to 127\.0\.0\.1:1/team/runner"):
        await engine.push_image("127.0.0.1:1/team/runner", lambda _: None)
    await engine.aclose()
