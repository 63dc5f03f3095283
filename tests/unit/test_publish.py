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
    monkeypatch.setattr(os, "fchown", chown)
    return importlib.import_module("runner.publish")


@pytest.fixture
def account(publish: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    accounts = importlib.import_module("runner.accounts")
    monkeypatch.setattr(accounts, "CACHES", tmp_path)
    return accounts.Account("uv", os.getuid())


@pytest.fixture
def site(account: Any, tmp_path: Path) -> Path:
    """A folder with the link to a file of a wheel that uv has unpacked."""
    archive = account.archives / "x"
    archive.mkdir(parents=True)
    (archive / "x.py").write_text("x = 1")
    site = tmp_path / "site"
    site.mkdir()
    (site / "x.py").symlink_to(archive / "x.py")
    return site


def test_a_file_is_linked_and_read_only(publish: Any, account: Any, site: Path, tmp_path: Path) -> None:
    publish.Publisher(account, site).publish(tmp_path / "target")
    published = (tmp_path / "target" / "x.py").stat()
    assert published.st_ino == (site / "x.py").stat().st_ino
    assert published.st_mode & 0o777 == 0o444


def test_a_folder_that_is_a_link_is_not_followed(publish: Any, account: Any, tmp_path: Path) -> None:
    """It could lead to what other sessions have, which PID 1 can read."""
    (tmp_path / "others").mkdir()
    (tmp_path / "others" / "private.py").write_text("secret = 1")
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "others")
    with pytest.raises(publish.PublishError, match="link"):
        publish.Publisher(account, link).publish(tmp_path / "target")
    assert not (tmp_path / "target").exists()


def test_a_file_that_somebody_can_still_write_is_refused(
    publish: Any, account: Any, site: Path, tmp_path: Path
) -> None:
    """A process of another user may have received the descriptor."""
    with (account.archives / "x" / "x.py").open("r+"), pytest.raises(publish.PublishError, match="open for writing"):
        publish.Publisher(account, site).publish(tmp_path / "target")
    assert not (tmp_path / "target").exists()


@pytest.mark.parametrize("place", [".", "folder", "uv/cache", "uv/cache/archive-v0", "uv/cache/archive-v0/x"])
def test_a_folder_that_others_can_write_is_refused(
    publish: Any, account: Any, site: Path, tmp_path: Path, place: str
) -> None:
    """A process of another user that has it open could exchange what is in it."""
    (site / "folder").mkdir()
    (site / "folder" / "y.py").write_text("y = 1")
    (tmp_path if place.startswith("uv") else site).joinpath(place).chmod(0o777)
    with pytest.raises(publish.PublishError, match="somebody else can write"):
        publish.Publisher(account, site).publish(tmp_path / "target")
    assert not (tmp_path / "target").exists()


@pytest.mark.parametrize("way", ["../x/x.py", "./x/x.py", "/x/x.py", "link/x.py", "x/link/x.py", "x", "x.py"])
def test_what_is_linked_to_lies_in_a_wheel(publish: Any, account: Any, site: Path, tmp_path: Path, way: str) -> None:
    (account.archives / "link").symlink_to(account.archives / "x")
    (account.archives / "x" / "link").symlink_to(account.archives / "x")
    (account.archives / "x.py").write_text("x = 1")
    (site / "y.py").symlink_to(f"{account.archives}/{way}")
    with pytest.raises(publish.PublishError, match="link"):
        publish.Publisher(account, site).publish(tmp_path / "target")
    assert not (tmp_path / "target").exists()


def test_what_is_published_is_counted_once_and_checked_on_the_way(
    publish: Any, account: Any, site: Path, tmp_path: Path
) -> None:
    (site / "folder").mkdir()
    (site / "folder" / "same.py").symlink_to(account.archives / "x" / "x.py")
    os.link(account.archives / "x" / "x.py", account.archives / "x" / "other.py")
    (site / "other.py").symlink_to(account.archives / "x" / "other.py")
    (site / "plain.py").write_text("0" * 10_000)
    seen: list[tuple[int, int]] = []

    def note(size: int, entries: int) -> None:
        seen.append((size, entries))

    publish.Publisher(account, site, check=note).publish(tmp_path / "target")
    assert seen[-1] == (4096 + 4096 + 10_000, 3), "a folder, a file that is linked to thrice, and another"

    def refuse(size: int, entries: int) -> None:
        raise ValueError("too much")

    with pytest.raises(ValueError, match="too much"):
        publish.Publisher(account, site, check=refuse).publish(tmp_path / "refused")
    assert not (tmp_path / "refused").exists()


def test_no_processes_but_an_account_s_are_ended(account: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A test that is run as root must not be able to end the machine's processes."""
    accounts = importlib.import_module("runner.accounts")
    monkeypatch.setattr(accounts, "processes", lambda: ())
    for uid in (0, os.getuid()):
        with pytest.raises(ValueError, match="not an account's"):
            accounts.end_processes(uid)
