"""What a run prints and ends with, against ``python -u script.py`` in a plain container of the same image."""

from __future__ import annotations

import ast
import base64
import contextlib
import json
import re
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from docker import APIClient

from mcp_agentrun.errors import AgentRunError
from mcp_agentrun.sandbox import Result
from mcp_agentrun.sandbox.spec import runner_spec
from mcp_agentrun.settings import Settings
from tests.support.sandboxes import open_sandbox

# All scripts are run for the first test.
pytestmark = [pytest.mark.anyio, pytest.mark.timeout(600)]

FOLDER = Path(__file__).parent / "fidelity"

DIFFERENT: dict[str, str] = {
    "stranger_exit_generator": "what is alive is not finalised where a script would end",
    "stranger_asyncio_nested_run": "what is alive is not finalised where a script would end",
    "stranger_warn_default_filters": "numpy, which is imported already, has added filters",
    "stranger_sys_facts": "six, which is imported already, has added a finder",
    "stranger_asyncio_no_loop": "asyncio.create_task works outside of coroutines",
    **dict.fromkeys(
        (
            "corner_matplotlib_artist_prints",
            "corner_matplotlib_missing_font",
            "corner_matplotlib_open_figure_missing_glyph",
            "corner_matplotlib_shown_figure_glyph",
            "corner_matplotlib_tight_layout_at_draw",
        ),
        "figures are drawn",
    ),
    "stranger_breakpoint_env": "the interpreter was started without regard to PYTHON... variables",
}
"""Scripts whose output is not Python's, and why; each is in docs/tools.md."""


SCRIPTS = {path.stem: path.read_bytes().decode() for path in sorted((FOLDER / "scripts").glob("*/*.py"))}


@pytest.fixture(scope="module")
def expected(docker_api: APIClient, runner_image: str) -> Iterator[dict[str, Any]]:
    """What Python itself makes of each script."""
    api, spec = docker_api, runner_spec(Settings(), runner_image, "", 10001)
    container = api.create_container(
        runner_image,
        entrypoint=["/opt/venv/bin/python", "-c", (FOLDER / "driver.py").read_text("utf-8")],
        environment=dict(spec.environment),
        stdin_open=True,
        working_dir="/workspace",
        user="10001:10001",
        host_config=api.create_host_config(
            network_mode="none",
            read_only=True,
            tmpfs={"/tmp": "rw,mode=1777", "/workspace": "rw,uid=10001,mode=0700"},
            log_config={"Type": "none", "Config": {}},
        ),
    )["Id"]
    try:
        attached = api.attach_socket(container, {"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1})
        connection: socket.socket = attached._sock
        stream = connection.makefile("rb")
        api.start(container)
        connection.sendall(json.dumps(SCRIPTS).encode() + b"\n")
        output = bytearray()
        while header := stream.read(8):
            kind, size = struct.unpack(">BxxxL", header)
            data = stream.read(size)
            assert kind == 1, data.decode()
            output += data
            if data.endswith(b"\n"):
                break
        for item in (stream, connection, attached, attached._response):
            with contextlib.suppress(ValueError):
                item.close()
        yield json.loads(output)
    finally:
        api.remove_container(container, force=True)


@pytest.fixture(scope="module")
async def actual(
    request: pytest.FixtureRequest, runner_image: str, anyio_backend: str
) -> dict[str, Result | Exception]:
    """What became of each script that is asked for, in one of two sandboxes."""
    calls: list[Any] = [getattr(item, "callspec", None) for item in request.session.items]
    asked = {call.params.get("name") for call in calls if call is not None}
    names = iter([name for name in SCRIPTS if name in asked and name not in DIFFERENT])
    results: dict[str, Result | Exception] = {}

    async def work() -> None:
        async with open_sandbox(Settings(checkpoints=False, safety="off")) as sandbox:
            for name in names:
                try:
                    await sandbox.reset()
                    results[name] = await sandbox.run(without_value(SCRIPTS[name]))
                except AgentRunError as error:
                    results[name] = error

    async with anyio.create_task_group() as tasks:
        for _ in range(2):
            tasks.start_soon(work)
    return results


def normal(output: bytes, name: str) -> bytes:
    output = re.sub(rb"<run-\d+>", b"FILE", output.replace(f"/tmp/scripts/{name}/script.py".encode(), b"FILE"))
    output = re.sub(rb"0x[0-9a-f]{8,}", b"0x", output)
    return output.replace(b"script.py", b"FILE")


@pytest.mark.parametrize("name", SCRIPTS)
def test_prints_what_python_prints(actual: dict[str, Result | Exception], expected: dict[str, Any], name: str) -> None:
    if name in DIFFERENT:
        pytest.skip(DIFFERENT[name])
    result = actual[name]
    assert isinstance(result, Result), result
    printed = normal(result.output.head, name)
    assert printed.decode("utf-8", "backslashreplace") == normal(
        base64.b64decode(expected[name]["output"]), name
    ).decode("utf-8", "backslashreplace")
    exit_code = expected[name]["exit_code"]
    assert result.exit_code == (130 if exit_code == -2 else exit_code)


def without_value(code: str) -> str:
    """*code* that does not show the value of its last expression, as a script doesn't."""
    try:
        last = ast.parse(code).body[-1]
    except (SyntaxError, ValueError, IndexError):
        return code
    return code + "\nNone\n" if isinstance(last, ast.Expr) and not ast.unparse(last).startswith("print(") else code
