"""Bearer tokens of the clients of a server over HTTP."""

from __future__ import annotations

import contextlib
import hmac
import os
import re
import secrets
import stat
from collections.abc import Mapping
from pathlib import Path

from mcp.server.auth.provider import AccessToken

from ...errors import SettingsError

__all__ = ["Tokens", "default_token_file", "read_secret"]

_LINE = re.compile(r"(?:(?P<name>\S+)\s+)?(?P<token>\S+)")
_SHORTEST = 16


class Tokens:
    """A token verifier for the SDK with the tokens of a file.

    :param by_name: the token of each principal.
    """

    def __init__(self, by_name: Mapping[str, str]) -> None:
        self._by_name = {name: token.encode() for name, token in by_name.items()}

    @classmethod
    def from_file(cls, path: Path) -> Tokens:
        """Read tokens from *path*: one per line, as ``NAME TOKEN`` or only the token. ``#`` begins a comment.

        :raises SettingsError: the file can't be read, other users can read it, or it has no token, a short one, or the
            same one for two names.
        """
        found: dict[str, str] = {}
        for number, line in enumerate(read_secret(path, "token_file", "the token file").splitlines(), 1):
            text = line.partition("#")[0].strip()
            if not text:
                continue
            match = _LINE.fullmatch(text)
            if match is None:
                raise _invalid(f"line {number} of the token file {path} is not NAME TOKEN")
            if len(match["token"]) < _SHORTEST:
                raise _invalid(f"the token in line {number} of {path} has fewer than {_SHORTEST} characters")
            name = match["name"] or "default"
            if name in found:
                raise _invalid(f"line {number} of the token file {path} repeats the name {name!r}")
            if match["token"] in found.values():
                raise _invalid(f"line {number} of the token file {path} repeats the token of another name")
            found[name] = match["token"]
        if not found:
            raise _invalid(f"the token file {path} has no token")
        return cls(found)

    @classmethod
    def generated(cls, path: Path) -> tuple[Tokens, str | None]:
        """Read tokens from *path*, or create it with a new one. Return the new token, if any, to be shown once.

        :raises SettingsError: the file can be neither read nor written.
        """
        token = secrets.token_urlsafe(32)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            return cls.from_file(path), None
        except OSError as error:
            raise _invalid(f"the token file {path} can't be written: {error}") from None
        with contextlib.closing(os.fdopen(descriptor, "w", encoding="utf-8")) as file:
            file.write(f"default {token}\n")
        return cls({"default": token}), token

    async def verify_token(self, token: str) -> AccessToken | None:
        """See `mcp.server.auth.provider.TokenVerifier`."""
        given = token.encode("utf-8", "surrogateescape")
        # All are compared, each in constant time, so that the duration reveals nothing.
        names = [name for name, known in self._by_name.items() if hmac.compare_digest(known, given)]
        return AccessToken(token=token, client_id=names[0], scopes=[]) if names else None


def _invalid(message: str) -> SettingsError:
    return SettingsError(message, setting="token_file")


def read_secret(path: Path, setting: str, what: str) -> str:
    """Read a file with secrets.

    :param setting: the setting that names the file.
    :param what: what the file is, for messages.
    :raises SettingsError: the file can't be read, or users other than its owner and group can read or change it.
    """
    try:
        if os.name != "nt" and path.stat().st_mode & (stat.S_IROTH | stat.S_IWOTH):
            problem = f"can be read or changed by every user of this machine: chmod 600 {path}"
        else:
            return path.read_text("utf-8")
    except FileNotFoundError:
        problem = "does not exist"
    except (OSError, ValueError) as error:
        problem = f"can't be read: {error}"
    raise SettingsError(f"{what} {path} {problem}", setting=setting)


def default_token_file() -> Path:
    """Return the path of the file with a generated token."""
    from platformdirs import user_data_path

    return user_data_path("mcp-agentrun", appauthor=False) / "tokens"
