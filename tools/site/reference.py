"""The parts of the site's reference that are made from the code while the site is built.

In a page, the line ``<!-- reference: NAME -->`` is replaced by the part NAME, which `PARTS` names.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import click
from click.testing import CliRunner
from markdown import Markdown
from markdown.extensions import Extension
from markdown.preprocessors import Preprocessor

from mcp_agentrun import AsyncRuntime
from mcp_agentrun.cli import main
from mcp_agentrun.server.mcp.calls import Service, ignore_call
from mcp_agentrun.server.mcp.connections import on_stdio
from mcp_agentrun.server.mcp.tools import DEFAULT_TOOLS, TOOLS
from mcp_agentrun.server.rest.app import build_rest
from mcp_agentrun.sessions import SessionManager

__all__ = ["PARTS", "expanded", "makeExtension"]

_LINE = re.compile(r"<!-- reference: ([a-z]+) -->")

JsonObject = Mapping[str, Any]
"""Part of a JSON Schema or of an OpenAPI document."""


def expanded(lines: Iterable[str]) -> Iterator[str]:
    """Yield the *lines* of a page with its generated parts in place of the lines that name them.

    :raises KeyError: there is no such part.
    """
    for line in lines:
        found = _LINE.fullmatch(line)
        if found:
            yield from PARTS[found[1]]()
        else:
            yield line


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", r"\|")


def _table(*rows: tuple[str, ...]) -> Iterator[str]:
    """Yield a table whose head is the first of *rows*, or nothing if that is all."""
    head, *others = rows
    if others:
        yield ""
        for row in (head, ("---",) * len(head), *others):
            yield f"| {' | '.join(map(_cell, row))} |"
        yield ""


def _type(schema: JsonObject) -> str:
    """Return a schema's type in a few words."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in schema:
        return " or ".join(map(_type, schema["anyOf"]))
    if "enum" in schema:
        return ", ".join(f"`{json.dumps(value)}`" for value in schema["enum"])
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {}))}"
    return schema.get("format") or schema.get("type") or "anything"


def _properties(schema: JsonObject) -> Iterator[str]:
    required = schema.get("required", ())
    rows = [
        (
            f"`{name}`",
            _type(found),
            "required" if name in required else f"`{json.dumps(found['default'])}`" if "default" in found else "",
            found.get("description", ""),
        )
        for name, found in schema.get("properties", {}).items()
    ]
    return _table(("field", "type", "default", "meaning"), *rows)


def _tools() -> Iterator[str]:
    """Each tool as an MCP client sees it with the default settings."""
    service = Service(SessionManager(AsyncRuntime(), is_shared=False), on_stdio, ignore_call, out=None)
    for name, tool in TOOLS.items():
        definition = tool.definition(service)
        yield from (f"## {name}", "", definition.description or "", "")
        if name not in DEFAULT_TOOLS:
            yield from (f"Only with `--tools {name}`.", "")
        yield from _properties(definition.input_schema)
        yield from ("```json", *json.dumps(definition.input_schema, indent=2).splitlines(), "```", "")


def _commands(name: str, command: click.Command) -> Iterator[str]:
    """The help of *command* and of those below it."""
    arguments = [*name.split()[1:], "--help"]
    result = CliRunner().invoke(main, arguments, prog_name="mcp-agentrun", terminal_width=96, env={"COLUMNS": "96"})
    yield from (f"## {name}", "", "```text", *result.output.rstrip().splitlines(), "```", "")
    if isinstance(command, click.Group):
        context = click.Context(command)
        for each in command.list_commands(context):
            found = command.get_command(context, each)
            if found is not None and not found.hidden:
                yield from _commands(f"{name} {each}", found)


def _rest() -> Iterator[str]:
    """Each request of the REST APIs, and the schemas of their bodies."""
    document = build_rest(SessionManager(AsyncRuntime(), is_shared=True)).openapi()
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield from _operation(f"{method.upper()} {path}", operation)
    yield from ("## Schemas", "")
    for name, schema in sorted(document["components"]["schemas"].items()):
        yield from (f"### {name}", "", schema.get("description", ""), *_properties(schema))


def _operation(title: str, operation: JsonObject) -> Iterator[str]:
    yield from (f"## {title}", "", operation.get("description") or operation["summary"], "")
    parameters = [
        (f"`{each['name']}`", each["in"], _type(each["schema"]), each.get("description", ""))
        for each in operation.get("parameters", ())
    ]
    yield from _table(("parameter", "in", "type", "meaning"), *parameters)
    body = ", ".join(_contents(operation.get("requestBody", {})))
    if body:
        yield from (f"Body: {body}", "")
    answers = [
        (status, answer["description"], ", ".join(_contents(answer)))
        for status, answer in sorted(operation["responses"].items())
    ]
    yield from _table(("status", "meaning", "content"), *answers)


def _contents(message: JsonObject) -> Iterator[str]:
    for media_type, content in message.get("content", {}).items():
        schema = content.get("schema", {})
        yield f"{_type(schema)} (`{media_type}`)" if "$ref" in schema else f"`{media_type}`"


PARTS: Mapping[str, Callable[[], Iterable[str]]] = {
    "commands": lambda: _commands("mcp-agentrun", main),
    "rest": _rest,
    "tools": _tools,
}
"""What can be generated, by name."""


class _Reference(Preprocessor):
    def run(self, lines: list[str]) -> list[str]:
        return list(expanded(lines))


class ReferenceExtension(Extension):
    """Markdown with generated parts."""

    def extendMarkdown(self, md: Markdown) -> None:  # noqa: N802
        md.preprocessors.register(_Reference(md), "reference", 29)  # after line ends, before fenced code


def makeExtension(**options: Any) -> ReferenceExtension:  # noqa: N802
    """Make the extension; Python-Markdown looks for this name."""
    return ReferenceExtension(**options)
