"""The command line, called in this process, because starting Python for each call takes longer than all else."""

from __future__ import annotations

import io
import os
import signal
import sys
from subprocess import CompletedProcess
from unittest import mock

from mcp_agentrun.__main__ import main

__all__ = ["command"]


def command(*arguments: str, stdin: str = "", **environ: str) -> CompletedProcess[str]:
    """Exit code and output of ``mcp-agentrun`` with *arguments*, where *environ* is added to the environment."""
    stdout, stderr = io.StringIO(), io.StringIO()
    code: int | str | None = 0
    interrupt = signal.getsignal(signal.SIGINT)
    with (
        mock.patch.dict(os.environ, environ),
        mock.patch.multiple(
            sys,
            argv=["mcp-agentrun", *arguments],
            stdin=io.TextIOWrapper(io.BytesIO(stdin.encode())),
            stdout=stdout,
            stderr=stderr,
        ),
    ):
        try:
            main()
        except SystemExit as ended:
            code = ended.code
        finally:
            signal.signal(signal.SIGINT, interrupt)
    assert code is None or isinstance(code, int), code
    return CompletedProcess(arguments, code or 0, stdout.getvalue(), stderr.getvalue())
