"""The system accounts that uv runs under, each with a cache that no other account can read or write.

An account is used by one installation at a time, also across the installers of several servers on one volume, and each
of its processes is killed before anything else looks at its files.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

from runner.linux.privileges import (
    CAP_CHOWN,
    CAP_DAC_OVERRIDE,
    CAP_DAC_READ_SEARCH,
    CAP_KILL,
    CAP_SETGID,
    CAP_SETUID,
)
from runner.linux.process_table import is_alive, processes, send_signal

VOLUME = Path("/packages")
CACHES = VOLUME / "lanes"  # as existing volumes have it
LOCKS = VOLUME / "locks"
USED = VOLUME / "used"
"""For each account, an empty file for each distribution in its cache, dated by its last use."""

OWNER = 10002  # user and group of PID 1, and of everything that sessions see
READERS = 10003  # group of all accounts, which may read what PID 1 gives them

CAPABILITIES = (CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_KILL, CAP_SETGID, CAP_SETUID)
"""What PID 1 keeps: to start uv as another user, to end it, to read what it has written, and to own it. For reading,
engines give it one of two."""

WATCH_SECONDS = 0.2
_KILL_SECONDS = 10.0
_LOCK_SECONDS = 0.05
_OUTPUT_KEPT = 1 << 18  # bytes
_BLOCK = 4096
# If memory is short, the kernel is to end these and not PID 1.
_EXPENDABLE = 'echo 1000 >/proc/self/oom_score_adj; exec "$@"'
# A build must leave processes and threads for others. Installations of wheels have no such limit: the kernel counts by
# user, for all servers of this machine, and uv starts many threads if there are many processors.
_LIMITED = "ulimit -p 256; " + _EXPENDABLE


@dataclass(frozen=True)
class Account:
    """A system account, and its cache of uv's."""

    name: str
    uid: int
    is_builder: bool = False

    @property
    def cache(self) -> Path:
        return CACHES / self.name / "cache"

    @property
    def archives(self) -> Path:
        """Where uv keeps unpacked wheels, each in a folder of its own."""
        return self.cache / "archive-v0"

    @property
    def used(self) -> Path:
        return USED / self.name

    def create_folders(self) -> None:
        """Create the folders that are missing. The account owns only its cache, so that it can't leave anything beside
        it, which would not be counted or removed.
        """
        self.used.mkdir(exist_ok=True)
        home = self.cache.parent
        home.mkdir(exist_ok=True)
        os.chown(home, OWNER, READERS)
        home.chmod(0o710)
        self.cache.mkdir(mode=0o700, exist_ok=True)
        os.chown(self.cache, self.uid, READERS)


ORDINARY = tuple(Account(f"uv{number}", 10010 + number) for number in range(3))
BUILDER = Account("build", 10020, is_builder=True)
ALL = (*ORDINARY, BUILDER)
RELAY_UID = 10030  # passes on requests of builds to an index that needs credentials


@dataclass(frozen=True)
class Exit:
    """Result of a program: exit code, negative for a signal, and the end of its output."""

    status: int
    output: str
    errors: str


@contextlib.contextmanager
def acquired(candidates: Sequence[Account], is_cancelled: Callable[[], bool]) -> Generator[Account | None]:
    """The first of *candidates* that is free, waited for until *is_cancelled*; None if none becomes free."""
    with contextlib.ExitStack() as stack:
        while True:
            for account in candidates:
                lock = os.open(LOCKS / account.name, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    os.close(lock)
                    continue
                stack.callback(os.close, lock)
                account.create_folders()
                stack.callback(end_processes, account.uid)
                yield account
                return
            if is_cancelled():
                break
            time.sleep(_LOCK_SECONDS)  # a lock of another container has no event to wait for
        yield None


class Workplace:
    """A folder for one installation: what PID 1 gives to uv and, in a folder within, what uv writes.

    Use as a context manager. It is in the container's memory, and other accounts can't guess its name.
    """

    def __init__(self, account: Account) -> None:
        self._account = account
        self.folder = Path(tempfile.mkdtemp())
        self.made = self.folder / "made"  # the account's own folder

    def __enter__(self) -> Workplace:
        self.made.mkdir(mode=0o700)
        os.chown(self.made, self._account.uid, READERS)
        os.chown(self.folder, OWNER, READERS)
        self.folder.chmod(0o750)
        return self

    def __exit__(self, *exc_info: object) -> None:
        end_processes(self._account.uid)
        remove(self._account, self.made)
        shutil.rmtree(self.folder, ignore_errors=True)

    def give(self, name: str, lines: Sequence[str]) -> str:
        """Write a file that uv can read, and return its path."""
        (self.folder / name).write_text("".join(f"{line}\n" for line in lines))
        return str(self.folder / name)


def run(
    account: Account,
    command: Sequence[str],
    environment: Mapping[str, str],
    on_start: Callable[[subprocess.Popen[bytes]], None] = lambda _: None,
    watch: Callable[[], bool] = lambda: True,
) -> Exit:
    """Execute *command* under *account*, and end what it leaves running.

    :param watch: called every `WATCH_SECONDS`; the command is killed if it returns false.
    """
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            ["/bin/sh", "-c", _LIMITED if account.is_builder else _EXPENDABLE, "sh", *command],
            env=dict(environment),
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=errors,
            user=account.uid,
            group=READERS,
            extra_groups=[],
            umask=0o022,
            start_new_session=True,
        )
        ended = threading.Event()
        threading.Thread(target=lambda: (process.wait(), ended.set()), daemon=True).start()
        on_start(process)
        while not ended.wait(WATCH_SECONDS):
            if not watch():
                process.kill()
                break
            _end_orphans(account.uid, process.pid)  # uv waits for daemons that have its pipes
        status = process.wait()
        end_processes(account.uid)
        return Exit(status, _end_of(output), _end_of(errors))


def _end_of(file: IO[bytes]) -> str:
    file.seek(max(0, os.fstat(file.fileno()).st_size - _OUTPUT_KEPT))
    return file.read().decode(errors="replace")


@contextlib.contextmanager
def relayed(urls: Sequence[str], proxies: Mapping[str, str], certificates: str) -> Generator[list[str]]:
    """Addresses for the indexes at *urls* without credentials: those that need them get a relay each."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(_relay(url, proxies, certificates)) if "@" in url else url for url in urls]


@contextlib.contextmanager
def _relay(url: str, proxies: Mapping[str, str], certificates: str) -> Generator[str]:
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", str(Path(__file__).with_name("relay.py"))],
        env={},
        cwd="/",
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        user=RELAY_UID,
        group=READERS,
        extra_groups=[],
        start_new_session=True,
    )
    try:
        assert process.stdin is not None
        assert process.stdout is not None
        json.dump({"index_url": url, "proxies": dict(proxies), "certificates": certificates or None}, process.stdin)
        process.stdin.close()
        port = process.stdout.readline().strip()
        yield urlsplit(url)._replace(scheme="http", netloc=f"127.0.0.1:{port}").geturl()
    finally:
        process.kill()
        process.wait()


def end_processes(uid: int) -> None:
    """Kill every process of *uid*, however fast they fork. If that fails, this container ends.

    :raises ValueError: *uid* is root's or our own.
    """
    if uid in (0, os.getuid()):
        raise ValueError(f"user {uid} is not an account's")
    deadline = time.monotonic() + _KILL_SECONDS
    while living := [pid for pid in processes() if _ids(pid)[0] == uid and _is_alive_or_reaped(pid)]:
        for pid in living:
            send_signal(pid, signal.SIGKILL)
        if time.monotonic() > deadline:
            os._exit(1)
        time.sleep(0.0005)  # SIGKILL has no event to wait for where the process is not our child


def _is_alive_or_reaped(pid: int) -> bool:
    if is_alive(pid):
        return True
    # An orphan: what `run` has started was reaped before this is called.
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
    return False


def _end_orphans(uid: int, parent: int) -> None:
    """Kill the orphans of *uid*, but not *parent*."""
    for pid in processes():
        if pid != parent and _ids(pid) == (uid, 1) and _is_alive_or_reaped(pid):
            send_signal(pid, signal.SIGKILL)


def _ids(pid: int) -> tuple[int, int]:
    """User and parent of *pid*; -1 if it is gone."""
    with contextlib.suppress(OSError), open(f"/proc/{pid}/status") as status:
        fields = dict(line.split(maxsplit=2)[:2] for line in status if line.startswith(("PPid:", "Uid:")))
        return int(fields["Uid:"]), int(fields["PPid:"])
    return -1, -1


def remove(account: Account, *paths: str | Path) -> None:
    """Remove files and folders of *account*; of its cache, the content."""
    if paths:
        run(account, ["/bin/rm", "-rf", "--", *map(str, paths)], {})


def unpacked(account: Account) -> frozenset[str]:
    """The folders that uv has unpacked wheels into, or is unpacking them into, in the cache of *account*."""
    paths: list[str] = []
    for folder, prefix in ((account.cache, ".tmp"), (account.archives, "")):
        with contextlib.suppress(OSError):
            paths += (os.path.join(folder, name) for name in os.listdir(folder) if name.startswith(prefix))
    return frozenset(paths)


class Usage:
    """Counts the bytes and entries of files and folders: each file once, and at least a block for each entry."""

    def __init__(self) -> None:
        self.size = 0
        self.entries = 0
        self._linked: set[tuple[int, int]] = set()

    def add(self, state: os.stat_result) -> None:
        """Count a file or folder."""
        if state.st_nlink > 1:
            file = (state.st_dev, state.st_ino)
            if file in self._linked:
                return
            self._linked.add(file)
        self.size += max(state.st_size, _BLOCK)
        self.entries += 1


def measure(*folders: str | Path) -> tuple[int, int]:
    """Bytes and entries of everything below *folders*, including what links in them lead to."""
    usage = Usage()
    for place in folders:
        for state in _states(str(place)):
            usage.add(state)
    return usage.size, usage.entries


def _states(folder: str) -> Iterator[os.stat_result]:
    pending = [folder]
    while pending:
        with contextlib.suppress(OSError), os.scandir(pending.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    pending.append(entry.path)
                try:
                    yield entry.stat()
                except OSError:  # a link to nothing
                    yield entry.stat(follow_symlinks=False)
