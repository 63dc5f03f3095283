"""The engine that the user has chosen is the one that is used, or none."""

from __future__ import annotations

import hashlib
import json
import shutil
import ssl
import subprocess
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from docker import APIClient

from mcp_agentrun.engine.docker.discovery import candidates, connect
from tests.support.relay import relay
from tests.support.serving import serving


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A docker configuration of the test's own, in which nothing is chosen."""
    for name in ("DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    (tmp_path / "config.json").write_text("{}")
    return tmp_path


def make_context(config: Path, name: str, host: str | None, certificates: Mapping[str, Path] | None = None) -> None:
    """As ``docker context create`` does it."""
    folder = hashlib.sha256(name.encode()).hexdigest()
    endpoints = {"docker": {"Host": host, "SkipTLSVerify": False}} if host else {"kubernetes": {}}
    meta = config / "contexts/meta" / folder / "meta.json"
    meta.parent.mkdir(parents=True)
    meta.write_text(json.dumps({"Name": name, "Metadata": {}, "Endpoints": endpoints}))
    for target, source in (certificates or {}).items():
        place = config / "contexts/tls" / folder / "docker" / target
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, place)


def choose(config: Path, name: str) -> None:
    (config / "config.json").write_text(json.dumps({"currentContext": name}))


def test_the_context_that_is_named_in_the_environment_goes_before_the_current_one(
    config: Path, api: APIClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    with relay(config, api):
        make_context(config, "relayed", f"unix://{config}/engine.sock")
        make_context(config, "elsewhere", "tcp://127.0.0.1:1")
        choose(config, "elsewhere")
        assert [each.url for each in candidates()] == ["tcp://127.0.0.1:1"]
        client, tried = connect()
        assert client is None and len(tried) == 1 and "docker context 'elsewhere'" in tried[0]
        monkeypatch.setenv("DOCKER_CONTEXT", "relayed")
        client, _ = connect()
        assert client is not None and client.ping()
        assert getattr(client.get_adapter(client.base_url), "socket_path") == f"{config}/engine.sock"  # noqa: B009
        client.close()
    monkeypatch.setenv("DOCKER_CONTEXT", "default")
    assert {each.origin for each in candidates()} <= {"usual socket", "usual pipe"}
    monkeypatch.setenv("DOCKER_CONTEXT", "relayed")
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere")
    assert [(each.url, each.origin) for each in candidates()] == [("unix:///nowhere", "DOCKER_HOST")]


def test_a_choice_that_leads_nowhere_leads_to_no_other_engine(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refusal() -> str:
        client, tried = connect()
        assert client is None
        (said,) = tried
        return said

    choose(config, "gone")
    assert refusal().startswith("docker context 'gone': there is no such context")
    make_context(config, "bare", None)
    choose(config, "bare")
    assert refusal() == "docker context 'bare': it names no engine"
    make_context(config, "broken", "tcp://127.0.0.1:1")
    next((config / "contexts/meta").glob(f"{hashlib.sha256(b'broken').hexdigest()}/*")).write_text("{")
    monkeypatch.setenv("DOCKER_CONTEXT", "broken")
    assert refusal().startswith("docker context 'broken' of DOCKER_CONTEXT: Detected corrupted meta file")
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:1")
    monkeypatch.setenv("DOCKER_CERT_PATH", str(config / "none"))
    assert refusal().startswith("DOCKER_HOST: DOCKER_CERT_PATH: ")


@contextmanager
def serve_tls(certificate: Path, key: Path, *, asks: bool) -> Generator[str]:
    """What an engine says to a ping, said by TLS; gives its URL.

    :param asks: whether it answers only who has *certificate*, too.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Api-Version", "1.41")
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"OK")

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    if asks:
        context.load_verify_locations(certificate)
        context.verify_mode = ssl.CERT_REQUIRED
    server.socket = context.wrap_socket(server.socket, server_side=True)
    with serving(server):
        yield f"tcp://127.0.0.1:{server.server_port}"


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl to make a certificate")
@pytest.mark.parametrize("asks", [True, False], ids=["of-both", "of-the-engine"])
def test_a_context_is_reached_with_its_own_certificates(
    config: Path, monkeypatch: pytest.MonkeyPatch, asks: bool
) -> None:
    pems = [config / name for name in ("key.pem", "cert.pem", "other-key.pem", "other.pem")]
    for key, certificate in (pems[:2], pems[2:]):
        subprocess.run(
            [
                *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=i"),
                *("-keyout", str(key), "-out", str(certificate), "-addext", "subjectAltName=IP:127.0.0.1"),
            ],
            check=True,
            capture_output=True,
        )
    key, certificate, _, other = pems
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(other))
    with serve_tls(certificate, key, asks=asks) as url:
        mine = {"cert.pem": certificate, "key.pem": key} if asks else {}
        make_context(config, "right", url, {"ca.pem": certificate, **mine})
        make_context(config, "wrong", url, {"ca.pem": other, **mine})
        choose(config, "right")
        client, _ = connect()
        assert client is not None and client.ping()
        client.close()
        choose(config, "wrong")
        client, tried = connect()
        assert client is None and "CERTIFICATE_VERIFY_FAILED" in tried[0]
