"""An installation beside ``uv pip install`` alone in a container, in turns: ``python -m benchmarks.packages``.

Both have an empty volume of their own, the same image, index, certificates and limits. Cold is with uv's cache cleared
before; warm is the same again for a second session, into a new folder. What uv alone needs is measured inside its
container, from the start of its process to its end; of ours, all of `Sandbox.install` counts, its installer running.
"""

from __future__ import annotations

import os
import secrets
import statistics
import sys
import time
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager

import anyio
import anyio.to_thread
from docker import APIClient
from docker.types import Mount

from mcp_agentrun.engine.docker.discovery import connect
from mcp_agentrun.engine.docker.engine import DockerEngine
from mcp_agentrun.engine.network import NetworkSettings
from mcp_agentrun.packages.connection import INSTALLER_UID
from mcp_agentrun.sandbox import AsyncRuntime, AsyncSandbox
from mcp_agentrun.settings import Settings
from tests.support.sandboxes import open_engine

from .common import row

SETS = {
    "sympy": ("sympy",),
    "polars, one large wheel": ("polars",),
    "ten at once": (
        "tabulate",
        "rich",
        "jinja2",
        "networkx",
        "openpyxl",
        "tqdm",
        "attrs",
        "click",
        "toolz",
        "requests",
    ),
}
"""Without anything that the image has, which uv alone would install once more."""

COLD, WARM = 8, 10
_TIMER = """
import subprocess, sys, time
begun = time.perf_counter()
subprocess.run(sys.argv[1:], check=True, capture_output=True)
print(time.perf_counter() - begun)
"""


class UvAlone:
    """A container in which uv is called, and nothing else."""

    def __init__(self, api: APIClient, container: str, network: NetworkSettings) -> None:
        self._api = api
        self._container = container
        self._environment = {
            **network.environment(),
            "HOME": "/tmp",
            "UV_CACHE_DIR": "/packages/cache",
            "UV_LINK_MODE": "hardlink",
            "UV_NO_CONFIG": "1",
        }
        if network.ca_bundle is not None:
            self._environment["SSL_CERT_FILE"] = "/tmp/ca-bundle.pem"
            bundle = network.ca_bundle.decode()
            for start in range(0, len(bundle), 1 << 16):  # an argument can't be longer than twice that
                add = "import sys; open('/tmp/ca-bundle.pem', 'a').write(sys.argv[1])"
                self._call("python", "-c", add, bundle[start : start + (1 << 16)])

    def install(self, requirements: Sequence[str]) -> float:
        """Seconds that it takes, into a new folder."""
        uv = ("uv", "pip", "install", "--quiet", "--only-binary", ":all:", "--python", "/opt/venv/bin/python")
        target = f"/packages/{secrets.token_hex(8)}"
        return float(self._call("python", "-c", _TIMER, *uv, "--target", target, *requirements))

    def forget(self) -> None:
        self._call("uv", "cache", "clean", "--quiet")

    def _call(self, *command: str) -> str:
        execution = self._api.exec_create(self._container, list(command), environment=self._environment)
        said: bytes = self._api.exec_start(execution["Id"])
        if self._api.exec_inspect(execution["Id"])["ExitCode"] != 0:
            raise RuntimeError(said.decode())
        return said.decode()


@contextmanager
def uv_alone(api: APIClient, image: str, volume: str, settings: Settings) -> Generator[UvAlone]:
    config = api.create_host_config(
        cpu_period=100_000,
        cpu_quota=round(max(1.0, settings.limits.cpus) * 100_000),
        mem_limit=1 << 30,
        mounts=[Mount("/packages", volume, type="volume")],
        read_only=True,
        tmpfs={"/tmp": "rw,size=256m,mode=1777"},
    )
    container = api.create_container(
        image, entrypoint=["sleep", "100000"], host_config=config, user=f"{INSTALLER_UID}:{INSTALLER_UID}"
    )["Id"]
    try:
        api.start(container)
        yield UvAlone(api, container, NetworkSettings.from_environment(os.environ))
    finally:
        api.remove_container(container, force=True, v=True)


@contextmanager
def own_name(api: APIClient, image: str) -> Generator[str]:
    """Another name for *image*, with which goes an empty package volume."""
    tag = secrets.token_hex(6)
    api.tag(image, "mcp-agentrun-bench", tag)
    try:
        yield f"mcp-agentrun-bench:{tag}"
    finally:
        api.remove_image(f"mcp-agentrun-bench:{tag}")
        for volume in api.volumes(filters={"name": tag})["Volumes"] or ():
            api.remove_volume(volume["Name"])


class Ours:
    """Sessions of one server; each installation is a session's first."""

    def __init__(self, runtime: AsyncRuntime) -> None:
        self._runtime = runtime

    @asynccontextmanager
    async def session(self) -> AsyncGenerator[AsyncSandbox]:
        async with self._runtime.sandbox() as sandbox:
            await sandbox.run("import pandas")  # which the sandbox is still at for a while when it is ready
            yield sandbox

    async def forget(self) -> None:
        await self._runtime.installer.cache(clear=True)


async def compare(ours: Ours, alone: UvAlone) -> None:
    for name, requirements in SETS.items():
        for state, rounds in (("cold", COLD), ("warm", WARM)):
            theirs: list[float] = []
            mine: list[float] = []
            async with AsyncExitStack() as stack:
                # All before the first is timed: what runs just after a container was started pays for memory that the
                # kernel has to find anew, which takes longer than uv itself on some machines.
                sessions = [await stack.enter_async_context(ours.session()) for _ in range(rounds)]
                for number in range(-1, 2 * rounds):
                    # In turns, first the one and then the other: an index gives less to those who have just had much.
                    is_ours = number % 4 in (1, 2)
                    if state == "cold":
                        await (ours.forget() if is_ours else anyio.to_thread.run_sync(alone.forget))
                    if is_ours:
                        sandbox = sessions[len(mine)]
                        begun = time.perf_counter()
                        await sandbox.install(*requirements)
                        mine.append(time.perf_counter() - begun)
                    else:
                        theirs.append(await anyio.to_thread.run_sync(alone.install, requirements))
            del theirs[0]  # which came after the start of a container
            uv, us = statistics.median(theirs), statistics.median(mine)
            row(f"{name}: uv alone, {state}, median of {len(theirs)}", f"{uv * 1000:.0f} ms", spread(theirs))
            row(f"{name}: Sandbox.install, {state}, median", f"{us * 1000:.0f} ms", spread(mine))
            if state == "cold":
                row("  times uv alone", f"{us / uv:.2f} x", "at most 1.3 x")
            else:
                row("  more than uv alone", f"{(us - uv) * 1000:.0f} ms", "at most 400 ms")


def spread(times: Sequence[float]) -> str:
    return f"({min(times) * 1000:.0f} to {max(times) * 1000:.0f})"


async def main() -> None:
    api, tried = connect()
    if api is None:
        sys.exit(f"no container engine: {tried}")
    async with open_engine() as engine:
        image = await engine.ensure_image(lambda stage: print(stage, file=sys.stderr))
    with own_name(api, image) as name:
        settings = Settings(image=name)
        engine = DockerEngine.from_settings(settings)
        network = NetworkSettings.from_environment(os.environ)
        volume = f"mcp-agentrun-bench-{name.partition(':')[2]}"
        try:
            with uv_alone(api, image, volume, settings) as alone:
                begun = time.perf_counter()
                async with AsyncRuntime(settings, engine=engine, package_network=network) as runtime:
                    await runtime.installer.cache()
                    row("start of the installer, once for a server", f"{(time.perf_counter() - begun) * 1000:.0f} ms")
                    await compare(Ours(runtime), alone)
        finally:
            await engine.aclose()
    api.close()


if __name__ == "__main__":
    anyio.run(main)
