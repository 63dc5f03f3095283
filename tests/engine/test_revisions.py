"""No client gets what the revision of the protocol that it speaks doesn't have."""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.streams.buffered import BufferedByteReceiveStream
from mcp_types.version import KNOWN_PROTOCOL_VERSIONS, MODERN_PROTOCOL_VERSIONS

from mcp_agentrun.server.mcp.revisions import ADDED_IN, WHOLE

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("runner_image")]

Types = dict[str, Any]
"""Field's type by field's name, by type, as `revisions.json` has them; an alias has the names of its types."""

_CLIENT = {"name": "t", "version": "1"}


def _types_by_revision() -> dict[str, Types]:
    facts = json.loads(Path(__file__).with_name("revisions.json").read_text())
    found: dict[str, Types] = {}
    types: Types = {}
    for revision, changes in facts["revisions"].items():
        types = {name: fields for name, fields in {**types, **changes}.items() if fields is not None}
        found[revision] = types
    return found


TYPES = _types_by_revision()
RESULTS = {
    "initialize": "InitializeResult",
    "server/discover": "DiscoverResult",
    "tools/list": "ListToolsResult",
    "tools/call": "CallToolResult",
    "resources/list": "ListResourcesResult",
    "resources/templates/list": "ListResourceTemplatesResult",
    "resources/read": "ReadResourceResult",
    "prompts/list": "ListPromptsResult",
}
_JSON = {"string": str, "boolean": bool, "integer": int, "number": (int, float), "object": dict, "null": type(None)}


def faults(types: Types, type_: str, value: Any, place: str) -> Iterator[str]:
    """What is wrong with *value* as one of *type_*; a field that the type doesn't have is wrong as well."""
    if "|" in type_ and not type_.startswith("["):
        tried = [list(faults(types, each, value, place)) for each in type_.split("|")]
        if not any(found == [] for found in tried):
            yield f"{place}: not one of {type_}: {min(tried, key=len)}"
    elif type_.startswith("["):
        if not isinstance(value, list):
            yield f"{place}: no list"
            return
        for number, item in enumerate(value):  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
            yield from faults(types, type_[1:-1], item, f"{place}[{number}]")
    elif type_.startswith("="):
        if str(value) != type_[1:]:
            yield f"{place}: {value!r} is not {type_[1:]}"
    elif type_ in _JSON:
        if not isinstance(value, _JSON[type_]):
            yield f"{place}: {value!r} is no {type_}"
    elif type_ != "any":
        yield from _faults_of_fields(types, types[type_], value, place)


def _faults_of_fields(types: Types, fields: Any, value: Any, place: str) -> Iterator[str]:
    if isinstance(fields, str):
        yield from faults(types, fields, value, place)
        return
    if not isinstance(value, dict):
        yield f"{place}: no object"
        return
    known = {name.rstrip("!"): type_ for name, type_ in fields.items()}
    for name, item in value.items():  # pyright: ignore[reportUnknownVariableType]
        if name in known:
            yield from faults(types, known[name], item, f"{place}.{name}")
        else:
            yield f"{place}.{name}: unknown"
    for name in fields:
        if name.endswith("!") and name[:-1] not in value:
            yield f"{place}.{name[:-1]}: missing"


class RawClient:
    """Sends requests of one revision, and finds fault with all that is sent back."""

    def __init__(self, process: anyio.abc.Process, revision: str) -> None:
        assert process.stdin is not None and process.stdout is not None
        self._send, self._receive = process.stdin, BufferedByteReceiveStream(process.stdout)
        self._revision = revision
        self._count = 0
        self.notified: set[str] = set()
        self.blocks: set[str] = set()
        self.faults: list[str] = []

    async def notify(self, method: str) -> None:
        await self._send.send(json.dumps({"jsonrpc": "2.0", "method": method}).encode() + b"\n")

    async def ask(self, method: str, **params: Any) -> dict[str, Any]:
        """The result of a request, or its error."""
        self._count += 1
        meta: dict[str, Any] = {"progressToken": self._count}
        if self._revision in MODERN_PROTOCOL_VERSIONS:
            meta |= {
                "io.modelcontextprotocol/protocolVersion": self._revision,
                "io.modelcontextprotocol/clientInfo": _CLIENT,
                "io.modelcontextprotocol/clientCapabilities": {},
                "io.modelcontextprotocol/logLevel": "info",
            }
        request = {"jsonrpc": "2.0", "id": self._count, "method": method, "params": {**params, "_meta": meta}}
        await self._send.send(json.dumps(request).encode() + b"\n")
        with anyio.fail_after(120):
            while (message := json.loads(await self._receive.receive_until(b"\n", 1 << 25))).get("id") != self._count:
                self._check("ServerNotification", message, message["method"])
                self.notified.add(message["method"])
        if "error" in message:
            self.faults += faults({}, "integer", message["error"]["code"], "code")
            return message["error"]
        self._check(RESULTS.get(method, "EmptyResult"), message["result"], method)
        self.blocks |= {block["type"] for block in message["result"].get("content", ())}
        return message["result"]

    async def call(self, tool: str, **arguments: Any) -> dict[str, Any]:
        return await self.ask("tools/call", name=tool, arguments=arguments)

    def _check(self, type_: str, value: Any, place: str) -> None:
        types = TYPES[self._revision]
        if "jsonrpc!" not in types.get("ProgressNotification", ()):
            value = {name: item for name, item in value.items() if name != "jsonrpc"}
        self.faults += faults(types, type_, value, place)


@asynccontextmanager
async def raw_client(revision: str, *arguments: str) -> AsyncGenerator[RawClient]:
    command = [sys.executable, "-m", "mcp_agentrun", *arguments]
    async with await anyio.open_process(command, stderr=None) as process:
        client = RawClient(process, revision)
        if revision not in MODERN_PROTOCOL_VERSIONS:
            hello = await client.ask("initialize", protocolVersion=revision, capabilities={}, clientInfo=_CLIENT)
            assert hello["protocolVersion"] == revision
            await client.notify("notifications/initialized")
            await client.ask("logging/setLevel", level="info")
        yield client
        process.terminate()


@pytest.mark.parametrize("revision", KNOWN_PROTOCOL_VERSIONS)
async def test_all_that_a_client_gets_is_of_its_revision(revision: str) -> None:
    async with raw_client(revision, "--resource-links") as client:
        for method in ("ping", "server/discover", "tools/list", "prompts/list", "resources/templates/list", "no/such"):
            await client.ask(method)
        for code in (
            "1 + 1",
            "1 / 0",
            "print(",
            "import shutil; shutil.rmtree('/')",
            "import matplotlib.pyplot as plt; _ = plt.plot([1, 2])",
            "print('x' * 200_000)",
            "_ = open('text.txt', 'w').write('x')\n_ = open('bytes.bin', 'wb').write(b'\\0')",
            "_ = open('text.txt', 'w').write('y')",
            "import time\nfor i in range(4):\n    print(i, flush=True); time.sleep(0.5)",
        ):
            await client.call("run_python", code=code)
        await client.call("run_python", code="1", timeout="soon")  # answered before it comes to the SDK
        await client.call("run_python", code="1", sandbox="new")
        await client.call("run_python", code="1", sandbox="no such")
        await client.call("no_such_tool")
        for resource in (await client.ask("resources/list"))["resources"]:
            await client.ask("resources/read", uri=resource["uri"])
        await client.ask("resources/read", uri="agentrun://own/files/missing")
        await client.call("install_package", packages="numpy")
        await client.call("reset_sandbox", keep_files=True)
    assert client.faults == []
    assert client.blocks == {"text", "image"} | ({"resource_link"} if revision >= "2025-06-18" else set())
    is_modern = revision in MODERN_PROTOCOL_VERSIONS
    assert client.notified >= {"notifications/progress", "notifications/message"}
    assert is_modern or "notifications/resources/list_changed" in client.notified


async def test_a_client_of_the_newest_handshake_still_gets_what_is_new() -> None:
    async with raw_client("2025-11-25") as client:
        tools = {tool["name"]: tool for tool in (await client.ask("tools/list"))["tools"]}
        assert tools["run_python"]["title"] and tools["run_python"]["annotations"]


def test_the_table_says_what_the_schemas_say() -> None:
    """Field by field of each type in it, from the first revision to the last with a handshake."""
    revisions = [revision for revision in KNOWN_PROTOCOL_VERSIONS if revision not in MODERN_PROTOCOL_VERSIONS]
    mentioned = {name for fields in ADDED_IN.values() for name in fields}
    for before, revision in itertools.pairwise(revisions):
        found: dict[str, str] = {}
        for name in mentioned & TYPES[revision].keys():
            if name not in TYPES[before] and name != "ProgressNotificationParams":
                found[name] = WHOLE
                continue
            old, new = (_fields(TYPES[each], name) for each in (before, revision))
            if new - old:
                found[name] = " ".join(sorted(new - old))
        if revision == "2025-03-26":  # whose schema has the parameters of notifications in the notifications
            new, old = (_fields(TYPES[each], "ProgressNotification.params") for each in (revision, before))
            found["ProgressNotificationParams"] = " ".join(new - old)
        assert found == ADDED_IN[revision], revision


def _fields(types: Types, name: str) -> set[str]:
    return {field.rstrip("!") for field in types.get(name, types.get(name.replace("Params", ".params"), {}))}
