"""Two real servers that are replicas: sandboxes are found through either, and what is left when one is killed."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import anyio
import httpx2
import pytest

from tests.support.clients import facts_of, text_of
from tests.support.http_server import HttpServer, bound, client_for, http_server, open_http_client

pytestmark = pytest.mark.anyio

WAYS = [("streamable", "legacy"), ("streamable", "2026-07-28"), ("sse", "legacy"), ("sse", "2026-07-28")]


def _replicas(folder: Path, stack: ExitStack) -> list[HttpServer]:
    with ExitStack() as free:
        ports = [free.enter_context(closing(bound())).getsockname()[1] for _ in range(2)]
    urls = [f"http://127.0.0.1:{port}" for port in ports]
    return [
        stack.enter_context(
            http_server(folder, "--pool", "1", "--port", str(port), "--peers", ",".join(urls), "--own-url", url)
        )
        for port, url in zip(ports, urls, strict=True)
    ]


@pytest.fixture(scope="module")
def replicas(runner_image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[HttpServer]]:
    with ExitStack() as stack:
        yield _replicas(tmp_path_factory.mktemp("peers"), stack)


@pytest.mark.parametrize(("transport", "mode"), WAYS)
async def test_a_sandbox_is_found_through_either_replica(replicas: list[HttpServer], transport: str, mode: str) -> None:
    one, other = replicas
    async with open_http_client(one, transport, mode) as client:
        made = await client.call_tool("run_python", {"code": "x = 41", "sandbox": "new"})
        handle = facts_of(made)["sandbox"]
    async with open_http_client(other, transport, mode) as client:
        again = await client.call_tool("run_python", {"code": "x + 1", "sandbox": handle})
        assert text_of(again) == "42\n"
    async with client_for(one) as http:
        ran = await http.post(f"/v1/sandboxes/{handle}/runs", json={"code": "x + 2"})
        assert ran.json()["output"] == "43\n"
        assert (await http.delete(f"/v1/sandboxes/{handle}")).status_code == 204


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize(("transport", "mode"), WAYS)
async def test_a_cancelled_call_is_interrupted_through_either_replica(
    replicas: list[HttpServer], transport: str, mode: str, number: int
) -> None:
    async with open_http_client(replicas[number], transport, mode) as client:
        made = await client.call_tool("run_python", {"code": "import time; x = 5", "sandbox": "new"})
        handle = {"sandbox": facts_of(made)["sandbox"]}
        with anyio.move_on_after(0.5):
            await client.call_tool("run_python", {"code": "time.sleep(100)", **handle})
        with anyio.fail_after(30):
            assert text_of(await client.call_tool("run_python", {"code": "x", **handle})) == "5\n"


@pytest.mark.parametrize("number", [0, 1])
async def test_files_pass_either_replica(replicas: list[HttpServer], number: int) -> None:
    data = bytes(range(256)) * 40_000  # more than a request of other kinds may have
    async with client_for(replicas[number]) as http:
        path = f"/v1/sandboxes/{(await http.post('/v1/sandboxes')).json()['id']}"
        assert (await http.put(f"{path}/files/a%20b", content=data)).status_code == 200
        assert (await http.get(f"{path}/files/a%20b")).content == data
        assert (await http.delete(path)).status_code == 204


async def _kill_during_a_run(server: HttpServer, http: httpx2.AsyncClient, path: str) -> None:
    body = {"code": "import time; print('begun', flush=True); time.sleep(100)"}
    async with http.stream("POST", path, json=body, headers={"Accept": "text/event-stream"}) as events:
        async for line in events.aiter_lines():
            if "begun" in line:
                server.end(signal.SIGKILL)


async def test_the_clients_of_a_replica_that_is_killed_begin_anew(runner_image: str, tmp_path: Path) -> None:
    with ExitStack() as stack:
        both = _replicas(tmp_path, stack)
        async with client_for(both[0]) as http, client_for(both[1]) as second:
            sandbox = (await http.post("/v1/sandboxes")).json()["id"]
            is_first = "agentrun_sandboxes 1.0" in (await http.get("/metrics")).text
            home, http = (both[0], second) if is_first else (both[1], http)
            runs = f"/v1/sandboxes/{sandbox}/runs"
            with pytest.raises(httpx2.RemoteProtocolError):
                await _kill_during_a_run(home, http, runs)
            unknown = await http.post(runs, json={"code": "1"})
            assert (unknown.status_code, unknown.json()["type"]) == (404, "urn:mcp-agentrun:problem:unknown-sandbox")
            again = (await http.post("/v1/sandboxes")).json()["id"]
            assert (await http.post(f"/v1/sandboxes/{again}/runs", json={"code": "1"})).json()["output"] == "1\n"
