"""Hostile frames on both sides of the stream, for as long as is asked for: ``python -m tests.long.fuzz``.

Four parts: the codec alone, by hypothesis; the host's side, whose sandbox hears a container that lies; the container's
side, where user code speaks to the supervisor in the runner's stead; and garbage on the supervisor's stdin. Nothing may
raise what it doesn't document, hang, or grow. The exit code is 1 if something did.
"""

from __future__ import annotations

import argparse
import base64
import faulthandler
import itertools
import json
import logging
import math
import os
import random
import struct
import sys
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, cast

import anyio
import anyio.to_thread
import psutil
from anyio.abc import ByteStream
from docker import APIClient
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from mcp_agentrun.engine import ContainerSpec, Engine, Report, manager
from mcp_agentrun.engine.docker.discovery import connect
from mcp_agentrun.errors import AgentRunError
from mcp_agentrun.sandbox import AsyncSandbox, Result, RunError, container, execution, files
from mcp_agentrun.sandbox.files import is_safe_path
from mcp_agentrun.sandbox.spec import runner_spec
from mcp_agentrun.server.mcp.render import run_answer
from mcp_agentrun.settings import Settings
from mcp_agentrun.wire import messages
from mcp_agentrun.wire.codec import MAX_FRAME, Frame, FrameDecoder, ProtocolError, encode_frame
from mcp_agentrun.wire.messages import Message, MessageDecoder, decode, encode
from tests.support.containers import containers_of_ours
from tests.support.fake_engine import honest_runner
from tests.support.samples import message_classes
from tests.support.sandboxes import open_engine, sandbox_on
from tests.support.violations import Violations

HEADER = 5
COMPACTED = 1 << 16
"""Used bytes that a decoder may still hold."""

KINDS = [cls.kind for cls in message_classes()]
OUTCOMES = ("ok", "error", "blocked", "timeout", "memory_limit", "crashed", "cancelled")
STATES = ("kept", "restored", "lost")

# -- (a) the codec

frames = st.lists(st.tuples(st.sampled_from(KINDS), st.binary(max_size=300)), max_size=8)
cuts = st.lists(st.integers(1, 400), min_size=1, max_size=8)


def _joined(parts: Sequence[Frame]) -> bytes:
    return b"".join(encode_frame(kind, payload) for kind, payload in parts)


def _with_errors(data: bytes, errors: Sequence[tuple[int, int]]) -> bytes:
    damaged = bytearray(data)
    for place, value in errors:
        if damaged:
            damaged[place % len(damaged)] = value
    return bytes(damaged)


wire = st.one_of(
    st.binary(max_size=3000),
    frames.map(_joined),
    st.builds(
        _with_errors, frames.map(_joined), st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 255)), max_size=4)
    ),
)
plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**300), 10**300)
    | st.floats(allow_nan=False)
    | st.text(st.characters(), max_size=30),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(), max_size=8), inner, max_size=4)
    ),
    max_leaves=12,
)


def _nested(opening: bytes, depth: int) -> bytes:
    return opening * depth


def _number(start: bytes, digits: int) -> bytes:
    return b'{"a":' + start + b"9" * digits + b"}"


json_like = st.one_of(
    st.binary(max_size=300),
    st.text(st.sampled_from('[]{}",:0123456789.eE+-truefalsnNaIity\\ud8 '), max_size=100).map(str.encode),
    st.builds(_nested, st.sampled_from([b"[", b'{"a":', b"[[],"]), st.integers(1, 60_000)),
    st.builds(_number, st.sampled_from([b"", b"-", b"1e", b"0."]), st.integers(1, 6000)),
)


def _pieces(data: bytes, lengths: Sequence[int]) -> list[bytes]:
    found: list[bytes] = []
    start = 0
    for length in itertools.cycle(lengths):
        if start >= len(data):
            break
        found.append(data[start : start + length])
        start += length
    return found


def check_decoder(data: bytes, lengths: Sequence[int], limit: int) -> list[Frame] | None:
    """Decode *data*, cut into pieces of *lengths*; returns the frames, or None after a `ProtocolError`."""
    decoder = FrameDecoder(limit=limit)
    decoded: list[Frame] = []
    try:
        for piece in _pieces(data, lengths):
            decoder.feed(piece)
            assert len(vars(decoder)["_buffer"]) <= limit + HEADER + len(piece) + COMPACTED
            for kind, payload in decoder:
                assert len(payload) <= limit
                decoded.append((kind, payload))
            assert decoder.pending < limit + HEADER
    except ProtocolError:
        return None
    return decoded


def check_identity(sent: Sequence[Frame], lengths: Sequence[int]) -> None:
    """Whatever is encoded comes back, wherever the stream was cut."""
    assert check_decoder(_joined(sent), lengths, MAX_FRAME) == list(sent)


def check_message(kind: int, payload: bytes) -> None:
    """A message that can be sent again, or `ProtocolError`."""
    with suppress(ProtocolError):
        message = decode((kind, payload))
        assert decode((kind, encode(message)[HEADER:])) == message


def fuzz_codec(seconds: float, violations: Violations) -> int:
    cases = 0
    quick = hypothesis_settings(
        max_examples=400, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow], print_blob=False
    )

    def count() -> None:
        nonlocal cases
        cases += 1

    @quick
    @given(wire, cuts, st.integers(0, 1000))
    def any_bytes(data: bytes, lengths: list[int], limit: int) -> None:
        count()
        for kind, payload in check_decoder(data, lengths, limit) or []:
            check_message(kind, payload)

    @quick
    @given(frames, cuts)
    def identity(sent: list[Frame], lengths: list[int]) -> None:
        count()
        check_identity(sent, lengths)

    @quick
    @given(st.sampled_from(KINDS), json_like)
    def any_payload(kind: int, payload: bytes) -> None:
        count()
        check_message(kind, payload)

    @hypothesis_settings(quick, max_examples=10)
    @given(st.integers(0, MAX_FRAME), st.integers(1, 1 << 20))
    def large(size: int, step: int) -> None:
        count()
        check_identity([(messages.OutputChunk.kind, bytes(size)), (messages.Ping.kind, b"")], [step + 1000])

    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        for check in (any_bytes, identity, any_payload, large):
            try:
                check()
            except Exception as error:  # hypothesis has shrunk it
                violations.note(f"codec: {check.__name__}", f"{type(error).__name__}: {error}")
    return cases


# -- mutations

RAW = (
    *("null", "true", "false", "0", "-0", "-1", "1", "1.0", "1.5", "255", "256", "1e400", "-1e400", "1e-400", "NaN"),
    *("Infinity", "-Infinity", "9" * 20, "9" * 400, "9" * 4000, "-" + "9" * 4000, "9" * 5000, '""', '"ok"', '"lost"'),
    *(
        '"kept"',
        '"memory"',
        r'"\ud800"',
        r'"\udfff\ud800 \u0000"',
        '"' + "x" * 70_000 + '"',
        '"' + r"\u0001" * 30_000 + '"',
    ),
    *("[]", "{}", "[[]]", "[{}]", "[" * 400 + "]" * 400, "[" * 90_000, '{"a":' * 20_000, '["/tmp"]', '["/etc"]'),
    *("[" + '"/tmp",' * 20_000 + '"/tmp"]', "[" + "[]," * 60_000 + "[]]", '"\xff\ufffe"', "x", "", '"', "[1", "//"),
    *('{"type":"E","message":"m","line":1,"errno":28,"full":["/tmp"]}', '{"type":1,"message":2,"line":"","errno":[]}'),
    '{"type":"E","message":"m","line":1,"errno":28,"full":[' + '"/tmp",' * 20_000 + '"/tmp"]}',
    '{"type":"E","message":"m","line":' + "9" * 4000 + ',"errno":1,"full":[]}',
    '{"type":"E","message":"m","line":1,"errno":' + "9" * 4000 + ',"full":[]}',
    '{"type":["E"],"message":{},"line":1.5,"errno":"","full":"/tmp"}',
    '{"type":"E","message":"m","line":1,"errno":28,"full":["/nowhere",[],{}]}',
    '{"type":"\\ud800","message":"' + "m" * 60_000 + '","line":true,"errno":false,"full":[]}',
)


def mutated_json(chance: random.Random, valid: Mapping[str, Any]) -> bytes:
    """An object like *valid*, with some wrong values, fields too few or too many."""
    items = [(json.dumps(name), json.dumps(value)) for name, value in valid.items()]
    for _ in range(chance.choice((0, 1, 1, 1, 2, 4))):
        place = chance.randrange(len(items)) if items else 0
        match chance.randrange(6):
            case 0 if items:
                del items[place]
            case 1:
                items.insert(place, (chance.choice(items)[0] if items else '"a"', chance.choice(RAW)))
            case 2:
                items.append((json.dumps(chance.choice(("", "\ud800", "x" * 1000, "run", "kind"))), chance.choice(RAW)))
            case _ if items:
                items[place] = items[place][0], chance.choice(RAW)
            case _:
                pass
    return ("{" + ",".join(f"{name}:{value}" for name, value in items) + "}").encode("utf-8", "surrogatepass")


def mutated_wire(chance: random.Random, parts: Sequence[Frame]) -> bytes:
    """The bytes of frames like *parts*, with damage to order, kinds, lengths or bytes."""
    parts = list(parts)
    for _ in range(chance.choice((0, 0, 1, 1, 3))):
        if not parts:
            break
        place = chance.randrange(len(parts))
        match chance.randrange(6):
            case 0:
                del parts[place]
            case 1:
                parts.insert(place, chance.choice(parts))
            case 2:
                parts[place] = chance.choice((chance.randrange(256), *KINDS)), parts[place][1]
            case 3:
                parts[place] = parts[place][0], chance.randbytes(chance.choice((0, 1, 5, 300)))
            case 4:
                parts[place:place] = [parts[place]] * (
                    chance.choice((2, 100)) if len(parts[place][1]) <= 1 << 16 else 2
                )
            case _:
                chance.shuffle(parts)
    data = bytearray()
    for kind, payload in parts:
        length = len(payload)
        if chance.random() < 0.03:
            length = chance.choice((0, length + 1, length - 1, 1 << 18, MAX_FRAME, MAX_FRAME + 1, 1 << 31, 0xFFFFFFFF))
        data += (length & 0xFFFFFFFF).to_bytes(4, "big") + bytes([kind]) + payload
    for _ in range(chance.choice((0, 0, 0, 0, 1, 1, 5))):
        place = chance.randrange(len(data) + 1)
        match chance.randrange(4):
            case 0 if place < len(data):
                data[place] = chance.randrange(256)
            case 1:
                del data[place:]
            case 2:
                data[place:place] = chance.randbytes(chance.choice((1, 4, 5, 100)))
            case _:
                del data[place : place + chance.choice((1, 4, 5))]
    return bytes(data)


# -- what an answer may be

TEXT_ALLOWANCE = 32 << 10
"""What our own lines may add to the output shown."""


def check_result(result: Result, settings: Settings) -> None:
    """Whether *result* is what its class says, and can be shown."""
    assert result.outcome in OUTCOMES
    assert {result.state, result.since} <= {*STATES}
    assert type(result.duration) is float
    assert math.isfinite(result.duration)
    assert result.duration >= 0
    assert isinstance(result.value, str | None)
    assert isinstance(result.exit_code, int | None)
    assert isinstance(result.unprotected, str | None)
    assert type(result.more_files) is int
    assert type(result.ended) is int
    assert all(is_safe_path(file.path) and file.size >= 0 for file in result.files)
    assert len(result.images) <= 16
    error = result.error
    if error is not None:
        assert type(error) is RunError
        assert type(error.type) is str
        assert type(error.message) is str
        assert isinstance(error.line, int | None)
        assert isinstance(error.errno, int | None)
        assert all(type(folder) is str for folder in error.full)
    assert result.output.written >= 0
    assert len(result.output.head) <= settings.limits.output_keep
    assert len(result.output.tail) <= MAX_FRAME
    assert len(result.late.head) <= 1 << 16
    result.output.text()
    answer = run_answer(result, handle=None, new=False)
    answer.model_dump_json(by_alias=True)
    text = cast("Any", answer.content[0]).text
    assert len(text) <= settings.limits.output_show + TEXT_ALLOWANCE, f"{len(text)} characters for the model"


# -- (b) the host's side

HOST_SETTINGS = Settings(output_keep=1 << 20, safety="off")
HOST_SECONDS = 10.0
"""Far more than the longest that a call of this part may take."""

HOST_GROWTH = 128 << 20
WAITS = (
    (execution, "_OVERHEAD_SECONDS"),
    (execution, "_CANCEL_SECONDS"),
    (container, "_RESET_SECONDS"),
    (files, "_ANSWER_SECONDS"),
    (manager, "_START_SECONDS"),
)


PATHS = ("a.png", "../x", "/etc/passwd", "a//b", "a/../b", "", ".", "\ud800", "x\0", "x" * 5000, "a\n[agentrun] b")


def result_fields(chance: random.Random, number: int) -> dict[str, Any]:
    """What the supervisor may say of run *number*."""
    cause = {"type": "ValueError", "text": "no", "errno": 28, "path": None, "function": "f"}
    error = {"type": "ValueError", "message": "no", "line": 3, "causes": [cause], "full": ["/tmp"]}
    finding = dict(zip(("rule", "line", "column", "reason", "remedy"), ("network", 1, 1, "No.", "Do."), strict=True))
    file = {"path": chance.choice(("a/b.csv", *PATHS)), "size": 10, "change": "created"}
    return {
        "run": number,
        "outcome": chance.choice(sorted(OUTCOMES)),
        "duration": 0.25,
        "exit_code": chance.choice((None, 0, 1, -9)),
        "error": chance.choice((None, error)),
        "value": chance.choice((None, "41")),
        "imported": chance.choice((None, [], ["yaml"])),
        "written": 10,
        "state": chance.choice(sorted(STATES)),
        "since": chance.choice(sorted(STATES)),
        "unprotected": chance.choice((None, "memory")),
        "findings": chance.choice(([], [finding])),
        "files": chance.choice(([], [], [file])),
        "more_files": chance.choice((0, 0, 3)),
        "ended": chance.choice((0, 0, 2)),
    }


def picture(chance: random.Random) -> bytes:
    """A PNG, or something like it."""
    header = struct.pack(">IIBBBBB", chance.choice((1, 1, 1, 0, 4096, 1 << 31)), 1, 8, 0, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n"
    for name, content in ((b"IHDR", header), (b"IDAT", zlib.compress(b"\0\0")), (b"IEND", b"")):
        data += struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
    damaged = bytearray(data)
    if chance.random() < 0.5:
        damaged[chance.randrange(len(damaged))] = chance.randrange(256)
    return bytes(damaged)


def picture_frames(chance: random.Random) -> list[Frame]:
    """The frames of one picture, as a worker sends them."""
    data = picture(chance)
    cut = chance.randrange(1, len(data))
    size = len(data) if chance.random() < 0.8 else chance.choice((0, -1, 1, len(data) + 1, 1 << 40))
    about = {"type": "image/png", "size": size}
    return [
        (messages.Picture.kind, mutated_json(chance, about)),
        (messages.PictureData.kind, data[:cut]),
        (messages.PictureData.kind, data[cut:]),
    ]


class LyingStream(ByteStream):
    """Stands where a container's stream does, and answers each message of the server's with what *answer* says.

    An answer is pieces of bytes; None among them ends the stream.
    """

    def __init__(self, answer: Callable[[Message], Sequence[bytes | None]]) -> None:
        self._answer = answer
        self._decoder = MessageDecoder()
        self._put, self._pieces = anyio.create_memory_object_stream[bytes](math.inf)

    async def receive(self, max_bytes: int = 65536) -> bytes:
        return await self._pieces.receive()

    async def send(self, item: bytes) -> None:
        self._decoder.feed(item)
        for message in self._decoder:
            for piece in self._answer(message):
                if piece is None:
                    self._put.close()
                    return
                try:
                    self._put.send_nowait(piece)
                except anyio.ClosedResourceError:
                    raise anyio.BrokenResourceError from None

    async def send_eof(self) -> None:
        raise NotImplementedError

    async def aclose(self) -> None:
        self._put.close()
        self._pieces.close()


LIES: dict[type[Message], str] = {
    messages.SupervisorHello: "greeting",
    messages.Run: "run",
    messages.Cancel: "cancel",
    messages.Reset: "reset",
    messages.ListFiles: "list",
    messages.ReadFile: "read",
    messages.WriteFile: "write",
    messages.WriteData: "write",
    messages.WriteEnd: "write",
    messages.RemoveFile: "remove",
}


class LyingEngine:
    """Its first container lies as *chance* has it, and the later ones do what they should."""

    def __init__(self, chance: random.Random) -> None:
        self.said: list[bytes] = []
        self.opened = 0
        self._chance = chance
        self._lies_about = chance.choice(
            ("greeting", *["run"] * 5, "cancel", "reset", "list", "read", "write", "remove")
        )

    async def ensure_image(self, report: Report, *, refresh: bool = False) -> str:
        return "image"

    async def allocate(self, spec: ContainerSpec) -> str:
        return "container"

    async def open_stream(self, container: str) -> ByteStream:
        self.opened += 1
        return LyingStream(self._lie if self.opened == 1 else self._honest)

    async def destroy(self, container: str) -> None:
        pass

    async def provide_packages(self, sandbox: str, folder: str) -> None: ...

    def release_packages(self, sandbox: str) -> None: ...

    async def list_sandboxes(self) -> Sequence[str]:
        return []

    async def sweep(self) -> int:
        return 0

    async def aclose(self) -> None:
        pass

    @property
    def is_about(self) -> str:
        return self._lies_about

    def _honest(self, message: Message) -> list[bytes | None]:
        return [encode(answer) for answer in honest_runner(message) if isinstance(answer, Message)]

    def _lie(self, message: Message) -> list[bytes | None]:
        chance = self._chance
        about = LIES.get(type(message))
        if about == "write" and chance.random() < 0.5:
            about = None
        if about == "run" and self._lies_about == "cancel":
            return []
        if about != self._lies_about:
            return self._honest(message)
        if about == "greeting":
            parts: list[Frame] = [(messages.SupervisorReady.kind, chance.choice((b"", b"{}", b"{", b"\xff", b"[]")))]
        elif about == "reset":
            parts = [
                (
                    messages.ResetDone.kind,
                    chance.choice((b"", b"{}", b"{", b"\xff", b"[" * 100_000, chance.randbytes(9))),
                )
            ]
        elif about == "list":
            listed = {"path": chance.choice(("a", *PATHS)), "size": chance.choice((0, 10, -1)), "changed": 5}
            files = [listed] * chance.choice((0, 1, 1001))
            listing = {"files": files, "more": chance.choice((0, 7)), "is_cut": False, "error": None}
            parts = [(messages.FileList.kind, mutated_json(chance, listing))]
        elif about == "read":
            data = chance.randbytes(chance.choice((0, 1, 100, 1 << 16)))
            file: dict[str, Any] = {"size": len(data), "stamp": "5", "length": len(data), "error": None}
            file |= chance.choice(({}, {}, {"error": "missing"}, {"size": 1 << 40}, {"length": 1 << 40}))
            parts = [(messages.FilePart.kind, mutated_json(chance, file)), (messages.FileData.kind, data)]
        elif about in ("write", "remove"):
            answer: dict[str, Any] = {"error": chance.choice((None, "full", "no reason"))}
            kind = messages.Removed.kind
            if about == "write":
                kind, answer["changed"] = messages.Written.kind, 1
            parts = [(kind, mutated_json(chance, answer))]
        else:
            run = message.run if isinstance(message, (messages.Run, messages.Cancel)) else 1
            size = chance.choice((0, 1, 100, 65_536)) if chance.random() < 0.98 else chance.choice((1 << 20, MAX_FRAME))
            written = chance.randbytes(min(size, 1 << 16)) * (max(1, size >> 16))
            parts = [(messages.OutputChunk.kind, written)] * chance.randrange(3)
            parts += [(messages.LateOutput.kind, b"late\xff")] * chance.randrange(2)
            parts += [(messages.OutputTail.kind, chance.randbytes(chance.choice((0, 9, 65_536))))] * chance.randrange(2)
            if chance.random() < 0.3:
                parts += picture_frames(chance)
            if chance.random() < 0.1:
                missing: dict[str, Any] = {"run": run, "names": ["numpy", "os; x"], "requirements": []}
                parts.append((messages.MissingPackages.kind, mutated_json(chance, missing)))
            parts.append((messages.RunResult.kind, mutated_json(chance, result_fields(chance, run))))
        data = mutated_wire(chance, parts)
        self.said.append(data)
        longest = chance.choice((3, 100, 1 << 16, 1 << 16, 1 << 20)) if len(data) < 10_000 else 1 << 16
        pieces: list[bytes | None] = [*_pieces(data, [chance.randint(1, longest) for _ in range(9)])]
        return pieces if chance.random() < 0.1 else [*pieces, None]


async def host_case(name: str, violations: Violations) -> None:
    engine = LyingEngine(random.Random(name))
    started = time.monotonic()

    async def silent(_: bytes) -> None:
        pass

    try:
        async with sandbox_on(cast("Engine", engine), HOST_SETTINGS) as lied_to:
            try:
                with anyio.fail_after(HOST_SECONDS):
                    if engine.is_about == "reset":
                        await lied_to.reset(keep_files=True)
                    elif engine.is_about == "list":
                        assert all(is_safe_path(file.path) for file in await lied_to.files.list())
                    elif engine.is_about == "read":
                        assert len(await lied_to.files.read("a", limit=1 << 20)) <= 1 << 20
                    elif engine.is_about == "write":
                        await lied_to.files.write("a", b"x")
                    elif engine.is_about == "remove":
                        await lied_to.files.remove("a")
                    elif engine.is_about == "cancel":
                        with anyio.move_on_after(0.01):
                            await lied_to.run("print(1 + 1)", timeout=0.05)
                    else:
                        check_result(await lied_to.run("print(1 + 1)", timeout=0.05, on_bytes=silent), HOST_SETTINGS)
            except AgentRunError:
                pass
            with anyio.fail_after(HOST_SECONDS):
                for attempt in range(3):
                    try:
                        result = await lied_to.run("print(1 + 1)", timeout=0.05)
                    except AgentRunError:
                        assert attempt < 2, "no answer after the lost container"
                    else:
                        check_result(result, HOST_SETTINGS)
                        if engine.opened > 1:
                            assert result.output.text() == "x"
                        break
        assert time.monotonic() - started < HOST_SECONDS, "too slow"
    except Exception as error:
        while len(inner := getattr(error, "exceptions", ())) == 1:  # a group of one
            error: BaseException = inner[0]
        place = error.__traceback__
        while place is not None and place.tb_next is not None:
            place = place.tb_next
        where = f"{os.path.basename(place.tb_frame.f_code.co_filename)}:{place.tb_lineno}" if place else ""
        said = b"".join(engine.said)
        violations.note(
            f"host, about {engine.is_about}: {type(error).__name__} at {where}",
            f"case {name!r}: {str(error)[:200]}; said {len(said)} bytes, {said[:400]!r}",
        )


async def fuzz_host(seconds: float, seed: int, violations: Violations) -> int:
    # What a container that says nothing is waited for: long enough for an honest one, short enough for many cases.
    for module, name in WAITS:
        assert hasattr(module, name)
        setattr(module, name, 0.3)
    process = psutil.Process()
    numbers = itertools.count()
    cases = 0
    deadline = time.monotonic() + seconds
    before = 0

    async def worker() -> None:
        nonlocal cases, before
        while time.monotonic() < deadline:
            number = next(numbers)
            await host_case(f"{seed}/{number}", violations)
            cases += 1
            if cases == 200:
                before = process.memory_info().rss
            elif before and cases % 50 == 0:
                grown = process.memory_info().rss - before
                violations.require(grown < HOST_GROWTH, "host: memory", f"{grown >> 20} MiB after {cases} cases")

    async with anyio.create_task_group() as tasks:
        for _ in range(4):
            tasks.start_soon(worker)
    grown = (process.memory_info().rss - before) >> 20
    print(f"host: memory grew by {grown} MiB from case 200 to the last", flush=True)
    return cases


# -- (c) the container's side

RUNNER_SETTINGS = Settings(
    workspace_size=32 << 20, tmp_size=16 << 20, shm_size=16 << 20, output_keep=1 << 20, safety="off"
)
ANSWER_SECONDS = 60.0

PRELUDE = """
import base64, os, signal, socket, sys, threading, time, zlib
BYTES = zlib.decompress(base64.b64decode('{bytes}'))
PATH = '/run/agentrun/report'
frame = sys._getframe()
while frame.f_code.co_name != 'main':
    frame = frame.f_back
RUNNER = frame.f_globals
kept = globals().setdefault('kept', [])
def call(data=b'', close=False, descriptors=0, step=0, credentials=False):
    caller = socket.socket(socket.AF_UNIX)
    caller.settimeout(2)
    if credentials:
        caller.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    kept.append(caller)
    try:
        caller.connect(PATH)
        if descriptors:
            socket.send_fds(caller, [data or b'x'], [0] * descriptors)
        elif step:
            for start in range(0, min(len(data), 3000), step):
                caller.send(data[start:start + step])
        else:
            caller.sendall(data)
    except OSError as error:
        print(type(error).__name__)
    if close:
        caller.close()
    return caller
"""

ENDS = (
    "",
    "",
    "",
    "print('end')",
    "os._exit(3)",
    "time.sleep(30)",
    "1 / 0",
    "sys.exit(2)",
    "os.kill(os.getpid(), signal.SIGKILL)",
)


def _calls(chance: random.Random) -> str:
    options = chance.choice(
        (
            "",
            "close=True",
            "descriptors=1",
            "descriptors=200",
            "step=1",
            "step=7",
            "credentials=True",
            "credentials=True, descriptors=3",
            "close=True, credentials=True",
        )
    )
    call = f"call(BYTES, {options})"
    return chance.choice(
        (
            call,
            call,
            call,
            f"for _ in range(3): {call}",
            f"threading.Thread(target=lambda: {call}, daemon=True).start()",
            f"threading.Thread(target=lambda: [{call} for _ in range(300)], daemon=True).start()",
            f"if os.fork() == 0:\n    {call}\n    os._exit(0)",
            f"if os.fork() == 0:\n    {call}\n    time.sleep(60)",
            "for _ in range(100): call(BYTES[:3])",
            "for _ in range(100): call()",
            f"{call}.recv(100)",
        )
    )


def _report(chance: random.Random) -> str:
    report, forked, started = messages.RunReport.kind, messages.Forked.kind, messages.Started.kind
    kinds = chance.choice(((report,), (report,), (forked,), (started,), (started, report, forked)))
    often = chance.choice(("once", "always"))
    instead = chance.choice(("BYTES", "BYTES", "BYTES + real(message)", "real(message) + BYTES", "b''"))
    return f"""
real, said = RUNNER['encode'], []
def lie(message):
    if message.kind not in {kinds} or said and '{often}' == 'once':
        return real(message)
    said.append(1)
    return {instead}
RUNNER['encode'] = lie
"""


def _turn(chance: random.Random) -> str:
    speak = chance.choice(
        (
            "self.real.sendall(BYTES)",
            "self.real.sendall(BYTES + data)",
            "self.real.sendall(data + BYTES)",
            "[self.real.send(data[i:i + 1]) for i in range(len(data))]",
            "socket.send_fds(self.real, [data], [0, 1, 2])",
            "socket.send_fds(self.real, [data[:2]], [0] * 250); self.real.sendall(data[2:])",
            "self.real.sendall(data); self.real.shutdown(socket.SHUT_WR)",
            "self.real.sendall(data); self.real.shutdown(socket.SHUT_RD)",
            "self.real.sendall(data[:4]); time.sleep(0.2); self.real.sendall(data[4:])",
            "self.real.close()",
            "time.sleep(60)",
            "os.fork(); self.real.sendall(data)",
            "os.fork() or self.real.sendall(data) or os._exit(0)",
            "raise OSError",
        )
    )
    return f"""
class Turn:
    def __init__(self, real): self.real = real
    def __getattr__(self, name): return getattr(self.real, name)
    def sendall(self, data): {speak}
turn = RUNNER['_take_turn']
RUNNER['_take_turn'] = lambda *place: Turn(turn(*place))
"""


def _copy(chance: random.Random) -> str:
    before = chance.choice(
        (
            "",
            "birth.sendall(BYTES)",
            "birth.sendall(READY)",
            "birth.sendall(READY + BYTES)",
            "birth.sendall(READY[:2])",
            "socket.send_fds(birth, [READY], [0, 1])",
            "if os.fork() == 0:\n        birth.sendall(READY)\n        time.sleep(60)",
            "if os.fork() == 0:\n        birth.sendall(READY + BYTES)\n        os._exit(0)",
            "birth.close()",
            "time.sleep(60)",
            "os._exit(1)",
            "raise KeyboardInterrupt",
        )
    )
    error = chance.choice(
        (
            "real(random)",
            "real(random)",
            "None",
            "'x' * 200000",
            "'memory'",
            "'\\ud800'",
            "5",
            "{}",
            "[[]] * 1000",
            "True",
            "''",
        )
    )
    return f"""
import struct
READY = struct.pack('>IB', 0, {messages.Started.kind})
real = RUNNER['_fork_copy']
def lie():
    birth = sys._getframe(1).f_locals['copy']
    {before or "pass"}
    return {error}
RUNNER['_fork_copy'] = lie
"""


def _impersonate(chance: random.Random) -> str:
    return f"""
import json
def serve():
    caller = call(VALID, credentials={chance.choice((True, False))})
    for _ in range({chance.choice((1, 1, 2))}):
        try:
            data, descriptors, _, _ = socket.recv_fds(caller, 1 << 20, 16)
            {chance.choice(("caller.sendall(BYTES)", "caller.sendall(VALID)", "call(BYTES)", "pass"))}
        except OSError:
            pass
number = int(sys._getframe().f_code.co_filename[5:-1])
VALID = RUNNER['encode'](RUNNER['RunReport'](run=number, ok=True, exit_code=0, error=None, value=None, imported=(),
                                          changed=True, left=False))
threading.Thread(target=serve, daemon=True).start()
time.sleep({chance.choice((0, 0.05, 30))})
"""


FULL = """
os.unlink(PATH)
for i in range(40):
    try:
        open(f'/run/agentrun/{i}', 'w').write('x' * 9000)
    except OSError:
        break
"""
ZYGOTE = """
for entry in os.listdir('/proc'):
    if entry.isdigit() and open(f'/proc/{entry}/comm').read() == 'zygote\\n':
        os.kill(int(entry), SIGNAL)
"""


def _place(chance: random.Random) -> str:
    return chance.choice(
        (
            "os.unlink(PATH)",
            "os.unlink(PATH); os.mkdir(PATH)",
            "os.unlink(PATH); os.symlink('/nowhere', PATH)",
            "os.unlink(PATH); open(PATH, 'w').close()",
            "os.unlink(PATH); s = socket.socket(socket.AF_UNIX); s.bind(PATH); s.listen(1); kept.append(s)",
            FULL,
            "os.chmod('/run/agentrun', 0)",
            "os.rename(PATH, PATH + '2')",
            "for n in range(1, 65):\n    try: os.kill(1, n)\n    except OSError: pass",
            f"SIGNAL = {chance.choice((9, 19, 2))}" + ZYGOTE,
        )
    )


def attack(chance: random.Random, number: int) -> str:
    """Code that speaks to the supervisor in the runner's stead."""
    report: dict[str, Any] = {"run": number, "ok": True, "exit_code": 0, "error": None, "value": None, "changed": True}
    report |= {"imported": [], "left": False}
    report["run"] = chance.choice((number, number, number, 0, number + 1, -1))
    parts: list[Frame] = [(messages.RunReport.kind, mutated_json(chance, report))]
    if chance.random() < 0.3:
        parts.append((messages.Forked.kind, mutated_json(chance, {"error": None})))
    if chance.random() < 0.3:
        parts.insert(0, (messages.Started.kind, b""))
    if chance.random() < 0.3:
        parts = picture_frames(chance) + parts
    data = chance.randbytes(chance.choice((1, 5, 200))) if chance.random() < 0.15 else mutated_wire(chance, parts)
    packed = base64.b64encode(zlib.compress(data[: 1 << 20])).decode()
    makers = chance.choices(
        (_calls, _report, _turn, _copy, _impersonate, _place), (4, 3, 2, 3, 1, 1), k=chance.choice((1, 1, 2))
    )
    body = "\n".join(maker(chance) for maker in makers)
    return PRELUDE.format(bytes=packed) + body + "\n" + chance.choice(ENDS)


class LastWords(logging.Handler):
    """Keeps what the containers that ended have said."""

    def __init__(self) -> None:
        super().__init__()
        self.words: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if "ended" in record.getMessage():
            self.words.append(record.getMessage())


async def container_case(name: str, victim: AsyncSandbox, number: int, violations: Violations, words: LastWords) -> int:
    """One attack, what follows it, and a reset; returns how many runs that took."""
    code = attack(random.Random(name), number)
    runs = 1
    words.words.clear()
    story: list[str] = []
    try:
        with anyio.fail_after(ANSWER_SECONDS):
            result = await victim.run(code, timeout=0.4)
            story.append(
                f"{result.outcome}, {result.state}, {result.unprotected!a:.40}, {result.output.text()[-300:]!r}"
            )
            check_result(result, RUNNER_SETTINGS)
            assert not result.replaced
            while True:
                runs += 1
                result = await victim.run("print(1 + 1)", timeout=5)
                story.append(f"{result.outcome}, {result.since}, {result.state}, {result.output.text()[-300:]!r}")
                check_result(result, RUNNER_SETTINGS)
                assert not result.replaced, "the container was replaced"
                if result.outcome == "ok" and result.output.text() == "2\n":
                    break
                assert runs < 6, "no right answer"
            await victim.reset()
    except (Exception, TimeoutError) as error:
        body = code[len(PRELUDE) :].partition("return caller\n")[2]
        violations.note(
            f"container: {type(error).__name__}: {str(error)[:80]}",
            f"case {name!r}; {story}; last words {words.words}; code:\n{body[-1500:]}",
        )
        await anyio.sleep(0.1)
    return runs


async def fuzz_container(seconds: float, seed: int, violations: Violations, api: APIClient) -> int:
    words = LastWords()
    logging.getLogger("mcp_agentrun.engine.manager").addHandler(words)
    logging.getLogger("mcp_agentrun.engine.manager").setLevel(logging.INFO)
    numbers = itertools.count()
    cases = 0
    deadline = time.monotonic() + seconds

    async def one(engine: Engine) -> None:
        nonlocal cases
        while time.monotonic() < deadline:
            async with sandbox_on(engine, RUNNER_SETTINGS) as victim:
                run = 1
                before = sum(violations.counts.values())
                while time.monotonic() < deadline and before == sum(violations.counts.values()):
                    run += await container_case(f"{seed}/{next(numbers)}", victim, run, violations, words)
                    cases += 1

    async with open_engine() as engine:
        async with anyio.create_task_group() as tasks:
            for _ in range(2):
                tasks.start_soon(one, engine)
        left = await anyio.to_thread.run_sync(containers_of_ours, api)
        violations.require(not left, "container: containers are left", left)
    return cases


# -- (d) the supervisor's stdin


def garbage(chance: random.Random) -> bytes:
    """Bytes that no server sends, and that end in a frame which can't be one."""
    hello: dict[str, Any] = {"version": messages.VERSION, "preload": [], "output_keep": 1000, "checkpoints": True}
    hello |= {
        "data": [],
        "user_pids": 50,
        "auto_install": False,
        "safety": {"profile": "off", "off": [], "warn": False, "rules": ""},
    }
    run = {"run": 1, "code": "print(1)", "timeout": 1, "path": None, "no_preload": False}
    parts: list[Frame] = [
        (messages.SupervisorHello.kind, mutated_json(chance, hello)),
        (messages.Run.kind, mutated_json(chance, run)),
    ]
    while True:
        data = mutated_wire(chance, parts[chance.randrange(2) :]) + b"\xff" * HEADER
        if check_decoder(data, [1 << 16], MAX_FRAME) is None:
            return data


async def fuzz_stdin(seconds: float, seed: int, violations: Violations) -> int:
    cases = 0
    deadline = time.monotonic() + seconds
    async with open_engine() as engine:
        image = await engine.ensure_image(lambda _: None)
        while time.monotonic() < deadline:
            data = garbage(random.Random(f"{seed}/{cases}"))
            spec = runner_spec(RUNNER_SETTINGS, image, "fuzz", 20_000 + cases % 1000)
            container = await engine.allocate(spec)
            stream = await engine.open_stream(container)
            try:
                with anyio.fail_after(20):
                    await stream.send(data)
                    while True:
                        await stream.receive()
            except (anyio.EndOfStream, anyio.BrokenResourceError):
                pass
            except TimeoutError:
                violations.note("stdin: the supervisor goes on", f"case {seed}/{cases}: {data[:300]!r}")
            finally:
                await stream.aclose()
                await engine.destroy(container)
            cases += 1
    return cases


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.long.fuzz", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(3), "big"))
    arguments: Any = parser.parse_args()
    api, tried = connect()
    if api is None:
        sys.exit(f"no container engine: {tried}")
    seconds, seed = arguments.minutes * 60, arguments.seed
    print(f"{arguments.minutes:g} minutes, seed {seed}", flush=True)
    faulthandler.dump_traceback_later(seconds * 2 + 300, exit=True)  # a hang of ours is a violation, too
    violations = Violations()
    parts: tuple[tuple[str, Callable[[], int]], ...] = (
        ("codec", lambda: fuzz_codec(seconds * 0.2, violations)),
        ("container", lambda: anyio.run(fuzz_container, seconds * 0.5, seed, violations, api)),
        ("stdin", lambda: anyio.run(fuzz_stdin, seconds * 0.05, seed, violations)),
        ("host", lambda: anyio.run(fuzz_host, seconds * 0.25, seed, violations)),
    )
    for name, part in parts:
        started = time.monotonic()
        cases = part()
        print(f"{name}: {cases} cases in {time.monotonic() - started:.0f} s", flush=True)
    api.close()
    print(f"{sum(violations.counts.values())} violations")
    for what, count in violations.counts.most_common():
        print(f"  {count:>6} {what}")
    sys.exit(1 if violations.counts else 0)


if __name__ == "__main__":
    main()
