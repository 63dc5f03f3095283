"""``mcp-agentrun client``: the server's entry in the files of MCP clients."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

import click

from ..errors import AgentRunError
from .options import STDIO_GROUPS, SettingsCommand, SettingsGroup, effective_settings
from .terminal import agreed, note, print_diff

if TYPE_CHECKING:
    from .clients import Client, ClientFile

__all__ = ["client", "client_entries"]

ENTRY = "agentrun"


def _checked_entry(_context: click.Context, _option: click.Parameter, value: str) -> str:
    if not value.strip():
        raise click.BadParameter("a name is required")
    return value


def _checked_url(_context: click.Context, _option: click.Parameter, value: str | None) -> str | None:
    try:
        found = urlsplit("http://none" if value is None else value)
        is_url = found.scheme in ("http", "https") and bool(found.hostname) and found.port != 0
    except ValueError:  # a port or an IPv6 address that is not valid
        is_url = False
    if not is_url:
        raise click.BadParameter(f"{value!r} is not a URL such as http://127.0.0.1:8000/mcp")
    return value


_FILE = click.option("--file", type=click.Path(dir_okay=False, path_type=Path), help="Another file, e.g. a project's.")
_ENTRY = click.option("--entry", default=ENTRY, show_default=True, callback=_checked_entry, help="Name of the entry.")
_YES = click.option("--yes", "-y", is_flag=True, help="Write without asking.")
_DRY_RUN = click.option("--dry-run", is_flag=True, help="Show the difference and write nothing.")


class _ClientName(click.ParamType[str]):
    name = "client"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        from .clients import CLIENTS

        return click.Choice(tuple(CLIENTS)).convert(value, param, ctx)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[Any]:
        from click.shell_completion import CompletionItem

        from .clients import CLIENTS

        return [CompletionItem(name, help=each.title) for name, each in CLIENTS.items() if name.startswith(incomplete)]


@click.group(cls=SettingsGroup, groups=(), short_help="Add this server to an MCP client.")
def client() -> None:
    """Example: mcp-agentrun client add claude-code

    Add the server to the files of MCP clients, or remove it.

    \b
    Clients: claude-desktop, claude-code, cursor, vscode, gemini, codex, windsurf,
    zed, lmstudio, cline, goose, opencode.
    """


@client.command(groups=(), short_help="Add the server to a client's file.")
@click.argument("name", type=_ClientName())
@click.argument("arguments", nargs=-1)
@click.option(
    "--url", callback=_checked_url, help="Have the client connect to a server over HTTP instead of starting one."
)
@click.option("--header", "headers", multiple=True, metavar="NAME:VALUE", help="Header for --url; may be repeated.")
@click.option(
    "--env", "variables", multiple=True, metavar="NAME=VALUE", help="Variable for the server; may be repeated."
)
@_FILE
@_ENTRY
@_YES
@_DRY_RUN
def add(
    name: str,
    arguments: tuple[str, ...],
    url: str | None,
    headers: tuple[str, ...],
    variables: tuple[str, ...],
    file: Path | None,
    entry: str,
    yes: bool,
    dry_run: bool,
) -> None:
    """\b
    Examples: mcp-agentrun client add cursor -- --memory 2g
              mcp-agentrun client add gemini --url http://127.0.0.1:8000/mcp

    Add the server to the file of client NAME, or update it there. What else an entry has is kept.

    ARGUMENTS are passed to the server. The difference is shown first. A backup of the file is kept beside it.
    """
    from .clients import CLIENTS, Server

    if url is None and headers:
        raise click.UsageError("--header requires --url")
    if url is not None and (arguments or variables):
        raise click.UsageError("--url can't be combined with arguments or --env: the client does not start that server")
    if arguments:
        _check_settings(arguments)
    found = CLIENTS[name]
    server = Server(
        name=entry,
        command=() if url else (*server_command(), *arguments),
        environment=dict(_pair(text, "=", "--env") for text in variables),
        url=url,
        headers=dict(_pair(text, ":", "--header") for text in headers),
    )
    if url and found.http is None:
        raise AgentRunError(
            f"The file of {found.title} only takes servers that it starts itself. Add the URL in its settings, under "
            "Connectors, or leave out --url."
        )
    opened = _open(found, file)
    present = opened.entry(entry)
    wanted = found.updated(present or {}, server)
    if present == wanted:
        click.echo(f"{opened.path} already has this entry.")
        return
    text = opened.with_entry(entry, wanted)
    if _write(opened, text, yes=yes, dry_run=dry_run, secrets=[*_secrets(present), *_secrets(wanted)]):
        click.echo(f"Added the server {entry!r} to {found.title}. {found.restart}")


@client.command(groups=(), short_help="Remove the server from a client's file.")
@click.argument("name", type=_ClientName())
@_FILE
@_ENTRY
@_YES
@_DRY_RUN
def remove(name: str, file: Path | None, entry: str, yes: bool, dry_run: bool) -> None:
    """Example: mcp-agentrun client remove cursor

    Remove the server from the file of client NAME.
    """
    from .clients import CLIENTS

    opened = _open(CLIENTS[name], file)
    present = opened.entry(entry)
    if present is None:
        click.echo(f"{opened.path} has no entry {entry!r}.")
    elif _write(opened, opened.without_entry(entry), yes=yes, dry_run=dry_run, secrets=_secrets(present)):
        click.echo(f"Removed the server {entry!r} from {CLIENTS[name].title}.")


@client.command("list", groups=(), short_help="List the clients, and which have the server.")
@click.argument("name", type=_ClientName(), required=False)
@_ENTRY
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per client.")
def list_(name: str | None, entry: str, as_json: bool) -> None:
    """Example: mcp-agentrun client list

    List the clients, their files, and which have the server.
    """
    from .clients import CLIENTS

    for each, found in CLIENTS.items():
        if name not in (None, each):
            continue
        path, problem, present = found.file(), None, None
        try:
            present = _open(found, None).entry(entry)
        except AgentRunError as error:
            problem = str(error)
        state = "unreadable" if problem else "added" if present else "no entry" if path.exists() else "no file"
        if as_json:
            fields = {"client": each, "file": str(path), "state": state, "entry": present, "problem": problem}
            click.echo(json.dumps(fields))
        else:
            click.echo(f"{each:<15} {state:<10} {path}" + (f"\n{'':<15} {problem}" if problem else ""))


def client_entries() -> Iterator[tuple[str, ClientFile]]:
    """Find the clients in whose files the server is, by name."""
    from .clients import CLIENTS

    for name, found in CLIENTS.items():
        try:
            opened = _open(found, None)
        except AgentRunError as error:
            note(str(error))
            continue
        if opened.entry(ENTRY) is not None:
            yield name, opened


def server_command() -> Sequence[str]:
    """Return the command that starts this server from any folder."""
    if "archive-v0" in Path(sys.prefix).parts and (uvx := shutil.which("uvx")):
        return [os.path.abspath(uvx), "mcp-agentrun"]  # this environment is in the cache of uvx, which may remove it
    script = Path(sys.executable).with_name("mcp-agentrun.exe" if sys.platform == "win32" else "mcp-agentrun")
    return [str(script)] if script.exists() else [sys.executable, "-m", "mcp_agentrun"]


def _open(found: Client, file: Path | None) -> ClientFile:
    from .clients import ClientFile

    return ClientFile(found, file.expanduser().absolute() if file else found.file())


def _check_settings(arguments: Sequence[str]) -> None:
    """Check *arguments* as the server does when it is started.

    :raises click.UsageError: one is unknown.
    :raises SettingsError: a value is invalid.
    """
    server = SettingsCommand("mcp-agentrun", groups=STDIO_GROUPS, add_help_option=False)
    with server.make_context("mcp-agentrun", list(arguments)):
        effective_settings()


def _secrets(entry: Mapping[str, Any] | None) -> Iterator[tuple[str, str]]:
    """Yield the names and values of an entry's variables and headers."""
    waiting = [cast("dict[str, Any]", field) for field in (entry or {}).values() if isinstance(field, dict)]
    for field in waiting:
        for name, value in field.items():
            if isinstance(value, dict):
                waiting.append(cast("dict[str, Any]", value))
            else:
                yield str(name), str(value)


def _write(opened: ClientFile, text: str, *, yes: bool, dry_run: bool, secrets: Iterable[tuple[str, str]]) -> bool:
    """Show the difference, write it if the user agrees, and return whether it was written."""
    print_diff(opened.text, text, str(opened.path), secrets=secrets)
    if dry_run or not agreed(f"Write {opened.path}?", yes=yes):
        return False
    backup = opened.write(text)
    if backup is not None:
        click.echo(f"The previous version is {backup}")
    return True


def _pair(text: str, separator: str, option: str) -> tuple[str, str]:
    name, found, value = text.partition(separator)
    if not (found and name.strip()):
        raise click.UsageError(f"{option}: {text!r} is not NAME{separator}VALUE")
    return name.strip(), value.strip() if separator == ":" else value
