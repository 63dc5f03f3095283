"""The image that sandboxes run."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, Field

from .fields import Group, Metavar, Modules, Requirements

__all__ = ["ImageSettings"]

_REPOSITORY = r"(?:[\w.-]+(?::\d+)?/|\[[0-9a-f:]+\](?::\d+)?/)?[a-z0-9._-]+(?:/[a-z0-9._-]+)*"
_PUBLISHED = re.compile(rf"{_REPOSITORY}|{_REPOSITORY}(?::[\w.-]+)?@sha256:[0-9a-f]{{64}}", re.ASCII)


def _check_repository(value: str | None) -> str | None:
    if value is not None and not _PUBLISHED.fullmatch(value):
        raise ValueError(
            "name a repository without a tag, as in registry.example/team/runner, or one image with its digest, as in "
            "registry.example/team/runner@sha256:..."
        )
    return value


class ImageSettings(Group):
    """The image that sandboxes run."""

    name: Annotated[str | None, Metavar("IMAGE")] = Field(
        default=None, alias="image", description="Image to run instead of building one."
    )
    base: Annotated[str, Metavar("IMAGE")] = Field(
        default="python:3.13-slim", alias="image_base", description="Base image of the runner image."
    )
    packages: Requirements = Field(
        default=("numpy", "pandas", "matplotlib"),
        alias="image_packages",
        description="Packages built into the runner image.",
    )
    registry: Annotated[str | None, AfterValidator(_check_repository), Metavar("REPOSITORY")] = Field(
        default=None,
        alias="image_registry",
        description="Repository to pull the runner image from first; `none`: build it.",
    )
    preload: Modules = Field(
        default=("numpy", "pandas", "matplotlib.pyplot"),
        description="Modules that are already imported in every session.",
    )
