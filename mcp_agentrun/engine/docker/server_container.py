"""The container that this server runs in, if it is one of the engine's: a sibling of its sandboxes."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from .. import LABEL_OWNER
from ..owner import Owner

if TYPE_CHECKING:
    from .api import DockerApi

__all__ = ["LABEL_SERVER", "ServerContainer", "orphans"]

LABEL_SERVER = "mcp-agentrun.server"
"""Label with the id of the container that the owner runs in."""

_OWN_ID = re.compile(r"/([0-9a-f]{64})/(?:userdata/)?hostname /etc/hostname ")
"""The file that engines mount as /etc/hostname lies in a folder named after the container."""


@dataclass(frozen=True)
class ServerContainer:
    """A container of the engine that this process runs in."""

    id: str
    mounts: Mapping[str, str]
    """Path on the engine's machine of what is mounted, by path in this container."""

    @classmethod
    def find(cls, client: DockerApi) -> ServerContainer | None:
        """Return the container of this process. None if it runs in none, or in one of another engine."""
        try:
            own = _OWN_ID.search(Path("/proc/self/mountinfo").read_text())
        except OSError:
            return None
        found = _running(client, [own[1]]) if own else []
        if not found:
            return None
        mounts = {each["Destination"]: each.get("Source") or "" for each in found[0].get("Mounts") or ()}
        return cls(found[0]["Id"], mounts)

    def host_path(self, path: Path) -> str | None:
        """Return what *path*, without links, is on the engine's machine. None if it is in no mount."""
        for folder in (path, *path.parents):
            if source := self.mounts.get(str(folder)):
                return str(PurePosixPath(source, path.relative_to(folder)))
        return None


def orphans(
    client: DockerApi, containers: Collection[Mapping[str, Any]], server: ServerContainer | None
) -> frozenset[str]:
    """Return the ids of those of *containers*, as the engine lists them, whose owners have certainly ended.

    The process id of an owner in another container means nothing here, but it has ended if that container does not run
    any more.

    :param server: the container of this process.
    """
    # Asked after *containers* were listed: an owner's container that does not run now has run until then.
    owners = {label for each in containers if (label := _labels(each).get(LABEL_SERVER))}
    running = {each["Id"] for each in (_running(client, owners) if owners else ())}
    here = Owner.current()

    def has_ended(labels: Mapping[str, str]) -> bool:
        owner, container = Owner.from_label(labels.get(LABEL_OWNER, "")), labels.get(LABEL_SERVER)
        if owner is None:
            return False
        if container and container not in running:
            return True
        is_here = (owner.boot, owner.namespace) == (here.boot, here.namespace)
        if server is not None and container == server.id and not is_here:
            return True  # this container was restarted, and has one pid namespace at a time
        return owner.has_ended()

    return frozenset(each["Id"] for each in containers if has_ended(_labels(each)))


def _labels(listed: Mapping[str, Any]) -> Mapping[str, str]:
    return listed.get("Labels") or {}


def _running(client: DockerApi, ids: Iterable[str]) -> list[dict[str, Any]]:
    return client.containers(filters={"id": sorted(ids)})
