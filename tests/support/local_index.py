"""A package index of the test's own, on an address that containers reach, and tiny wheels made on the spot."""

from __future__ import annotations

import base64
import contextlib
import functools
import hashlib
import io
import ipaddress
import json
import os
import select
import socket
import ssl
import stat
import subprocess
import tarfile
import zipfile
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from docker import APIClient

from tests.support.engines import ENGINE
from tests.support.serving import serving

PASSWORD = "s3cret-of-the-index"


def make_wheel(
    folder: Path,
    name: str,
    version: str = "1.0",
    *,
    needs: tuple[str, ...] = (),
    files: Mapping[str, str | bytes] | None = None,
    links: Mapping[str, str] | None = None,
) -> Path:
    """A wheel with a module of the same name that has ``VERSION``, and with *files* and symbolic *links* added as they
    are named.
    """
    stem = f"{name.replace('-', '_')}-{version}"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{stem}-py3-none-any.whl"
    info = f"{stem}.dist-info"
    requires = "".join(f"Requires-Dist: {need}\n" for need in needs)
    members: dict[str, str | bytes] = {
        f"{name.replace('-', '_')}.py": f"VERSION = {version!r}\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{requires}",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        **(files or {}),
    }
    record = "".join(f"{member},,\n" for member in members) + f"{info}/RECORD,,\n"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, content in {**members, f"{info}/RECORD": record}.items():
            archive.writestr(member, content)
        for member, target in (links or {}).items():
            link = zipfile.ZipInfo(member)
            link.external_attr = (stat.S_IFLNK | 0o777) << 16
            archive.writestr(link, target)
    return path


def gateway_of(api: APIClient) -> str:
    """The address at which containers reach this machine."""
    if ENGINE == "kubernetes":
        return os.environ["MCP_AGENTRUN_TEST_HOST"]
    network = api.inspect_network("bridge")["IPAM"]["Config"][0]
    return network.get("Gateway") or str(next(ipaddress.ip_network(network["Subnet"]).hosts()))


def make_certificate(folder: Path, address: str) -> Path:
    """Make ``cert.pem``, a certificate of *address* that nobody has signed; return the file that also has its key."""
    command = [
        *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=i"),
        *("-keyout", "key.pem", "-out", "cert.pem", "-addext", f"subjectAltName=IP:{address}"),
        *("-addext", "basicConstraints=critical,CA:FALSE"),
    ]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    both = folder / "both.pem"
    both.write_bytes((folder / "key.pem").read_bytes() + (folder / "cert.pem").read_bytes())
    return both


@contextmanager
def serve_proxy(api: APIClient, *, credentials: str) -> Generator[tuple[str, list[str]]]:
    """A proxy that asks for *credentials*; gives its URL, and the targets that it has been asked for."""
    asked: list[str] = []
    expected = "Basic " + base64.b64encode(credentials.encode()).decode()

    class Handler(BaseHTTPRequestHandler):
        def do_CONNECT(self) -> None:
            if self.headers.get("Proxy-Authorization") != expected:
                self.send_error(407)
                return
            asked.append(self.path)
            host, _, port = self.path.rpartition(":")
            with socket.create_connection((host, int(port))) as target:
                self.send_response(200)
                self.end_headers()
                ends = {self.connection: target, target: self.connection}
                while ends:
                    for ready in select.select(list(ends), [], [])[0]:
                        data = ready.recv(1 << 16)
                        if not data:
                            ends.clear()
                            break
                        ends[ready].sendall(data)
            self.close_connection = True

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer((gateway_of(api), 0), Handler)
    server.daemon_threads = True
    with serving(server):
        yield f"http://{credentials}@{gateway_of(api)}:{server.server_port}", asked


def make_source(folder: Path, name: str, version: str = "1.0", *, setup: str = "found = []") -> Path:
    """A source distribution that needs nothing to be built; its module has ``BUILT_BY``, the user who has built it, and
    ``FOUND``, the list ``found`` that the code *setup* has made then.
    """
    stem = f"{name.replace('-', '_')}-{version}"
    info = f"{stem}.dist-info"
    folder.mkdir(parents=True, exist_ok=True)
    about = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    built = {
        f"{info}/METADATA": about,
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": f"{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n{name.replace('-', '_')}.py,,\n",
    }
    backend = f"""
import os, zipfile
{setup}
def build_wheel(folder, config_settings=None, metadata_directory=None):
    members = {built!r}
    members[{name.replace("-", "_") + ".py"!r}] = f"BUILT_BY = {{os.getuid()}}\\nFOUND = {{found!r}}\\n"
    with zipfile.ZipFile(os.path.join(folder, {stem + "-py3-none-any.whl"!r}), "w") as archive:
        for member, content in members.items():
            archive.writestr(member, content)
    return {stem + "-py3-none-any.whl"!r}
"""
    members = {
        "backend.py": backend,
        "pyproject.toml": '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n',
        "PKG-INFO": about,
    }
    path = folder / f"{stem}.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for member, content in members.items():
            entry = tarfile.TarInfo(f"{stem}/{member}")
            entry.size = len(content.encode())
            archive.addfile(entry, io.BytesIO(content.encode()))
    return path


def digest_of(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _listing(folder: Path) -> bytes:
    """What an index of today says of a distribution's files; the time of upload is that of the last change."""
    files = [
        {
            "filename": file.name,
            "url": file.name,
            "hashes": {"sha256": digest_of(file)},
            "size": file.stat().st_size,
            "upload-time": datetime.fromtimestamp(file.stat().st_mtime, timezone.utc).isoformat(),
            "core-metadata": file.suffix == ".whl",
        }
        for file in sorted(folder.iterdir())
    ]
    return json.dumps({"meta": {"api-version": "1.1"}, "name": folder.name, "files": files}).encode()


def _metadata(wheel: Path) -> bytes:
    with zipfile.ZipFile(wheel) as archive:
        return archive.read(next(member for member in archive.namelist() if member.endswith(".dist-info/METADATA")))


@contextmanager
def serve_index(
    root: Path,
    api: APIClient,
    *,
    credentials: str | None = None,
    certificate: Path | None = None,
    is_modern: bool = False,
    on_half: Callable[[str], object] = lambda _: None,
) -> Generator[str]:
    """Serve ``root/simple``, each of whose folders has the files of one distribution; gives the index's URL.

    :param credentials: ``user:password`` without which nothing is served.
    :param certificate: a file with key and certificate, with which it is served by https.
    :param is_modern: say when files were uploaded, and serve their metadata by themselves.
    :param on_half: called with the name of each file when half of it has been sent; the other half follows.
    """
    gateway = gateway_of(api)
    expected = "Basic " + base64.b64encode((credentials or "").encode()).decode()

    class Handler(SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            if credentials is not None and self.headers.get("Authorization") != expected:
                self.send_response(401)
                self.send_header("WWW-Authenticate", "Basic")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            place = Path(self.translate_path(self.path))
            if is_modern and place.is_dir() and place.parent.name == "simple":
                self._answer(_listing(place), "application/vnd.pypi.simple.v1+json")
            elif is_modern and self.path.endswith(".whl.metadata"):
                self._answer(_metadata(place.with_suffix("")), "application/octet-stream")
            else:
                super().do_GET()

        def _answer(self, body: bytes, type_: str) -> None:
            self.send_response(200)
            self.send_header("Content-Type", type_)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def copyfile(self, source: Any, outputfile: Any) -> None:
            content = source.read()
            with contextlib.suppress(OSError):  # whoever asked has gone
                outputfile.write(content[: len(content) // 2])
                outputfile.flush()
                on_half(self.path.rpartition("/")[2])
                outputfile.write(content[len(content) // 2 :])

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer((gateway, 0), functools.partial(Handler, directory=str(root)))
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    with serving(server):
        user = f"{credentials}@" if credentials else ""
        yield f"http{'s' if certificate else ''}://{user}{gateway}:{server.server_port}/simple/"
