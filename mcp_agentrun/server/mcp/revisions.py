"""Remove from answers what is newer than the client's protocol revision.

The SDK only adapts answers between its two eras, so that a client of 2024-11-05 would get fields of 2025-11-25.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from mcp_types.version import KNOWN_PROTOCOL_VERSIONS, is_version_at_least

__all__ = ["ADDED_IN", "adapt", "supports"]

WHOLE = "*"
"""Instead of field names: the type itself is new."""

ADDED_IN: Mapping[str, Mapping[str, str]] = {
    "2025-03-26": {
        "AudioContent": WHOLE,
        "ProgressNotificationParams": "message",
        "ServerCapabilities": "completions",
        "Tool": "annotations",
    },
    "2025-06-18": {
        "AudioContent": "_meta",
        "BlobResourceContents": "_meta",
        "CallToolResult": "structuredContent",
        "EmbeddedResource": "_meta",
        "ImageContent": "_meta",
        "Implementation": "title",
        "Resource": "_meta title",
        "ResourceLink": WHOLE,
        "ResourceTemplate": "_meta title",
        "TextContent": "_meta",
        "TextResourceContents": "_meta",
        "Tool": "_meta outputSchema title",
    },
    "2025-11-25": {
        "Implementation": "description icons websiteUrl",
        "ProgressNotificationParams": "_meta",
        "Resource": "icons",
        "ResourceLink": "icons",
        "ResourceTemplate": "icons",
        "ServerCapabilities": "tasks",
        "Tool": "execution icons",
    },
}
"""For each revision, the fields it added to the types that the server sends, with the schema's names. The SDK handles
the changes of 2026-07-28.
"""

_CONTENT = {
    "audio": "AudioContent",
    "image": "ImageContent",
    "resource": "EmbeddedResource",
    "resource_link": "ResourceLink",
    "text": "TextContent",
}
_PARTS = {
    "initialize": {"capabilities": "ServerCapabilities", "serverInfo": "Implementation"},
    "resources/list": {"resources": "Resource"},
    "resources/read": {"contents": "TextResourceContents"},  # BlobResourceContents has changed as that has
    "resources/templates/list": {"resourceTemplates": "ResourceTemplate"},
    "tools/call": {"content": ""},
    "tools/list": {"tools": "Tool"},
}
"""The type of each part of an answer, by method and field. Content blocks name their own type."""


def _newer_than(version: str) -> dict[str, set[str]]:
    newer: dict[str, set[str]] = {}
    for revision, fields_of in ADDED_IN.items():
        if not is_version_at_least(version, revision):
            for name, fields in fields_of.items():
                newer.setdefault(name, set()).update(fields.split())
    return newer


_NEWER = {version: _newer_than(version) for version in KNOWN_PROTOCOL_VERSIONS}


def supports(version: str, type_: str, field: str) -> bool:
    """Return whether the revision *version* has that field."""
    return _NEWER.get(version, _NEWER[KNOWN_PROTOCOL_VERSIONS[0]]).get(type_, set()).isdisjoint((field, WHOLE))


def adapt(method: str, version: str, answer: Any) -> Any:
    """Return the serialized *answer* to *method* without what is newer than the revision *version*."""
    if not isinstance(answer, dict):
        return answer
    fields = cast("dict[str, Any]", answer)
    newer = _NEWER.get(str(fields.get("protocolVersion", version)) if method == "initialize" else version)
    if not newer:
        return fields
    fields = _without(fields, newer.get("CallToolResult", set()) if method == "tools/call" else set())
    for name, type_ in _PARTS.get(method, {}).items():
        part: Any = fields.get(name)
        if isinstance(part, dict):
            fields[name] = _without(cast("dict[str, Any]", part), newer.get(type_, set()))
        elif isinstance(part, list):
            items: list[dict[str, Any]] = []
            for item in cast("list[dict[str, Any]]", part):
                unknown = newer.get(type_ or _CONTENT.get(str(item.get("type")), ""), set())
                if WHOLE not in unknown:
                    items.append(_without(item, unknown))
            fields[name] = items
    return fields


def _without(fields: dict[str, Any], names: set[str]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if name not in names}
