"""The kinds of work that all peers are given, in turns."""

from __future__ import annotations

import contextlib
import functools
import math
import os
import statistics
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import anyio
import anyio.to_thread
import psutil

from benchmarks.load import container_memory
from benchmarks.packages import own_name
from mcp_agentrun.engine import LABEL_OWNER, LABEL_ROLE
from mcp_agentrun.engine.docker.engine import DockerEngine
from mcp_agentrun.engine.docker.image import ImageRecipe
from mcp_agentrun.sandbox import AsyncRuntime
from mcp_agentrun.settings import Settings

from .image import containers_of, gateway_of, remove_containers
from .roster import Bench, Peer
from .sessions import Answer, LibrarySession, PeerError, Session, reason_of

__all__ = ["FRAME", "HELLO", "KINDS", "LINES", "PLOT", "Cell", "Kind", "Subject", "expect", "take_turns"]

HELLO = "print('hello')"
PLOT = "import matplotlib.pyplot as plt\nplt.plot([1, 2, 3])\nplt.show()"
_PRINTED_PLOT = """
import base64, io
import matplotlib.pyplot as plt
plt.plot([1, 2, 3])
picture = io.BytesIO()
plt.savefig(picture, format="png")
print(base64.b64encode(picture.getvalue()).decode())
"""
LINES = "for number in range(COUNT):\n    print('%049d' % number)"
"""Lines of 50 bytes, as many as COUNT is replaced by."""
FRAME = "import numpy, pandas\nframe = pandas.DataFrame({'a': numpy.ones(13_107_200)})"
_USE = "import pathlib\nkept = 1\npathlib.Path('left').write_text('1')"
_LOOK = """
import pathlib
try:
    variable = bool(kept)
except NameError:
    variable = False
print('found', variable, pathlib.Path('left').exists())
"""
_MODULES = ("numpy", "pandas", "matplotlib.pyplot")
_IMPORTS = ("import numpy, fresh", "then pandas", "then matplotlib", "all three again")
_POOL = "first answer, from a pool"
_REQUESTS = "import requests\nprint(requests)"
_COLD, _WARM = "install requests, cold", "install requests, warm"
_LONGEST = 10.0
"""Seconds after which a peer is not given a second round."""
_PNG = "iVBORw0K"


@dataclass
class Subject:
    """A peer with a session in which work is done."""

    key: str
    peer: Peer
    session: Session
    bench: Bench
    notes: dict[str, str] = field(default_factory=dict[str, str])
    """What is to be said of its figures, by kind of work."""
    prints_plots: bool = False
    """Pictures come only as text that the code prints."""

    @property
    def keeps_variables(self) -> bool:
        return "frame" not in self.peer.lacks

    async def fresh(self) -> None:
        """See to it that the next call is the first of a session."""
        if self.keeps_variables:
            await self.session.reset()
            await anyio.sleep(0.2)  # as a client takes between two calls


def expect(answer: Answer, text: str) -> float:
    """The milliseconds of *answer*.

    :raises PeerError: it doesn't contain *text*.
    """
    if text not in answer.text:
        raise PeerError((answer.text.strip().splitlines() or ["no output"])[-1])
    return answer.seconds * 1000


def _code(name: str, code: str, expected: str) -> Callable[[Subject], Awaitable[Mapping[str, float]]]:
    async def measure(subject: Subject) -> Mapping[str, float]:
        return {name: expect(await subject.session.call(code), expected)}

    return measure


async def _imports(subject: Subject) -> Mapping[str, float]:
    await subject.fresh()
    found: dict[str, float] = {}
    for name, modules in zip(_IMPORTS, (*_MODULES, ", ".join(_MODULES)), strict=True):
        code = f"import {modules}\nprint('imported')"
        found[name] = expect(await subject.session.call(code), "imported")
    return found


def _output(count: int) -> Callable[[Subject], Awaitable[Mapping[str, float]]]:
    name = f"{count // 20_000} MB of output"

    async def measure(subject: Subject) -> Mapping[str, float]:
        answer = await subject.session.call(LINES.replace("COUNT", str(count)))
        taken = expect(answer, "00000")
        if answer.length < count * 49:
            subject.notes[name] = f"shows {answer.length / 1000:.0f} kB"
        return {name: taken}

    return measure


async def _plot(subject: Subject) -> Mapping[str, float]:
    await subject.fresh()
    times = [await _picture(subject) for _ in range(2)]
    return {"plot, fresh": times[0], "plot, later": times[1]}


async def _picture(subject: Subject) -> float:
    if not subject.prints_plots:
        answer = await subject.session.call(PLOT)
        if answer.pictures or _PNG in answer.text or ".png" in answer.text or answer.length > 5000:
            return answer.seconds * 1000
        subject.prints_plots = True
        subject.notes["plot, fresh"] = subject.notes["plot, later"] = "printed by the code"
        await subject.fresh()
    answer = await subject.session.call(_PRINTED_PLOT)
    return answer.seconds * 1000 if answer.length > 5000 else expect(answer, _PNG)


async def _frame(subject: Subject) -> Mapping[str, float]:
    await subject.fresh()
    times: list[float] = []
    for code in ("import numpy, pandas", FRAME):
        answer = await subject.session.call(f"{code}\nprint('made')")
        expect(answer, "made")
        times.append(statistics.median([(await subject.session.call(f"x = {n}")).seconds * 1000 for n in range(10)]))
    return {"a call, data packages imported": times[0], "a call, 100 MB frame alive": times[1]}


async def _reset(subject: Subject) -> Mapping[str, float]:
    for code in (HELLO, _USE):  # which some refuse
        await subject.session.call(code)
    seconds = await subject.session.reset()
    left = (await subject.session.call(_LOOK)).text
    if "found True" in left:
        raise PeerError("keeps variables")
    if "found False False" not in left:
        subject.notes["reset"] = "files stay" if "found False True" in left else "files not checked: refused"
    return {"reset": seconds * 1000}


async def _install(subject: Subject) -> Mapping[str, float]:
    """In two sessions, of which only the second may find a cache."""
    if subject.key == "library":
        return await _install_without_cache(subject.bench)
    times: list[float] = []
    for _ in range(2):
        await subject.session.reset()
        times.append(await subject.session.install("requests") * 1000)
        expect(await subject.session.call(_REQUESTS), "<module")
    if subject.key == "ours":
        subject.notes[_COLD] = "its cache is the machine's, and kept: see `AsyncSandbox`"
        return {_WARM: times[1]}
    return {_COLD: times[0], _WARM: times[1]}


async def _install_without_cache(bench: Bench) -> Mapping[str, float]:
    """By sandboxes of an image under another name, with which goes an empty cache."""
    times: list[float] = []
    with own_name(bench.api, ImageRecipe().tag) as name:
        settings = Settings(image=name)
        async with AsyncRuntime(settings, engine=DockerEngine.from_settings(settings)) as runtime:
            await runtime.installer.cache()  # which starts the installer
            for _ in range(2):
                async with runtime.sandbox() as sandbox:
                    session = LibrarySession(sandbox)
                    await session.call(HELLO)
                    times.append(await session.install("requests") * 1000)
                    expect(await session.call(_REQUESTS), "<module")
    return {_COLD: times[0], _WARM: times[1]}


@asynccontextmanager
async def _another(subject: Subject) -> AsyncGenerator[Session]:
    """A session of a process of its own, whose containers don't wait for the ten seconds of ``docker stop``."""
    bench = subject.bench
    before = containers_of(bench.api, bench.image)
    async with subject.peer.open(bench) as session:
        try:
            yield session
        finally:
            remove_containers(bench.api, containers_of(bench.api, bench.image) - before)


async def _first_answer(subject: Subject) -> Mapping[str, float]:
    """Of another process and session."""
    if subject.key == "library":
        subject.notes["first answer, process included"] = "in a process that has imported it"
    begun = time.perf_counter()
    async with _another(subject) as session:
        opened = time.perf_counter() - begun
        await session.call(HELLO)
        answered = time.perf_counter() - begun
    found = {"first answer, process included": answered * 1000}
    return found | ({"start to initialize": opened * 1000} if subject.peer.is_mcp else {})


async def _from_pool(subject: Subject) -> Mapping[str, float]:
    """The opening of a session that was kept ready, and its first answer."""
    if subject.key == "library":
        async with AsyncRuntime(pool=1) as runtime:
            with anyio.fail_after(60):
                while not runtime.spares:  # noqa: ASYNC110
                    await anyio.sleep(0.05)  # it tells nobody
            begun = time.perf_counter()
            async with runtime.sandbox() as sandbox:
                await sandbox.run(HELLO)
                return {_POOL: (time.perf_counter() - begun) * 1000}
    if subject.key not in ("llm-sandbox-pool", "monty"):
        raise PeerError("has one over HTTP: see `AsyncSandbox`" if subject.key == "ours" else "has no pool")
    seconds = await subject.session.reset()
    return {_POOL: seconds * 1000 + expect(await subject.session.call(HELLO), "hello")}


async def _memory(subject: Subject) -> Mapping[str, float]:
    """Of another session: MiB of its containers, and of the processes that client or server have started for it."""
    bench, found = subject.bench, dict[str, float]()
    before = _held(bench)
    async with _another(subject) as session:
        for name, code in ((_IDLE, HELLO), (_IDLE_WITH_DATA, "import numpy, pandas, matplotlib.pyplot\n" + HELLO)):
            if name == _IDLE and subject.key in ("ours", "library"):
                continue  # they have imported the data packages before they are asked
            try:
                expect(await session.call(code), "hello")
            except PeerError as error:
                subject.notes[name] = str(error)
                continue
            await anyio.sleep(2)  # idle
            after = await anyio.to_thread.run_sync(_held, bench)
            found[name] = sum(size() for key, size in after.items() if key not in before) / (1 << 20)
    return found


_IDLE, _IDLE_WITH_DATA = "memory of an idle session", "memory, data packages imported"


def _held(bench: Bench) -> dict[object, Callable[[], int]]:
    """What sessions hold: containers and processes, each with what tells its bytes."""
    own = f'"pid":{os.getpid()},'
    found: dict[object, Callable[[], int]] = {}
    processes = psutil.Process().children(recursive=True)
    owners = [own, *(f'"pid":{process.pid},' for process in processes)]
    for item in bench.api.containers():
        owner = item["Labels"].get(LABEL_OWNER, "")
        is_runner = item["Labels"].get(LABEL_ROLE) == "runner" and any(each in owner for each in owners)
        if is_runner or item["Image"] in (bench.image, gateway_of(bench.image)):
            found[item["Id"]] = functools.partial(container_memory, bench.api, item["Id"])
    for process in processes:
        if process.ppid() != os.getpid():
            found[process.pid] = functools.partial(_share, process)
    return found


def _share(process: psutil.Process) -> int:
    return process.memory_full_info().pss


@dataclass(frozen=True)
class Kind:
    """A kind of work."""

    measure: Callable[[Subject], Awaitable[Mapping[str, float]]]
    """Do it once; milliseconds (see `unit`) by the name of the figure."""
    names: tuple[str, ...]
    rounds: int = 5
    seconds: float = 8.0
    """Once it has taken a peer so long, its figure is known well enough."""
    unit: str = "ms"


KINDS: Mapping[str, Kind] = {
    "hello": Kind(_code("hello", HELLO, "hello"), ("hello",), 30),
    "value": Kind(_code("value", "x = 20\nx + 22", "42"), ("value",), 15),
    "exception": Kind(_code("exception", "1 / 0", "ivision"), ("exception",), 15),
    "imports": Kind(_imports, _IMPORTS),
    "output": Kind(_output(20_000), ("1 MB of output",), 8),
    "output-10": Kind(_output(200_000), ("10 MB of output",), 3),
    "plot": Kind(_plot, ("plot, fresh", "plot, later")),
    "frame": Kind(_frame, ("a call, data packages imported", "a call, 100 MB frame alive"), 5, 15),
    "reset": Kind(_reset, ("reset",), 10),
    "install": Kind(_install, (_COLD, _WARM), 2, 15),
    "first": Kind(_first_answer, ("first answer, process included", "start to initialize"), 4, 10),
    "pool": Kind(_from_pool, (_POOL,), 5),
    "memory": Kind(_memory, (_IDLE, _IDLE_WITH_DATA), 1, unit="MiB"),
}


@dataclass
class Cell:
    """The figure of a peer for a kind of work."""

    samples: list[float | None] = field(default_factory=list[float | None])
    """Milliseconds in each round, the first included; None in rounds in which the peer did not take part."""
    reason: str = ""
    """Why there is none."""


async def take_turns(kind: str, subjects: Sequence[Subject], share: float = 1.0) -> dict[str, dict[str, Cell]]:
    """Have all *subjects* work in turns; cells by figure and peer. The first round is to warm up.

    :param share: how much of the usual rounds and time.
    """
    what = KINDS[kind]
    cells = {name: {subject.key: Cell() for subject in subjects} for name in what.names}
    spent = dict.fromkeys((subject.key for subject in subjects), 0.0)
    for number in range(math.ceil(what.rounds * share) + 1):
        for subject in subjects:
            mine = {name: cells[name][subject.key] for name in what.names}
            found: Mapping[str, float] = {}
            # A round that counts, after the first, unless both would take too long.
            is_done = spent[subject.key] > (what.seconds * share if number > 1 else _LONGEST)
            if not is_done and not any(cell.reason for cell in mine.values()):
                begun = time.perf_counter()
                reason = subject.peer.lacking(kind)
                try:
                    found = {} if reason else await what.measure(subject)
                except Exception as error:
                    reason = reason_of(error)
                    with contextlib.suppress(Exception):  # so that other kinds of work are possible
                        await subject.session.reset()
                for cell in mine.values():
                    cell.reason = reason
                taken = time.perf_counter() - begun
                spent[subject.key] += taken
            for name, cell in mine.items():
                cell.samples.append(found.get(name))
    return cells
