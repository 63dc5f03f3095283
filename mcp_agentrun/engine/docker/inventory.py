"""Containers, images and volumes on a Docker engine, and the engine's state. All functions block."""

from __future__ import annotations

import contextlib
import shutil
import sys
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from pydantic import AwareDatetime, TypeAdapter, ValidationError

from .. import LABEL_OWNER, LABEL_ROLE, LABEL_SANDBOX, ContainerInfo, EngineStatus, StorageItem
from ..owner import Owner
from .image import LABEL_IMAGE, ImageRecipe, build_obstacle, is_build_locked
from .pull import architecture, inspect_image, registry_obstacle
from .server_container import ServerContainer, orphans

if TYPE_CHECKING:
    from .api import DockerApi

__all__ = ["is_local", "list_containers", "list_storage", "remove_storage", "status", "weaknesses"]

_LOCAL = ("http+docker://localhost", "http+docker://localnpipe")
"""URLs that the SDK uses for engines on a socket or pipe of this machine. Over ssh it is ``http+docker://ssh``."""

_OLDEST_API = (1, 41)
_NAME = "mcp-agentrun-"
_SAMPLES = 32
"""Number of containers that are measured concurrently. The engine takes one or two seconds for each."""

_TIME = TypeAdapter(AwareDatetime)


def is_local(client: DockerApi, *, same_system: bool = True) -> bool:
    """Return whether the engine is on this machine.

    :param same_system: and not in a virtual machine.
    """
    return client.base_url in _LOCAL and (sys.platform == "linux" or not same_system)


def status(client: DockerApi, recipe: ImageRecipe, image: str | None) -> EngineStatus:
    """See `mcp_agentrun.engine.Engine.status`.

    :param image: an image that is used instead of that of *recipe*.
    """
    from .podman import PodmanClient

    info, version = client.info(), client.version()
    name = image or recipe.tag
    found = inspect_image(client, name)
    obstacle = None
    if found is None and image is not None:
        obstacle = registry_obstacle(client, image)
    elif found is None:
        obstacle = build_obstacle(client, recipe)
    free_disk = None
    if is_local(client):
        with contextlib.suppress(OSError, KeyError):
            free_disk = shutil.disk_usage(info["DockerRootDir"]).free
    platform: dict[str, str] = version.get("Platform") or {}
    product = platform.get("Name") or version["Components"][0]["Name"]
    return EngineStatus(
        address=client.base_url,
        version=f"{product} {version['Version']}, API {version['ApiVersion']}",
        is_outdated=tuple(map(int, version["ApiVersion"].split("."))) < _OLDEST_API,
        weaknesses=tuple(weaknesses(info)),
        gaps=PodmanClient.gaps if isinstance(client, PodmanClient) else (),
        architecture=architecture(info),
        image=name,
        image_architecture=None if found is None else architecture(found),
        image_obstacle=obstacle,
        is_building=is_build_locked(),
        memory=info["MemTotal"],
        free_disk=free_disk,
        time=_seconds(info["SystemTime"]),
    )


def weaknesses(info: dict[str, Any]) -> list[str]:
    """Return the restrictions of sandboxes that an engine can't enforce, by its own *info*."""
    if info.get("OSType", "linux") != "linux":
        return [f"it runs {info['OSType']} containers, not Linux containers"]
    options = [option.partition(",")[0] for option in info.get("SecurityOptions") or ()]
    found = [] if "name=seccomp" in options else ["it has no seccomp"]
    if info.get("CgroupDriver") == "none":
        return [*found, "it has no cgroups, so it can't enforce any limit"]
    return found + [
        f"it does not limit {what}"
        for key, what in (("MemoryLimit", "memory"), ("PidsLimit", "processes"), ("CpuCfsQuota", "CPU"))
        if not info.get(key)
    ]


def list_containers(client: DockerApi, server: ServerContainer | None, *, usage: bool) -> list[ContainerInfo]:
    """See `mcp_agentrun.engine.Engine.list_containers`.

    :param server: the container of this process.
    """
    listed: dict[str, dict[str, Any]] = {}
    for filters in ({"label": LABEL_ROLE}, {"name": _NAME}):
        listed.update((each["Id"], each) for each in client.containers(all=True, filters=filters))
    running: list[str] = [id_ for id_, each in listed.items() if usage and each["State"] == "running"]
    with ThreadPoolExecutor(_SAMPLES) as threads:
        measured = dict(zip(running, threads.map(partial(_usage, client), running), strict=True))
    ended = orphans(client, listed.values(), server)
    return [_container(each, id_ in ended, measured.get(id_, {})) for id_, each in listed.items()]


def _container(listed: dict[str, Any], is_orphaned: bool, usage: dict[str, Any]) -> ContainerInfo:
    labels: dict[str, str] = listed["Labels"] or {}
    return ContainerInfo(
        id=listed["Id"],
        name=(listed["Names"] or ["?"])[0].strip("/"),
        role=labels.get(LABEL_ROLE),
        sandbox=labels.get(LABEL_SANDBOX, ""),
        owner=Owner.from_label(labels.get(LABEL_OWNER, "")),
        is_orphaned=is_orphaned,
        created=listed["Created"],
        is_running=listed["State"] == "running",
        **usage,
    )


def _usage(client: DockerApi, container: str) -> dict[str, Any]:
    """Return the resource usage of a running container. Empty if it has ended or the engine can't measure it."""
    import docker.errors

    # ValueError: the answer is empty if the container ends while it is measured.
    with contextlib.suppress(docker.errors.APIError, KeyError, ValueError, ZeroDivisionError):
        now: dict[str, Any] = client.stats(container, stream=False)
        memory, cpu, before = now["memory_stats"], now["cpu_stats"], now["precpu_stats"]
        details: dict[str, int] = memory.get("stats") or {}
        cached = details.get("inactive_file", details.get("total_inactive_file", 0))
        used = cpu["cpu_usage"]["total_usage"] - before["cpu_usage"]["total_usage"]
        passed = cpu["system_cpu_usage"] - before["system_cpu_usage"]
        return {
            "memory": memory["usage"] - cached,
            "cpu": used / passed * cpu["online_cpus"],
            "processes": now["pids_stats"].get("current"),
        }
    return {}


def list_storage(client: DockerApi, kind: Literal["image", "volume"], needed: Collection[str]) -> list[StorageItem]:
    """See `mcp_agentrun.engine.Engine.list_storage`.

    :param needed: names of items that the next sandbox will use.
    """
    return list(_images(client, needed) if kind == "image" else _volumes(client, needed))


def _images(client: DockerApi, needed: Collection[str]) -> Iterator[StorageItem]:
    found = client.images(filters={"label": LABEL_IMAGE})
    in_use = {container["ImageID"] for container in client.containers(all=True)}
    for image in sorted(found, key=lambda image: image["Created"], reverse=True):  # children before their parents
        tags: Sequence[str] = [tag for tag in image["RepoTags"] or () if tag != "<none>:<none>"]
        yield StorageItem(
            kind="image",
            id=image["Id"],
            name=", ".join(tags) or image["Id"].removeprefix("sha256:")[:12],
            size=image["Size"],
            created=image["Created"],
            # Without a registry, the next build needs the base.
            is_used=image["Id"] in in_use or not set(tags).isdisjoint(needed) or image["Labels"][LABEL_IMAGE] == "base",
        )


def _volumes(client: DockerApi, needed: Collection[str]) -> Iterator[StorageItem]:
    volumes = client.volumes(filters={"label": LABEL_ROLE})["Volumes"] or ()
    sizes: dict[str, dict[str, int]] = (
        {each["Name"]: each.get("UsageData") or {} for each in client.df()["Volumes"] or ()} if volumes else {}
    )
    for volume in volumes:
        usage = sizes.get(volume["Name"], {})
        yield StorageItem(
            kind="volume",
            id=volume["Name"],
            name=volume["Name"],
            size=size if (size := usage.get("Size", -1)) >= 0 else None,
            created=_seconds(volume["CreatedAt"]) if volume.get("CreatedAt") else None,
            is_used=volume["Name"] in needed or usage.get("RefCount", 0) > 0,
        )


def remove_storage(client: DockerApi, item: StorageItem) -> None:
    """See `mcp_agentrun.engine.Engine.remove_storage`."""
    import docker.errors

    with contextlib.suppress(docker.errors.NotFound):
        if item.kind == "volume":
            client.remove_volume(item.id)
            return
        for tag in client.inspect_image(item.id)["RepoTags"] or ():
            client.remove_image(tag)
        client.remove_image(item.id)  # which is still there if it had no tag


def _seconds(text: str) -> float:
    """Convert a time as the engine writes it, which can have nanoseconds, to seconds since the epoch."""
    try:
        return _TIME.validate_python(text).timestamp()
    except ValidationError:
        return 0.0
