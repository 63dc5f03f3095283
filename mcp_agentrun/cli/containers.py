"""``mcp-agentrun ps`` and ``prune``: the containers on the engine."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from .options import SettingsCommand, effective_settings
from .terminal import age_of, on_engine, print_table, remove_all, size_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..sandbox import ContainerInfo, Housekeeping

__all__ = ["prune", "ps"]

_BUSY = 0.05
"""CPU use, in cores, from which a container counts as busy. An idle runner still answers pings."""


@click.command(cls=SettingsCommand, groups=("engine",), short_help="List the sandboxes on the engine.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per container.")
def ps(as_json: bool) -> None:
    """Example: mcp-agentrun ps

    List the sandboxes and installers of all servers: their owner, age, memory, and whether they are at work.
    """

    async def run(housekeeping: Housekeeping) -> Sequence[ContainerInfo]:
        return await housekeeping.containers(usage=True)

    found = sorted(on_engine(effective_settings(), run), key=lambda each: each.created)
    if as_json:
        for each in found:
            click.echo(json.dumps(_as_json(each)))
    elif found:
        rows = [
            (
                _short(each),
                _kind(each),
                _owner(each),
                age_of(each.created),
                size_of(each.memory),
                "-" if each.processes is None else str(each.processes),
                _activity(each),
            )
            for each in found
        ]
        head = ("container", "kind", "owner", "age", "memory", "procs", "activity")
        print_table([head, *rows], right=(3, 4, 5))
    else:
        click.echo("No sandboxes.")


@click.command(cls=SettingsCommand, groups=("engine",), short_help="Remove sandboxes of servers that have ended.")
@click.option("--dry-run", is_flag=True, help="Show what would be removed.")
def prune(dry_run: bool) -> None:
    """Example: mcp-agentrun prune --dry-run

    Remove the containers whose server has certainly ended. Servers do this themselves whenever they start one.
    """

    async def run(housekeeping: Housekeeping) -> bool:
        found = [each for each in await housekeeping.containers() if each.role is not None and each.is_orphaned]
        if not found:
            click.echo("Nothing to remove: every container has a server that may be running.")
        if not dry_run:
            return await remove_all(found, housekeeping.destroy, _described)
        for each in found:
            click.echo(f"would remove {_described(each)}")
        return True

    if not on_engine(effective_settings(), run):
        raise SystemExit(1)


def _short(container: ContainerInfo) -> str:
    """Return the part of its id that differs from others': the beginning of a number, or the end of a name."""
    return container.id.rpartition("-")[2][:12]


def _described(container: ContainerInfo) -> str:
    return f"{_short(container)} ({_kind(container)}, {age_of(container.created)} old)"


def _kind(container: ContainerInfo) -> str:
    return {"runner": "sandbox", None: "not ours"}.get(container.role, container.role or "")


def _owner(container: ContainerInfo) -> str:
    owner = container.owner
    if owner is None:
        return "unknown"
    if container.is_orphaned:
        return f"ended {owner.pid}"
    if not owner.is_local:
        return f"elsewhere {owner.pid}"
    import psutil

    try:
        return f"{psutil.Process(owner.pid).name()} {owner.pid}"
    except psutil.Error:
        return str(owner.pid)


def _activity(container: ContainerInfo) -> str:
    """Return whether it is starting, idle or busy."""
    if not container.is_running:
        return "starting"
    if container.cpu is None:
        return "unknown"
    return f"busy {container.cpu:.0%}" if container.cpu >= _BUSY else "idle"


def _as_json(container: ContainerInfo) -> dict[str, Any]:
    owner = container.owner
    return {
        "id": container.id,
        "name": container.name,
        "kind": _kind(container),
        "owner": None if owner is None else {"pid": owner.pid, "host": owner.host, "ended": container.is_orphaned},
        "created": container.created,
        "memory": container.memory,
        "cpu": container.cpu,
        "processes": container.processes,
        "activity": _activity(container),
    }
