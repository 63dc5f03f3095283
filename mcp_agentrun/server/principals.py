"""The principal of a request, by its access token."""

from __future__ import annotations

import json

from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.auth.provider import principal_components
from starlette.types import Scope

__all__ = ["principal_of"]


def principal_of(scope: Scope) -> str:
    """Return the verified, unique name of the sender of a request, or "" if the server requires no authentication."""
    user: object = scope.get("user")
    return json.dumps(principal_components(user.access_token)) if isinstance(user, AuthenticatedUser) else ""
