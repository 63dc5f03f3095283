"""A proxy between the server and the engine that drops requests or answers on demand."""

from __future__ import annotations

import select
import socket
import socketserver
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from docker import APIClient

from tests.support.engines import require_daemon
from tests.support.serving import serving


class Relay:
    """A way to the engine that can be told to keep quiet about ends, and to refuse what is asked for."""

    def __init__(self, engine: str) -> None:
        self.engine = engine
        self.is_mute = False
        self.refuses: Callable[[bytes], bool] = lambda _: False
        self.has_refused = threading.Event()
        self.cuts: Callable[[bytes], bool] = lambda _: False
        """Whether the connection ends behind what the engine has said."""

    def handle(self, client: socket.socket) -> None:
        with socket.socket(socket.AF_UNIX) as engine:
            engine.connect(self.engine)
            ends = {client: engine, engine: client}
            while ends:
                for ready in select.select(list(ends), [], [])[0]:
                    data = ready.recv(1 << 16)
                    if ready is client and self.refuses(data):
                        self.has_refused.set()
                        return
                    if data:
                        ends[ready].sendall(data)
                        if ready is engine and self.cuts(data):
                            return
                    elif ready is engine and self.is_mute:
                        del ends[engine]
                    else:
                        return


@contextmanager
def relay(folder: Path, api: APIClient) -> Generator[Relay]:
    require_daemon()
    assert api.base_url.startswith("http+docker://"), "the test needs an engine on a Unix socket"
    path = getattr(api.get_adapter(api.base_url), "socket_path")  # noqa: B009
    between = Relay(path)

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with suppress(OSError):
                between.handle(self.request)

    server = socketserver.ThreadingUnixStreamServer(str(folder / "engine.sock"), Handler)
    server.daemon_threads = True
    with serving(server):
        yield between
