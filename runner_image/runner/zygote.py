"""The zygote: a process that has imported what sessions need, and from which workers are forked.

It never runs user code, can be replaced, and holds the data packages' memory in PID 1's stead.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import importlib
import os
import select
import site
import socket
from collections.abc import Sequence

from mcp_agentrun.wire.messages import Forked, MessageDecoder, Warm, encode

from . import linux, wipe, worker

FIRST_SECONDS = 0.03
"""What the imports leave to a new container's first code, which may be on its way, before they take a core."""

_LATER = ("runner.session", "inspect")  # what every worker uses, and the first one imports by itself if need be


def main(control: socket.socket, preload: Sequence[str], report_path: str) -> None:
    """Serve fork requests until the supervisor goes. The first ones are answered before *preload* is imported, so
    that a new container can run code at once.
    """
    linux.set_name("zygote")
    site.main()  # PID 1 runs without: its modules are not to come from where packages are installed
    decoder = MessageDecoder()
    pending = [*_LATER, *preload]
    while _serve_fork(control, decoder, report_path):
        if not pending:
            continue
        wipe.furnish(os.environ["HOME"])  # packages look there for settings and caches when they are imported
        select.select([control], [], [], FIRST_SECONDS)
        while pending:
            _import(pending.pop(0))
            while select.select([control], [], [], 0)[0]:
                if not _serve_fork(control, decoder, report_path):
                    return
        # What is here now stays in every fork, and a garbage collection that went through it would copy it all.
        gc.collect()
        gc.freeze()
        linux.use_huge_pages()
        control.sendall(encode(Warm()))


def _serve_fork(control: socket.socket, decoder: MessageDecoder, report_path: str) -> bool:
    """Wait for one request and serve it; false when the supervisor has gone."""
    data, descriptors, _, _ = socket.recv_fds(control, 4096, 4)
    if not data:
        return False
    decoder.feed(data)
    for _ in decoder:  # `Fork` is the only request there is
        connection = socket.socket(fileno=descriptors.pop(0))
        linux.use_all_processors()
        try:
            pid = linux.fork_sibling()
        except OSError as error:
            control.sendall(encode(Forked(error=errno.errorcode.get(error.errno or 0, "EAGAIN"))))
        else:
            if pid == 0:
                control.close()
                worker.main(connection, report_path)
            control.sendall(encode(Forked(error=None)))
        connection.close()
    return True


def _import(name: str) -> None:
    """Import *name*; a package that is missing or broken is the session's to find out, by its own import."""
    with contextlib.suppress(Exception), open(os.devnull, "w") as nowhere, contextlib.redirect_stderr(nowhere):
        importlib.import_module(name)
