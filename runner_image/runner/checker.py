"""The checker: a process that judges code before it runs. It executes nothing of it.

It parses with the Python that will execute. An input that kills the parser kills this process and nothing else; another
one takes over.
"""

from __future__ import annotations

import os
import resource
import select
import socket

from mcp_agentrun.wire.codec import FrameDecoder, Kind, decode_json, encode, encode_json

from . import linux

TYPE_CHECKING = False  # importing `typing` takes 2 ms, for which a first answer would wait
if TYPE_CHECKING:
    from typing import Any

MEMORY = 192 << 20
"""Bytes that judging one input may take; an input that needs more is refused."""

IDLE_SECONDS = 0.05
"""How long a new checker has nothing to do before it imports all that it may need."""


def main(connection: socket.socket) -> None:
    """Serve checks until the supervisor goes."""
    linux.set_name("checker")
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    from mcp_agentrun.safety import check, prepare

    from . import notebook_cells

    connection.sendall(encode(Kind.READY))
    decoder = FrameDecoder()
    prepared = False
    while True:
        # The policy takes longer to import than most code to judge, and the first code may need none of it.
        if not prepared and not select.select([connection], [], [], IDLE_SECONDS)[0]:
            prepare()
            prepared = True
        data = connection.recv(1 << 18)
        if not data:
            return
        decoder.feed(data)
        for _, payload in decoder:
            request = decode_json(payload)
            linux.use_all_processors()
            try:
                code, requirements = notebook_cells.as_python(request["code"])
                verdict = check(code, **request["options"])
            except MemoryError:
                os._exit(1)
            connection.sendall(
                encode_json(
                    Kind.CHECKED,
                    allowed=verdict.allowed or verdict.is_syntax_error,  # Python itself reports those best
                    findings=[] if verdict.is_syntax_error else verdict.findings,
                    imports=verdict.imports,
                    requirements=requirements,
                )
            )


def start() -> tuple[int, socket.socket]:
    """Fork a checker from PID 1: see `linux.start_helper`."""
    return linux.start_helper(main)


def is_verdict(fields: dict[str, Any]) -> bool:
    """Whether *fields* are a valid verdict: hostile code may have compromised the checker."""
    findings = fields.get("findings")
    return (
        isinstance(fields.get("allowed"), bool)
        and isinstance(findings, list)
        and all(_is_finding(finding) for finding in findings)  # pyright: ignore
        and isinstance(imports := fields.get("imports"), list)
        and all(isinstance(name, str) for name in imports)  # pyright: ignore[reportUnknownVariableType]
        and isinstance(requirements := fields.get("requirements"), list)
        and all(isinstance(each, str) for each in requirements)  # pyright: ignore[reportUnknownVariableType]
    )


def _is_finding(finding: object) -> bool:
    match finding:
        case [str(), int(), int(), str(), str()]:
            return True
        case _:
            return False
