"""The server's REST APIs: what they answer, who gets in, and what is left of a call."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import httpx2
import pytest

from tests.support.engines import ENGINE
from tests.support.http_server import TOKENS, HttpServer, client_for, http_client, http_server
from tests.support.processes import COMMAND_LINES

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def server(runner_image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HttpServer]:
    with http_server(tmp_path_factory.mktemp("rest"), "--pool", "1", "--body-limit", "1m") as running:
        yield running


@asynccontextmanager
async def _sandbox(http: httpx2.AsyncClient, **wanted: Any) -> AsyncGenerator[str]:
    """The path of a new sandbox."""
    created = await http.post("/v1/sandboxes", json=wanted)
    assert created.status_code == 201, created.text
    path = f"/v1/sandboxes/{created.json()['id']}"
    yield path
    assert (await http.delete(path)).status_code in (204, 404)


async def _output(http: httpx2.AsyncClient, code: str) -> str:
    answer = await http.post("/v1/run/", json={"code": code})
    assert answer.status_code == 200, answer.text
    return answer.json()["output"]


async def _run(http: httpx2.AsyncClient, sandbox: str, code: str, **options: Any) -> Any:
    answer = await http.post(f"{sandbox}/runs", json={"code": code, **options})
    assert answer.status_code == 200, answer.text
    return answer.json()


def _problem(answer: httpx2.Response, status: int) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == status and problem["type"] and problem["title"] and problem["detail"]
    return problem


async def test_agentrun_s_api_answers_as_agentrun_does(server: HttpServer) -> None:
    async with client_for(server) as http:
        assert await _output(http, 'print("hello, world!")') == "hello, world!\n"
        assert await _output(http, "print(2*3)\n4") == "6\n"
        assert "ZeroDivisionError" in await _output(http, "1/0")
        assert "SyntaxError" in await _output(http, "print((")
        assert (await http.get("/v1/health/")).json() == {"status": "ok"}
        for path, target in (("/", "/docs"), ("/v1/health", f"{server.url}/v1/health/")):
            redirect = await http.get(path)
            assert (redirect.status_code, redirect.headers["location"]) == (307, target)
        for body in ("{", "{}", '{"code": 1}', '{"code": NaN}', '{"code": "\\ud800"}', '{"code": "\\u0000"}'):
            refused = await http.post("/v1/run/", content=body, headers={"Content-Type": "application/json"})
            assert refused.status_code == 422, body
            assert refused.json()["detail"][0]["loc"][0] == "body"


async def test_a_stateless_call_leaves_nothing(server: HttpServer) -> None:
    traces = COMMAND_LINES + "\n".join(
        (
            "import os, sys, builtins, subprocess",
            "print(sorted(os.listdir()), sorted(os.listdir('/tmp')), hasattr(builtins, 'left'))",
            "print([line for line in command_lines() if b'sleep' in line])",
            "builtins.left = 1; open('left', 'w').close(); open('/tmp/left', 'w').close()",
            "subprocess.Popen(['sleep', '1000'])",
        )
    )
    async with client_for(server) as http, client_for(server, "bob") as other:
        first = await _output(http, traces)
        assert [await _output(who, traces) for who in (http, other, http, other)] == [first] * 4


async def test_a_client_that_leaves_has_its_code_interrupted(server: HttpServer) -> None:
    async with client_for(server) as http, _sandbox(http) as sandbox:
        waiting = "import time\ntry:\n    open('begun', 'w')\n    time.sleep(1000)\nfinally:\n    x = 'interrupted'"
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_run, http, sandbox, waiting)
            with anyio.fail_after(30):
                while not (await http.get(f"{sandbox}/files")).json()["files"]:
                    await anyio.sleep(0.02)  # a file that appears is not announced
            tasks.cancel_scope.cancel()
        with anyio.fail_after(30):
            assert (await _run(http, sandbox, "x"))["value"] == "'interrupted'"
        with anyio.move_on_after(0.5):
            await _output(http, "while True: pass")
        with anyio.fail_after(60):
            assert await _output(http, "print(1)") == "1\n"


async def test_a_sandbox_is_created_used_and_deleted(server: HttpServer) -> None:
    async with client_for(server) as http, _sandbox(http, lifetime=100, packages=["six"]) as sandbox:
        listed = (await http.get("/v1/sandboxes")).json()["sandboxes"]
        assert sandbox.rpartition("/")[2] in [each["id"] for each in listed]
        assert (await _run(http, sandbox, "x = 41"))["outcome"] == "ok"
        run = await _run(http, sandbox, "print('out')\nx + 1")
        assert (run["output"], run["value"], run["exit_code"], run["number"]) == ("out\n42\n", "42", 0, 2)
        failed = await _run(http, sandbox, "1/0")
        assert failed["error"] == {"type": "ZeroDivisionError", "message": "division by zero", "line": 1}
        late = await _run(http, sandbox, "while True: pass", timeout=0.5)
        assert late["outcome"] == "timeout" and "time limit of 0.5 s" in late["notes"][0]
        installed = await http.post(f"{sandbox}/packages", json={"packages": ["six"]})
        assert installed.json()["satisfied"][0]["name"] == "six"
        assert (await http.post(f"{sandbox}/reset")).status_code == 200
        assert (await _run(http, sandbox, "x"))["error"]["type"] == "NameError"
        assert (await http.delete(sandbox)).status_code == 204
        _problem(await http.get(sandbox), 404)


async def test_a_sandbox_can_have_lower_limits_than_the_operator_s(server: HttpServer) -> None:
    limits = {"memory": 400 << 20, "cpus": 0.5, "pids": 32, "tmp_size": 1 << 20, "max_timeout": 20}
    async with client_for(server) as http, _sandbox(http, limits=limits) as sandbox:
        about = (await http.get(sandbox)).json()["limits"]
        assert {name: about[name] for name in limits} == limits and about["workspace_size"] < 256 << 20
        if ENGINE != "kubernetes":  # which limits folders from 1.22 on
            size = await _run(
                http, sandbox, "import os; folder = os.statvfs('/tmp'); folder.f_blocks * folder.f_frsize"
            )
            assert size["value"] == str(1 << 20)
        late = await http.post(f"{sandbox}/runs", json={"code": "1", "timeout": 21})
        assert "at most 20 s" in _problem(late, 422)["detail"]
        killed = await _run(http, sandbox, "x = bytearray(500 << 20)")
        assert killed["outcome"] == "memory_limit" and "400 MiB" in killed["notes"][0]
        for wrong in (
            {"memory": 1 << 40},
            {"memory": 1 << 20},
            {"cpus": 0},
            {"cpus": True},
            {"pids": "32"},
            {"size": 1},
        ):
            refused = await http.post("/v1/sandboxes", json={"limits": wrong})
            assert next(iter(wrong)) in _problem(refused, 422)["detail"], wrong


async def test_a_run_is_streamed_as_events(server: HttpServer) -> None:
    code = (
        "print('one', flush=True)\nopen('f.txt', 'w').close()\nimport matplotlib.pyplot as plt\n"
        "plt.plot([1, 2]); plt.show()\n2"
    )
    async with client_for(server) as http, _sandbox(http) as sandbox:
        body = {"code": code}
        async with http.stream("POST", f"{sandbox}/runs", json=body, headers={"Accept": "text/event-stream"}) as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            events = [event async for event in _events(answer)]
        names = [name for name, _ in events]
        assert list(dict.fromkeys(names)) == ["output", "image", "file", "result"]
        assert "".join(data["text"] for name, data in events if name == "output") == "one\n2\n"
        assert base64.b64decode(dict(events)["image"]["data"]).startswith(b"\x89PNG")
        assert dict(events)["file"]["path"] == "f.txt"
        assert (events[-1][1]["value"], events[-1][1]["more_files"]) == ("2", 0)
        async with http.stream(
            "POST", f"{sandbox}/runs", json={"code": "1", "timeout": 1e6}, headers={"Accept": "text/event-stream"}
        ) as answer:
            [(name, problem)] = [event async for event in _events(answer)]
        assert (name, problem["status"]) == ("problem", 422)


async def _events(answer: httpx2.Response) -> AsyncIterator[tuple[str, Any]]:
    name = ""
    async for line in answer.aiter_lines():
        field, _, value = line.partition(": ")
        if field == "event":
            name = value
        elif field == "data":
            yield name, json.loads(value)


async def test_files_are_uploaded_listed_downloaded_and_removed(server: HttpServer) -> None:
    data = bytes(range(256)) * 20_000  # more than the limit of other bodies
    async with client_for(server) as http, _sandbox(http) as sandbox:
        file = f"{sandbox}/files/folder/a%20file.bin"
        written = await http.put(file, content=data)
        assert written.json()["size"] == len(data)
        [listed] = (await http.get(f"{sandbox}/files")).json()["files"]
        assert (listed["path"], listed["url_path"]) == ("folder/a file.bin", "folder/a%20file.bin")
        whole = await http.get(file)
        assert whole.content == data and whole.headers["content-length"] == str(len(data))
        head = await http.head(file)
        assert (head.headers["content-length"], head.headers["etag"]) == (str(len(data)), whole.headers["etag"])
        size = len(data)
        for given, part in (
            ("bytes=0-9", data[:10]),
            ("bytes=0-", data),
            (f"bytes={(1 << 20) - 5}-{(1 << 20) + 4}", data[(1 << 20) - 5 : (1 << 20) + 5]),
            (f"bytes={size - 7}-", data[-7:]),
            ("bytes=-7", data[-7:]),
            (f"bytes=-{size + 200}", data),
            (f"bytes={size - 3}-{'9' * 300}", data[-3:]),
        ):
            answer = await http.get(file, headers={"Range": given})
            assert (answer.status_code, answer.content) == (206, part), given
            assert answer.headers["content-range"].endswith(f"/{size}")
        for given in ("bytes=9-0", "bytes=-", "bytes=0-1,5-6", "lines=1-2"):
            assert (await http.get(file, headers={"Range": given})).status_code == 200, given
        _problem(await http.get(file, headers={"Range": f"bytes={size}-"}), 416)
        changed = {"Range": "bytes=0-9", "If-Range": '"another"'}
        assert (await http.get(file, headers=changed)).status_code == 200
        assert (await http.delete(file)).status_code == 204
        assert _problem(await http.get(file), 404)["type"].endswith(":file-missing")
        await _run(http, sandbox, "for name in b'z\\xff', b'a\\nb\\n': open(name, 'w').write('odd')")
        for odd in (await http.get(f"{sandbox}/files")).json()["files"]:
            assert (await http.get(f"{sandbox}/files/{odd['url_path']}")).text == "odd"


async def test_files_are_changed_only_under_the_conditions_of_a_request(server: HttpServer) -> None:
    async with client_for(server) as http, _sandbox(http) as sandbox:
        file = f"{sandbox}/files/f"

        async def answers(method: str, **headers: str) -> int:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            content = b"new" if method == "PUT" else None
            return (await http.request(method, file, headers=named, content=content)).status_code

        for method in ("PUT", "DELETE"):
            assert await answers(method, If_Match="*") == 412
        assert await answers("PUT", If_None_Match="*") == 200
        tag = (await http.head(file)).headers["etag"]
        for method in ("PUT", "DELETE"):
            assert await answers(method, If_None_Match="*") == 412
            assert await answers(method, If_Match=f'"other", W/{tag}') == 412
            assert await answers(method, If_None_Match=f'"other", {tag}') == 412
        assert await answers("GET", If_Match='"other"') == await answers("HEAD", If_Match='"other"') == 412
        unchanged = await http.get(file, headers={"If-None-Match": f"W/{tag}"})
        assert (unchanged.status_code, unchanged.content, unchanged.headers["etag"]) == (304, b"", tag)
        assert await answers("GET", If_None_Match='"other"', If_Match="*") == 200
        assert await answers("PUT", If_Match=f'"other", {tag}') == 200
        assert (await http.head(file)).headers["etag"] != tag
        assert _problem(await http.put(file, content=b"x", headers={"If-Match": tag}), 412)["type"].endswith(
            ":file-changed"
        )
        assert await answers("PUT", Content_Range="bytes 0-2/5") == 400
        assert await answers("PUT", Content_Encoding="gzip") == 415
        assert await answers("PUT", Content_Encoding="identity") == 200
        assert await answers("DELETE", If_Match="*") == 204


async def test_a_method_that_is_not_allowed_is_answered_with_those_that_are(server: HttpServer) -> None:
    async with client_for(server) as http:
        refused = await http.patch("/v1/sandboxes/x")
        _problem(refused, 405)
        assert refused.headers["allow"] == "DELETE, GET"
        assert (await http.patch("/v1/sandboxes/x/files/y")).headers["allow"] == "DELETE, GET, HEAD, PUT"


ROUTES = [
    ("POST", "/v1/run/"),
    ("GET", "/v1/health/"),
    ("GET", "/v1/sandboxes"),
    ("POST", "/v1/sandboxes"),
    ("GET", "/v1/sandboxes/{id}"),
    ("DELETE", "/v1/sandboxes/{id}"),
    ("POST", "/v1/sandboxes/{id}/reset"),
    ("POST", "/v1/sandboxes/{id}/runs"),
    ("POST", "/v1/sandboxes/{id}/packages"),
    ("GET", "/v1/sandboxes/{id}/files"),
    ("GET", "/v1/sandboxes/{id}/files/f"),
    ("HEAD", "/v1/sandboxes/{id}/files/f"),
    ("PUT", "/v1/sandboxes/{id}/files/f"),
    ("DELETE", "/v1/sandboxes/{id}/files/f"),
    ("GET", "/v1/runs"),
    ("POST", "/v1/runs"),
    ("GET", "/v1/runs/{run}"),
    ("DELETE", "/v1/runs/{run}"),
    ("GET", "/v1/runs/{run}/output"),
    ("POST", "/v1/runs/{run}/cancel"),
]
BODY = json.dumps({"code": "1"})


async def test_every_route_is_probed(server: HttpServer) -> None:
    async with http_client() as http:
        document = (await http.get(f"{server.url}/openapi.json")).json()
    documented = {
        (method.upper(), path.replace("{sandbox}", "{id}").replace("{path}", "f"))
        for path, methods in document["paths"].items()
        for method in methods
    }
    assert documented == set(ROUTES)


@pytest.mark.parametrize(("method", "path"), ROUTES)
async def test_nobody_gets_in_who_does_not_belong(server: HttpServer, method: str, path: str) -> None:
    async with client_for(server) as alice, _sandbox(alice) as sandbox, http_client() as http:
        url = server.url + path.replace("/v1/sandboxes/{id}", sandbox)
        own = {"Content-Type": "application/json", "Authorization": f"Bearer {TOKENS['bob']}"}
        for headers, status in (
            ({"Content-Type": "application/json"}, 401),
            ({**own, "Authorization": "Bearer wrong-token-0123456789"}, 401),
            ({**own, "Host": "evil.example"}, 421),
            ({**own, "Origin": "https://evil.example"}, 403),
        ):
            answer = await http.request(method, url, content=BODY, headers=headers)
            assert answer.status_code == status, headers
            if method != "HEAD":
                _problem(answer, status)
        if "{id}" in path:
            bodies = {"runs": BODY, "packages": '{"packages": ["six"]}'}
            for stolen in (url, url.replace(sandbox, "/v1/sandboxes/new"), url.replace(sandbox, "/v1/sandboxes/guess")):
                body = bodies.get(path.rpartition("/")[2], "{}")
                answer = await http.request(method, stolen, content=body, headers=own)
                assert answer.status_code == 404, stolen
            assert (await alice.get(sandbox)).status_code == 200
        if "/v1/runs" in path and (method, path) != ("GET", "/v1/runs"):
            body = {"sandbox": sandbox.rpartition("/")[2], "code": "import time; time.sleep(1000)"}
            run = (await alice.post("/v1/runs", json=body)).headers["location"]
            for stolen in (run, "/v1/runs/guess"):
                url = server.url + path.replace("/v1/runs/{run}", stolen)
                _problem(await http.request(method, url, json=body, headers=own), 404)
            assert (await alice.get(run)).json()["status"] != "done"


async def test_the_documentation_needs_neither_a_token_nor_the_internet(server: HttpServer) -> None:
    async with http_client() as http:
        page = await http.get(f"{server.url}/docs")
        assert page.status_code == 200 and "://" not in page.text
        for asset in ("swagger-ui-bundle.js", "swagger-ui.css", "favicon.png"):
            assert f"/docs/assets/{asset}" in page.text
            assert (await http.get(f"{server.url}/docs/assets/{asset}")).status_code == 200
        for path in ("/docs/../v1/health/", "/docs/%2e%2e/v1/health/", "/docs/assets/%2e%2e/%2e%2e/app.py", "/docs//"):
            request = httpx2.Request("GET", httpx2.URL(server.url).copy_with(raw_path=path.encode()))
            assert (await http.send(request)).status_code in (307, 401, 404), path


async def test_paths_of_files_lead_nowhere_else(server: HttpServer) -> None:
    async with client_for(server) as http, _sandbox(http) as sandbox:
        made = await _run(http, sandbox, "import os; os.symlink('/tmp', 'link'); os.mkdir('folder')")
        assert made["outcome"] == "ok", made
        for path, status in (
            ("%2e%2e/etc/passwd", 422),
            ("%2e%2e/%2e%2e/etc/passwd", 422),
            ("a/%2e%2e/%2e%2e/b", 422),
            ("/etc/passwd", 422),
            ("%2Fetc%2Fpasswd", 422),
            ("a%00b", 422),
            ("x" * 5000, 422),
            ("link", 409),
            ("folder", 409),
            ("", 409),
        ):
            for method in ("GET", "PUT", "DELETE"):
                if (method, path) == ("DELETE", "link"):
                    continue  # which removes the link
                url = httpx2.URL(server.url).copy_with(raw_path=f"{sandbox}/files/{path}".encode())
                answer = await http.send(
                    httpx2.Request(method, url, headers=http.headers, content=b"x" if method == "PUT" else None)
                )
                _problem(answer, status)
        assert (await _run(http, sandbox, "sorted(os.listdir())"))["value"] == "['folder', 'link']"


async def test_bodies_that_are_malformed_or_too_large_are_refused(server: HttpServer) -> None:
    async with client_for(server) as http, _sandbox(http) as sandbox:
        for path in ("/v1/runs", "/v1/sandboxes", f"{sandbox}/runs", f"{sandbox}/packages", f"{sandbox}/reset"):
            for body in (b"{", b"\xff", b"[" * 100_000, b"1" * 5000, b"null,", b'{"\\ud800": 1}', b'{"timeout": NaN}'):
                answer = await http.post(path, content=body, headers={"Content-Type": "application/json"})
                assert answer.status_code in (400, 422), (path, body[:20])
                _problem(answer, answer.status_code)
            huge = await http.post(path, content=b" " * (2 << 20), headers={"Content-Type": "application/json"})
            assert _problem(huge, 413)["type"].endswith(":body"), path
        for lifetime in (0.5, 1e9, -1):
            _problem(await http.post("/v1/sandboxes", json={"lifetime": lifetime}), 422)
        with_limit = await http.put(f"{sandbox}/files/large", content=_zeros(300))
        assert _problem(with_limit, 413)["type"].endswith(":file-too-large")
        assert (await http.get(f"{sandbox}/files")).json()["files"] == []


async def _zeros(mebibytes: int) -> AsyncIterator[bytes]:
    for _ in range(mebibytes):
        yield bytes(1 << 20)
