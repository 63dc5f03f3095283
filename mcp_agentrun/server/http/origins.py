"""The Host and Origin that requests may name, against pages that reach the server by DNS rebinding."""

from __future__ import annotations

from collections.abc import Iterable

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import Scope

from ...settings import Settings

__all__ = ["Origins", "in_url"]

_LOCAL = ("127.0.0.1", "localhost", "[::1]")


class Origins:
    """The accepted values of the headers Host and Origin, in which case does not matter."""

    def __init__(self, settings: Settings) -> None:
        serve = settings.serve
        named = () if serve.host in ("0.0.0.0", "::") else (in_url(serve.host),)  # noqa: S104
        names = *_LOCAL, *named
        self._hosts = _lower((*names, *(f"{name}:*" for name in names), *serve.allowed_hosts))
        self._origins = _lower((*(f"http://{name}:*" for name in _LOCAL), *serve.allowed_origins))

    def refusal(self, scope: Scope) -> PlainTextResponse | None:
        """Return the answer to a request that is not accepted."""
        headers = Headers(scope=scope)
        if not _is_among(self._hosts, headers.get("host", "")):
            return PlainTextResponse("Invalid Host header", 421)
        if not all(_is_among(self._origins, origin) for origin in headers.getlist("origin")):
            return PlainTextResponse("Invalid Origin header", 403)
        return None


def in_url(host: str) -> str:
    """Return *host* as it is written in URLs and in the Host header."""
    return f"[{host}]" if ":" in host else host


def _lower(values: Iterable[str]) -> frozenset[str]:
    return frozenset(map(str.lower, values))


def _is_among(allowed: frozenset[str], value: str) -> bool:
    """Return whether *value* is allowed, in which ``*`` stands for any port."""
    value = value.lower()
    name, _, port = value.rpartition(":")
    return value in allowed or (port.isdecimal() and f"{name}:*" in allowed)
