"""Which packages may be installed, from where, and how much of them."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from .fields import GIB, Age, Group, OptionalPath, Requirements, Rules, Seconds, Size

__all__ = ["PackageSettings"]


class PackageSettings(Group):
    """Installation of packages."""

    install_timeout: Seconds = Field(default=600.0, description="Longest time that one installation may take.")
    auto_install: Literal["off", "known", "all"] = Field(
        default="known", description="Install imported packages; known: well-known and in packages_allow."
    )
    preinstall: Requirements = Field(default=(), description="Packages that every session has from the start.")
    allow: Rules = Field(
        default=("*",),
        alias="packages_allow",
        description="Packages that may be requested: names with *, and versions (django<5).",
    )
    deny: Rules = Field(
        default=(),
        alias="packages_deny",
        description="Packages that are never installed, not even as dependencies.",
    )
    most: int = Field(default=200, ge=1, alias="packages_most", description="Maximum number of packages per sandbox.")
    download: Size = Field(
        default=4 * GIB, alias="packages_download", description="Maximum download size of one installation."
    )
    size: Size = Field(
        default=8 * GIB, alias="packages_size", description="Maximum disk space of a sandbox's packages."
    )
    files: int = Field(
        default=200_000,
        ge=1,
        alias="packages_files",
        description="Maximum number of files and folders of a sandbox's packages.",
    )
    exclude_newer: Age = Field(
        default=None,
        alias="packages_exclude_newer",
        description="Ignore releases newer than a date, or younger than an age ('7 days').",
    )
    constraints: OptionalPath = Field(
        default=None,
        alias="packages_constraints",
        description="Constraints file: versions, and with --hash the files to use.",
    )
    require_hashes: bool = Field(
        default=False,
        alias="packages_require_hashes",
        description="Install only files that the constraints file has a hash for.",
    )
    urls: bool = Field(
        default=False, alias="packages_urls", description="Accept requirements that name the URL of a file."
    )
    build: bool = Field(
        default=False,
        alias="packages_build",
        description="Build packages without a wheel; their code runs in the installer.",
    )
    cache_size: Size = Field(
        default=10 * GIB, description="Maximum size of cached packages; the oldest are removed first."
    )
    wheelhouse: OptionalPath = Field(
        default=None, description="Folder with wheels to install from, in addition to the index."
    )
    offline: bool = Field(default=False, description="Give the installer no network: wheelhouse and cache only.")
