"""Bearer tokens: who may call a server over HTTP."""

from __future__ import annotations

import contextlib
import hmac
import json
import os
import re
import secrets
import stat
from collections.abc import Mapping
from pathlib import Path

from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.auth.provider import AccessToken, principal_components
from starlette.types import Scope

from ...errors import SettingsError

__all__ = ["Tokens", "default_token_file", "principal_of", "read_secret"]

_LINE = re.compile(r"(?:(?P<name>\S+)\s+)?(?P<token>\S+)")
_SHORTEST = 16


class Tokens:
    """The SDK's token verifier over a file of tokens.

    :param by_name: the token of each principal.
    """

    def __init__(self, by_name: Mapping[str, str]) -> None:
        self._by_name = {name: token.encode() for name, token in by_name.items()}

    @classmethod
    def from_file(cls, path: Path) -> Tokens:
        """The tokens in *path*: a line each, ``NAME TOKEN``, or only the token. ``#`` begins a comment.

        :raises SettingsError: it can't be read, or others can read it, or it holds no token, one that could be guessed,
            or one for two names.
        """
        found: dict[str, str] = {}
        for number, line in enumerate(read_secret(path, "the token file").splitlines(), 1):
            text = line.partition("#")[0].strip()
            if not text:
                continue
            match = _LINE.fullmatch(text)
            if match is None:
                raise SettingsError(f"line {number} of the token file {path} is not NAME TOKEN")
            if len(match["token"]) < _SHORTEST:
                raise SettingsError(f"the token in line {number} of {path} has less than {_SHORTEST} characters")
            name = match["name"] or "default"
            if name in found:
                raise SettingsError(f"line {number} of the token file {path} names {name!r} again")
            if match["token"] in found.values():
                raise SettingsError(f"line {number} of the token file {path} has the token of another name")
            found[name] = match["token"]
        if not found:
            raise SettingsError(f"the token file {path} holds no token")
        return cls(found)

    @classmethod
    def generated(cls, path: Path) -> tuple[Tokens, str | None]:
        """The tokens in *path*, made with a new one in it if it does not exist; and that one, to be shown once.

        :raises SettingsError: it can be neither read nor written.
        """
        token = secrets.token_urlsafe(32)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            return cls.from_file(path), None
        except OSError as error:
            raise SettingsError(f"the token file {path} can't be written: {error}") from None
        with contextlib.closing(os.fdopen(descriptor, "w", encoding="utf-8")) as file:
            file.write(f"default {token}\n")
        return cls({"default": token}), token

    async def verify_token(self, token: str) -> AccessToken | None:
        """See `mcp.server.auth.provider.TokenVerifier`."""
        given = token.encode("utf-8", "surrogateescape")
        # All are compared, each in constant time: how long it takes tells nothing.
        names = [name for name, known in self._by_name.items() if hmac.compare_digest(known, given)]
        return AccessToken(token=token, client_id=names[0], scopes=[]) if names else None


def principal_of(scope: Scope) -> str:
    """The verified name of who sent the request of *scope*, which no other principal has; empty where nobody has to
    say.
    """
    user: object = scope.get("user")
    return json.dumps(principal_components(user.access_token)) if isinstance(user, AuthenticatedUser) else ""


def read_secret(path: Path, what: str) -> str:
    """The text of a file that is nobody else's business.

    :param what: the file, in words.
    :raises SettingsError: it can't be read, or others than its owner and his group can read or change it.
    """
    try:
        if os.name != "nt" and path.stat().st_mode & (stat.S_IROTH | stat.S_IWOTH):
            raise SettingsError(f"{what} {path} is open to everybody on this machine: chmod 600 {path}")
        return path.read_text("utf-8")
    except FileNotFoundError:
        raise SettingsError(f"{what} {path} does not exist") from None
    except (OSError, ValueError) as error:
        raise SettingsError(f"{what} {path} can't be read: {error}") from None


def default_token_file() -> Path:
    """Where a generated token is kept."""
    from platformdirs import user_data_path

    return user_data_path("mcp-agentrun", appauthor=False) / "tokens"
