"""Every error this package raises on purpose.

    AgentRunError
     ├── SettingsError           a setting is unknown, malformed or contradicts another
     ├── ProtocolError           bytes on a stream are not the messages they must be
     ├── InvalidRequestError     the caller's own argument is wrong (code, requirement, handle)
     ├── FileError               a file of the workspace can't be read
     ├── InstallError            packages could not be installed; the text is the resolver's
     └── UnavailableError        ours, not the code's: engine, image, container or queue
          ├── EngineError        the container engine is missing, refused or failed
          │    └── ImageError    the runner image is missing and could not be built
          ├── NotReadyError      still preparing; asking again later is right
          └── SandboxLostError   the container or its stream went away during a call

The message of each is written for the person or model that reads it: what happened and what to do.

Standard library only, as the runner's image has a copy.
"""

from __future__ import annotations

__all__ = [
    "AgentRunError",
    "EngineError",
    "FileError",
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
    """A peer sent bytes that are not valid messages. The stream can't be used any further."""


class InvalidRequestError(AgentRunError):
    """The caller's argument is wrong; nothing was done."""


class FileError(AgentRunError):
    """A file of the workspace is missing, too large, or not a plain file."""


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
