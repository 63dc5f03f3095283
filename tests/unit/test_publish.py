"""What the installer takes over from where uv has worked, where that has been prepared by code that controls uv."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support import CHECKOUT

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the installer runs on Linux")


@pytest.fixture
def publish(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The installer's module."""
    monkeypatch.syspath_prepend(CHECKOUT / "runner_image")

    def chown(*_: Any, **__: Any) -> None:
        """It takes capabilities, which the installer has."""

    monkeypatch.setattr(os, "chown", chown)
    return importlib.import_module("runner.publish")


@pytest.fixture
def lane(publish: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    lanes = importlib.import_module("runner.lanes")
    monkeypatch.setattr(lanes, "LANES", tmp_path)
    return lanes.Lane("uv", os.getuid())


@pytest.fixture
def site(lane: Any, tmp_path: Path) -> Path:
    """A folder with the link to a file of a wheel that uv has unpacked."""
    archive = lane.archives / "x"
    archive.mkdir(parents=True)
    (archive / "x.py").write_text("x = 1")
    site = tmp_path / "site"
    site.mkdir()
    (site / "x.py").symlink_to(archive / "x.py")
    return site


def test_a_file_is_linked_and_read_only(publish: Any, lane: Any, site: Path, tmp_path: Path) -> None:
    publish.Publisher(lane, site).publish(tmp_path / "target")
    published = (tmp_path / "target" / "x.py").stat()
    assert published.st_ino == (site / "x.py").stat().st_ino
    assert published.st_mode & 0o777 == 0o444


def test_a_folder_that_is_a_link_is_not_followed(publish: Any, lane: Any, tmp_path: Path) -> None:
    """It could lead to what other sessions have, which PID 1 can read."""
    (tmp_path / "others").mkdir()
    (tmp_path / "others" / "private.py").write_text("secret = 1")
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "others")
    with pytest.raises(publish.PublishError, match="link"):
        publish.Publisher(lane, link).publish(tmp_path / "target")
    assert not (tmp_path / "target").exists()


def test_a_file_that_somebody_can_still_write_is_refused(publish: Any, lane: Any, site: Path, tmp_path: Path) -> None:
    """A process of another user may have received the descriptor."""
    with (lane.archives / "x" / "x.py").open("r+"), pytest.raises(publish.PublishError, match="open for writing"):
        publish.Publisher(lane, site).publish(tmp_path / "target")
    assert not (tmp_path / "target").exists()
