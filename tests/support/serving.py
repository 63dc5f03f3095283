"""Servers of the standard library, in threads of the tests."""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Generator
from contextlib import contextmanager

__all__ = ["serving"]


@contextmanager
def serving(server: socketserver.BaseServer) -> Generator[None]:
    """Serve in a thread while the context lasts; then nothing of *server* is left."""
    with server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()
