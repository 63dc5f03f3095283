"""`make mixed-hour`: an hour of work through MCP, REST and AgentRun's API, and what the audit trail says of it.

The hour takes HOUR seconds: 3600 is a real one, and by default the same calls follow each other faster. The one-line
questions of docs/audit.md are asked as they are there. Their answers must be what the clients have counted themselves.
"""

from __future__ import annotations

import os
import random
import re
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
from docker import APIClient
from mcp import Client

from tests.support.audit_questions import AUDIT_PAGE, HAS_JQ, answers
from tests.support.http_server import TOKENS, HttpServer, client_for, http_client, http_server, open_http_client
from tests.support.image import named_anew
from tests.support.local_index import make_wheel

pytestmark = [pytest.mark.anyio, pytest.mark.skipif(not HAS_JQ, reason="the page's commands need jq")]

SECONDS = float(os.environ.get("HOUR", "120"))
CALLS = 200
"""Of each client in the hour, on average."""

STRANGERS = 30
"""Requests without a valid token, in the hour: below what is recorded one by one."""

FORBIDDEN = "import shutil; shutil.rmtree('/')"
BURN = "import time\nend = time.process_time() + 0.2\nwhile time.process_time() < end: pass"

Act = Callable[[], Awaitable[object]]


class Counted:
    """What the clients know of their own calls."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.refusals: Counter[tuple[str, str, str]] = Counter()
        """By who, action and reason."""
        self.packages: set[str] = set()
        self.burnt = 0

    def refused(self, who: str, action: str, reason: str, answer: httpx2.Response, status: int) -> None:
        assert answer.status_code == status, answer.text
        self.refusals[who, action, reason] += 1


async def spread(seed: str, number: int, acts: dict[str, tuple[int, Act]], counted: Counted) -> None:
    """Do about *number* of *acts*, at random times of the hour, each as often as its weight says."""
    chance = random.Random(seed)
    with anyio.move_on_after(SECONDS) as hour:
        while True:
            await anyio.sleep(chance.expovariate(number / SECONDS))
            (name,) = chance.choices([*acts], [weight for weight, _ in acts.values()])
            with anyio.CancelScope(shield=True):  # each call is counted
                await acts[name][1]()
            counted.calls[f"{seed}: {name}"] += 1
    assert hour.cancelled_caught


def over_mcp(client: Client, counted: Counted) -> dict[str, tuple[int, Act]]:
    async def run(code: str) -> None:
        await client.call_tool("run_python", {"code": code})

    async def forbidden() -> None:
        await run(FORBIDDEN)
        counted.refusals["alice", "run", "rule"] += 1

    async def install() -> None:
        await client.call_tool("install_package", {"packages": "alpha"})
        counted.packages |= {"alpha==1.0", "beta==2.0"}

    async def denied() -> None:
        await client.call_tool("install_package", {"packages": "evil"})
        counted.refusals["alice", "install", "requirements"] += 1

    return {
        "run": (60, lambda: run("x = 1\nprint('private')")),
        "error": (10, lambda: run("1 / 0")),
        "forbidden": (5, forbidden),
        "install": (5, install),
        "denied": (3, denied),
        "reset": (5, lambda: client.call_tool("reset_sandbox", {})),
    }


def over_rest(http: httpx2.AsyncClient, sandboxes: list[str], counted: Counted) -> dict[str, tuple[int, Act]]:
    heavy, light = sandboxes[:2]

    async def burn() -> None:
        await http.post(f"{heavy}/runs", json={"code": BURN})
        counted.burnt += 1

    async def in_background() -> None:
        started = await http.post("/v1/runs", json={"sandbox": light.rpartition("/")[2], "code": "print('private')"})
        ended = await http.get(started.headers["location"], params={"wait": 60})
        assert ended.json()["status"] == "done", ended.text

    async def files() -> None:
        assert (await http.put(f"{light}/files/a.txt", content=b"private")).status_code == 200
        assert (await http.get(f"{light}/files/a.txt")).content == b"private"

    async def streamed() -> None:
        events = {"Accept": "text/event-stream"}
        answer = await http.post(f"{light}/runs", json={"code": "print('private')"}, headers=events)
        assert "event: result" in answer.text

    async def install() -> None:
        assert (await http.post(f"{light}/packages", json={"packages": ["gamma"]})).status_code == 200
        counted.packages.add("gamma==3.0")

    async def another() -> None:
        counted.refused("bob", "open", "quota", await http.post("/v1/sandboxes"), 429)

    async def guessed() -> None:
        for kind, reason in (("sandboxes", "sandbox"), ("runs", "run")):
            counted.refused("bob", "open", reason, await http.get(f"/v1/{kind}/guessed"), 404)

    async def too_long() -> None:
        body = {"code": "1", "timeout": 1e6}
        counted.refused("bob", "run", "timeout", await http.post(f"{light}/runs", json=body), 422)
        body["sandbox"] = light.rpartition("/")[2]
        counted.refused("bob", "run", "timeout", await http.post("/v1/runs", json=body), 422)

    return {
        "run": (20, streamed),
        "burn": (20, burn),
        "background": (15, in_background),
        "files": (15, files),
        "install": (3, install),
        "another": (4, another),
        "guessed": (4, guessed),
        "too long": (4, too_long),
    }


def over_agentrun(http: httpx2.AsyncClient, counted: Counted) -> dict[str, tuple[int, Act]]:
    async def run(code: str) -> str:
        return (await http.post("/v1/run/", json={"code": code})).json()["output"]

    async def forbidden() -> None:
        await run(FORBIDDEN)
        counted.refusals["alice", "run", "rule"] += 1

    return {
        "run": (30, lambda: run("print('private')")),
        "error": (5, lambda: run("1 / 0")),
        "forbidden": (3, forbidden),
    }


def of_strangers(http: httpx2.AsyncClient, counted: Counted) -> dict[str, tuple[int, Act]]:
    async def ask(who: str, reason: str, status: int, headers: dict[str, str]) -> None:
        counted.refused(who, "request", reason, await http.get("/v1/sandboxes", headers=headers), status)

    bob = {"Authorization": f"Bearer {TOKENS['bob']}"}
    return {
        "no token": (2, lambda: ask("127.0.0.1", "token", 401, {})),
        "wrong token": (2, lambda: ask("127.0.0.1", "token", 401, {"Authorization": "Bearer wrong-token-0123456789"})),
        "forged host": (1, lambda: ask("bob", "host", 421, {**bob, "Host": "evil.example"})),
        "forged origin": (1, lambda: ask("bob", "origin", 403, {**bob, "Origin": "https://evil.example"})),
    }


async def work(server: HttpServer) -> tuple[Counted, list[str]]:
    """Let all clients work for the hour. Return what they have counted, and Bob's sandboxes."""
    counted = Counted()
    made: list[str] = []
    async with (
        open_http_client(server, "streamable", "legacy") as alice,
        client_for(server, "bob") as bob,
        client_for(server) as agent,
        http_client() as stranger,
        anyio.create_task_group() as tasks,
    ):
        stranger.base_url = server.url
        made += [f"/v1/sandboxes/{(await bob.post('/v1/sandboxes')).json()['id']}" for _ in range(3)]
        tasks.start_soon(spread, "MCP", CALLS, over_mcp(alice, counted), counted)
        tasks.start_soon(spread, "REST", CALLS, over_rest(bob, made, counted), counted)
        for number in (1, 2):
            tasks.start_soon(spread, f"AgentRun's API {number}", CALLS, over_agentrun(agent, counted), counted)
        tasks.start_soon(spread, "strangers", STRANGERS, of_strangers(stranger, counted), counted)
    return counted, made


async def test_the_questions_are_answered_as_the_clients_have_counted(
    runner_image: str, api: APIClient, tmp_path: Path
) -> None:
    path, wheels = tmp_path / "audit" / "audit.jsonl", tmp_path / "wheels"
    make_wheel(wheels, "alpha", needs=("beta",))
    make_wheel(wheels, "beta", "2.0")
    make_wheel(wheels, "gamma", "3.0")
    with named_anew(api, runner_image) as image:
        options = ("--image", image, "--offline", "--wheelhouse", str(wheels), "--max-sandboxes", "3")
        with http_server(tmp_path, "--audit-file", str(path), *options, "--packages-deny", "evil") as server:
            counted, made = await work(server)
            assert server.end() == 143
    found = answers(path)
    commands = re.findall(r"^\$ (.+)$", AUDIT_PAGE.read_text("utf-8"), re.MULTILINE)
    for question, lines in zip((each for each in commands if "| jq" in each), found, strict=True):
        print("", f"$ {question}", *lines, sep="\n")
    print("", *(f"{number:5} {name}" for name, number in sorted(counted.calls.items())), sep="\n")
    refused, busiest, packages = found
    assert Counter(_who_and_why(line) for line in refused) == counted.refusals
    who, _, seconds = busiest[0].split("\t")
    assert who == "bob" and float(seconds) >= counted.burnt * 0.2
    assert packages == sorted(counted.packages)
    for secret in ("private", "rmtree", "wrong-token", "evil.example", *TOKENS.values(), *made):
        assert secret.rpartition("/")[2] not in path.read_text()


def _who_and_why(line: str) -> Any:
    return tuple(line.split("\t")[1:4])
