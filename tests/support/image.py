"""The runner image: the packages pinned for it, and other names for it."""

from __future__ import annotations

import io
import re
import secrets
import tarfile
from collections.abc import Generator
from contextlib import contextmanager

from docker import APIClient

from tests.support import CHECKOUT
from tests.support.containers import volume_of
from tests.support.engines import ENGINE


def pinned_versions() -> dict[str, str]:
    """Version of each package that the image has by default, by name."""
    text = (CHECKOUT / "runner_image" / "constraints.txt").read_text()
    return dict(re.findall(r"^(\S+)==(\S+) ;", text, re.MULTILINE))


def import_image(api: APIClient, name: str, **labels: str) -> None:
    """Make an almost empty image with *labels*, called *name*."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("empty"))
    changes = [f"LABEL {key}={value}" for key, value in labels.items()]
    answer = api.import_image_from_data(file.getvalue(), changes=changes)
    repository, _, tag = name.rpartition(":")
    api.tag(re.findall(r"sha256:[0-9a-f]{64}", answer)[0], repository, tag)


@contextmanager
def named_anew(api: APIClient, image: str) -> Generator[str]:
    """Another name of *image*, to which an empty package volume belongs: the usual one has what others installed.

    In a cluster, whose nodes know only the one name, packages belong to the server.
    """
    if ENGINE == "kubernetes":
        yield image
        return
    name = f"mcp-agentrun-test:{secrets.token_hex(6)}"
    repository, _, tag = name.partition(":")
    api.tag(image, repository, tag)
    try:
        yield name
    finally:
        api.remove_image(name)
        volume = volume_of(name)
        if any(each["Name"] == volume for each in api.volumes()["Volumes"] or ()):
            api.remove_volume(volume)
