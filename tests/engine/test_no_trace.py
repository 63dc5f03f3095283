"""Nothing is left of a server, however it ends."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, nullcontext, suppress
from typing import Any

import anyio
import pytest
from docker import APIClient
from docker.errors import APIError

from mcp_agentrun.engine.owner import Owner
from mcp_agentrun.engine.registry import create_engine
from mcp_agentrun.settings import Settings
from tests.support.clients import server_parameters
from tests.support.containers import containers_of
from tests.support.stdio_server import INITIALIZE, say

REQUESTS = [
    INITIALIZE,
    {"jsonrpc": "2.0", "method": "notifications/initialized"},
    {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {"name": "run_python", "arguments": {"code": "x=1"}}},
]


class Server:
    """Our server as a bare process, spoken to by hand, so that it can be killed."""

    def __init__(self, *arguments: str, env: dict[str, str] | None = None) -> None:
        parameters = server_parameters(*arguments, env=env)
        self.process = subprocess.Popen(
            [parameters.command, *parameters.args],
            env=parameters.env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self._number = 10

    def send(self, *messages: dict[str, Any]) -> None:
        say(self.process, *messages)

    def receive(self, number: int) -> dict[str, Any]:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            message = json.loads(line)
            if message.get("id") == number:
                return message
        raise EOFError(self.process.stderr.read() if self.process.stderr else b"")

    def start(self) -> Server:
        """Until a sandbox lives."""
        self.send(*REQUESTS)
        self.receive(2)
        return self

    def call(self, code: str) -> str:
        self._number += 1
        self.send(
            {
                "jsonrpc": "2.0",
                "id": self._number,
                "method": "tools/call",
                "params": {"name": "run_python", "arguments": {"code": code}},
            }
        )
        return self.receive(self._number)["result"]["content"][0]["text"]

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def serve(runner_image: str) -> Iterator[Callable[..., Server]]:
    servers: list[Server] = []

    def start(*arguments: str) -> Server:
        servers.append(Server(*arguments))
        return servers[-1].start()

    yield start
    for server in servers:
        server.close()


@contextmanager
def removals(api: APIClient, containers: list[str]) -> Generator[Callable[[float], None]]:
    """Wait for the engine's word that all of *containers* have been destroyed, if not just before: servers of other
    tests sweep as well.
    """
    filters = {"type": "container", "event": ["destroy", "remove"]}  # as Docker and as Podman call it
    events = api.events(since=int(time.time()) - 60, filters=filters, decode=True)
    try:

        def wait(seconds: float) -> None:
            left = set(containers)
            with anyio_deadline(seconds, events):
                for event in events:
                    left.discard(event["id"])
                    if not left:
                        return
            raise AssertionError(f"still there: {left}")

        yield wait
    finally:
        events.close()


@contextmanager
def anyio_deadline(seconds: float, events: Any) -> Generator[None]:
    import threading

    timer = threading.Timer(seconds, events.close)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def anonymous_volumes(api: APIClient, container: str) -> set[str]:
    """Names of the volumes of *container* that nobody has named."""
    mounts = api.inspect_container(container)["Mounts"]
    return {mount["Name"] for mount in mounts if re.fullmatch("[0-9a-f]{64}", mount.get("Name", ""))}


@pytest.mark.parametrize("how", ["eof", "sigterm", "sigint", "eof-in-mid-run", "sigterm-in-mid-run"])
def test_an_ending_server_leaves_nothing(api: APIClient, serve: Callable[..., Server], how: str) -> None:
    server = serve()
    pid = server.process.pid
    (container,) = containers_of(api, pid)
    volumes = anonymous_volumes(api, container)
    if how.endswith("in-mid-run"):
        server.send(
            {
                "jsonrpc": "2.0",
                "id": 3,
                "method": "tools/call",
                "params": {"name": "run_python", "arguments": {"code": "import time; time.sleep(100)"}},
            }
        )
    if how.startswith("eof"):
        assert server.process.stdin is not None
        server.process.stdin.close()
        server.process.stdin = None
    else:
        server.process.send_signal(signal.SIGTERM if how.startswith("sigterm") else signal.SIGINT)
    status = server.process.wait(timeout=100)
    assert status == {"eof": 0, "sigterm": 143, "sigint": 130}[how.partition("-")[0]]
    assert container not in [item["Id"] for item in api.containers(all=True)]
    assert containers_of(api, pid) == []
    assert not volumes & {volume["Name"] for volume in api.volumes()["Volumes"] or []}


def test_a_killed_server_s_container_ends_by_itself(api: APIClient, serve: Callable[..., Server]) -> None:
    server = serve()
    containers = containers_of(api, server.process.pid)
    with removals(api, containers) as wait:
        server.process.kill()
        wait(120)


def test_only_what_has_no_living_owner_is_swept(
    api: APIClient, serve: Callable[..., Server], runner_image: str
) -> None:
    first, second = serve(), serve()
    assert first.call("x") == second.call("x")
    # A container of a dead owner that does not end by itself: its process knows nothing of us.
    dead = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    owner = Owner.current()
    label = Owner(owner.host, owner.boot, owner.namespace, int(dead.stdout), owner.began).to_label()
    foreign = Owner("another host", owner.boot, owner.namespace, int(dead.stdout), owner.began).to_label()
    left: dict[str, str] = {}
    for name, text in (("dead", label), ("foreign", foreign), ("garbage", "not json")):
        left[name] = api.create_container(
            runner_image,
            entrypoint=["sleep", "1000"],
            labels={"mcp-agentrun.role": "runner", "mcp-agentrun.owner": text},
        )["Id"]
        with suppress(APIError) if name == "dead" else nullcontext():  # servers of other tests sweep as well
            api.start(left[name])
    try:
        with removals(api, [left["dead"]]) as wait:
            third = serve()
            wait(100)
        alive = {item["Id"] for item in api.containers(all=True)}
        assert left["dead"] not in alive
        assert {left["foreign"], left["garbage"]} <= alive
        assert first.call("x += 1; x") == "2\n"
        assert second.call("x") == "1\n"
        assert third.call("x") == "1\n"
    finally:
        for name in ("foreign", "garbage"):
            api.remove_container(left[name], force=True)


@pytest.mark.anyio
async def test_sweeping_an_engine_twice_is_harmless(runner_image: str) -> None:
    engine = create_engine(Settings())
    try:
        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(engine.sweep)
    finally:
        await engine.aclose()
