"""The tests' view of the engine, by which none can change what is another server's."""

from __future__ import annotations

import os
import re
from typing import Any

import psutil
from docker import APIClient

from mcp_agentrun.engine import LABEL_OWNER
from mcp_agentrun.engine.owner import Owner

__all__ = ["own_only"]

_CHANGES = re.compile(r"/(containers|volumes|networks)/([^/?]+)(?:/(\w+))?")
_HARMLESS = ("wait", "attach")


def own_only(client: APIClient) -> APIClient:
    """*client*, which from now on refuses to change containers, volumes and networks but those of these tests: what it
    has made itself, what servers of this process and its children have, and what nobody has any more.
    """
    made: set[str] = set()
    before = {volume["Name"] for volume in client.volumes()["Volumes"] or ()}
    request: Any = client.request

    def is_own(kind: str, name: str) -> bool:
        if kind == "volumes":
            return name not in before
        return name in made or (kind == "containers" and _is_of_these_tests(client.inspect_container(name)))

    def guarded(method: str, url: str, *arguments: Any, **options: Any) -> Any:
        match = _CHANGES.search(url) if method.upper() != "GET" else None
        if match is not None and match[2] != "create" and match[3] not in _HARMLESS:
            assert match[2] != "prune" and is_own(match[1], match[2]), f"{match[2]} is none of these tests'"
        answer = request(method, url, *arguments, **options)
        if match is not None and match[2] == "create" and answer.ok:
            made.add(answer.json().get("Id", answer.json().get("Name")))
        return answer

    setattr(client, "request", guarded)  # noqa: B010
    return client


def _is_of_these_tests(container: dict[str, Any]) -> bool:
    owner = Owner.from_label(container["Config"]["Labels"].get(LABEL_OWNER, ""))
    if owner is None:
        return False
    if owner.has_ended():
        return True
    try:
        ours = {os.getpid(), *(child.pid for child in psutil.Process().children(recursive=True))}
    except psutil.NoSuchProcess:
        return False
    return owner == Owner.of(owner.pid) and owner.pid in ours
