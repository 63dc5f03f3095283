"""Byte streams to containers, as whoever holds them expects them to behave."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest
from anyio.abc import ByteStream

from mcp_agentrun.engine.docker.stream import AttachStream, PumpedStream, SelectedStream

pytestmark = pytest.mark.anyio


class Channel:
    """A connection that the event loop can't await: another one's end, as TLS and ssh have it."""

    def __init__(self, inner: socket.socket) -> None:
        self._inner = inner
        self.stuck = threading.Event()
        self.released = threading.Event()

    def recv(self, size: int) -> bytes:
        return self._inner.recv(size)

    def sendall(self, data: bytes) -> None:
        if data == b"stuck":
            self.stuck.set()
            self.released.wait()
        self._inner.sendall(data)

    def shutdown(self, how: int) -> None:
        self._inner.shutdown(how)

    def close(self) -> None:
        self._inner.close()


@asynccontextmanager
async def pumped() -> AsyncGenerator[tuple[PumpedStream, Channel, socket.socket]]:
    ours, theirs = socket.socketpair()
    channel = Channel(ours)
    stream = PumpedStream(channel)
    with theirs:
        yield stream, channel, theirs
        channel.released.set()
        await stream.aclose()


async def test_what_is_received_is_never_more_than_was_asked_for() -> None:
    async with pumped() as (stream, _, theirs):
        theirs.sendall(b"0123456789")
        assert [await stream.receive(4) for _ in range(3)] == [b"0123", b"4567", b"89"]
        frame = struct.Struct(">BxxxL")
        attached: ByteStream = AttachStream(stream)
        theirs.sendall(frame.pack(1, 10) + b"abcdefghij" + frame.pack(2, 3) + b"err" + frame.pack(1, 1) + b"k")
        assert [await attached.receive(4) for _ in range(4)] == [b"abcd", b"efgh", b"ij", b"k"]


async def test_who_sends_on_a_closed_stream_is_told() -> None:
    async with pumped() as (stream, _, theirs):
        await stream.send(b"x")
        assert theirs.recv(8) == b"x"
        await stream.aclose()
        with anyio.fail_after(60), pytest.raises(anyio.ClosedResourceError):
            await stream.send(b"y")
        with anyio.fail_after(60), pytest.raises((anyio.ClosedResourceError, anyio.EndOfStream)):
            await stream.receive()


async def test_a_closed_connection_ends_though_a_forked_process_has_it_open() -> None:
    ours, theirs = socket.socketpair()
    with theirs, ours.dup():
        await SelectedStream(ours).aclose()
        theirs.settimeout(60)
        assert theirs.recv(1) == b""


async def test_whoever_waits_is_told_when_the_stream_is_closed() -> None:
    """Even if the connection itself does not let go of what is being sent."""
    told: list[str] = []
    async with pumped() as (stream, channel, _), anyio.create_task_group() as tasks:

        async def send(data: bytes) -> None:
            with pytest.raises(anyio.ClosedResourceError):
                await stream.send(data)
            told.append("sender")

        async def receive() -> None:
            with pytest.raises((anyio.ClosedResourceError, anyio.EndOfStream)):
                await stream.receive()
            told.append("receiver")

        tasks.start_soon(send, b"stuck")
        await anyio.to_thread.run_sync(channel.stuck.wait)
        tasks.start_soon(send, b"behind it")
        tasks.start_soon(receive)
        await anyio.wait_all_tasks_blocked()
        with anyio.fail_after(60):
            await stream.aclose()
            while len(told) < 3:
                await anyio.lowlevel.checkpoint()
    assert sorted(told) == ["receiver", "sender", "sender"]


async def test_what_the_other_end_has_closed_is_broken() -> None:
    async with pumped() as (stream, _, theirs):
        theirs.close()
        with pytest.raises(anyio.EndOfStream):
            await stream.receive()
        for _ in range(2):
            with pytest.raises(anyio.BrokenResourceError):
                await stream.send(b"x" * (1 << 20))


@asynccontextmanager
async def selected() -> AsyncGenerator[tuple[SelectedStream, socket.socket]]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    stream = SelectedStream(ours)
    with theirs:
        yield stream, theirs
        await stream.aclose()


@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
async def test_a_socket_carries_more_than_its_buffers_hold(anyio_backend: str) -> None:
    async with selected() as (stream, theirs), anyio.create_task_group() as tasks:
        received: list[int] = []

        def read() -> None:
            while sum(received) < 8 << 20:
                received.append(len(theirs.recv(1 << 16)))
            theirs.sendall(b"0123456789")

        tasks.start_soon(anyio.to_thread.run_sync, read)
        await stream.send(bytes(8 << 20))
        assert [await stream.receive(4) for _ in range(3)] == [b"0123", b"4567", b"89"]
        with anyio.move_on_after(0) as waiting:
            await stream.receive()
        assert waiting.cancelled_caught
        theirs.sendall(b"later")
        assert await stream.receive() == b"later"


@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
async def test_the_end_of_a_socket_is_told(anyio_backend: str) -> None:
    async with selected() as (stream, theirs):
        theirs.close()
        with pytest.raises(anyio.EndOfStream):
            await stream.receive()
        with pytest.raises(anyio.BrokenResourceError):
            await stream.send(b"x")
    async with selected() as (stream, _), anyio.create_task_group() as tasks:

        async def receive() -> None:
            with pytest.raises(anyio.ClosedResourceError):
                await stream.receive()

        tasks.start_soon(receive)
        await anyio.wait_all_tasks_blocked()
        await stream.aclose()
        with pytest.raises(anyio.ClosedResourceError):
            await stream.send(b"x")
