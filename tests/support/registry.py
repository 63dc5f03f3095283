"""Registries of images on loopback: a real one, and one that misbehaves."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import threading
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import requests
from docker import APIClient

from tests.support.image import import_image
from tests.support.serving import serving

__all__ = ["Behaviour", "misbehaving_registry", "publish", "real_registry"]

Behaviour = Callable[[Callable[[bytes], object], threading.Event], object]
"""Answers the request for an image's only layer: gets a function that sends bytes, and what is set at the end."""

_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
_OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_LAYER_SIZE = 64 << 20


@contextmanager
def real_registry(folder: Path) -> Generator[str]:
    """Debian's docker-registry with its data in *folder*; gives its address."""
    program = shutil.which("docker-registry")
    if program is None:
        pytest.skip("needs docker-registry, which Debian and Ubuntu have as a package")
    configuration = folder / "registry.json"
    configuration.write_text(
        json.dumps(
            {
                "version": 0.1,
                "storage": {"filesystem": {"rootdirectory": str(folder / "images")}},
                "http": {"addr": "127.0.0.1:0"},
            }
        )
    )
    with subprocess.Popen(
        [program, "serve", str(configuration)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        try:
            found = next(filter(None, (re.search(r"listening on ([\d.:]+)", line) for line in process.stderr)))
            threading.Thread(target=process.stderr.read, daemon=True).start()  # a full pipe would stop it
            yield found[1]
        finally:
            process.terminate()


def publish(api: APIClient, name: str, labels: Mapping[str, str]) -> str:
    """Push an image with *labels* as *name*, keep no copy on the engine, and return its digest."""
    import_image(api, name, **labels)
    try:
        return push(api, name)
    finally:
        api.remove_image(name)


def push(api: APIClient, name: str) -> str:
    """Push the image *name* and return its digest."""
    events = list(api.push(name, stream=True, decode=True))
    assert not [event for event in events if "error" in event], events
    address, _, rest = name.partition("/")
    repository, _, tag = rest.rpartition(":")
    url = f"http://{address}/v2/{repository}/manifests/{tag}"
    answer = requests.head(url, headers={"Accept": f"{_MANIFEST}, {_OCI_MANIFEST}"}, timeout=60)
    return answer.headers["Docker-Content-Digest"]


def drip(send: Callable[[bytes], object], over: threading.Event) -> None:
    """Send a byte now and then."""
    while not over.wait(0.05):
        send(b"\0")


def fall_silent(send: Callable[[bytes], object], over: threading.Event) -> None:
    """Send a little, and nothing more."""
    send(b"\0" * 1000)
    over.wait()


@contextmanager
def misbehaving_registry(behave: Behaviour | None) -> Generator[tuple[str, str]]:
    """A registry of one image, whose layer *behave* sends. If that is None, it answers nothing at all.

    Gives the registry's address and the digest of the image.
    """
    config = json.dumps(
        {"os": "linux", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": [_digest(b"")]}}
    )
    described = [
        ("container.image.v1+json", config.encode(), len(config)),
        ("image.rootfs.diff.tar.gzip", b"layer", _LAYER_SIZE),
    ]
    config_part, layer = (
        {"mediaType": f"application/vnd.docker.{kind}", "digest": _digest(data), "size": size}
        for kind, data, size in described
    )
    manifest = json.dumps(
        {"schemaVersion": 2, "mediaType": _MANIFEST, "config": config_part, "layers": [layer]}
    ).encode()
    over = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def parse_request(self) -> bool:
            if behave is None:
                over.wait()
            return super().parse_request()

        def do_GET(self) -> None:
            what = self.path.rpartition("/")[2]
            if "/manifests/" in self.path:
                self._begin(len(manifest), _MANIFEST)
                self.wfile.write(b"" if self.command == "HEAD" else manifest)
            elif what == layer["digest"] and behave is not None:
                self._begin(_LAYER_SIZE)
                behave(self._send, over)
            else:
                body = config.encode() if what == config_part["digest"] else b"{}"
                self._begin(len(body))
                self.wfile.write(body)

        do_HEAD = do_GET  # noqa: N815

        def _begin(self, size: int, type_: str = "application/octet-stream") -> None:
            self.send_response(200)
            self.send_header("Content-Type", type_)
            self.send_header("Content-Length", str(size))
            self.send_header("Docker-Content-Digest", _digest(manifest))
            self.end_headers()

        def _send(self, data: bytes) -> None:
            self.wfile.write(data)
            self.wfile.flush()

        def log_message(self, format: str, *args: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            pass  # the engine has given up

    server = Server(("127.0.0.1", 0), Handler)
    with serving(server):
        try:
            yield f"127.0.0.1:{server.server_port}", _digest(manifest)
        finally:
            over.set()


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"
