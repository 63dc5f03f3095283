"""What is done in sandboxes, for those who keep a record of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

from ..packages.installer import Installed
from .result import Result

__all__ = [
    "Event",
    "FileDone",
    "FileOperation",
    "InstallDone",
    "Observation",
    "Observer",
    "Refused",
    "ResetDone",
    "RunAccepted",
    "RunDone",
    "Timing",
    "observed",
]

FileOperation = Literal["write", "read", "stat", "list", "remove"]


@dataclass(frozen=True)
class Timing:
    """How long a call took, and how it ended."""

    seconds: float
    """From its arrival, including the wait for its turn."""
    queued: float
    """Seconds that it waited for its turn."""
    error: BaseException | None
    """What it raised, or None if it returned."""
    ended_at: int = field(default_factory=time.time_ns)
    """When it ended, in nanoseconds since the epoch."""


@dataclass(frozen=True)
class RunDone:
    """Code was run, or should have been."""

    sandbox: str
    timing: Timing
    code: str
    result: Result | None
    """None if the call raised an error."""


@dataclass(frozen=True)
class RunAccepted:
    """Code will be run in the background, or was refused. `RunDone` follows at its end."""

    sandbox: str
    timing: Timing
    code: str


@dataclass(frozen=True)
class InstallDone:
    """Packages were installed, or should have been."""

    sandbox: str
    timing: Timing
    requirements: tuple[str, ...]
    """As they were given. URLs may contain credentials."""
    cause: Literal["request", "code", "restore"]
    """Who wanted it: a caller, code that needs packages, or the server because installed packages were gone."""
    installed: Installed | None
    """None if nothing was installed."""


@dataclass(frozen=True)
class ResetDone:
    """A sandbox was reset, or should have been."""

    sandbox: str
    timing: Timing
    keep_packages: bool
    keep_files: bool


@dataclass(frozen=True)
class FileDone:
    """A caller used a file of the workspace, or a folder, or tried to."""

    sandbox: str
    timing: Timing
    operation: FileOperation
    path: str
    size: int | None
    """Bytes that were written or read; None for other operations, and after an error."""


@dataclass(frozen=True)
class Refused:
    """A caller did not get a sandbox, or a run in the background. The error says why."""

    timing: Timing


Event = RunAccepted | RunDone | InstallDone | ResetDone | FileDone | Refused

Observer = Callable[[Event], None]
"""Receives each event in the task of the call that it is about, when that ends. It must neither block nor raise errors.
"""


class Observation:
    """One call that is being observed."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._queued = 0.0

    def has_turn(self) -> None:
        """Its turn has come, for the first time: what came before was the wait for it."""
        self._queued = self._queued or time.monotonic() - self._started

    def timing(self, error: BaseException | None) -> Timing:
        return Timing(time.monotonic() - self._started, self._queued, error)


@contextmanager
def observed(observer: Observer | None, event: Callable[[Timing], Event]) -> Generator[Observation]:
    """Report the call that the context contains to *observer*, if there is one.

    :param event: makes what is reported, at the end.
    """
    observation = Observation()
    if observer is None:
        yield observation
        return
    try:
        yield observation
    except BaseException as error:
        observer(event(observation.timing(error)))
        raise
    observer(event(observation.timing(None)))
