"""Limits of each sandbox and of each call."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from .fields import GIB, KIB, MIB, Group, Seconds, Size

__all__ = ["LimitSettings", "SandboxLimits"]

_MEMORY_FOR_PYTHON = 150 * MIB
_FOLDERS = ("workspace_size", "tmp_size", "shm_size")
_SMALLEST_FOLDERS = 24 * MIB
"""Smallest total to which folders are reduced whose size was not given."""


class SandboxLimits(BaseModel):
    """Limits of one sandbox, each of which can be lower than the operator's. Sizes are in bytes."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, from_attributes=True)

    max_timeout: float | None = Field(default=None, gt=0, description="Longest run time of a call, in seconds.")
    memory: int | None = Field(default=None, gt=0, description="Memory, including the files it holds.")
    cpus: float | None = Field(default=None, ge=0.01, description="CPU cores.")
    pids: int | None = Field(default=None, ge=16, description="Processes and threads.")
    workspace_size: int | None = Field(default=None, gt=0, description="Size of /workspace.")
    tmp_size: int | None = Field(default=None, gt=0, description="Size of /tmp.")
    shm_size: int | None = Field(default=None, gt=0, description="Size of /dev/shm.")


class LimitSettings(Group):
    """Limits of each sandbox and each call."""

    timeout: Seconds = Field(default=30.0, description="Run time of a call that sets no `timeout`.")
    max_timeout: Seconds = Field(default=300.0, description="Longest run time that a call may ask for.")
    memory: Size = Field(default=GIB, description="Memory of a sandbox, including the files it holds. No swap.")
    cpus: float = Field(default=1.0, ge=0.01, le=1024, description="CPU cores of a sandbox.")
    pids: int = Field(
        default=64, ge=16, description="Processes and threads of a sandbox; at least 1024 with runsc (gVisor)."
    )
    open_files: int = Field(default=256, ge=64, description="Open files per process.")
    workspace_size: Size = Field(
        default=256 * MIB, description="Size of /workspace, and the largest size of a single file."
    )
    tmp_size: Size = Field(default=64 * MIB, description="Size of /tmp.")
    shm_size: Size = Field(default=64 * MIB, description="Size of /dev/shm.")
    inodes: int = Field(default=16384, ge=64, description="Files and folders in each of /workspace, /tmp and /dev/shm.")
    output_show: Size = Field(
        default=64 * KIB, ge=256, description="Output shown in an answer; of longer output, its beginning and end."
    )
    output_keep: Size = Field(default=8 * MIB, description="Output kept of a run; the rest is counted and discarded.")
    code_limit: Size = Field(default=256 * KIB, le=512 * KIB, description="Longest code accepted, in UTF-8.")
    checkpoints: bool = Field(
        default=True, description="Keep a copy of the variables, so that a session survives a crash."
    )
    queue: int = Field(default=16, ge=1, description="Calls that may wait for one sandbox.")
    max_sandboxes: int = Field(default=16, ge=1, description="Maximum number of sandboxes per client.")

    @model_validator(mode="after")
    def _check(self) -> LimitSettings:
        self._fit_folders()
        if self.timeout > self.max_timeout:
            raise ValueError(f"timeout ({self.timeout:g} s) exceeds max_timeout ({self.max_timeout:g} s)")
        if self.output_show > self.output_keep:
            raise ValueError("output_show exceeds output_keep")
        return self

    def lowered(self, wanted: SandboxLimits) -> LimitSettings:
        """Return these limits with those that are *wanted*. As here, folders without a size leave memory for Python.

        :raises ValueError: one exceeds the limit here, or they contradict one another.
        """
        values = wanted.model_dump(exclude_none=True)
        for name, value in values.items():
            if value > (most := getattr(self, name)):
                raise ValueError(f"{name} is {value}, but this server allows at most {most}")
        given: dict[str, Any] = self.model_dump(include=self.model_fields_set) | values
        given["timeout"] = min(self.timeout, given.get("max_timeout", self.timeout))
        made = LimitSettings(**given)
        return made.model_copy(update={name: min(getattr(made, name), getattr(self, name)) for name in _FOLDERS})

    def _fit_folders(self) -> None:
        """Reduce the folders whose size was not given, in proportion, so that they leave memory for Python."""
        sizes: dict[str, int] = {name: getattr(self, name) for name in _FOLDERS}
        free, total = self.memory - _MEMORY_FOR_PYTHON, sum(sizes.values())
        defaults = {name: size for name, size in sizes.items() if name not in self.model_fields_set}
        left = free - (total - sum(defaults.values()))
        if total > free and left >= _SMALLEST_FOLDERS:
            share = left / sum(defaults.values())
            for name, size in defaults.items():  # the model is frozen
                object.__setattr__(self, name, int(size * share) // MIB * MIB)
        elif total > free:
            raise ValueError(
                f"{' + '.join(_FOLDERS)} ({total // MIB} MiB) must not exceed memory less 150 MiB "
                f"({free // MIB} MiB), because these folders are kept in memory; lower them or raise memory"
            )
