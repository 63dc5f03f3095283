"""OAuth 2.1: the server over HTTP as a resource server that verifies each token with an authorization server."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from typing import Any, cast

import anyio
import httpx2
from mcp.server.auth.provider import AccessToken
from mcp.server.auth.routes import build_resource_metadata_url, create_protected_resource_routes
from pydantic import AnyHttpUrl, ValidationError
from starlette.routing import Route

from ...errors import SettingsError
from ...settings import Settings
from .tokens import read_secret

__all__ = ["Introspection", "ResourceServer"]

logger = logging.getLogger(__name__)

_SECONDS = 10.0
"""Time limit for one complete answer."""

_LARGEST = 1 << 16
"""Largest answer in bytes."""

_LONGEST = 8192
"""Longest token in characters."""


_ADDRESSES = ("oauth_issuer", "oauth_introspection", "oauth_resource")
"""Settings that are given all or none."""


class Introspection:
    """A token verifier for the SDK that uses token introspection (RFC 7662).

    Answers are not cached, so that a revoked token is refused at once.

    :param credentials: client id and secret of this server at the authorization server.
    """

    def __init__(self, endpoint: str, *, issuer: str, credentials: tuple[str, str] | None = None) -> None:
        self._endpoint = endpoint
        self._issuer = issuer
        self._credentials = credentials
        # Reading the certificates takes longer than a request. Each token gets a new client, so that no request uses a
        # connection that has just been closed, or a cookie that was set for another token.
        self._tls = httpx2.create_ssl_context()

    async def verify_token(self, token: str) -> AccessToken | None:
        """See `mcp.server.auth.provider.TokenVerifier`. If the authorization server fails, the token is refused."""
        if len(token) > _LONGEST:
            return None
        try:
            with anyio.fail_after(_SECONDS):
                status, body = await self._asked(token)
            found: Any = json.loads(body) if status == 200 else None
            if not isinstance(found, dict):
                logger.warning("the authorization server responded with status %d and without an object", status)
                return None
            return self._accepted(token, cast("dict[str, Any]", found))
        except (httpx2.HTTPError, ValueError, TimeoutError, RecursionError) as error:
            logger.warning("the authorization server failed: %s", type(error).__name__)
            return None

    async def _asked(self, token: str) -> tuple[int, bytes]:
        """Return the status and body of the answer about *token*."""
        client: httpx2.AsyncClient = httpx2.AsyncClient(timeout=_SECONDS, auth=self._credentials, verify=self._tls)
        async with (
            client,
            client.stream(
                "POST",
                self._endpoint,
                data={"token": token, "token_type_hint": "access_token"},
                # Without compression, by which a small answer could become a large one.
                headers={"Accept": "application/json", "Accept-Encoding": "identity"},
            ) as answer,
        ):
            body = b""
            async for part in answer.aiter_raw():
                body += part
                if len(body) > _LARGEST:
                    raise ValueError("the answer is too large")
            return answer.status_code, body

    def _accepted(self, token: str, found: dict[str, Any]) -> AccessToken | None:
        # Without a name for the principal, all such tokens would be the same one.
        if found.get("active") is not True or not (found.get("client_id") or found.get("sub")):
            return None
        if found.get("iss", self._issuer) != self._issuer:
            return None
        audience = found.get("aud")
        if isinstance(audience, list):
            audience = next(iter(cast("list[Any]", audience)), None) if len(cast("list[Any]", audience)) == 1 else None
        scope = found.get("scope") or ""
        try:
            return AccessToken(
                token=token,
                client_id=found.get("client_id") or "",
                scopes=scope.split() if isinstance(scope, str) else [],
                expires_at=found.get("exp"),
                resource=audience,
                subject=found.get("sub"),
                claims={"iss": self._issuer},
            )
        except ValidationError:
            return None


@dataclass(frozen=True)
class ResourceServer:
    """How the server over HTTP uses its authorization server."""

    verifier: Introspection
    resource: AnyHttpUrl
    """The URL of this server for clients. Tokens must have been issued for it."""
    scopes: list[str]
    routes: list[Route]
    """Metadata for clients about the authorization server (RFC 9728)."""
    metadata: AnyHttpUrl

    @classmethod
    def from_settings(cls, settings: Settings) -> ResourceServer | None:
        """Return None if *settings* name no authorization server.

        :raises SettingsError: a setting is missing or not a valid URL.
        """
        serve = settings.serve
        issuer, introspection, address = serve.oauth_issuer, serve.oauth_introspection, serve.oauth_resource
        if not (issuer or introspection or address):
            return None
        if not (issuer and introspection and address):
            missing = next(name for name in _ADDRESSES if not getattr(serve, name))
            raise SettingsError(f"{', '.join(_ADDRESSES)} must be set together", setting=missing)
        try:
            resource, server, endpoint = AnyHttpUrl(address), AnyHttpUrl(issuer), AnyHttpUrl(introspection)
        except ValidationError:
            raise SettingsError(f"{', '.join(_ADDRESSES)} must be HTTP URLs", setting=_ADDRESSES[0]) from None
        for name, url in zip(_ADDRESSES, (server, endpoint), strict=False):
            if url.scheme != "https" and url.host not in ("127.0.0.1", "localhost", "[::1]"):
                raise settings.error(name, f"tokens would be sent unencrypted: {url} must begin with https://")
        if resource.path is None or not resource.path.endswith("/mcp"):
            raise settings.error("oauth_resource", f"must be the URL for clients, which ends in /mcp, not {address}")
        credentials = None
        if settings.serve.oauth_client_id:
            credentials = settings.serve.oauth_client_id, _secret(settings)
        scopes = list(settings.serve.oauth_scopes)
        return cls(
            Introspection(introspection, issuer=issuer, credentials=credentials),
            resource,
            scopes,
            create_protected_resource_routes(resource, [server], scopes or None, "mcp-agentrun"),
            build_resource_metadata_url(resource),
        )


def _secret(settings: Settings) -> str:
    path = settings.serve.oauth_client_secret_file
    if path is None:
        raise settings.error("oauth_client_id", "needs oauth_client_secret_file")
    return read_secret(path, "oauth_client_secret_file", "oauth_client_secret_file").strip()
