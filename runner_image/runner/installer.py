"""PID 1 of the installer container: has the network, fetches packages with uv, and never runs user code.

Only wheels are installed, so nothing of a package is executed here. What a sandbox has asked for is resolved as a
whole and put into a new folder, hard links to uv's cache in the same volume, that appears under its final name when
it is complete.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import re
import secrets
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NoReturn

from mcp_agentrun.protocol import VERSION, FrameDecoder, FrameError, Kind, decode_json, encode, encode_json

VOLUME = Path("/packages")
SANDBOXES = VOLUME / "sandboxes"
CACHE = VOLUME / "cache"
STAGING = VOLUME / "staging"
PYTHON = "/opt/venv/bin/python"

HOST_SILENCE = 120.0
YOUNG_SECONDS = 600.0
"""A folder that nobody seems to own is left alone for so long: its sandbox may just be being replaced."""

_ID = re.compile(r"[0-9a-f]{32}")
_CERTIFICATES = "/tmp/ca-bundle.pem"
_ERROR_KEPT = 4000


class InstallError(Exception):
    """uv refused; the text is its own explanation."""


class Installer:
    """See the module. Construct, then `serve`."""

    def __init__(self) -> None:
        self._writing = threading.Lock()
        self._heard = time.monotonic()
        self._environment: dict[str, str] = {}
        self._image: dict[str, str] = {}
        self._process: subprocess.Popen[str] | None = None
        self._cancelled = False

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
            time.sleep(5)
        os._exit(0)

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
            self._send(encode_json(Kind.READY))
        elif kind is Kind.INSTALL:
            self._cancelled = False
            threading.Thread(target=self._install, args=(fields["sandbox"], fields["requirements"])).start()
        elif kind is Kind.INSTALL_CANCEL:
            self._cancelled = True
            process = self._process
            if process is not None:
                process.kill()
        elif kind is Kind.FORGET:
            shutil.rmtree(_folder_of(fields["sandbox"]), ignore_errors=True)
            self._send(encode_json(Kind.FORGOTTEN))

    def _start(self, fields: dict[str, Any]) -> None:
        if fields["version"] != VERSION:
            raise FrameError(f"the server speaks version {fields['version']}, this image {VERSION}")
        os.umask(0o022)
        for folder, mode in ((SANDBOXES, 0o711), (CACHE, 0o700), (STAGING, 0o700)):
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
        self._image = _distributions(
            subprocess.check_output([PYTHON, "-Ic", "import sys; print(sys.path[-1])"], text=True)
        )
        _clear_out(SANDBOXES, {*fields["living"]})
        _clear_out(STAGING, set())

    def _install(self, sandbox: str, requirements: list[str]) -> None:
        staging = STAGING / secrets.token_hex(8)
        answer: dict[str, Any] = {"folder": "", "packages": [], "satisfied": [], "error": None}
        try:
            staging.mkdir()
            pins = self._resolve(staging, requirements)
            missing = {name: version for name, version in pins.items() if self._image.get(name) != version}
            answer["satisfied"] = sorted(item for item in pins.items() if item[0] not in missing)
            if missing:
                self._fetch(staging, missing)
                answer["folder"] = self._publish(staging / "site", sandbox)
                answer["packages"] = sorted(missing.items())
        except InstallError as error:
            answer["error"] = str(error)
        except OSError as error:
            answer["error"] = f"The package volume could not be written: {error.strerror}."
        finally:
            shutil.rmtree(staging, ignore_errors=True)
        self._send(encode_json(Kind.INSTALL_DONE, **answer))

    def _resolve(self, staging: Path, requirements: Iterable[str]) -> dict[str, str]:
        """Name and version of everything that *requirements* need, on top of what the image has."""
        self._progress("resolving")
        (staging / "requirements.in").write_text("\n".join(requirements))
        (staging / "image.txt").write_text("\n".join(f"{name}=={version}" for name, version in self._image.items()))
        self._uv(
            *("pip", "compile", "--quiet", "--no-header", "--no-annotate", "--only-binary", ":all:"),
            *("--python", PYTHON, "--constraint", str(staging / "image.txt")),
            *("--output-file", str(staging / "pins.txt"), str(staging / "requirements.in")),
        )
        lines = (staging / "pins.txt").read_text().splitlines()
        return dict(line.split("==", 1) for line in lines if "==" in line and not line.startswith("#"))

    def _fetch(self, staging: Path, pins: dict[str, str]) -> None:
        self._progress("downloading and installing " + ", ".join(f"{name} {pins[name]}" for name in sorted(pins)))
        (staging / "missing.txt").write_text("\n".join(f"{name}=={version}" for name, version in pins.items()))
        self._uv(
            *("pip", "install", "--no-deps", "--only-binary", ":all:", "--python", PYTHON),
            *("--target", str(staging / "site"), "--requirement", str(staging / "missing.txt")),
        )

    def _publish(self, site: Path, sandbox: str) -> str:
        folder = _folder_of(sandbox)
        folder.mkdir(exist_ok=True)
        folder.chmod(0o711)
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
        said: list[str] = []
        assert process.stderr is not None
        for line in process.stderr:
            said.append(line)
            if line.startswith("Downloading"):
                self._progress(line.strip())
        status = process.wait()
        self._process = None
        if self._cancelled:
            raise InstallError("The installation was cancelled.")
        if status != 0:
            raise InstallError(_explanation(said))

    def _progress(self, text: str) -> None:
        self._send(encode_json(Kind.INSTALL_PROGRESS, text=text))


def _explanation(said: list[str]) -> str:
    """uv's own words, without our paths in them."""
    text = "".join(said).strip().replace(str(STAGING), "")
    text = re.sub(r"/[0-9a-f]{16}/(\S+)", r"\1", text)
    return text[-_ERROR_KEPT:] or "uv ended without saying why."


def _folder_of(sandbox: str) -> Path:
    if not _ID.fullmatch(sandbox):
        raise FrameError("malformed sandbox id")
    return SANDBOXES / sandbox


def _distributions(site_packages: str) -> dict[str, str]:
    """Normalised name and version of what the image carries."""
    found = importlib.metadata.distributions(path=[site_packages.strip()])
    return {re.sub(r"[-_.]+", "-", item.metadata["Name"]).lower(): item.version for item in found}


def _clear_out(folder: Path, living: set[str]) -> None:
    """Remove what servers that were killed have left."""
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
