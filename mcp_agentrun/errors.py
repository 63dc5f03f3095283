"""Every error this package raises on purpose.

    AgentRunError
     ├── SettingsError           a setting is unknown, malformed or contradicts another
     ├── ProtocolError           bytes on a stream are not the frames they must be
     ├── InvalidRequestError     the caller's own argument is wrong (code, requirement, handle)
     ├── FileError               a file of the workspace can't be read, written, listed or removed
     ├── InstallError            packages could not be installed; the text is the resolver's
     └── UnavailableError        ours, not the code's: engine, image, container or queue
          ├── EngineError        the container engine is missing, refused or failed
          │    └── ImageError    the runner image is missing and could not be built
          ├── NotReadyError      still preparing; asking again later is right
          └── SandboxLostError   the container or its stream went away during a call

The message of each is written for the person or model that reads it: what happened and what to do.
"""

from __future__ import annotations

from typing import Literal

__all__ = [
    "AgentRunError",
    "EngineError",
    "FileError",
    "FileReason",
    "ImageError",
    "InstallError",
    "InvalidRequestError",
    "NotReadyError",
    "ProtocolError",
    "SandboxLostError",
    "SettingsError",
    "UnavailableError",
]


class AgentRunError(Exception):
    """Base of all errors of this package."""


class SettingsError(AgentRunError):
    """A setting is unknown, malformed, or contradicts another one."""


class ProtocolError(AgentRunError):
    """A peer sent bytes that are not valid frames. The stream can't be used any further."""


class InvalidRequestError(AgentRunError):
    """The caller's argument is wrong; nothing was done."""


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
    """Packages could not be installed; the environment is as it was before."""


class UnavailableError(AgentRunError):
    """A call could not be carried out for a reason that is ours and not the code's."""


class EngineError(UnavailableError):
    """The container engine is missing, refused the request, or failed."""


class ImageError(EngineError):
    """The runner image is missing and could not be built or found."""


class NotReadyError(UnavailableError):
    """The sandbox is still being prepared; the message names the stage."""


class SandboxLostError(UnavailableError):
    """The container, or the stream to it, ended in the middle of a call."""
