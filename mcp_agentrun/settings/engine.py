"""The container engine and how it runs containers."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from .fields import Group, Metavar, UserIds

__all__ = ["EngineSettings"]

_RESERVED_UIDS = 10002
"""The installer's is the last of them."""


class EngineSettings(Group):
    """The container engine."""

    name: Annotated[str, Metavar("NAME")] = Field(
        default="docker", alias="engine", description="Container engine to use."
    )
    runtime: Annotated[str | None, Metavar("NAME")] = Field(
        default=None, description="OCI runtime, e.g. runsc. Defaults to the engine's runtime."
    )
    accept_weak: bool = Field(
        default=False,
        alias="accept_weak_engine",
        description="Use an engine that can't enforce every limit, e.g. a rootless one.",
    )
    uid_range: UserIds = Field(default=(20000, 59999), description="User ids of sandboxes, one for each.")

    @property
    def is_gvisor(self) -> bool:
        """Whether containers run under gVisor."""
        return self.runtime is not None and "runsc" in self.runtime

    @model_validator(mode="after")
    def _check(self) -> EngineSettings:
        first, last = self.uid_range
        if not _RESERVED_UIDS < first <= last < 1 << 31:
            raise ValueError(f"uid_range must begin above {_RESERVED_UIDS} and not end before it begins")
        return self
