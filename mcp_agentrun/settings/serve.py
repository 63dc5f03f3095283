"""The server over HTTP."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field, model_validator

from .fields import MIB, Group, Hosts, Metavar, Names, Networks, OptionalPath, Origins, Seconds, Size, each

__all__ = ["ServeSettings"]

_Url = Annotated[str | None, Metavar("URL")]
_Peers = Annotated[
    Names,
    each(
        lambda text: re.fullmatch(r"https?://[A-Za-z0-9.:\[\]-]+", text) is not None,
        "the URL of a server without a path, as in http://agentrun-0.peers:8000",
    ),
    Metavar("URL,..."),
]


class ServeSettings(Group):
    """The server over HTTP, `mcp-agentrun serve`."""

    host: Annotated[str, Metavar("ADDRESS")] = Field(default="127.0.0.1", description="Address to listen on.")
    port: Annotated[int, Metavar("PORT")] = Field(
        default=8000, ge=0, le=65535, description="Port to listen on; 0 chooses a free one."
    )
    token_file: OptionalPath = Field(
        default=None, description="File with the accepted bearer tokens, one per line: NAME TOKEN."
    )
    auth: bool = Field(default=True, description="Require a token.")
    allow_public_without_auth: bool = Field(
        default=False, description="Allow `auth` to be off even where other machines can connect."
    )
    allowed_hosts: Hosts = Field(default=(), description="Names of this server for clients, with port.")
    allowed_origins: Origins = Field(default=(), description="Origins of web pages that may call the server.")
    idle_ttl: Seconds = Field(default=1800.0, description="Close a sandbox after this time without use.")
    max_ttl: Seconds = Field(default=28800.0, description="Close a sandbox after this time in any case.")
    pool_max: int = Field(default=8, ge=0, description="Maximum number of sandboxes kept ready under load.")
    pool: int = Field(
        default_factory=lambda earlier: min(2, int(earlier.get("pool_max", 2))),
        ge=0,
        description="Number of sandboxes kept ready; 0 for none.",
    )
    max_total: int = Field(default=100, ge=1, description="Maximum number of sandboxes of all clients together.")
    reserve: Size = Field(default=512 * MIB, description="Memory of the machine that is left free.")
    body_limit: Size = Field(default=4 * MIB, description="Largest request accepted.")
    rate_limit: float = Field(default=200.0, gt=0, description="Requests per second accepted from one client.")
    stranger_limit: float = Field(
        default=50.0, gt=0, description="Requests per second accepted from an address without a valid token."
    )
    trusted_proxies: Networks = Field(default=(), description="Proxies whose forwarding headers are trusted.")
    peers: _Peers = Field(default=(), description="URLs of all replicas of this server. A principal belongs to one.")
    own_url: _Url = Field(default=None, description="URL of this server among `peers`.")
    drain: Seconds = Field(default=30.0, description="Longest wait for running calls when the server stops.")
    oauth_issuer: _Url = Field(
        default=None, description="Authorization server whose tokens replace those of token_file."
    )
    oauth_introspection: _Url = Field(default=None, description="Introspection endpoint of that server (RFC 7662).")
    oauth_resource: _Url = Field(
        default=None, description="URL of this server for clients, ending in /mcp: the tokens' audience."
    )
    oauth_scopes: Annotated[Names, Metavar("SCOPE,...")] = Field(
        default=(), description="Scopes that a token must have."
    )
    oauth_client_id: Annotated[str | None, Metavar("ID")] = Field(
        default=None, description="Client id of this server at the authorization server."
    )
    oauth_client_secret_file: OptionalPath = Field(
        default=None, description="File with the secret that belongs to oauth_client_id."
    )
    log_format: Literal["text", "json"] = Field(
        default="text", description="Log as lines of text, or as one JSON object per line."
    )

    @model_validator(mode="after")
    def _check(self) -> ServeSettings:
        if self.idle_ttl > self.max_ttl:
            raise ValueError(f"idle_ttl ({self.idle_ttl:g} s) exceeds max_ttl ({self.max_ttl:g} s)")
        if self.pool > self.pool_max:
            raise ValueError(f"pool ({self.pool}) exceeds pool_max ({self.pool_max})")
        if self.pool > self.max_total and "pool" in self.model_fields_set:
            raise ValueError(f"pool ({self.pool}) exceeds max_total ({self.max_total})")
        if self.own_url not in (self.peers or (None,)):
            raise ValueError("own_url must be one of peers, as it is written there")
        self._check_access()
        return self

    def _check_access(self) -> None:
        """Require that the settings about who may call the server agree: none is ignored in favour of another."""
        oauth = sorted(name for name in self.model_fields_set if name.startswith("oauth_") and getattr(self, name))
        if not self.auth and (oauth or self.token_file is not None):
            raise ValueError(f"auth is off, so {oauth[0] if oauth else 'token_file'} has no effect: remove one of them")
        if oauth and self.token_file is not None:
            raise ValueError(
                f"token_file and {oauth[0]} exclude each other: tokens come from a file or from an authorization server"
            )
        if oauth and not (self.oauth_issuer or self.oauth_introspection or self.oauth_resource):
            raise ValueError(f"{oauth[0]} requires oauth_issuer, oauth_introspection and oauth_resource")
        if bool(self.oauth_client_id) != (self.oauth_client_secret_file is not None):
            raise ValueError("oauth_client_id and oauth_client_secret_file require each other")
