"""``mcp-agentrun tools``: the tools as JSON for function calling."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, cast

import click

from .options import SettingsCommand, effective_settings

if TYPE_CHECKING:
    from mcp.types import Tool

__all__ = ["tools"]


def _openai(tools: list[Tool]) -> object:
    return [
        {
            "type": "function",
            "function": {"name": tool.name, "description": tool.description, "parameters": _schema(tool)},
        }
        for tool in tools
    ]


def _anthropic(tools: list[Tool]) -> object:
    return [{"name": tool.name, "description": tool.description, "input_schema": _schema(tool)} for tool in tools]


def _gemini(tools: list[Tool]) -> object:
    functions = [
        {"name": tool.name, "description": tool.description, "parameters": _nullable(_schema(tool))} for tool in tools
    ]
    return [{"functionDeclarations": functions}]


FORMATS: Mapping[str, Callable[[list[Tool]], object]] = {
    "openai": _openai,
    "anthropic": _anthropic,
    "gemini": _gemini,
}


@click.command(
    cls=SettingsCommand, groups=("limits", "image", "packages", "access"), short_help="Print the tools as JSON."
)
@click.option(
    "--format", "format_", type=click.Choice(tuple(FORMATS)), default="openai", show_default=True, help="API."
)
def tools(format_: str) -> None:
    """Example: mcp-agentrun tools --format anthropic

    Print the tools as JSON for function calling, in the form in which an API takes them.
    """
    from ..sandbox import AsyncRuntime
    from ..server.mcp.calls import Service, ignore_call
    from ..server.mcp.connections import on_stdio
    from ..server.mcp.tools import DEFAULT_TOOLS, TOOLS
    from ..sessions import Sessions

    sessions = Sessions(AsyncRuntime(effective_settings()), is_shared=False)
    service = Service(sessions, on_stdio, ignore_call, out=None)
    found = [TOOLS[name].definition(service) for name in DEFAULT_TOOLS]
    click.echo(json.dumps(FORMATS[format_](found), indent=2, ensure_ascii=False))


def _schema(tool: Tool) -> dict[str, Any]:
    """Return the schema of the tool's arguments without generated titles."""
    return cast("dict[str, Any]", _mapped(tool.input_schema, lambda schema: _without(schema, "title")))


def _nullable(schema: object) -> object:
    """Convert *schema* to the subset of OpenAPI that Gemini accepts, which has no type ``null``."""

    def convert(found: dict[str, Any]) -> dict[str, Any]:
        found = _without(found, "additionalProperties", "default")
        options = [option for option in found.get("anyOf", ()) if option.get("type") != "null"]
        if len(options) == len(found.get("anyOf", ())):
            return found
        rest = _without(found, "anyOf")
        return {**(options[0] if len(options) == 1 else {"anyOf": options}), **rest, "nullable": True}

    return _mapped(schema, convert)


def _mapped(schema: object, convert: Callable[[dict[str, Any]], dict[str, Any]]) -> object:
    """Apply *convert* to *schema* and to each schema inside it. Properties can have any name."""
    if isinstance(schema, list):
        return [_mapped(each, convert) for each in cast("list[object]", schema)]
    if not isinstance(schema, dict):
        return schema
    found = cast("dict[str, Any]", schema)
    return convert(
        {
            key: {name: _mapped(each, convert) for name, each in value.items()}
            if key == "properties"
            else _mapped(value, convert)
            for key, value in found.items()
        }
    )


def _without(schema: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in schema.items() if name not in names}
