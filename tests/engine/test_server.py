"""The server as a client meets it: over stdio, in both protocol eras."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import anyio
import anyio.to_thread
import pytest
from docker import APIClient
from mcp import Client, MCPError
from mcp.client.stdio import stdio_client
from mcp.types import INVALID_PARAMS

from tests.support.clients import (
    OpenClient,
    facts_of,
    run,
    server_parameters,
    server_process,
    server_processes,
    text_of,
)
from tests.support.containers import containers_of
from tests.support.hanging_engine import hanging_engine

pytestmark = pytest.mark.anyio

ERAS = ["legacy", "2026-07-28"]


@pytest.fixture(scope="module", params=ERAS)
async def client(request: pytest.FixtureRequest, runner_image: str, anyio_backend: str) -> AsyncIterator[Client]:
    """A client of each era, shared by tests."""
    async with Client(stdio_client(server_parameters()), mode=request.param) as client:
        yield client


@pytest.mark.parametrize("mode", ERAS)
async def test_the_main_job(open_client: OpenClient, mode: str) -> None:
    async with open_client(mode=mode) as client:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        assert set(tools) == {"run_python", "install_package", "reset_sandbox"}
        assert all(tool.output_schema is None for tool in tools.values())
        assert (await run(client, "x = 41")).is_error is False
        result = await run(client, "x + 1")
        assert text_of(result) == "42\n"
        assert result.structured_content is None
        facts = facts_of(result)
        assert facts.pop("duration_ms") > 0
        assert facts == {
            "outcome": "ok",
            "sandbox": None,
            "error": None,
            "exit_code": 0,
            "truncated": None,
            "files": [],
            "state": "kept",
        }
        failed = await run(client, "def f():\n    1/0\nf()")
        assert failed.is_error
        assert text_of(failed).splitlines()[-1] == "ZeroDivisionError: division by zero"
        assert facts_of(failed)["error"] == {"type": "ZeroDivisionError", "message": "division by zero", "line": 2}
        reset = await client.call_tool("reset_sandbox", {})
        assert not reset.is_error
        gone = await run(client, "x")
        assert gone.is_error
        assert text_of(gone) == (
            'Traceback (most recent call last):\n  File "<run-4>", line 1, in <module>\n    x\n'
            "NameError: name 'x' is not defined\n"
        )


async def test_packages(client: Client) -> None:
    await client.call_tool("reset_sandbox", {})
    heard: list[str | None] = []

    async def on_progress(progress: float, total: float | None, message: str | None) -> None:
        heard.append(message)

    installed = await client.call_tool("install_package", {"packages": "cowsay"}, progress_callback=on_progress)
    assert not installed.is_error, text_of(installed)
    assert text_of(installed).startswith("Installed, ready to import: cowsay ")
    assert text_of(await run(client, "import cowsay; cowsay.__name__")) == "'cowsay'\n"
    again = await client.call_tool("install_package", {"packages": ["cowsay", "numpy"]})
    assert text_of(again).startswith("Already installed: cowsay ")
    missing = await client.call_tool("install_package", {"packages": "no-such-package-of-that-name-1b7"})
    assert missing.is_error
    assert "no-such-package-of-that-name-1b7" in text_of(missing)
    assert "/packages" not in text_of(missing)
    url = await client.call_tool("install_package", {"packages": "x @ https://example.org/x.whl"})
    assert url.is_error
    assert "names a URL" in text_of(url)
    assert text_of(await run(client, "cowsay.__name__")) == "'cowsay'\n"


async def test_what_is_printed_is_all_that_is_shown(client: Client) -> None:
    assert text_of(await run(client, "print('a', end='')")) == "a"
    assert text_of(await run(client, "pass")) == "[agentrun] The code ran and printed nothing."
    long = await run(client, "print('x' * 1_000_000)")
    assert len(text_of(long)) < 66_000
    assert facts_of(long)["truncated"] == {"output": {"total": 1_000_001, "shown": 65_536}}
    odd = await run(client, "import os; os.write(1, b'\\xff\\xfe\\n'); raise ValueError('\\udc80')")
    assert "\ufffd\ufffd\n" in text_of(odd)
    late = await run(client, "import time; time.sleep(60)", timeout=0.3)
    assert late.is_error
    assert facts_of(late)["outcome"] == "timeout"
    assert "[agentrun] The code exceeded its time limit of 0.3 s." in text_of(late)


async def test_wrong_arguments_say_what_to_do(client: Client) -> None:
    assert "NUL" in text_of(await run(client, "\0"))
    surrogate = await run(client, "1", timeout=1e9)
    assert surrogate.is_error
    assert "at most 300 s" in text_of(surrogate)
    assert (await run(client, "1", timeout="soon")).is_error
    misspelt = await client.call_tool("reset_sandbox", {"keep_file": True})
    assert misspelt.is_error
    assert "there is no argument 'keep_file'; reset_sandbox takes keep_packages, keep_files" in text_of(misspelt)
    unknown = await run(client, "1", sandbox="nope")
    assert unknown.is_error
    assert "No sandbox has the handle 'nope'" in text_of(unknown)
    assert text_of(await run(client, "1 + 1")) == "2\n"


@pytest.mark.parametrize(
    ("tool", "arguments", "lines"),
    [
        ("run_python", {}, ["`code` is required and must be a string."]),
        ("run_python", {"code": 5}, ["`code` must be a string, not 5."]),
        (
            "run_python",
            {"code": "1", "timeout": "abc", "sandbox": 5},
            [
                '`timeout` must be a number, not "abc".',
                "`sandbox` must be a string, not 5.",
            ],
        ),
        (
            "run_python",
            {"code": "1", "timeout": True},
            ["`timeout` must be a number, not true."],
        ),
        ("run_python", {"code": "1", "sandbox": "[1]"}, ["`sandbox` must be a string, not"]),
        (
            "install_package",
            {"packages": ["six", 5]},
            ['`packages` must be a string or a list of strings, not ["six", 5].'],
        ),
        ("install_package", {"packages": "[5]"}, ["`packages` must be a string or a list of strings, not"]),
        ("reset_sandbox", {"keep_files": "perhaps"}, ['`keep_files` must be true or false, not "perhaps".']),
    ],
)
async def test_wrong_types_are_told_in_a_line_each(
    client: Client, tool: str, arguments: dict[str, Any], lines: list[str]
) -> None:
    result = await client.call_tool(tool, arguments)
    assert result.is_error
    found = text_of(result).removeprefix("[agentrun] Nothing was done: ").splitlines()
    assert len(found) == len(lines)
    assert all(text.strip().startswith(line) for text, line in zip(found, lines, strict=True)), found


async def test_arguments_may_be_written_in_other_ways(client: Client) -> None:
    assert text_of(await run(client, "[1]", timeout="5", sandbox=None)) == "[1]\n"
    listed = await client.call_tool("install_package", {"packages": '["numpy"]'})
    assert text_of(listed).startswith("Already installed: numpy ")
    assert not (await client.call_tool("reset_sandbox", {"keep_files": "true"})).is_error


async def test_a_prompt_that_does_not_exist_is_a_wrong_parameter(client: Client) -> None:
    assert (await client.list_prompts()).prompts == []
    with pytest.raises(MCPError, match="Unknown prompt: 'no such'") as refused:
        await client.get_prompt("no such")
    assert refused.value.code == INVALID_PARAMS


async def test_another_sandbox_by_handle(open_client: OpenClient) -> None:
    async with open_client("--max-sandboxes", "2") as client:
        await run(client, "x = 'own'")
        opened = await run(client, "x = 'other'", sandbox="new")
        handle = facts_of(opened)["sandbox"]
        assert f'sandbox="{handle}"' in text_of(opened)
        assert text_of(await run(client, "x", sandbox=handle)) == "'other'\n"
        assert text_of(await run(client, "x")) == "'own'\n"
        refused = await run(client, "1", sandbox="new")
        assert refused.is_error
        assert "You already have 2 sandboxes" in text_of(refused)
        await client.call_tool("reset_sandbox", {"sandbox": handle})
        assert (await run(client, "x", sandbox=handle)).is_error
        assert text_of(await run(client, "x")) == "'own'\n"


async def test_two_calls_at_once_queue(client: Client) -> None:
    await run(client, "order = []\nimport time")
    async with anyio.create_task_group() as tasks:
        for number in range(3):
            tasks.start_soon(run, client, f"order.append({number}); time.sleep(0.05); order.append({number})")
    pairs = text_of(await run(client, "len(order), all(a == b for a, b in zip(order[::2], order[1::2]))"))
    assert pairs == "(6, True)\n"


async def test_a_cancelled_call_stops_the_code_and_keeps_the_state(client: Client) -> None:
    await run(client, "x = 5\nimport time")
    with anyio.move_on_after(0.5):
        await run(client, "time.sleep(100)")
    with anyio.fail_after(50):  # it would be 100 if the code still ran
        assert text_of(await run(client, "x")) == "5\n"


async def test_initialize_is_answered_before_the_container_exists(open_client: OpenClient, api: APIClient) -> None:
    others = server_processes()
    with hanging_engine() as engine:
        engine.deaf_to = "/containers/create"
        async with open_client(mode="legacy", env={"DOCKER_HOST": engine.url}):  # initialize has been answered
            await anyio.to_thread.run_sync(engine.wait_for, "/containers/create")
            assert containers_of(api, server_process(others).pid) == []


async def test_a_client_has_one_container(open_client: OpenClient, api: APIClient) -> None:
    others = server_processes()
    async with open_client(mode="legacy") as client:
        assert text_of(await run(client, "print(1)")) == "1\n"
        assert len(containers_of(api, server_process(others).pid)) == 1
