"""An engine whose containers are scripts: they answer as the tests want, above all what no honest one would."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import anyio
from anyio.abc import ByteStream

from mcp_agentrun.engine import ContainerSpec, Report
from mcp_agentrun.wire.codec import FrameDecoder, Kind, decode_json, encode, encode_json

Answer = tuple[Kind, "dict[str, Any] | bytes"]
Script = Callable[[Kind, dict[str, Any]], Sequence[Answer]]

ME, OTHER = "a" * 32, "b" * 32
FOLDER = "f" * 16
READY: dict[str, Any] = {"held": [], "distributions": [["numpy", "2.0"]], "boot": "", "data": {}}
RESULT: dict[str, Any] = {
    "run": 1,
    "outcome": "ok",
    "duration": 0.1,
    "exit_code": 0,
    "error": None,
    "value": None,
    "imported": [],
    "written": 0,
    "files": [],
    "more_files": 0,
    "ended": 0,
    "findings": [],
    "state": "kept",
    "since": "kept",
    "unprotected": None,
}
WRONG = (None, True, 7, -1, 1.5, "", "\ud800", "x" * 1_000_000, [], {}, [None], {"": None}, [["x"]], [[1, 2]], "a\nb")

INSTALLED_FOR: dict[int, str] = {}


def honest_runner(kind: Kind, fields: dict[str, Any]) -> Sequence[Answer]:
    """What a good runner answers."""
    if kind is Kind.HELLO:
        return [(Kind.READY, READY)]
    if kind is Kind.RUN:
        return [(Kind.OUTPUT, b"x"), (Kind.RESULT, {**RESULT, "run": fields["run"], "written": 1})]
    if kind is Kind.RESET:
        return [(Kind.RESET_DONE, b"")]
    if kind is Kind.LIST:
        return [(Kind.FILES, {"files": [], "more": 0})]
    if kind is Kind.READ:
        return [(Kind.FILE, {"size": 0, "stamp": 0, "length": 0, "error": None})]
    return [(Kind.PONG, b"")] if kind is Kind.PING else []


def done(request: int, sandbox: str = ME, **fields: Any) -> tuple[Kind, dict[str, Any]]:
    told: dict[str, Any] = {
        "folder": f"sandboxes/{sandbox}/{FOLDER}",
        "packages": [["x", "1.0"]],
        "satisfied": [],
        "replaced": [],
        "modules": {},
        "notes": [],
        "error": None,
    }
    return Kind.INSTALL_DONE, {"request": request, "sandbox": sandbox, **told, **fields}


def honest_installer(kind: Kind, fields: dict[str, Any]) -> Sequence[Answer]:
    """What a good installer answers."""
    if kind is Kind.HELLO:
        return [(Kind.READY, READY)]
    if kind is Kind.INSTALL:
        INSTALLED_FOR[fields["request"]] = fields["sandbox"]
        return [(Kind.RESOLVED, {"request": fields["request"], "pins": {"x": "1.0"}})]
    if kind is Kind.APPROVED:
        return [done(fields["request"], INSTALLED_FOR.get(fields["request"], ME))]
    if kind is Kind.INSTALL_CANCEL:
        return [done(fields["request"], INSTALLED_FOR.get(fields["request"], ME), folder="", error="cancelled")]
    if kind is Kind.FORGET:
        return [(Kind.FORGOTTEN, {"request": fields["request"], "sandbox": fields["sandbox"]})]
    if kind is Kind.CACHE:
        return [(Kind.CACHED, {"request": fields["request"], "size": 1, "packages": [["x", 1.0]], "busy": 0})]
    if kind is Kind.WHEELS or (kind is Kind.WHEEL and not fields["name"]):
        return [(Kind.WHEELS, {"request": fields["request"], "wanted": kind is Kind.WHEELS})]
    return [(Kind.PONG, b"")] if kind is Kind.PING else []


class FakeEngine:
    """Gives out streams to containers that follow scripts: one for each that is started, and then the last one."""

    def __init__(self, installers: Sequence[Script] = (), runners: Sequence[Script] = (honest_runner,)) -> None:
        self._scripts = {"installer": list(installers), "runner": list(runners)}
        self._tasks: anyio.abc.TaskGroup | None = None
        self.started = {"installer": 0, "runner": 0}

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        async with anyio.create_task_group() as self._tasks:
            yield
            self._tasks.cancel_scope.cancel()

    async def ensure_image(self, report: Report, *, refresh: bool = False) -> str:
        return "image"

    async def allocate(self, spec: ContainerSpec) -> str:
        return spec.role

    async def open_stream(self, container: str) -> ByteStream:
        to_container, inside = anyio.create_memory_object_stream[bytes](100)
        from_container, outside = anyio.create_memory_object_stream[bytes](100)
        scripts = self._scripts[container]
        script = scripts[min(self.started[container], len(scripts) - 1)]
        self.started[container] += 1
        assert self._tasks is not None
        self._tasks.start_soon(self._serve, script, inside, from_container)
        return _Stream(to_container, outside)

    async def _serve(self, script: Script, inside: Any, answers: Any) -> None:
        decoder = FrameDecoder()
        with answers, inside:
            async for data in inside:
                decoder.feed(data)
                for kind, payload in decoder:
                    for each, content in script(kind, decode_json(payload) if payload else {}):
                        frame = encode(each, content) if isinstance(content, bytes) else encode_json(each, **content)
                        try:
                            await answers.send(frame)
                        except anyio.BrokenResourceError:  # taken for lost
                            return

    async def destroy(self, container: str) -> None: ...

    async def sandboxes(self) -> Sequence[str]:
        return []

    async def free_memory(self) -> int | None:
        return None

    async def sweep(self) -> int:
        return 0

    async def aclose(self) -> None: ...


class _Stream(ByteStream):
    def __init__(self, send: Any, receive: Any) -> None:
        self._send, self._receive = send, receive

    async def send(self, item: bytes) -> None:
        await self._send.send(bytes(item))

    async def receive(self, max_bytes: int = 65536) -> bytes:
        return await self._receive.receive()

    async def send_eof(self) -> None: ...

    async def aclose(self) -> None:
        self._send.close()
        self._receive.close()
