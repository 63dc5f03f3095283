from __future__ import annotations

import os
from pathlib import Path

import pytest

from mcp_agentrun.engine.network import NetworkSettings, redact

CERTIFICATE = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
NO_FILES = {"PIP_CONFIG_FILE": os.devnull}


def from_variables(**variables: str) -> NetworkSettings:
    return NetworkSettings.from_environment({**NO_FILES, **variables})


def test_nothing_set() -> None:
    settings = from_variables()
    assert settings == NetworkSettings(ca_bundle=settings.ca_bundle)
    assert settings.environment() == {}


def test_uv_index_goes_before_pip_index() -> None:
    settings = from_variables(PIP_INDEX_URL="https://pip.example/simple", UV_DEFAULT_INDEX="https://uv.example/simple")
    assert settings.index_url == "https://uv.example/simple"


def test_extra_indexes_are_collected_once_each_without_their_names() -> None:
    settings = from_variables(
        UV_INDEX="corp=https://a.example/simple https://b.example/simple",
        PIP_EXTRA_INDEX_URL="https://b.example/simple\nhttps://c.example/?x=https://d.example",
    )
    assert settings.extra_index_urls == (
        "https://a.example/simple",
        "https://b.example/simple",
        "https://c.example/?x=https://d.example",
    )


def test_indexes_on_this_machine_are_left_out() -> None:
    settings = from_variables(PIP_INDEX_URL="file:///srv/simple", PIP_EXTRA_INDEX_URL="/srv/more https://a.example/")
    assert settings.index_url is None
    assert settings.extra_index_urls == ("https://a.example/",)


def test_proxies_are_known_by_either_spelling_and_told_in_both() -> None:
    settings = from_variables(https_proxy="http://proxy.example:3128", NO_PROXY=".example", HTTP_PROXY="")
    assert settings.proxies == {"HTTPS_PROXY": "http://proxy.example:3128", "NO_PROXY": ".example"}
    assert settings.environment() == {
        "HTTPS_PROXY": "http://proxy.example:3128",
        "https_proxy": "http://proxy.example:3128",
        "NO_PROXY": ".example",
        "no_proxy": ".example",
    }


def test_environment_for_uv() -> None:
    settings = NetworkSettings(
        index_url="https://a.example/", extra_index_urls=("https://b.example/", "https://c.example/")
    )
    assert settings.environment() == {
        "UV_DEFAULT_INDEX": "https://a.example/",
        "UV_INDEX": "https://b.example/ https://c.example/",
    }


def test_first_bundle_that_holds_certificates(tmp_path: Path) -> None:
    (tmp_path / "not.pem").write_text("nothing of the kind")
    (tmp_path / "ca.pem").write_text(CERTIFICATE)
    settings = from_variables(
        SSL_CERT_FILE=str(tmp_path / "absent.pem"),
        REQUESTS_CA_BUNDLE=str(tmp_path),  # requests accepts a folder
        PIP_CERT=str(tmp_path / "not.pem"),
        CURL_CA_BUNDLE=str(tmp_path / "ca.pem"),
    )
    assert settings.ca_bundle == (tmp_path / "ca.pem").read_bytes()


@pytest.mark.skipif(not Path("/etc/ssl/certs/ca-certificates.crt").exists(), reason="the machine has no such file")
def test_without_any_variable_the_system_s_certificates_are_trusted() -> None:
    assert from_variables().ca_bundle == Path("/etc/ssl/certs/ca-certificates.crt").read_bytes()


def test_pip_configuration(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text(CERTIFICATE)
    (tmp_path / "pip.conf").write_text(
        f"[global]\nindex-url = https://user:100%25@a.example/simple\ncert = {tmp_path / 'ca.pem'}\n"
        "proxy = http://proxy.example:3128\n"
        "[install]\nextra-index-url =\n    https://b.example/simple\n    file:///srv/simple\n"
    )
    variables = {"PIP_CONFIG_FILE": str(tmp_path / "pip.conf"), "HOME": str(tmp_path)}
    settings = NetworkSettings.from_environment(variables)
    assert settings.index_url == "https://user:100%25@a.example/simple"
    assert settings.extra_index_urls == ("https://b.example/simple",)
    assert settings.ca_bundle is not None
    assert settings.proxies == {"HTTP_PROXY": "http://proxy.example:3128", "HTTPS_PROXY": "http://proxy.example:3128"}
    overridden = NetworkSettings.from_environment({**variables, "PIP_INDEX_URL": "https://c.example/simple"})
    assert overridden.index_url == "https://c.example/simple"


@pytest.mark.parametrize("content", [b"no section = 1\n", b"\xff\xfe\x00", b"[global]\nindex-url\n"])
def test_broken_pip_configuration_is_ignored(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "pip.conf").write_bytes(content)
    broken, empty = (
        NetworkSettings.from_environment({"PIP_CONFIG_FILE": str(tmp_path / name), "HOME": str(tmp_path)})
        for name in ("pip.conf", "none.conf")
    )
    assert broken == empty


def test_repr_hides_credentials_and_certificates() -> None:
    settings = from_variables(
        UV_DEFAULT_INDEX="https://user:s3cret@a.example/simple", HTTPS_PROXY="http://user:s3cret@proxy.example"
    )
    assert "s3cret" not in repr(settings)
    assert "a.example" in repr(settings)
    assert "MIIB" not in repr(NetworkSettings(ca_bundle=CERTIFICATE.encode()))


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        ("see https://user:pass@a.example/x.", "see https://***@a.example/x."),
        ("https://token@a.example and http://u:p@b.example", "https://***@a.example and http://***@b.example"),
        ("https://user:p@ss@a.example/", "https://***@a.example/"),
        ("https://a.example/@scope/name", "https://a.example/@scope/name"),
        ("mail me@a.example", "mail me@a.example"),
    ],
)
def test_redact(text: str, redacted: str) -> None:
    assert redact(text) == redacted
