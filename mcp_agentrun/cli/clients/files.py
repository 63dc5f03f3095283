"""Edit a client's file: only the entry changes, or nothing does."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

from ...errors import AgentRunError
from . import jsonc, toml, yaml
from .errors import UnreadableError
from .table import Client, Format

__all__ = ["ClientFile"]

_BOM = "\ufeff"
_MAX_BYTES = 10 << 20


@dataclass(frozen=True)
class _Editor:
    parse: Callable[[str], dict[str, Any]]
    put: Callable[..., str]
    remove: Callable[..., str]


_EDITORS: Mapping[Format, _Editor] = MappingProxyType(
    {
        "json": _Editor(partial(jsonc.parse, relaxed=False), jsonc.put, jsonc.remove),
        "jsonc": _Editor(jsonc.parse, jsonc.put, jsonc.remove),
        "toml": _Editor(toml.parse, toml.put, toml.remove),
        "yaml": _Editor(yaml.parse, yaml.put, yaml.remove),
    }
)


class ClientFile:
    """The file of a client, as it was read.

    :raises AgentRunError: it can't be read, or is not valid; the message says where.
    """

    def __init__(self, client: Client, path: Path) -> None:
        self.client = client
        self.path = path
        self._editor = _EDITORS[client.format]
        try:
            self._bytes = _content(path)
            self.text = (self._bytes or b"").decode("utf-8")
        except OSError as error:
            raise AgentRunError(f"{path} can't be read: {error.strerror}") from None
        except UnicodeDecodeError as error:
            raise AgentRunError(f"{path} was left alone because it is not valid UTF-8 (byte {error.start})") from None
        self._data = self._parsed(self.text)

    def entry(self, name: str) -> Mapping[str, Any] | None:
        """Return the entry of server *name*, or None."""
        found = self._servers(self._data).get(name)
        return cast("Mapping[str, Any]", found) if isinstance(found, dict) else None

    def with_entry(self, name: str, entry: Mapping[str, Any]) -> str:
        """Return the text with *entry* as server *name*."""
        return self._edited(self._editor.put, name, entry)

    def without_entry(self, name: str) -> str:
        """Return the text without server *name*, which must be in it."""
        return self._edited(self._editor.remove, name)

    def write(self, text: str) -> Path | None:
        """Replace the file's content. Return the backup of the previous content, or None if there was no file.

        :raises AgentRunError: it can't be written, or has changed since it was read.
        """
        target = Path(os.path.realpath(self.path))  # a link stays one
        backup = None
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            if _content(target) != self._bytes:
                raise AgentRunError(f"{self.path} has changed in the meantime. Nothing was written; try again.")
            if self._bytes is not None:
                backup = target.with_name(target.name + ".agentrun-backup")
                _replace(backup, self._bytes, like=target)
            _replace(target, text.encode("utf-8"), like=target)
        except OSError as error:
            raise AgentRunError(f"{self.path} can't be written: {error.strerror}") from None
        return backup

    def _parsed(self, text: str) -> dict[str, Any]:
        try:
            return self._editor.parse(text.removeprefix(_BOM))
        except UnreadableError as error:
            raise AgentRunError(f"{self.path} was left alone because it is not valid: {error}") from None
        except (RecursionError, ValueError) as error:  # ValueError: a number with thousands of digits
            problem = "it is nested too deeply" if isinstance(error, RecursionError) else error
            raise AgentRunError(f"{self.path} was left alone because it is not valid: {problem}") from None

    def _servers(self, data: Mapping[str, Any]) -> dict[str, Any]:
        servers: Any = data
        for key in self.client.section:
            servers = cast("dict[str, Any]", servers).get(key) if isinstance(servers, dict) else None
        return cast("dict[str, Any]", servers) if isinstance(servers, dict) else {}

    def _edited(self, edit: Callable[..., str], name: str, *entry: Mapping[str, Any]) -> str:
        """Return the text after *edit*, having checked that only the entry has changed."""
        bom = _BOM if self.text.startswith(_BOM) else ""
        data: dict[str, Any] = {}
        try:
            text = edit(self.text.removeprefix(_BOM), (*self.client.section, name), *entry)
        except UnreadableError as error:
            raise AgentRunError(f"{self.path} was left alone: {error}") from None
        except (RecursionError, ValueError):
            text = ""
        with contextlib.suppress(UnreadableError, RecursionError, ValueError):
            text.encode()  # lone surrogates, which JSON can escape, can't be written
            data = self._editor.parse(text)
        servers = {key: value for key, value in self._servers(self._data).items() if key != name}
        others = {key: value for key, value in self._data.items() if key != self.client.section[0]}
        is_right = (
            self._servers(data) == {**servers, **({name: entry[0]} if entry else {})}
            and {key: value for key, value in data.items() if key != self.client.section[0]} == others
        )
        if not is_right:
            raise AgentRunError(
                f"{self.path} was left alone because it can't be edited safely. Edit it manually: the "
                f"entry is {name!r} in {'.'.join(self.client.section)}."
            )
        return bom + text


def _content(path: Path) -> bytes | None:
    """Return the content of *path*, or None if there is no such file."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise AgentRunError(f"{path} was left alone because it is not a regular file")
        if status.st_size > _MAX_BYTES:
            raise AgentRunError(f"{path} was left alone because it has more than {_MAX_BYTES >> 20} MiB")
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _replace(path: Path, content: bytes, *, like: Path) -> None:
    """Write *content* to *path* atomically, with the permissions of *like* if it exists, else for the user only."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=path.name)
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        if like.exists():
            shutil.copymode(like, temporary)
        elif os.name != "nt":
            temporary.chmod(stat.S_IRUSR | stat.S_IWUSR)
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
