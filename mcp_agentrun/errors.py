"""Every error that this package raises on purpose.

    AgentRunError
     ├── SettingsError           a setting is unknown, malformed or contradicts another
     ├── InvalidRequestError     an argument of the call is invalid: change the request
     ├── FileError               a file of the workspace can't be read, written, listed or removed
     ├── InstallError            packages could not be installed
     └── UnavailableError        not the code's fault; the same call may succeed later
          ├── BusyError          too many calls are waiting for the sandbox
          ├── CapacityError      a server has no room for another sandbox or run
          ├── EngineError        the container engine is missing, refused or failed
          │    └── ImageError    the runner image is missing and could not be built
          ├── NotReadyError      still starting
          └── SandboxLostError   the container went away during the call: whether the code ran to its end is unknown

The text of each is written for the person or model that reads it: what happened and what to do. What a program needs is
in attributes. A failure of user code is no error but a `Result`.
"""

from __future__ import annotations

from typing import Literal

__all__ = [
    "AgentRunError",
    "BusyError",
    "CapacityError",
    "CapacityReason",
    "EngineError",
    "FileError",
    "FileReason",
    "ImageError",
    "InstallError",
    "InvalidRequestError",
    "NotReadyError",
    "SandboxLostError",
    "SettingsError",
    "UnavailableError",
    "extra_advice",
]


class AgentRunError(Exception):
    """Base of all errors of this package::

    try:
        sandbox.files.write("large.bin", data)
    except FileError as error:
        print(error.reason, error.limit)  # full 268435456
    except UnavailableError:
        ...  # try again
    """


class SettingsError(AgentRunError):
    """A setting is unknown, malformed, or contradicts another one.

    :ivar setting: its flat name, such as ``memory``; the first if there are several, None where the message is about a
        file.
    :ivar origin: where its value came from: ``argument``, ``flag``, ``environment``, or the path of a settings file.
    """

    def __init__(self, message: str, *, setting: str | None = None, origin: str | None = None) -> None:
        super().__init__(message)
        self.setting = setting
        self.origin = origin


class InvalidRequestError(AgentRunError):
    """An argument of the call is invalid; nothing was done.

    :ivar argument: its name, or None where that does not apply.
    :ivar limit: the limit that it exceeds, in the argument's unit (seconds, bytes), or None.
    """

    def __init__(self, message: str, *, argument: str | None = None, limit: float | None = None) -> None:
        super().__init__(message)
        self.argument = argument
        self.limit = limit


FileReason = Literal[
    "missing",
    "outside",
    "name",
    "link",
    "folder",
    "not_a_folder",
    "not_a_file",
    "denied",
    "read_only",
    "full",
    "memory",
    "too_large",
    "too_many",
    "sparse",
    "busy",
    "changed",
    "failed",
]
"""Why a file can't be accessed. ``outside`` and ``name`` are about its path, ``link`` and ``not_a_folder`` about a part
of that; ``full`` and ``memory`` are limits of the sandbox; ``busy`` and ``changed`` may be gone at the next try.
"""


class FileError(AgentRunError):
    """A file of the workspace can't be read, written, listed or removed. Nothing has changed."""

    def __init__(
        self, message: str, *, path: str = "", reason: FileReason = "failed", limit: int | None = None
    ) -> None:
        super().__init__(message)
        self.path = path
        """As it was given."""
        self.reason: FileReason = reason
        self.limit = limit
        """The limit that was reached, in bytes or, for ``too_many``, files."""


class InstallError(AgentRunError):
    """Packages could not be installed; the session's packages are as they were before.

    :ivar requirements: what was to be installed.
    """

    def __init__(self, message: str, *, requirements: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.requirements = requirements


class UnavailableError(AgentRunError):
    """A call could not be carried out for a reason that is not the code's. The same call may succeed later."""


class BusyError(UnavailableError):
    """Too many calls are waiting for the sandbox.

    :ivar limit: how many may wait: the setting ``queue``.
    """

    def __init__(self, message: str, *, limit: int = 0) -> None:
        super().__init__(message)
        self.limit = limit


CapacityReason = Literal["quota", "memory", "queue", "capacity"]
"""Why a server refuses a sandbox, or a run in the background: the client's quota, the machine's memory, a full
queue, or none free in time.
"""


class CapacityError(UnavailableError):
    """A server has no room for another sandbox, or for another run in the background.

    :ivar reason: which limit was reached.
    :ivar limit: the number of sandboxes, of runs, of waiting calls, or of bytes to be left free that it is.
    """

    def __init__(self, message: str, *, reason: CapacityReason = "capacity", limit: int = 0) -> None:
        super().__init__(message)
        self.reason: CapacityReason = reason
        self.limit = limit


class EngineError(UnavailableError):
    """The container engine is missing, refused the request, or failed."""


class ImageError(EngineError):
    """The runner image is missing and could not be built or found."""


class NotReadyError(UnavailableError):
    """The sandbox is still being prepared.

    :ivar stage: what is being done, in a few words.
    """

    def __init__(self, message: str, *, stage: str = "") -> None:
        super().__init__(message)
        self.stage = stage


class SandboxLostError(UnavailableError):
    """The container, or the stream to it, ended in the middle of a call. Its variables and files are gone.

    :ivar is_closed: whether the sandbox was closed meanwhile. Otherwise the next call gets a new container.
    """

    def __init__(self, message: str, *, is_closed: bool = False) -> None:
        super().__init__(message)
        self.is_closed = is_closed


def extra_advice(extra: str) -> str:
    """Return how to install this package with *extra*, as a sentence."""
    return (
        f"Install mcp-agentrun again, with the extra `{extra}`: uv tool install (pipx install --force, pip install) "
        f"'mcp-agentrun[{extra}]'; in a clone, '.[{extra}]'"
    )
