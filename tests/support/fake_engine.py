"""An engine whose containers are scripts: they answer as the tests want, above all what no honest one would."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.lowlevel
from anyio.abc import ByteStream

from mcp_agentrun.engine import ContainerSpec, Report
from mcp_agentrun.engine.network import NetworkSettings
from mcp_agentrun.sandbox import AsyncRuntime
from mcp_agentrun.sessions import Sessions
from mcp_agentrun.settings import Settings
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
        return [(Kind.FILES, {"files": [], "more": 0, "is_cut": False})]
    if kind is Kind.READ:
        return [(Kind.FILE, {"size": 0, "stamp": 0, "length": 0, "error": None})]
    if kind in (Kind.WRITE, Kind.WRITE_DATA, Kind.WRITE_END):
        return [(Kind.WRITTEN, {"error": None, "changed": 1})]
    if kind is Kind.REMOVE:
        return [(Kind.REMOVED, {"error": None})]
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
    """An engine whose containers follow scripts: one for each that is started, and then the last one.

    :param free: what `free_memory` answers.
    """

    def __init__(
        self,
        installers: Sequence[Script] = (honest_installer,),
        runners: Sequence[Script] = (honest_runner,),
        *,
        free: int | None = None,
    ) -> None:
        self._scripts = {"installer": list(installers), "runner": list(runners)}
        self._tasks: anyio.abc.TaskGroup | None = None
        self._ends: dict[str, tuple[Any, Any]] = {}
        self._created = 0
        self.started = {"installer": 0, "runner": 0}
        self.containers: dict[str, ContainerSpec] = {}
        """Existing containers, by id."""
        self.frozen: set[str] = set()
        """Containers that read what they are sent and never answer."""
        self.free = free
        self.has_image = anyio.Event()
        self.has_image.set()
        """While it is not set, the image is being built."""

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        async with anyio.create_task_group() as self._tasks:
            yield
            self._tasks.cancel_scope.cancel()

    async def ensure_image(self, report: Report, *, refresh: bool = False) -> str:
        await self.has_image.wait()
        return "image"

    async def allocate(self, spec: ContainerSpec) -> str:
        self._created += 1
        container = f"{spec.role}-{self._created}"
        self.containers[container] = spec
        return container

    async def open_stream(self, container: str) -> ByteStream:
        to_container, inside = anyio.create_memory_object_stream[bytes](100)
        from_container, outside = anyio.create_memory_object_stream[bytes](100)
        role = self.containers[container].role
        script = self._scripts[role][min(self.started[role], len(self._scripts[role]) - 1)]
        self.started[role] += 1
        assert self._tasks is not None
        self._tasks.start_soon(self._serve, container, script, inside, from_container)
        self._ends[container] = inside, from_container
        return _Stream(to_container, outside)

    async def _serve(self, container: str, script: Script, inside: Any, answers: Any) -> None:
        decoder = FrameDecoder()
        with answers, inside:
            while (data := await _received(inside)) is not None:
                if container in self.frozen:
                    continue
                decoder.feed(data)
                for kind, payload in decoder:
                    fields = decode_json(payload) if payload and kind is not Kind.WRITE_DATA else {}
                    for each, content in script(kind, fields):
                        frame = encode(each, content) if isinstance(content, bytes) else encode_json(each, **content)
                        try:
                            await answers.send(frame)
                        except (anyio.BrokenResourceError, anyio.ClosedResourceError):  # taken for lost, or lost
                            return

    async def destroy(self, container: str) -> None:
        self.lose(container)

    def lose(self, container: str) -> None:
        """End *container* and its stream, as if somebody else had removed it."""
        self.containers.pop(container, None)
        for end in self._ends.pop(container, ()):
            end.close()

    async def sandboxes(self) -> Sequence[str]:
        return [spec.sandbox for spec in self.containers.values() if spec.role == "runner"]

    async def free_memory(self) -> int | None:
        await anyio.lowlevel.checkpoint()
        return self.free

    async def sweep(self) -> int:
        return 0

    async def aclose(self) -> None: ...


@asynccontextmanager
async def open_sessions(settings: Settings, engine: FakeEngine | None = None) -> AsyncGenerator[Sessions]:
    """The sessions of a server on *engine*."""
    engine = engine or FakeEngine()
    async with (
        engine.running(),
        Sessions(AsyncRuntime(settings, engine=engine, package_network=NetworkSettings()), is_shared=True) as sessions,
    ):
        yield sessions


async def _received(inside: Any) -> bytes | None:
    """The next bytes for a container, or None at its end."""
    try:
        return await inside.receive()
    except (anyio.EndOfStream, anyio.ClosedResourceError):
        return None


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
