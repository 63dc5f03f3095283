"""The zygote: a process that has imported what sessions need, and from which workers are forked.

It never runs user code, can be replaced, and keeps the memory of the data packages out of PID 1.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import os
import select
import site
import socket
from collections.abc import Callable, Sequence
from functools import partial

from mcp_agentrun.wire.messages import Forked, MessageDecoder, Warm, encode

from . import shared_pages, wipe, worker
from .linux import forks, limits, privileges

FIRST_SECONDS = (
    0.1  # pause before the imports: a new container's first code may be on its way, and needs the processors
)

_LATER = ("runner.session", "inspect")  # every worker needs these; the first one may have to import them


def main(control: socket.socket, preload: Sequence[str], report_path: str) -> None:
    """Serve fork requests until the supervisor ends. The first ones are answered before *preload* is imported, so a new
    container can run code at once.
    """
    privileges.set_name("zygote")
    site.main()  # PID 1 runs without it, because its modules must not come from installed packages
    decoder = MessageDecoder()
    pending = [*(partial(importlib.import_module, name) for name in (*_LATER, *preload)), _prepare]
    while _serve_fork(control, decoder, report_path):
        if not pending:
            continue
        wipe.fill_home(os.environ["HOME"])  # where packages look for settings and caches when they are imported
        select.select([control], [], [], FIRST_SECONDS)
        while pending:
            _attempt(pending.pop(0))
            while select.select([control], [], [], 0)[0]:
                if not _serve_fork(control, decoder, report_path):
                    return
        shared_pages.freeze()
        forks.use_huge_pages()
        control.sendall(encode(Warm()))


def _serve_fork(control: socket.socket, decoder: MessageDecoder, report_path: str) -> bool:
    """Wait for one request and serve it; false if the supervisor has ended."""
    data, descriptors, _, _ = socket.recv_fds(control, 4096, 4)
    if not data:
        return False
    decoder.feed(data)
    for _ in decoder:  # `Fork` is the only request there is
        connection = socket.socket(fileno=descriptors.pop(0))
        limits.use_all_processors()
        try:
            pid = forks.fork_sibling()
        except OSError as error:
            control.sendall(encode(Forked(error=errno.errorcode.get(error.errno or 0, "EAGAIN"))))
        else:
            if pid == 0:
                control.close()
                worker.main(connection, report_path)
            control.sendall(encode(Forked(error=None)))
        connection.close()
    return True


def _prepare() -> None:
    """Do what would copy memory, or take time, in each worker."""
    from .figures import draw_first  # which are loaded by now
    from .main_module import pretend_plain_start

    pretend_plain_start()
    draw_first()


def _attempt(step: Callable[[], object]) -> None:
    """Take *step* silently. If what it imports is missing or broken, the session finds out by its own import."""
    with contextlib.suppress(Exception), open(os.devnull, "w") as nowhere, contextlib.redirect_stderr(nowhere):
        step()
