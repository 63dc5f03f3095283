"""PID 1 of the installer container: has packages fetched by uv, and never runs user code.

uv runs under accounts of its own (see `runner.accounts`) and installs only wheels, so that nothing of a package is
executed, unless the operator allows builds. A request is resolved as a whole, approved by the server, fetched, and
published in a new folder (see `runner.publish`). Nothing that comes from a package is parsed here: names and versions
are those that the resolver has written.
"""

from __future__ import annotations

import base64
import contextlib
import errno
import os
import secrets
import shutil
import sys
import threading
import time
from pathlib import Path
from typing import NoReturn

from mcp_agentrun.packages.pins import FILE_NAME, PinError
from mcp_agentrun.wire import messages
from mcp_agentrun.wire.codec import ProtocolError
from runner import accounts
from runner.accounts import LOCKS, OWNER, READERS, USED, VOLUME, Account, measure
from runner.install_context import SANDBOXES, STAGING, InstallContext, touch
from runner.installation import FULL, UV, Installation
from runner.linux.memory import Memory
from runner.linux.privileges import become, set_dumpable
from runner.publish import PublishError
from runner.resolution import InstallError

WHEELHOUSES = VOLUME / "wheelhouses"
HOST_SILENCE = 120.0  # seconds of silence after which the server is considered dead
HEARTBEAT_SECONDS = 5.0
YOUNG_SECONDS = 600.0  # age up to which folders without an owner are kept: it may just be being replaced
_BUSY_SECONDS = 20.0


class Installer:
    """Answers the server's requests, some of them in threads of their own. Construct, then `serve`."""

    def __init__(self) -> None:
        self._writing = threading.Lock()
        self._trimming = threading.Lock()
        self._last_received_at = time.monotonic()
        self._installations: dict[int, Installation] = {}
        self._upload: Path | None = None
        self._folders: set[Path] = set()
        self._context: InstallContext

    def serve(self) -> NoReturn:
        threading.Thread(target=self._watch, daemon=True).start()
        decoder = messages.MessageDecoder()
        while data := os.read(0, 1 << 16):
            self._last_received_at = time.monotonic()
            decoder.feed(data)
            for message in decoder:
                self._on_message(message)
        os._exit(0)

    def _watch(self) -> None:
        while time.monotonic() - self._last_received_at < HOST_SILENCE:
            for folder in list(self._folders):
                touch(folder)
            time.sleep(HEARTBEAT_SECONDS)
        os._exit(0)

    def send(self, message: messages.Message) -> None:
        frame = messages.encode(message)
        with self._writing:
            view = memoryview(frame)
            while view:
                view = view[os.write(1, view) :]

    def _on_message(self, message: messages.Message) -> None:
        match message:
            case messages.Ping():
                self.send(messages.Pong())
            case messages.InstallerHello():
                self._start(message)
            case messages.Install():
                installation = Installation(self._context, self.send, message)
                self._installations[installation.request] = installation
                threading.Thread(target=self._install, args=(installation,)).start()
            case messages.Approved() | messages.InstallCancel():
                installation = self._installations.get(message.request)  # None: it has just been answered
                if installation is not None:
                    installation.approve(message) if type(message) is messages.Approved else installation.cancel()
            case messages.RemovePackages():
                threading.Thread(target=self._forget, args=(message.request, SANDBOXES / message.sandbox)).start()
            case messages.DescribeCache():
                threading.Thread(target=self._describe_cache, args=(message.request, message.clear)).start()
            case messages.OpenWheelhouse():
                self._open_wheelhouse(message.request, message.digest)
            case messages.Wheel():
                self._add_wheel(message)
            case _:
                raise ProtocolError(f"unexpected {type(message).__name__} message")

    def _start(self, hello: messages.InstallerHello) -> None:
        os.umask(0o022)
        _create_folders()
        self._context = InstallContext(hello, self._folders)
        _remove_old(SANDBOXES, {*hello.living, *hello.served})
        _remove_old(STAGING, set())
        held = tuple(folder.name for folder in self._folders)
        self.send(messages.InstallerReady(held=held, memory=Memory().limit()))

    # -- installations

    def _install(self, installation: Installation) -> None:
        try:
            done = installation.carry_out()
        except Exception as error:  # the server waits for an answer in any case
            done = messages.InstallDone(
                request=installation.request, sandbox=installation.sandbox, error=_explained(error)
            )
        del self._installations[installation.request]
        self.send(done)
        self._trim()

    def _forget(self, request: int, folder: Path) -> None:
        self._folders.discard(folder)
        shutil.rmtree(folder, ignore_errors=True)
        self.send(messages.PackagesRemoved(request=request, sandbox=folder.name))

    # -- the cache

    def _describe_cache(self, request: int, clear: bool) -> None:
        busy = 0
        if clear:
            self._context.forget_resolutions()
            for account in accounts.ALL:
                is_cleared = False
                with contextlib.suppress(OSError):  # the server waits for an answer in any case
                    is_cleared = self._clean(account, seconds=_BUSY_SECONDS)
                busy += not is_cleared
            _remove_old(WHEELHOUSES, set())
        else:
            with contextlib.suppress(Exception):  # the server waits for an answer in any case
                self._trim()
        used: dict[str, float] = {}
        for last, path, _ in _used():
            used[path.name] = last
        size, _ = measure(*(account.cache for account in accounts.ALL), WHEELHOUSES)
        packages = tuple(sorted(used.items()))
        self.send(messages.CacheContents(request=request, size=size, packages=packages, busy=busy))

    def _trim(self) -> None:
        """Remove what has been unused for longest, until the cache is within its limit. What another installation is
        using is left for the next time, and so is everything if the volume fails.
        """
        with self._trimming, contextlib.suppress(OSError):
            size, _ = measure(*(account.cache for account in accounts.ALL))
            for _, path, account in _used():
                if size <= self._context.limits.cache_size:
                    return
                before, _ = measure(account.cache)
                if self._clean(account, path):
                    size += measure(account.cache)[0] - before
            if size > self._context.limits.cache_size:
                for account in accounts.ALL:
                    self._clean(account)

    def _clean(self, account: Account, used: Path | None = None, *, seconds: float = 0.0) -> bool:
        """Remove a distribution, or everything, from the cache of *account*; false if it stays in use for *seconds*."""
        deadline = time.monotonic() + seconds
        with accounts.acquired((account,), lambda: time.monotonic() > deadline) as free:
            if free is None:
                return False
            if used is None:
                accounts.remove(account, account.cache)
                shutil.rmtree(account.used, ignore_errors=True)
            else:
                environment = {"UV_CACHE_DIR": str(account.cache), "HOME": "/nonexistent"}
                accounts.run(account, (UV, "cache", "clean", "--quiet", used.name), environment)
                used.unlink(missing_ok=True)
            return True

    # -- the wheelhouse

    def _open_wheelhouse(self, request: int, digest: str) -> None:
        folder = WHEELHOUSES / digest
        self._context.find_links = str(folder)
        if not folder.exists():
            self._upload = STAGING / secrets.token_hex(8)
            self._upload.mkdir()
            self._context.keep(self._upload)
        self._context.keep(folder)
        self.send(messages.Wheelhouse(request=request, wanted=self._upload is not None))

    def _add_wheel(self, part: messages.Wheel) -> None:
        upload = self._upload
        if upload is None:
            raise ProtocolError("a wheel without a wheelhouse")
        if part.name:
            if not FILE_NAME.fullmatch(part.name):
                raise ProtocolError("malformed wheel name")
            with (upload / part.name).open("ab") as file:
                file.write(base64.b64decode(part.data))
            return
        self._upload = None
        self._folders.discard(upload)
        try:
            upload.rename(self._context.find_links)
        except OSError:  # another installer was faster
            shutil.rmtree(upload, ignore_errors=True)
        self.send(messages.Wheelhouse(request=part.request, wanted=False))


def _explained(error: Exception) -> str:
    """The message for the user about *error*, which has ended an installation."""
    match error:
        case InstallError():
            return str(error)
        case PublishError():
            return f"A package can't be installed, because {error}."
        case PinError():
            return f"What the resolver found is {error}."
        case OSError(errno=errno.ENOSPC):
            return FULL
        case OSError():
            return f"The package volume failed: {error.strerror}."
        case _:
            return f"The installer failed ({type(error).__name__}). Call again."


def _create_folders() -> None:
    """Create the folders of the volume that are missing, and close those that everybody could write to."""
    for place in ("/tmp", "/dev/shm", "/packages"):
        os.chown(place, OWNER, OWNER)  # some engines ignore the owner of a mount, or let it be root's
        os.chmod(place, 0o711)  # noqa: S103 - or its mode
    for folder, mode in (
        (SANDBOXES, 0o711),
        (accounts.CACHES, 0o710),  # or a session could talk to a build through a socket or FIFO there
        (WHEELHOUSES, 0o710),
        *((path, 0o700) for path in (STAGING, USED, LOCKS)),
    ):
        folder.mkdir(exist_ok=True)
        os.chown(folder, OWNER, READERS if mode == 0o710 else OWNER)
        folder.chmod(mode)


def _used() -> list[tuple[float, Path, Account]]:
    """Time of the last use, file and account of each distribution, the longest unused ones first."""
    found: list[tuple[float, Path, Account]] = []
    for account in accounts.ALL:
        for path in account.used.glob("*"):
            with contextlib.suppress(OSError):  # another server may be trimming the cache
                found.append((path.stat().st_mtime, path, account))
    return sorted(found, key=lambda each: each[0])


def _remove_old(folder: Path, living: set[str]) -> None:
    """Remove what servers that have ended have left in *folder*."""
    for path in folder.iterdir():
        with contextlib.suppress(OSError):
            if path.name not in living and time.time() - path.stat().st_mtime > YOUNG_SECONDS:
                shutil.rmtree(path)


def main() -> NoReturn:
    try:
        become(OWNER, OWNER, accounts.CAPABILITIES)
        set_dumpable(False)
        Installer().serve()
    except (ProtocolError, OSError) as error:
        sys.stderr.write(f"installer: {error}\n")
    os._exit(1)
