"""The MCP server, over stdio as well as over HTTP."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from .fields import Group, Metavar, Names, each

__all__ = ["McpSettings"]

_TOOLS = ("write_file", "read_file", "list_files")


class McpSettings(Group):
    """The MCP server, over stdio and HTTP."""

    tools: Annotated[Names, each(_TOOLS.__contains__, f"one of {', '.join(_TOOLS)}"), Metavar("TOOL,...")] = Field(
        default=(), description=f"Additional tools: {', '.join(_TOOLS)}."
    )
    resource_links: bool = Field(
        default=False,
        description="Link created and changed files in answers. Some agents fail on links.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="warning", description="Lowest level of the messages that are logged to stderr."
    )
