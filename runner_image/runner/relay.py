"""A package index on loopback that passes requests on to the real one, with credentials: for builds, since the code of
packages runs beside uv then and must not see them.

Runs as a process and user of its own, as ``python -I -S relay.py``. It reads ``index_url``, ``proxies`` and
``certificates`` from stdin, as JSON, and writes the port to stdout.
"""

from __future__ import annotations

import base64
import html
import http.server
import json
import os
import re
import ssl
import sys
import urllib.error
import urllib.request
from http.client import HTTPResponse
from urllib.parse import unquote, urljoin, urlsplit

_CHUNK = 1 << 16
_PAGE_LIMIT = 64 << 20
_PASSED_ON = ("Accept", "Range", "If-None-Match", "If-Modified-Since", "User-Agent")
_PASSED_BACK = ("Content-Type", "Content-Range", "Accept-Ranges", "ETag", "Last-Modified", "Cache-Control")
_TIMEOUT = 60.0
_LINK = re.compile(r"""(?:\bhref\s*=|"url"\s*:)\s*["']([^"'<>\s]+)""", re.IGNORECASE)
"""In an index's page, of HTML or JSON."""


class Relay(http.server.ThreadingHTTPServer):
    """Serves the index at *index_url*, and what its pages link to at the same origin: the credentials may open more."""

    daemon_threads = True

    def __init__(self, index_url: str, proxies: dict[str, str], certificates: str | None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        parts = urlsplit(index_url)
        credentials, _, host = parts.netloc.rpartition("@")
        self.origin = f"{parts.scheme}://{host}"
        self.folder = parts.path.rstrip("/") + "/"
        self.linked: set[str] = set()  # paths that pages of the index have linked to
        self.authorization = "Basic " + base64.b64encode(unquote(credentials).encode()).decode()
        proxy = {name.lower().removesuffix("_proxy"): url for name, url in proxies.items()}
        os.environ["no_proxy"] = proxy.pop("no", "")
        if "all" in proxy:
            proxy = dict.fromkeys(("http", "https"), proxy.pop("all")) | proxy
        context = ssl.create_default_context(cafile=certificates)
        self.opener = urllib.request.build_opener(
            urllib.request.ProxyHandler(proxy), urllib.request.HTTPSHandler(context=context)
        )

    def serves(self, path: str) -> bool:
        """Whether *path*, with a query or without, belongs to the index."""
        plain = unquote(path.partition("?")[0])
        if ".." in plain.replace("\\", "/").split("/"):  # the server might resolve it
            return False
        return plain.startswith(unquote(self.folder)) or plain.removesuffix(".metadata") in self.linked

    def note_links(self, page: bytes, url: str) -> None:
        """Let what the *page* at *url* links to be asked for, where it is at this origin."""
        for link in _LINK.findall(page.decode(errors="replace")):
            target = urljoin(url, html.unescape(link).replace("\\/", "/"))
            if target.startswith(self.origin + "/"):
                self.linked.add(unquote(urlsplit(target).path))


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Relay  # pyright: ignore[reportIncompatibleVariableOverride]
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if not self.path.startswith("/"):  # or it could name another host, which would get the credentials
            self.send_error(400)
            return
        if not self.server.serves(self.path):
            self.send_error(403)
            return
        request = urllib.request.Request(self.server.origin + self.path, method=self.command)  # noqa: S310
        for name in _PASSED_ON:
            if name in self.headers:
                request.add_header(name, self.headers[name])
        request.add_unredirected_header("Authorization", self.server.authorization)
        try:
            with self.server.opener.open(request, timeout=_TIMEOUT) as response:
                self._answer(response)
        except urllib.error.HTTPError as error:
            with error:
                self.send_response(error.code)
                self.send_header("Content-Length", "0")
                self.end_headers()
        except (OSError, ValueError):
            self.send_error(502)

    def do_HEAD(self) -> None:
        self.do_GET()

    def _answer(self, response: HTTPResponse) -> None:
        is_page = response.headers.get_content_type() in ("text/html", "application/json") or (
            response.headers.get_content_type().startswith("application/vnd.pypi.simple")
        )
        page = b""
        if is_page:  # files may be given by the address that needs the credentials
            page = response.read(_PAGE_LIMIT)
            self.server.note_links(page, response.url)
            page = page.replace(self.server.origin.encode(), self._own_origin)
        self.send_response(response.status)
        for name in _PASSED_BACK:
            if name in response.headers:
                self.send_header(name, response.headers[name])
        length = str(len(page)) if is_page and self.command == "GET" else response.headers.get("Content-Length")
        if length is None:
            self.close_connection = True
            self.send_header("Connection", "close")
        else:
            self.send_header("Content-Length", length)
        self.end_headers()
        self.wfile.write(page)
        while chunk := response.read(_CHUNK):
            self.wfile.write(chunk)

    @property
    def _own_origin(self) -> bytes:
        return f"http://127.0.0.1:{self.server.server_port}".encode()

    def log_message(self, format: str, *args: object) -> None:
        pass


def main() -> None:
    given = json.load(sys.stdin)
    relay = Relay(given["index_url"], given["proxies"], given["certificates"])
    sys.stdout.write(f"{relay.server_port}\n")
    sys.stdout.flush()
    relay.serve_forever()


if __name__ == "__main__":
    main()
