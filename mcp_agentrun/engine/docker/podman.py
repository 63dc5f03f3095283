"""A client for Podman, which serves Docker's API with differences. They are evened out here, and known nowhere else."""

from __future__ import annotations

import hashlib
import os
import re
import stat
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import platformdirs
from docker import APIClient
from docker.errors import APIError

from ...errors import EngineError

__all__ = ["PodmanClient", "is_podman"]

_SECCOMP = "seccomp="
_REGISTRIES = ("docker.io/library/", "localhost/")
"""What Podman puts before names without a registry."""

_SAMPLE_SECONDS = 1.0
_REMOVALS = 5
"""Tries to list what is stored: one fails if a container is removed meanwhile."""

_READ_ONLY = {
    "/run": "rw,noexec,nosuid,nodev,size=64k,mode=0755,notmpcopyup",
    "/var/tmp": "ro,noexec,nosuid,nodev,size=4k,mode=0555,notmpcopyup",  # noqa: S108
}
"""Mounts of containers with a read-only file system, in which Podman otherwise makes these folders writable."""


def is_podman(ping: Mapping[str, str]) -> bool:
    """Return whether the engine that answers a ping with these headers is Podman."""
    return "Libpod-Api-Version" in ping


class PodmanClient(APIClient):
    """Docker's client, of a Podman service."""

    gaps = ("files are limited in number only by memory", "the OCI runtime is that of containers.conf")
    """As `mcp_agentrun.engine.EngineStatus.gaps`."""

    @property
    def _docker(self) -> Any:  # whose methods have no types
        return super()

    def version(self, *args: Any, **options: Any) -> Any:
        answer = self._docker.version(*args, **options)
        return {**answer, "Platform": {}}  # which names the distribution, not the product

    def info(self) -> Any:
        answer = self._docker.info()
        if answer.get("Rootless") and (answer["CgroupVersion"] == "1" or answer["CgroupDriver"] == "cgroupfs"):
            return {**answer, "CgroupDriver": "none"}  # as Docker says it. Podman accepts limits, and ignores them.
        return answer

    def images(self, *args: Any, **options: Any) -> Any:
        return [_with_short_names(image) for image in self._docker.images(*args, **options)]

    def inspect_image(self, image: str) -> Any:
        return _with_short_names(self._docker.inspect_image(image))

    def inspect_distribution(self, image: str, *_: Any, **options: Any) -> Any:
        """Podman lacks this request; its own API has one for the same, which does not add the registry to a name."""
        name = quote(_full_name(image), safe="")
        answer = self._docker.get(f"{self.base_url}/v4.0.0/libpod/manifests/{name}/json", timeout=self.timeout)
        self._docker._raise_for_status(answer)
        return answer.json()

    def create_host_config(self, *args: Any, **options: Any) -> Any:
        config: dict[str, Any] = self._docker.create_host_config(*args, **options)
        if runtime := config.get("Runtime"):
            raise EngineError(
                f"Podman's API has no runtime {runtime!r}: it ignores which one is asked for. Set `runtime` in its "
                "containers.conf, restart its service, and unset AGENTRUN_RUNTIME."
            )
        if chosen := config.get("SecurityOpt"):
            config["SecurityOpt"] = [_seccomp_file(option) for option in chosen]
        asked: dict[str, str] = config.get("Tmpfs") or {}
        mounts = {folder: _tmpfs_options(text) for folder, text in asked.items()}
        if config.get("ReadonlyRootfs"):
            mounts = {**_READ_ONLY, **mounts}
        return {**config, "Tmpfs": mounts}

    def create_container_from_config(self, config: dict[str, Any], *args: Any, **options: Any) -> Any:
        # Podman claims that there is a terminal, of which programs then try to be sure.
        config = {**config, "Env": ["TERM=", *(config.get("Env") or ())]}
        host: dict[str, Any] = config.get("HostConfig") or {}
        for mount in host.get("Mounts") or ():
            self._label_volume(mount)
        try:
            return self._docker.create_container_from_config(config, *args, **options)
        except APIError as error:
            if "opening seccomp profile failed" not in str(error.explanation):
                raise
            raise EngineError(
                f"Podman can't read {_folder()} of this machine, where it is to find the seccomp profile of sandboxes. "
                "If it runs on another machine or in a container, copy the folder to the same path there."
            ) from error

    def _label_volume(self, mount: dict[str, Any]) -> None:
        """Make the volume of *mount* with its labels, with which it would not be made along with the container."""
        labels = mount.get("VolumeOptions", {}).get("Labels")
        if not labels:
            return
        try:
            self._docker.create_volume(mount["Source"], labels=labels)
        except APIError as error:
            if "already exists" not in str(error.explanation):  # another request has made it meanwhile
                raise

    def remove_container(self, *args: Any, **options: Any) -> None:
        try:
            self._docker.remove_container(*args, **options)
        except APIError as error:
            if "container state improper" not in str(error.explanation):
                raise
            self._docker.remove_container(*args, **options)  # it ended while it was to be ended

    def df(self) -> Any:
        for _ in range(_REMOVALS):
            try:
                return self._docker.df()
            except APIError as error:
                if "failed to get state of container" not in str(error.explanation):
                    raise
        return self._docker.df()

    def stats(self, container: Any, *args: Any, **options: Any) -> Any:
        """Unlike Docker, Podman does not sample the processor time twice."""
        before = self._docker.stats(container, *args, **options)
        time.sleep(_SAMPLE_SECONDS)
        now = self._docker.stats(container, *args, **options)
        return {**now, "precpu_stats": before["cpu_stats"]}


def _with_short_names(image: dict[str, Any]) -> dict[str, Any]:
    return {**image, "RepoTags": [_short_name(name) for name in image["RepoTags"] or ()]}


def _short_name(name: str) -> str:
    return next((name.removeprefix(prefix) for prefix in _REGISTRIES if name.startswith(prefix)), name)


def _full_name(name: str) -> str:
    first, slash, _ = name.partition("/")
    if not slash:
        return f"docker.io/library/{name}"
    return name if re.search("[.:]|^localhost$", first) else f"docker.io/{name}"


def _tmpfs_options(text: str) -> str:
    """Return those mount options of *text* that Podman takes. It has none for inodes, and for the owner only ``U``, the
    container's user.
    """
    options = text.split(",")
    names = [option.partition("=")[0] for option in options]
    kept = [option for option, name in zip(options, names, strict=True) if name not in ("gid", "nr_inodes", "uid")]
    owner = ["U"] if "uid" in names else []
    return ",".join([*kept, *owner, "notmpcopyup"])  # or it gets the mode of the image's folder


def _folder() -> Path:
    return platformdirs.user_cache_path("mcp-agentrun", appauthor=False) / "seccomp"


def _seccomp_file(option: str) -> str:
    """Replace the profile in a security option by the path of a file with it, which Podman expects."""
    if not option.startswith(_SECCOMP + "{"):
        return option
    profile = option.removeprefix(_SECCOMP).encode()
    file = _folder() / f"{hashlib.sha256(profile).hexdigest()[:16]}.json"
    try:
        _keep(file, profile)
    except OSError as error:
        raise EngineError(
            f"The seccomp profile of sandboxes, which Podman reads from a file, can't be written: {error}. Set "
            "XDG_CACHE_HOME to a folder that you can write to."
        ) from error
    return f"{_SECCOMP}{file}"


def _keep(file: Path, content: bytes) -> None:
    """Make sure that *file* has this *content*."""
    folder = file.parent
    folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    _require_own(folder, folder.parent)
    if not file.is_file() or file.read_bytes() != content:
        with tempfile.NamedTemporaryFile(dir=folder, delete=False) as new:
            new.write(content)
        os.chmod(new.name, 0o644)
        Path(new.name).replace(file)


def _require_own(*folders: Path) -> None:
    """:raises EngineError: another user could replace what is in *folders*."""
    if sys.platform == "win32":
        return
    for folder in folders:
        found = folder.lstat()
        is_own = stat.S_ISDIR(found.st_mode) and found.st_uid in (0, os.geteuid())
        if not is_own or found.st_mode & 0o022:
            raise EngineError(
                f"Other users can change {folder}, where Podman is to find the seccomp profile of sandboxes. Make sure "
                "that it is a folder of yours that only you can write to, or set XDG_CACHE_HOME."
            )
