"""``mcp-agentrun uninstall``: remove everything that this program has made."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..errors import AgentRunError, EngineError
from .client import ENTRY, client_entries
from .options import SettingsCommand, effective_settings
from .terminal import agreed, note, on_engine, print_table, remove_all, size_of

if TYPE_CHECKING:
    from ..sandbox import ContainerInfo, Housekeeping, StorageItem
    from .clients import ClientFile

__all__ = ["uninstall"]


@dataclass
class _Traces:
    """What is to be removed."""

    containers: list[ContainerInfo] = field(default_factory=list["ContainerInfo"])
    stored: list[StorageItem] = field(default_factory=list["StorageItem"])
    folders: list[tuple[str, Path]] = field(default_factory=list[tuple[str, Path]])
    clients: list[tuple[str, ClientFile]] = field(default_factory=list[tuple[str, "ClientFile"]])

    def rows(self) -> Iterator[tuple[str, str, str]]:
        yield from (("container", "", each.name) for each in self.containers)
        yield from ((each.kind, size_of(each.size), each.name) for each in self.stored)
        yield from ((what, size_of(_size(path)), str(path)) for what, path in self.folders)
        yield from (("client entry", "", str(file.path)) for _, file in self.clients)


@click.command(
    cls=SettingsCommand, groups=("engine",), short_help="Remove images, volumes, cache, entries, tokens, settings."
)
@click.option("--yes", "-y", is_flag=True, help="Remove without asking.")
@click.option("--dry-run", is_flag=True, help="Show what would be removed.")
def uninstall(yes: bool, dry_run: bool) -> None:
    """Example: mcp-agentrun uninstall --dry-run

    Remove what this program has made: containers, images and volumes on the engine, its cache, tokens and settings,
    and its entries in the files of clients. Shows it with sizes, and asks first.
    """
    settings = effective_settings()
    traces = _Traces(folders=list(_folders()), clients=list(client_entries()))
    is_complete = True

    async def look(housekeeping: Housekeeping) -> None:
        traces.containers = [each for each in await housekeeping.containers() if each.role is not None]
        traces.stored = [*await housekeeping.list_storage("image"), *await housekeeping.list_storage("volume")]

    try:
        on_engine(settings, look)
    except EngineError as error:
        note(f"{error}\nContainers, images and volumes were not removed.")
        is_complete = False
    rows = list(traces.rows())
    if not rows:
        click.echo("There is nothing to remove.")
        sys.exit(0 if is_complete else 1)
    print_table([("kind", "size", "name"), *rows], right=(1,))
    living = sum(not each.is_orphaned for each in traces.containers)
    if living:
        click.echo(f"{living} of the containers may belong to running servers, which will lose their sandboxes.")
    if dry_run or not agreed("Remove all this?", yes=yes, default=False):
        return

    async def remove(housekeeping: Housekeeping) -> bool:
        containers = await remove_all(traces.containers, housekeeping.destroy, lambda each: each.name)
        return await remove_all(traces.stored, housekeeping.remove_storage, lambda each: each.name) and containers

    if traces.containers or traces.stored:
        try:
            is_complete = on_engine(settings, remove) and is_complete
        except EngineError as error:
            note(str(error))
            is_complete = False
    is_complete = _remove_files(traces) and is_complete
    if is_complete:
        click.echo("Done.")
    click.echo("To remove the program itself, use the tool that installed it, e.g. `pip uninstall mcp-agentrun`.")
    sys.exit(0 if is_complete else 1)


def _folders() -> Iterator[tuple[str, Path]]:
    """Find this program's own folders, by what they hold."""
    import platformdirs

    found: dict[Path, str] = {}
    for what, locate in (
        ("settings", platformdirs.user_config_path),
        ("tokens", platformdirs.user_data_path),
        ("state", platformdirs.user_state_path),
        ("cache", platformdirs.user_cache_path),
    ):
        path = locate("mcp-agentrun", appauthor=False)
        found[path] = f"{found[path]}, {what}" if path in found else what  # some systems have one folder for several
    # On Windows, the cache is in the folder of the rest.
    return (
        (what, path)
        for path, what in found.items()
        if path.exists() and not any(each in found for each in path.parents)
    )


def _remove_files(traces: _Traces) -> bool:
    is_complete = True
    for _, file in traces.clients:
        try:
            file.write(file.without_entry(ENTRY))
        except AgentRunError as error:
            note(str(error))
            is_complete = False
    for _, path in traces.folders:
        try:
            shutil.rmtree(path)
        except OSError as error:
            # For a link, Python gives no reason, or none that a person would understand.
            reason = "it is a symbolic link" if path.is_symlink() else error.strerror
            note(f"{path} can't be removed: {reason}")
            is_complete = False
    return is_complete


def _size(path: Path) -> int:
    size = 0
    for folder, _, names in os.walk(path):
        for name in names:
            with suppress(OSError):  # a running server has removed it
                size += os.lstat(os.path.join(folder, name)).st_size
    return size
