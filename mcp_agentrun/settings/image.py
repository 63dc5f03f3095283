"""The image that sandboxes run."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from .fields import Group, Metavar, Modules, Requirements

__all__ = ["ImageSettings"]


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
    preload: Modules = Field(
        default=("numpy", "pandas", "matplotlib.pyplot"),
        description="Modules that are already imported in every session.",
    )
