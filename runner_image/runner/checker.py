"""The checker: a process that checks code before it runs, without executing any of it.

It parses with the Python that will execute the code. Input that kills the parser kills only this process, and another
one replaces it.
"""

from __future__ import annotations

import os
import resource
import select
import socket

from mcp_agentrun.wire.messages import (
    LONGEST_NAME,
    MOST_IMPORTS,
    MOST_REQUIREMENTS,
    Check,
    Finding,
    MessageDecoder,
    Started,
    Verdict,
    encode,
)

from .linux import limits, privileges

MEMORY = 192 << 20  # bytes that a check may take; code that needs more is refused

WORKSPACE = "/workspace"

IDLE_SECONDS = 0.05  # how long a new checker has nothing to do before it imports all that it may need


def main(connection: socket.socket) -> None:
    """Serve checks until the supervisor ends."""
    privileges.set_name("checker")
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    from mcp_agentrun.notebook import as_python
    from mcp_agentrun.safety import check, preload

    connection.sendall(encode(Started()))
    decoder = MessageDecoder()
    prepared = False
    while True:
        # Importing the rules takes longer than most checks, and the first code may not need them.
        if not prepared and not select.select([connection], [], [], IDLE_SECONDS)[0]:
            preload()
            prepared = True
        data = connection.recv(1 << 16)
        if not data:
            return
        decoder.feed(data)
        for request in decoder:
            assert type(request) is Check
            limits.use_all_processors()
            options = request.options
            try:
                code, requirements = as_python(request.code, WORKSPACE)
                checked = check(code, options.profile, off=options.off, warn=options.warn, rules=options.rules)
            except MemoryError:
                os._exit(1)
            # Python itself reports syntax errors best.
            findings = () if checked.is_syntax_error else checked.findings
            verdict = Verdict(
                allowed=checked.allowed or checked.is_syntax_error,
                findings=tuple(Finding(**finding._asdict()) for finding in findings),
                imports=tuple(name for name in checked.imports if len(name) <= LONGEST_NAME)[:MOST_IMPORTS],
                requirements=tuple(requirements)[:MOST_REQUIREMENTS],
            )
            connection.sendall(encode(verdict))
