"""``mcp-agentrun image``: the images on the engine."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from .options import SettingsGroup, effective_settings
from .terminal import age_of, agreed, counted, on_engine, print_table, remove_all, size_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..sandbox import Housekeeping, StorageItem

__all__ = ["image"]

_GROUPS = ("image", "engine")


@click.group(cls=SettingsGroup, groups=_GROUPS, short_help="List, push or remove images.")
def image() -> None:
    """Example: mcp-agentrun image prune

    List the images that were built for sandboxes, push one to a registry, or remove those that nothing needs. `build`
    makes them.
    """


async def _images(housekeeping: Housekeeping) -> Sequence[StorageItem]:
    return await housekeeping.list_storage("image")


@image.command("list", groups=_GROUPS, short_help="List the images.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per image.")
def list_(as_json: bool) -> None:
    """Example: mcp-agentrun image list

    List the images that were built for sandboxes. They share layers: together they take less than their sum.
    """
    found = on_engine(effective_settings(), _images)
    if as_json:
        for each in found:
            fields = {
                "id": each.id,
                "name": each.name,
                "size": each.size,
                "created": each.created,
                "used": each.is_used,
            }
            click.echo(json.dumps(fields))
    elif found:
        rows = [
            (size_of(each.size), age_of(each.created), "yes" if each.is_used else "no", each.name) for each in found
        ]
        print_table([("size", "age", "needed", "image"), *rows], right=(0, 1))
    else:
        click.echo("No images. `mcp-agentrun build` makes them.")


@image.command("push", groups=("image",), short_help="Push the image, for a cluster.")
@click.argument("repository", metavar="REGISTRY/NAME")
def push_(repository: str) -> None:
    """Example: mcp-agentrun image push registry.example/team/runner

    Build the runner image with Docker unless it exists, push it, and print its reference with its digest, which is what
    AGENTRUN_IMAGE is for a cluster. Credentials are those of `docker login`.
    """
    from .progress import Progress

    async def run(housekeeping: Housekeeping) -> str:
        with Progress() as progress:
            return await housekeeping.push_image(repository, progress)

    click.echo(on_engine(effective_settings(engine="docker"), run))


@image.command("prune", groups=_GROUPS, short_help="Remove images that nothing needs.")
@click.option("--yes", "-y", is_flag=True, help="Remove without asking.")
@click.option("--dry-run", is_flag=True, help="Show what would be removed.")
def prune_(yes: bool, dry_run: bool) -> None:
    """Example: mcp-agentrun image prune --yes

    Remove the images of other releases and settings that no container uses. They are built again when needed.
    """
    settings = effective_settings()
    found = [each for each in on_engine(settings, _images) if not each.is_used]
    if not found:
        click.echo("Nothing to remove: every image is needed.")
        return
    rows = [(size_of(each.size), age_of(each.created), each.name) for each in found]
    print_table([("size", "age", "image"), *rows], right=(0, 1))
    if not dry_run and agreed(f"Remove {counted(len(found), 'image')}?", yes=yes, default=False):

        async def remove(housekeeping: Housekeeping) -> bool:
            return await remove_all(found, housekeeping.remove_storage, lambda each: each.name)

        if not on_engine(settings, remove):
            raise SystemExit(1)
