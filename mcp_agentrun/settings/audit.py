"""The audit trail."""

from __future__ import annotations

from pydantic import Field

from .fields import MIB, Group, OptionalPath, Size

__all__ = ["AuditSettings"]


class AuditSettings(Group):
    """The audit trail of the servers."""

    file: OptionalPath = Field(
        default=None, alias="audit_file", description="File that receives one JSON line per call; none by default."
    )
    code: bool = Field(
        default=False, alias="audit_code", description="Record the code of each run, and not only its SHA-256."
    )
    size: Size = Field(
        default=64 * MIB, alias="audit_size", description="Size at which a new file is begun; each day begins one too."
    )
    age: int = Field(default=90, ge=1, alias="audit_age", description="Days after which a file is deleted.")
