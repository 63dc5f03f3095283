"""What goes wrong around a server with clients at work, and what each of them sees: ``make chaos``.

The engine is killed, its disk is full, a sandbox is killed, the network is cut. Each time the server must come back by
itself, and no container may be left that nobody owns. Needs root, for an engine and network namespaces of its own.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from pathlib import Path

import anyio
import anyio.to_thread
import httpx2
import pytest
from anyio.abc import TaskGroup
from docker import APIClient
from mcp import Client
from mcp.shared.exceptions import MCPError

from mcp_agentrun.engine import LABEL_ROLE
from tests.support import CHECKOUT
from tests.support.clients import facts_of, text_of
from tests.support.http_server import TOKENS, HttpServer, http_server, open_http_client
from tests.support.private_engine import PrivateEngine, private_engine

pytestmark = pytest.mark.anyio

WAYS = (("streamable", "legacy"), ("streamable", "2026-07-28"), ("sse", "legacy"))
PATIENCE = 240.0
"""Seconds after which what should have come is given up."""

COUNT = "n = globals().get('n', 0) + 1; n"


class Witness:
    """A client that calls again and again, and what it sees in each phase."""

    def __init__(self, name: str, phase: Callable[[], str]) -> None:
        self.name = name
        self.saw: dict[str, Counter[str]] = {}
        self._phase = phase
        self._handle: str | None = None
        self.numbers: list[int] = []

    async def look(self, client: AbstractAsyncContextManager[Client]) -> None:
        async with client as opened:
            while True:
                self.saw.setdefault(self._phase(), Counter())[await self._call(opened)] += 1
                await anyio.sleep(0.05)

    async def _call(self, client: Client) -> str:
        arguments = {"code": COUNT} if self._handle is None else {"code": COUNT, "sandbox": self._handle}
        try:
            result = await client.call_tool("run_python", arguments)
        except (MCPError, httpx2.HTTPError) as error:
            return f"{type(error).__name__}: {str(error)[:100]}"
        facts, text = facts_of(result), text_of(result)
        self._handle = facts["sandbox"] or self._handle
        lines = text.splitlines()
        if facts["outcome"] != "ok":
            return f"{facts['outcome']}, state {facts['state']}: {lines[0][:110]}"
        self.numbers.append(int(next(line for line in reversed(lines) if line.isdigit())))
        return "answered, and told that the sandbox was replaced" if "had to be replaced" in text else "answered"

    def answered(self, phase: str) -> int:
        return sum(count for said, count in self.saw.get(phase, Counter()).items() if said.startswith("answered"))


class Stage:
    """A server on an engine, its witnesses, and the phase that things are in."""

    def __init__(self, server: HttpServer, engine: PrivateEngine, tasks: TaskGroup) -> None:
        self.server = server
        self.engine = engine
        self.phase = "before"
        self.witnesses: list[Witness] = []
        self._tasks = tasks

    def admit(self, name: str, transport: str, mode: str, who: str = "alice") -> Witness:
        witness = Witness(name, lambda: self.phase)
        self.witnesses.append(witness)
        self._tasks.start_soon(witness.look, open_http_client(self.server, transport, mode, who))
        return witness

    async def until(self, holds: Callable[[], bool]) -> None:
        with anyio.fail_after(PATIENCE):
            while not holds():
                await anyio.sleep(0.1)  # witnesses tell nobody

    async def all_answered(self, times: int = 3) -> None:
        """Wait until every witness was answered so often in this phase."""
        await self.until(lambda: all(witness.answered(self.phase) >= times for witness in self.witnesses))

    def tell(self) -> None:
        """Print what everybody saw."""
        for witness in self.witnesses:
            for phase, saw in witness.saw.items():
                for said, count in saw.most_common():
                    print(f"  {witness.name:<22} {phase:<22} {count:>5} x {said}")

    async def require_order(self, api: APIClient) -> None:
        """The server lives, says so, and every container has an owner who knows it."""
        assert self.server.process.poll() is None, self.server.log.read_text()[-3000:]
        headers = {"Authorization": f"Bearer {TOKENS['alice']}"}
        async with httpx2.AsyncClient(headers=headers, timeout=60) as http:
            assert (await http.get(f"{self.server.url}/readyz")).status_code == 200

            async def owned() -> float:
                text = (await http.get(f"{self.server.url}/metrics")).text
                return float(text.partition("\nagentrun_places_taken ")[2].split()[0])

            with anyio.fail_after(PATIENCE):
                while (found := len(await anyio.to_thread.run_sync(runners, api))) > await owned():
                    await anyio.sleep(0.5)  # the loop that finds them comes round once a minute
        print(f"  containers, each with an owner: {found}")


def runners(api: APIClient) -> list[str]:
    return [item["Id"] for item in api.containers(all=True, filters={"label": f"{LABEL_ROLE}=runner"})]


@asynccontextmanager
async def on_stage(engine: PrivateEngine, folder: Path, *arguments: str) -> AsyncGenerator[Stage]:
    """Three clients, one for each way to speak to the server, at work. At the end nothing may be left."""
    with http_server(folder, *arguments, env={"DOCKER_HOST": engine.url}) as server:
        async with anyio.create_task_group() as tasks:
            stage = Stage(server, engine, tasks)
            for transport, mode in WAYS:
                stage.admit(f"{transport}, {mode}", transport, mode)
            try:
                await stage.all_answered()
                yield stage
            finally:
                stage.tell()
            tasks.cancel_scope.cancel()
        code = await anyio.to_thread.run_sync(server.end)
        assert code == 128 + signal.SIGTERM
    client = engine.client()
    try:
        assert client.containers(all=True, filters={"label": LABEL_ROLE}) == []
    finally:
        client.close()


@pytest.fixture(scope="module")
def engine(api: APIClient, runner_image: str) -> Iterator[PrivateEngine]:
    with private_engine(runner_image, api) as running:
        yield running


async def test_the_engine_is_killed_and_started_again(engine: PrivateEngine, tmp_path: Path) -> None:
    print("\nengine killed and started again")
    async with on_stage(engine, tmp_path, "--pool", "1", "--pool-max", "1") as stage:
        stage.phase = "engine away"
        await anyio.to_thread.run_sync(engine.kill)
        await stage.until(
            lambda: all(sum(each.saw.get(stage.phase, Counter()).values()) > 2 for each in stage.witnesses)
        )
        stage.phase = "engine starts"
        client = await anyio.to_thread.run_sync(started_again, engine)
        try:
            await stage.all_answered()
            await stage.require_order(client)
        finally:
            client.close()


def started_again(engine: PrivateEngine) -> APIClient:
    """As an init system starts it: once more where it gives up, as it does on a busy machine."""
    for _ in range(4):
        with contextlib.suppress(AssertionError):
            return engine.start()
    return engine.start()


async def test_the_disk_of_the_engine_is_full(api: APIClient, runner_image: str, tmp_path: Path) -> None:
    print("\ndisk of the engine full")
    with private_engine(runner_image, api, size=4 << 30) as engine:
        async with on_stage(engine, tmp_path, "--pool", "0") as stage:
            stage.phase = "disk full"
            filling = engine.data_root / "filling"
            await anyio.to_thread.run_sync(fill, filling)
            late = stage.admit("newcomer", "streamable", "legacy", "bob")
            others = [witness for witness in stage.witnesses if witness is not late]
            await stage.until(lambda: sum(late.saw.get("disk full", Counter()).values()) > 2)
            await stage.until(lambda: all(witness.answered("disk full") > 2 for witness in others))
            stage.phase = "disk free"
            filling.unlink()
            await stage.all_answered()
            for witness in others:  # who had a sandbox has lost nothing
                assert witness.numbers == list(range(1, len(witness.numbers) + 1))
            client = engine.client()
            try:
                await stage.require_order(client)
            finally:
                client.close()


def fill(file: Path) -> None:
    """Take all that the file system of *file* has left."""
    with file.open("wb", buffering=0) as into, contextlib.suppress(OSError):
        for size in (1 << 24, 1 << 12):
            with contextlib.suppress(OSError):
                while into.write(bytes(size)) == size:
                    pass
        os.fsync(into.fileno())
    assert shutil.disk_usage(file.parent).free < 1 << 16


async def test_a_sandbox_is_killed(engine: PrivateEngine, tmp_path: Path) -> None:
    print("\none sandbox killed")
    client = engine.client()
    try:
        async with on_stage(engine, tmp_path, "--pool", "0") as stage:
            (victim, *_) = runners(client)
            stage.phase = "one killed"
            await anyio.to_thread.run_sync(client.kill, victim)
            await stage.until(lambda: any(1 in witness.numbers[1:] for witness in stage.witnesses))
            await stage.all_answered()
            hit = [witness for witness in stage.witnesses if set(witness.saw["one killed"]) != {"answered"}]
            assert len(hit) == 1
            for witness in stage.witnesses:
                if witness not in hit:
                    assert witness.numbers == list(range(1, len(witness.numbers) + 1))
            await stage.require_order(client)
    finally:
        client.close()


# -- the network

SERVER_ADDRESS, CLIENT_ADDRESS = "198.18.7.1", "198.18.7.2"  # a range for tests of networks, in namespaces of our own
PORT = 8000

CLIENT = """
import anyio, json, sys
if sys.version_info < (3, 11):
    from exceptiongroup import BaseExceptionGroup
sys.path.insert(0, {root!r})
from pathlib import Path
from tests.support.http_server import HttpServer, open_http_client
from tests.support.clients import facts_of
from tests.support.clients import text_of

async def main():
    server = HttpServer(None, {port}, Path())
    server.url = "http://{address}:{port}"
    handle = None
    while True:  # as clients do, it connects again where the connection is of no use any more
        try:
            async with open_http_client(server, {transport!r}, {mode!r}) as client:
                while True:
                    arguments = {{"code": {code!r}}} if handle is None else {{"code": {code!r}, "sandbox": handle}}
                    with anyio.move_on_after(10) as waiting:
                        result = await client.call_tool("run_python", arguments)
                    if waiting.cancelled_caught:
                        print(json.dumps(["no answer in 10 s", ""]), flush=True)  # before it lets go, which takes long
                        break
                    handle = facts_of(result)["sandbox"] or handle
                    print(json.dumps([facts_of(result)["outcome"], text_of(result)]), flush=True)
                    await anyio.sleep(0.05)
        except Exception as error:
            while isinstance(error, BaseExceptionGroup):
                error = error.exceptions[0]
            print(json.dumps([type(error).__name__, ""]), flush=True)
            await anyio.sleep(0.5)

anyio.run(main)
"""


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


@contextmanager
def namespaces() -> Generator[tuple[str, str]]:
    """Two network namespaces with one wire between them; nothing else can be reached in either."""
    if shutil.which("ip") is None:
        pytest.skip("needs ip, for network namespaces of its own")
    names = f"agentrun-{os.getpid()}-s", f"agentrun-{os.getpid()}-c"
    try:
        for name in names:
            ip("netns", "add", name)
        ip("-n", names[0], "link", "add", "wire", "type", "veth", "peer", "name", "wire", "netns", names[1])
        for name, address in zip(names, (SERVER_ADDRESS, CLIENT_ADDRESS), strict=True):
            ip("-n", name, "address", "add", f"{address}/30", "dev", "wire")
            for device in ("lo", "wire"):
                ip("-n", name, "link", "set", device, "up")
        yield names
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)


@contextmanager
def serving_in(namespace: str, folder: Path, engine: PrivateEngine, *arguments: str) -> Generator[HttpServer]:
    tokens, log = folder / "tokens", folder / "log"
    tokens.touch(0o600)
    tokens.write_text("".join(f"{name} {token}\n" for name, token in TOKENS.items()))
    command = [sys.executable, "-m", "mcp_agentrun", "serve", "--host", SERVER_ADDRESS, "--port", str(PORT)]
    with log.open("wb") as file:
        process = subprocess.Popen(
            ["ip", "netns", "exec", namespace, *command, "--token-file", str(tokens), *arguments],
            env={**os.environ, "AGENTRUN_LOG_LEVEL": "info", "DOCKER_HOST": engine.url},
            stdout=file,
            stderr=file,
        )
    try:
        deadline = time.monotonic() + 60
        while "listening on" not in log.read_text():
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)  # nobody else is told
        yield HttpServer(process, PORT, log)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


class Remote:
    """A client in another namespace, and what it has said so far."""

    def __init__(self, name: str, process: subprocess.Popen[bytes]) -> None:
        self.name = name
        self.process = process
        self.said: list[tuple[str, str, str]] = []
        """Phase, outcome and text."""

    def listen(self, phase: Callable[[], str]) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            for line in lines:
                outcome, text = json.loads(line)
                self.said.append((phase(), outcome, text))

    def count(self, phase: str, *, ok: bool) -> int:
        return sum(said == phase and (outcome == "ok") == ok for said, outcome, _ in self.said)


async def test_the_network_is_cut_and_mended(engine: PrivateEngine, tmp_path: Path) -> None:
    print("\nnetwork between clients and server cut")
    phase = "before"

    async def until(holds: Callable[[], bool]) -> None:
        with anyio.fail_after(PATIENCE):
            while not holds():
                await anyio.sleep(0.1)  # what is read in threads tells nobody here

    client = engine.client()
    with namespaces() as (here, there), serving_in(here, tmp_path, engine, "--pool", "0", "--idle-ttl", "60") as server:
        remotes: list[Remote] = []
        root = str(CHECKOUT)
        for transport, mode in WAYS:
            code = CLIENT.format(
                root=root, port=PORT, address=SERVER_ADDRESS, transport=transport, mode=mode, code=COUNT
            )
            process = subprocess.Popen(  # noqa: ASYNC220
                ["ip", "netns", "exec", there, sys.executable, "-c", code],
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                cwd=root,
            )
            remotes.append(Remote(f"{transport}, {mode}", process))
        async with anyio.create_task_group() as tasks:
            for remote in remotes:
                tasks.start_soon(anyio.to_thread.run_sync, remote.listen, lambda: phase)
            try:
                await until(lambda: all(remote.count("before", ok=True) > 2 for remote in remotes))
                ip("-n", here, "link", "set", "wire", "down")
                phase = "cut"
                await until(lambda: all(remote.count("cut", ok=False) for remote in remotes))
                ip("-n", here, "link", "set", "wire", "up")
                phase = "mended"
                await until(lambda: all(remote.count("mended", ok=True) > 2 for remote in remotes))
                assert server.process.poll() is None
                ip("-n", here, "link", "set", "wire", "down")
                phase = "cut for good"
                # Nobody tells the server that they have gone: their sandboxes are closed when unused for long.
                await until(lambda: not runners(client))
            finally:
                for remote in remotes:
                    remote.process.kill()
                    remote.process.wait()
        for remote in remotes:
            saw = Counter((said, outcome) for said, outcome, _ in remote.said)
            for (said, outcome), count in saw.items():
                print(f"  {remote.name:<22} {said:<22} {count:>5} x {'answered' if outcome == 'ok' else outcome}")
            if remote.name.endswith("2026-07-28"):  # a handle outlives the connection; nothing was lost
                texts = [text.splitlines() for _, outcome, text in remote.said if outcome == "ok"]
                numbers = [int(next(line for line in lines if line.isdigit())) for lines in texts]
                assert numbers == sorted(set(numbers))
    client.close()
