"""PID 1 of the installer container: has the network, fetches packages with uv, and never runs user code.

Only wheels are installed, so nothing of a package is executed here, unless the operator lets sources be built. What a
sandbox has asked for is resolved as a whole and put into a new folder, hard links to uv's cache in the same volume,
that appears under its final name when it is complete.
"""

from __future__ import annotations

import base64
import contextlib
import errno
import hashlib
import importlib.metadata
import json
import os
import queue
import re
import secrets
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, NoReturn

from mcp_agentrun.protocol import VERSION, FrameDecoder, FrameError, Kind, decode_json, encode, encode_json

VOLUME = Path("/packages")
SANDBOXES = VOLUME / "sandboxes"
CACHE = VOLUME / "cache"
STAGING = VOLUME / "staging"
USED = VOLUME / "used"
"""An empty file for each distribution in the cache; its time is that of the last use."""

RESOLVED = VOLUME / "resolved"
WHEELHOUSES = VOLUME / "wheelhouses"
PYTHON = "/opt/venv/bin/python"

HOST_SILENCE = 120.0
YOUNG_SECONDS = 600.0
"""A folder that nobody seems to own is left alone for so long: its owner may just be being replaced."""

_ID = re.compile(r"[0-9a-f]{32}")
_CERTIFICATES = "/tmp/ca-bundle.pem"
_ERROR_KEPT = 2000
_DIGEST = re.compile(r"[0-9a-f]{64}")
_WHEEL_NAME = re.compile(r"[\w.+!-]{1,200}\.(whl|tar\.gz|zip)", re.ASCII)
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,127}")

_NO_SPACE = "(os error 28)"
_FULL = (
    "The volume that holds packages is full. The operator of this server can make room on the engine's disk, or with "
    "`mcp-agentrun cache clear`."
)
_NO_WHEEL = re.compile(r"no usable wheels|no wheels|[Bb]uilding source distributions? .{0,40}is disabled")
_MODULES_KEPT = 100

RESOLUTION_SECONDS = 600.0
"""How long what has been resolved holds without asking the index: as long as uv takes its word, too."""

WATCH_SECONDS = 0.2
HEARTBEAT_SECONDS = 5.0


class InstallError(Exception):
    """uv refused; the text is its own explanation."""


class Installer:
    """See the module. Construct, then `serve`."""

    def __init__(self) -> None:
        self._writing = threading.Lock()
        self._busy = threading.Lock()
        self._heard = time.monotonic()
        self._environment: dict[str, str] = {}
        self._image: dict[str, str] = {}
        self._image_metadata: list[Path] = []
        self._options: dict[str, Any] = {}
        self._kept: set[Path] = set()
        """Folders that are in use here, and are to look so to other servers' installers."""
        self._approvals: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._upload: Path | None = None
        self._process: subprocess.Popen[str] | None = None
        self._cancelled = False
        self._received_before = 0
        """Bytes that had come in when the current installation began."""

    def serve(self) -> NoReturn:
        threading.Thread(target=self._watch, daemon=True).start()
        decoder = FrameDecoder()
        while data := os.read(0, 1 << 16):
            self._heard = time.monotonic()
            decoder.feed(data)
            for kind, payload in decoder:
                self._on_frame(kind, decode_json(payload) if payload else {})
        os._exit(0)

    def _watch(self) -> None:
        while time.monotonic() - self._heard < HOST_SILENCE:
            for folder in list(self._kept):
                _date_forward(folder)
            time.sleep(HEARTBEAT_SECONDS)
        os._exit(0)

    def _keep(self, folder: Path) -> None:
        """Have *folder* look as in use to others: it may have no container, at times, by which they would see that."""
        self._kept.add(folder)
        _date_forward(folder)

    def _send(self, frame: bytes) -> None:
        with self._writing:
            view = memoryview(frame)
            while view:
                view = view[os.write(1, view) :]

    def _on_frame(self, kind: Kind, fields: dict[str, Any]) -> None:
        if kind is Kind.PING:
            self._send(encode(Kind.PONG))
        elif kind is Kind.HELLO:
            self._start(fields)
            self._send(encode_json(Kind.READY, held=[folder.name for folder in self._kept]))
        elif kind is Kind.INSTALL:
            self._cancelled = False
            self._approvals = queue.SimpleQueue()
            threading.Thread(target=self._install, args=(fields,)).start()
        elif kind is Kind.APPROVED:
            self._approvals.put(fields)
        elif kind is Kind.INSTALL_CANCEL:
            self._cancelled = True
            self._approvals.put({"refusal": "The installation was cancelled."})
            process = self._process
            if process is not None:
                process.kill()
        elif kind is Kind.FORGET:
            self._kept.discard(folder := _folder_of(fields["sandbox"]))
            shutil.rmtree(folder, ignore_errors=True)
            self._send(encode_json(Kind.FORGOTTEN))
        elif kind is Kind.CACHE:
            threading.Thread(target=self._show_cache, args=(fields["clear"],)).start()
        elif kind is Kind.WHEELS:
            self._open_wheelhouse(fields["digest"])
        elif kind is Kind.WHEEL:
            self._add_wheel(fields["name"], fields["data"])

    def _start(self, fields: dict[str, Any]) -> None:
        if fields["version"] != VERSION:
            raise FrameError(f"the server speaks version {fields['version']}, this image {VERSION}")
        os.umask(0o022)
        for folder, mode in (
            (SANDBOXES, 0o711),
            *((path, 0o700) for path in (CACHE, STAGING, USED, RESOLVED, WHEELHOUSES)),
        ):
            folder.mkdir(exist_ok=True)
            folder.chmod(mode)
        self._environment = {
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "HOME": "/tmp",
            "UV_CACHE_DIR": str(CACHE),
            "UV_LINK_MODE": "hardlink",
            "UV_NO_CONFIG": "1",
            "UV_NO_PROGRESS": "1",
            "UV_PYTHON_DOWNLOADS": "never",
            "UV_CONCURRENT_INSTALLS": "4",
            **{name: value for name, value in fields["proxies"].items() if isinstance(value, str)},
        }
        if fields["index_url"]:
            self._environment["UV_DEFAULT_INDEX"] = fields["index_url"]
        if fields["extra_index_urls"]:
            self._environment["UV_INDEX"] = " ".join(fields["extra_index_urls"])
        if fields["ca_bundle"]:
            Path(_CERTIFICATES).write_text(fields["ca_bundle"])
            self._environment["SSL_CERT_FILE"] = _CERTIFICATES
        self._options = fields["options"]
        if fields["options"]["offline"]:
            self._environment["UV_OFFLINE"] = "1"
        if fields["options"]["exclude_newer"]:
            self._environment["UV_EXCLUDE_NEWER"] = fields["options"]["exclude_newer"]
        site_packages = subprocess.check_output([PYTHON, "-Ic", "import sys; print(sys.path[-1])"], text=True).strip()
        self._image = _distributions(site_packages)
        self._image_metadata = sorted(Path(site_packages).glob("*.dist-info/METADATA"))
        for folder in map(_folder_of, fields["served"]):
            if folder.is_dir():
                self._keep(folder)
        _clear_out(SANDBOXES, {*fields["living"], *fields["served"]})
        _clear_out(STAGING, set())

    def _install(self, fields: dict[str, Any]) -> None:
        staging = STAGING / secrets.token_hex(8)
        answer: dict[str, Any] = {"folder": "", "packages": [], "satisfied": [], "modules": {}, "error": None}
        with self._busy:
            self._received_before = _received()
            try:
                staging.mkdir()
                self._keep(staging)
                known = self._file_of_known(fields)
                pins = self._known(known)
                is_known = pins is not None
                # Whatever is resolved may be fetched, as a rule: then one call of uv does both in less time than two.
                at_once = fields["is_open"] and not fields["before"] and " @ " not in "".join(fields["requirements"])
                is_fetched = pins is None and at_once
                if is_fetched:
                    pins = self._resolve_and_fetch(staging, fields["requirements"], fields["constraints"])
                elif pins is None:
                    pins = self._resolve(staging, fields["requirements"], fields["constraints"], fields["before"])
                missing = {name: version for name, version in pins.items() if self._image.get(name) != version}
                answer["satisfied"] = sorted(item for item in pins.items() if item[0] not in missing)
                if missing:
                    hashes = self._approval(missing)
                    if not is_fetched:
                        self._fetch(staging, missing, hashes, is_known)
                    self._note_use(staging, missing)
                    for name, version in fields["before"].items():
                        if missing.get(name, version) != version:
                            answer["modules"][name] = _modules_of(name, staging / "site")
                    answer["folder"] = self._publish(staging / "site", fields["sandbox"])
                    answer["packages"] = sorted(missing.items())
                if not is_known:
                    with contextlib.suppress(OSError):  # the volume may be full to the last byte
                        (staging / "known").write_text(json.dumps(pins))
                        (staging / "known").rename(known)
            except InstallError as error:
                answer["error"] = str(error)
            except OSError as error:
                is_full = error.errno == errno.ENOSPC
                answer["error"] = _FULL if is_full else f"The package volume failed: {error.strerror}."
            except Exception as error:  # whoever waits for the answer gets one
                answer["error"] = f"The installer failed ({type(error).__name__}). Call again."
            finally:
                self._kept.discard(staging)
                shutil.rmtree(staging, ignore_errors=True)
            self._send(encode_json(Kind.INSTALL_DONE, **answer))
            self._received_before = _received()
            with contextlib.suppress(OSError, InstallError):
                self._trim()

    def _file_of_known(self, fields: dict[str, Any]) -> Path:
        """Where is kept what the requirements of *fields* came to, if they have been resolved before."""
        given = [fields[name] for name in ("requirements", "constraints", "before")]
        asked = json.dumps([*given, self._image, self._options, self._sources()], sort_keys=True)
        return RESOLVED / hashlib.sha256(asked.encode()).hexdigest()

    @staticmethod
    def _known(file: Path) -> dict[str, str] | None:
        with contextlib.suppress(OSError, ValueError):
            if time.time() - file.stat().st_mtime < RESOLUTION_SECONDS:
                return json.loads(file.read_text())
        return None

    def _write_requirements(self, staging: Path, requirements: list[str], constraints: list[str]) -> tuple[str, ...]:
        """What uv has to be told of them: the image's versions stay."""
        self._progress("resolving " + ", ".join(requirements)[:200])
        (staging / "requirements.in").write_text("\n".join(requirements))
        image = (f"{name}=={version}" for name, version in self._image.items())
        (staging / "image.txt").write_text("\n".join((*image, *constraints)))
        return (*self._wheels_only(), "--python", PYTHON, "--constraint", str(staging / "image.txt"))

    def _resolve_and_fetch(self, staging: Path, requirements: list[str], constraints: list[str]) -> dict[str, str]:
        """Resolve *requirements* on top of what the image has, and install what that lacks; returns name and version
        of it, and of what was asked for and is in the image.
        """
        options = self._write_requirements(staging, requirements, constraints)
        site = staging / "site"
        for path in self._image_metadata:  # by which uv sees that these are installed
            (site / path.parent.name).mkdir(parents=True)
            shutil.copyfile(path, site / path.parent.name / path.name)
        target = ("--target", str(site), "--requirement", str(staging / "requirements.in"))
        self._uv("pip", "install", "--quiet", *options, *target)
        for path in self._image_metadata:
            shutil.rmtree(site / path.parent.name)
        asked = {_normal(re.split(r"[^\w.-]", text)[0]) for text in requirements}
        return {
            **{name: version for name, version in self._image.items() if name in asked},
            **_distributions(str(site)),
        }

    def _resolve(
        self, staging: Path, requirements: list[str], constraints: list[str], before: dict[str, str]
    ) -> dict[str, str]:
        """Name and version of everything that *requirements* need, on top of what the image has. The versions of
        *before* stay as far as that is possible.
        """
        options = self._write_requirements(staging, requirements, constraints)
        # uv prefers what its output file has.
        kept = (f"{name}=={version}\n" for name, version in before.items() if not version.startswith("@"))
        (staging / "pins.txt").write_text("".join(kept))
        output = ("--output-file", str(staging / "pins.txt"), str(staging / "requirements.in"))
        self._uv("pip", "compile", "--quiet", "--no-header", "--no-annotate", *options, *output)
        pins: dict[str, str] = {}
        for line in (staging / "pins.txt").read_text().splitlines():
            name, _, version = line.partition("==")
            if " @ " in line:
                name, _, url = line.partition(" @ ")
                version = "@ " + url
            if version and not line.startswith(("#", "-")):
                pins[name.strip()] = version.partition(" ;")[0]
        return pins

    def _sources(self) -> list[str]:
        return [self._environment.get(name, "") for name in ("UV_DEFAULT_INDEX", "UV_INDEX", "UV_FIND_LINKS")]

    def _wheels_only(self) -> tuple[str, ...]:
        return () if self._options["build"] else ("--only-binary", ":all:")

    def _approval(self, pins: dict[str, str]) -> dict[str, list[str]]:
        """Ask the server whether *pins* may be fetched; returns the hashes that their files must have.

        :raises InstallError: they may not.
        """
        self._send(encode_json(Kind.RESOLVED, pins=pins))
        answer = self._approvals.get()
        if answer["refusal"] is not None:
            raise InstallError(answer["refusal"])
        return answer["hashes"]

    def _fetch(self, staging: Path, pins: dict[str, str], hashes: dict[str, list[str]], is_known: bool) -> None:
        self._progress("downloading and installing " + ", ".join(f"{name} {pins[name]}" for name in sorted(pins))[:300])
        lines: list[str] = []
        for name, version in pins.items():
            pin = f"{name} {version}" if version.startswith("@") else f"{name}=={version}"
            lines.append(" ".join((pin, *(f"--hash={each}" for each in hashes.get(pin, ())))))
        (staging / "missing.txt").write_text("\n".join(lines))
        command = (
            *("pip", "install", "--no-deps", *self._wheels_only(), "--python", PYTHON),
            *("--target", str(staging / "site"), "--requirement", str(staging / "missing.txt")),
        )
        try:
            # What was resolved a moment ago is in the cache, as a rule, and then the index need not be asked.
            self._uv(*command, *(("--offline",) if is_known else ()))
        except InstallError:
            if not is_known or self._cancelled:
                raise
            shutil.rmtree(staging / "site", ignore_errors=True)
            self._uv(*command)

    def _note_use(self, staging: Path, pins: dict[str, str]) -> None:
        """:raises InstallError: they take more than they may."""
        size = _size(staging / "site")
        if size > self._options["size"]:
            raise InstallError(
                f"The packages take {_mib(size)} on disk; this server allows {_mib(self._options['size'])}."
            )
        for name in pins:
            if _NAME.fullmatch(name):
                (USED / name).touch()

    # -- the cache

    def _show_cache(self, clear: bool) -> None:
        with self._busy:
            if clear:
                self._received_before = _received()
                with contextlib.suppress(InstallError):
                    self._uv("cache", "clean", "--quiet")
                CACHE.mkdir(exist_ok=True)
                for folder in (USED, RESOLVED):
                    for path in folder.iterdir():
                        path.unlink(missing_ok=True)
                _clear_out(WHEELHOUSES, set())
            packages = sorted((path.name, path.stat().st_mtime) for path in USED.iterdir())
            self._send(encode_json(Kind.CACHED, size=_size(CACHE) + _size(WHEELHOUSES), packages=packages))

    def _trim(self) -> None:
        """Remove what has been out of use for longest, until the cache is no larger than it may be."""
        for path in RESOLVED.iterdir():
            if time.time() - path.stat().st_mtime > RESOLUTION_SECONDS:
                path.unlink(missing_ok=True)
        size = _size(CACHE)
        for path in sorted(USED.iterdir(), key=lambda path: path.stat().st_mtime):
            if size <= self._options["cache_size"] or self._cancelled:
                return
            self._uv("cache", "clean", "--quiet", path.name)
            path.unlink(missing_ok=True)
            size = _size(CACHE)
        if size > self._options["cache_size"]:
            self._uv("cache", "clean", "--quiet")

    # -- the wheelhouse

    def _open_wheelhouse(self, digest: str) -> None:
        if not _DIGEST.fullmatch(digest):
            raise FrameError("malformed digest")
        folder = WHEELHOUSES / digest
        self._environment["UV_FIND_LINKS"] = str(folder)
        if not folder.exists():
            self._upload = STAGING / secrets.token_hex(8)
            self._upload.mkdir()
            self._keep(self._upload)
        self._keep(folder)
        self._send(encode_json(Kind.WHEELS, wanted=self._upload is not None))

    def _add_wheel(self, name: str, data: str) -> None:
        upload = self._upload
        if upload is None:
            raise FrameError("a wheel without a wheelhouse")
        if name:
            if not _WHEEL_NAME.fullmatch(name):
                raise FrameError("malformed wheel name")
            with (upload / name).open("ab") as file:
                file.write(base64.b64decode(data))
            return
        self._upload = None
        self._kept.discard(upload)
        try:
            upload.rename(self._environment["UV_FIND_LINKS"])
        except OSError:  # another installer has been quicker
            shutil.rmtree(upload, ignore_errors=True)
        self._send(encode_json(Kind.WHEELS, wanted=False))

    def _publish(self, site: Path, sandbox: str) -> str:
        folder = _folder_of(sandbox)
        folder.mkdir(exist_ok=True)
        folder.chmod(0o711)
        self._keep(folder)
        generation = 1 + max((int(path.name) for path in folder.iterdir()), default=0)
        site.chmod(0o755)
        site.rename(folder / str(generation))
        return str((folder / str(generation)).relative_to(VOLUME))

    def _uv(self, *arguments: str) -> None:
        self._process = process = subprocess.Popen(
            ["/usr/local/bin/uv", *arguments],
            env=self._environment,
            cwd="/tmp",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
        )
        if self._cancelled:
            process.kill()
        ended = threading.Event()
        watcher = threading.Thread(target=self._watch_download, args=(process, ended))
        watcher.start()
        assert process.stderr is not None
        said = process.stderr.read()
        status = process.wait()
        self._process = None
        ended.set()
        watcher.join()
        if self._cancelled:
            raise InstallError("The installation was cancelled.")
        if _received() - self._received_before > self._options["download"]:
            raise InstallError(f"The download exceeds {_mib(self._options['download'])}, which this server allows.")
        if status == -signal.SIGXFSZ:
            raise InstallError(f"It has a file of more than {_mib(self._options['size'])}, which this server allows.")
        if status == -signal.SIGKILL:
            raise InstallError("The installer ran out of memory.")
        if status != 0:
            raise InstallError(self._explained(_explanation(said)))

    def _explained(self, text: str) -> str:
        """uv's explanation, and what it can't know: what is behind it here, and who can do something about it."""
        if _NO_SPACE in text:
            return _FULL
        for name, version in self._image.items():
            if re.search(rf"(?<![\w.-]){re.escape(name)}=={re.escape(version)}(?![\w.])", text):
                text += f" {name} {version} is part of the sandbox's image and can't be replaced."
        limit = self._options["exclude_newer"]
        if limit and "no version" in text:
            age = f"newer than {limit}" if limit[:4].isdigit() else f"younger than {limit}"
            text += f" This server ignores releases {age}."
        if not self._options["build"] and _NO_WHEEL.search(text):
            text += (
                " Only wheels are installed here. The operator of this server can let packages be built from their "
                "source (packages_build), or put a wheel of it into a wheelhouse; otherwise use another package."
            )
        return text

    def _watch_download(self, process: subprocess.Popen[str], ended: threading.Event) -> None:
        """Tell how much has been downloaded, and stop what exceeds the limit."""
        told = _received()
        while not ended.wait(WATCH_SECONDS):
            now = _received()
            if now - self._received_before > self._options["download"]:
                process.kill()
                return
            if now - told > 1 << 20:
                told = now
                self._progress(f"downloading and installing: {_mib(now - self._received_before)} received")

    def _progress(self, text: str) -> None:
        self._send(encode_json(Kind.INSTALL_PROGRESS, text=text))


def _explanation(said: str) -> str:
    """uv's own words, without frames, hints about its options, or our paths."""
    text = re.sub(r"/packages/staging/[0-9a-f]{16}/?|/packages/(cache|wheelhouses)/\S*", "", said)
    text = re.sub("(?m)^\\s*[\u00d7\u2500-\u257f\u25b6]+ ?", "", text)
    text = re.split(r"(?m)^\s*hint:", text)[0]
    lines = [line.strip() for line in text.splitlines()]
    kept = [
        line
        for line in lines
        if line and not line.startswith(("Using Python", "Using CPython", "Resolved", "Prepared", "warning:"))
    ]
    said = re.sub(r"^(.{,80}?):? cause: ", r"\1: ", " ".join(kept).removeprefix("error: "))
    return said[:_ERROR_KEPT] or "uv ended without saying why."


def _modules_of(name: str, site: Path) -> list[str]:
    """The top-level modules of the distribution *name*, as its own list of files has them."""
    found = next(iter(importlib.metadata.distributions(name=name, path=[str(site)])), None)
    files = (found.files if found is not None else None) or ()
    modules = {file.parts[0].partition(".")[0] for file in files if file.parts}
    return sorted(module for module in modules if module.isidentifier())[:_MODULES_KEPT]


def _received() -> int:
    """Bytes that have come in over the network, of this container's own."""
    with open("/proc/net/dev") as file:
        rows = [line.partition(":") for line in file]
    return sum(int(row.split()[0]) for name, colon, row in rows if colon and name.strip() != "lo")


def _size(folder: Path) -> int:
    """Bytes that the files below *folder* take, each counted once."""
    sizes: dict[int, int] = {}
    for place, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                state = os.lstat(os.path.join(place, name))
                sizes[state.st_ino] = state.st_blocks * 512
    return sum(sizes.values())


def _mib(size: int) -> str:
    return f"{size / (1 << 20):.4g} MiB"


def _folder_of(sandbox: str) -> Path:
    if not _ID.fullmatch(sandbox):
        raise FrameError("malformed sandbox id")
    return SANDBOXES / sandbox


def _distributions(site_packages: str) -> dict[str, str]:
    """Normalised name and version of what is installed there."""
    found = importlib.metadata.distributions(path=[site_packages])
    return {_normal(item.metadata["Name"]): item.version for item in found}


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _date_forward(folder: Path) -> None:
    with contextlib.suppress(OSError):
        os.utime(folder)


def _clear_out(folder: Path, living: set[str]) -> None:
    """Remove what servers have left that don't live any more."""
    for path in folder.iterdir():
        with contextlib.suppress(OSError):
            if path.name not in living and time.time() - path.stat().st_mtime > YOUNG_SECONDS:
                shutil.rmtree(path)


def main() -> NoReturn:
    try:
        Installer().serve()
    except FrameError as error:
        sys.stderr.write(f"installer: {error}\n")
    os._exit(1)
