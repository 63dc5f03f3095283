"""An engine whose containers are scripts: they answer as the tests want, above all what no honest one would."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Literal

import anyio
import anyio.lowlevel
from anyio.abc import ByteStream

from mcp_agentrun.engine import ContainerInfo, ContainerSpec, EngineStatus, Report, StorageItem
from mcp_agentrun.engine.network import NetworkSettings
from mcp_agentrun.sandbox import AsyncRuntime
from mcp_agentrun.sessions import SessionManager
from mcp_agentrun.settings import Settings
from mcp_agentrun.wire import messages
from mcp_agentrun.wire.messages import Message, MessageDecoder, encode

Answer = Message | bytes
"""A message, or the bytes of something else."""

Script = Callable[[Message], Sequence[Answer]]

ME, OTHER = "a" * 32, "b" * 32
FOLDER = "f" * 16
SUPERVISOR_READY = messages.SupervisorReady(distributions=(("numpy", "2.0"),), boot="", data={}, memory=None)
INSTALLER_READY = messages.InstallerReady(held=(), memory=None)

STATUS = EngineStatus(
    address="unix:///engine.sock",
    version="Engine 27.0.1, API 1.46",
    is_outdated=False,
    weaknesses=(),
    architecture="x86_64",
    image="mcp-agentrun-runner:1",
    image_architecture="x86_64",
    image_obstacle=None,
    is_building=False,
    memory=16 << 30,
    free_disk=100 << 30,
    time=0.0,
)
"""Of an engine without faults, apart from its clock."""

INSTALLED_FOR: dict[int, str] = {}


def result(run: int = 1, **changes: Any) -> messages.RunResult:
    """The result of a run that ended well, with these *changes*."""
    fields: dict[str, Any] = {
        **dict.fromkeys(("error", "value", "unprotected", "cpu_time", "peak_memory")),
        **dict.fromkeys(("imported", "files", "findings"), ()),
        **dict.fromkeys(("exit_code", "written", "more_files", "ended"), 0),
        **dict.fromkeys(("state", "since"), "kept"),
    }
    fields |= {"run": run, "outcome": "ok", "duration": 0.1, **changes}
    return messages.RunResult(**fields)


def honest_runner(message: Message) -> Sequence[Answer]:
    """What a good runner answers."""
    match message:
        case messages.SupervisorHello():
            return [SUPERVISOR_READY]
        case messages.Run(run=run):
            return [messages.OutputChunk(data=b"x"), result(run, written=1)]
        case messages.Reset():
            return [messages.ResetDone()]
        case messages.ListFiles():
            return [messages.FileList()]
        case messages.ReadFile():
            return [messages.FilePart()]
        case messages.WriteFile() | messages.WriteData() | messages.WriteEnd():
            return [messages.Written(changed=1)]
        case messages.RemoveFile():
            return [messages.Removed(error=None)]
        case messages.Ping():
            return [messages.Pong()]
        case _:
            return []


def done(request: int, sandbox: str = ME, **changes: Any) -> messages.InstallDone:
    """The end of an installation that went well, with these *changes*."""
    folder = f"sandboxes/{sandbox}/{FOLDER}"
    fields: dict[str, Any] = {"folder": folder, "packages": (("x", "1.0"),), **changes}
    return messages.InstallDone(request=request, sandbox=sandbox, **fields)


def honest_installer(message: Message) -> Sequence[Answer]:
    """What a good installer answers."""
    match message:
        case messages.InstallerHello():
            return [INSTALLER_READY]
        case messages.Install(request=request):
            INSTALLED_FOR[request] = message.sandbox
            return [messages.Resolved(request=request, pins={"x": "1.0"})]
        case messages.Approved(request=request):
            return [done(request, INSTALLED_FOR.get(request, ME))]
        case messages.InstallCancel(request=request):
            return [done(request, INSTALLED_FOR.get(request, ME), folder="", error="cancelled")]
        case messages.RemovePackages(request=request):
            return [messages.PackagesRemoved(request=request, sandbox=message.sandbox)]
        case messages.DescribeCache(request=request):
            return [messages.CacheContents(request=request, size=1, packages=(("x", 1.0),), busy=0)]
        case messages.OpenWheelhouse(request=request):
            return [messages.Wheelhouse(request=request, wanted=True)]
        case messages.Wheel(request=request, name=""):
            return [messages.Wheelhouse(request=request, wanted=False)]
        case messages.Ping():
            return [messages.Pong()]
        case _:
            return []


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
        self.reported = STATUS
        """What `status` answers."""
        self.listed: list[ContainerInfo] = []
        self.items: list[StorageItem] = []
        self.pushed: list[str] = []
        """Repositories that the image was pushed to."""
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

    async def push_image(self, repository: str, report: Report) -> str:
        self.pushed.append(repository)
        return f"{repository}@sha256:{'0' * 64}"

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
        decoder = MessageDecoder()
        with answers, inside:
            while (data := await _received(inside)) is not None:
                if container in self.frozen:
                    continue
                decoder.feed(data)
                for message in decoder:
                    for answer in script(message):
                        try:
                            await answers.send(answer if isinstance(answer, bytes) else encode(answer))
                        except (anyio.BrokenResourceError, anyio.ClosedResourceError):  # taken for lost, or lost
                            return

    async def destroy(self, container: str) -> None:
        self.listed = [each for each in self.listed if each.id != container]
        self.lose(container)

    def lose(self, container: str) -> None:
        """End *container* and its stream, as if somebody else had removed it."""
        self.containers.pop(container, None)
        for end in self._ends.pop(container, ()):
            end.close()

    async def provide_packages(self, sandbox: str, folder: str) -> None: ...

    def release_packages(self, sandbox: str) -> None: ...

    async def list_sandboxes(self) -> Sequence[str]:
        return [spec.sandbox for spec in self.containers.values() if spec.role == "runner"]

    async def free_memory(self) -> int | None:
        await anyio.lowlevel.checkpoint()
        return self.free

    async def sweep(self) -> int:
        return 0

    async def status(self) -> EngineStatus:
        return self.reported

    async def list_containers(self, *, usage: bool = False) -> Sequence[ContainerInfo]:
        return self.listed

    async def list_storage(self, kind: Literal["image", "volume"]) -> Sequence[StorageItem]:
        return [item for item in self.items if item.kind == kind]

    async def remove_storage(self, item: StorageItem) -> None:
        self.items.remove(item)

    async def aclose(self) -> None: ...


@asynccontextmanager
async def open_sessions(settings: Settings, engine: FakeEngine | None = None) -> AsyncGenerator[SessionManager]:
    """The sessions of a server on *engine*."""
    engine = engine or FakeEngine()
    async with (
        engine.running(),
        SessionManager(
            AsyncRuntime(settings, engine=engine, package_network=NetworkSettings()), is_shared=True
        ) as sessions,
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
