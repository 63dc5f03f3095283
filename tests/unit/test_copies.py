"""What the container beside a sandbox's accepts as packages, and what it never does."""

from __future__ import annotations

import errno
import importlib
import io
import itertools
import os
import shutil
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from threading import Event, Thread
from types import SimpleNamespace
from typing import Any

import pytest

from tests.support import CHECKOUT

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the runner runs on Linux")

FIRST, SECOND, THIRD = (f"sandboxes/{'a' * 32}/{n * 16}" for n in "123")
MIB = 1 << 20


def _become(*_: Any) -> None:
    """It takes capabilities, which the installer has."""


class Volumes:
    """The volumes of an installer and of a sandbox, and the processes that copy from one to the other."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.syspath_prepend(CHECKOUT / "runner_image")
        self._module: Any = importlib.import_module("runner.copies")
        monkeypatch.setattr(self._module.os, "getpid", itertools.count(1).__next__)  # each copy is a process
        self._monkeypatch = monkeypatch
        monkeypatch.setattr(self._module, "become", _become)
        self.installer, self.sandbox = folder / "installer", folder / "sandbox"
        self.installer.mkdir()
        self.sandbox.mkdir()

    def _main(self, volume: Path, *arguments: str) -> str:
        """Execute a process, and return what it writes to its standard error."""
        self._monkeypatch.setattr(self._module, "VOLUME", volume)
        self._monkeypatch.setattr(sys, "stderr", errors := io.StringIO())
        with pytest.raises(SystemExit) as ended:
            self._module.main(*arguments)
        assert ended.value.code == bool(errors.getvalue())
        return errors.getvalue()

    def send(self, folder: str, *held: str) -> bytes:
        self._monkeypatch.setattr(sys, "stdout", SimpleNamespace(buffer=(archive := io.BytesIO())))
        problem = self._main(self.installer, "send", folder, *held)
        return problem.encode() or archive.getvalue()

    def receive(self, archive: bytes, folder: str, *held: str, size: int = MIB, files: int = 100) -> str:
        return self.receive_from(io.BytesIO(archive), folder, *held, size=size, files=files)

    def receive_from(self, stream: io.BytesIO, folder: str, *held: str, size: int = MIB, files: int = 100) -> str:
        self._monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=stream))
        return self._main(self.sandbox, "receive", folder, str(size), str(files), *held)

    def receive_in_vain(self, stream: io.BytesIO, folder: str) -> None:
        self._monkeypatch.setattr(self._module, "VOLUME", self.sandbox)
        self._monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=stream))
        with pytest.raises(tarfile.ReadError):
            self._module.receive(folder, str(4 * MIB), "100")

    def publish(self, folder: str, **files: str) -> None:
        """Put a folder with modules into the installer's volume."""
        (self.installer / folder / "sub").mkdir(parents=True)
        for name, text in files.items():
            (self.installer / folder / "sub" / f"{name}.py").write_text(text)

    def found(self) -> dict[str, str]:
        """Everything in the sandbox's volume: content by path; that of a folder is empty."""
        return {
            str(path.relative_to(self.sandbox)): path.read_text() if path.is_file() else ""
            for path in self.sandbox.rglob("*")
        }


@pytest.fixture
def volumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Volumes:
    return Volumes(tmp_path, monkeypatch)


def archive_of(*members: tuple[str, bytes, str | bytes]) -> bytes:
    """An archive with *members*: name, type, and content or the name of what is linked to."""
    with tarfile.open(fileobj=(archive := io.BytesIO()), mode="w|") as writer:
        for name, kind, value in members:
            member = tarfile.TarInfo(name)
            member.type = kind
            if isinstance(value, str):
                member.linkname = value
            else:
                member.size = len(value)
            writer.addfile(member, io.BytesIO(value) if isinstance(value, bytes) else None)
    return archive.getvalue()


def test_a_copy_is_complete_and_read_only(volumes: Volumes) -> None:
    strange = "n\n \udcff" + "x" * 150
    volumes.publish(FIRST, one="1", **{strange: "2"})
    (volumes.installer / FIRST / "sub" / "one.py").chmod(0o755)
    assert volumes.receive(volumes.send(FIRST), FIRST) == ""
    copy = volumes.sandbox / FIRST / "sub"
    assert {path.name: path.read_text() for path in copy.iterdir()} == {"one.py": "1", f"{strange}.py": "2"}
    assert [(copy / f"{name}.py").stat().st_mode & 0o7777 for name in ("one", strange)] == [0o555, 0o444]
    assert copy.stat().st_mode & 0o7777 == 0o755
    assert os.listdir(volumes.sandbox) == ["sandboxes"]


def test_what_is_there_already_is_linked(volumes: Volumes) -> None:
    volumes.publish(FIRST, large="x" * MIB, old="1")
    volumes.publish(SECOND, new="2")
    os.link(volumes.installer / FIRST / "sub/large.py", volumes.installer / SECOND / "sub/large.py")
    assert volumes.receive(volumes.send(FIRST), FIRST, size=2 * MIB) == ""
    archive = volumes.send(SECOND, FIRST)
    assert len(archive) < MIB
    assert volumes.receive(archive, SECOND, FIRST, size=2 * MIB) == ""
    first, second = (volumes.sandbox / folder / "sub/large.py" for folder in (FIRST, SECOND))
    assert first.stat().st_ino == second.stat().st_ino
    assert second.read_text() == "x" * MIB
    assert (volumes.sandbox / FIRST / "sub/old.py").exists()


def test_copies_that_are_not_used_are_removed(volumes: Volumes) -> None:
    for folder in (FIRST, SECOND, THIRD):
        volumes.publish(folder, one="1")
    volumes.receive(volumes.send(FIRST), FIRST)
    volumes.receive(volumes.send(SECOND), SECOND, FIRST)
    volumes.receive(volumes.send(THIRD), THIRD, SECOND)
    assert sorted(os.listdir((volumes.sandbox / FIRST).parent)) == ["2" * 16, "3" * 16]


def test_a_folder_that_is_gone_is_told(volumes: Volumes) -> None:
    assert volumes.send(FIRST) == b"gone"


@pytest.mark.parametrize(
    "members",
    [
        [("../x", tarfile.REGTYPE, b"1")],
        [("/x", tarfile.REGTYPE, b"1")],
        [("new", tarfile.REGTYPE, b"1")],
        [("new", tarfile.DIRTYPE, b"")],
        [("newer", tarfile.DIRTYPE, b"")],
        [("new/../x", tarfile.REGTYPE, b"1")],
        [("new/./x", tarfile.REGTYPE, b"1")],
        [("new/a/x", tarfile.REGTYPE, b"1")],
        [("", tarfile.REGTYPE, b"1")],
        [(f"{FIRST}/sub/one.py", tarfile.REGTYPE, b"1")],
        [("new/x", tarfile.SYMTYPE, "/etc"), ("new/x/y", tarfile.REGTYPE, b"1")],
        [("new/x", tarfile.FIFOTYPE, b"")],
        [("new/x", tarfile.CHRTYPE, b"")],
        [("new/x", tarfile.GNUTYPE_SPARSE, b"")],
        [("new/x", tarfile.LNKTYPE, "../installer/secret")],
        [("new/x", tarfile.LNKTYPE, "/etc/passwd")],
        [("new/x", tarfile.LNKTYPE, "new/none")],
        [("new/x", tarfile.LNKTYPE, f"{FIRST}/sub/one.py"), ("new/x", tarfile.REGTYPE, b"overwritten")],
        [("new/x", tarfile.REGTYPE, b"1"), ("new/x", tarfile.DIRTYPE, b"")],
    ],
    ids=lambda members: members[-1][0] + members[-1][1].decode(errors="replace"),
)
def test_a_hostile_archive_leaves_nothing(volumes: Volumes, members: list[Any]) -> None:
    volumes.publish(FIRST, one="1")
    (volumes.installer / "secret").write_text("secret")
    volumes.receive(volumes.send(FIRST), FIRST)
    before = volumes.found()
    assert volumes.receive(archive_of(*members), SECOND, FIRST) in ("malformed", "failed", "gone")
    assert volumes.found() == before


def test_an_archive_that_is_cut_leaves_nothing(volumes: Volumes) -> None:
    volumes.publish(FIRST, one="1" * MIB, two="2")
    archive = volumes.send(FIRST)
    for length in (0, 100, 10240, len(archive) // 2, len(archive) - 10240):
        assert volumes.receive(archive[:length], FIRST, size=4 * MIB) != ""
        assert volumes.found() == {}


class _Stream(io.BytesIO):
    """An archive that something happens at: when it is read for the second time, or at its end."""

    def __init__(self, archive: bytes, happen: Callable[[], object], *, at_end: bool) -> None:
        super().__init__(archive)
        self._happen, self._at_end, self._count = happen, at_end, 0

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        self._count += 1
        if not data if self._at_end else self._count == 2:
            self._happen()
        return data


def test_a_copy_that_is_cut_harms_no_later_one(volumes: Volumes) -> None:
    volumes.publish(FIRST, **{name: name * MIB for name in "12"})
    archive = volumes.send(FIRST)
    is_cut, ends = Event(), Event()

    def wait() -> None:
        is_cut.set()
        assert ends.wait(60)

    first = Thread(target=volumes.receive_in_vain, args=(_Stream(archive[:MIB], wait, at_end=True), FIRST))
    first.start()
    assert is_cut.wait(60)

    def end() -> None:
        ends.set()
        first.join()

    assert volumes.receive_from(_Stream(archive, end, at_end=False), FIRST, size=4 * MIB) == ""
    assert {path for path, text in volumes.found().items() if text} == {f"{FIRST}/sub/{name}.py" for name in "12"}


def test_limits_hold_for_all_copies_together(volumes: Volumes) -> None:
    volumes.publish(FIRST, one="1" * (600 << 10))
    volumes.publish(SECOND, two="2" * (600 << 10))
    assert volumes.receive(volumes.send(FIRST), FIRST) == ""
    before = volumes.found()
    assert volumes.receive(volumes.send(SECOND), SECOND, FIRST) == "limit"
    assert volumes.found() == before
    assert volumes.receive(volumes.send(SECOND), SECOND) == ""  # when the first one is not used any more


def test_the_number_of_files_is_limited(volumes: Volumes) -> None:
    volumes.publish(FIRST, one="1", two="2")  # in a folder of a folder
    assert volumes.receive(volumes.send(FIRST), FIRST, files=2) == "limit"
    assert volumes.receive(volumes.send(FIRST), FIRST, files=3) == ""


def test_empty_files_take_space(volumes: Volumes) -> None:
    members = [(f"new/{number}", tarfile.REGTYPE, b"") for number in range(50)]
    assert volumes.receive(archive_of(*members), FIRST, size=100_000) == "limit"


def test_a_full_disk_leaves_nothing(volumes: Volumes, monkeypatch: pytest.MonkeyPatch) -> None:
    def fill(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    volumes.publish(FIRST, one="1")
    archive = volumes.send(FIRST)
    monkeypatch.setattr(shutil, "copyfileobj", fill)
    assert volumes.receive(archive, FIRST) == "full"
    assert volumes.found() == {}
