"""``image prune`` and ``uninstall`` in full, on an engine of the test's own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from docker import APIClient

from mcp_agentrun import Sandbox
from mcp_agentrun.engine.docker.image import LABEL_IMAGE
from tests.support.command_line import command
from tests.support.image import import_image
from tests.support.private_engine import private_engine

FOREIGN = "somebody-else:1"


@pytest.fixture
def client(runner_image: str, api: APIClient, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[APIClient]:
    """Of an engine that commands find, with the runner image and what belongs to somebody else."""
    for name in ("HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name))
    with private_engine(runner_image, api) as engine:
        monkeypatch.setenv("DOCKER_HOST", engine.url)
        client = engine.client()
        import_image(client, FOREIGN)
        client.create_volume("somebody-elses")
        yield client
        client.close()


def images(client: APIClient) -> set[str]:
    return {tag for image in client.images() for tag in image["RepoTags"] or ()}


def test_what_is_old_goes_and_then_everything(client: APIClient, runner_image: str, tmp_path: Path) -> None:
    old = "mcp-agentrun-runner:old"
    import_image(client, old, **{LABEL_IMAGE: "runner"})
    shown = command("image", "prune", "--dry-run")
    assert old in shown.stdout and runner_image not in shown.stdout
    assert images(client) == {runner_image, old, FOREIGN}
    assert f"removed {old}" in command("image", "prune", "--yes").stdout
    assert images(client) == {runner_image, FOREIGN}
    assert "Nothing to remove" in command("image", "prune", "--yes").stdout

    cursor = tmp_path / "HOME" / ".cursor" / "mcp.json"
    cursor.parent.mkdir(parents=True)
    cursor.write_text('{"mcpServers": {"other": {"command": "x"}}}')
    assert command("client", "add", "cursor", "--yes").returncode == 0
    assert command("config", "init").returncode == 0
    with Sandbox() as sandbox:
        assert sandbox.run("6 * 7").text == "42\n"
        shown = command("uninstall", "--dry-run").stdout
        for text in (
            "container",
            "image",
            "volume",
            "client entry",
            "settings",
            runner_image,
            "may belong to running servers",
        ):
            assert text in shown, text
        removed = command("uninstall", "--yes")
        assert removed.returncode == 0, removed.stderr
        assert client.containers(all=True) == []
    assert images(client) == {FOREIGN}
    assert [volume["Name"] for volume in client.volumes()["Volumes"]] == ["somebody-elses"]
    assert json.loads(cursor.read_text()) == {"mcpServers": {"other": {"command": "x"}}}
    assert not list(tmp_path.glob("XDG_*/mcp-agentrun"))
    again = command("uninstall", "--yes")
    assert (again.returncode, again.stdout) == (0, "There is nothing to remove.\n")
