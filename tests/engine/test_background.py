"""Runs in the background: they outlive their client, are seen by their principal only, and leave nothing."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import httpx2
import pytest
from docker import APIClient

from tests.support.containers import containers_of
from tests.support.http_server import TOKENS, HttpServer, client_for, http_server
from tests.support.processes import COMMAND_LINES

pytestmark = pytest.mark.anyio

ENDLESS = (
    "import subprocess, time\nx = 41\nsubprocess.Popen(['sleep', '1000'])\nprint('begun', flush=True)\ntime.sleep(1000)"
)

LEFT = COMMAND_LINES + 'x, [program for program in command_lines() if b"1000" in program]'

CLIENT = """
import json, sys, time, urllib.request
url, token, code = sys.argv[1:]

def post(path, **body):
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    with urllib.request.urlopen(urllib.request.Request(url + path, json.dumps(body).encode(), headers)) as answer:
        return answer.status, answer.headers["Location"], json.load(answer)

_, _, sandbox = post("/v1/sandboxes")
status, location, run = post("/v1/runs", sandbox=sandbox["id"], code=code, timeout=900)
assert (status, location) == (202, f"/v1/runs/{run['id']}")
print(run["id"], flush=True)
time.sleep(1000)
"""


@pytest.fixture(scope="module")
def server(runner_image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HttpServer]:
    options = ("--pool", "0", "--max-timeout", "900", "--output-keep", "64k")
    with http_server(tmp_path_factory.mktemp("background"), *options) as running:
        yield running


async def started(http: httpx2.AsyncClient, sandbox: str, code: str, **options: Any) -> str:
    """The path of a run that has printed something."""
    accepted = await http.post("/v1/runs", json={"sandbox": sandbox, "code": code, **options})
    assert accepted.status_code == 202, accepted.text
    await printed(http, path := accepted.headers["Location"])
    return path


async def printed(http: httpx2.AsyncClient, path: str, size: int = 1) -> None:
    """Wait until the run has printed *size* bytes."""
    with anyio.fail_after(60):
        while (run := (await http.get(path)).json())["output_size"] < size:
            assert run["status"] != "done", run
            await anyio.sleep(0.02)  # it is not announced


def run_of_a_killed_client(server: HttpServer) -> str:
    """The path of a run whose client has been killed."""
    command = [sys.executable, "-c", CLIENT, server.url, TOKENS["alice"], ENDLESS]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        process.kill()
    return f"/v1/runs/{line.decode().strip()}"


async def test_a_run_outlives_its_client_and_leaves_nothing(server: HttpServer, api: APIClient) -> None:
    path = await anyio.to_thread.run_sync(run_of_a_killed_client, server)
    async with client_for(server) as http, client_for(server, "bob") as stranger:
        await printed(http, path, len("begun\n"))
        run = (await http.get(path)).json()
        assert (run["status"], run["result"], run["problem"], run["ended"]) == ("running", None, None, None)
        part = (await http.get(f"{path}/output")).json()
        assert part == {"status": "running", "output_size": 6, "offset": 0, "next_offset": 6, "text": "begun\n"}
        for method, route in (("GET", ""), ("GET", "/output"), ("POST", "/cancel"), ("DELETE", "")):
            refused = await stranger.request(method, path + route)
            assert refused.status_code == 404, route
            assert refused.headers["content-type"] == "application/problem+json"
            assert refused.json() == (await http.request(method, f"/v1/runs/unknown{route}")).json()
        cancelled = (await http.post(f"{path}/cancel")).json()
        assert (cancelled["status"], cancelled["result"]["outcome"]) == ("done", "cancelled")
        assert cancelled["result"]["output"].startswith("begun\n") and cancelled["result"]["state"] == "kept"
        assert (await http.get(path)).json() == cancelled
        sandbox = f"/v1/sandboxes/{run['sandbox']}"
        left = (await http.post(f"{sandbox}/runs", json={"code": LEFT})).json()
        assert left["value"] == "(41, [])"
        assert (await http.delete(path)).status_code == 204
        assert (await http.get(path)).status_code == 404
        assert (await http.delete(sandbox)).status_code == 204
    with anyio.fail_after(60):
        while containers_of(api, server.process.pid):
            await anyio.sleep(0.05)  # the engine says nothing when a container has gone


async def test_a_run_is_waited_for(server: HttpServer) -> None:
    async with client_for(server) as http:
        sandbox = (await http.post("/v1/sandboxes")).json()["id"]
        path = await started(http, sandbox, "print('漢' * 100_000, flush=True)\nopen('go', 'x').close()\n'end'")
        run = (await http.get(path, params={"wait": 60})).json()
        assert run["status"] == "done" and run["result"]["value"] == "'end'"
        assert [file["path"] for file in run["result"]["files"]] == ["go"]
        assert run["output_size"] == run["result"]["output_size"] == 300_007
        offset, text = 0, ""
        while offset < run["output_size"]:
            part = (await http.get(f"{path}/output", params={"offset": offset})).json()
            offset, text = part["next_offset"], text + part["text"]
        head, tail = 65536 // 3, (65536 - 7) // 3
        assert text == "漢" * (head + tail) + "\n'end'\n"
        await started(http, sandbox, ENDLESS)
        waiting = (await http.post("/v1/runs", json={"sandbox": sandbox, "code": "1"})).headers["Location"]
        assert (await http.get(waiting, params={"wait": 0.1})).json()["status"] == "queued"
        assert (await http.delete(f"/v1/sandboxes/{sandbox}")).status_code == 204
        run = (await http.get(waiting, params={"wait": 30})).json()
        assert (run["status"], run["started"], run["result"]["outcome"]) == ("done", None, "cancelled")


async def test_what_can_not_be_run_is_refused(server: HttpServer) -> None:
    async with client_for(server) as http, client_for(server, "bob") as stranger:
        sandbox = (await http.post("/v1/sandboxes")).json()["id"]
        good = {"sandbox": sandbox, "code": "1"}
        assert (await stranger.post("/v1/runs", json=good)).status_code == 404
        for change, status in (
            ({"sandbox": "new"}, 404),
            ({"sandbox": ""}, 404),
            ({"timeout": 901}, 422),
            ({"code": "\0"}, 422),
            ({"more": 1}, 422),
        ):
            refused = await http.post("/v1/runs", json={**good, **change})
            assert refused.status_code == status, change
            assert refused.headers["content-type"] == "application/problem+json" and refused.json()["detail"]
        for query in ("?wait=61", "?wait=-1", "?wait=x", "/output?offset=-1", "/output?offset=x"):
            assert (await http.get(f"/v1/runs/unknown{query}")).status_code == 422, query
        assert (await http.delete(f"/v1/sandboxes/{sandbox}")).status_code == 204


async def test_runs_end_with_the_server(runner_image: str, tmp_path: Path, api: APIClient) -> None:
    with http_server(tmp_path, "--pool", "0", "--drain", "0.5", "--max-timeout", "900") as server:
        async with client_for(server) as http:
            await printed(http, await anyio.to_thread.run_sync(run_of_a_killed_client, server))
        assert containers_of(api, server.process.pid)
        assert await anyio.to_thread.run_sync(server.end) == 143
        assert not containers_of(api, server.process.pid)
