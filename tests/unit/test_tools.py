"""Tools are found by name, and their arguments are checked against their signatures."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field

from mcp_agentrun.errors import InvalidRequestError, SettingsError
from mcp_agentrun.sandbox import AsyncRuntime
from mcp_agentrun.server.mcp import tools
from mcp_agentrun.server.mcp.arguments import Arguments
from mcp_agentrun.server.mcp.calls import Call, Service, ignore_call
from mcp_agentrun.server.mcp.connections import on_stdio
from mcp_agentrun.server.mcp.tools import DEFAULT_TOOLS, TOOLS
from mcp_agentrun.sessions import Caller, Sessions
from mcp_agentrun.settings import Settings
from tests.support.clients import text_of
from tests.support.fake_engine import FakeEngine, open_sessions

pytestmark = pytest.mark.anyio


async def example(
    call: None,
    text: str,
    items: str | list[str] = "",
    number: float | None = None,
    count: Annotated[int, Field(ge=1)] = 1,
    flag: bool = False,
    kind: Literal["a", "b"] = "a",
) -> None: ...


ARGUMENTS = Arguments(example)


def test_tools_are_functions_that_are_found_by_name() -> None:
    assert set(TOOLS) == {*DEFAULT_TOOLS, "write_file", "read_file", "list_files"}
    assert all(TOOLS[name].function is getattr(tools, name) for name in TOOLS)


@pytest.mark.parametrize(
    ("given", "parsed"),
    [
        ({"text": "[1]"}, {"text": "[1]"}),
        ({"text": "null"}, {"text": "null"}),
        ({"text": "", "items": '["x"]'}, {"items": ["x"]}),
        ({"text": "", "items": "[x"}, {"items": "[x"}),
        ({"text": "", "number": "5", "count": "2", "flag": "true"}, {"number": 5.0, "count": 2, "flag": True}),
        ({"text": "", "number": "null"}, {"number": None}),
    ],
)
def test_arguments_are_accepted_in_the_forms_that_clients_send(given: dict[str, Any], parsed: dict[str, Any]) -> None:
    found = ARGUMENTS.parse(given)
    assert found.keys() == {"text", "items", "number", "count", "flag", "kind"}
    assert {name: found[name] for name in parsed} == parsed


@pytest.mark.parametrize(
    ("given", "lines"),
    [
        ({}, ["`text` is required and must be a string."]),
        ({"text": 1, "number": True}, ["`text` must be a string, not 1.", "`number` must be a number, not true."]),
        ({"text": "", "items": ["x", 5]}, ['`items` must be a string or a list of strings, not ["x", 5].']),
        ({"text": "", "items": "null"}, ['`items` must be a string or a list of strings, not "null".']),
        ({"text": "", "count": 0}, ["`count` must be an integer of at least 1, not 0."]),
        ({"text": "", "flag": 2}, ["`flag` must be true or false, not 2."]),
        ({"text": "", "kind": "c"}, ['`kind` must be "a" or "b", not "c".']),
        (
            {"text": "", "other": 1},
            ["there is no argument 'other'; example takes text, items, number, count, flag, kind."],
        ),
    ],
)
def test_each_invalid_argument_is_reported_in_one_line(given: dict[str, Any], lines: list[str]) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        ARGUMENTS.parse(given)
    assert str(refused.value).splitlines() == lines


def test_definitions_show_the_limits_that_hold() -> None:
    sessions = Sessions(AsyncRuntime(Settings(timeout=7, max_timeout=9), engine=FakeEngine()))
    service = Service(sessions, on_stdio, ignore_call, None)
    definition = TOOLS["run_python"].definition(service)
    assert definition.input_schema["properties"]["timeout"]["description"].endswith("7 if left out, at most 9.")
    for tool in TOOLS.values():
        found = tool.definition(service)
        assert found.description
        assert "{" not in str(found.description)
        assert all(item["description"] for item in found.input_schema["properties"].values())


async def test_every_tool_says_that_the_sandbox_has_expired() -> None:
    caller = Caller("one")
    async with open_sessions(Settings(pool=0, reserve=1)) as sessions:
        service = Service(sessions, lambda _: caller, ignore_call, None)
        context: Any = SimpleNamespace(meta={}, session=SimpleNamespace(_connection=SimpleNamespace(state={})))
        async with sessions.lease(caller, None):
            pass
        (session,) = sessions._store  # pyright: ignore[reportPrivateUsage]
        sessions._store.expire(session)  # pyright: ignore[reportPrivateUsage]
        told = [
            text_of(await tools.reset_sandbox(Call(service, context, "reset_sandbox", "resetting"))) for _ in range(2)
        ]
    assert ["Your sandbox was closed" in text for text in told] == [True, False]


def test_only_tools_that_exist_can_be_switched_on() -> None:
    with pytest.raises(SettingsError, match="write_file, read_file, list_files"):
        Settings(tools=("delete_everything",))
