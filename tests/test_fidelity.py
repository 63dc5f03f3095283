"""What a run prints and ends with, against ``python -u script.py`` in a plain container of the same image."""

from __future__ import annotations

import base64
import contextlib
import json
import re
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from docker import APIClient

from mcp_agentrun.sandbox import Sandbox
from mcp_agentrun.sandbox.sandbox import runner_spec
from mcp_agentrun.settings import Settings

from .conftest import open_sandbox

pytestmark = pytest.mark.anyio

FOLDER = Path(__file__).parent / "fidelity"
CORPORA = [folder / "shared" / "corpora" / "benign.jsonl" for folder in Path(__file__).parents]
SHARED = next((path for path in CORPORA if path.exists()), CORPORA[0])

DIFFERENT: dict[str, str] = {
    "compile_named": "the loader of a script's file is asked for the source of code that has any other name",
    "doctest": "there is no __file__ to name the place of an example by",
    "faulthandler": "it shows one frame of the runner's below the code's own",
    "eof_in_block": "where text ends and a block is missing, a caret says so; at the end of a file there is none",
}
"""Scripts whose output is not Python's, and why; each is in docs/output.md."""


def scripts() -> dict[str, str]:
    found: dict[str, str] = {}
    for path in sorted(FOLDER.glob("*.txt")):
        for part in path.read_text("utf-8").split("#### ")[1:]:
            name, _, code = part.partition("\n")
            assert name not in found, name
            found[name] = code
    return found


SCRIPTS = scripts()


@pytest.fixture(scope="module")
def expected(api: APIClient, runner_image: str) -> Iterator[dict[str, Any]]:
    """What Python itself makes of each script."""
    spec = runner_spec(Settings(), runner_image, "", 10001)
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
async def fresh(runner_image: str, anyio_backend: str):
    async with open_sandbox(Settings(checkpoints=False, safety="off")) as sandbox:
        yield sandbox


def normal(output: bytes, name: str) -> bytes:
    output = re.sub(rb"<run-\d+>", b"FILE", output.replace(f"/tmp/scripts/{name}/script.py".encode(), b"FILE"))
    output = re.sub(rb"0x[0-9a-f]{8,}", b"0x", output)
    return output.replace(b"script.py", b"FILE")


@pytest.mark.parametrize("name", SCRIPTS)
async def test_prints_what_python_prints(fresh: Sandbox, expected: dict[str, Any], name: str) -> None:
    if name in DIFFERENT:
        pytest.skip(DIFFERENT[name])
    # A script does not show the value of its last expression.
    await fresh.reset()
    result = await fresh.run(SCRIPTS[name] + "\nNone\n" if is_complete(SCRIPTS[name]) else SCRIPTS[name])
    actual = normal(result.output.head, name)
    assert actual.decode("utf-8", "backslashreplace") == normal(
        base64.b64decode(expected[name]["output"]), name
    ).decode("utf-8", "backslashreplace")
    exit_code = expected[name]["exit_code"]
    assert result.exit_code == (130 if exit_code == -2 else exit_code)


@pytest.mark.skipif(not SHARED.exists(), reason="the corpus is not here")
async def test_programs_of_benchmarks_print_what_they_should(fresh: Sandbox) -> None:
    rows = [json.loads(line) for line in SHARED.read_text("utf-8").splitlines()]
    rows = [row for row in rows if row.get("expected_stdout") is not None and row["category"] in ("humaneval", "mbpp")]
    assert rows
    wrong: list[str] = []
    for row in rows:
        result = await fresh.run(row["code"])
        if (result.output.text(), result.exit_code) != (row["expected_stdout"], row["expected_exit"]):
            wrong.append(row["id"])
    assert wrong == []


def is_complete(code: str) -> bool:
    try:
        compile(code, "x", "exec")
    except (SyntaxError, ValueError):
        return False
    return True
