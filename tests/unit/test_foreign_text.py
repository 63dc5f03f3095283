"""Text of others on its way to a model, a client, a terminal or a log. Each way is a row of `SOURCES`."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timezone
from types import SimpleNamespace
from typing import Any, Literal, cast

import pytest
from mcp import MCPError
from mcp.types import ReadResourceRequestParams

from mcp_agentrun.engine.network import NetworkSettings, redact
from mcp_agentrun.errors import AgentRunError, FileError, InstallError, InvalidRequestError, UnavailableError
from mcp_agentrun.packages.installation import Installation
from mcp_agentrun.packages.installer import Installed
from mcp_agentrun.packages.policy import Policy, parse_requirements
from mcp_agentrun.safety import Finding
from mcp_agentrun.sandbox import FileChange, FileInfo, FilePage, Output, Result, RunError
from mcp_agentrun.server.logs import configure_logging
from mcp_agentrun.server.mcp.out_folder import OutFolder
from mcp_agentrun.server.mcp.progress import Progress as CallProgress
from mcp_agentrun.server.mcp.render import failure, install_answer, run_answer
from mcp_agentrun.server.mcp.resources import OutputStore, Resources
from mcp_agentrun.server.mcp.tools import TOOLS
from mcp_agentrun.sessions import STDIO
from mcp_agentrun.settings import Settings
from mcp_agentrun.spoofing import quoted, sanitize
from mcp_agentrun.wire import messages
from tests.support.hostile_text import HOSTILE, LOGGED, LOOKS_LIKE_OURS, MARK, SECRET, UNSEEN, reaching, strings

pytestmark = pytest.mark.anyio


BENIGN = "benign"

LONGEST = 20_000
"""Of one answer or line of the log, in characters, whatever the length of what is told in it."""

Kept = Literal["ours", "shown"]
"""``ours`` has foreign text within it. ``shown`` is what code has printed, which comes as it was printed."""
Source = Callable[[str], list[str] | Awaitable[list[str]]]
SOURCES: dict[str, tuple[Kept, Source]] = {}


def source(name: str, kind: Kept = "ours") -> Callable[[Source], Source]:
    """A row of the table: what reaches somebody, given a hostile text."""

    def add(function: Source) -> Source:
        SOURCES[name] = kind, function
        return function

    return add


# -- answers


RESULT = Result("ok", Output(b"out\n", b"", 4), 0.1, exit_code=0, number=3)


def answered(**changes: Any) -> list[str]:
    copied = changes.pop("copied", ())
    return reaching(run_answer(replace(RESULT, **changes), handle=None, new=False, copied=copied, links=True))


INSTALLED = Installed("", (), ())
FIELDS: dict[str, Callable[[str], Any]] = {
    "packages": lambda text: (("a", text), (text, "1.0")),
    "satisfied": lambda text: ((text, text),),
    "skipped": lambda text: (text,),
    "removed": lambda text: ((text, text),),
    "changed": lambda text: ((text, text, text),),
    "stale": lambda text: (text,),
    "missing_packages": lambda text: f"numpy could not be installed: {text}",
}
for _field, _make in FIELDS.items():

    @source(f"installed on request: {_field}")
    def _(text: str, field: str = _field, make: Callable[[str], Any] = _make) -> list[str]:
        return reaching(install_answer(replace(INSTALLED, **{field: make(text)}), note="note"))

    @source(f"installed for an import: {_field}")
    def _(text: str, field: str = _field, make: Callable[[str], Any] = _make) -> list[str]:
        return answered(installed=replace(INSTALLED, **{field: make(text)}))


def path_like(text: str) -> str:
    """*text* as far as it can be what a sandbox calls a path."""
    return re.sub("[\0\ud800-\udc7f\udd00-\udfff]|(?<=/)/+|^/|/$", "", text[:4000].replace(SECRET, ""))


@source("name of a file that was created")
def _(text: str) -> list[str]:
    text = path_like(text)
    return answered(files=(FileChange(text, 1, "created"), FileChange(text, 1, "changed")))


@source("names of many files")
def _(text: str) -> list[str]:
    # What is named again for programs is bounded by the names that the sandbox may report.
    given = answered(files=tuple(FileChange(f"{number}{path_like(text)}", 1, "created") for number in range(30)))
    return given[:1]


@source("what became of a file")
def _(text: str) -> list[str]:
    return answered(files=(FileChange("a", 1, cast("Any", text)),))


@source("an exception of the code")
def _(text: str) -> list[str]:
    return answered(outcome="error", error=RunError(text, text, 1))


@source("the static check's objections")
def _(text: str) -> list[str]:
    return answered(outcome="blocked", findings=(Finding(text, 1, 2, text, text),))


@source("the static check's warnings")
def _(text: str) -> list[str]:
    return answered(findings=(Finding(text, 1, 2, text, text),))


@source("advice on a module")
def _(text: str) -> list[str]:
    return answered(advice=f"{text} could not be installed: {text}")


@source("what the sandbox lacks")
def _(text: str) -> list[str]:
    return answered(missing_packages=f"Of the packages that should be there, x could not be installed: {text}")


@source("output", "shown")
def _(text: str) -> list[str]:
    data = text.encode("utf-8", "surrogatepass")
    return answered(output=Output(data, b"", len(data)))


@source("output since the last call", "shown")
def _(text: str) -> list[str]:
    data = text.encode("utf-8", "surrogatepass")
    return answered(late=Output(data, b"", len(data)))


@source("output that is too long", "shown")
def _(text: str) -> list[str]:
    data = text.encode("utf-8", "surrogatepass") + b"\n"
    return answered(output=Output(data, data, 1 << 30))


@source("an error of the installer or the index")
async def _(text: str) -> list[str]:
    error = await installing(text)
    return reaching(failure(f"Nothing was installed. {error}", "error"))


@source("any other error of ours")
def _(text: str) -> list[str]:
    return reaching(failure(str(UnavailableError(f"The container ended ({text}). Call again."))))


@source("a refusal by the policy of what was resolved")
def _(text: str) -> list[str]:
    policy = Policy(require_hashes=True)
    return reaching(failure(str(policy.check_resolved([], {text: text}))))


@source("a requirement that is none")
def _(text: str) -> list[str]:
    try:
        parse_requirements([f"{text} ?"])
    except InvalidRequestError as error:
        return reaching(failure(f"Nothing was done: {error}"))
    return []


@source("wrong arguments")
def _(text: str) -> list[str]:
    given: list[dict[str, Any]] = [{text: 1}, {"code": {text: text}}, {"code": "1", "timeout": text, "sandbox": [text]}]
    told: list[str] = []
    for arguments in given:
        with pytest.raises(InvalidRequestError) as wrong:
            TOOLS["run_python"].arguments.parse(arguments)
        told += reaching(failure(f"Nothing was done: {wrong.value}"))
    return told


@source("copies of files")
async def _(text: str) -> list[str]:
    told: list[str] = []
    name = path_like(text).replace("/", "")
    for error in (None, FileError(text), OSError(5, text)):

        async def read(path: str, limit: int, error: Exception | None = error) -> AsyncIterator[bytes]:
            if error is not None:
                raise error
            yield b"x"

        out = OutFolder(Settings(out=TEMPORARY[0]))
        told += await out.copy(read, None, (FileChange(name, 1, "created"), FileChange(name, 1 << 60, "created")))
    return answered(copied=told)


TEMPORARY: list[str] = [""]


# -- what clients are told meanwhile


class Client:
    def __init__(self) -> None:
        self.told: list[str] = []
        self.session: Any = self
        self.meta = {"progress_token": 1, "io.modelcontextprotocol/logLevel": "info"}
        self.request_id = 1
        self.protocol_version = "2026-07-28"

    async def report_progress(self, progress: float, total: float | None, message: str) -> None:
        self.told.append(message)

    async def send_log_message(self, level: str, text: str, logger: str, id_: object) -> None:
        self.told.append(text)


async def told(act: Callable[[Any], Awaitable[object]]) -> list[str]:
    client: Any = Client()
    await act(CallProgress(client, "run_python", "running"))
    return client.told


@source("progress: the stage of a sandbox")
async def _(text: str) -> list[str]:
    async def act(progress: Any) -> None:
        progress.sandbox = SimpleNamespace(stage=f"building the image: {text}")
        await progress._report_stage()

    return await told(act)


@source("progress: what the installer does")
async def _(text: str) -> list[str]:
    async def act(progress: Any) -> None:
        await installing("", progress=text, report=progress.set_stage)
        await progress._report_stage()

    return await told(act)


@source("progress: the latest line of output")
async def _(text: str) -> list[str]:
    async def act(progress: Any) -> None:
        progress._wants_logs = False
        await progress.add_output(text.encode("utf-8", "surrogatepass"))
        await progress._report_output()
        await progress._report_stage()

    return await told(act)


@source("log messages with output", "shown")
async def _(text: str) -> list[str]:
    async def act(progress: Any) -> None:
        await progress.add_output(text.encode("utf-8", "surrogatepass"))
        await progress._report_output()

    return (await told(act))[1:]


async def installing(error: str, *, progress: str = "", report: Callable[[str], None] = lambda _: None) -> object:
    """The error by which a call fails when the installer says *error*."""
    told = [
        messages.InstallProgress(request=1, text=progress),
        messages.InstallDone(request=1, sandbox="a", error=error),
    ]

    class Request:
        async def receive(self) -> messages.InstallerMessage:
            return told.pop(0)

    request: Any = Request()
    installation = Installation(request, "a", [], policy=Policy(), trusted=(), network=NetworkSettings(), report=report)
    try:
        installation._result(await installation._outcome())  # pyright: ignore[reportPrivateUsage]
    except InstallError as raised:
        return raised
    raise AssertionError


# -- resources


class Files:
    """In place of sessions: one sandbox, with a file of a given name, which can't be read."""

    is_ready = True
    id = "id"

    def __init__(self, name: str) -> None:
        self.name = name
        self.settings = Settings()

    @contextmanager
    def listing(self, *_: object) -> Generator[dict[None, Files]]:
        yield {None: self}

    @contextmanager
    def reading(self, *_: object) -> Generator[Files]:
        yield self

    @property
    def files(self) -> Files:
        return self

    async def page(self) -> FilePage:
        return FilePage([FileInfo(self.name, 1, datetime.now(timezone.utc))], 0, is_cut=False)

    async def read(self, path: str, *, limit: int) -> bytes:
        raise FileError(f"{path!a} can't be read: {self.name}") if path == "a" else UnavailableError(self.name)


CONTEXT: Any = None


def resources(text: str) -> Resources:
    sessions: Any = Files(text)
    return Resources(sessions, lambda _: STDIO, OutputStore())


@source("names of resources")
async def _(text: str) -> list[str]:
    listed = await resources(path_like(text)).list(CONTEXT, None)
    return list(strings([item.model_dump(mode="json") for item in listed.resources]))


@source("resources that can't be read")
async def _(text: str) -> list[str]:
    said: list[str] = []
    for uri in ("agentrun://own/files/a", "agentrun://own/files/b", f"agentrun://own/{text}"):
        with pytest.raises(MCPError) as raised:
            await resources(text).read(CONTEXT, ReadResourceRequestParams(uri=uri))
        said.append(raised.value.message)
    return said


# -- logs


@contextmanager
def logging_to(lines: list[str], form: Literal["text", "json"]) -> Generator[None]:
    root, ours = logging.getLogger(), logging.getLogger("mcp_agentrun")
    before = root.handlers[:], root.level, ours.level
    root.handlers[:] = []  # pytest's own, which `force` would close
    try:
        configure_logging(Settings(), form)
        (handler,) = root.handlers
        handler.emit = lambda record: lines.append(handler.format(record))
        yield
    finally:
        logging.captureWarnings(False)
        root.handlers[:], level, ours_level = before
        root.setLevel(level)
        ours.setLevel(ours_level)


def logged(text: str, form: Literal["text", "json"]) -> list[str]:
    lines: list[str] = []
    with logging_to(lines, form):
        for name in ("mcp_agentrun.sandbox", "mcp.server.streamable_http", "uvicorn.error"):
            logger = logging.getLogger(name)
            logger.error("%s", text)
            logger.error(text)
            try:
                raise AgentRunError(text)
            except AgentRunError as error:
                logger.warning("%s: %s", type(error).__name__, error)
                logger.exception("failed: %s", text)
    return lines


@source("the log, as text")
def _(text: str) -> list[str]:
    return logged(text.replace("%", ""), "text")


@source("the log, as JSON")
def _(text: str) -> list[str]:
    lines = logged(text.replace("%", ""), "json")
    assert all(len(line.splitlines()) == 1 and line.isascii() for line in lines)
    return [item for line in lines for item in strings(json.loads(line))]


# -- the table

FORGED = re.compile(r"^\s*\[agentrun\] (?:Call|forged)", re.MULTILINE)


async def taken(name: str, text: str) -> list[str]:
    given = SOURCES[name][1](text)
    return given if isinstance(given, list) else await given


@pytest.fixture(scope="module", autouse=True)
def _folder_for_copies(tmp_path_factory: pytest.TempPathFactory) -> None:
    TEMPORARY[0] = str(tmp_path_factory.mktemp("copies"))


@pytest.mark.parametrize("name", SOURCES)
async def test_foreign_text_is_told_as_such(name: str) -> None:
    kind = SOURCES[name][0]
    expected = [string for string in await taken(name, BENIGN) if string]
    marks = max((len(MARK.findall(string)) for string in expected), default=0)
    for label, hostile in HOSTILE.items():
        found = [string for string in await taken(name, hostile) if string]
        assert len(found) == len(expected) or kind == "shown", (label, found, expected)
        for string in found:
            string.encode()
            assert not FORGED.search(string), label
            if kind == "ours":
                require_harmless(string, marks, label)


def require_harmless(string: str, marks: int, label: str) -> None:
    """Nothing of a hostile text is left in *string* but its letters, within as many *marks* of ours as ever."""
    assert len(MARK.findall(string)) <= marks, label
    assert not UNSEEN.search(string), (label, ascii(UNSEEN.search(string)))
    assert "\r" not in string, label
    assert len(string) <= LONGEST, label
    assert SECRET not in string, label
    for line in string.splitlines()[1:]:
        assert not line.startswith((LOOKS_LIKE_OURS, LOGGED, "Call install_package")), label
    assert string.splitlines()[0] != LOOKS_LIKE_OURS, label


# -- the functions behind it


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("lines", [False, True])
def test_what_was_made_harmless_stays_as_it_is(text: str, lines: bool) -> None:
    once = sanitize(text, lines=lines)
    assert len(once) <= 3 * 8000
    if len(once) < 8000:
        assert sanitize(once, lines=lines) == once


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("report.csv", "'report.csv'"),
        ("Übersicht 日本.csv", "'Übersicht 日本.csv'"),
        ("it's", '"it\'s"'),
        ("a\nb\x1b[0m\u202e\udc80", r"'a\nb\x1b[0m\u202e\udc80'"),
        ("a\ufe0f\u115f\U000e0041", r"'a\ufe0f\u115f\U000e0041'"),
    ],
)
def test_names_in_quotes(text: str, expected: str) -> None:
    assert quoted(text) == expected


def test_ordinary_text_is_told_unchanged() -> None:
    for text in ("plain", "naïve [x] é 日本", "  indented", "a@b.example", "x = [1]\n  y"):
        assert sanitize(text, lines=True) == text


@pytest.mark.parametrize("text", ["a" * 200_000, "a://" * 50_000, "a+b." * 50_000 + "@", "://x@" * 20_000])
def test_passwords_are_looked_for_once(text: str) -> None:
    import time

    def took(count: int) -> float:
        times: list[float] = []
        for _ in range(5):
            started = time.process_time()
            redact(text[:count])
            times.append(time.process_time() - started)
        return min(times)

    took(1000)
    assert took(160_000) < 4 * 16 * took(10_000)
