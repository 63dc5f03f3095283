"""The Docker engine, and others with the same API, such as Podman."""

from __future__ import annotations

import contextlib
import re
import secrets
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import anyio
import anyio.to_thread
from anyio.abc import ByteStream

from ...errors import EngineError, ImageError
from ...settings import Settings
from .. import (
    LABEL_OWNER,
    LABEL_ROLE,
    LABEL_SANDBOX,
    PACKAGES,
    ContainerInfo,
    ContainerSpec,
    EngineStatus,
    Report,
    StorageItem,
)
from ..owner import Owner
from .discovery import connect
from .image import ImageRecipe, ensure_image, released_image, warn_if_old
from .inventory import is_local, list_containers, list_storage, remove_storage, status, weaknesses
from .pull import inspect_image, pull_image
from .push import push_image
from .seccomp import profile_json
from .server_container import LABEL_SERVER, ServerContainer, orphans
from .stream import AttachStream, open_transport

if TYPE_CHECKING:
    from .api import DockerApi

__all__ = ["DockerEngine"]

_T = TypeVar("_T")
_named: set[str] = set()
"""Names of the containers of this process that still exist or are being created."""

_THREADS = 40
"""Number of concurrent calls. They have threads of their own, so that a call that hangs blocks nothing else."""

_REMOVE_SECONDS = 30
_HOW_TO_START = (
    "Start it (Docker Desktop on a desktop, `sudo systemctl start docker` or `podman.socket` on a server), or set "
    "DOCKER_HOST to its address, and call again."
)


class DockerEngine:
    """Implements `mcp_agentrun.engine.Engine` with the docker SDK, whose blocking calls run in threads.

    It connects when it is first used, and again after a connection has failed.

    :param recipe: how to get the runner image.
    :param image: an existing image to use instead.
    :param accept_weak: use the engine even if it can't enforce all restrictions of a sandbox.
    """

    def __init__(self, *, recipe: ImageRecipe, image: str | None = None, accept_weak: bool = False) -> None:
        self._recipe = recipe
        self._image = image
        self._accept_weak = accept_weak
        self._connection: _Connection | None = None
        self._threads = anyio.CapacityLimiter(_THREADS)
        self._connecting = anyio.Lock()
        self._building = anyio.Lock()

    @classmethod
    def from_settings(cls, settings: Settings) -> DockerEngine:
        """Create the engine that *settings* describe."""
        return cls(
            recipe=ImageRecipe(
                settings.image.base, settings.image.packages, settings.image.registry or released_image()
            ),
            image=settings.image.name,
            accept_weak=settings.engine.accept_weak,
        )

    async def ensure_image(self, report: Report, *, refresh: bool = False) -> str:
        report("looking for the container engine")
        await self._connected()
        async with self._building:
            image, recipe = self._image, self._recipe
            if image is not None:
                return await self._call(lambda client: _require_image(client, image, report), abandon=True)
            return await self._call(lambda client: ensure_image(client, recipe, report, refresh=refresh), abandon=True)

    async def push_image(self, repository: str, report: Report) -> str:
        recipe = self._recipe
        async with self._building:
            image = await self._call(lambda client: ensure_image(client, recipe, report), abandon=True)
            return await self._call(lambda client: push_image(client, image, repository, report), abandon=True)

    async def allocate(self, spec: ContainerSpec) -> str:
        # Packages fit all runners with the same environment image, so that is what the volume belongs to.
        volume = _package_volume(self._image or self._recipe.environment_tag)
        connection = await self._connected()
        server = await self._server(connection)
        config = await anyio.to_thread.run_sync(
            _container_config, connection.client, spec, volume, server, limiter=self._threads
        )
        # Calls address it by its name, not its id, so that a proxy before the engine knows it for one of ours.
        name = f"mcp-agentrun-{spec.role}-{secrets.token_hex(6)}"
        _named.add(name)
        try:
            await self._call(lambda client: client.create_container_from_config(config, name))
        except BaseException as error:
            _named.discard(name)  # if the engine has created it nevertheless, `sweep` finds it
            if not isinstance(error, EngineError) or spec.runtime is None or "runtime" not in str(error):
                raise
            raise EngineError(
                f"The container engine has no runtime {spec.runtime!r}. Install it and name it in the engine's "
                "configuration (docs/security.md says how), or unset AGENTRUN_RUNTIME to use the engine's own."
            ) from error
        return name

    async def open_stream(self, container: str) -> ByteStream:
        connection = await self._connected()
        await self._require_isolation(connection)
        parameters = {"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1}
        with connection.in_use() as use:
            # Attached before the start: otherwise the SDK's read-ahead could lose the first frames.
            attached = await self._call_on(connection, lambda client: client.attach_socket(container, parameters))
            stream = AttachStream(open_transport(attached), on_close=use.pop_all().close)
        try:
            await self._call_on(connection, lambda client: client.start(container))
        except BaseException:
            with anyio.CancelScope(shield=True):
                await stream.aclose()
            raise
        return stream

    async def destroy(self, container: str) -> None:
        try:
            await self._call(lambda client: _remove(client, container))
        finally:
            _named.discard(container)  # if this failed, `sweep` destroys it

    async def provide_packages(self, sandbox: str, folder: str) -> None: ...

    def release_packages(self, sandbox: str) -> None: ...

    async def list_sandboxes(self) -> Sequence[str]:
        labels = {"label": f"{LABEL_ROLE}=runner"}
        found = await self._call(lambda client: client.containers(all=True, filters=labels), abandon=True)
        return [container["Labels"].get(LABEL_SANDBOX, "") for container in found]

    async def free_memory(self) -> int | None:
        import psutil

        connection = await self._connected()
        # An engine on another machine, or in a virtual machine, has memory of its own.
        is_here = is_local(connection.client) or await self._server(connection) is not None
        return psutil.virtual_memory().available if is_here else None

    async def sweep(self) -> int:
        labels = {"label": [LABEL_ROLE, LABEL_OWNER]}
        found = await self._call(lambda client: client.containers(all=True, filters=labels))
        server = await self._server(await self._connected())
        ended = await self._call(lambda client: orphans(client, found, server))
        removed = 0
        for container in found:
            name = container["Names"][0].strip("/")
            is_lost = Owner.from_label(container["Labels"][LABEL_OWNER]) == Owner.current() and name not in _named
            if is_lost or container["Id"] in ended:
                await self.destroy(name)
                removed += 1
        return removed

    async def status(self) -> EngineStatus:
        return await self._call(lambda client: status(client, self._recipe, self._image), abandon=True)

    async def list_containers(self, *, usage: bool = False) -> Sequence[ContainerInfo]:
        server = await self._server(await self._connected())
        return await self._call(lambda client: list_containers(client, server, usage=usage), abandon=True)

    async def list_storage(self, kind: Literal["image", "volume"]) -> Sequence[StorageItem]:
        environment = self._image or self._recipe.environment_tag
        needed = {self._image or self._recipe.tag, environment, _package_volume(environment)}
        return await self._call(lambda client: list_storage(client, kind, needed), abandon=True)

    async def remove_storage(self, item: StorageItem) -> None:
        await self._call(lambda client: remove_storage(client, item))

    async def aclose(self) -> None:
        if self._connection is not None:
            self._drop(self._connection)

    async def _connected(self) -> _Connection:
        async with self._connecting:
            if self._connection is None:
                client, tried = await anyio.to_thread.run_sync(connect, limiter=self._threads)
                if client is None:
                    raise EngineError(
                        "No container engine can be reached. " + _HOW_TO_START + " Tried " + "; ".join(tried)
                    )
                self._connection = _Connection(client)
            return self._connection

    async def _server(self, connection: _Connection) -> ServerContainer | None:
        """Return the container of the engine that this process runs in, if it does."""
        try:
            return await self._call_on(connection, lambda _: connection.server.result())
        except EngineError:
            self._drop(connection)  # so that the next call asks again
            raise

    def _drop(self, connection: _Connection) -> None:
        """Close *connection*. The next call makes a new one."""
        if self._connection is connection:
            self._connection = None
        connection.close()

    async def _require_isolation(self, connection: _Connection) -> None:
        """Check that the engine can enforce the restrictions of a sandbox.

        :raises EngineError: it can't.
        """
        if self._accept_weak:
            return
        try:
            found = await self._call_on(connection, lambda _: connection.weaknesses.result())
        except EngineError:
            self._drop(connection)  # so that the next call asks again
            raise
        if found:
            raise EngineError(
                f"This container engine can't protect the machine from the code: {'; '.join(found)}. Use another "
                "one, such as a Docker that does not run rootless, or one with cgroup v2 delegation; or set "
                "AGENTRUN_ACCEPT_WEAK_ENGINE=true to go on without that protection."
            )

    async def _call(self, request: Callable[[DockerApi], Any], *, abandon: bool = False) -> Any:
        """Run a blocking request in a thread.

        :param abandon: if the call is cancelled, don't wait for the thread.
        :raises EngineError: it failed. If the engine could not be reached, the next call makes a new connection.
        """
        return await self._call_on(await self._connected(), request, abandon=abandon)

    async def _call_on(
        self, connection: _Connection, request: Callable[[DockerApi], Any], *, abandon: bool = False
    ) -> Any:
        import docker.errors
        import requests
        import urllib3.exceptions

        try:
            with connection.in_use():
                return await anyio.to_thread.run_sync(
                    request, connection.client, abandon_on_cancel=abandon, limiter=self._threads
                )
        except docker.errors.ImageNotFound as error:
            raise ImageError(
                f"The image does not exist any more: {error.explanation or error}. Call again to build it."
            ) from error
        except docker.errors.APIError as error:
            raise EngineError(f"The container engine refused: {_one_line(error.explanation or str(error))}") from error
        except (requests.exceptions.ReadTimeout, urllib3.exceptions.ReadTimeoutError) as error:
            self._drop(connection)
            raise EngineError("The container engine does not respond. Restart it, then call again.") from error
        except (
            docker.errors.DockerException,
            requests.exceptions.RequestException,
            urllib3.exceptions.HTTPError,  # which the SDK does not convert when an answer comes in parts
            OSError,
        ) as error:
            self._drop(connection)
            raise EngineError("The connection to the container engine was lost. " + _HOW_TO_START) from error


class _Connection:
    """A client of the engine, shared by calls and by streams to containers. `close` takes effect when none uses it any
    more, since over ssh closing it would end the streams.
    """

    def __init__(self, client: DockerApi) -> None:
        self.client = client
        self.weaknesses = _in_thread(lambda: weaknesses(client.info()))  # in the background
        self.server = _in_thread(lambda: ServerContainer.find(client))
        self._uses = 0
        self._is_closing = False

    def close(self) -> None:
        self._is_closing = True
        self._close_if_unused()

    @contextlib.contextmanager
    def in_use(self) -> Generator[contextlib.ExitStack]:
        """Keep the client open in the context, or until the yielded stack is closed."""
        self._uses += 1
        with contextlib.ExitStack() as use:
            use.callback(self._end_use)
            yield use

    def _end_use(self) -> None:
        self._uses -= 1
        self._close_if_unused()

    def _close_if_unused(self) -> None:
        if self._is_closing and self._uses == 0:
            _in_thread(self.client.close)


def _in_thread(work: Callable[[], _T]) -> Future[_T]:
    executor = ThreadPoolExecutor(1)
    try:
        return executor.submit(work)
    finally:
        executor.shutdown(wait=False)


def _one_line(text: str) -> str:
    return " ".join(text.split())[:500]


def _require_image(client: DockerApi, image: str, report: Report) -> str:
    found = inspect_image(client, image)
    if found is None:
        failure = pull_image(client, image, report)
        found = inspect_image(client, image)
        if found is None:
            raise ImageError(
                f"The image {image!r} is not on the engine and can't be pulled: {_one_line(failure or '')}. Load "
                "it, or unset AGENTRUN_IMAGE to use the runner image that is built locally."
            )
    warn_if_old(found, "Provide a newer one.")
    return image


def _remove(client: DockerApi, container: str) -> None:
    import docker.errors

    try:
        client.remove_container(container, force=True, v=True)
    except docker.errors.NotFound:
        pass
    except docker.errors.APIError as error:
        if error.status_code != 409:
            raise
        # The engine is already removing it, because the container has ended.
        with contextlib.suppress(docker.errors.NotFound):
            client.wait(container, timeout=_REMOVE_SECONDS, condition="removed")


def _data_mounts(client: DockerApi, spec: ContainerSpec, server: ServerContainer | None) -> list[dict[str, Any]]:
    """Return read-only mounts of host folders, without what is mounted in them: with older engines, that would be
    writable.

    :raises EngineError: the engine is on another machine, or a folder is not safe to mount.
    """
    from docker.types import Mount

    if spec.data and server is None and not is_local(client, same_system=False):
        raise EngineError("The container engine is on another machine: `data` needs one on this machine.")
    mounts: list[dict[str, Any]] = []
    for target, folder in spec.data.items():
        folder.require_safe(int(spec.user.partition(":")[0]))
        source = str(folder.path) if server is None else server.host_path(folder.path)
        if source is None:
            raise EngineError(
                f"The folder {folder.path.name!a} of `data` exists only in the server's container, so no sandbox can "
                "have it. Mount a folder of the host there, then call again."
            )
        mount = Mount(target, source, type="bind", read_only=True, propagation="rprivate")
        mount["BindOptions"]["NonRecursive"] = True
        mounts.append(mount)
    return mounts


def _package_volume(image: str) -> str:
    """Return the name of the volume with the packages for sandboxes of *image*."""
    return "mcp-agentrun-packages-" + re.sub(r"[^\w.-]", "-", image.rpartition(":")[2])[-64:]


def _container_config(
    client: DockerApi, spec: ContainerSpec, volume: str, server: ServerContainer | None
) -> dict[str, Any]:
    """Return the configuration of a container. All restrictions apply from its first process on."""
    from docker.types import Mount, Ulimit

    labels = {LABEL_ROLE: spec.role, LABEL_OWNER: Owner.current().to_label()}
    if server is not None:
        labels[LABEL_SERVER] = server.id
    if spec.sandbox:
        labels[LABEL_SANDBOX] = spec.sandbox
    packages = Mount(
        PACKAGES,
        volume,
        type="volume",
        read_only=not spec.packages_writable,
        labels={LABEL_ROLE: "cache"},
    )
    host_config = client.create_host_config(
        auto_remove=True,
        cap_drop=["ALL"],
        cap_add=list(spec.capabilities),
        cpu_period=100_000,
        cpu_quota=round(spec.cpus * 100_000),
        init=False,
        ipc_mode="private",
        log_config={"Type": "none", "Config": {}},
        mem_limit=spec.memory,
        memswap_limit=spec.memory,
        mounts=[packages, *_data_mounts(client, spec, server)],
        network_mode=spec.network,
        pids_limit=spec.pids,
        read_only=True,
        runtime=spec.runtime,
        security_opt=["no-new-privileges", f"seccomp={profile_json(gvisor='runsc' in (spec.runtime or ''))}"],
        tmpfs=dict(spec.tmpfs),
        ulimits=[
            Ulimit(name="nofile", soft=spec.open_files, hard=spec.open_files),
            Ulimit(name="fsize", soft=spec.file_size, hard=spec.file_size),
            Ulimit(name="core", soft=0, hard=0),
            Ulimit(name="msgqueue", soft=0, hard=0),
            Ulimit(name="memlock", soft=65536, hard=65536),
        ],
    )
    return client.create_container_config(
        image=spec.image,
        command=[spec.role if spec.role == "installer" else "supervisor"],
        environment=dict(spec.environment),
        host_config=host_config,
        hostname="sandbox",
        labels=labels,
        stdin_open=True,
        stop_signal="SIGKILL",
        user=spec.user,
        working_dir="/workspace",
    )
