"""A package index of the test's own, on an address that containers reach, and tiny wheels made on the spot."""

from __future__ import annotations

import base64
import functools
import ipaddress
import select
import socket
import ssl
import threading
import zipfile
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from docker import APIClient


def make_wheel(
    folder: Path,
    name: str,
    version: str = "1.0",
    *,
    needs: tuple[str, ...] = (),
    files: Mapping[str, str] | None = None,
) -> Path:
    """A wheel with a module of the same name that has ``VERSION``, and with *files* added as they are named."""
    stem = f"{name.replace('-', '_')}-{version}"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{stem}-py3-none-any.whl"
    info = f"{stem}.dist-info"
    requires = "".join(f"Requires-Dist: {need}\n" for need in needs)
    members = {
        f"{name.replace('-', '_')}.py": f"VERSION = {version!r}\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{requires}",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        **(files or {}),
    }
    record = "".join(f"{member},,\n" for member in members) + f"{info}/RECORD,,\n"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, content in {**members, f"{info}/RECORD": record}.items():
            archive.writestr(member, content)
    return path


def gateway_of(api: APIClient) -> str:
    """The address at which containers reach this machine."""
    network = api.inspect_network("bridge")["IPAM"]["Config"][0]
    return network.get("Gateway") or str(next(ipaddress.ip_network(network["Subnet"]).hosts()))


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
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://{credentials}@{gateway_of(api)}:{server.server_port}", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def serve_index(
    root: Path, api: APIClient, *, credentials: str | None = None, certificate: Path | None = None
) -> Generator[str]:
    """Serve ``root/simple``, each of whose folders has the files of one distribution; gives the index's URL.

    :param credentials: ``user:password`` without which nothing is served.
    :param certificate: a file with key and certificate, with which it is served by https.
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
            super().do_GET()

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer((gateway, 0), functools.partial(Handler, directory=str(root)))
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        user = f"{credentials}@" if credentials else ""
        yield f"http{'s' if certificate else ''}://{user}{gateway}:{server.server_port}/simple/"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
