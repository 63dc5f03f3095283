"""The relay through which builds reach an index that needs credentials: to the index, and to nothing else with them."""

from __future__ import annotations

import http.server
import importlib
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support import CHECKOUT
from tests.support.serving import serving

PAGE = b"""<a href="../../files/a%2Bb.whl#sha256=0">a</a> <a href='/elsewhere/c.whl'>c</a>
<a href="http://other.example/d.whl">d</a>"""


class _Origin(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        assert self.headers["Authorization"].startswith("Basic ")
        is_page = self.path.startswith("/pypi/simple/")
        self.send_response(200)
        self.send_header("Content-Type", "text/html" if is_page else "application/octet-stream")
        self.end_headers()
        self.wfile.write(PAGE if is_page else b"file")

    def log_message(self, format: str, *args: object) -> None: ...


@pytest.fixture
def relayed(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a relay to an index at ``/pypi/simple``."""
    monkeypatch.setenv("no_proxy", "")
    monkeypatch.syspath_prepend(CHECKOUT / "runner_image")
    origin = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Origin)
    url = f"http://someone:secret@127.0.0.1:{origin.server_port}/pypi/simple"
    relay: Any = importlib.import_module("runner.relay").Relay(url, {}, None)
    with serving(origin), serving(relay):
        yield f"http://127.0.0.1:{relay.server_port}"


def status(url: str) -> int:
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def test_only_the_index_and_what_it_links_to(relayed: str) -> None:
    linked = ("/pypi/files/a%2Bb.whl", "/pypi/files/a+b.whl.metadata", "/elsewhere/c.whl")
    for path in linked:
        assert status(relayed + path) == 403, path
    assert status(relayed + "/pypi/simple/a/") == 200
    for path in linked:
        assert status(relayed + path) == 200, path
    for path in (
        "/",
        "/api/user",
        "/d.whl",
        "/pypi/simplex/",
        "/pypi/simple/../../api/user",
        "/pypi/simple/%2e%2e/%2E%2E/api/user",
        "/pypi/simple/..%2f../api/user",
        "/pypi/files/b.whl",
    ):
        assert status(relayed + path) == 403, path
