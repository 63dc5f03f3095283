"""How this machine reaches package indexes: proxies, mirrors and certificates, so that a container can do the same.

They are read from where pip and uv look for them. If packages can be installed on this machine, nothing has to be
configured.
"""

from __future__ import annotations

import configparser
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

__all__ = ["CA_VARIABLES", "NetworkSettings", "redact"]

CA_VARIABLES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "PIP_CERT", "CURL_CA_BUNDLE")
_SYSTEM_BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Ubuntu, Arch, Alpine
    "/etc/pki/tls/certs/ca-bundle.crt",  # Fedora, RHEL
    "/etc/ssl/ca-bundle.pem",  # openSUSE
    "/etc/ssl/cert.pem",  # macOS
)
_PROXY_VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
_INDEX_VARIABLES = ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "PIP_INDEX_URL")
_EXTRA_INDEX_VARIABLES = ("UV_INDEX", "UV_EXTRA_INDEX_URL", "PIP_EXTRA_INDEX_URL")

_USERINFO = re.compile(r"(?<=://)[^\s/?#'\"]+@")
_INDEX_NAME = re.compile(r"^[\w.-]+=(?=https?://)")


def redact(text: str) -> str:
    """Return *text* without user names and passwords in URLs."""
    return _USERINFO.sub("***@", text)


@dataclass(frozen=True)
class NetworkSettings:
    """Proxies, package indexes and certificates, in a form that also holds inside a container."""

    ca_bundle: bytes | None = None
    """Certificates to trust instead of the default ones, in PEM format."""
    proxies: Mapping[str, str] = field(default_factory=dict[str, str])
    """By environment variable: ``HTTP_PROXY``, ``HTTPS_PROXY``, ``ALL_PROXY``, ``NO_PROXY``."""
    index_url: str | None = None
    """The package index to use instead of the default one."""
    extra_index_urls: tuple[str, ...] = ()
    """Additional package indexes."""

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> NetworkSettings:
        """Read the settings of this machine: from the variables in *environ*, then pip's configuration files, and for
        certificates from the system's, since clients often start servers without an environment.

        Settings that a container can't use, such as an index in a local folder, are left out.
        """
        pip = _pip_configuration(environ)
        indexes = [*_values(environ, _INDEX_VARIABLES), pip.get("index-url", "")]
        extra_indexes = [*_values(environ, _EXTRA_INDEX_VARIABLES), pip.get("extra-index-url", "")]
        return cls(
            ca_bundle=_first_bundle([*_values(environ, CA_VARIABLES), pip.get("cert", ""), *_SYSTEM_BUNDLES]),
            proxies=_proxies(environ, pip.get("proxy", "")),
            index_url=next(_web_urls(indexes), None),
            extra_index_urls=tuple(dict.fromkeys(_web_urls(extra_indexes))),
        )

    def environment(self) -> dict[str, str]:
        """Return the environment variables by which uv and other tools learn these settings, except the CA bundle.

        The latter is a file whose path in a container only the caller knows.
        """
        # curl and apt read only the lower-case spelling of some, other tools only the upper-case one.
        variables = {name: url for key, url in self.proxies.items() for name in (key, key.lower())}
        if self.index_url is not None:
            variables["UV_DEFAULT_INDEX"] = self.index_url
        if self.extra_index_urls:
            variables["UV_INDEX"] = " ".join(self.extra_index_urls)
        return variables

    def redact(self, text: str) -> str:
        """Return *text* without the user names and passwords of these indexes and proxies, inside and outside URLs."""
        text = redact(text)
        for url in (self.index_url or "", *self.extra_index_urls, *self.proxies.values()):
            parts = urlsplit(url) if "://" in url else urlsplit("//" + url)
            for secret in filter(None, (parts.password, parts.username if parts.password is None else None)):
                for form in {secret, unquote(secret)}:
                    text = text.replace(form, "***") if len(form) > 3 else text
        return text

    def __repr__(self) -> str:
        bundle = "None" if self.ca_bundle is None else f"<{len(self.ca_bundle)} bytes>"
        return redact(
            f"NetworkSettings(ca_bundle={bundle}, proxies={dict(self.proxies)!r}, "
            f"index_url={self.index_url!r}, extra_index_urls={self.extra_index_urls!r})"
        )


def _values(environ: Mapping[str, str], names: Iterable[str]) -> Iterator[str]:
    return (environ[name] for name in names if environ.get(name))


def _web_urls(values: Iterable[str]) -> Iterator[str]:
    for value in values:
        for word in value.split():
            url = _INDEX_NAME.sub("", word)  # uv's form: name=url
            if url.startswith(("http://", "https://")):
                yield url


def _first_bundle(paths: Iterable[str]) -> bytes | None:
    for path in paths:
        try:
            content = Path(path).expanduser().read_bytes() if path else b""
        except OSError:
            continue
        if b"-----BEGIN CERTIFICATE-----" in content:
            return content
    return None


def _proxies(environ: Mapping[str, str], pip_proxy: str) -> dict[str, str]:
    proxies = {"HTTP_PROXY": pip_proxy, "HTTPS_PROXY": pip_proxy} if pip_proxy else {}
    for name in _PROXY_VARIABLES:
        if url := environ.get(name.lower()) or environ.get(name):
            proxies[name] = url
    return proxies


def _pip_configuration(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the options in pip's configuration files. Later files override earlier ones, as in pip."""
    options: dict[str, str] = {}
    for path in _pip_files(environ):
        parser = configparser.RawConfigParser()
        try:
            parser.read_string(path.read_text("utf-8"))
        except (OSError, ValueError, configparser.Error):
            continue  # missing, or invalid for pip too
        for section in ("global", "install"):
            if parser.has_section(section):
                options.update(parser.items(section))
    return options


def _pip_files(environ: Mapping[str, str]) -> Iterator[Path]:
    chosen = environ.get("PIP_CONFIG_FILE")
    if chosen == os.devnull:  # which makes pip read no file at all
        return
    home = Path(environ.get("HOME") or environ.get("USERPROFILE") or Path.home())
    if sys.platform == "win32":
        yield Path(environ.get("PROGRAMDATA", "C:/ProgramData"), "pip", "pip.ini")
        yield home / "pip" / "pip.ini"
        yield Path(environ.get("APPDATA", home / "AppData/Roaming"), "pip", "pip.ini")
    else:
        yield Path("/etc/pip.conf")
        yield home / ".pip" / "pip.conf"
        yield Path(environ.get("XDG_CONFIG_HOME", home / ".config"), "pip", "pip.conf")
        if sys.platform == "darwin":
            yield home / "Library/Application Support/pip/pip.conf"
    if chosen:
        yield Path(chosen)
