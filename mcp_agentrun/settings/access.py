"""What user code can reach outside its sandbox."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from .fields import GIB, Folders, Group, Metavar, Size

__all__ = ["AccessSettings"]


class AccessSettings(Group):
    """Access to the network and to folders of this machine."""

    network: Literal["none", "bridge"] = Field(
        default="none", description="Network access for user code; bridge: everything the host can reach."
    )
    data: Folders = Field(default=(), description="Folder that code can read as /workspace/NAME; may be repeated.")
    out: Annotated[str | None, Metavar("FOLDER")] = Field(
        default=None, description="Folder that receives a copy of each file a run creates or changes."
    )
    out_size: Size = Field(default=GIB, description="Maximum size of all copies in `out` while the server runs.")
