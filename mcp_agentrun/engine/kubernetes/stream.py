"""The stream to a process in a Pod, over a websocket."""

from __future__ import annotations

import base64
import contextlib
import json
import secrets
from collections.abc import Sequence
from typing import Any, cast

import anyio
import httpcore2
import httpx2
from anyio.abc import ByteStream
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Ping
from wsproto.utilities import LocalProtocolError, RemoteProtocolError, generate_accept_token

from ...errors import EngineError
from .cluster import Cluster, one_line

__all__ = ["ExecStream", "open_exec"]

_PROTOCOLS = ("v5.channel.k8s.io", "v4.channel.k8s.io")
"""They differ only in how a stream is closed alone, which is not done here."""

_STDIN, _STDOUT, _STDERR, _STATUS = range(4)
_READ = 65536
_PIECE = 1 << 18
"""Largest message sent, in bytes: API servers and proxies may refuse larger ones."""

_STDERR_KEPT = 2000
_CLOSE_SECONDS = 2.0


async def open_exec(cluster: Cluster, pod: str, container: str, command: Sequence[str]) -> ExecStream:
    """Start *command* in a running container.

    :raises EngineError: it can't be started.
    """
    key = base64.b64encode(secrets.token_bytes(16)).decode()
    request = cluster.http.build_request(
        "GET",
        f"api/v1/namespaces/{cluster.namespace}/pods/{pod}/exec",
        params=[
            ("container", container),
            *(("command", word) for word in command),
            *((stream, "true") for stream in ("stdin", "stdout", "stderr")),
        ],
        headers={
            "Connection": "Upgrade",
            "Upgrade": "websocket",
            "Sec-WebSocket-Key": key,
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Protocol": ", ".join(_PROTOCOLS),
        },
    )
    with cluster.reporting_errors():
        response = await cluster.http.send(request, stream=True)
    try:
        if response.status_code != 101:
            await response.aread()
            raise EngineError(f"Kubernetes can't start a process in the Pod: {_message(response.content)}. Call again.")
        expected = generate_accept_token(key.encode()).decode()
        if (
            response.headers.get("Sec-WebSocket-Accept") != expected
            or response.headers.get("Sec-WebSocket-Protocol") not in _PROTOCOLS
        ):
            raise EngineError(
                f"The Kubernetes API server {cluster.address}, or a proxy before it, does not speak the protocol for "
                "processes in Pods over websockets."
            )
    except BaseException:
        with anyio.CancelScope(shield=True):
            await response.aclose()
        raise
    return ExecStream(response)


def _message(status: bytes) -> str:
    """Return the message of a status of the API server, or the text that is in place of one."""
    try:
        return one_line(str(json.loads(status)["message"]))
    except (ValueError, KeyError, TypeError):
        return one_line(status.decode("utf-8", "backslashreplace")) or "no reason is given"


class ExecStream(ByteStream):
    """The standard streams of a process: stdin and stdout are the stream, and the end of stderr is kept for diagnosis.

    :param response: the answer that has opened the websocket.
    """

    def __init__(self, response: httpx2.Response) -> None:
        self._response = response
        self._network: Any = response.extensions["network_stream"]
        self._connection = Connection(ConnectionType.CLIENT)
        self._writing = anyio.Lock(fast_acquire=True)
        self._channel: int | None = None
        """That of the message whose beginning has been received."""
        self._received = bytearray()
        self._stderr = b""
        self._status = b""
        self._has_ended = False
        self._is_closed = False

    @property
    def diagnostics(self) -> str:
        """The end of what the process wrote to stderr, or else how it has ended."""
        if self._stderr or not self._status:
            return self._stderr.decode("utf-8", "backslashreplace")
        return _message(self._status)

    @property
    def has_succeeded(self) -> bool:
        """Whether the process has ended without an error."""
        with contextlib.suppress(ValueError, KeyError, TypeError):
            return json.loads(self._status)["status"] == "Success"
        return False

    async def receive(self, max_bytes: int = _READ) -> bytes:
        while not self._received:
            if self._is_closed:
                raise anyio.ClosedResourceError
            if self._has_ended:
                raise anyio.EndOfStream
            try:
                data = await self._network.read(_READ)
                self._connection.receive_data(data or None)
                for event in self._connection.events():
                    await self._on_event(event)
            except (httpcore2.NetworkError, httpcore2.ProtocolError, RemoteProtocolError, OSError) as error:
                raise anyio.BrokenResourceError from error
            self._has_ended |= not data
        piece = bytes(self._received[:max_bytes])
        del self._received[:max_bytes]
        return piece

    async def _on_event(self, event: object) -> None:
        if isinstance(event, Ping):
            await self._write(self._connection.send(event.response()))
        elif isinstance(event, CloseConnection):
            self._has_ended = True
        elif isinstance(event, BytesMessage):
            data = memoryview(event.data)
            if self._channel is None and data:
                self._channel, data = data[0], data[1:]
            if self._channel == _STDOUT:
                self._received += data
            elif self._channel == _STDERR:
                self._stderr = (self._stderr + data)[-_STDERR_KEPT:]
            elif self._channel == _STATUS:
                self._status = (self._status + data)[-_STDERR_KEPT:]
            if event.message_finished:
                self._channel = None

    async def send(self, item: bytes) -> None:
        if self._is_closed:
            raise anyio.ClosedResourceError
        try:
            for start in range(0, len(item), _PIECE):
                message = BytesMessage(bytes((_STDIN,)) + item[start : start + _PIECE])
                await self._write(self._connection.send(message))
        except (httpcore2.NetworkError, LocalProtocolError, OSError) as error:
            raise anyio.BrokenResourceError from error

    async def _write(self, data: bytes) -> None:
        async with self._writing:
            await self._network.write(data)

    async def send_eof(self) -> None:
        raise NotImplementedError

    async def aclose(self) -> None:
        self._is_closed = True
        with anyio.move_on_after(_CLOSE_SECONDS, shield=True), contextlib.suppress(Exception):
            await self._write(self._connection.send(CloseConnection(1000)))
        with anyio.move_on_after(_CLOSE_SECONDS, shield=True), contextlib.suppress(Exception):
            await cast("anyio.abc.AsyncResource", self._network).aclose()
        with anyio.move_on_after(_CLOSE_SECONDS, shield=True), contextlib.suppress(Exception):
            await self._response.aclose()
