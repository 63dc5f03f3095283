"""The engine behind a line that can go dead, with everybody still connected."""

from __future__ import annotations

import contextlib
import queue
import socket
import threading
from collections.abc import Generator
from contextlib import contextmanager

import pytest

from mcp_agentrun.engine.docker.discovery import candidates
from tests.support.engines import require_daemon

__all__ = ["HangingEngine", "hanging_engine"]


class HangingEngine:
    """Passes on what is asked and answered. While it `hangs`, only pings are; all else is taken, and never answered.
    So is always what has `deaf_to` in it.
    """

    def __init__(self, socket_path: str) -> None:
        self._socket_path = socket_path
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = [self._listening]
        self._swallowed: queue.Queue[bytes] = queue.Queue()
        self.taken: list[bytes] = []
        """The first bytes of each request that was taken, and not answered."""
        self.url = f"tcp://127.0.0.1:{self._listening.getsockname()[1]}"
        self.hangs = False
        self.deaf_to: str | None = None
        threading.Thread(target=self._accept, daemon=True).start()

    def wait_for(self, request: str) -> None:
        """Until a request was taken, and not answered, whose first bytes have *request* in them."""
        while request.encode() not in self._swallowed.get(timeout=60):
            pass

    def close(self) -> None:
        for one in self._open:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                client, _ = self._listening.accept()
                engine = socket.socket(socket.AF_UNIX)
                self._open += client, engine
                engine.connect(self._socket_path)
                for source, target in ((client, engine), (engine, client)):
                    threading.Thread(target=self._pass, args=(source, target, source is client), daemon=True).start()

    def _is_lost(self, data: bytes) -> bool:
        if self.deaf_to is not None and self.deaf_to.encode() in data:
            return True
        return self.hangs and b"/_ping" not in data

    def _pass(self, source: socket.socket, target: socket.socket, is_asking: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                if is_asking and self._is_lost(data):
                    self.taken.append(data[:200])
                    self._swallowed.put(data[:200])
                else:
                    target.sendall(data)
            target.shutdown(socket.SHUT_WR)


@contextmanager
def hanging_engine() -> Generator[HangingEngine]:
    """The engine that is found, by its socket, on a line that works until told to hang."""
    require_daemon()
    paths = [each.url.removeprefix("unix://") for each in candidates() if each.url.startswith("unix://")]
    if not paths:
        pytest.skip("needs an engine with a Unix socket")
    engine = HangingEngine(paths[0])
    try:
        yield engine
    finally:
        engine.close()
