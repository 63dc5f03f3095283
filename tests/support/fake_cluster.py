"""An API server of Kubernetes that misbehaves as the tests want: what a real one does only when something is broken."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from mcp_agentrun.wire.messages import MessageDecoder, encode
from tests.support.fake_engine import honest_installer, honest_runner
from tests.support.http_server import serve_here

__all__ = ["FakeCluster", "Process", "end", "running", "unschedulable", "waiting"]

_PODS = "/api/v1/namespaces/sandboxes/pods"
_STDIN, _STDOUT, _STDERR, _STATUS = range(4)
ARCHIVE = (b"archive " * 4000, b"the end")
"""What an installer sends for a folder, in parts."""

Process = Callable[[WebSocket], Awaitable[None]]

Status = dict[str, Any]


def running() -> Status:
    """The status of a Pod whose container runs."""
    return {"phase": "Running"}


def waiting(reason: str, message: str) -> Status:
    """The status of a Pod whose container can't start."""
    container = {"image": "i", "imageID": "", "ready": False, "restartCount": 0}
    states = {
        "packages": {"waiting": {"reason": "ImagePullBackOff", "message": "Back-off pulling image"}},
        "sandbox": {"waiting": {"reason": reason, "message": message}},
    }
    return {
        "phase": "Pending",
        "containerStatuses": [{**container, "name": name, "state": state} for name, state in states.items()],
    }


def unschedulable(message: str) -> Status:
    """The status of a Pod for which there is no node."""
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
    return {"phase": "Pending", "conditions": [condition]}


async def end(websocket: WebSocket, problem: str = "") -> None:
    """End a process: well, or with *problem* on its standard error."""
    await websocket.send_bytes(bytes((_STDERR,)) + problem.encode())
    status = {"status": "Failure", "message": "exit code 1"} if problem else {"status": "Success"}
    await websocket.send_bytes(bytes((_STATUS,)) + json.dumps(status).encode())


async def send(websocket: WebSocket) -> None:
    """Send `ARCHIVE`."""
    for part in ARCHIVE:
        await websocket.send_bytes(bytes((_STDOUT,)) + part)
    await end(websocket)


async def receive(websocket: WebSocket) -> None:
    """Receive `ARCHIVE`, which has no other end than its own."""
    received = b""
    while not received.endswith(ARCHIVE[-1]):
        received += (await websocket.receive_bytes())[1:]
    await end(websocket, "" if received == b"".join(ARCHIVE) else "malformed")


class FakeCluster:
    """Pods whose containers answer as a good runner does, and faults that tests set."""

    def __init__(self) -> None:
        self.pods: dict[str, dict[str, Any]] = {}
        self.created: list[dict[str, Any]] = []
        """Manifests of all Pods, those that are gone as well."""
        self.refusals: dict[str, list[tuple[int, str]]] = {}
        """By method, what the next requests are answered with: status code and message."""
        self.states: Callable[[dict[str, Any]], list[Status | None]] = lambda _: [running()]
        """The states that a Pod goes through: watches report each once. None cuts the watch."""
        self.trial: dict[str, list[str]] = {"none": [], "bridge": ["10.0.0.1:10250"]}
        """What the Pods reach that try the network, by the value of their label."""
        self.trial_states: list[Status | None] | None = None
        """The states that these go through; None: they succeed."""
        self.protocol: str | None = "v4.channel.k8s.io"
        """What it answers to the protocols that are offered."""
        self.copying: dict[str, list[Process]] = {"send": [], "receive": []}
        """What the next processes do that copy packages, if it is not what they should."""
        self.copies: list[tuple[str, str, list[str]]] = []
        """Pod, container and arguments of each of these processes."""
        self.watches = 0
        self.listed = 0
        """Pods in the answer to the last request for all."""
        self.cut = anyio.Event()
        """Set to cut all streams."""
        self._streams: dict[str, anyio.CancelScope] = {}
        """By name of the Pod that they lead to, except those of processes that copy."""
        self.app = Starlette(
            routes=[
                Route("/version", self._version),
                Route(_PODS, self._list, methods=["GET"]),
                Route(_PODS, self._create, methods=["POST"]),
                Route(_PODS + "/{name}", self._delete, methods=["DELETE"]),
                WebSocketRoute(_PODS + "/{name}/exec", self._exec),
            ]
        )

    @asynccontextmanager
    async def serving(self, folder: Path) -> AsyncGenerator[Path]:
        """Serve it, and yield a kubeconfig."""
        async with serve_here(
            uvicorn.Config(self.app, log_config=None, ws="wsproto", timeout_graceful_shutdown=1)
        ) as at:
            config = {
                "current-context": "fake",
                "contexts": [{"name": "fake", "context": {"cluster": "fake", "user": "u", "namespace": "sandboxes"}}],
                "clusters": [{"name": "fake", "cluster": {"server": at.url}}],
                "users": [{"name": "u", "user": {"token": "t"}}],
            }
            path = folder / "kubeconfig"
            path.write_text(json.dumps(config))
            yield path
            self.cut.set()

    def lose(self, role: str) -> None:
        """Cut the stream to the Pod of this *role*."""
        self._streams[self.names[role]].cancel()

    @property
    def names(self) -> dict[str, str]:
        """The name of the last Pod of each role."""
        return {pod["metadata"]["labels"]["mcp-agentrun.role"]: name for name, pod in self.pods.items()}

    def _refusal(self, request: Request) -> Response | None:
        planned = self.refusals.get(request.method)
        if not planned:
            return None
        code, message = planned.pop(0)
        return JSONResponse({"kind": "Status", "status": "Failure", "message": message, "code": code}, code)

    async def _version(self, _: Request) -> Response:
        version = {"major": "1", "minor": "30", "gitVersion": "v1.30.0", "platform": "linux/amd64"}
        return JSONResponse(version)

    async def _create(self, request: Request) -> Response:
        if refusal := self._refusal(request):
            return refusal
        pod = json.loads(await request.body())
        self.created.append(pod)
        self.pods[pod["metadata"]["name"]] = pod
        return JSONResponse(pod, 201)

    async def _delete(self, request: Request) -> Response:
        if refusal := self._refusal(request):
            return refusal
        if self.pods.pop(request.path_params["name"], None) is None:
            return JSONResponse({"kind": "Status", "message": "not found", "code": 404}, 404)
        return JSONResponse({"kind": "Status"})

    async def _list(self, request: Request) -> Response:
        if refusal := self._refusal(request):
            return refusal
        if "watch" not in request.query_params:
            unwanted = request.query_params.get("fieldSelector", "").removeprefix("status.phase!=")
            label, _, value = request.query_params.get("labelSelector", "").partition("=")
            items = [
                pod
                for pod in self.pods.values()
                if pod.get("status", {}).get("phase") != (unwanted or "none")
                and (not value or pod["metadata"]["labels"].get(label) == value)
            ]
            self.listed = len(items)
            return JSONResponse({"kind": "PodList", "metadata": {}, "items": items})
        self.watches += 1
        name = request.query_params["fieldSelector"].partition("=")[2]
        return StreamingResponse(self._watch(self.pods[name]), media_type="application/json")

    async def _watch(self, pod: dict[str, Any]) -> AsyncIterator[bytes]:
        planned = pod.setdefault("planned", self._trial(pod) or self.states(pod))
        while planned:
            status = planned.pop(0)
            if status is None:
                return
            pod["status"] = status
            shown = {key: value for key, value in pod.items() if key != "planned"}
            yield json.dumps({"type": "MODIFIED", "object": shown}).encode() + b"\n"
        await self.cut.wait()

    def _trial(self, pod: dict[str, Any]) -> list[Status | None] | None:
        labels = pod["metadata"]["labels"]
        if labels["mcp-agentrun.role"] != "trial":
            return None
        if self.trial_states is not None:
            return list(self.trial_states)
        message = json.dumps(self.trial[labels["mcp-agentrun.network"]])
        ended = {"exitCode": 0, "reason": "Completed", "message": message}
        container = {"name": "sandbox", "image": "i", "imageID": "", "ready": False, "restartCount": 0}
        return [{"phase": "Succeeded", "containerStatuses": [{**container, "state": {"terminated": ended}}]}]

    async def _exec(self, websocket: WebSocket) -> None:
        await websocket.accept(subprotocol=self.protocol)
        words = websocket.query_params.getlist("command")
        if "copy" in words:
            words = words[words.index("copy") + 1 :]
            self.copies.append((websocket.path_params["name"], websocket.query_params["container"], words))
            planned = self.copying[words[0]]
            with contextlib.suppress(WebSocketDisconnect):
                await (planned.pop(0) if planned else {"send": send, "receive": receive}[words[0]])(websocket)
                await websocket.close()
            return
        async with anyio.create_task_group() as tasks:
            self._streams[websocket.path_params["name"]] = tasks.cancel_scope
            tasks.start_soon(self._run, websocket, tasks.cancel_scope)
            await self.cut.wait()
            tasks.cancel_scope.cancel()

    async def _run(self, websocket: WebSocket, scope: anyio.CancelScope) -> None:
        labels = self.pods[websocket.path_params["name"]]["metadata"]["labels"]
        script = honest_runner if labels["mcp-agentrun.role"] == "runner" else honest_installer
        decoder = MessageDecoder()
        await websocket.send_bytes(bytes((_STDOUT,)))
        try:
            while True:
                data = await websocket.receive_bytes()
                assert data[0] == _STDIN
                decoder.feed(data[1:])
                for message in decoder:
                    for answer in script(message):
                        encoded = answer if isinstance(answer, bytes) else encode(answer)
                        for start in range(0, len(encoded), 100):  # as many pieces as may be
                            await websocket.send_bytes(bytes((_STDOUT,)) + encoded[start : start + 100])
        except WebSocketDisconnect:
            scope.cancel()
